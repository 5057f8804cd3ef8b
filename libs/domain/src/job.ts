import { type AttemptStatus, type ErrorCode, type JobKind, type JobStatus } from '#contracts';
import { defineMachine, type Decision } from './machine.js';
import { afterFailure } from './retry.js';

/**
 * `unblocked`: all dependencies succeeded. `repeated`: an attempt is over and the job waits for the next. `withdrawn`:
 * cancelled when nothing runs; kept apart from `cancelled`, which only a running attempt can report, so that the late
 * word of a lost attempt does not end a job that is queued again.
 */
type JobStep =
  'unblocked' | 'skipped' | 'granted' | 'repeated' | 'stopping' | 'succeeded' | 'failed' | 'cancelled' | 'withdrawn';

export const jobMachine = defineMachine<JobStatus, JobStep>({
  name: 'job',
  initial: ['blocked', 'queued'],
  finals: ['succeeded', 'failed', 'cancelled', 'skipped'],
  from: {
    blocked: { unblocked: 'queued', skipped: 'skipped', withdrawn: 'cancelled' },
    queued: { granted: 'running', withdrawn: 'cancelled' },
    running: {
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

export const attemptMachine = defineMachine<AttemptStatus, 'succeeded' | 'failed' | 'cancelled' | 'lost'>({
  name: 'attempt',
  initial: ['running'],
  finals: ['succeeded', 'failed', 'cancelled', 'lost'],
  from: {
    running: { succeeded: 'succeeded', failed: 'failed', cancelled: 'cancelled', lost: 'lost' },
    succeeded: {},
    failed: {},
    cancelled: {},
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
  /** Not to be granted before this time: the back-off after a failed attempt. */
  readonly notBefore: number;
}

export type JobEvent =
  | { readonly type: 'dependencies_succeeded' }
  | { readonly type: 'dependency_failed'; readonly fault: Fault }
  | { readonly type: 'claim' }
  | {
      readonly type: 'result';
      readonly attempt: number;
      readonly outcome: 'succeeded' | 'failed' | 'cancelled';
      readonly fault?: Fault;
    }
  | { readonly type: 'lease_ended'; readonly attempt: number }
  | { readonly type: 'cancel'; readonly force: boolean; readonly reason: string };

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

export type JobRefusal = Extract<ErrorCode, 'job_not_claimable' | 'stale_attempt' | 'conflict'>;
export type JobDecision = Decision<JobState, JobEffect, JobRefusal>;

const UNCONFIRMED: Fault = {
  code: 'lease_expired',
  detail: 'the agent did not confirm the stop; its lease has ended, before which it kills its own processes',
};
const LOST: Fault = { code: 'lease_expired', detail: 'the agent did not renew its lease in time' };

/**
 * What follows from an event, for one job. Every event gives a new state or a refusal by code: `job_not_claimable`
 * (claim), `stale_attempt` (a message of an attempt that is not the running one), `conflict` (the rest).
 */
export function decideJob(state: JobState, event: JobEvent, now: number): JobDecision {
  switch (event.type) {
    case 'dependencies_succeeded':
      return step(state, 'unblocked', 'conflict', {}, [{ type: 'offer', afterMs: 0 }]);
    case 'dependency_failed':
      return step(state, 'skipped', 'conflict', {}, [{ type: 'ended', fault: event.fault }]);
    case 'claim': {
      if (state.notBefore > now)
        return { refusal: 'job_not_claimable', detail: 'the job waits before it is tried again' };
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
      return step(state, 'repeated', 'stale_attempt', {}, [
        { ...over, fault: LOST },
        { type: 'offer', afterMs: 0 },
      ]);
    }
    case 'cancel': {
      const { force, reason } = event;
      if (jobMachine.next(state.status, 'stopping')) {
        return step(state, 'stopping', 'conflict', {}, [{ type: 'stop_agent', attempt: state.attempt, force, reason }]);
      }
      const fault = { code: 'cancelled', detail: reason };
      return step(state, 'withdrawn', 'conflict', {}, [{ type: 'ended', fault }]);
    }
  }
}

function decideResult(state: JobState, event: Extract<JobEvent, { type: 'result' }>, now: number): JobDecision {
  const { attempt, outcome } = event;
  if (attempt !== state.attempt) return stale(state, attempt);
  if (outcome === 'succeeded') {
    const over = { type: 'end_attempt', attempt, status: 'succeeded' } as const;
    return step(state, 'succeeded', 'stale_attempt', {}, [over, { type: 'ended' }]);
  }
  if (outcome === 'cancelled') {
    const fault = event.fault ?? { code: 'cancelled', detail: 'the agent stopped the job' };
    const over = { type: 'end_attempt', attempt, status: 'cancelled', fault } as const;
    return step(state, 'cancelled', 'stale_attempt', {}, [over, { type: 'ended', fault }]);
  }
  const fault = event.fault ?? { code: 'agent_error', detail: 'the agent gave no reason' };
  const over = { type: 'end_attempt', attempt, status: 'failed', fault } as const;
  const again = afterFailure(state.kind, state.failures, fault.code);
  const failures = state.failures + 1;
  if (again.retry && state.status === 'running') {
    const change = { failures, notBefore: now + again.afterMs };
    return step(state, 'repeated', 'stale_attempt', change, [over, { type: 'offer', afterMs: again.afterMs }]);
  }
  // It would have been tried again, and nobody wants that any more: the cancel decides.
  const last = again.retry ? 'cancelled' : 'failed';
  return step(state, last, 'stale_attempt', { failures }, [over, { type: 'ended', fault }]);
}

function step(
  state: JobState,
  by: JobStep,
  refusal: JobRefusal,
  change: Partial<JobState>,
  effects: readonly JobEffect[],
): JobDecision {
  const status = jobMachine.next(state.status, by);
  if (!status) return { refusal, detail: `the job is ${state.status}` };
  return { next: { ...state, ...change, status }, effects };
}
const stale = (state: JobState, attempt: number): JobDecision => ({
  refusal: 'stale_attempt',
  detail: `attempt ${attempt} is not the latest, which is ${state.attempt}`,
});
