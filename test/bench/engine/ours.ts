import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jetstream, type ConsumerInfo } from '@nats-io/jetstream';
import { Pool } from 'pg';
import {
  agentHello,
  claimJob,
  createApp,
  createBuilds,
  createComponent,
  createVendor,
  enrolAgent,
  inboxPrefix,
  JobOffer,
  mintEnrolmentToken,
  newId,
  readEnrolmentToken,
  jobResult,
  offersOf,
  parse,
  type AppId,
  type Enrolment,
  type JobStatement,
  type VendorId,
} from '#contracts';
import { Bus, connectNats, createNkey } from '#messaging';
import { freePort, startNats, startService, type PostgresServer, type RunningService } from '#stack';
import { type Contestant, type Start } from './contestant.js';

interface Install {
  readonly vendor: VendorId;
  readonly app: AppId;
  readonly bus: Bus;
}

/**
 * The product's own way: the job-scheduler as a process of its own, NATS with JetStream, agents with their own
 * identities and connections (here in this process, without executors): stored job, offer, claim with a signed
 * statement and a lease, result, hash-chained facts. Each agent takes one job at a time.
 */
export const ours =
  (postgres: PostgresServer, replicas: number): Start =>
  async (count, started): Promise<Contestant> => {
    const dir = mkdtempSync(join(tmpdir(), 'bench-engine-'));
    const nats = await startNats({ dir });
    const url = await postgres.provisionService('job-scheduler');
    const own = await nats.serviceCreds('job-scheduler');
    const system = await nats.systemCreds();
    const { keys } = nats;
    const schedulers: RunningService[] = [];
    for (let n = 0; n < replicas; n++) {
      const port = await freePort();
      schedulers.push(
        await startService({
          name: `job-scheduler-${n}`,
          app: 'job-scheduler',
          env: {
            DATABASE_URL: url,
            NATS_URLS: nats.url,
            NATS_JWT: own.jwt,
            NATS_SEED: own.seed,
            NATS_SYSTEM_JWT: system.jwt,
            NATS_SYSTEM_SEED: system.seed,
            OPERATOR_REVOCATION_SEED: keys.operatorRevocationSeed,
            HTTP_PORT: String(port),
            JOB_SIGNING_SEED: createNkey('user').seed,
            BUILD_AGENT_SIGNING_SEED: keys.buildAgentSigningSeed,
            INSTALL_AGENT_SIGNING_SEED: keys.installAgentSigningSeed,
            NATS_ACCOUNT_PUBLIC_KEY: keys.account,
            PUBLIC_URL: 'https://ims.example.test',
            REGISTRY_TOKEN_URL: 'https://tokens.example.test',
            VENDOR_REGISTRY_URL: 'https://registry.example.test',
            LOG_LEVEL: 'warn',
          },
          logFile: join(dir, `scheduler-${n}.log`),
          startMs: 120_000,
          readyUrl: `http://127.0.0.1:${port}/readyz`,
        }),
      );
    }
    const connection = await connectNats({
      servers: [nats.url],
      name: 'bench gateway',
      inboxPrefix: inboxPrefix('gateway'),
      credentials: await nats.serviceCreds('gateway'),
    });
    const gateway = new Bus(connection);
    const installs: Install[] = [];
    for (let n = 0; n < count; n++) installs.push(await install(gateway, n, started));
    const pool = new Pool({ connectionString: url, max: 1 });
    pool.on('error', () => undefined);
    return {
      name: replicas === 1 ? 'Vendor Cloud' : `Vendor Cloud, ${replicas} replicas`,
      enqueue: async (n) => {
        const { vendor, app } = installs[n % count] as Install;
        const { data } = await gateway.call(createBuilds, { vendor_id: vendor, app_id: app, builds: {} });
        return data[0]?.job_id ?? '';
      },
      open: async () => {
        const { rows } = await pool.query<{ count: string }>('SELECT count(*) FROM jobs WHERE finished_at IS NULL');
        return Number(rows[0]?.count ?? 0);
      },
      stop: async () => {
        await Promise.all(installs.map(({ bus }) => bus.connection.close()));
        await connection.close();
        await pool.end();
        await Promise.all(schedulers.map((scheduler) => scheduler.stop()));
        await nats.stop();
        rmSync(dir, { recursive: true, force: true });
      },
    };
  };

async function install(gateway: Bus, n: number, started: (key: string) => void): Promise<Install> {
  const token_id = newId('token');
  const { text, verifier } = mintEnrolmentToken(token_id);
  const { vendor } = await gateway.call(createVendor, {
    vendor: { name: `bench${n}-${randomUUID().slice(0, 8)}` },
    enrolment: { token_id, verifier },
  });
  const app = await gateway.call(createApp, { vendor_id: vendor.id, app: { name: 'bench' } });
  await gateway.call(createComponent, {
    vendor_id: vendor.id,
    app_id: app.id,
    component: { name: 'it', kind: 'terraform-module', source: { url: 'https://git.example.test/it.git' } },
  });
  const { seed, publicKey } = createNkey('user');
  const signing = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }).toString();
  const enrolment = await gateway.call(enrolAgent, {
    token_id,
    proof: readEnrolmentToken(text)?.proof ?? '',
    public_key: publicKey,
    signing_public_key: signing,
    version: '1.0.0',
  });
  const connection = await connectNats({
    servers: enrolment.nats_urls,
    name: enrolment.agent_id,
    inboxPrefix: inboxPrefix(enrolment.agent_id),
    credentials: { jwt: enrolment.nats_jwt, seed },
  });
  const bus = new Bus(connection);
  const session_id = `session-${randomUUID()}`;
  await bus.call(agentHello, { session_id, version: '1.0.0' }, { agent: enrolment.agent_id });
  void work(bus, enrolment, session_id, started);
  return { vendor: vendor.id, app: app.id, bus };
}

/** One job at a time: claim, begin, result. Ends with the connection. */
async function work(
  bus: Bus,
  { agent_id: agent }: Enrolment,
  session_id: string,
  started: (key: string) => void,
): Promise<void> {
  const { stream, consumer } = offersOf(agent);
  const info = { name: consumer, stream_name: stream, config: { durable_name: consumer } } as ConsumerInfo;
  const offers = await jetstream(bus.connection).consumers.getConsumerFromInfo(info).consume({ max_messages: 1 });
  for await (const message of offers) {
    const { job_id } = parse(JobOffer, message.json(), 'tolerant');
    message.ack();
    try {
      const { attempt, statement } = await bus.call(claimJob, { job_id, session_id }, { agent });
      started(job_id);
      const digest = `sha256:${'0'.repeat(64)}`;
      // Not verified, which every agent of the product does: here it would be 100 agents' work on one core.
      const { repository } = JSON.parse(Buffer.from(statement.payload, 'base64').toString()) as JobStatement;
      const artifact = { repository, digest, media_type: 'application/x', size_bytes: 3 };
      const result = { artifact, source_commit: 'c0ffee' };
      await bus.publish(
        jobResult,
        { agent, job: job_id },
        { job_id, attempt, session_id, outcome: 'succeeded', result },
        `${job_id}.${attempt}`,
      );
    } catch {
      // Refused or lost: the scheduler offers it again.
    }
  }
}
