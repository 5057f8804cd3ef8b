import { chmod, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PAYLOAD_TYPES, signEnvelope, Welcome, type AgentKind, type Envelope, type Signer } from '#contracts';
import { createNkey, nkeyFromSeed, verifyNkey } from '#messaging';
import { startHttp, type FakeHttp } from '../test/http-server.js';
import { TOKEN, enrolmentOf } from '../test/samples.js';
import { Identity } from './identity.js';

let stateDir: string;
let http: FakeHttp;
let answer: () => { status?: number; body: object; hangUp?: boolean };
beforeEach(async () => {
  stateDir = join(await mkdtemp(join(tmpdir(), 'agent-identity-')), 'state');
  answer = () => ({ body: enrolmentOf('install') });
  http = await startHttp({ '/v1/agents/enrol': () => answer() });
});
afterEach(async () => {
  await http.stop();
  await rm(join(stateDir, '..'), { recursive: true, force: true });
});
const enrol = (kind: AgentKind = 'install', server = http.url): Promise<Identity> =>
  Identity.enrol({ server, stateDir, token: TOKEN, version: '1.2.3', kind });
const welcome = (more: Partial<Welcome>): Welcome =>
  Object.assign(new Welcome(), {
    nats_jwt: 'jwt-2',
    nats_jwt_expires_at: new Date(Date.now() + 7_200_000).toISOString(),
    slots: 4,
    job_keys: [],
    vendor_keys: [],
    server_time: new Date().toISOString(),
    ...more,
  });

it('sends the public half of a key made here, and keeps the rest in private files', async () => {
  const identity = await enrol();
  expect(http.bodies).toEqual([{ token: TOKEN, public_key: identity.publicKey, version: '1.2.3' }]);
  const seed = (await readFile(join(stateDir, 'key.seed'), 'utf8')).trim();
  expect(nkeyFromSeed(seed).publicKey).toBe(identity.publicKey);
  expect(JSON.stringify(http.bodies)).not.toContain(seed);
  for (const file of await readdir(stateDir)) expect((await stat(join(stateDir, file))).mode & 0o777).toBe(0o600);
  expect(await readFile(join(stateDir, 'identity.json'), 'utf8')).not.toContain(TOKEN);
});

it('is the same after a restart, and signs', async () => {
  const before = await enrol();
  const after = (await Identity.load(stateDir))!;
  expect(after.enrolment).toEqual(before.enrolment);
  expect(verifyNkey(before.publicKey, Buffer.from('x'), after.sign(Buffer.from('x')))).toBe(true);
});

it('is none in an empty directory', async () => {
  expect(await Identity.load(stateDir)).toBeUndefined();
});

it('keeps its key when an enrolment fails, and makes another when a later one follows', async () => {
  answer = () => ({ status: 401, body: { code: 'enrolment_refused', detail: 'this token was used' } });
  await expect(enrol()).rejects.toMatchObject({ code: 'enrolment_refused', detail: 'this token was used' });
  expect(await Identity.load(stateDir)).toBeUndefined();
  answer = () => ({ body: enrolmentOf('install') });
  const first = await enrol();
  expect(new Set(http.bodies.map(({ public_key }) => public_key)).size).toBe(1);
  // The first key may have been revoked, and that is for ever.
  const second = await enrol();
  expect(second.publicKey).not.toBe(first.publicKey);
  expect(second.agentId).not.toBe(first.agentId);
  expect((await Identity.load(stateDir))?.publicKey).toBe(second.publicKey);
});

it('learns a job key for which one that it trusts vouches, and no other; forgets one that is no longer named', async () => {
  const key = (): Signer => nkeyFromSeed(createNkey('user').seed);
  const [old, next, evil] = [key(), key(), key()];
  answer = () => ({ body: enrolmentOf('install', { job_keys: [old.publicKey] }) });
  const identity = await enrol();
  const vouch = (of: Signer, by: Signer) =>
    signEnvelope(PAYLOAD_TYPES.jobKey, { public_key: of.publicKey, issued_at: new Date().toISOString() }, by);
  const keysAfter = async (named: Signer[], vouchers: Envelope[]): Promise<string[]> => {
    await identity.renew(welcome({ job_keys: named.map(({ publicKey }) => publicKey), job_key_vouchers: vouchers }));
    return (await Identity.load(stateDir))!.enrolment.job_keys;
  };
  expect(await keysAfter([evil], [])).toEqual([old.publicKey]);
  expect(await keysAfter([old, evil], [vouch(evil, evil)])).toEqual([old.publicKey]);
  const forged = { ...vouch(evil, evil), key_id: old.publicKey };
  expect(await keysAfter([old, evil], [forged])).toEqual([old.publicKey]);
  const job = signEnvelope(PAYLOAD_TYPES.job, { public_key: evil.publicKey, issued_at: 'x' }, old);
  expect(await keysAfter([old, evil], [job])).toEqual([old.publicKey]);
  expect(await keysAfter([old, next], [vouch(next, old)])).toEqual([old.publicKey, next.publicKey]);
  expect(await keysAfter([next], [vouch(next, old)])).toEqual([next.publicKey]);
  // It has forgotten the old one, which vouches for nothing any more.
  expect(await keysAfter([next, evil], [vouch(evil, old)])).toEqual([next.publicKey]);
});

it('keeps a private CA for later, and remembers which NATS URL worked', async () => {
  answer = () => ({ body: enrolmentOf('install', { nats_urls: ['tls://a:1', 'wss://a'] }) });
  const identity = await Identity.enrol({
    server: http.url,
    stateDir,
    token: TOKEN,
    version: '1',
    kind: 'install',
    ca: 'PEM',
  });
  await identity.remember('wss://a');
  await identity.remember('wss://elsewhere');
  const later = (await Identity.load(stateDir))!;
  expect(later.natsUrls).toEqual(['wss://a', 'tls://a:1']);
  expect(await readFile(later.caFile ?? '', 'utf8')).toBe('PEM');
});

it('refuses an identity of the other kind, plain http to another host, and files that others can read', async () => {
  await expect(enrol('build')).rejects.toMatchObject({ code: 'enrolment_refused' });
  await expect(enrol('install', 'http://ims.example.com')).rejects.toThrow('use https');
  await expect(enrol('install', 'ftp://127.0.0.1')).rejects.toThrow('use https');
  await enrol();
  await chmod(join(stateDir, 'key.seed'), 0o640);
  await expect(Identity.load(stateDir)).rejects.toThrow('can be read by others');
});

it('says what is wrong when there is no server, or one that is not ours', async () => {
  answer = () => ({ body: {}, hangUp: true });
  await expect(enrol()).rejects.toMatchObject({ code: 'unavailable' });
  answer = () => ({ status: 502, body: { message: 'Bad Gateway' } });
  await expect(enrol()).rejects.toThrow('answered 502');
  answer = () => ({ body: { agent_id: 'nonsense' } });
  await expect(enrol()).rejects.toMatchObject({ code: 'invalid_request' });
});

it('says that it is damaged, and does not start as somebody else', async () => {
  await enrol();
  await writeFile(join(stateDir, 'identity.json'), '{"server":', { mode: 0o600 });
  await expect(Identity.load(stateDir)).rejects.toThrow('damaged: enrol this agent again');
});

it('takes a new JWT, pins the first vendor keys that it sees, and no job key after the enrolment', async () => {
  const identity = await enrol();
  const jobKeys = identity.enrolment.job_keys;
  expect(await identity.renew(welcome({}))).toEqual({ otherKeysOffered: false });
  expect(identity.credentials().jwt).toBe('jwt-2');
  await identity.renew(welcome({ vendor_keys: ['key A'], job_keys: ['evil'] }));
  const later = await identity.renew(welcome({ vendor_keys: ['key A', 'key B'], nats_jwt: 'jwt-3' }));
  expect(later).toEqual({ otherKeysOffered: true });
  const kept = (await Identity.load(stateDir))!.enrolment;
  expect(kept).toMatchObject({ vendor_keys: ['key A'], job_keys: jobKeys, nats_jwt: 'jwt-3' });
});
