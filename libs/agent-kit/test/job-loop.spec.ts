import { jetstreamManager } from '@nats-io/jetstream';
import { Injectable } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { type NatsConnection } from '@nats-io/transport-node';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  inboxPrefix,
  newId,
  offersOf,
  type EnrolRequest,
  type Enrolment,
  type JobId,
  type JsonObject,
} from '#contracts';
import { connectNats, nkeyFromSeed, userJwt } from '#messaging';
import { agentTags, startNats, type NatsServer } from '#stack';
import {
  AgentModule,
  AgentRuntime,
  Identity,
  RegistryTokens,
  type AgentOptions,
  type JobHandler,
} from '../src/index.js';
import { startOf } from '../src/proc.js';
import { FakeScheduler, type AgentUnderTest } from './fake-scheduler.js';
import { startHttp } from './http-server.js';
import { ScriptHandler } from './script-handler.js';
import { waitFor } from './wait.js';

const CHILD = fileURLToPath(new URL('../../../dist/libs/agent-kit/test/child-agent.js', import.meta.url));
/** Seconds become tenths: the order of the times is the product's. */
const FAST: Omit<AgentOptions, 'stateDir'> = {
  version: '0.0.0-test',
  leaseTimes: { beatMs: 150, marginMs: 300 },
  stopTimes: { cancelSigtermMs: 200, cancelSigkillMs: 400 },
  resultResendMs: 200,
  finishMs: 200,
  minFreeBytes: 0,
};

let dir: string;
let nats: NatsServer;
let connection: NatsConnection;
let scheduler: FakeScheduler;
let agent: AgentUnderTest;
let stateDir: string;
let identity: Identity;
let runtimes: AgentRuntime[] = [];
let children: ChildProcess[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'agent-loop-'));
  nats = await startNats({ dir: join(dir, 'nats') });
  const { jwt, seed } = await nats.serviceCreds('job-scheduler');
  const inbox = inboxPrefix('job_scheduler');
  connection = await connectNats({ servers: [nats.url], name: 'test', inboxPrefix: inbox, credentials: { jwt, seed } });
  scheduler = await FakeScheduler.start(connection, () => agent);
});
afterAll(async () => {
  await scheduler.stop();
  await connection.close();
  await nats.stop();
  await rm(dir, { recursive: true, force: true });
});

beforeEach(async () => {
  stateDir = await mkdtemp(join(dir, 'state-'));
  identity = await enrol(stateDir);
  const { enrolment } = identity;
  agent = {
    agentId: enrolment.agent_id,
    publicKey: identity.publicKey,
    vendorId: enrolment.vendor_id,
    installId: enrolment.install_id!,
  };
  Object.assign(scheduler, {
    leaseMs: 1_500,
    slots: 4,
    dropReceipts: 0,
    muteRenewals: false,
    forge: (statement: unknown) => statement,
    forgeEnvelope: (envelope: unknown) => envelope,
    welcome: () => ({ nats_jwt: identity.enrolment.nats_jwt }),
  });
});
afterEach(async () => {
  await Promise.all(runtimes.map((runtime) => runtime.drain()));
  for (const child of children) child.kill('SIGKILL');
  runtimes = [];
  children = [];
});

function mint(agentId: string, user: string, lifeMs: number): Pick<Enrolment, 'nats_jwt' | 'nats_jwt_expires_at'> {
  const expiresAt = new Date(Date.now() + lifeMs);
  const signer = nkeyFromSeed(nats.keys.installAgentSigningSeed);
  const tags = agentTags(agentId);
  const nats_jwt = userJwt({ name: agentId, user, signer, account: nats.keys.account, expiresAt, tags });
  return { nats_jwt, nats_jwt_expires_at: expiresAt.toISOString() };
}

/** An identity with a JWT that the real server takes. */
async function enrol(into: string): Promise<Identity> {
  const agentId = newId('agent');
  const http = await startHttp({
    '/v1/agents/enrol': (body) => {
      const enrolment: Enrolment = {
        agent_id: agentId,
        kind: 'install',
        vendor_id: newId('vendor'),
        install_id: newId('install'),
        nats_urls: [nats.url],
        ...mint(agentId, (body as EnrolRequest).public_key, 3_600_000),
        job_keys: [scheduler.jobKey.publicKey],
        registry_token_url: 'http://127.0.0.1:1',
        vendor_registry: { url: 'http://127.0.0.1:2', namespace: 'acme' },
        vendor_keys: [],
      };
      return { body: enrolment };
    },
  });
  const token = 'ims_enr_0123456789_abcdefghijkl';
  const made = await Identity.enrol({ server: http.url, stateDir: into, token, version: 'test', kind: 'install' });
  await http.stop();
  return made;
}

async function startAgent(
  more: Partial<AgentOptions> = {},
  handlers: JobHandler[] = [new ScriptHandler('apply')],
): Promise<AgentRuntime> {
  const runtime = new AgentRuntime({ ...FAST, stateDir, ...more }, identity, handlers);
  runtimes.push(runtime);
  await runtime.start();
  return runtime;
}

async function spawnAgent(
  more: Partial<AgentOptions> = {},
): Promise<{ child: ChildProcess; output: () => string; ended: Promise<number | null> }> {
  const child = spawn(process.execPath, [CHILD, JSON.stringify({ ...FAST, stateDir, ...more })], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { PATH: process.env['PATH'], LOG_LEVEL: 'fatal' },
  });
  children.push(child);
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  await waitFor(() => output.includes('ready'), 20_000);
  return { child, output: () => output, ended };
}

const journals = async (): Promise<string[]> =>
  (await readdir(join(stateDir, 'journal'))).filter((name) => name.startsWith('job_'));
const settled = (): Promise<void> => waitFor(async () => (await journals()).length === 0);
/** Ignores everything but SIGKILL, forks, and tells its pids. */
const STUBBORN = `trap '' INT TERM; (trap '' INT; while :; do sleep 400; done) & echo "pids $$ $!"; while :; do sleep 401; done`;
const pidsIn = (lines: string[]): number[] => (/pids (.*)/.exec(lines.join('\n'))?.[1] ?? '').split(' ').map(Number);
const alive = (pid: number): boolean => startOf(pid) !== undefined;

it('goes from offer to receipt: steps, log, result, and then nothing is kept', async () => {
  await startAgent();
  const job = await scheduler.offer(
    { name: 'first', script: 'echo one' },
    { name: 'second', script: 'echo "got $SECRET" >&2', secret: 'swordfish-42' },
  );
  await waitFor(() => scheduler.resultOf(job) !== undefined);
  expect(scheduler.resultOf(job)).toMatchObject({
    attempt: 1,
    outcome: 'succeeded',
    result: { steps: ['first', 'second'] },
  });
  await waitFor(() => scheduler.logEnded(job));
  expect(scheduler.stepsOf(job)).toEqual(['first:started', 'first:done', 'second:started', 'second:done']);
  const done = scheduler.steps.find(({ job_id, step }) => job_id === job && step.status === 'done')!.step;
  expect(done.duration_ms).toBeGreaterThanOrEqual(done.tool_ms!);
  expect(done.tool_ms).toBeGreaterThan(0);
  expect(scheduler.linesOf(job)).toEqual(['step first', 'one', 'step second', 'got ***']);
  await settled();
  expect(await readdir(join(stateDir, 'work'))).toEqual([]);
  await waitFor(async () => (await readdir(join(stateDir, 'spool'))).length === 0);
  expect(await scheduler.pendingOffers()).toBe(0);
});

it('runs as many jobs at once as there are slots, and then one after another', async () => {
  scheduler.slots = 2;
  await startAgent();
  const gate = join(stateDir, 'gate');
  const wait = `while [ ! -e ${gate} ]; do sleep 0.02; done`;
  const jobs: JobId[] = [];
  for (let i = 0; i < 3; i++) jobs.push(await scheduler.offer({ name: 'wait', script: wait }));
  await waitFor(() => scheduler.steps.filter(({ job_id }) => jobs.includes(job_id)).length === 2);
  expect(scheduler.claims.filter(({ job_id }) => jobs.includes(job_id))).toHaveLength(2);
  await writeFile(gate, '');
  await waitFor(() => jobs.every((job) => scheduler.resultOf(job)?.outcome === 'succeeded'));
});
it('sends the result again until the receipt comes, once for the scheduler', async () => {
  scheduler.dropReceipts = 2;
  await startAgent();
  const job = await scheduler.offer({ name: 'first', script: 'true' });
  await settledAfter(job, 3);
  const sent = scheduler.results.filter(({ job_id }) => job_id === job);
  expect(sent).toHaveLength(3);
  expect(new Set(sent.map((result) => JSON.stringify(result))).size).toBe(1);
});
async function settledAfter(job: string, results: number): Promise<void> {
  await waitFor(() => scheduler.results.filter(({ job_id }) => job_id === job).length === results);
  await settled();
}

it('reports a failed step with its code and stops there', async () => {
  await startAgent();
  const job = await scheduler.offer({ name: 'first', script: 'echo bad; exit 3' }, { name: 'second', script: 'true' });
  await waitFor(() => scheduler.resultOf(job) !== undefined);
  expect(scheduler.resultOf(job)).toMatchObject({
    outcome: 'failed',
    error: { code: 'apply_failed', detail: 'first ended with 3' },
  });
  expect(scheduler.stepsOf(job)).toEqual(['first:started', 'first:failed']);
  await waitFor(() => scheduler.logEnded(job));
  expect(scheduler.linesOf(job).at(-1)).toContain('apply_failed');
});

it('reports what nobody expected as agent_error, without its secrets', async () => {
  const broken: JobHandler = {
    kind: 'apply',
    steps: () => [
      {
        name: 'boom',
        run: (context) => {
          context.secrets.add('swordfish-43');
          throw new Error('cannot log in with swordfish-43');
        },
      },
    ],
    result: () => ({ result: {} }),
  };
  await startAgent({}, [broken]);
  const job = await scheduler.offer();
  await waitFor(() => scheduler.resultOf(job) !== undefined);
  expect(scheduler.resultOf(job)!.error).toEqual({ code: 'agent_error', detail: 'cannot log in with ***' });
});

describe('a statement that is not good is refused, reported, and nothing runs', () => {
  const refused = async (detail: string): Promise<void> => {
    await startAgent();
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    const result = scheduler.resultOf(job)!;
    expect(result).toMatchObject({ outcome: 'failed', error: { code: 'statement_refused' } });
    expect(result.error!.detail).toContain(detail);
    expect(scheduler.stepsOf(job)).toEqual([]);
  };
  it.each([
    ['another agent', { agent_id: newId('agent') }, 'its agent is'],
    ['another key', { agent_key: `U${'A'.repeat(55)}` }, 'its agent key is'],
    ['another install', { install_id: newId('install') }, 'its install is'],
    ['another job', { job_id: newId('job') }, 'its job is'],
    ['another attempt', { attempt: 7 }, 'its attempt is'],
    ['yesterday', { expires_at: new Date(Date.now() - 120_000).toISOString() }, 'it expired'],
  ])('for %s', async (_, change, detail) => {
    scheduler.forge = (statement) => ({ ...statement, ...change });
    await refused(detail);
  });
  it('with one changed byte', async () => {
    scheduler.forgeEnvelope = (envelope) => {
      const text = Buffer.from(envelope.payload, 'base64').toString().replace('acme/shop/db', 'acme/evil/db');
      return { ...envelope, payload: Buffer.from(text).toString('base64') };
    };
    await refused('not signed by a key that is trusted');
  });
  it('that was done before (a replay)', async () => {
    await startAgent();
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await settledAfter(job, 1);
    scheduler.job(job).attempt = 0;
    await scheduler.offerAgain(job);
    await waitFor(() => scheduler.results.filter(({ job_id }) => job_id === job).length === 2);
    expect(scheduler.resultOf(job)).toMatchObject({ attempt: 1, error: { code: 'statement_refused' } });
    expect(scheduler.resultOf(job)!.error!.detail).toContain('replay');
  });
});

describe('cancel', () => {
  it('is confirmed when nothing runs any more, in spite of children that ignore it', async () => {
    await startAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    await waitFor(() => pidsIn(scheduler.linesOf(job)).length === 2);
    const pids = pidsIn(scheduler.linesOf(job));
    expect(pids.every(alive)).toBe(true);
    const from = performance.now();
    scheduler.cancel(job);
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    expect(pids.some(alive)).toBe(false);
    expect(scheduler.resultOf(job)).toMatchObject({
      outcome: 'cancelled',
      error: { code: 'cancelled', detail: 'a test' },
    });
    // 9 s and 11 s of the product are 0.4 s and 2.4 s here.
    expect(performance.now() - from).toBeLessThan(2_400);
    expect(scheduler.stepsOf(job)).toEqual(['first:started', 'first:failed']);
  });

  it('arrives by the renewal when the signal is lost, and by force at once', async () => {
    await startAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    await waitFor(() => pidsIn(scheduler.linesOf(job)).length === 2);
    scheduler.job(job).state = 'cancelling';
    await waitFor(() => scheduler.resultOf(job)?.outcome === 'cancelled');
    const other = await scheduler.offer({ name: 'first', script: STUBBORN });
    await waitFor(() => pidsIn(scheduler.linesOf(other)).length === 2);
    const from = performance.now();
    scheduler.cancel(other, { force: true });
    await waitFor(() => scheduler.resultOf(other)?.outcome === 'cancelled');
    expect(performance.now() - from).toBeLessThan(1_500);
  });

  it('of another attempt is ignored', async () => {
    await startAgent();
    const job = await scheduler.offer({ name: 'first', script: 'sleep 0.4' });
    await waitFor(() => scheduler.stepsOf(job).length === 1);
    scheduler.cancel(job, { attempt: 9 });
    scheduler.job(job).state = 'running';
    await waitFor(() => scheduler.resultOf(job)?.outcome === 'succeeded');
  });
});

describe('a lease that is not renewed', () => {
  it('ends the work before it ends, and nothing is reported', async () => {
    await startAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    await waitFor(() => pidsIn(scheduler.linesOf(job)).length === 2);
    const pids = pidsIn(scheduler.linesOf(job));
    scheduler.muteRenewals = true;
    await waitFor(() => !pids.some(alive));
    expect(performance.now()).toBeLessThan(scheduler.job(job).leaseEnd);
    await settled();
    expect(scheduler.resultOf(job)).toBeUndefined();
    expect(scheduler.stepsOf(job)).toEqual(['first:started']);
    // It is offered again, and this time it may.
    scheduler.muteRenewals = false;
    await scheduler.offerAgain(job);
    await waitFor(() => scheduler.stepsOf(job).length === 2);
    expect(scheduler.job(job).attempt).toBe(2);
    scheduler.cancel(job, { force: true });
    await waitFor(() => scheduler.resultOf(job)?.attempt === 2);
  });

  it('also when the agent is stopped (SIGSTOP) and cannot do it', async () => {
    scheduler.leaseMs = 3_000;
    const { child } = await spawnAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    await waitFor(() => pidsIn(scheduler.linesOf(job)).length === 2);
    const pids = pidsIn(scheduler.linesOf(job));
    child.kill('SIGSTOP');
    await waitFor(() => !pids.some(alive));
    expect(performance.now()).toBeLessThan(scheduler.job(job).leaseEnd + 1_000);
    child.kill('SIGCONT');
    await settled();
    expect(scheduler.resultOf(job)).toBeUndefined();
  });

  it('of an attempt that another has taken over: stopped, nothing reported', async () => {
    await startAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    await waitFor(() => pidsIn(scheduler.linesOf(job)).length === 2);
    const pids = pidsIn(scheduler.linesOf(job));
    scheduler.takeAway(job);
    await waitFor(() => !pids.some(alive));
    await settled();
    expect(scheduler.resultOf(job)).toBeUndefined();
  });
});

describe('a restart', () => {
  it('after kill -9 in a step: the tool is gone at once, the first step is not repeated, the second is', async () => {
    scheduler.leaseMs = 12_000;
    const { child } = await spawnAgent();
    const mark = join(stateDir, 'firsts');
    const job = await scheduler.offer(
      { name: 'first', script: `echo x >> ${mark}` },
      { name: 'second', script: `[ -n "$CRASHED" ] && { echo back; exit 0; }; ${STUBBORN}` },
      { name: 'third', script: 'echo last' },
    );
    await waitFor(() => pidsIn(scheduler.linesOf(job)).length === 2);
    const pids = pidsIn(scheduler.linesOf(job));
    const from = performance.now();
    child.kill('SIGKILL');
    await waitFor(() => !pids.some(alive));
    expect(performance.now() - from).toBeLessThan(2_000);
    expect(await journals()).toHaveLength(1);
    await spawnAgent();
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    expect(scheduler.resultOf(job)).toMatchObject({ attempt: 1, outcome: 'succeeded' });
    expect(scheduler.resumes.at(-1)).toMatchObject({ job_id: job, attempt: 1 });
    expect(await readFile(mark, 'utf8')).toBe('x\n');
    await waitFor(() => scheduler.logEnded(job));
    expect(scheduler.linesOf(job)).toEqual(expect.arrayContaining(['step second again', 'back', 'last']));
    await settled();
  });

  it('finds that another attempt has taken over: leftovers go, nothing is reported', async () => {
    const { child, ended } = await spawnAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    await waitFor(() => scheduler.stepsOf(job).length === 1);
    child.kill('SIGKILL');
    await ended;
    scheduler.takeAway(job);
    await startAgent();
    await settled();
    expect(scheduler.resultOf(job)).toBeUndefined();
    await waitFor(async () => (await readdir(join(stateDir, 'work'))).length === 0);
  });

  it('sends a result that had no receipt', async () => {
    scheduler.dropReceipts = 1_000;
    const { child, ended } = await spawnAgent();
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    child.kill('SIGKILL');
    await ended;
    const before = scheduler.results.length;
    scheduler.dropReceipts = 0;
    await startAgent();
    await waitFor(() => scheduler.results.length > before);
    await settled();
    expect(scheduler.stepsOf(job)).toEqual(['first:started', 'first:done']);
  });

  it('by SIGTERM: what ends in time is finished, the rest is left to the next start, exit code 0', async () => {
    scheduler.leaseMs = 12_000;
    const { child, ended, output } = await spawnAgent({ finishMs: 2_500 });
    const long = await scheduler.offer({ name: 'first', script: '[ -n "$CRASHED" ] || sleep 300' });
    await waitFor(() => scheduler.stepsOf(long).length === 1);
    const short = await scheduler.offer({ name: 'first', script: 'sleep 0.1' });
    await waitFor(() => scheduler.stepsOf(short).length === 1);
    child.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(output()).toContain('drained');
    expect(scheduler.resultOf(short)?.outcome).toBe('succeeded');
    expect(scheduler.resultOf(long)).toBeUndefined();
    await startAgent();
    await waitFor(() => scheduler.resultOf(long)?.outcome === 'succeeded');
    expect(scheduler.resultOf(long)!.attempt).toBe(1);
  });

  it('is refused while another process works with the same state', async () => {
    await spawnAgent();
    const second = new AgentRuntime({ ...FAST, stateDir }, identity, []);
    await expect(second.start()).rejects.toThrow('is in use by the agent with pid');
  });
});

describe('the credential', () => {
  it('is renewed before it ends, and the connection lives on with the new one', async () => {
    const lives = [3_000, 3_600_000];
    scheduler.welcome = () => mint(agent.agentId, agent.publicKey, lives.shift() ?? 3_600_000);
    await startAgent();
    const ends = Date.parse(identity.enrolment.nats_jwt_expires_at);
    expect(ends).toBeLessThan(Date.now() + 3_000);
    const hellos = scheduler.hellos.length;
    await waitFor(() => scheduler.hellos.length > hellos && Date.now() > ends + 500);
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job)?.outcome === 'succeeded');
  });

  it('that has ended is said at once', async () => {
    const over = Object.assign(Object.create(identity) as Identity, {});
    Object.defineProperty(over, 'enrolment', {
      value: { ...identity.enrolment, nats_jwt_expires_at: new Date(Date.now() - 1_000).toISOString() },
    });
    const start = new AgentRuntime({ ...FAST, stateDir }, over, []).start();
    await expect(start).rejects.toThrow(/^unauthenticated: .*: enrol again$/);
  });
});

describe('a Nest application', () => {
  it('makes the handlers, starts with the context and drains when it closes', async () => {
    @Injectable()
    class Handler extends ScriptHandler {
      constructor(
        private readonly tokens: RegistryTokens,
        private readonly own: Identity,
      ) {
        super('apply');
      }
      override result(): { result: JsonObject } {
        return { result: { tokens: typeof this.tokens.requestPullToken, agent: this.own.agentId } };
      }
    }
    const module = AgentModule.forAgent({ agent: { ...FAST, stateDir }, identity, handlers: [Handler] });
    const app = await NestFactory.createApplicationContext(module, { logger: false });
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    expect(scheduler.resultOf(job)!.result).toEqual({ tokens: 'function', agent: agent.agentId });
    await app.close();
    await startAgent();
  });
});

describe('NATS', () => {
  it('restarts in the middle of a job: the log has no gap and no duplicate, the result arrives', async () => {
    scheduler.leaseMs = 12_000;
    await startAgent();
    const script =
      'i=0; while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); [ $((i % 100)) = 0 ] && sleep 0.05; done';
    const job = await scheduler.offer({ name: 'first', script });
    await waitFor(() => scheduler.linesOf(job).length > 300);
    await nats.kill();
    await nats.restart();
    await waitFor(() => scheduler.resultOf(job) !== undefined && scheduler.logEnded(job), 30_000);
    expect(scheduler.resultOf(job)!.outcome).toBe('succeeded');
    const wanted = Array.from({ length: 3000 }, (_, i) => `line ${i}`);
    expect(scheduler.linesOf(job)).toEqual(['step first', ...wanted]);
    await settled();
  });

  it('loses this agent’s consumer: a hello makes it again and offers come', async () => {
    await startAgent();
    const { stream } = offersOf(agent.agentId);
    const before = scheduler.hellos.length;
    await (await jetstreamManager(connection)).streams.delete(stream);
    await waitFor(() => scheduler.hellos.length > before, 20_000);
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job)?.outcome === 'succeeded', 20_000);
  });
});
