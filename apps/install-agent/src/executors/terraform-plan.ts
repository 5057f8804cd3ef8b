import { sortedJson, type ChangeAction, type FieldChange, type JsonValue } from '#contracts';
import { type Change } from '#domain';
import { textsOf } from '../component-store.js';

/** What `terraform show -json` says of a plan, and what is made of it. */

interface TerraformChange {
  readonly actions: readonly string[];
  readonly before?: JsonValue;
  readonly after?: JsonValue;
  /** True where the value is sensitive, or an object or a list of the same for its parts. */
  readonly before_sensitive?: JsonValue;
  readonly after_sensitive?: JsonValue;
  /** True where the value is known after the apply only. */
  readonly after_unknown?: JsonValue;
  readonly replace_paths?: JsonValue;
  readonly importing?: JsonValue;
}
export interface TerraformPlan {
  /** Absent when there is no state, or nothing in it. */
  readonly prior_state?: object;
  readonly resource_changes?: readonly {
    readonly address: string;
    readonly deposed?: string;
    readonly change: TerraformChange;
  }[];
  readonly output_changes?: Readonly<Record<string, TerraformChange>>;
  /** What the state names and the world has not, or has otherwise. */
  readonly resource_drift?: readonly { readonly address: string; readonly change: TerraformChange }[];
  /** What `check` blocks, conditions and validations of the module have found. */
  readonly checks?: readonly {
    readonly address: { readonly to_display: string };
    readonly status: string;
    readonly instances?: readonly { readonly problems?: readonly { readonly message: string }[] }[];
  }[];
}

const UNKNOWN = '(known after apply)';
const isReal = ({ actions, importing }: TerraformChange): boolean => actions.join() !== 'no-op' || importing != null;

/** What people and programs are shown: what is not sensitive. Reads of data are no changes. */
export function changesOf({ resource_changes: resources = [], output_changes: outputs = {} }: TerraformPlan): Change[] {
  return [
    ...resources.flatMap(({ address, deposed, change }) => {
      const resource = deposed === undefined ? address : `${address} (deposed ${deposed})`;
      return changeOf(resource, change);
    }),
    ...Object.entries(outputs).flatMap(([name, change]) => changeOf(`output.${name}`, change)),
  ];
}

function changeOf(resource: string, change: TerraformChange): Change[] {
  const action = actionOf(change.actions);
  if (action === undefined) return [];
  const fields = action === 'update' || action === 'replace' ? fieldsOf(change) : [];
  return [{ action, resource, ...(fields.length === 0 ? {} : { fields }) }];
}

function actionOf(actions: readonly string[]): ChangeAction | undefined {
  const does = (action: string): boolean => actions.includes(action);
  if (does('create') && does('delete')) return 'replace';
  return (['create', 'update', 'delete'] as const).find(does);
}

function fieldsOf(change: TerraformChange): FieldChange[] {
  const fields: FieldChange[] = [];
  const visit = (
    path: string,
    before: JsonValue | undefined,
    after: JsonValue | undefined,
    unknown: JsonValue | undefined,
    masks: readonly (JsonValue | undefined)[],
  ): void => {
    const hidden = masks.includes(true);
    const whole = hidden || unknown === true;
    if (!whole && (isNode(before) || isNode(after) || isNode(unknown))) {
      for (const key of new Set([before, after, unknown].flatMap(keysOf))) {
        const inner = path === '' ? key : `${path}.${key}`;
        const parts = masks.map((mask) => partOf(mask, key));
        visit(inner, partOf(before, key), partOf(after, key), partOf(unknown, key), parts);
      }
      return;
    }
    const is = unknown === true ? UNKNOWN : textOf(after);
    if (textOf(before) === is) return;
    if (hidden) fields.push({ path, hidden });
    else fields.push({ path, ...given('before', textOf(before)), ...given('after', is) });
  };
  const { before, after, after_unknown: unknown, before_sensitive: old, after_sensitive: now } = change;
  visit('', before, after, unknown, [old, now]);
  return fields;
}

const isNode = (value: JsonValue | undefined): boolean =>
  typeof value === 'object' && value !== null && Object.keys(value).length > 0;
const keysOf = (value: JsonValue | undefined): string[] => (isNode(value) ? Object.keys(value as object) : []);
const partOf = (value: JsonValue | undefined, key: string): JsonValue | undefined =>
  isNode(value) ? (value as Readonly<Record<string, JsonValue>>)[key] : undefined;
const textOf = (value: JsonValue | undefined): string | undefined =>
  value === undefined || value === null ? undefined : JSON.stringify(value);
const given = (key: 'before' | 'after', text: string | undefined): Partial<FieldChange> =>
  text === undefined ? {} : { [key]: text };

/** What is not well: what somebody has removed, and conditions of the module that do not hold. */
export function troublesOf({ checks = [], resource_drift: drift = [] }: TerraformPlan): string[] {
  const gone = drift
    .filter(({ change }) => change.actions.includes('delete'))
    .map(({ address }) => `${address} is gone`);
  const failed = checks
    .filter(({ status }) => status === 'fail' || status === 'error')
    .map(({ address, status, instances = [] }) => {
      const messages = instances.flatMap(({ problems = [] }) => problems.map(({ message }) => message));
      return `${address.to_display}: ${messages.join('; ') || status}`;
    });
  return [...gone, ...failed];
}

/**
 * The change itself: the plan file has times and checksums of its own in it and is another one each time. A module
 * whose values are others each time (`plantimestamp()`) has another plan each time, too.
 */
export function identityOf({ resource_changes: changes = [], output_changes: outputs = {} }: TerraformPlan): JsonValue {
  const parts = ({ actions, before, after, after_unknown, replace_paths }: TerraformChange): JsonValue =>
    sortedJson([[...actions], before ?? null, after ?? null, after_unknown ?? null, replace_paths ?? null]);
  return [
    ...changes
      .filter(({ change }) => isReal(change))
      .map(({ address, deposed = '', change }): JsonValue => [address, deposed, parts(change)]),
    ...Object.entries(outputs)
      .filter(([, change]) => isReal(change))
      .map(([name, change]): JsonValue => ['output', name, parts(change)]),
  ].sort((one, other) => JSON.stringify(one).localeCompare(JSON.stringify(other)));
}

/** The values that a plan marks as sensitive. */
export function secretsOf({ resource_changes: changes = [], output_changes: outputs = {} }: TerraformPlan): string[] {
  return [...changes.map(({ change }) => change), ...Object.values(outputs)].flatMap(
    ({ before, after, before_sensitive, after_sensitive }) => [
      ...marked(before, before_sensitive),
      ...marked(after, after_sensitive),
    ],
  );
}

function marked(value: JsonValue | undefined, mask: JsonValue | undefined): string[] {
  if (mask === true) return textsOf(value);
  if (typeof mask !== 'object' || mask === null || typeof value !== 'object' || value === null) return [];
  const parts = value as Readonly<Record<string, JsonValue>>;
  return Object.entries(mask).flatMap(([key, inner]) => marked(parts[key], inner));
}
