import { CHANGE_ACTIONS, LIMITS, PlannedChange, PlanSummary, type ChangeAction, type FieldChange } from '#contracts';

/** One thing that a plan would change, as an executor tells it. */
export interface Change {
  readonly action: ChangeAction;
  readonly resource: string;
  readonly namespace?: string;
  readonly fields?: readonly FieldChange[];
}
export interface PlanCounts {
  readonly created: number;
  readonly updated: number;
  readonly deleted: number;
}

const CHARS_MAX = { resource: 300, namespace: 80, path: 300, value: 300, manager: 100 } as const;

/** Deletions first, then what is made anew: what cannot be had back is read first. Else the order stays. */
export function inReadingOrder<C extends Pick<Change, 'action'>>(changes: readonly C[]): C[] {
  return CHANGE_ACTIONS.flatMap((action) => changes.filter((change) => change.action === action));
}

/** A replacement is a deletion and a creation; work that is run is something new. */
export function countsOf(changes: readonly Pick<Change, 'action'>[]): PlanCounts {
  const count = (...actions: ChangeAction[]): number => changes.filter(({ action }) => actions.includes(action)).length;
  return { created: count('create', 'replace', 'run'), updated: count('update'), deleted: count('delete', 'replace') };
}

/**
 * A plan as it travels. What has no room (`LIMITS.planChanges`, `planFields`, `planBytes`) is counted in `omitted`:
 * fields go before changes, and deletions stay longest.
 */
export function planSummary(
  plan: PlanCounts & { readonly digest: string; readonly changed: boolean },
  changes: readonly Change[],
): PlanSummary {
  const { digest, changed, created, updated, deleted } = plan;
  let kept = inReadingOrder(changes).slice(0, LIMITS.planChanges).map(bounded);
  let omitted = changes.length - kept.length;
  for (const [i, change] of kept.entries()) {
    const fields = inReadingOrder(changes)[i]?.fields?.length ?? 0;
    omitted += fields - (change.fields?.length ?? 0);
  }
  const tooLarge = (): boolean => Buffer.byteLength(JSON.stringify(kept)) > LIMITS.planBytes;
  for (let i = kept.length - 1; i >= 0 && tooLarge(); i--) {
    omitted += kept[i]?.fields?.length ?? 0;
    delete kept[i]?.fields;
  }
  while (tooLarge()) {
    const half = kept.slice(0, Math.floor(kept.length / 2));
    omitted += kept.length - half.length;
    kept = half;
  }
  return Object.assign(new PlanSummary(), { digest, changed, created, updated, deleted, changes: kept, omitted });
}

function bounded({ action, resource, namespace, fields }: Change): PlannedChange {
  return Object.assign(new PlannedChange(), {
    action,
    resource: cut(resource, CHARS_MAX.resource),
    ...(namespace === undefined ? {} : { namespace: cut(namespace, CHARS_MAX.namespace) }),
    ...(fields === undefined || fields.length === 0
      ? {}
      : { fields: fields.slice(0, LIMITS.planFields).map(boundedField) }),
  });
}

function boundedField({ path, before, after, hidden, set_by: by }: FieldChange): FieldChange {
  const secret = hidden === true;
  return {
    path: cut(path, CHARS_MAX.path),
    ...(before === undefined || secret ? {} : { before: cut(before, CHARS_MAX.value) }),
    ...(after === undefined || secret ? {} : { after: cut(after, CHARS_MAX.value) }),
    ...(secret ? { hidden: true } : {}),
    ...(by === undefined ? {} : { set_by: cut(by, CHARS_MAX.manager) }),
  };
}

/** The changes with each text that may hold a value passed through `clean`. */
export function cleanedChanges(changes: readonly Change[], clean: (text: string) => string): Change[] {
  return changes.map(({ resource, fields, ...change }) => ({
    ...change,
    resource: clean(resource),
    ...(fields === undefined ? {} : { fields: fields.map((field) => cleanedField(field, clean)) }),
  }));
}
const cleanedField = ({ path, before, after, ...rest }: FieldChange, clean: (text: string) => string): FieldChange => ({
  ...rest,
  path: clean(path),
  ...(before === undefined ? {} : { before: clean(before) }),
  ...(after === undefined ? {} : { after: clean(after) }),
});

const cut = (text: string, chars: number): string => (text.length <= chars ? text : `${text.slice(0, chars - 1)}…`);

/** A plan for people: a line for each change, and one for each value that becomes another. */
export function renderPlan({ changes, omitted }: Pick<PlanSummary, 'changes' | 'omitted'>): string {
  if (changes.length === 0 && omitted === 0) return 'no changes';
  const lines = inReadingOrder(changes).flatMap(({ action, resource, namespace, fields = [] }) => [
    `${action} ${resource}${namespace === undefined ? '' : ` (namespace ${namespace})`}`,
    ...fields.map(fieldLine),
  ]);
  return [...lines, ...(omitted > 0 ? [`and ${omitted} more`] : [])].join('\n');
}

/** `  spec.replicas: 3 -> 2 (set by kubectl-scale)` */
function fieldLine({ path, before = 'nothing', after = 'nothing', hidden, set_by: by }: FieldChange): string {
  const values = hidden === true ? '(hidden) -> (hidden)' : `${before} -> ${after}`;
  return `  ${path}: ${values}${by === undefined ? '' : ` (set by ${by})`}`;
}
