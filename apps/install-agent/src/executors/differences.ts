import { stringify } from 'yaml';
import { type FieldChange } from '#contracts';
import { inReadingOrder, renderPlan, type Change } from '#domain';
import { nameOf, resourceOf, type KubeObject, type ManagedFields, type Placed } from './objects.js';

/** Plans of objects, for people and for programs. Values of Secrets are shown to neither. */

const isSecret = (object: KubeObject): boolean => object.kind === 'Secret';
/** What the cluster itself writes. */
const OF_THE_CLUSTER =
  /^(status|metadata\.(managedFields|resourceVersion|generation|uid|creationTimestamp|selfLink))(\.|$)/;

const elsewhere = (namespace: string | undefined, home: string): { namespace?: string } =>
  namespace === undefined || namespace === home ? {} : { namespace };

export const removalOf = (placed: Placed, home: string): Change => ({
  action: 'delete',
  resource: resourceOf(placed),
  ...elsewhere(placed.namespace, home),
});
/** A change of an object; `fields` when it is there already. */
export const changeOf = (
  action: Change['action'],
  object: KubeObject,
  home: string,
  fields?: readonly FieldChange[],
): Change => ({
  action,
  resource: nameOf(object),
  ...elsewhere(object.metadata.namespace, home),
  ...(fields === undefined ? {} : { fields }),
});

/** The plan as text: each change, and of what is new the whole content. */
export function textOf(changes: readonly Change[], contents: ReadonlyMap<Change, KubeObject> = new Map()): string {
  if (changes.length === 0) return 'no changes';
  return inReadingOrder(changes)
    .flatMap((change) => {
      const object = contents.get(change);
      return [renderPlan({ changes: [copyOf(change)], omitted: 0 }), ...(object ? [contentOf(object)] : [])];
    })
    .join('\n');
}
const copyOf = ({ fields, ...rest }: Change): Parameters<typeof renderPlan>[0]['changes'][number] => ({
  ...rest,
  ...(fields === undefined ? {} : { fields: [...fields] }),
});

/** The object, indented. */
function contentOf(object: KubeObject): string {
  if (isSecret(object)) return `  keys: ${keysOf(object).join(', ')}`;
  const { apiVersion: _, kind: __, ...rest } = object;
  return stringify(rest).trimEnd().replace(/^/gm, '  ');
}

/**
 * Each value that is another: of `before`, which the cluster has (with its `managedFields`, when asked for), and of
 * `after`. `ours`: the field manager of this component; what somebody else has set is told with his name.
 */
export function differences(before: KubeObject, after: KubeObject, ours?: string): FieldChange[] {
  const [old, now] = [leavesOf(before), leavesOf(after)];
  const hidden = isSecret(before) || isSecret(after);
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((path) => old.get(path)?.text !== now.get(path)?.text && !OF_THE_CLUSTER.test(path))
    .map((path) => {
      const [was, is] = [old.get(path)?.text, now.get(path)?.text];
      const by = ours === undefined ? undefined : ownerOf(before, (old.get(path) ?? now.get(path))?.keys ?? [], ours);
      return {
        path,
        ...(was === undefined ? {} : { before: was }),
        ...(is === undefined ? {} : { after: is }),
        ...(hidden ? { hidden } : {}),
        ...(by === undefined ? {} : { set_by: by }),
      };
    });
}

interface Leaf {
  /** As JSON. */
  readonly text: string;
  readonly keys: readonly string[];
}

/** The values that have no parts, by path: `spec.template.spec.containers.0.image`. */
function leavesOf(value: unknown, keys: readonly string[] = [], leaves = new Map<string, Leaf>()): Map<string, Leaf> {
  if (typeof value !== 'object' || value === null || Object.keys(value).length === 0) {
    leaves.set(keys.join('.'), { text: JSON.stringify(value), keys });
    return leaves;
  }
  for (const [key, inner] of Object.entries(value)) leavesOf(inner, [...keys, key], leaves);
  return leaves;
}

/** Who, other than `ours`, has set the field. */
function ownerOf(object: KubeObject, path: readonly string[], ours: string): string | undefined {
  const { managedFields = [] } = object.metadata;
  return managedFields.find(({ manager, subresource, fieldsV1 }) => {
    if (manager === undefined || manager === ours || subresource === 'status') return false;
    return fieldsV1 !== undefined && owns(fieldsV1, object, path);
  })?.manager;
}

function owns(fields: NonNullable<ManagedFields['fieldsV1']>, value: unknown, path: readonly string[]): boolean {
  const [key, ...rest] = path;
  if (key === undefined) return true;
  const inner = (value as Record<string, unknown> | undefined)?.[key];
  const found = Array.isArray(value) ? itemOf(fields, inner) : fields[`f:${key}`];
  if (found === undefined) return false;
  // A field without parts is set as a whole.
  const parts = found as NonNullable<ManagedFields['fieldsV1']>;
  return Object.keys(parts).length === 0 || owns(parts, inner, rest);
}

/** Items of lists are named by their keys (`k:{"name":"web"}`) or, where they are texts, by themselves (`v:"web"`). */
function itemOf(fields: NonNullable<ManagedFields['fieldsV1']>, item: unknown): unknown {
  for (const [name, parts] of Object.entries(fields)) {
    if (!/^[kv]:/.test(name)) continue;
    const wanted: unknown = JSON.parse(name.slice(2));
    const same =
      typeof wanted === 'object' && wanted !== null
        ? Object.entries(wanted).every(([key, value]) => (item as Record<string, unknown> | undefined)?.[key] === value)
        : wanted === item;
    if (same) return parts;
  }
  return undefined;
}

const keysOf = (object: KubeObject): string[] =>
  ['data', 'stringData'].flatMap((field) => Object.keys((object[field] as Record<string, unknown> | undefined) ?? {}));
