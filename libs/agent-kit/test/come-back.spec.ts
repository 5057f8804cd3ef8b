import { mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentRenewal, openEnvelope, parse, PAYLOAD_TYPES, type EnrolRequest, type Envelope } from '#contracts';
import { verifyNkey } from '#messaging';
import { startNats } from '#stack';
import { AgentClock, Identity, AgentRuntime } from '../src/index.js';
import { startHttp, type Answer, type FakeHttp } from './http-server.js';
import { FAST, Lab } from './lab.js';
import { enrolmentOf, TOKEN } from './samples.js';
import { ScriptHandler } from './script-handler.js';
import { waitFor } from './wait.js';

let lab: Lab;
let http: FakeHttp;
let identity: Identity;
let renewal: (request: AgentRenewal) => Answer;
const runtimes: AgentRuntime[] = [];

beforeAll(async () => {
  lab = await Lab.open(startNats);
});
afterAll(() => lab.close());

/** An agent whose JWT has ended. */
beforeEach(async () => {
  await lab.begin();
  const stateDir = await mkdtemp(join(lab.dir, 'come-back-'));
  const base = enrolmentOf('install', { nats_urls: [lab.broker.url], job_keys: [lab.scheduler.jobKey.publicKey] });
  http = await startHttp({
    '/v1/agents/enrol': (body) => ({
      body: { ...base, ...lab.mint(base.agent_id, (body as EnrolRequest).public_key, -60_000) },
    }),
    '/v1/agents/renew': (body) => {
      const said = openEnvelope(body as Envelope, PAYLOAD_TYPES.agentRenewal, [identity.publicKey], verifyNkey);
      return renewal(parse(AgentRenewal, said, 'strict'));
    },
  });
  identity = await Identity.enrol({ server: http.url, stateDir, token: TOKEN, version: 'test', kind: 'install' });
  const { agent_id: agentId, vendor_id: vendorId, install_id: installId = '' } = identity.enrolment;
  lab.scheduler.agent = { agentId, publicKey: identity.publicKey, vendorId, installId };
  lab.scheduler.welcome = () => ({ nats_jwt: identity.enrolment.nats_jwt });
  renewal = fresh;
});
afterEach(async () => {
  await Promise.all(runtimes.splice(0).map((runtime) => runtime.drain()));
  await http.stop();
  await lab.end();
});

function fresh(): Answer {
  const { nats_jwt, nats_jwt_expires_at } = lab.mint(identity.agentId, identity.publicKey, 3_600_000);
  const server_time = new Date().toISOString();
  return { body: { nats_jwt, nats_jwt_expires_at, slots: 4, job_keys: [], vendor_keys: [], server_time } };
}
async function start(clock = new AgentClock()): Promise<void> {
  const stateDir = await mkdtemp(join(lab.dir, 'run-'));
  const runtime = new AgentRuntime({ ...FAST, stateDir }, identity, [new ScriptHandler('apply')], clock);
  runtimes.push(runtime);
  await runtime.start();
  const { beats } = lab.scheduler;
  await waitFor(() => lab.scheduler.beats > beats);
}

it('an agent that was off for longer than its JWT lives comes back by itself and works', async () => {
  let asked: AgentRenewal | undefined;
  renewal = (request) => {
    asked = request;
    return fresh();
  };
  await start();
  expect(asked).toMatchObject({ agent_id: identity.agentId, version: FAST.version });
});

it('asks again while the gateway is away, and with the time of the server where its own clock is off', async () => {
  let tries = 0;
  renewal = () => {
    tries++;
    if (tries === 1) return { body: {}, hangUp: true };
    return fresh();
  };
  await start();
  expect(tries).toBe(2);

  const clock = new AgentClock();
  clock.skewMs = 9 * 3_600_000;
  const seen: number[] = [];
  renewal = ({ at }) => {
    seen.push(Date.parse(at) - Date.now());
    if (seen.length > 1) return fresh();
    const detail = `the request is of ${at}, the time of this server is ${new Date().toISOString()}`;
    return { status: 403, body: { code: 'statement_refused', detail } };
  };
  await Promise.all(runtimes.splice(0).map((runtime) => runtime.drain()));
  await start(clock);
  expect(seen[0]).toBeGreaterThan(8 * 3_600_000);
  expect(Math.abs(seen[1] ?? Infinity)).toBeLessThan(5_000);
});

it('that is stopped in the moment of its start is gone at once', async () => {
  const stateDir = await mkdtemp(join(lab.dir, 'run-'));
  const runtime = new AgentRuntime({ ...FAST, stateDir }, identity, [new ScriptHandler('apply')]);
  await runtime.start();
  const began = performance.now();
  await runtime.drain();
  expect(performance.now() - began).toBeLessThan(10_000);
});

it('does not come back when it was revoked', async () => {
  renewal = () => ({ status: 403, body: { code: 'agent_revoked', detail: 'revoked' } });
  await expect(start()).rejects.toMatchObject({ code: 'agent_revoked' });
});
