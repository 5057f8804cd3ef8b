import { stringify } from 'yaml';
import { type KubeObject, type Placed } from './objects.js';

/** Plans of objects as people read them. They are shown to the customer's operator; values of Secrets are in none. */

const VALUE_MAX = 200;
const isSecret = (object: KubeObject): boolean => object.kind === 'Secret';

export const removalOf = ({ namespace, reference }: Placed): string => `delete ${reference} (namespace ${namespace})`;

/** The object, indented. */
export function contentOf(object: KubeObject): string {
  if (isSecret(object)) return `  keys: ${keysOf(object).join(', ')}`;
  const { apiVersion: _, kind: __, ...rest } = object;
  return stringify(rest).trimEnd().replace(/^/gm, '  ');
}

/** One line for each value that is another: `  spec.replicas: 1 -> 2`. */
export function differences(before: KubeObject, after: KubeObject): string[] {
  const [old, now] = [leavesOf(before), leavesOf(after)];
  const hidden = isSecret(before) || isSecret(after);
  const shown = (value: string | undefined): string =>
    value === undefined ? 'nothing' : hidden ? '(hidden)' : value.slice(0, VALUE_MAX);
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((path) => old.get(path) !== now.get(path))
    .map((path) => `  ${path}: ${shown(old.get(path))} -> ${shown(now.get(path))}`);
}

function leavesOf(value: unknown, path = '', leaves = new Map<string, string>()): Map<string, string> {
  if (typeof value !== 'object' || value === null || Object.keys(value).length === 0) {
    leaves.set(path, JSON.stringify(value));
    return leaves;
  }
  for (const [key, inner] of Object.entries(value)) leavesOf(inner, path === '' ? key : `${path}.${key}`, leaves);
  return leaves;
}

const keysOf = (object: KubeObject): string[] =>
  ['data', 'stringData'].flatMap((field) => Object.keys((object[field] as Record<string, unknown> | undefined) ?? {}));
