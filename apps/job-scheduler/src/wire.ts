import { ImsError, Problem, type Class, type JsonValue } from '#contracts';
import { type Fault } from '#domain';
import { storableJson } from '#persistence';
import { currentContext } from '#platform';

type OptionalKeys<T> = { [K in keyof T]-?: object extends Pick<T, K> ? K : never }[keyof T];
type Fields<T> = Omit<T, OptionalKeys<T>> & { [K in OptionalKeys<T>]?: T[K] | null | undefined };

/** An instance of a wire shape. Optional fields may be given as null (a column without a value): they are left out. */
export function wire<T extends object>(type: Class<T>, fields: Fields<T>): T {
  const present = Object.entries(fields).filter(([, value]) => value !== null && value !== undefined);
  return Object.assign(new type(), Object.fromEntries(present));
}

/** Who caused the call that is being answered, as facts name it. */
export const caller = (): string => currentContext()?.actor ?? 'service:gateway';

export const iso = (date: Date): string => date.toISOString();
export const isoOrNull = (date: Date | null): string | null => date && date.toISOString();

/** A fault as a resource shows it. */
export const problem = (fault: Fault | null | undefined): Problem | undefined =>
  fault ? wire(Problem, { code: fault.code, detail: fault.detail.slice(0, 4000) }) : undefined;

/** A value for a jsonb parameter. */
export const json = (value: unknown): string | null =>
  value === null || value === undefined ? null : JSON.stringify(value);

/**
 * Refuses what PostgreSQL cannot store (NUL, half of a surrogate pair) where people send it. Agents' texts are cleaned
 * instead, since their tools write anything.
 */
export function checkStorable(value: object): void {
  const text = JSON.stringify({ value });
  if (JSON.stringify(storableJson({ value: JSON.parse(JSON.stringify(value)) as JsonValue })) !== text) {
    throw new ImsError('invalid_request', 'a text holds a NUL character or half of a surrogate pair');
  }
}
