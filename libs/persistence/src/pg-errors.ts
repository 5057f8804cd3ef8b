import { QueryFailedError } from 'typeorm';
import { ImsError } from '#contracts';

/** SQLSTATE of a failed statement, or the system's code of a failed connection. */
function pgCode(error: unknown): string | undefined {
  const inner: unknown = error instanceof QueryFailedError ? error.driverError : error;
  const code = (inner as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}

/** True when a unique constraint (the named one, if given) refused the row. */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  if (pgCode(error) !== '23505') return false;
  const inner: unknown = error instanceof QueryFailedError ? error.driverError : error;
  return constraint === undefined || (inner as { constraint?: unknown }).constraint === constraint;
}

/** Two transactions met; one of them has to begin again. Nothing of it has happened. */
export const isSerialization = (error: unknown): boolean => ['40001', '40P01'].includes(pgCode(error) ?? '');

/**
 * A prepared statement from before a migration: `cached plan must not change result type`. Nothing has happened; a new
 * connection prepares it anew.
 */
export const isStalePlan = (error: unknown): boolean =>
  pgCode(error) === '0A000' && error instanceof Error && error.message.includes('cached plan');

const LOST_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  '57P01', // admin_shutdown, also pg_terminate_backend
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now: starting up or recovering
  '57P05', // idle_session_timeout
  '25P03', // idle_in_transaction_session_timeout
  '53300', // too_many_connections
]);
// pg reports these without a code.
const LOST_TEXTS =
  /Connection terminated|not queryable|Connection ended|timeout exceeded when trying to connect|timeout expired|Query runner already released|QueryRunnerAlreadyReleased/i;

/** The connection is gone, or could not be had. Whether the last statement took effect is unknown. */
export function isConnectionLoss(error: unknown): boolean {
  const code = pgCode(error);
  if (code !== undefined) return LOST_CODES.has(code) || /^08[0-9A-Z]{3}$/.test(code);
  return error instanceof Error && LOST_TEXTS.test(`${error.name} ${error.message}`);
}

/** The server is there and has no connection left. */
export const isOverloaded = (error: unknown): boolean => pgCode(error) === '53300';

/** Wrong password, unknown database, no right to connect: waiting does not help. */
export const isRefused = (error: unknown): boolean =>
  ['28P01', '28000', '3D000', '42501'].includes(pgCode(error) ?? '');

const SLOW: Readonly<Record<string, string>> = {
  '57014': 'the database took too long over a statement',
  '55P03': 'a row stayed locked for too long',
  '40001': 'the database is too busy: transactions keep meeting each other',
  '40P01': 'the database is too busy: transactions keep meeting each other',
};

/** What a caller gets: `unavailable` where trying again may help; everything else as it was thrown. */
export function toCallerError(error: unknown): unknown {
  if (isConnectionLoss(error)) {
    return new ImsError('unavailable', 'the database does not answer', [], { cause: error });
  }
  const slow = SLOW[pgCode(error) ?? ''];
  return slow === undefined ? error : new ImsError('unavailable', slow, [], { cause: error });
}
