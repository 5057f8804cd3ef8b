import { randomUUID } from 'node:crypto';
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import {
  holdJob,
  inboxPrefix,
  JobStatement,
  newId,
  PAYLOAD_TYPES,
  signEnvelope,
  type AgentRequest,
  type Envelope,
  type HoldJob,
  type IssuedPullToken,
  type Job,
  type JobKind,
  type ServiceName,
  type Signer,
} from '#contracts';
import { Bus, connectNats, createNkey, nkeyFromSeed } from '#messaging';
import { createRegistryCertificate } from '#oci';
import { freePort, freshDatabase, startNats, startRegistry, type NatsServer, type RegistryServer } from '#stack';

const JOB = (JSON.parse(readFileSync('libs/contracts/src/golden/scheduler.hold_job.v1.json', 'utf8')) as { reply: Job })
  .reply;

/** Resolves when the condition holds; it is looked at every 5 ms, for at most 30 s. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = performance.now() + 30_000;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
}

/** The infrastructure of registry-token, real: NATS, PostgreSQL, a distribution registry; the scheduler is scripted. */
export class World {
  readonly scheduler = nkeyFromSeed(createNkey('user').seed);
  readonly agent = nkeyFromSeed(createNkey('user').seed);
  readonly thief = nkeyFromSeed(createNkey('user').seed);
  readonly vendor = newId('vendor');
  readonly install = newId('install');
  readonly repository = 'acme/shop/web';
  digest = `sha256:${'0'.repeat(64)}`;

  private constructor(
    readonly dir: string,
    readonly nats: NatsServer,
    readonly registry: RegistryServer,
    /** What each replica gets as its environment; the ports are already chosen. */
    readonly replicas: readonly Readonly<Record<string, string>>[],
    /** Of the database's owner; `search_path` is registry-token's schema. */
    readonly admin: Client,
    readonly adminUrl: string,
    private readonly dropDatabase: () => Promise<void>,
    jobKey: (world: World) => void,
  ) {
    jobKey(this);
  }

  /** `database`: of a server that is durable, say; default a fresh one of the test run. */
  static async start(
    replicas: number,
    database?: { readonly url: string; readonly serviceUrl: string; drop(): Promise<void> },
  ): Promise<World> {
    const dir = mkdtempSync(join(tmpdir(), 'registry-token-'));
    // PostgreSQL runs as a user of its own.
    chmodSync(dir, 0o755);
    const ports = await Promise.all(Array.from({ length: replicas }, freePort));
    const certificate = await createRegistryCertificate();
    const [nats, fresh, registry] = await Promise.all([
      startNats({ dir: join(dir, 'nats') }),
      database ??
        freshDatabase().then(async (made) => ({
          url: made.url,
          serviceUrl: await made.provisionService('registry-token'),
          drop: () => made.drop(),
        })),
      startRegistry({
        dir: join(dir, 'registry'),
        auth: {
          realm: `http://127.0.0.1:${ports[0] ?? 0}/token`,
          service: 'vendor-registry',
          issuer: 'registry-token',
          certPem: certificate.certificatePem,
        },
      }),
    ]);
    const creds = await nats.serviceCreds('registry-token');
    const admin = new Client({ connectionString: fresh.url });
    await admin.connect();
    await admin.query('SET search_path = registry_token');
    const env: Record<string, string> = {
      DATABASE_URL: fresh.serviceUrl,
      NATS_URLS: nats.url,
      NATS_JWT: creds.jwt,
      NATS_SEED: creds.seed,
      HTTP_HOST: '127.0.0.1',
      TOKEN_HASH_KEY: 'k'.repeat(32),
      REGISTRY_SIGNING_KEY: certificate.privateKeyPem,
      REGISTRY_CERT: certificate.certificatePem,
      VENDOR_REGISTRY_URL: registry.url,
    };
    const environments = ports.map((port) => ({ ...env, HTTP_PORT: String(port) }));
    return new World(
      dir,
      nats,
      registry,
      environments,
      admin,
      fresh.url,
      () => fresh.drop(),
      (world) => {
        for (const each of environments) Object.assign(each, { JOB_KEYS: world.scheduler.publicKey });
      },
    );
  }

  urlOf(replica: number): string {
    return `http://127.0.0.1:${this.replicas[replica]?.HTTP_PORT ?? ''}`;
  }

  async bus(service: ServiceName): Promise<Bus> {
    return new Bus(
      await connectNats({
        servers: [this.nats.url],
        name: service,
        inboxPrefix: inboxPrefix(service.replaceAll('-', '_')),
        credentials: await this.nats.serviceCreds(service),
      }),
    );
  }

  /** A job-scheduler that holds jobs, or refuses to by the code that `answer` gives. */
  async startScheduler(answer: (ask: HoldJob) => { code: string } | undefined = () => undefined): Promise<{
    readonly held: HoldJob[];
    stop(): Promise<void>;
  }> {
    const bus = await this.bus('job-scheduler');
    const held: HoldJob[] = [];
    bus.connection.subscribe(holdJob.subject, {
      callback: (_error, message) => {
        const ask = message.json<HoldJob>();
        held.push(ask);
        const error = answer(ask);
        message.respond(
          JSON.stringify(
            error
              ? { ok: false, error: { detail: 'no', ...error } }
              : { ok: true, value: { ...JOB, id: ask.job_id, hold: ask.hold } },
          ),
        );
      },
    });
    await bus.connection.flush();
    return { held, stop: () => bus.connection.close() };
  }

  statement(kind: JobKind, more: Partial<JobStatement> = {}): Envelope {
    const now = Date.now();
    const job: JobStatement = Object.assign(new JobStatement(), {
      job_id: newId('job'),
      attempt: 1,
      kind,
      vendor_id: this.vendor,
      agent_id: newId('agent'),
      agent_key: this.agent.publicKey,
      install_id: this.install,
      app_name: 'shop',
      component: { id: newId('component'), name: 'web', kind: 'container-image' },
      spec: { kind: 'container-image' },
      repository: this.repository,
      artifact: {
        repository: this.repository,
        digest: this.digest,
        media_type: 'application/vnd.oci.image.manifest.v1+json',
        size_bytes: 1_000,
      },
      issued_at: new Date(now).toISOString(),
      expires_at: new Date(now + 60_000).toISOString(),
      ...more,
    });
    return signEnvelope(PAYLOAD_TYPES.job, job, this.scheduler);
  }

  /** A signed request as an agent sends it; the same bytes may be sent again. */
  request(request: Partial<AgentRequest>, signer: Signer = this.agent): string {
    const full = { request_id: randomUUID(), at: new Date().toISOString(), ...request };
    return JSON.stringify(signEnvelope(PAYLOAD_TYPES.agentRequest, full, signer));
  }

  async send(body: string, url = this.urlOf(0)): Promise<Answer> {
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${url}/v1/agent-requests`, { method: 'POST', headers, body });
    return {
      status: response.status,
      headers: response.headers,
      body: (await response.json()) as Record<string, unknown>,
    };
  }

  ask(request: Partial<AgentRequest>, signer: Signer = this.agent, replica = 0): Promise<Answer> {
    return this.send(this.request(request, signer), this.urlOf(replica));
  }

  redeem(token: string, signer: Signer = this.agent): Promise<Answer> {
    return this.ask({ action: 'redeem_pull_token', token }, signer);
  }

  async issue(more: Partial<JobStatement> = {}): Promise<IssuedPullToken> {
    const { status, body } = await this.ask({ action: 'issue_pull_token', statement: this.statement('sync', more) });
    if (status !== 200) throw new Error(`no token: ${JSON.stringify(body)}`);
    return body as unknown as IssuedPullToken;
  }

  /** What a stock client sends; without a scope it is a login. */
  stock(token: string, scope?: string): Promise<Response> {
    const basic = Buffer.from(token.replace('.', ':')).toString('base64');
    return fetch(`${this.urlOf(0)}/token?service=vendor-registry${scope ? `&scope=${scope}` : ''}`, {
      headers: { authorization: `Basic ${basic}` },
    });
  }

  async rows<T>(sql: string, params: unknown[] = []): Promise<T[]> {
    return (await this.admin.query(sql, params)).rows as T[];
  }

  /** Types of the facts about a token, in the order of its chain. */
  async factsOf(tokenId: string): Promise<string[]> {
    const facts = await this.rows<{ type: string }>(
      `SELECT type FROM events WHERE data->>'token_id' = $1 ORDER BY seq`,
      [tokenId],
    );
    return facts.map(({ type }) => type.replace('token.', ''));
  }

  async stop(): Promise<void> {
    await this.admin.end();
    await Promise.all([this.nats.stop(), this.registry.stop()]);
    await this.dropDatabase();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
