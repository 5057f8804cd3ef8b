import { jetstream, type ConsumerMessages } from '@nats-io/jetstream';
import { type NatsConnection } from '@nats-io/transport-node';
import {
  HEADERS,
  ImsError,
  PAYLOAD_TYPES,
  agentBeat,
  agentHello,
  claimJob,
  jobCancel,
  jobOffer,
  jobReceipt,
  newId,
  offersOf,
  renewLeases,
  reportPlan,
  reportPolicy,
  resumeJob,
  shardOf,
  signEnvelope,
  subjectFilter,
  type Call,
  type Claim,
  type Envelope,
  type Grant,
  type Hello,
  type JobId,
  type JobResult,
  type JobStatement,
  type JsonObject,
  type LogFrame,
  type PlanVerdict,
  type ReportPlan,
  type Renew,
  type Renewed,
  type Resume,
  type Signer,
  type StepReport,
  type StopOrder,
  type Welcome,
} from '#contracts';
import { Bus, Topology, createNkey, ensureAgentConsumer, nkeyFromSeed } from '#messaging';
import { type ScriptStep } from './script-handler.js';

export interface AgentUnderTest {
  readonly agentId: string;
  readonly publicKey: string;
  readonly vendorId: string;
  readonly installId: string;
}

interface FakeJob {
  readonly id: JobId;
  readonly values: JsonObject;
  attempt: number;
  session?: string;
  state: 'offered' | 'running' | 'cancelling' | 'held' | 'ended';
  leaseEnd: number;
}

/** The scheduler's side of the agent protocol over a real socket, in memory; the tests bend it. */
export class FakeScheduler {
  jobKey: Signer = nkeyFromSeed(createNkey('account').seed);
  readonly jobs = new Map<JobId, FakeJob>();
  readonly steps: Pick<StepReport, 'job_id' | 'steps'>[] = [];
  readonly results: JobResult[] = [];
  readonly frames: LogFrame[] = [];
  readonly claims: Claim[] = [];
  readonly resumes: Resume[] = [];
  readonly renewals: Renew[] = [];
  readonly hellos: Hello[] = [];
  readonly policies: JsonObject[] = [];
  readonly plans: ReportPlan[] = [];
  /** What the vendor says to plans. */
  verdict: () => PlanVerdict = () => ({ decision: 'go' });
  beats = 0;
  slots = 4;
  leaseMs = 12_000;
  /** Results that are lost on the way. */
  dropReceipts = 0;
  /** Renewals get no answer. */
  muteRenewals = false;
  /** Changes a statement before it is signed, or the envelope after. */
  forge: (statement: JobStatement) => JobStatement = (statement) => statement;
  forgeEnvelope: (envelope: Envelope) => Envelope = (envelope) => envelope;
  welcome: () => Partial<Welcome> = () => ({});

  private readonly bus: Bus;
  private readonly consumers: ConsumerMessages[] = [];
  private readonly stops: (() => void)[] = [];

  /** Whose scheduler this is; set before each test. */
  agent: AgentUnderTest = { agentId: '', publicKey: '', vendorId: '', installId: '' };

  private constructor(private readonly connection: NatsConnection) {
    this.bus = new Bus(connection);
  }

  static async start(connection: NatsConnection): Promise<FakeScheduler> {
    const fake = new FakeScheduler(connection);
    await new Topology(connection, {}).ensure();
    fake.serve(agentHello, (hello) => fake.onHello(hello));
    fake.serve(claimJob, (claim) => fake.onClaim(claim));
    fake.serve(resumeJob, (resume) => fake.onResume(resume));
    fake.serve(reportPlan, (report) => {
      fake.plans.push(report);
      return Promise.resolve(fake.verdict());
    });
    fake.serve(reportPolicy, ({ policy }) => fake.onPolicy(policy));
    fake.serve(renewLeases, (renew) => fake.onRenew(renew));
    fake.stops.push(fake.bus.onSignal(agentBeat, {}, () => (fake.beats += 1)).stop);
    await fake.listen();
    return fake;
  }

  /** The durables of the services, also after a server that was restarted. */
  async listen(): Promise<void> {
    await this.consume('EVENTS', 'job_scheduler_events', (contract, body) => {
      if (contract === 'job.step/1') this.steps.push(body as StepReport);
      if (contract === 'job.result/1') {
        const { job_id, steps = [] } = body as JobResult;
        this.steps.push({ job_id, steps });
        this.onResult(body as JobResult);
      }
    });
    await this.consume('LOGS', 'telemetry_logs', (_, body) => this.frames.push(body as LogFrame));
  }

  async stop(): Promise<void> {
    this.stops.forEach((stop) => stop());
    await Promise.all(this.consumers.map((consumer) => consumer.close()));
  }

  /** A new job of shell-script steps, offered to the agent. */
  async offer(...steps: ScriptStep[]): Promise<JobId> {
    const id = newId('job');
    const values = { steps: steps as unknown as JsonObject[] };
    this.jobs.set(id, { id, values, attempt: 0, state: 'offered', leaseEnd: 0 });
    await this.offerAgain(id);
    return id;
  }

  async offerAgain(id: JobId, state: FakeJob['state'] = 'offered'): Promise<void> {
    const { agentId } = this.agent;
    this.job(id).state = state;
    await ensureAgentConsumer(this.connection, agentId, this.slots);
    const parts = { shard: shardOf(agentId), agent: agentId, job: id };
    await this.bus.publish(jobOffer, parts, { job_id: id, kind: 'apply' }, newId('event'));
  }

  cancel(id: JobId, order: Partial<StopOrder> = {}): void {
    const job = this.job(id);
    job.state = 'cancelling';
    const full: StopOrder = {
      job_id: id,
      attempt: job.attempt,
      code: 'cancelled',
      force: false,
      reason: 'a test',
      ...order,
    };
    this.bus.signal(jobCancel, { agent: this.agent.agentId, job: id }, full);
  }

  /** The attempt is another's from now on. */
  takeAway(id: JobId): void {
    this.job(id).attempt += 1;
  }

  job(id: JobId): FakeJob {
    const job = this.jobs.get(id);
    if (job === undefined) throw new ImsError('not_found', id);
    return job;
  }
  resultOf(id: JobId): JobResult | undefined {
    return this.results.findLast((result) => result.job_id === id);
  }
  /** `name:status` of the steps of a job, as they came. */
  stepsOf(id: JobId): string[] {
    return this.steps
      .filter((step) => step.job_id === id)
      .flatMap(({ steps }) => steps.map((step) => `${step.name}:${step.status}`));
  }
  /** The log lines of a job by number: throws on a gap or on two different lines of one number. */
  linesOf(id: JobId): string[] {
    const bySeq = new Map<number, string>();
    for (const frame of this.frames.filter((one) => one.job_id === id)) {
      for (const [i, { text }] of frame.lines.entries()) {
        const seq = frame.first_seq + i;
        const had = bySeq.get(seq);
        if (had !== undefined && had !== text) throw new Error(`line ${seq} is both ${had} and ${text}`);
        bySeq.set(seq, text);
      }
    }
    const numbers = [...bySeq.keys()].sort((a, b) => a - b);
    numbers.forEach((seq, i) => {
      if (seq !== i + 1) throw new Error(`line ${i + 1} is missing`);
    });
    return numbers.map((seq) => bySeq.get(seq) ?? '');
  }
  logEnded(id: JobId): boolean {
    return this.frames.some((frame) => frame.job_id === id && frame.last);
  }

  private onHello(hello: Hello): Promise<Welcome> {
    this.hellos.push(hello);
    const { agentId } = this.agent;
    return ensureAgentConsumer(this.connection, agentId, this.slots).then(() => ({
      nats_jwt: 'unused',
      nats_jwt_expires_at: new Date(Date.now() + 3_600_000).toISOString(),
      slots: this.slots,
      job_keys: [this.jobKey.publicKey],
      vendor_keys: [],
      server_time: new Date().toISOString(),
      ...this.welcome(),
    }));
  }

  /** Lifts every hold: the agent checks each job anew. */
  private async onPolicy(policy: JsonObject): Promise<{ lifted: number }> {
    this.policies.push(policy);
    const held = [...this.jobs.values()].filter(({ state }) => state === 'held');
    for (const { id } of held) await this.offerAgain(id);
    return { lifted: held.length };
  }

  private onClaim(claim: Claim): Grant {
    this.claims.push(claim);
    const job = this.job(claim.job_id);
    if (job.state === 'running' && job.session === claim.session_id) return this.grant(job);
    if (job.state !== 'offered') throw new ImsError('job_not_claimable');
    job.attempt += 1;
    job.session = claim.session_id;
    job.state = 'running';
    return this.grant(job);
  }

  private onResume(resume: Resume): Grant {
    this.resumes.push(resume);
    const job = this.job(resume.job_id);
    const stands = job.attempt === resume.attempt && job.state === 'running' && job.leaseEnd > performance.now();
    if (!stands) throw new ImsError('stale_attempt');
    job.session = resume.session_id;
    return this.grant(job);
  }

  private onRenew(renew: Renew): Renewed | undefined {
    this.renewals.push(renew);
    if (this.muteRenewals) return undefined;
    const stop: StopOrder[] = [];
    for (const held of renew.leases) {
      const job = this.job(held.job_id);
      const base = { ...held, force: false, reason: '' };
      if (job.attempt !== held.attempt || job.session !== renew.session_id)
        stop.push({ ...base, code: 'stale_attempt' });
      else if (job.state === 'cancelling') stop.push({ ...base, code: 'cancelled' });
      job.leaseEnd = performance.now() + this.leaseMs;
    }
    return { lease_ms: this.leaseMs, stop };
  }

  private onResult(result: JobResult): void {
    this.results.push(result);
    const job = this.job(result.job_id);
    const accepted = job.attempt === result.attempt;
    // As if the result had been lost: nothing of it is known, and no receipt comes.
    if (this.dropReceipts-- > 0) return;
    if (accepted) job.state = result.outcome === 'deferred' ? 'held' : 'ended';
    const ids = { job_id: result.job_id, attempt: result.attempt };
    const receipt = { ...ids, accepted, ...(accepted ? {} : { code: 'stale_attempt' }) };
    this.bus.signal(jobReceipt, { agent: this.agent.agentId, job: result.job_id }, receipt);
  }

  private grant(job: FakeJob): Grant {
    const agent = this.agent;
    job.leaseEnd = performance.now() + this.leaseMs;
    const statement: JobStatement = {
      job_id: job.id,
      attempt: job.attempt,
      kind: 'apply',
      vendor_id: agent.vendorId,
      agent_id: agent.agentId,
      agent_key: agent.publicKey,
      install_id: agent.installId,
      app_name: 'shop',
      component: { id: newId('component'), name: 'db', kind: 'job' },
      spec: { kind: 'job', values: job.values },
      repository: 'acme/shop/db',
      issued_at: new Date().toISOString(),
      expires_at: new Date(Date.now() + 3_600_000).toISOString(),
    };
    const envelope = signEnvelope(PAYLOAD_TYPES.job, this.forge(statement), this.jobKey);
    return { attempt: job.attempt, lease_ms: this.leaseMs, statement: this.forgeEnvelope(envelope) };
  }

  private serve<B extends object, R extends object>(
    contract: Call<B, R>,
    answer: (body: B) => R | undefined | Promise<R | undefined>,
  ): void {
    const subscription = this.connection.subscribe(subjectFilter(contract), {
      callback: (_, message) => {
        void (async () => {
          try {
            const value = await answer(message.json<B>());
            if (value !== undefined) message.respond(JSON.stringify({ ok: true, value }));
          } catch (thrown) {
            message.respond(JSON.stringify({ ok: false, error: ImsError.of(thrown).toWire() }));
          }
        })();
      },
    });
    this.stops.push(() => subscription.unsubscribe());
  }

  private async consume(
    stream: string,
    durable: string,
    take: (contract: string, body: unknown) => void,
  ): Promise<void> {
    const consumer = await jetstream(this.connection).consumers.get(stream, durable);
    const messages = await consumer.consume();
    this.consumers.push(messages);
    void (async () => {
      for await (const message of messages) {
        take(message.headers?.get(HEADERS.contract) ?? '', message.json());
        message.ack();
      }
    })().catch(() => undefined);
  }

  /** What still waits for the agent. */
  async pendingOffers(): Promise<number> {
    const { stream, consumer } = offersOf(this.agent.agentId);
    const info = await (await jetstream(this.connection).jetstreamManager()).consumers.info(stream, consumer);
    return info.num_pending + info.num_ack_pending;
  }
}
