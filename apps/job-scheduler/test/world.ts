import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import {
  createApp,
  createBuilds,
  createComponent,
  createDeployment,
  createEnrolmentToken,
  createInstall,
  createRelease,
  createVendor,
  getDeployment,
  getJob,
  inboxPrefix,
  ImsError,
  listAttempts,
  listJobs,
  mintEnrolmentToken,
  newId,
  type AgentRef,
  type App,
  type Build,
  type CreatedVendor,
  type Deployment,
  type Install,
  type Job,
  type JobId,
  type Release,
  type ServiceName,
  type TokenId,
  type VendorId,
} from '#contracts';
import { Client } from 'pg';
import { AccountClaims, Bus, connectNats, createNkey, nkeyFromSeed } from '#messaging';
import { Database } from '#persistence';
import { loadConfig } from '#platform';
import { SchedulerConfig } from '../src/config.js';
import { startScheduler } from '../src/scheduler.module.js';
import { ScriptedAgent } from './agent.js';

/** The servers as `#stack` gives them; only specs may enter that room. */
interface Stack {
  readonly startNats: (options: { dir: string }) => Promise<{
    readonly url: string;
    readonly keys: Readonly<
      Record<'account' | 'buildAgentSigningSeed' | 'installAgentSigningSeed' | 'operatorRevocationSeed', string>
    >;
    readonly systemCreds: () => Promise<{ jwt: string; seed: string }>;
    readonly serviceCreds: (service: ServiceName) => Promise<{ jwt: string; seed: string }>;
    stop(): Promise<void>;
    restart(): Promise<void>;
  }>;
  readonly freshDatabase: () => Promise<{
    readonly url: string;
    provisionService(service: string): Promise<string>;
    drop(): Promise<void>;
  }>;
}

/** Short enough that a test sees a lease end, long enough that a busy machine renews in time. */
export const TIMES = { LEASE_MS: '2000', SWEEP_MS: '50', REOFFER_MS: '400', OFFLINE_AFTER_MS: '1500' };

export interface Shop {
  readonly vendor: VendorId;
  readonly account: CreatedVendor;
  readonly app: App;
  readonly builder: ScriptedAgent;
}

/** Resolves when the condition holds. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false> | T | undefined | false,
  forMs = 30_000,
): Promise<T> {
  const deadline = performance.now() + forMs;
  for (;;) {
    const value = await look();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
}

/** A new enrolment token, as the gateway makes one. */
export const newToken = (): { id: TokenId; text: string; verifier: string } => {
  const id = newId('token');
  return { id, ...mintEnrolmentToken(id) };
};

/** The code that work is refused with; `nothing` when it is not. */
export const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'nothing',
    (error: unknown) => ImsError.of(error).code,
  );

/** Schedulers over real PostgreSQL and NATS, asked like the gateway asks, with scripted agents. */
export class World {
  readonly schedulers: NestFastifyApplication[] = [];
  private readonly agents: ScriptedAgent[] = [];
  private readonly peers: { close(): Promise<void> }[] = [];

  private constructor(
    private readonly stack: {
      nats: Awaited<ReturnType<Stack['startNats']>>;
      database: Awaited<ReturnType<Stack['freshDatabase']>>;
      serviceUrl: string;
      dir: string;
    },
    readonly gateway: Bus,
    private readonly config: Record<string, string>,
  ) {}

  static async start({ startNats, freshDatabase }: Stack, replicas = 1): Promise<World> {
    const dir = await mkdtemp(join(tmpdir(), 'job-scheduler-test-'));
    const [nats, database] = await Promise.all([startNats({ dir }), freshDatabase()]);
    const serviceUrl = await database.provisionService('job-scheduler');
    const own = await nats.serviceCreds('job-scheduler');
    const system = await nats.systemCreds();
    const connection = await connectNats({
      servers: [nats.url],
      name: 'scripted gateway',
      inboxPrefix: inboxPrefix('gateway'),
      credentials: await nats.serviceCreds('gateway'),
    });
    const world = new World({ nats, database, serviceUrl, dir }, new Bus(connection), {
      DATABASE_URL: serviceUrl,
      NATS_URLS: nats.url,
      NATS_JWT: own.jwt,
      NATS_SEED: own.seed,
      NATS_SYSTEM_JWT: system.jwt,
      NATS_SYSTEM_SEED: system.seed,
      OPERATOR_REVOCATION_SEED: nats.keys.operatorRevocationSeed,
      HTTP_PORT: '0',
      JOB_SIGNING_SEED: createNkey('user').seed,
      BUILD_AGENT_SIGNING_SEED: nats.keys.buildAgentSigningSeed,
      INSTALL_AGENT_SIGNING_SEED: nats.keys.installAgentSigningSeed,
      NATS_ACCOUNT_PUBLIC_KEY: nats.keys.account,
      REGISTRY_TOKEN_URL: 'https://tokens.example.test',
      VENDOR_REGISTRY_URL: 'https://registry.example.test',
      ...TIMES,
    });
    for (let i = 0; i < replicas; i++) await world.addScheduler();
    return world;
  }

  async addScheduler(): Promise<NestFastifyApplication> {
    const app = await startScheduler(loadConfig(SchedulerConfig, this.config), { ownsProcess: false });
    this.schedulers.push(app);
    return app;
  }

  /** The bus of another service, with that service's own rights. */
  async busOf(service: ServiceName): Promise<Bus> {
    const connection = await connectNats({
      servers: [this.stack.nats.url],
      name: `scripted ${service}`,
      inboxPrefix: inboxPrefix(service.replaceAll('-', '_')),
      credentials: await this.stack.nats.serviceCreds(service),
    });
    this.peers.push(connection);
    return new Bus(connection);
  }

  /** Ends one replica; the world goes on with the others. */
  async removeScheduler(app: NestFastifyApplication): Promise<void> {
    this.schedulers.splice(this.schedulers.indexOf(app), 1);
    await app.close();
  }

  get jobKey(): string {
    return nkeyFromSeed(this.config['JOB_SIGNING_SEED'] ?? '').publicKey;
  }

  /** The service's own database, for looking and for turning its clock. */
  async sql<T = Record<string, unknown>>(text: string, params: readonly unknown[] = []): Promise<T[]> {
    const [app] = this.schedulers;
    if (!app) throw new Error('no scheduler runs');
    return app.get(Database).query<T>(text, params);
  }

  /** The same while no scheduler runs. */
  async atRest(text: string, params: readonly unknown[] = []): Promise<void> {
    const client = new Client({ connectionString: this.stack.serviceUrl });
    await client.connect();
    await client.query(text, [...params]);
    await client.end();
  }

  /** What a NATS server that was restored from an old backup holds. */
  async forgetRevocations(): Promise<void> {
    const system = await connectNats({
      servers: [this.stack.nats.url],
      name: 'backup',
      inboxPrefix: '_INBOX.system',
      credentials: await this.stack.nats.systemCreds(),
    });
    const { account, operatorRevocationSeed } = this.stack.nats.keys;
    const claims = new AccountClaims(system, account, nkeyFromSeed(operatorRevocationSeed));
    await claims.revoke([], { at: new Date(), forgetBefore: new Date(Date.now() + 86_400_000) });
    await system.close();
  }

  restartNats(): Promise<void> {
    return this.stack.nats.restart();
  }

  async enrol(token: string): Promise<ScriptedAgent> {
    const agent = await ScriptedAgent.enrol(this.gateway, token);
    this.agents.push(agent);
    return agent;
  }

  /** A vendor with an app and its build agent. `components`: name -> fields of the spec. */
  async shop(components: Record<string, { depends_on?: string[]; values?: Record<string, string> }>): Promise<Shop> {
    const name = `v${Math.random().toString(36).slice(2, 10)}`;
    const { id: token_id, text: token, verifier } = newToken();
    const account = await this.gateway.call(createVendor, { vendor: { name }, enrolment: { token_id, verifier } });
    const vendor = account.vendor.id;
    const inputs = [{ name: 'region', type: 'string' as const, default: 'eu' }];
    const app = await this.gateway.call(createApp, { vendor_id: vendor, app: { name: 'shop', inputs } });
    for (const [component, spec] of Object.entries(components)) {
      const source = { url: 'https://git.example.test/shop.git', directory: component };
      await this.gateway.call(createComponent, {
        vendor_id: vendor,
        app_id: app.id,
        component: { name: component, kind: 'terraform-module', source, ...spec },
      });
    }
    const builder = await this.enrol(token);
    return { vendor, account, app, builder };
  }

  async build(shop: Shop, components?: string[]): Promise<Build[]> {
    const builds = components === undefined ? {} : { components };
    const { data } = await this.gateway.call(createBuilds, { vendor_id: shop.vendor, app_id: shop.app.id, builds });
    return data;
  }

  /** Builds everything and makes a release of it. */
  async release(shop: Shop, version: string): Promise<Release> {
    const builds = await this.build(shop);
    await shop.builder.work(builds.map(({ job_id }) => job_id));
    for (const { job_id } of builds) await this.job(shop, job_id, 'succeeded');
    return this.gateway.call(createRelease, { vendor_id: shop.vendor, app_id: shop.app.id, release: { version } });
  }

  async install(shop: Shop, name: string): Promise<{ install: Install; agent: ScriptedAgent }> {
    const { install, token } = await this.bareInstall(shop, name);
    return { install, agent: await this.enrol(token) };
  }

  async bareInstall(shop: Shop, name: string): Promise<{ install: Install; token: string }> {
    const install = await this.gateway.call(createInstall, {
      vendor_id: shop.vendor,
      install: { app_id: shop.app.id, name },
    });
    return { install, token: await this.token({ vendor_id: shop.vendor, agent_id: install.agent_id }) };
  }

  /** An enrolment token, made as the gateway makes it. */
  async token(agent: AgentRef): Promise<string> {
    const { id: token_id, text, verifier } = newToken();
    await this.gateway.call(createEnrolmentToken, { ...agent, enrolment: { token_id, verifier } });
    return text;
  }

  deploy(shop: Shop, install: Install, release?: Release, rollback?: true): Promise<Deployment> {
    const deployment = release
      ? { kind: 'deploy' as const, release_id: release.id, ...(rollback ? { rollback } : {}) }
      : { kind: 'teardown' as const };
    return this.gateway.call(createDeployment, { vendor_id: shop.vendor, install_id: install.id, deployment });
  }

  async jobs(shop: Shop, deployment: Deployment): Promise<Map<string, Job>> {
    const query = { vendor_id: shop.vendor, deployment_id: deployment.id, limit: 200 };
    const { data } = await this.gateway.call(listJobs, query);
    return new Map(data.map((job) => [`${job.kind}:${job.component.name}`, job]));
  }

  /** `1 lost`, `2 succeeded`: the attempts of a job, oldest first. */
  async attempts(shop: Shop, job: Job): Promise<string[]> {
    const { data } = await this.gateway.call(listAttempts, { vendor_id: shop.vendor, job_id: job.id });
    return data.toReversed().map(({ number, status }) => `${number} ${status}`);
  }

  readJob(shop: Shop, job_id: JobId): Promise<Job> {
    return this.gateway.call(getJob, { vendor_id: shop.vendor, job_id });
  }

  /** The job, when it has that status. */
  job(shop: Shop, id: JobId, status: Job['status']): Promise<Job> {
    return until(`${id} ${status}`, async () => {
      const job = await this.readJob(shop, id);
      return job.status === status && job;
    });
  }

  deployment(shop: Shop, id: string, status: Deployment['status']): Promise<Deployment> {
    return until(`${id} ${status}`, async () => {
      const deployment = await this.gateway.call(getDeployment, { vendor_id: shop.vendor, deployment_id: id });
      return deployment.status === status && deployment;
    });
  }

  /** Types of the facts of a chain, in order. */
  async facts(chainOf: string): Promise<string[]> {
    const rows = await this.sql<{ type: string }>('SELECT type FROM events WHERE chain = $1 ORDER BY seq', [
      `job-scheduler:${chainOf}`,
    ]);
    return rows.map(({ type }) => type);
  }

  async stop(): Promise<void> {
    await Promise.all(this.agents.map((agent) => agent.stop()));
    await Promise.all(this.schedulers.map((app) => app.close()));
    await Promise.all(this.peers.map((connection) => connection.close()));
    await this.gateway.connection.close();
    await this.stack.nats.stop();
    await this.stack.database.drop();
    await rm(this.stack.dir, { recursive: true, force: true });
  }
}
