import { type AttemptStatus, type ErrorCode, type Hold, type JobKind, type JobStatus } from '#contracts';
import { defineMachine, type Decision } from './machine.js';
import { afterFailure } from './retry.js';

/**
 * `unblocked`: all dependencies succeeded. `repeated`: an attempt is over and the job waits for the next. `withdrawn`:
 * cancelled when nothing runs; kept apart from `cancelled`, which only a running attempt can report, so that the late
 * word of a lost attempt does not end a job that is queued again. `held`, `lifted` and `hastened` change no status: a
 * hold or a delay comes on top of it. `expired`: not begun by the time that was set for it.
 */
type JobStep =
  | 'unblocked'
  | 'skipped'
  | 'granted'
  | 'repeated'
  | 'stopping'
  | 'succeeded'
  | 'failed'
  | 'cancelled'
  | 'withdrawn'
  | 'rejected'
  | 'held'
  | 'lifted'
  | 'hastened'
  | 'expired';

export const jobMachine = defineMachine<JobStatus, JobStep>({
  name: 'job',
  initial: ['blocked', 'queued'],
  finals: ['succeeded', 'failed', 'cancelled', 'skipped'],
  from: {
    blocked: {
      unblocked: 'queued',
      skipped: 'skipped',
      withdrawn: 'cancelled',
      expired: 'failed',
      held: 'blocked',
      lifted: 'blocked',
    },
    queued: {
      granted: 'running',
      skipped: 'skipped',
      withdrawn: 'cancelled',
      rejected: 'failed',
      expired: 'failed',
      held: 'queued',
      lifted: 'queued',
      hastened: 'queued',
    },
    // Held while it runs: the agent is told to stop, and the job goes back to the queue instead of ending.
    running: {
      held: 'running',
      repeated: 'queued',
      stopping: 'cancelling',
      succeeded: 'succeeded',
      failed: 'failed',
      cancelled: 'cancelled',
    },
    // A result that was on its way when the cancel came is what happened, so it counts.
    cancelling: { stopping: 'cancelling', succeeded: 'succeeded', failed: 'failed', cancelled: 'cancelled' },
    succeeded: {},
    failed: {},
    cancelled: {},
    skipped: {},
  },
});

export const attemptMachine = defineMachine<AttemptStatus, 'succeeded' | 'failed' | 'cancelled' | 'deferred' | 'lost'>({
  name: 'attempt',
  initial: ['running'],
  finals: ['succeeded', 'failed', 'cancelled', 'deferred', 'lost'],
  from: {
    running: { succeeded: 'succeeded', failed: 'failed', cancelled: 'cancelled', deferred: 'deferred', lost: 'lost' },
    succeeded: {},
    failed: {},
    cancelled: {},
    deferred: {},
    lost: {},
  },
});

export interface Fault {
  readonly code: string;
  readonly detail: string;
}
/** All that the rules need to know of a job. Times are milliseconds of the database's clock. */
export interface JobState {
  readonly kind: JobKind;
  readonly status: JobStatus;
  /** The fence: number of the latest attempt, 0 before the first. */
  readonly attempt: number;
  /** Attempts that failed. Lost ones are not counted. */
  readonly failures: number;
  /** Not to be granted before this time: when it is scheduled, or the back-off after a failed attempt. */
  readonly notBefore: number;
  /** Not to be begun after this time. A job that has begun is tried to its end. */
  readonly expiresAt?: number | undefined;
  /** A person has skipped it: what depends on it goes on as if it had succeeded. */
  readonly waived?: boolean;
  /** What keeps the job from being offered; never on a job that is being cancelled or has ended. */
  readonly hold?: Hold | undefined;
}

/** Which party may lift a hold: the customer alone, or a person at the vendor. */
export const isCustomerHold = (hold: Pick<Hold, 'code'>): boolean =>
  hold.code !== 'token_tampered' && hold.code !== 'awaiting_approval';

/**
 * A job that its agent defers to a time that is almost there is not offered before this: an agent with a wrong clock
 * would else take and give it back without end.
 */
const SHORTEST_HOLD_MS = 1_000;

export type JobEvent =
  | { readonly type: 'dependencies_succeeded' }
  | { readonly type: 'dependency_failed'; readonly fault: Fault }
  /** `barred`: why the agent may not have it now (`barOf`). */
  | { readonly type: 'claim'; readonly barred?: string | undefined }
  | {
      readonly type: 'result';
      readonly attempt: number;
      readonly outcome: 'succeeded' | 'failed' | 'cancelled';
      readonly fault?: Fault;
    }
  /** The agent gives the job back: its customer's policy, or the vendor's own, does not let it go on now. */
  | { readonly type: 'result'; readonly attempt: number; readonly outcome: 'deferred'; readonly hold: Hold }
  | { readonly type: 'lease_ended'; readonly attempt: number }
  /** A token of the job was in wrong hands: nothing of it goes on until a person says so. */
  | { readonly type: 'hold'; readonly hold: Hold }
  /** A person at the vendor lifts the hold. */
  | { readonly type: 'resume' }
  /** The vendor has said enough to the plan that the job waits with. */
  | { readonly type: 'approved' }
  | { readonly type: 'rejected'; readonly fault: Fault }
  /** The customer's hold is over: its time has come, or the agent has reported its policy since. */
  | { readonly type: 'lift'; readonly by: 'time' | 'report' }
  | { readonly type: 'cancel'; readonly force: boolean; readonly reason: string }
  /** Another job of the same singleton has come. */
  | { readonly type: 'replace'; readonly by: string }
  /** A person goes on without it. */
  | { readonly type: 'skip'; readonly reason: string }
  /** A person does not want to wait for its time. */
  | { readonly type: 'hasten' }
  /** Its time to begin is over. */
  | { readonly type: 'expire' };

/** What must be done, in the same transaction as the new state. */
export type JobEffect =
  /** Publish an offer: now, or when the back-off is over. */
  | { readonly type: 'offer'; readonly afterMs: number }
  | { readonly type: 'start_attempt'; readonly attempt: number }
  | {
      readonly type: 'end_attempt';
      readonly attempt: number;
      readonly status: Exclude<AttemptStatus, 'running'>;
      readonly fault?: Fault;
    }
  /** Tell the agent to stop. */
  | { readonly type: 'stop_agent'; readonly attempt: number; readonly force: boolean; readonly reason: string }
  /** The job is over: look at what depended on it. */
  | { readonly type: 'ended'; readonly fault?: Fault };

export type JobRefusal = Extract<ErrorCode, 'job_not_claimable' | 'stale_attempt' | 'held_by_customer' | 'conflict'>;
export type JobDecision = Decision<JobState, JobEffect, JobRefusal>;

const UNCONFIRMED: Fault = {
  code: 'lease_expired',
  detail: 'the agent did not confirm the stop; its lease has ended, before which it kills its own processes',
};
const LOST: Fault = { code: 'lease_expired', detail: 'the agent did not renew its lease in time' };

/**
 * What follows from an event, for one job. Every event gives a new state or a refusal by code: `job_not_claimable`
 * (claim), `stale_attempt` (a message of an attempt that is not the running one), `held_by_customer` (resume),
 * `conflict` (the rest).
 */
export function decideJob(state: JobState, event: JobEvent, now: number): JobDecision {
  switch (event.type) {
    case 'dependencies_succeeded':
      return step(state, 'unblocked', 'conflict', {}, offerOf(state, now));
    case 'dependency_failed':
      return step(state, 'skipped', 'conflict', {}, [{ type: 'ended', fault: event.fault }]);
    case 'claim': {
      if (event.barred !== undefined) return { refusal: 'job_not_claimable', detail: event.barred };
      if (state.hold) return { refusal: 'job_not_claimable', detail: `the job is held: ${state.hold.code}` };
      if (state.notBefore > now) return { refusal: 'job_not_claimable', detail: 'the job waits for its time' };
      // The sweep ends it in a moment; begun now it would never expire.
      if (state.attempt === 0 && state.expiresAt !== undefined && state.expiresAt <= now) {
        return { refusal: 'job_not_claimable', detail: 'the time to begin the job is over' };
      }
      const attempt = state.attempt + 1;
      return step(state, 'granted', 'job_not_claimable', { attempt }, [{ type: 'start_attempt', attempt }]);
    }
    case 'result':
      return decideResult(state, event, now);
    case 'lease_ended': {
      if (event.attempt !== state.attempt) return stale(state, event.attempt);
      const over = { type: 'end_attempt', attempt: event.attempt, status: 'lost' } as const;
      if (state.status === 'cancelling') {
        return step(state, 'cancelled', 'stale_attempt', {}, [
          { ...over, fault: UNCONFIRMED },
          { type: 'ended', fault: UNCONFIRMED },
        ]);
      }
      return step(state, 'repeated', 'stale_attempt', {}, [{ ...over, fault: LOST }, ...offerOf(state, now)]);
    }
    case 'cancel': {
      const { force, reason } = event;
      if (jobMachine.next(state.status, 'stopping')) {
        return step(state, 'stopping', 'conflict', {}, [{ type: 'stop_agent', attempt: state.attempt, force, reason }]);
      }
      const fault = { code: 'cancelled', detail: reason };
      return step(state, 'withdrawn', 'conflict', {}, [{ type: 'ended', fault }]);
    }
    case 'replace': {
      const fault = { code: 'job_replaced', detail: `${event.by} has taken its place` };
      if (jobMachine.next(state.status, 'stopping')) return { refusal: 'conflict', detail: 'the job has begun' };
      return step(state, 'withdrawn', 'conflict', {}, [{ type: 'ended', fault }]);
    }
    case 'skip': {
      const fault = { code: 'job_skipped', detail: event.reason };
      return step(state, 'skipped', 'conflict', { waived: true }, [{ type: 'ended', fault }]);
    }
    case 'hasten':
      if (state.notBefore <= now) return { refusal: 'conflict', detail: `the job is ${state.status}, without a delay` };
      return step(state, 'hastened', 'conflict', { notBefore: 0 }, offerOf({ ...state, notBefore: 0 }, now));
    case 'expire': {
      const { expiresAt, attempt } = state;
      if (expiresAt === undefined || expiresAt > now) return { refusal: 'conflict', detail: 'the job may begin yet' };
      if (attempt > 0) return { refusal: 'conflict', detail: 'the job has begun' };
      const fault = { code: 'job_expired', detail: `not begun by ${new Date(expiresAt).toISOString()}` };
      return step(state, 'expired', 'conflict', {}, [{ type: 'ended', fault }]);
    }
    case 'hold':
    case 'resume':
    case 'lift':
      return decideHold(state, event, now);
    case 'approved':
    case 'rejected': {
      if (state.hold?.code !== 'awaiting_approval') {
        return { refusal: 'conflict', detail: 'the job does not wait for an approval' };
      }
      const free = { ...state, hold: undefined };
      if (event.type === 'approved') return step(free, 'lifted', 'conflict', {}, offerOf(free, now));
      return step(free, 'rejected', 'conflict', {}, [{ type: 'ended', fault: event.fault }]);
    }
  }
}

function decideHold(
  state: JobState,
  event: Extract<JobEvent, { type: 'hold' | 'resume' | 'lift' }>,
  now: number,
): JobDecision {
  const { hold } = state;
  const conflict = (detail: string): JobDecision => ({ refusal: 'conflict', detail });
  if (event.type === 'hold') {
    if (event.hold.code !== 'token_tampered') return conflict('this hold comes with the result of an attempt');
    if (hold?.code === 'token_tampered') return conflict('the job is held already');
    const { attempt, status } = state;
    const stop: JobEffect = { type: 'stop_agent', attempt, force: false, reason: event.hold.detail };
    return step(state, 'held', 'conflict', { hold: event.hold }, status === 'running' ? [stop] : []);
  }
  if (!hold) return conflict('the job is not held');
  if (event.type === 'resume') {
    if (isCustomerHold(hold)) return { refusal: 'held_by_customer', detail: hold.detail };
    if (hold.code === 'awaiting_approval') return conflict('its plan waits for a yes: approve or reject it');
    if (state.status === 'running') return conflict(`attempt ${state.attempt} is still being stopped`);
  } else {
    if (!isCustomerHold(hold)) return conflict('a person at the vendor lifts this hold');
    const tooEarly = hold.until === undefined || Date.parse(hold.until) > now;
    if (event.by === 'time' && tooEarly) return conflict(`the job is held until ${hold.until ?? 'somebody acts'}`);
  }
  const free = { ...state, hold: undefined };
  return step(free, 'lifted', 'conflict', {}, state.status === 'queued' ? offerOf(free, now) : []);
}

/** How an attempt fails whose tokens were revoked together with the hold: the hold's doing, not the job's. */
const CUT_OFF: ReadonlySet<string> = new Set<ErrorCode>(['pull_token_refused', 'registry_denied']);

function decideResult(state: JobState, event: Extract<JobEvent, { type: 'result' }>, now: number): JobDecision {
  const { attempt, outcome } = event;
  if (attempt !== state.attempt) return stale(state, attempt);
  if (outcome === 'deferred') return decideDeferral(state, event, now);
  if (outcome === 'succeeded') {
    const over = { type: 'end_attempt', attempt, status: 'succeeded' } as const;
    return step(state, 'succeeded', 'stale_attempt', {}, [over, { type: 'ended' }]);
  }
  if (outcome === 'cancelled') {
    const fault = event.fault ?? { code: 'cancelled', detail: 'the agent stopped the job' };
    const over = { type: 'end_attempt', attempt, status: 'cancelled', fault } as const;
    if (state.hold) return step(state, 'repeated', 'stale_attempt', {}, [over]);
    return step(state, 'cancelled', 'stale_attempt', {}, [over, { type: 'ended', fault }]);
  }
  const fault = event.fault ?? { code: 'agent_error', detail: 'the agent gave no reason' };
  const over = { type: 'end_attempt', attempt, status: 'failed', fault } as const;
  if (state.hold && state.status === 'running' && CUT_OFF.has(fault.code)) {
    return step(state, 'repeated', 'stale_attempt', {}, [over]);
  }
  const again = afterFailure(state.kind, state.failures, fault.code);
  const failures = state.failures + 1;
  if (again.retry && state.status === 'running') {
    const change = { failures, notBefore: now + again.afterMs };
    return step(state, 'repeated', 'stale_attempt', change, [over, ...offerOf({ ...state, ...change }, now)]);
  }
  // It would have been tried again, and nobody wants that any more: the cancel decides.
  const last = again.retry ? 'cancelled' : 'failed';
  return step(state, last, 'stale_attempt', { failures }, [over, { type: 'ended', fault }]);
}

/** Not a failure, and no try is used up. A hold that is there already is the graver one and stays. */
function decideDeferral(
  state: JobState,
  { attempt, hold }: Extract<JobEvent, { outcome: 'deferred' }>,
  now: number,
): JobDecision {
  const byVendor = hold.code === 'awaiting_approval';
  const fault: Fault = { code: byVendor ? 'plan_unapproved' : 'held_by_customer', detail: hold.detail };
  const over = { type: 'end_attempt', attempt, status: 'deferred', fault } as const;
  if (state.status === 'cancelling') {
    return step(state, 'cancelled', 'stale_attempt', {}, [
      over,
      { type: 'ended', fault: { code: 'cancelled', detail: `the agent had given the job back: ${hold.detail}` } },
    ]);
  }
  const earliest = now + SHORTEST_HOLD_MS;
  const soon = hold.until !== undefined && Date.parse(hold.until) < earliest;
  const own = soon ? { ...hold, until: new Date(earliest).toISOString() } : hold;
  return step(state, 'repeated', 'stale_attempt', { hold: state.hold ?? own }, [over]);
}

/** An offer, when its time has come; none while the job is held. */
const offerOf = ({ hold, notBefore }: JobState, now: number): JobEffect[] =>
  hold ? [] : [{ type: 'offer', afterMs: Math.max(0, notBefore - now) }];

function step(
  state: JobState,
  by: JobStep,
  refusal: JobRefusal,
  change: Partial<JobState>,
  effects: readonly JobEffect[],
): JobDecision {
  const status = jobMachine.next(state.status, by);
  if (!status) return { refusal, detail: `the job is ${state.status}` };
  const next = { ...state, ...change, status };
  const over = status === 'cancelling' || jobMachine.isFinal(status);
  return { next: over ? { ...next, hold: undefined } : next, effects };
}
const stale = (state: JobState, attempt: number): JobDecision => ({
  refusal: 'stale_attempt',
  detail: `attempt ${attempt} is not the latest, which is ${state.attempt}`,
});

/** The type of the fact that an event leaves behind: what happened to the job that was `before` and is `after` now. */
export function factOf(event: JobEvent, before: JobStatus, after: JobStatus): string {
  switch (event.type) {
    case 'claim':
      return 'job.granted';
    case 'dependencies_succeeded':
      return 'job.offered';
    case 'lease_ended':
      return before === 'cancelling' ? 'job.cancelled' : 'job.lost';
    case 'result':
      if (event.outcome === 'deferred' && after === 'queued') return 'job.deferred';
      return jobMachine.isFinal(after) ? `job.${after}` : 'job.retrying';
    case 'hold':
      return 'job.held';
    case 'resume':
    case 'lift':
    case 'approved':
      return 'job.hold_lifted';
    case 'hasten':
      return 'job.hastened';
    case 'replace':
      return 'job.replaced';
    case 'expire':
      return 'job.expired';
    case 'cancel':
    case 'rejected':
    case 'skip':
    case 'dependency_failed':
      return `job.${after}`;
  }
}
