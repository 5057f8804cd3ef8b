import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  AgentRequest,
  Envelope,
  PAYLOAD_TYPES,
  newId,
  openEnvelope,
  parse,
  signEnvelope,
  type IssuedPullToken,
  type RegistryAccess,
} from '#contracts';
import { createNkey, nkeyFromSeed, verifyNkey } from '#messaging';
import { startHttp, type Answer, type FakeHttp } from '../test/http-server.js';
import { TOKEN, enrolmentOf } from '../test/samples.js';
import { RegistryTokens } from './agent-request.js';
import { Identity } from './identity.js';

let stateDir: string;
let http: FakeHttp;
let identity: Identity;
let answers: Answer[];
let tokens: RegistryTokens;

const issued: IssuedPullToken = {
  token_id: newId('token'),
  token: `${newId('token')}.secretsecretsecret`,
  expires_at: new Date(Date.now() + 60_000).toISOString(),
};
const access: RegistryAccess = {
  registry_url: 'https://registry.example.com',
  repository: 'acme/shop/db',
  registry_token: 'eyJ.registry.jwt',
  expires_at: new Date(Date.now() + 60_000).toISOString(),
};
const statement = signEnvelope(PAYLOAD_TYPES.job, { job: 1 }, nkeyFromSeed(createNkey('account').seed));

beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'agent-request-'));
  answers = [];
  http = await startHttp({
    '/v1/agents/enrol': () => ({ body: enrolmentOf('install', { registry_token_url: `${http.url}/` }) }),
    '/v1/agent-requests': () => answers.shift() ?? { status: 500, body: {} },
  });
  identity = await Identity.enrol({ server: http.url, stateDir, token: TOKEN, version: '1', kind: 'install' });
  http.bodies.splice(0);
  tokens = new RegistryTokens(identity, { retryForMs: 2_000 });
});
afterEach(async () => {
  await http.stop();
  await rm(stateDir, { recursive: true, force: true });
});

/** What registry-token would read: verified with the agent's public key. */
const read = (body: unknown): AgentRequest => {
  const envelope = parse(Envelope, body, 'strict');
  const opened = openEnvelope(envelope, PAYLOAD_TYPES.agentRequest, [identity.publicKey], verifyNkey);
  return parse(AgentRequest, opened, 'strict');
};

it('asks with its own signature around the signed job', async () => {
  answers = [{ body: issued }, { body: access }];
  expect(await tokens.requestPullToken(statement)).toEqual(issued);
  expect(await tokens.requestPushToken(statement)).toEqual(access);
  const [pull, push] = http.bodies.map(read);
  expect(pull).toMatchObject({ action: 'issue_pull_token', statement });
  expect(push).toMatchObject({ action: 'issue_push_token', statement });
  expect(pull!.request_id).not.toBe(push!.request_id);
});

it('repeats the very same request when the answer was lost', async () => {
  answers = [{ body: {}, hangUp: true }, { status: 503, body: { code: 'unavailable', detail: 'x' } }, { body: access }];
  expect(await tokens.redeemPullToken(issued.token, 'request-1')).toEqual(access);
  expect(http.bodies).toHaveLength(3);
  expect(new Set(http.bodies.map((body) => JSON.stringify(body))).size).toBe(1);
  expect(read(http.bodies[0])).toMatchObject({
    action: 'redeem_pull_token',
    token: issued.token,
    request_id: 'request-1',
  });
});

it('does not repeat a refusal, and gives up in time', async () => {
  answers = [{ status: 401, body: { code: 'pull_token_refused', detail: 'no' } }];
  await expect(tokens.redeemPullToken(issued.token, 'request-1')).rejects.toMatchObject({ code: 'pull_token_refused' });
  expect(http.bodies).toHaveLength(1);
  const impatient = new RegistryTokens(identity, { retryForMs: 250 });
  await expect(impatient.requestPullToken(statement)).rejects.toMatchObject({ code: 'unavailable' });
});

it('dates requests by the server, whatever this host’s clock says', async () => {
  answers = [{ body: issued }];
  const now = new Date('2031-01-01T00:00:00.000Z');
  await new RegistryTokens(identity, { now: () => now }).requestPullToken(statement);
  expect(read(http.bodies[0]).at).toBe(now.toISOString());
});
