import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Client } from 'pg';
import { Identity } from '#agent-kit';
import { enrolAgent, inboxPrefix, readEnrolmentToken, type AgentKind, type Call, type EnrolRequest } from '#contracts';
import { Bus, connectNats, createNkey, nkeyFromSeed } from '#messaging';
import {
  freePort,
  PROJECT_ROOT,
  startNats,
  startNatsCluster,
  startPostgres,
  startService,
  type NatsServer,
  type PostgresServer,
  type RunningService,
} from '#stack';
import { type HostPlan } from './agent-host.js';
import { Link } from './link.js';

/**
 * Half of the product's times at pace 1, so that a storm fits into a minute; a busy machine needs a slower pace, or it
 * loses every lease. The margin stays: the keeper of a process group looks twice a second, and less would let an effect
 * come after its lease.
 */
const agentTimes = (pace: number): Partial<HostPlan['options']> => ({
  leaseTimes: { beatMs: 1_500 * pace, marginMs: 2_000 },
  stopTimes: { cancelSigtermMs: 300, cancelSigkillMs: 700 },
  resultResendMs: 1_000 * pace,
  finishMs: 300,
});
const schedulerTimes = (pace: number): Record<string, string> => ({
  LEASE_MS: String(6_000 * pace),
  SWEEP_MS: '250',
  REOFFER_MS: String(2_000 * pace),
  OFFLINE_AFTER_MS: String(4_500 * pace),
});
const PATIENCE_MS = 20_000;
const START_MS = 240_000;
/** How late a piece is on a slow link. */
const SLOW_MS = 120;
export const REPLICAS = 3;

export interface GroundOptions {
  readonly seed: number;
  /** Servers of NATS: one, or a cluster of three with three copies of each stream. */
  readonly natsServers: 1 | 3;
  readonly hosts: number;
  /** 1: half of the product's times; 2: the product's, nearly. `product`: nothing is changed, for measurements. */
  readonly pace: number | 'product';
  readonly work?: HostPlan['work'];
}

export interface Host {
  readonly service: RunningService;
  readonly links: readonly Link[];
}
type Postgres = PostgresServer & { readonly password: string };

/** Real servers, three schedulers and hosts full of agents; every way between them is one that faults can be made on. */
export class Ground {
  readonly hosts: Host[] = [];
  readonly schedulers: RunningService[] = [];
  readonly links: Link[] = [];
  readonly effects: string;
  private shim: Server | undefined;
  private readonly enrolled: string[] = [];
  /** State directories of the agents of each host. */
  readonly states: string[][] = [];

  private constructor(
    readonly dir: string,
    readonly options: GroundOptions,
    readonly postgres: Postgres,
    readonly nats: readonly NatsServer[],
    readonly databaseUrl: string,
    private readonly gateway: Bus,
  ) {
    this.effects = join(dir, 'effects');
    mkdirSync(this.effects);
    this.states = Array.from({ length: options.hosts }, () => []);
  }

  static async open(options: GroundOptions): Promise<Ground> {
    const dir = mkdtempSync(join(tmpdir(), 'vendor-cloud-faults-'));
    // PostgreSQL runs as a user of its own.
    chmodSync(dir, 0o755);
    const natsDir = join(dir, 'nats');
    const [postgres, nats] = await Promise.all([
      startPostgres({ dir: join(dir, 'postgres') }),
      options.natsServers === 1
        ? startNats({ dir: natsDir }).then((server) => [server])
        : startNatsCluster({ dir: natsDir, size: options.natsServers }),
    ]);
    const databaseUrl = await postgres.provisionService('job-scheduler');
    const [first] = nats;
    if (!first) throw new Error('no NATS server was started');
    const connection = await connectNats({
      servers: nats.map(({ url }) => url),
      name: 'storm gateway',
      inboxPrefix: inboxPrefix('gateway'),
      credentials: await first.serviceCreds('gateway'),
    });
    const ground = new Ground(dir, options, postgres, nats, databaseUrl, new Bus(connection));
    try {
      await ground.startSchedulers(first);
      await ground.startShim();
      return ground;
    } catch (error) {
      await ground.close(false);
      throw error;
    }
  }

  /** Enrols an agent that will live on that host, over plain HTTP as an agent does; answers its id. */
  async enrol(kind: AgentKind, token: string, host: number): Promise<string> {
    const stateDir = join(this.dir, `agent-${this.enrolled.length}`);
    const server = `http://127.0.0.1:${(this.shim?.address() as AddressInfo).port}/${host}`;
    const signing = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const key = kind === 'build' ? { signingPublicKey: signing } : {};
    const identity = await Identity.enrol({ server, stateDir, token, version: 'storm', kind, ...key });
    this.states[host]?.push(stateDir);
    this.enrolled.push(stateDir);
    return identity.agentId;
  }

  async startHosts(): Promise<void> {
    const { pace, work = 'drawn' } = this.options;
    const fixed = { version: '0.0.0-storm', minFreeBytes: 0, vitalsMs: 60_000 };
    const agentOptions = { ...fixed, ...(pace === 'product' ? {} : agentTimes(pace)) };
    const main = join(PROJECT_ROOT, 'dist/test/faults/agent-host.js');
    const started = this.states.map(async (states, i): Promise<Host> => {
      const plan: HostPlan = {
        seed: this.options.seed,
        states,
        effects: this.effects,
        options: agentOptions,
        work,
      };
      const name = `host-${i}`;
      const service = await startService({
        name,
        main,
        args: [JSON.stringify(plan)],
        env: { LOG_LEVEL: 'warn' },
        logFile: join(this.dir, `${name}.log`),
        readyLog: /host ready/,
        startMs: START_MS,
      });
      return { service, links: this.links.filter((link) => link.name.startsWith(`${name}-`)) };
    });
    this.hosts.push(...(await Promise.all(started)));
  }

  /** A call as the gateway makes it, with more patience: the machine may be busy with faults. */
  call<B extends object, R extends object>(contract: Call<B, R>, body: B): Promise<R> {
    return this.gateway.call({ ...contract, timeoutMs: PATIENCE_MS }, body);
  }

  /** One statement as the owner of the database, on a connection of its own. Throws while PostgreSQL is down. */
  async sql<T extends object>(text: string, params: readonly unknown[] = []): Promise<T[]> {
    const client = new Client({ connectionString: this.databaseUrl, connectionTimeoutMillis: 3_000 });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return (await client.query<T>(text, [...params])).rows;
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  /** `keep`: the directory stays, for somebody to look at. */
  async close(keep: boolean): Promise<void> {
    await Promise.all(
      [...this.hosts.map(({ service }) => service), ...this.schedulers].map((service) => service.stop()),
    );
    await this.gateway.connection.close();
    await Promise.all(this.links.map((link) => link.close()));
    this.shim?.closeAllConnections();
    this.shim?.close();
    await Promise.all(this.nats.map((server) => server.stop()));
    await this.postgres.stop();
    if (!keep) rmSync(this.dir, { recursive: true, force: true });
  }

  private async open(name: string, port: number): Promise<Link> {
    const link = await Link.open(name, port, SLOW_MS);
    this.links.push(link);
    return link;
  }

  private async natsUrls(owner: string, first: number): Promise<string[]> {
    const urls: string[] = [];
    for (const [i, server] of this.nats.entries()) {
      urls.push(`nats://127.0.0.1:${(await this.open(`${owner}-nats-${i}`, server.port)).port}`);
    }
    // Not all of them at the same server.
    return urls.map((_, i) => urls[(i + first) % urls.length] ?? '');
  }

  private async startSchedulers(nats: NatsServer): Promise<void> {
    await this.chosen();
    const { pace } = this.options;
    const own = await nats.serviceCreds('job-scheduler');
    const system = await nats.systemCreds();
    const shared = {
      NATS_JWT: own.jwt,
      NATS_SEED: own.seed,
      NATS_SYSTEM_JWT: system.jwt,
      NATS_SYSTEM_SEED: system.seed,
      OPERATOR_REVOCATION_SEED: nats.keys.operatorRevocationSeed,
      JOB_SIGNING_SEED: createNkey('user').seed,
      BUILD_AGENT_SIGNING_SEED: nats.keys.buildAgentSigningSeed,
      INSTALL_AGENT_SIGNING_SEED: nats.keys.installAgentSigningSeed,
      NATS_ACCOUNT_PUBLIC_KEY: nkeyFromSeed(nats.keys.accountSeed).publicKey,
      PUBLIC_URL: 'https://ims.example.test',
      REGISTRY_TOKEN_URL: 'https://tokens.example.test',
      VENDOR_REGISTRY_URL: 'https://registry.example.test',
      NATS_STREAM_REPLICAS: String(this.nats.length),
      LOG_LEVEL: 'warn',
      ...(pace === 'product' ? {} : schedulerTimes(pace)),
    };
    const started = Array.from({ length: REPLICAS }, async (_, i) => {
      const name = `scheduler-${i}`;
      const database = new URL(this.databaseUrl);
      database.port = String((await this.open(`${name}-postgres`, this.postgres.port)).port);
      const port = await freePort();
      const urls = await this.natsUrls(name, i);
      const env = { ...shared, DATABASE_URL: database.href, NATS_URLS: urls.join(','), HTTP_PORT: String(port) };
      return startService({
        name,
        app: 'job-scheduler',
        env,
        logFile: join(this.dir, `${name}.log`),
        readyUrl: `http://127.0.0.1:${port}/readyz`,
        startMs: START_MS,
      });
    });
    this.schedulers.push(...(await Promise.all(started)));
  }

  /** A cluster answers nothing about streams before it has chosen its leader, and a service does not start without. */
  private async chosen(): Promise<void> {
    const healthy = async ({ monitorUrl }: NatsServer): Promise<boolean> =>
      fetch(`${monitorUrl}/healthz`).then(
        ({ ok }) => ok,
        () => false,
      );
    const end = performance.now() + START_MS;
    while (!(await Promise.all(this.nats.map(healthy))).every(Boolean)) {
      if (performance.now() > end) throw new Error('the NATS servers have chosen no leader');
      await delay(100);
    }
  }

  /** Takes enrolments as the gateway does, and names the links of the agent's host as the way to NATS. */
  private async startShim(): Promise<void> {
    const ways: string[][] = [];
    for (let i = 0; i < this.options.hosts; i++) ways.push(await this.natsUrls(`host-${i}`, i));
    this.shim = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const host = Number((request.url ?? '').split('/')[1]);
        const body = JSON.parse(Buffer.concat(chunks).toString()) as EnrolRequest;
        const { token, ...keys } = body;
        const read = readEnrolmentToken(token);
        if (!read) throw new Error('a storm makes good tokens only');
        this.call(enrolAgent, { ...keys, token_id: read.id, proof: read.proof }).then(
          (enrolment) => {
            response.writeHead(200, { 'content-type': 'application/json' });
            response.end(JSON.stringify({ ...enrolment, nats_urls: ways[host] }));
          },
          (error: unknown) =>
            response.writeHead(503).end(JSON.stringify({ code: 'unavailable', detail: String(error) })),
        );
      });
    });
    await new Promise<void>((resolve) => this.shim?.listen(0, '127.0.0.1', resolve));
  }
}
