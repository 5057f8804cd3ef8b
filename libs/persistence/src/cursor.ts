import { ImsError, LIMITS } from '#contracts';

/** How many rows a list call should read: one more than it shows, so that the page knows whether another follows. */
export const limitOf = (query: { limit?: number }): number => query.limit ?? LIMITS.pageDefault;

/**
 * A page from `limit + 1` rows read. `keyOf` gives the sort key of a row, the same texts that the next query compares
 * with; ids alone are best (they sort by creation time, and a JavaScript date would lose PostgreSQL's microseconds).
 */
export function pageOf<T>(
  rows: readonly T[],
  limit: number,
  keyOf: (row: T) => readonly string[],
): { data: T[]; next_cursor?: string } {
  const data = rows.slice(0, limit);
  const last = data.at(-1);
  if (rows.length <= limit || last === undefined) return { data };
  return { data, next_cursor: Buffer.from(JSON.stringify(keyOf(last))).toString('base64url') };
}

/** The sort key in a cursor; undefined without a cursor. A text that is no cursor of `parts` parts: `invalid_request`. */
export function decodeCursor(cursor: string | undefined, parts: number): string[] | undefined {
  if (cursor === undefined) return undefined;
  let key: unknown;
  try {
    key = JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8'));
  } catch {
    key = undefined;
  }
  if (Array.isArray(key) && key.length === parts && key.every((part) => typeof part === 'string' && isPlain(part))) {
    return key as string[];
  }
  const message = 'must be a next_cursor that this list has given';
  throw new ImsError('invalid_request', `/cursor ${message}`, [{ pointer: '/cursor', message }]);
}

const isPlain = (part: unknown): boolean => typeof part === 'string' && part.length <= 200 && !part.includes('\0');
