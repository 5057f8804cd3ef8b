import { ImsError, type ErrorCode } from '#contracts';
import { backoffMs } from '#platform';

/**
 * What a stream handler says of a message: nothing (done), retry it later, or reject it for good. Throwing means the
 * same by the error's retry class.
 */
export type Outcome =
  // eslint-disable-next-line @typescript-eslint/no-invalid-void-type -- a handler that just returns is the normal case
  | void
  | { readonly kind: 'retry'; readonly afterMs: number }
  | { readonly kind: 'reject'; readonly code: ErrorCode; readonly cause: string };

/** Not now: deliver it again after that time. */
export const retryAfter = (ms: number): Outcome => ({ kind: 'retry', afterMs: ms });
/** Never: put it with the dead letters, with this code and cause. */
export const reject = (code: ErrorCode, cause: string): Outcome => ({ kind: 'reject', code, cause });

/** What is done with the message at the broker. */
export type Settlement =
  | { readonly kind: 'ack' }
  | { readonly kind: 'nak'; readonly afterMs: number }
  | { readonly kind: 'dead'; readonly code: ErrorCode; readonly cause: string };

/** A message that fails so often is put with the dead letters; with the delays below that is after about 7 minutes. */
export const MAX_DELIVERIES = 20;
export const RETRY_DELAYS = { baseMs: 250, maxMs: 30_000 } as const;

/** Node's codes of a peer that is away. PostgreSQL being away is `unavailable` already: persistence says so. */
const OUTAGE = /^(ECONN\w+|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN)$/;

/**
 * Whether something else is down. It is not the message's fault, so it is retried for ever: an hour without
 * PostgreSQL must not turn every result into a dead letter.
 */
function isOutage(thrown: unknown): boolean {
  if (thrown instanceof ImsError && (thrown.code === 'unavailable' || thrown.code === 'registry_unavailable'))
    return true;
  if (!(thrown instanceof Error)) return false;
  if ('code' in thrown && typeof thrown.code === 'string' && OUTAGE.test(thrown.code)) return true;
  return thrown.cause !== undefined && isOutage(thrown.cause);
}

const causeOf = (thrown: unknown): string => {
  if (thrown instanceof ImsError && !(thrown.cause instanceof Error)) return thrown.detail;
  const error = thrown instanceof ImsError ? thrown.cause : thrown;
  return error instanceof Error ? `${error.name}: ${error.message}` : 'a value that is no Error was thrown';
};

/** The settlement of what a handler returned. `deliveries` counts from 1. */
export function settleOutcome(outcome: Outcome, deliveries: number): Settlement {
  if (outcome === undefined) return { kind: 'ack' };
  if (outcome.kind === 'reject') return { kind: 'dead', code: outcome.code, cause: outcome.cause };
  if (deliveries >= MAX_DELIVERIES) {
    return { kind: 'dead', code: 'internal', cause: `the handler asked for a retry ${deliveries} times` };
  }
  return { kind: 'nak', afterMs: outcome.afterMs };
}

/** The settlement of what a handler threw. */
export function settleThrown(thrown: unknown, deliveries: number): Settlement {
  const nak: Settlement = { kind: 'nak', afterMs: backoffMs(deliveries, RETRY_DELAYS) };
  if (isOutage(thrown)) return nak;
  const error = ImsError.of(thrown);
  const hopeless = error.entry.retry === 'fix' || error.entry.retry === 'human';
  if (hopeless || deliveries >= MAX_DELIVERIES) return { kind: 'dead', code: error.code, cause: causeOf(thrown) };
  return nak;
}
