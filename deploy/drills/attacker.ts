import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect, errors, type MsgHdrs, type NatsConnection } from '@nats-io/transport-node';
import {
  agentHello,
  claimJob,
  ERRORS,
  ImsError,
  inboxPrefix,
  jobOffer,
  jobReceipt,
  jobResult,
  jobStep,
  JobStatement,
  parse,
  shardOf,
  subjectFilter,
  type AgentId,
  type Claim,
  type Enrolment,
  type Envelope,
  type ErrorCode,
  type Grant,
  type Install,
  type JobId,
  type JobResult,
  type Signer,
} from '#contracts';
import { RegistryTokens } from '#agent-kit';
import { Bus, connectNats, createNkey, natsAuthenticator, nkeyFromSeed, userJwt } from '#messaging';
import { RegistryClient } from '#oci';
import { enrolmentToken } from '../local/shop.js';
import { type Ground } from './ground.js';
import { Refused, until } from './play.js';

/** An HTTP answer as the refusal that it is; passes when it is none. */
async function accepted(response: Response): Promise<Record<string, unknown>> {
  const text = await response.text();
  const json = /json/.test(response.headers.get('content-type') ?? '');
  const body = json ? (JSON.parse(text) as Record<string, unknown>) : {};
  if (response.ok) return body;
  const { code = '', detail = '' } = body as { code?: string; detail?: string };
  // The token door speaks the language of stock clients, which has no codes of ours.
  if (!Object.hasOwn(ERRORS, code)) throw new Refused(`HTTP ${response.status}`);
  throw new ImsError(code as ErrorCode, detail);
}

/** One request to the gateway with any key. */
export async function request(
  { platform }: Ground,
  method: string,
  path: string,
  more: { readonly key?: string; readonly body?: object } = {},
): Promise<Record<string, unknown>> {
  const response = await fetch(`${platform.gatewayUrl}${path}`, {
    method,
    headers: {
      ...(more.key === undefined ? {} : { authorization: `Bearer ${more.key}` }),
      ...(more.body === undefined ? {} : { 'content-type': 'application/json' }),
    },
    ...(more.body === undefined ? {} : { body: JSON.stringify(more.body) }),
  });
  return accepted(response);
}

/** Exchanges a pull token at the door of stock clients; answers the registry's token. */
export async function stockDoor(ground: Ground, token: string, repository: string): Promise<string> {
  const [id = '', ...secret] = token.split('.');
  const query = new URLSearchParams({
    service: ground.vendorRegistry.service,
    scope: `repository:${repository}:pull`,
  });
  const response = await fetch(`${ground.registryTokenUrl}/token?${query.toString()}`, {
    headers: { authorization: `Basic ${Buffer.from(`${id}:${secret.join('.')}`).toString('base64')}` },
  });
  return String((await accepted(response))['token']);
}

/** The vendor's registry for whoever holds one of its tokens. */
export const registryWith = (ground: Ground, token: string): RegistryClient =>
  new RegistryClient({
    baseUrl: ground.vendorRegistry.url,
    credential: { kind: 'bearer', token: () => Promise.resolve(token) },
    attempts: 1,
  });

/** Somebody with an agent's key and JWT, who does with them what he likes. */
export interface Impostor {
  readonly enrolment: Enrolment;
  readonly signer: Signer;
  readonly sessionId: string;
  readonly bus: Bus;
  readonly tokens: RegistryTokens;
  hello(): Promise<void>;
  claim(job: JobId): Promise<{ readonly grant: Grant; readonly statement: JobStatement }>;
  close(): Promise<void>;
}

/** With what is in the state directory of an agent. */
export function impostorOf(state: string, caFile: string): Promise<Impostor> {
  const { enrolment } = JSON.parse(readFileSync(join(state, 'identity.json'), 'utf8')) as { enrolment: Enrolment };
  const ownCa = join(state, 'ca.pem');
  return impostor(readFileSync(join(state, 'key.seed'), 'utf8').trim(), enrolment, existsSync(ownCa) ? ownCa : caFile);
}

/** Enrolled like any agent, by a program of the attacker's own: an install whose agent does only what a drill says. */
export async function enrolled(ground: Ground, install: Install): Promise<Impostor> {
  const { seed, publicKey } = createNkey('user');
  const { token } = await enrolmentToken(ground.rest, install);
  const body = { token, public_key: publicKey, version: '1.0.0' };
  const enrolment = (await request(ground, 'POST', '/v1/agents/enrol', { body })) as unknown as Enrolment;
  return impostor(seed, enrolment, ground.platform.caFile);
}

/** With a key and what its enrolment gave, wherever he has them from. */
export async function impostor(seed: string, enrolment: Enrolment, caFile: string): Promise<Impostor> {
  const signer = nkeyFromSeed(seed);
  const agent = enrolment.agent_id;
  const sessionId = randomUUID();
  const connection = await connectNats({
    servers: enrolment.nats_urls,
    name: agent,
    inboxPrefix: inboxPrefix(agent),
    credentials: { jwt: enrolment.nats_jwt, seed },
    caFile,
  });
  const bus = new Bus(connection);
  return {
    enrolment,
    signer,
    sessionId,
    bus,
    tokens: tokensOf({ enrolment }, signer),
    hello: async () => {
      await bus.call(agentHello, { session_id: sessionId, version: '1.0.0' }, { agent });
    },
    claim: async (job_id) => {
      const grant = await bus.call(claimJob, { job_id, session_id: sessionId }, { agent });
      return { grant, statement: statementIn(grant.statement) };
    },
    close: () => connection.close(),
  };
}

/** Connects with an agent's key and JWT, once; throws when NATS does not let it in. */
export async function connectsOnce({ platform }: Ground, state: string): Promise<void> {
  const { enrolment } = JSON.parse(readFileSync(join(state, 'identity.json'), 'utf8')) as { enrolment: Enrolment };
  const seed = readFileSync(join(state, 'key.seed'), 'utf8').trim();
  try {
    const connection = await connect({
      servers: `127.0.0.1:${platform.ports.nats}`,
      authenticator: natsAuthenticator({ jwt: enrolment.nats_jwt, seed }),
      inboxPrefix: inboxPrefix(enrolment.agent_id),
      tls: { ca: readFileSync(platform.caFile, 'utf8') },
      reconnect: false,
      timeout: 5_000,
    });
    await connection.close();
  } catch (error) {
    if (error instanceof errors.AuthorizationError) throw new Refused('NATS authorisation');
    throw error;
  }
}

/** Requests to registry-token, signed with any key. */
export const tokensOf = ({ enrolment }: Pick<Impostor, 'enrolment'>, signer: Signer): RegistryTokens =>
  new RegistryTokens({
    enrolment,
    publicKey: signer.publicKey,
    sign: (bytes) => signer.sign(bytes),
    allowPlainHttp: false,
  });

/** What a job statement says; read without checking it, as anybody may. */
export const statementIn = ({ payload }: Envelope): JobStatement =>
  parse(JobStatement, JSON.parse(Buffer.from(payload, 'base64').toString('utf8')), 'tolerant');

/** A message as it went over the broker. */
interface Heard {
  readonly subject: string;
  readonly reply: string | undefined;
  readonly data: Buffer;
  readonly headers: MsgHdrs | undefined;
}

/**
 * Somebody who owns the broker: with the seed of the product's account he makes himself a user that may do everything
 * in it. A stolen credential of one service can do less, and that of an agent next to nothing.
 */
export class BrokerOwner {
  readonly heard: Heard[] = [];

  private constructor(readonly bus: Bus) {
    bus.connection.subscribe('>', {
      callback: (_, { subject, reply, data, headers }) =>
        void this.heard.push({ subject, reply, data: Buffer.from(data), headers }),
    });
  }

  static async connect({ nats, platform }: Ground): Promise<BrokerOwner> {
    const { seed, publicKey: user } = createNkey('user');
    const jwt = userJwt({
      name: 'drill',
      user,
      signer: nkeyFromSeed(nats.accountSeed),
      account: nats.account,
      permissions: { publish: ['>'], subscribe: ['>'] },
    });
    const connection = await connectNats({
      servers: [nats.url],
      name: 'drill',
      // Services answer the gateway at this inbox, and whoever owns the broker listens where he likes.
      inboxPrefix: inboxPrefix('gateway'),
      credentials: { jwt, seed },
      caFile: platform.caFile,
    });
    // He signs as the gateway does, with the best key that he can make.
    const owner = new BrokerOwner(new Bus(connection, { signer: { service: 'gateway', key: nkeyFromSeed(seed) } }));
    await connection.flush();
    return owner;
  }

  get connection(): NatsConnection {
    return this.bus.connection;
  }

  /** Every statement that went by in a grant, oldest first. */
  statements(): { readonly envelope: Envelope; readonly statement: JobStatement; readonly attempt: number }[] {
    return this.heard.flatMap(({ subject, data }) => {
      if (!subject.startsWith('_INBOX.') || !data.includes('"statement"')) return [];
      const { value } = JSON.parse(data.toString('utf8')) as { value?: Partial<Grant> };
      const { statement: envelope, attempt } = value ?? {};
      if (envelope === undefined || attempt === undefined) return [];
      return [{ envelope, statement: statementIn(envelope), attempt }];
    });
  }

  /** Offers a job to an agent, and answers its claim before the scheduler can. Throws what the agent says to it. */
  async handOver(agent: AgentId, job: JobId, grant: Grant): Promise<JobResult> {
    const { connection } = this.bus;
    let result: JobResult | undefined;
    const claims = connection.subscribe(subjectFilter(claimJob, { agent }), {
      callback: (_, message) => {
        if (message.json<Claim>().job_id === job) message.respond(JSON.stringify({ ok: true, value: grant }));
      },
    });
    const results = connection.subscribe(subjectFilter(jobResult, { agent, job }), {
      callback: (_, message) => {
        result = message.json<JobResult>();
        // Nobody else would: the scheduler knows no such attempt, and the agent would send it for ever.
        this.bus.signal(jobReceipt, { agent, job }, { job_id: job, attempt: result.attempt, accepted: true });
      },
    });
    try {
      // Sometimes the scheduler is the first to answer, and the agent drops the offer: then once more.
      for (let tries = 0; tries < 10 && result === undefined; tries++) {
        await this.offer(agent, job);
        await until('', () => result, 2_000).catch(() => undefined);
      }
    } finally {
      claims.unsubscribe();
      results.unsubscribe();
    }
    if (result === undefined) throw new Error(`the agent never answered to ${job}`);
    if (result.error) throw ImsError.fromWire({ code: result.error.code as ErrorCode, detail: result.error.detail });
    return result;
  }

  async offer(agent: AgentId, job: JobId): Promise<void> {
    const parts = { shard: shardOf(agent), agent, job };
    await this.bus.publish(jobOffer, parts, { job_id: job, kind: 'apply' }, randomUUID());
  }

  /** The steps of a job that went by. */
  stepsOf(agent: AgentId, job: JobId): number {
    const subject = subjectFilter(jobStep, { agent, job });
    return this.heard.filter((message) => message.subject === subject).length;
  }

  close(): Promise<void> {
    return this.connection.close();
  }
}

/** A statement of which the attacker has changed something; the signature stays what it was. */
export function altered(envelope: Envelope, change: (statement: JobStatement) => Partial<JobStatement>): Envelope {
  const statement = statementIn(envelope);
  const payload = Buffer.from(JSON.stringify({ ...statement, ...change(statement) })).toString('base64');
  return { ...envelope, payload };
}
