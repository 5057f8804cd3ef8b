import { type NatsConnection } from '@nats-io/transport-node';
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inboxPrefix, jobStreamName, shardOf, type EnrolRequest, type Enrolment } from '#contracts';
import { connectNats, nkeyFromSeed, userJwt } from '#messaging';
import { AgentRuntime, Identity, type AgentOptions, type JobHandler } from '../src/index.js';
import { startOf } from '../src/proc.js';
import { FakeScheduler } from './fake-scheduler.js';
import { startHttp } from './http-server.js';
import { TOKEN, enrolmentOf } from './samples.js';
import { ScriptHandler } from './script-handler.js';
import { waitFor } from './wait.js';

/** The parts of the NATS server of the embedded infrastructure that are needed here. */
export interface Broker {
  readonly url: string;
  readonly keys: { readonly account: string; readonly installAgentSigningSeed: string };
  serviceCreds(service: 'job-scheduler'): Promise<{ readonly jwt: string; readonly seed: string }>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  restart(): Promise<void>;
}

const CHILD = fileURLToPath(new URL('../../../dist/libs/agent-kit/test/child-agent.js', import.meta.url));
/** Seconds become tenths: the order of the times is the product's. */
export const FAST: Omit<AgentOptions, 'stateDir'> = {
  version: '0.0.0-test',
  leaseTimes: { beatMs: 150, marginMs: 300 },
  stopTimes: { cancelSigtermMs: 200, cancelSigkillMs: 400 },
  resultResendMs: 200,
  finishMs: 200,
  minFreeBytes: 0,
};

export interface Spawned {
  readonly child: ChildProcess;
  readonly output: () => string;
  readonly ended: Promise<number | null>;
}

/** A real broker, a scripted scheduler, and one enrolled agent: new for each test. */
export class Lab {
  stateDir = '';
  private enrolled: Identity | undefined;
  private runtimes: AgentRuntime[] = [];
  private children: Spawned[] = [];

  private constructor(
    readonly dir: string,
    readonly broker: Broker,
    readonly connection: NatsConnection,
    readonly scheduler: FakeScheduler,
  ) {}

  static async open(startBroker: (options: { dir: string }) => Promise<Broker>): Promise<Lab> {
    const dir = await mkdtemp(join(tmpdir(), 'agent-lab-'));
    const broker = await startBroker({ dir: join(dir, 'nats') });
    const { jwt, seed } = await broker.serviceCreds('job-scheduler');
    const inbox = inboxPrefix('job_scheduler');
    const servers = [broker.url];
    const connection = await connectNats({ servers, name: 'test', inboxPrefix: inbox, credentials: { jwt, seed } });
    const scheduler = await FakeScheduler.start(connection);
    return new Lab(dir, broker, connection, scheduler);
  }

  get identity(): Identity {
    if (this.enrolled === undefined) throw new Error('begin was not called');
    return this.enrolled;
  }

  /** Before each test. */
  async begin(): Promise<void> {
    const { scheduler } = this;
    this.stateDir = await mkdtemp(join(this.dir, 'state-'));
    const identity = await this.enrol();
    this.enrolled = identity;
    const { agent_id, vendor_id, install_id } = identity.enrolment;
    const { publicKey } = identity;
    scheduler.agent = { agentId: agent_id, publicKey, vendorId: vendor_id, installId: install_id ?? '' };
    scheduler.leaseMs = 1_500;
    scheduler.slots = 4;
    scheduler.dropReceipts = 0;
    scheduler.muteRenewals = false;
    scheduler.forge = (statement) => statement;
    scheduler.forgeEnvelope = (envelope) => envelope;
    scheduler.verdict = () => ({ decision: 'go' });
    scheduler.welcome = () => ({ nats_jwt: identity.enrolment.nats_jwt });
  }

  /** After each test: nothing of it runs on. */
  async end(): Promise<void> {
    await Promise.all(this.runtimes.splice(0).map((runtime) => runtime.drain()));
    const children = this.children.splice(0);
    children.forEach(({ child }) => child.kill('SIGKILL'));
    await Promise.all(children.map(({ ended }) => ended));
  }

  async close(): Promise<void> {
    await this.scheduler.stop();
    await this.connection.close();
    await this.broker.stop();
    await rm(this.dir, { recursive: true, force: true });
  }

  /** A JWT that the real server takes. */
  mint(agentId: string, user: string, lifeMs: number): Pick<Enrolment, 'nats_jwt' | 'nats_jwt_expires_at'> {
    const { account, installAgentSigningSeed } = this.broker.keys;
    const expiresAt = new Date(Date.now() + lifeMs);
    const shard = shardOf(agentId);
    const tags = { agent: agentId, shard, jobs_stream: jobStreamName(shard) };
    const signer = nkeyFromSeed(installAgentSigningSeed);
    const nats_jwt = userJwt({ name: agentId, user, signer, account, expiresAt, tags });
    return { nats_jwt, nats_jwt_expires_at: expiresAt.toISOString() };
  }

  async startAgent(
    more: Partial<AgentOptions> = {},
    handlers: readonly JobHandler[] = [new ScriptHandler('apply')],
  ): Promise<AgentRuntime> {
    const runtime = new AgentRuntime({ ...FAST, stateDir: this.stateDir, ...more }, this.identity, handlers);
    this.runtimes.push(runtime);
    await runtime.start();
    return runtime;
  }

  /** The same agent as a process of its own. */
  async spawnAgent(more: Partial<AgentOptions> = {}): Promise<Spawned> {
    const options = JSON.stringify({ ...FAST, stateDir: this.stateDir, ...more });
    const child = spawn(process.execPath, [CHILD, options], {
      stdio: ['ignore', 'pipe', 'inherit'],
      // Its tools are found by PATH; of the rest of the test's environment it needs nothing.
      env: { PATH: '/usr/local/bin:/usr/bin:/bin', LOG_LEVEL: 'fatal' },
    });
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
    const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
    const spawned = { child, output: () => output, ended };
    this.children.push(spawned);
    await waitFor(() => output.includes('ready'), 30_000);
    return spawned;
  }

  async journals(): Promise<string[]> {
    return (await readdir(join(this.stateDir, 'journal'))).filter((name) => name.startsWith('job_'));
  }
  /** The agent holds nothing any more. */
  settled(): Promise<void> {
    return waitFor(async () => (await this.journals()).length === 0);
  }

  private async enrol(): Promise<Identity> {
    const base = enrolmentOf('install', {
      nats_urls: [this.broker.url],
      job_keys: [this.scheduler.jobKey.publicKey],
    });
    const http = await startHttp({
      '/v1/agents/enrol': (body) => ({
        body: { ...base, ...this.mint(base.agent_id, (body as EnrolRequest).public_key, 3_600_000) },
      }),
    });
    const options = { server: http.url, stateDir: this.stateDir, token: TOKEN, version: 'test' };
    const identity = await Identity.enrol({ ...options, kind: 'install' });
    await http.stop();
    return identity;
  }
}

/** Ignores everything but SIGKILL, forks, and tells its pids. */
export const STUBBORN = `trap '' INT TERM
(trap '' INT; while :; do sleep 400; done) & echo "pids $$ $!"
while :; do sleep 401; done`;
/** The pids that STUBBORN told, once it has. */
export async function stubbornPids(scheduler: FakeScheduler, job: string): Promise<number[]> {
  const found = (): string[] => /pids (.*)/.exec(scheduler.linesOf(job).join('\n'))?.[1]?.split(' ') ?? [];
  await waitFor(() => found().length === 2);
  return found().map(Number);
}
export const alive = (pid: number): boolean => startOf(pid) !== undefined;
