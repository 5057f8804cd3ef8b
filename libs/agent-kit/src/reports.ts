import {
  ImsError,
  LIMITS,
  jobResult,
  jobStep,
  type JobResult,
  type JobId,
  type Receipt,
  type Step,
  type StepReport,
} from '#contracts';
import { type Bus } from '#messaging';
import { backoffMs, createLogger, sleep } from '#platform';

const logger = createLogger('reports');

export interface ReportsOptions {
  readonly agentId: string;
  readonly sessionId: string;
  readonly resendMs?: number;
  readonly retryMaxMs?: number;
  /** Steps wait this long for others to go with them. */
  readonly gatherMs?: number;
}
/**
 * A step of a few milliseconds says `started` and `done` in one message, and a quick attempt says all in its result:
 * each message costs a synced write at the broker and a commit, 12 of 14 messages of a sync and an apply are saved.
 */
const GATHER_MS = 100;

/**
 * What an attempt says to the scheduler: its steps, in order, then its result. Each is sent until JetStream has it, and
 * the result again and again until the scheduler's receipt says that it is in PostgreSQL: a stream can be lost whole.
 */
export class AttemptReports {
  private tail: Promise<void> = Promise.resolve();
  private gathered: Step[] = [];
  private timer: NodeJS.Timeout | undefined;
  private batch = 0;
  private readonly over = new AbortController();
  private answer: (receipt: Receipt | undefined) => void = () => undefined;
  /** The receipt; undefined when it was given up (the attempt is another's). */
  readonly receipt = new Promise<Receipt | undefined>((resolve) => {
    this.answer = resolve;
  });

  constructor(
    private readonly bus: Pick<Bus, 'publish'>,
    private readonly options: ReportsOptions,
    private readonly jobId: JobId,
    private readonly attempt: number,
  ) {}

  /** Returns at once. What follows within a moment goes in the same message. */
  step(step: Step): void {
    // `done` says all that `started` said.
    this.gathered = [...this.gathered.filter(({ name }) => name !== step.name), step];
    this.timer ??= setTimeout(() => this.flush(), this.options.gatherMs ?? GATHER_MS).unref();
  }

  /** Sends the result after all steps, then again each time no receipt has come. The message id differs each time: a
   * repeated id is dropped by JetStream for two minutes, and the scheduler would never see the second one. */
  result(result: JobResult): void {
    const { agentId, sessionId } = this.options;
    const id = `${this.jobId}.${this.attempt}.result.${sessionId}`;
    const steps = this.taken();
    const whole = steps.length > 0 ? { ...result, steps } : result;
    void (async () => {
      for (let sent = 1; !this.over.signal.aborted; sent++) {
        this.enqueue('result', () =>
          this.bus.publish(jobResult, { agent: agentId, job: this.jobId }, whole, `${id}.${sent}`),
        );
        await this.tail;
        await sleep(this.options.resendMs ?? LIMITS.resultResendMs, this.over.signal);
      }
    })();
  }

  /** The scheduler has the result, or refuses it for good. */
  settle(receipt: Receipt): void {
    this.answer(receipt);
    this.over.abort();
  }

  /** Says nothing more. */
  abandon(): void {
    this.taken();
    this.answer(undefined);
    this.over.abort();
  }

  /** What was given so far has been sent (or given up). */
  async sent(): Promise<void> {
    this.flush();
    await this.tail;
  }

  private flush(): void {
    const steps = this.taken();
    if (steps.length === 0) return;
    const { agentId, sessionId } = this.options;
    const report: StepReport = { job_id: this.jobId, attempt: this.attempt, session_id: sessionId, steps };
    this.batch += 1;
    const id = `${this.jobId}.${this.attempt}.steps.${sessionId}.${this.batch}`;
    this.enqueue('steps', () => this.bus.publish(jobStep, { agent: agentId, job: this.jobId }, report, id));
  }

  private taken(): Step[] {
    clearTimeout(this.timer);
    this.timer = undefined;
    const steps = this.gathered;
    this.gathered = [];
    return steps;
  }

  private enqueue(what: string, publish: () => Promise<void>): void {
    this.tail = this.tail.then(() => this.deliver(what, publish));
  }

  private async deliver(what: string, publish: () => Promise<void>): Promise<void> {
    for (let tries = 1; !this.over.signal.aborted; tries++) {
      try {
        await publish();
        return;
      } catch (error) {
        const { code, detail } = ImsError.of(error);
        if (tries === 1 || tries % 50 === 0) logger.warn({ job_id: this.jobId, what, tries, code, detail }, 'not sent');
        // No later try can make it smaller. The result carries what matters.
        if (code === 'payload_too_large') return;
        await sleep(backoffMs(tries, { baseMs: 50, maxMs: this.options.retryMaxMs ?? 2_000 }), this.over.signal);
      }
    }
  }
}
