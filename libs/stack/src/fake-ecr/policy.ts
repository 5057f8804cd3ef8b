/**
 * As much of IAM's policy language as our own policies use. What it does not know is refused and never passed over: a
 * test must not be green because a condition was ignored.
 */
export interface Statement {
  readonly Sid?: string;
  readonly Effect: 'Allow' | 'Deny';
  readonly Action: string | readonly string[];
  readonly Resource: string | readonly string[];
  readonly Condition?: { readonly DateLessThan: { readonly 'aws:CurrentTime': string } };
}
export interface Policy {
  readonly Version: '2012-10-17';
  readonly Statement: readonly Statement[];
}
export interface Question {
  /** `ecr:PutImage` */
  readonly action: string;
  /** An ARN, or `*` for actions that have no resource. */
  readonly resource: string;
  readonly now: Date;
}

export class MalformedPolicy extends Error {
  override readonly name = 'MalformedPolicy';
}

const KNOWN = new Set(['Sid', 'Effect', 'Action', 'Resource', 'Condition']);

/** A policy document as text. Throws MalformedPolicy for what is outside the subset. */
export function parsePolicy(text: string): Policy {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new MalformedPolicy('it is not JSON');
  }
  const { Version, Statement } = value as { Version?: unknown; Statement?: unknown };
  if (Version !== '2012-10-17') throw new MalformedPolicy('Version is not 2012-10-17');
  if (!Array.isArray(Statement) || Statement.length === 0) throw new MalformedPolicy('there is no statement');
  for (const each of Statement as Record<string, unknown>[]) checkStatement(each);
  return value as Policy;
}

function checkStatement(statement: Record<string, unknown>): void {
  const unknown = Object.keys(statement).find((key) => !KNOWN.has(key));
  if (unknown !== undefined) throw new MalformedPolicy(`${unknown} is not known here`);
  if (statement['Effect'] !== 'Allow' && statement['Effect'] !== 'Deny') throw new MalformedPolicy('Effect');
  for (const key of ['Action', 'Resource']) {
    const texts = [statement[key]].flat();
    if (texts.length === 0 || !texts.every((text) => typeof text === 'string')) throw new MalformedPolicy(key);
  }
  if (statement['Condition'] === undefined) return;
  const condition = statement['Condition'] as Record<string, Record<string, unknown>>;
  const time = condition['DateLessThan']?.['aws:CurrentTime'];
  const alone = Object.keys(condition).length === 1 && Object.keys(condition['DateLessThan'] ?? {}).length === 1;
  if (!alone || typeof time !== 'string' || Number.isNaN(Date.parse(time))) {
    throw new MalformedPolicy('the only condition known here is DateLessThan aws:CurrentTime');
  }
}

/** IAM's decision over the policies of one kind: a Deny wins over any Allow, and nothing is allowed by default. */
export function allows(policies: readonly Policy[], question: Question): boolean {
  const fitting = policies.flatMap(({ Statement }) => Statement).filter((statement) => fits(statement, question));
  return fitting.some(({ Effect }) => Effect === 'Allow') && !fitting.some(({ Effect }) => Effect === 'Deny');
}

function fits({ Action, Resource, Condition }: Statement, { action, resource, now }: Question): boolean {
  const until = Condition?.DateLessThan['aws:CurrentTime'];
  return (
    // Actions are compared without regard to case, ARNs with it.
    [Action].flat().some((pattern) => matches(pattern.toLowerCase(), action.toLowerCase())) &&
    [Resource].flat().some((pattern) => matches(pattern, resource)) &&
    (until === undefined || now.getTime() < Date.parse(until))
  );
}

/** `*` stands for any text, `?` for one character; everything else for itself. */
function matches(pattern: string, text: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${source}$`, 's').test(text);
}
