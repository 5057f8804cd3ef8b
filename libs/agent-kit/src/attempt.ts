import {
  ImsError,
  LIMITS,
  type Envelope,
  type JobKind,
  type JobResult,
  type JobStatement,
  type JsonObject,
  type PlanSummary,
  type PlanVerdict,
  type Problem,
  type Step,
  type StopOrder,
} from '#contracts';
import { cleanedChanges, planSummary } from '#domain';
import { createLogger, describeError } from '#platform';
import { type JobHandler, type StepCommand, type StepContext, type StepDefinition } from './handler.js';
import { type AttemptJournal, type JudgedPlan } from './journal.js';
import { type Lease, type LeaseHolder } from './leases.js';
import { type AttemptLog } from './log-shipper.js';
import { Processes, type CommandResult } from './processes.js';
import { type AttemptReports } from './reports.js';
import { type AttemptGate, Deferral, type ProposedPlan } from './policy-attempt.js';
import { type LeaseFile } from './workspace.js';

export interface StopTimes {
  readonly cancelSigtermMs: number;
  readonly cancelSigkillMs: number;
}
export const STOP_TIMES: StopTimes = {
  cancelSigtermMs: LIMITS.cancelSigtermMs,
  cancelSigkillMs: LIMITS.cancelSigkillMs,
};
/** A step that does not end this long after its process groups were killed is not waited for. */
const STEP_END_MS = 1_000;
const RESULT_BYTES_MAX = 250 * 1024;
const STEP_DETAIL_BYTES_MAX = 16 * 1024;

export interface AttemptDeps {
  readonly statement: JobStatement;
  readonly envelope: Envelope;
  readonly sessionId: string;
  readonly handlers: ReadonlyMap<JobKind, JobHandler>;
  readonly journal: AttemptJournal;
  readonly reports: AttemptReports;
  readonly log: AttemptLog;
  readonly leaseFile: LeaseFile;
  readonly openWorkspace: () => Promise<string>;
  readonly stopTimes: StopTimes;
  /** The customer's say; a build agent has none. */
  readonly gate?: AttemptGate;
  /** Tells the scheduler what the attempt would do, and asks whether it may. */
  readonly submitPlan: (plan: PlanSummary, signal: AbortSignal) => Promise<PlanVerdict>;
}

/** `result`: journalled, to be sent. `dropped`: another's now, nothing is said. `left`: to be resumed by the next start. */
export type AttemptEnd = { readonly how: 'result'; readonly result: JobResult } | { readonly how: 'dropped' | 'left' };

const logger = createLogger('attempt');

/** One attempt, from the first step that is not done to its end. */
export class AttemptRun implements LeaseHolder {
  private readonly abort = new AbortController();
  private readonly outputs: Record<string, JsonObject> = {};
  private processes: Processes | undefined;
  private ending: 'report' | 'drop' | 'leave' = 'report';
  private lease: Lease | undefined;
  /** What the last step proposed, not yet permitted. */
  private proposed: JudgedPlan | undefined;
  private current: { step: StepDefinition; startedAt: string; from: number; toolMs: number } | undefined;

  constructor(private readonly deps: AttemptDeps) {}

  /** Runs the steps and resolves when nothing of the attempt runs any more: no process group, no promise of ours. */
  async run(lease: Lease): Promise<AttemptEnd> {
    this.lease = lease;
    const { gate } = this.deps;
    const timer = this.limit();
    const result = await this.outcome();
    clearTimeout(timer);
    await this.processes?.dispose();
    // Fenced while the last step ended: whether the lease stood then is not known, so nothing is said.
    const how = this.ending === 'leave' ? 'left' : this.ending === 'drop' || !lease.live ? 'dropped' : undefined;
    try {
      await (how === undefined ? gate?.ended(result) : gate?.left(how));
    } catch (error) {
      // What was done is done: the scheduler has to know it, although the customer's disk is full.
      logger.error({ err: error, job_id: result.job_id }, 'the end of an attempt is not on the customer’s record');
    }
    if (how !== undefined) return { how };
    try {
      await this.deps.journal.resultReady(result);
    } catch (error) {
      // A full disk: the result is sent from memory, and the attempt is lost only if this process ends before that.
      logger.error({ err: error, job_id: result.job_id }, 'the result could not be journalled');
    }
    return { how: 'result', result };
  }

  fence(): void {
    this.end('drop', new ImsError('lease_expired', 'the lease was not renewed in time'), true);
  }

  stop(order: StopOrder): void {
    const reason = order.reason === '' ? undefined : order.reason;
    if (order.code === 'stale_attempt') this.end('drop', new ImsError('stale_attempt', reason), true);
    else this.end('report', new ImsError('cancelled', reason), order.force);
  }

  /** The agent stops: programs get the polite signals, the attempt stays in the journal. */
  leave(): void {
    this.end('leave', new ImsError('unavailable', 'the agent is stopping'), false);
  }

  private end(ending: 'report' | 'drop' | 'leave', reason: ImsError, force: boolean): void {
    // Once dropped, always dropped. Else the first word counts: a cancel that comes while the agent stops is said again
    // by the renewal after the restart, and an attempt that is being cancelled reports that before the agent leaves.
    if (ending === 'drop' || !this.abort.signal.aborted) this.ending = ending;
    if (!this.abort.signal.aborted) this.abort.abort(reason);
    if (force) this.processes?.killNow();
  }

  private async outcome(): Promise<JobResult> {
    const { statement, sessionId } = this.deps;
    const base = { job_id: statement.job_id, attempt: statement.attempt, session_id: sessionId };
    try {
      const result = await this.work();
      return { ...base, outcome: 'succeeded', result };
    } catch (thrown) {
      if (thrown instanceof Deferral && !this.abort.signal.aborted) {
        this.deps.log.write('warn', '', `${thrown.hold.code}: ${thrown.hold.detail}`);
        return { ...base, outcome: 'deferred', hold: thrown.hold, result: {} };
      }
      // The keeper came first, or this process was stopped: what looks like a failed program is a lease that ended.
      const leaseOver = thrown instanceof ImsError && thrown.code === 'lease_expired';
      if (leaseOver || this.lease?.live !== true) this.fence();
      const error = this.problemOf(thrown);
      this.deps.log.write('error', this.current?.step.name ?? '', `${error.code}: ${error.detail}`);
      if (this.ending === 'report') this.report('failed', { code: error.code });
      const cancelled = this.abort.signal.aborted && error.code === 'cancelled';
      return { ...base, outcome: cancelled ? 'cancelled' : 'failed', error, result: {} };
    }
  }

  private async work(): Promise<JsonObject> {
    const { gate, journal, statement, handlers, stopTimes, leaseFile } = this.deps;
    const handler = handlers.get(statement.kind);
    if (handler === undefined)
      throw new ImsError('agent_error', `this agent has no handler for ${statement.kind} jobs`);
    await gate?.begin({ resumed: journal.steps.length > 0, plans: handler.plans === true });
    const workspace = await this.deps.openWorkspace();
    this.processes = new Processes({
      home: workspace,
      leaseFile: leaseFile.path,
      ...stopTimes,
      onStart: (mark) => this.note(this.deps.journal.groupStarted(mark)),
      onEnd: (mark) => this.note(this.deps.journal.groupEnded(mark.pgid)),
    });
    const steps = await handler.steps(statement);
    const names = new Set(steps.map(({ name }) => name));
    if (names.size !== steps.length)
      throw new ImsError('agent_error', `the ${handler.kind} handler repeats a step name`);
    for (const step of steps) {
      await this.permit(step);
      await this.step(step, workspace);
    }
    const { result } = handler.result(this.outputs);
    const bytes = Buffer.byteLength(JSON.stringify(result));
    if (bytes > RESULT_BYTES_MAX) throw new ImsError('agent_error', `the result has ${bytes} bytes, too many to send`);
    return result;
  }

  /** A stop of its own, when the customer limits how long an attempt may take. */
  private limit(): NodeJS.Timeout | undefined {
    const { attemptMs, logBytes } = this.deps.gate ?? {};
    if (logBytes !== undefined) this.deps.log.limit(logBytes);
    if (attemptMs === undefined) return undefined;
    const detail = `the customer's policy gives an attempt ${attemptMs / 60_000} minutes (limits.attempt_minutes)`;
    return setTimeout(() => this.end('report', new ImsError('timed_out', detail), false), attemptMs);
  }

  /**
   * Asks the customer's policy about what was proposed, once the vendor has nothing against it. A step that had begun
   * before a crash is not asked about again.
   */
  private async permit(step: StepDefinition): Promise<void> {
    const { proposed } = this;
    this.proposed = undefined;
    if (proposed === undefined || this.deps.journal.step(step.name) !== undefined) return;
    this.abort.signal.throwIfAborted();
    const { verdict, ...plan } = proposed;
    if (verdict?.decision === 'refuse') throw new ImsError('plan_rejected', verdict.detail);
    if (verdict?.hold !== undefined) throw new Deferral(verdict.hold);
    await this.deps.gate?.permit(plan, verdict?.ask_customer);
  }

  private async step(step: StepDefinition, workspace: string): Promise<void> {
    const { journal } = this.deps;
    const before = journal.step(step.name);
    if (before?.done !== undefined) {
      this.outputs[step.name] = before.done.output ?? {};
      this.proposed = before.done.plan;
      reportAgain(journal, this.deps.reports, step.name);
      return;
    }
    this.abort.signal.throwIfAborted();
    if (this.lease?.live !== true) this.fence();
    this.abort.signal.throwIfAborted();
    const current = { step, startedAt: new Date().toISOString(), from: performance.now(), toolMs: 0 };
    this.current = current;
    await journal.stepStarted(step.name, current.startedAt);
    this.report('started');
    const running = step.run(this.context(workspace, before !== undefined)) as Promise<JsonObject | undefined>;
    const output = await this.untilEnd(running);
    const done = { durationMs: Math.round(performance.now() - current.from), toolMs: Math.round(current.toolMs) };
    const plan = this.proposed;
    await journal.stepDone(step.name, {
      ...done,
      ...(output === undefined ? {} : { output }),
      ...(plan === undefined ? {} : { plan }),
    });
    this.outputs[step.name] = output ?? {};
    this.report('done', output);
    this.current = undefined;
  }

  private context(workspace: string, crashed: boolean): StepContext {
    const { statement, envelope, log } = this.deps;
    const current = this.current;
    const name = current?.step.name ?? '';
    return {
      statement,
      envelope,
      attempt: statement.attempt,
      workspace,
      signal: this.abort.signal,
      crashed,
      secrets: { add: (value) => log.redactor.add(value), hide: (text) => log.redactor.redact(text) },
      log: (level, text) => log.write(level, name, text),
      outputOf: (step) => this.outputs[step],
      propose: (plan) => this.propose(plan),
      run: async (command) => {
        const from = performance.now();
        try {
          return await this.command(command, workspace, name);
        } finally {
          if (current !== undefined) current.toolMs += performance.now() - from;
        }
      },
    };
  }

  private async propose({ text, changes, ...plan }: ProposedPlan): Promise<void> {
    const { gate, log, submitPlan } = this.deps;
    await gate?.keepPlan({ ...plan, text: log.redactor.redact(text) });
    if (changes === undefined) {
      this.proposed = plan;
      return;
    }
    // Executors hide what their tools call sensitive; a secret that shows elsewhere is taken out here.
    const clean = cleanedChanges(changes, (value) => log.redactor.redact(value));
    this.proposed = { ...plan, verdict: await submitPlan(planSummary(plan, clean), this.abort.signal) };
  }

  private async command(command: StepCommand, workspace: string, step: string): Promise<CommandResult> {
    if (this.processes === undefined) throw new ImsError('agent_error', 'a command was run outside of an attempt');
    const { log } = this.deps;
    const { level = 'info', onLine, ...spec } = command;
    return this.processes.run({
      cwd: workspace,
      ...spec,
      signal: this.abort.signal,
      onLine: (stream, line, cut) => {
        const shown = onLine === undefined ? line : onLine(line, stream);
        if (shown !== undefined) log.write(level, step, shown, cut);
      },
    });
  }

  /** The step's promise; or the abort's reason, when the step goes on after everything that it started was killed. */
  private async untilEnd<T>(step: Promise<T>): Promise<T> {
    const { signal } = this.abort;
    let timer: NodeJS.Timeout | undefined;
    let wait: () => void = () => undefined;
    const givenUp = new Promise<never>((_, reject) => {
      wait = () => {
        timer = setTimeout(() => {
          logger.error(
            { job_id: this.deps.statement.job_id, step: this.current?.step.name },
            'a step ignores its signal',
          );
          reject(signal.reason as Error);
        }, this.deps.stopTimes.cancelSigkillMs + STEP_END_MS);
      };
    });
    signal.addEventListener('abort', wait, { once: true });
    if (signal.aborted) wait();
    try {
      return await Promise.race([step, givenUp]);
    } finally {
      signal.removeEventListener('abort', wait);
      clearTimeout(timer);
    }
  }

  private problemOf(thrown: unknown): Problem {
    const reason: unknown = this.abort.signal.reason;
    const error = this.abort.signal.aborted && reason instanceof ImsError ? reason : thrown;
    if (!(error instanceof ImsError)) {
      logger.error({ job_id: this.deps.statement.job_id, step: this.current?.step.name, err: error }, 'a step threw');
    } else if (error.cause !== undefined) {
      logger.warn({ job_id: this.deps.statement.job_id, cause: describeError(error.cause) }, error.message);
    }
    const { code, detail } =
      error instanceof ImsError
        ? error
        : new ImsError('agent_error', error instanceof Error ? error.message : undefined);
    return { code, detail: this.deps.log.redactor.redact(detail).slice(0, 4000) };
  }

  private report(status: 'started' | 'done' | 'failed', detail?: JsonObject): void {
    const { current } = this;
    if (current === undefined) return;
    const { step, startedAt, from, toolMs } = current;
    const times = { durationMs: Math.round(performance.now() - from), toolMs: Math.round(toolMs) };
    this.deps.reports.step(stepOf(step.name, status, startedAt, status === 'started' ? undefined : times, detail));
  }

  /** A record about a process group that failed to be written costs the clean-up after a crash, not the job. */
  private note(written: Promise<void>): void {
    written.catch((error: unknown) => logger.warn({ err: error }, 'the journal could not be written'));
  }
}

/** Steps that an earlier life has done: their report may have been lost with it. All, or the one named. */
export function reportAgain(journal: AttemptJournal, reports: AttemptReports, only?: string): void {
  for (const { name, startedAt, done } of journal.steps) {
    if (done === undefined || (only !== undefined && only !== name)) continue;
    const { durationMs, toolMs, output } = done;
    reports.step(stepOf(name, 'done', startedAt, { durationMs, toolMs }, output));
  }
}

function stepOf(
  name: string,
  status: 'started' | 'done' | 'failed',
  startedAt: string,
  times: { durationMs: number; toolMs: number } | undefined,
  detail: JsonObject | undefined,
): Step {
  const shown = detail !== undefined && Buffer.byteLength(JSON.stringify(detail)) <= STEP_DETAIL_BYTES_MAX;
  return {
    name,
    status,
    started_at: startedAt,
    ...(times === undefined ? {} : { duration_ms: times.durationMs, tool_ms: times.toolMs }),
    ...(shown ? { detail } : {}),
  };
}
