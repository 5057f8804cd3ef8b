import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inboxPrefix, JobKeyVoucher, newId, openEnvelope, parse, PAYLOAD_TYPES, type Envelope } from '#contracts';
import { connectNats, nkeyFromSeed, readNatsJwt, verifyNkey } from '#messaging';
import { natsIdentities, startNats, type NatsServer } from '#stack';
import { Keys } from '../../deploy/nats/keys.js';

let dir: string;
let keys: Keys;
let nats: NatsServer;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'deploy-keys-'));
  keys = new Keys(dir);
  await keys.init();
  nats = await startNats({ dir });
});
afterAll(async () => {
  await nats.stop();
  await rm(dir, { recursive: true });
});

const agent = newId('agent');
const connects = async (credentials: { jwt: string; seed: string }): Promise<boolean> => {
  const giveUp = AbortSignal.timeout(1_500);
  return connectNats({
    servers: [nats.url],
    name: 'x',
    inboxPrefix: inboxPrefix(agent),
    credentials,
    signal: giveUp,
  }).then(
    (connection) => connection.close().then(() => true),
    () => false,
  );
};

it('a signing key is replaced under a running agent, and the old one ends', async () => {
  const old = await nats.agentCreds('install', agent);
  const connection = await connectNats({
    servers: [nats.url],
    name: agent,
    inboxPrefix: inboxPrefix(agent),
    credentials: old,
  });
  let ends = 0;
  void (async () => {
    for await (const { type } of connection.status()) if (type === 'disconnect') ends++;
  })();
  await keys.rotate('install-agent');
  expect(await keys.apply([nats.url])).toBe(1);
  await connection.flush();
  expect(ends).toBe(0);
  const fresh = await (await natsIdentities(dir)).agentCreds('install', agent);
  expect(readNatsJwt(fresh.jwt).issuer).not.toBe(readNatsJwt(old.jwt).issuer);
  expect(await connects(fresh)).toBe(true);
  expect(await connects(old)).toBe(true);
  await connection.close();

  await expect(keys.retire('install-agent', false)).rejects.toThrow('4 h more');
  await keys.retire('install-agent', true);
  await keys.apply([nats.url]);
  expect(await connects(old)).toBe(false);
  expect(await connects(fresh)).toBe(true);
});

it('the old job key vouches for the new one, which signs after the old one has been retired', async () => {
  const file = join(dir, 'keys', 'job-signing.nk');
  const old = nkeyFromSeed(await readFile(file, 'utf8')).publicKey;
  await keys.rotate('job-signing');
  expect(nkeyFromSeed(await readFile(file, 'utf8')).publicKey).toBe(old);
  const [voucher] = JSON.parse(await readFile(join(dir, 'job-key-vouchers.json'), 'utf8')) as Envelope[];
  const said = openEnvelope(voucher!, PAYLOAD_TYPES.jobKey, [old], verifyNkey);
  const { public_key: next } = parse(JobKeyVoucher, said, 'strict');
  expect((await keys.show()).join('\n')).toContain(`JOB_KEYS_ALSO=${next}`);
  await keys.retire('job-signing', true);
  expect(nkeyFromSeed(await readFile(file, 'utf8')).publicKey).toBe(next);
});

it('shows no seed, keeps them for their owner alone, and refuses what is no such key', async () => {
  expect((await keys.show()).join('\n')).not.toMatch(/\bS[AUO][A-Z2-7]{50}/);
  for (const name of ['install-agent-signing', 'job-signing', 'operator-signing'])
    expect((await stat(join(dir, 'keys', `${name}.nk`))).mode & 0o777).toBe(0o600);
  await expect(keys.rotate('account')).rejects.toThrow('these can: install-agent');
});
