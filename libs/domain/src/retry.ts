import { ERRORS, type ErrorCode, type JobKind } from '#contracts';

/**
 * How often a kind of job is tried again after an attempt that failed. An attempt that was lost is not counted: its
 * job is always offered again. All kinds may be repeated: a build pushes the same digests, a sync skips what is
 * there, apply and destroy make a new plan first.
 */
const RETRIES: Readonly<Record<JobKind, { readonly times: number; readonly baseMs: number }>> = {
  build: { times: 3, baseMs: 2_000 },
  sync: { times: 3, baseMs: 1_000 },
  apply: { times: 3, baseMs: 2_000 },
  destroy: { times: 3, baseMs: 2_000 },
  // The next probe comes by itself.
  observe: { times: 1, baseMs: 2_000 },
  noop: { times: 3, baseMs: 1_000 },
};
const GROWTH = 4;

export type RetryDecision = { readonly retry: true; readonly afterMs: number } | { readonly retry: false };

/** The class of a code; a code that this build does not know (a newer agent) is not tried again blindly. */
function mayRepeat(code: string): boolean {
  return Object.hasOwn(ERRORS, code) && ERRORS[code as ErrorCode].retry === 'retry';
}

/**
 * Whether a job is tried again after an attempt failed with `code`, and when. `failures`: failed attempts before this
 * one. Only errors of class `retry` are: a wrong Dockerfile fails the same way each time.
 */
export function afterFailure(kind: JobKind, failures: number, code: string): RetryDecision {
  const rule = RETRIES[kind];
  if (!mayRepeat(code) || failures >= rule.times) return { retry: false };
  return { retry: true, afterMs: rule.baseMs * GROWTH ** failures };
}
