import { join } from 'node:path';
import {
  ImsError,
  claimJob,
  jobCancel,
  jobReceipt,
  reportPlan,
  resumeJob,
  type Grant,
  type JobId,
  type JobKind,
  type JobResult,
  type JobStatement,
  type PlanSummary,
  type PlanVerdict,
  type Receipt,
} from '#contracts';
import { type Bus } from '#messaging';
import { backoffMs, createLogger, newContext, runInContext, sleep, type RequestContext } from '#platform';
import { AttemptRun, reportAgain, STOP_TIMES, type StopTimes } from './attempt.js';
import { type JobHandler } from './handler.js';
import { type Identity } from './identity.js';
import { type AttemptJournal, type Journal } from './journal.js';
import { LEASE_TIMES, Leases, type Lease, type LeaseTimes } from './leases.js';
import { type LogShipper } from './log-shipper.js';
import { Offers, type Offer } from './offers.js';
import { AttemptGate } from './policy-attempt.js';
import { type CustomerGate } from './policy-gate.js';
import { AttemptReports, type ReportsOptions } from './reports.js';
import { readStatement } from './statement.js';
import { LeaseFile, type Workspaces } from './workspace.js';

export interface JobLoopOptions {
  readonly identity: Identity;
  readonly bus: Bus;
  readonly sessionId: string;
  readonly slots: number;
  readonly handlers: readonly JobHandler[];
  readonly journal: Journal;
  readonly shipper: LogShipper;
  readonly workspaces: Workspaces;
  /** Where the lease files are. */
  readonly runDir: string;
  /** The consumer is gone: a hello makes it again. */
  readonly onConsumerLost: () => Promise<void>;
  readonly leaseTimes?: LeaseTimes;
  readonly stopTimes?: StopTimes;
  readonly resultResendMs?: number;
  /** The customer's say over this agent; a build agent has none. */
  readonly gate?: CustomerGate;
}

/** What the loop holds of one attempt, from the grant to the receipt. */
interface Held {
  readonly jobId: JobId;
  readonly attempt: number;
  readonly journal: AttemptJournal;
  readonly reports: AttemptReports;
  run?: AttemptRun;
  lease?: Lease;
}

/** A plan that the scheduler does not take within this time fails the attempt, to be tried again. */
const PLAN_REPORT_MS = 60_000;
/** An offer whose claim was not answered comes back after this time. */
const CLAIM_AGAIN_MS = 500;
const logger = createLogger('job-loop');

/** What an attempt sends and logs belongs to the trace in which its job was asked for. */
const traceOf = ({ traceparent }: Grant): RequestContext => newContext(undefined, traceparent);

/** The one loop of both agents: offer, claim, steps, result, receipt. */
export class JobLoop {
  private readonly held = new Map<string, Held>();
  private readonly claiming = new Set<JobId>();
  /** The attempt of a job that this process has stopped without a word: its lease was over, or nearly. */
  private readonly givenUp = new Map<JobId, number>();
  private readonly handlers: ReadonlyMap<JobKind, JobHandler>;
  private readonly leases: Leases;
  private readonly intake = new AbortController();
  private readonly over = new AbortController();
  private readonly subscriptions: { stop(): void }[] = [];
  private busy = 0;
  private leaving = false;
  private slotFree: () => void = () => undefined;
  private pulling: Promise<void> = Promise.resolve();

  constructor(private readonly options: JobLoopOptions) {
    this.handlers = new Map(options.handlers.map((handler) => [handler.kind, handler]));
    const { bus, identity, sessionId, leaseTimes = LEASE_TIMES } = options;
    this.leases = new Leases(bus, identity.agentId, sessionId, leaseTimes);
    if (options.gate !== undefined) options.gate.onChange = () => this.slotFree();
  }

  /** Attempts whose work is going on. */
  get running(): number {
    return this.busy;
  }

  /** Takes up what the journal holds, then takes offers. Returns at once. */
  start(): void {
    const { bus, identity, journal } = this.options;
    const parts = { agent: identity.agentId };
    this.subscriptions.push(
      bus.onSignal(jobReceipt, parts, (receipt) => this.onReceipt(receipt)),
      bus.onSignal(jobCancel, parts, (order) => {
        this.held.get(keyOf(order.job_id, order.attempt))?.lease?.stop(order);
      }),
    );
    this.leases.start();
    for (const entry of journal.entries()) {
      if (entry.result === undefined) void this.inSlot(() => this.resume(entry));
      else {
        const held = this.hold(entry);
        reportAgain(entry, held.reports);
        void this.report(held, entry.result);
      }
    }
    this.pulling = this.pull();
  }

  /** After a reconnect: the time without a connection has eaten from the leases. */
  reconnected(): void {
    void this.leases.renew();
  }

  /**
   * Stops taking offers and waits up to `finishMs` for what runs. What is not done then gets the polite signals and
   * stays in the journal for the next start; nothing of it runs when this resolves.
   */
  async drain(finishMs: number): Promise<void> {
    this.intake.abort();
    this.slotFree();
    await this.pulling;
    await this.idle(finishMs);
    this.leaving = true;
    for (const held of this.held.values()) held.run?.leave();
    await this.idle();
    // A receipt may be on its way; without it the next start sends the result again.
    const receipts = [...this.held.values()].filter((held) => held.journal.result !== undefined);
    await Promise.race([Promise.all(receipts.map((held) => held.reports.receipt)), sleep(1_000, this.over.signal)]);
    this.over.abort();
    for (const held of this.held.values()) held.reports.abandon();
    this.leases.stop();
    for (const subscription of this.subscriptions) subscription.stop();
  }

  private get slots(): number {
    const { gate, slots } = this.options;
    return Math.min(slots, gate?.slots ?? slots);
  }

  private async pull(): Promise<void> {
    const { bus, identity, onConsumerLost } = this.options;
    const offers = new Offers(bus.connection, identity.agentId);
    const { signal } = this.intake;
    for (let failures = 0; !signal.aborted;) {
      if (this.busy >= this.slots) {
        await this.waitForSlot();
        continue;
      }
      try {
        const offer = await offers.next(signal);
        failures = 0;
        if (offer !== undefined) void this.inSlot(() => this.take(offer));
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        const message = error instanceof Error ? error.message : 'failed';
        if (failures === 1 || failures % 20 === 0) logger.warn({ failures, message }, 'no offers can be pulled');
        // The first failure is often only the reconnect itself.
        if (failures > 1) await onConsumerLost().catch((fault: unknown) => logger.warn({ err: fault }, 'hello failed'));
        await sleep(backoffMs(failures, { baseMs: 100, maxMs: 5_000 }), signal);
      }
    }
  }

  /** Runs something that counts as a job. It does not throw. */
  private async inSlot(work: () => Promise<void>): Promise<void> {
    this.busy += 1;
    try {
      await work();
    } catch (error) {
      logger.error({ err: error }, 'an attempt ended in a way that was not expected');
    } finally {
      this.busy -= 1;
      this.slotFree();
    }
  }

  private waitForSlot(): Promise<void> {
    return new Promise((resolve) => {
      this.slotFree = resolve;
      if (this.intake.signal.aborted) resolve();
    });
  }

  private async idle(withinMs = Infinity): Promise<void> {
    const limit = new AbortController();
    const timer = withinMs === Infinity ? undefined : setTimeout(() => limit.abort(), withinMs);
    const late = new Promise<void>((resolve) => {
      limit.signal.addEventListener('abort', () => resolve(), { once: true });
    });
    while (this.busy > 0 && !limit.signal.aborted) {
      await Promise.race([new Promise<void>((resolve) => (this.slotFree = resolve)), late]);
    }
    clearTimeout(timer);
  }

  private async take(offer: Offer): Promise<void> {
    const { bus, identity, sessionId } = this.options;
    const { jobId } = offer;
    // Offered again while it is being claimed, or while it runs here (an acknowledgement was lost).
    if (this.claiming.has(jobId)) {
      offer.done();
      return;
    }
    this.claiming.add(jobId);
    try {
      const sentAt = performance.now();
      let grant: Grant;
      try {
        grant = await bus.call(claimJob, { job_id: jobId, session_id: sessionId }, { agent: identity.agentId });
      } catch (thrown) {
        const error = ImsError.of(thrown);
        logger.info({ job_id: jobId, code: error.code, detail: error.detail }, 'the claim was not granted');
        if (error.entry.retry === 'retry') offer.later(CLAIM_AGAIN_MS);
        else offer.done();
        return;
      }
      offer.done();
      // The scheduler has not noticed yet that the lease ended, and takes this claim for one whose reply was lost. To
      // call it a replay would fail the job; the next attempt is granted when this one counts as lost.
      if (this.givenUp.get(jobId) === grant.attempt) return;
      this.givenUp.delete(jobId);
      if (this.held.has(keyOf(jobId, grant.attempt))) return;
      await runInContext(traceOf(grant), () => this.begin(jobId, grant, sentAt));
    } finally {
      this.claiming.delete(jobId);
    }
  }

  private async begin(jobId: JobId, grant: Grant, sentAt: number): Promise<void> {
    const { journal } = this.options;
    const statement = this.read(jobId, grant, journal.lastAttempt(jobId) + 1);
    const trusted = !(statement instanceof ImsError);
    const held = this.hold(await journal.begin(jobId, grant.attempt, grant.statement, trusted));
    await this.execute(held, statement, grant, sentAt);
  }

  /** Goes on with an attempt of an earlier life, if it is still this agent's. */
  private async resume(entry: AttemptJournal): Promise<void> {
    const { bus, identity, sessionId } = this.options;
    const held = this.hold(entry);
    const request = { job_id: entry.jobId, attempt: entry.attempt, session_id: sessionId };
    for (let tries = 1; !this.over.signal.aborted && !this.intake.signal.aborted; tries++) {
      const sentAt = performance.now();
      try {
        const grant = await bus.call(resumeJob, request, { agent: identity.agentId });
        const statement = this.read(entry.jobId, grant, entry.attempt);
        await entry.granted(grant.statement);
        logger.info({ ...request, steps_done: entry.steps.filter(({ done }) => done).length }, 'an attempt is resumed');
        await runInContext(traceOf(grant), () => this.execute(held, statement, grant, sentAt));
        return;
      } catch (thrown) {
        const error = ImsError.of(thrown);
        if (error.entry.retry !== 'retry') {
          logger.info({ ...request, code: error.code, detail: error.detail }, 'an attempt is not resumed');
          if (error.code !== 'cancelled') await this.drop(held);
          // Its process groups were killed before this start went on: that is the proof.
          else await this.finish(held, { ...request, outcome: 'cancelled', error: error.toWire(), result: {} });
          return;
        }
        await sleep(backoffMs(tries, { baseMs: 100, maxMs: 2_000 }), this.intake.signal);
      }
    }
  }

  /** The statement, or the refusal of it, which `execute` reports as the result of the attempt. */
  private read(jobId: JobId, grant: Grant, minAttempt: number): JobStatement | ImsError {
    const { enrolment, publicKey } = this.options.identity;
    try {
      return readStatement(grant, { jobId, enrolment, publicKey, minAttempt, now: new Date() });
    } catch (thrown) {
      return ImsError.of(thrown);
    }
  }

  private async execute(held: Held, statement: JobStatement | ImsError, grant: Grant, sentAt: number): Promise<void> {
    const { gate, shipper, workspaces, sessionId, runDir, stopTimes = STOP_TIMES } = this.options;
    const { jobId, attempt, journal, reports } = held;
    const log = shipper.of(jobId, attempt);
    if (statement instanceof ImsError) {
      logger.error({ job_id: jobId, attempt, detail: statement.detail }, 'a job statement is refused');
      log.write('error', '', `${statement.code}: ${statement.detail}`);
      await gate?.statementRefused(jobId, attempt, grant.statement, statement.detail);
      const ids = { job_id: jobId, attempt, session_id: sessionId };
      return this.finish(held, { ...ids, outcome: 'failed', error: statement.toWire(), result: {} });
    }
    const leaseFile = new LeaseFile(join(runDir, `${keyOf(jobId, attempt)}.lease`));
    const run = new AttemptRun({
      statement,
      envelope: grant.statement,
      sessionId,
      handlers: this.handlers,
      journal,
      reports,
      log,
      leaseFile,
      openWorkspace: () => workspaces.open(jobId, attempt),
      stopTimes,
      submitPlan: (plan, signal) => this.submitPlan(held, plan, signal),
      ...(gate === undefined ? {} : { gate: new AttemptGate(gate, statement, grant.statement) }),
    });
    held.run = run;
    // Granted just when the agent began to stop.
    if (this.leaving) run.leave();
    held.lease = this.leases.hold({ jobId, attempt, file: leaseFile }, run, sentAt, grant.lease_ms);
    const end = await run.run(held.lease);
    await leaseFile.remove();
    if (end.how === 'result') await this.finish(held, end.result, true);
    else if (end.how === 'dropped') await this.drop(held);
    else {
      this.leases.release(held.lease);
      log.flush();
      await journal.close();
    }
  }

  /** Until the scheduler has answered: nothing is done before it has the plan. */
  private async submitPlan({ jobId, attempt }: Held, plan: PlanSummary, signal: AbortSignal): Promise<PlanVerdict> {
    const { bus, identity, sessionId } = this.options;
    const report = { job_id: jobId, attempt, session_id: sessionId, plan };
    const until = performance.now() + PLAN_REPORT_MS;
    for (let tries = 1; ; tries++) {
      try {
        return await bus.call(reportPlan, report, { agent: identity.agentId });
      } catch (thrown) {
        const error = ImsError.of(thrown);
        if (error.entry.retry !== 'retry' || performance.now() > until) throw error;
        await sleep(backoffMs(tries, { baseMs: 100, maxMs: 2_000 }), signal);
        signal.throwIfAborted();
      }
    }
  }

  /** The result is on disk (or will be) before it is sent; the slot is free while the receipt is awaited. */
  private async finish(held: Held, result: JobResult, journalled = false): Promise<void> {
    held.lease?.workOver();
    if (!journalled) await held.journal.resultReady(result);
    this.options.shipper.of(held.jobId, held.attempt).end();
    void this.report(held, result);
  }

  private async report(held: Held, result: JobResult): Promise<void> {
    held.reports.result(result);
    const receipt = await held.reports.receipt;
    if (receipt === undefined) return;
    if (!receipt.accepted) logger.warn({ ...receipt }, 'the result was refused');
    await this.forget(held);
    if (result.outcome === 'deferred') this.options.gate?.deferralSettled(held.jobId);
  }

  /** Another's now: nothing is said. */
  private async drop(held: Held): Promise<void> {
    this.givenUp.set(held.jobId, held.attempt);
    held.reports.abandon();
    this.options.shipper.of(held.jobId, held.attempt).end();
    await this.forget(held);
  }

  private async forget(held: Held): Promise<void> {
    if (held.lease !== undefined) this.leases.release(held.lease);
    this.held.delete(keyOf(held.jobId, held.attempt));
    try {
      await this.options.journal.drop(held.journal);
      await this.options.workspaces.remove(held.jobId, held.attempt);
    } catch (error) {
      // Swept at the next start.
      logger.warn({ job_id: held.jobId, err: error }, 'what an attempt left could not be removed');
    }
  }

  private hold(journal: AttemptJournal): Held {
    const { jobId, attempt } = journal;
    const { bus, identity, sessionId, resultResendMs } = this.options;
    const reporting: ReportsOptions = {
      agentId: identity.agentId,
      sessionId,
      ...(resultResendMs === undefined ? {} : { resendMs: resultResendMs }),
    };
    const held: Held = { jobId, attempt, journal, reports: new AttemptReports(bus, reporting, jobId, attempt) };
    this.held.set(keyOf(jobId, attempt), held);
    return held;
  }

  private onReceipt(receipt: Receipt): void {
    const held = this.held.get(keyOf(receipt.job_id, receipt.attempt));
    // Without a result of ours there is nothing that a receipt could be about.
    if (held?.journal.result !== undefined) held.reports.settle(receipt);
  }
}

const keyOf = (jobId: string, attempt: number): string => `${jobId}.${attempt}`;
