import { randomUUID } from 'node:crypto';
import { jetstream, type Consumer, type ConsumerInfo } from '@nats-io/jetstream';
import {
  agentBeat,
  agentHello,
  claimJob,
  enrolAgent,
  inboxPrefix,
  jobCancel,
  JobOffer,
  jobReceipt,
  jobResult,
  JobStatement,
  jobStep,
  offersOf,
  openEnvelope,
  parse,
  PAYLOAD_TYPES,
  readEnrolmentToken,
  renewLeases,
  reportPlan,
  reportPolicy,
  resumeJob,
  type CustomerPolicyReceipt,
  type Enrolment,
  type Grant,
  type HeldAttempt,
  type JobId,
  type JobResult,
  type JsonObject,
  type PlanSummary,
  type PlanVerdict,
  type Receipt,
  type Renewed,
  type Signer,
  type StopOrder,
} from '#contracts';
import { connect } from '@nats-io/transport-node';
import { Bus, connectNats, createNkey, natsAuthenticator, nkeyFromSeed, verifyNkey } from '#messaging';
import { generateKeyPairSync } from 'node:crypto';

export type Answer = Pick<JobResult, 'outcome' | 'error' | 'hold'> & { readonly result?: JsonObject };
type Script = (statement: JobStatement) => Answer | undefined;

/** What a sound agent would say of a job. */
export function soundResult(statement: JobStatement): JsonObject {
  const digest = `sha256:${Buffer.from(statement.component.name).toString('hex').padEnd(64, '0').slice(0, 64)}`;
  switch (statement.kind) {
    case 'build':
      return {
        artifact: { repository: statement.repository, digest, media_type: 'application/x', size_bytes: 3 },
        source_commit: 'c0ffee',
      };
    case 'sync':
      return { digest: statement.artifact?.digest ?? '', bytes_copied: 3, blobs_copied: 1, blobs_skipped: 0 };
    case 'noop':
      return {};
    case 'apply':
    case 'destroy':
      return {
        changed: true,
        created: 1,
        updated: 0,
        deleted: 0,
        outputs: { url: `of-${statement.component.name}` },
        sensitive_outputs: ['password'],
      };
    case 'observe':
      return { drifted: false, health: 'healthy', reasons: [] };
  }
}

/** An agent without executors: it speaks the protocol over its own real NATS identity, step by step as a test says. */
export class ScriptedAgent {
  session = `session-${randomUUID()}`;
  readonly receipts: Receipt[] = [];
  readonly cancels: StopOrder[] = [];
  private beating: NodeJS.Timeout | undefined;

  private constructor(
    readonly enrolment: Enrolment,
    readonly bus: Bus,
    private readonly credentials: { readonly jwt: string; readonly seed: string },
  ) {
    const parts = { agent: this.id };
    bus.onSignal(jobReceipt, parts, (receipt) => this.receipts.push(receipt));
    bus.onSignal(jobCancel, parts, (order) => this.cancels.push(order));
  }

  /** Like the first contact over HTTPS, without the gateway in between. */
  static async enrol(gateway: Bus, token: string): Promise<ScriptedAgent> {
    const { seed, publicKey } = createNkey('user');
    const signing = generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const read = readEnrolmentToken(token);
    if (!read) throw new Error('no enrolment token');
    const { id: token_id, proof } = read;
    const enrolment = await gateway.call(enrolAgent, {
      token_id,
      proof,
      public_key: publicKey,
      signing_public_key: signing,
      version: '1.0.0',
    });
    const credentials = { jwt: enrolment.nats_jwt, seed };
    const connection = await connectNats({
      servers: enrolment.nats_urls,
      name: enrolment.agent_id,
      inboxPrefix: inboxPrefix(enrolment.agent_id),
      credentials,
    });
    const agent = new ScriptedAgent(enrolment, new Bus(connection), credentials);
    await agent.hello();
    agent.beat();
    return agent;
  }

  get id(): string {
    return this.enrolment.agent_id;
  }
  get signer(): Signer {
    return nkeyFromSeed(this.credentials.seed);
  }
  get publicKey(): string {
    return this.signer.publicKey;
  }

  /** Why a new connection with this identity is refused; empty when it is not. */
  async knock(): Promise<string> {
    try {
      const connection = await connect({
        servers: this.enrolment.nats_urls,
        authenticator: natsAuthenticator(this.credentials),
        inboxPrefix: inboxPrefix(this.id),
        reconnect: false,
      });
      await connection.close();
      return '';
    } catch (error) {
      const { message } = error as Error;
      // The server gives a client two seconds to say who it is; on a busy machine that says nothing about the identity.
      return message === 'Authentication Timeout' ? this.knock() : message;
    }
  }

  hello(protocol?: number): Promise<object> {
    const body = { session_id: this.session, version: '1.0.0', ...(protocol === undefined ? {} : { protocol }) };
    return this.bus.call(agentHello, body, { agent: this.id });
  }

  /** Beats until `silence`. */
  beat(): void {
    const once = (): void => this.bus.signal(agentBeat, { agent: this.id }, { session_id: this.session, running: 0 });
    once();
    this.beating = setInterval(once, 300);
  }
  silence(): void {
    clearInterval(this.beating);
  }

  /** The next offered job; undefined when none comes within the time. The offer is acknowledged, as when it is dropped. */
  async offer(waitMs = 5_000): Promise<JobId | undefined> {
    const pulled = await this.consumer.fetch({ max_messages: 1, expires: Math.max(waitMs, 1_000), bind: true });
    for await (const message of pulled) {
      message.ack();
      return parse(JobOffer, message.json(), 'tolerant').job_id;
    }
    return undefined;
  }

  claim(job_id: JobId, session = this.session): Promise<Grant> {
    return this.bus.call(claimJob, { job_id, session_id: session }, { agent: this.id });
  }
  resume(job_id: JobId, attempt: number): Promise<Grant> {
    return this.bus.call(resumeJob, { job_id, attempt, session_id: this.session }, { agent: this.id });
  }
  renew(leases: HeldAttempt[]): Promise<Renewed> {
    return this.bus.call(renewLeases, { session_id: this.session, leases }, { agent: this.id });
  }
  /** What the attempt would do. */
  plan(held: HeldAttempt, plan: PlanSummary): Promise<PlanVerdict> {
    return this.bus.call(reportPlan, { ...held, session_id: this.session, plan }, { agent: this.id });
  }
  /** The customer's policy has changed, or something was approved. */
  report(policy: JsonObject): Promise<CustomerPolicyReceipt> {
    return this.bus.call(reportPolicy, { session_id: this.session, policy }, { agent: this.id });
  }
  /** A new process of the same agent. */
  restart(): void {
    this.session = `session-${randomUUID()}`;
  }

  statement(grant: Grant): JobStatement {
    const signed = openEnvelope(grant.statement, PAYLOAD_TYPES.job, this.enrolment.job_keys, verifyNkey);
    return parse(JobStatement, signed, 'strict');
  }

  async step(
    held: HeldAttempt,
    name: string,
    status: 'started' | 'done' | 'failed',
    started_at: string,
  ): Promise<void> {
    const step = { name, status, started_at, ...(status === 'started' ? {} : { duration_ms: 5, tool_ms: 3 }) };
    const id = `${held.job_id}.${held.attempt}.${name}.${status}`;
    await this.bus.publish(
      jobStep,
      { agent: this.id, job: held.job_id },
      { ...held, session_id: this.session, steps: [step] },
      id,
    );
  }

  /** Sends a result; each call is a message of its own, also when it repeats an earlier one. */
  async send(held: HeldAttempt, answer: Answer): Promise<void> {
    const { result = {}, ...rest } = answer;
    const body = { ...held, session_id: this.session, ...rest, result };
    await this.bus.publish(jobResult, { agent: this.id, job: held.job_id }, body, randomUUID());
  }

  /** Claims the job and ends it as the script says; `undefined` leaves it running. */
  async run(
    job_id: JobId,
    script: Script = () => ({ outcome: 'succeeded' }),
  ): Promise<{ grant: Grant; statement: JobStatement }> {
    const grant = await this.claim(job_id);
    const statement = this.statement(grant);
    const answer = script(statement);
    if (answer) {
      const result = answer.result ?? (answer.outcome === 'succeeded' ? soundResult(statement) : {});
      await this.send({ job_id, attempt: grant.attempt }, { ...answer, result });
    }
    return { grant, statement };
  }

  /** Takes offers until all these jobs were run. Answers the labels in the order in which they came. */
  async work(jobs: readonly JobId[], script?: Script): Promise<string[]> {
    const open = new Set(jobs);
    const order: string[] = [];
    while (open.size > 0) {
      const job = await this.offer();
      if (job === undefined) throw new Error(`no offer came; open: ${[...open].join(', ')}`);
      if (!open.delete(job)) continue;
      const { statement } = await this.run(job, script);
      order.push(`${statement.kind}:${statement.component.name}`);
    }
    return order;
  }

  async stop(): Promise<void> {
    this.silence();
    await this.bus.connection.close();
  }

  private get consumer(): Consumer {
    const { stream, consumer } = offersOf(this.id);
    const info = { name: consumer, stream_name: stream, config: { durable_name: consumer } } as ConsumerInfo;
    return jetstream(this.bus.connection).consumers.getConsumerFromInfo(info);
  }
}
