import { LessThan, type EntityManager, type FindOptionsWhere, type ObjectLiteral } from 'typeorm';
import { ImsError, type Class, type Page } from '#contracts';
import { decodeCursor, isUniqueViolation, limitOf, pageOf } from '#persistence';

interface Query {
  limit?: number;
  cursor?: string;
}

/** The id after which a list goes on (ids sort by creation time), and how many rows to read. */
export function position(query: Query): { before: string | undefined; limit: number; take: number } {
  const limit = limitOf(query);
  return { before: decodeCursor(query.cursor, 1)?.[0], limit, take: limit + 1 };
}

/** A page, newest first, from `take` rows. */
export function page<R extends { id: string }, P extends Page & { data: T[] }, T>(
  type: Class<P>,
  rows: readonly R[],
  limit: number,
  view: (row: R) => T,
): P {
  const { data, next_cursor } = pageOf(rows, limit, (row) => [row.id]);
  return Object.assign(new type(), { data: data.map(view), ...(next_cursor === undefined ? {} : { next_cursor }) });
}

/** Rows of one entity, newest first. */
export function newest<R extends ObjectLiteral & { id: string }>(
  manager: EntityManager,
  entity: Class<R>,
  where: FindOptionsWhere<R>,
  { before, take }: { before: string | undefined; take: number },
): Promise<R[]> {
  return manager.find(entity, {
    where: before === undefined ? where : { ...where, id: LessThan(before) },
    order: { id: 'DESC' } as never,
    take,
  });
}

/** Inserts one row; what the database fills in (created_at) is in the row afterwards. */
export async function insert<R extends ObjectLiteral>(manager: EntityManager, entity: Class<R>, row: R): Promise<void> {
  await manager.insert(entity, row);
}

/** What was looked for, or `not_found`: the answer for a foreign vendor's id too. */
export function found<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) throw new ImsError('not_found', `there is no ${what}`);
  return value;
}

/** Runs the work; a unique constraint that refuses it becomes `already_exists`. */
export async function unlessTaken<T>(what: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (isUniqueViolation(error)) throw new ImsError('already_exists', `${what} already exists`);
    throw error;
  }
}
