import { performance } from 'node:perf_hooks';
import { ImsError, LIMITS, agentBeat, renewLeases, type JobId, type StopOrder } from '#contracts';
import { selfFenceAt } from '#domain';
import { type Bus } from '#messaging';
import { createLogger } from '#platform';
import { type LeaseFile } from './workspace.js';

export interface LeaseTimes {
  readonly beatMs: number;
  /** So long before the end of a lease its process groups are killed. */
  readonly marginMs: number;
}
export const LEASE_TIMES: LeaseTimes = { beatMs: LIMITS.beatMs, marginMs: LIMITS.selfFenceMarginMs };

/** Who holds a lease. */
export interface LeaseHolder {
  /** The lease is nearly over and was not renewed: stop everything now, report nothing. */
  fence(): void;
  stop(order: StopOrder): void;
}

const logger = createLogger('leases');

/**
 * The right to work on one attempt until a moment of this host's monotonic clock. Measured from before the request was
 * sent: the scheduler's own end of the lease is always later than ours.
 */
export class Lease {
  private timer: NodeJS.Timeout | undefined;
  private fenceAt = 0;
  private released = false;
  private working = true;

  constructor(
    readonly jobId: JobId,
    readonly attempt: number,
    private readonly holder: LeaseHolder,
    private readonly marginMs: number,
    private readonly file?: LeaseFile,
  ) {}

  /** False when the work has to be over, also when the timer that says so is late (this process was stopped). */
  get live(): boolean {
    return !this.released && performance.now() < this.fenceAt;
  }

  extend(sentAt: number, leaseMs: number): void {
    const fenceAt = selfFenceAt(sentAt, leaseMs, this.marginMs);
    if (this.released || fenceAt <= this.fenceAt) return;
    this.fenceAt = fenceAt;
    const left = Math.ceil(fenceAt - performance.now());
    if (!this.working) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.expire(), left);
    // A failed write leaves an earlier end in the file: the groups die too early, never too late.
    // A little after our own fence, so that this process is the one to act when it can: with 2 s of margin the keeper
    // comes at 0.5 s to 1 s after it, and the lease still stands for a second.
    this.file
      ?.write(left + this.marginMs / 4)
      .catch((error: unknown) => logger.warn({ err: error }, 'the lease file cannot be written'));
  }

  stop(order: StopOrder): void {
    if (this.working) this.holder.stop(order);
  }

  /** The work has ended and its result waits for the receipt: the lease is still renewed, but there is nothing to stop. */
  workOver(): void {
    this.working = false;
    clearTimeout(this.timer);
  }

  release(): void {
    this.released = true;
    this.workOver();
  }

  private expire(): void {
    if (this.released || !this.working) return;
    // Timers fire up to a millisecond early: a look that finds the lease live must be followed by another one.
    if (this.live) {
      this.timer = setTimeout(() => this.expire(), Math.ceil(this.fenceAt - performance.now()));
      return;
    }
    logger.error({ job_id: this.jobId, attempt: this.attempt }, 'the lease was not renewed in time: work is stopped');
    this.holder.fence();
  }
}

/** Renews all leases of this agent with one message each beat, and says that the agent lives. */
export class Leases {
  private readonly held = new Set<Lease>();
  private beat: NodeJS.Timeout | undefined;
  private retry: NodeJS.Timeout | undefined;
  private renewing = true;

  constructor(
    private readonly bus: Bus,
    private readonly agentId: string,
    private readonly sessionId: string,
    private readonly times: LeaseTimes = LEASE_TIMES,
  ) {}

  start(): void {
    const tick = (): void => {
      this.bus.signal(agentBeat, { agent: this.agentId }, { session_id: this.sessionId, running: this.held.size });
      void this.renew();
    };
    tick();
    this.beat = setInterval(tick, this.times.beatMs);
  }

  stop(): void {
    clearInterval(this.beat);
    clearTimeout(this.retry);
    for (const lease of this.held) lease.release();
    this.held.clear();
  }

  /** `sentAt`: performance.now() before the request that got the lease was sent. */
  hold(
    held: { readonly jobId: JobId; readonly attempt: number; readonly file?: LeaseFile },
    holder: LeaseHolder,
    sentAt: number,
    leaseMs: number,
  ): Lease {
    const lease = new Lease(held.jobId, held.attempt, holder, this.times.marginMs, held.file);
    lease.extend(sentAt, leaseMs);
    this.held.add(lease);
    return lease;
  }

  release(lease: Lease): void {
    lease.release();
    this.held.delete(lease);
  }

  /** Asks at once, for example after a reconnect. Failures are tried again until the next beat takes over. */
  async renew(): Promise<void> {
    clearTimeout(this.retry);
    const asked = [...this.held];
    if (asked.length === 0) return;
    const sentAt = performance.now();
    // Half a beat: a lost message must not use up the time in which two more could be sent.
    const contract = { ...renewLeases, timeoutMs: Math.max(250, Math.floor(this.times.beatMs / 2)) };
    try {
      const leases = asked.map(({ jobId, attempt }) => ({ job_id: jobId, attempt }));
      const renewed = await this.bus.call(contract, { session_id: this.sessionId, leases }, { agent: this.agentId });
      this.renewing = true;
      for (const lease of asked) {
        const order = renewed.stop.find((stop) => stop.job_id === lease.jobId && stop.attempt === lease.attempt);
        // A cancelled attempt keeps its lease while it stops in order; the next renewal says so again.
        if (order === undefined || order.code === 'cancelled') lease.extend(sentAt, renewed.lease_ms);
        if (order !== undefined) lease.stop(order);
      }
    } catch (error) {
      const { code, detail } = ImsError.of(error);
      // Once for each outage; that it is serious is said when a lease ends.
      logger[this.renewing ? 'warn' : 'debug']({ code, detail, leases: asked.length }, 'leases could not be renewed');
      this.renewing = false;
      this.retry = setTimeout(() => void this.renew(), Math.min(500, this.times.beatMs / 4));
    }
  }
}
