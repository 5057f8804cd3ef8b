/**
 * The wait before try number `attempt` + 1 (attempt counts from 1): doubles from `baseMs` up to `maxMs`, then half of
 * it is random, so that a thousand clients that lost the same server do not come back in the same millisecond.
 */
export function backoffMs(attempt: number, limits: { baseMs: number; maxMs: number }): number {
  // 2 ** 30 is beyond every limit in use; without the cap attempt 2000 would give Infinity.
  const full = Math.min(limits.maxMs, limits.baseMs * 2 ** Math.min(Math.max(attempt - 1, 0), 30));
  return Math.round(full / 2 + (Math.random() * full) / 2);
}

/** Resolves after the time, or at once when the signal is (or gets) aborted: callers look at the signal, not at an exception. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal?.addEventListener('abort', done, { once: true });
  });
}

/** The promise's value, or an Error naming `what` when it takes longer than `ms`. The work itself is not stopped. */
export async function withTimeout<T>(what: string, ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, fail) => {
    timer = setTimeout(() => {
      fail(new Error(`${what} took longer than ${ms} ms`));
    }, ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
