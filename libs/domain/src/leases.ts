/** What is stored about a running attempt, as far as its lease goes. Times are milliseconds of one clock. */
export interface Lease {
  readonly attempt: number;
  readonly agentId: string;
  readonly sessionId: string;
  readonly until: number;
  readonly cancelling: boolean;
}
export interface LeaseClaim {
  readonly attempt: number;
  readonly agentId: string;
  readonly sessionId: string;
}

/**
 * What a renewal gets. `stop_cancelled`: the lease is renewed all the same, so that Terraform has the time to give its
 * lock back, and the agent is told to stop. `stale`: another attempt, agent or session holds the job, or the time is
 * over: whoever asks must stop and say nothing.
 */
export type LeaseVerdict = 'renewed' | 'stop_cancelled' | 'stale';

export function judgeRenewal(lease: Lease | undefined, claim: LeaseClaim, now: number): LeaseVerdict {
  if (!lease || lease.until <= now) return 'stale';
  const same =
    lease.attempt === claim.attempt && lease.agentId === claim.agentId && lease.sessionId === claim.sessionId;
  if (!same) return 'stale';
  return lease.cancelling ? 'stop_cancelled' : 'renewed';
}

/**
 * The latest moment on the holder's own monotonic clock at which its process groups must be told to die.
 * `askedAt`: just before the claim or renewal was sent, so that the time the message took counts against the holder
 * and never against the next attempt.
 */
export const selfFenceAt = (askedAt: number, leaseMs: number, marginMs: number): number => askedAt + leaseMs - marginMs;
