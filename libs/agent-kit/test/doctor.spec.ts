import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer as createHttps } from 'node:https';
import { readFileSync } from 'node:fs';
import { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newId, type EnrolRequest } from '#contracts';
import { nkeyFromSeed, userJwt } from '#messaging';
import { proxySettings } from '#platform';
import { agentTags, freePort, keptCertificates, startNats, type Certificates, type NatsServer } from '#stack';
import { type Finding } from '../src/doctor-network.js';
import { diagnose, renderFindings, type DoctorOptions } from '../src/doctor.js';
import { Identity } from '../src/identity.js';
import { startHttp, type FakeHttp } from './http-server.js';
import { enrolmentOf, TOKEN } from './samples.js';

let dir: string;
let nats: NatsServer;
let tls: Certificates;
let good: Identity;
/** Gateway, registry-token and registry in one: each is known by its paths. */
let server: { url: string; dateSkewMs: number; stop(): Promise<void> };
let http: FakeHttp;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'agent-doctor-'));
  tls = await keptCertificates(join(dir, 'tls'));
  nats = await startNats({ dir: join(dir, 'nats'), tls, websocket: true });
  const listener = createHttps(
    { cert: readFileSync(tls.certFile), key: readFileSync(tls.keyFile) },
    (request, answer) => {
      answer.setHeader('date', new Date(Date.now() + server.dateSkewMs).toUTCString());
      answer.writeHead(request.url === '/livez' ? 200 : request.url === '/v2/' ? 401 : 404).end();
    },
  );
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const stop = async (): Promise<void> => {
    listener.closeAllConnections();
    await new Promise((resolve) => listener.close(resolve));
  };
  server = { url: `https://127.0.0.1:${(listener.address() as AddressInfo).port}`, dateSkewMs: 0, stop };
  good = await enrolled('good');
});
afterAll(async () => {
  await server.stop();
  await nats.stop();
  await rm(dir, { recursive: true });
});

/** An agent as an enrolment leaves it, but for what the test says is wrong. */
async function enrolled(name: string, wrong: Partial<Identity['enrolment']> = {}, key?: string): Promise<Identity> {
  const base = enrolmentOf('install', {
    nats_urls: [nats.url, nats.websocketUrl ?? ''],
    registry_token_url: server.url,
    vendor_registry: { url: server.url, namespace: 'acme' },
  });
  http = await startHttp({
    '/v1/agents/enrol': (body) => {
      const jwt = userJwt({
        name: base.agent_id,
        user: key ?? (body as EnrolRequest).public_key,
        signer: nkeyFromSeed(nats.keys.installAgentSigningSeed),
        account: nats.keys.account,
        tags: agentTags(base.agent_id),
      });
      return { body: { ...base, nats_jwt: jwt, ...wrong } };
    },
  });
  const stateDir = join(dir, name);
  const options = { server: http.url, stateDir, token: TOKEN, version: '1', kind: 'install' as const };
  const identity = await Identity.enrol({ ...options, ca: readFileSync(tls.caFile, 'utf8') });
  await http.stop();
  Object.defineProperty(identity, 'server', { value: server.url });
  return identity;
}

const look = (identity: Identity | undefined, more: Partial<DoctorOptions> = {}): Promise<Finding[]> =>
  diagnose({
    identity,
    stateDir: join(dir, 'good'),
    program: 'install-agent',
    tools: [],
    proxy: { direct: [] },
    ...more,
  });
const faults = (found: readonly Finding[]): Finding[] => found.filter(({ status }) => status !== 'ok');
/** The one fault of that check, and that its remedy is printed. */
async function fault(check: string, found: Promise<Finding[]>): Promise<string> {
  const all = await found;
  const one = faults(all).find((each) => each.check === check);
  if (one?.remedy === undefined) throw new Error(`no fault ${check} in ${JSON.stringify(faults(all))}`);
  expect(renderFindings(all)).toContain(one.remedy);
  return `${one.status}: ${one.said} -> ${one.remedy}`;
}

it('finds nothing wrong where nothing is, and says what it saw', async () => {
  const found = await look(good, { tools: [{ name: 'node', bin: process.execPath, args: ['--version'] }] });
  expect(faults(found)).toEqual([]);
  const seen = Object.fromEntries(found.map(({ check, said }) => [check, said]));
  expect(seen).toMatchObject({
    node: process.version,
    'gateway: TLS': expect.stringContaining('localhost, issued by Vendor Cloud local authority, until') as string,
    'NATS wss://: TLS': expect.stringContaining('localhost') as string,
    'NATS tls://: TLS': expect.stringContaining('localhost') as string,
    'NATS: login': expect.stringContaining(good.agentId) as string,
    'NATS: rights': expect.stringContaining('no other') as string,
    'vendor registry: HTTP': expect.stringContaining('401') as string,
  });
});

describe('names the remedy of', () => {
  it('a state directory without identity, and one that others can read', async () => {
    expect(await fault('identity', look(undefined))).toContain('enrol --server URL');
    const open = join(dir, 'open');
    await enrolled('open');
    await chmod(join(open, 'key.seed'), 0o644);
    expect(await fault('state', look(good, { stateDir: open }))).toMatch(/key\.seed -> chmod go-rwx .*key\.seed/);
    expect(await fault('state', look(good, { stateDir: join(dir, 'nowhere') }))).toContain('Name the directory');
  });

  it('a tool that is not there', async () => {
    const tools = [{ name: 'helm', bin: '/nowhere/helm', args: ['version'] }];
    expect(await fault('helm', look(good, { tools }))).toContain('set HELM_BIN');
  });

  it('a name that is not known, a port that is closed, an address that is somebody else’s', async () => {
    const unknown = await enrolled('dns', { registry_token_url: 'https://tokens.invalid' });
    expect(await fault('registry-token: DNS', look(unknown))).toContain('Make tokens.invalid resolvable');
    const closed = await enrolled('tcp', { registry_token_url: `https://127.0.0.1:${await freePort()}` });
    expect(await fault('registry-token: TCP', look(closed))).toContain('Allow this host to connect out to 127.0.0.1');
    const other = await enrolled('other', { vendor_registry: { url: `${server.url}/elsewhere`, namespace: 'x' } });
    expect(await fault('vendor registry: HTTP', look(other))).toContain('answers 404');
  });

  it('a certificate that nobody here trusts', async () => {
    const stranger = await keptCertificates(join(dir, 'stranger'));
    expect(await fault('gateway: TLS', look(good, { caFile: stranger.caFile }))).toContain('--ca-file for enrol');
  });

  it('a proxy that is not there, and one that wants a password', async () => {
    const proxied = await enrolled('proxied', { registry_token_url: 'https://tokens.example.com' });
    const proxy = proxySettings({ HTTPS_PROXY: `http://127.0.0.1:${await freePort()}` });
    expect(await fault('registry-token: proxy', look(proxied, { proxy }))).toContain(
      'or name tokens.example.com in NO_PROXY',
    );
  });

  it('a clock that is off', async () => {
    server.dateSkewMs = 120_000;
    expect(await fault('clock', look(good))).toMatch(/1(19|20|21) s away .*Set the clock/);
    server.dateSkewMs = 0;
  });

  it('a credential that is refused', async () => {
    const other = nkeyFromSeed((await nats.agentCreds('install', newId('agent'))).seed).publicKey;
    expect(await fault('NATS: login', look(await enrolled('refused', {}, other)))).toContain('revoked');
  });

  it('an address of NATS that is closed: a warning where another works, a fault where none does', async () => {
    const closed = `tls://127.0.0.1:${await freePort()}`;
    const one = await enrolled('one', { nats_urls: [closed, nats.websocketUrl ?? ''] });
    expect(await fault('NATS tls://: TCP', look(one))).toMatch(/^warn: /);
    const none = await enrolled('none', { nats_urls: [closed] });
    expect(await fault('NATS: login', look(none))).toContain('One of them is enough');
  });
});

it('what another kind of check finds is part of it', async () => {
  await writeFile(join(dir, 'x'), '');
  const more = (): Promise<Finding[]> =>
    Promise.resolve([{ check: 'mine', status: 'fail', said: 'no', remedy: 'do it' }]);
  expect(await fault('mine', look(good, { more }))).toBe('fail: no -> do it');
});
