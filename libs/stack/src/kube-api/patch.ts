import { elementOf } from './fields.js';
import { type Fields, isRecord, omit, sameJson } from './objects.js';
import { fieldOf, itemOf, type Schema } from './schema.js';
import { badRequest, KubeError } from './status.js';

/** RFC 7386: null removes, lists are replaced. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isRecord(patch)) return patch;
  const out: Fields = isRecord(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) Reflect.deleteProperty(out, key);
    else out[key] = mergePatch(out[key], value);
  }
  return out;
}

/** RFC 6902. A failed `test` or a path that is not there refuses the whole patch (422). */
export function jsonPatch(target: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw badRequest('a JSON patch is a list of operations');
  return patch.reduce<unknown>((value, operation) => {
    if (!isRecord(operation) || typeof operation.path !== 'string')
      throw badRequest('a JSON patch operation has a path');
    return jsonOperation(value, operation, operation.path);
  }, structuredClone(target));
}

function jsonOperation(target: unknown, operation: Fields, path: string): unknown {
  const from = typeof operation.from === 'string' ? pointer(operation.from) : [];
  const to = pointer(path);
  switch (operation.op) {
    case 'add':
      return edit(target, to, 'add', operation.value);
    case 'replace':
      return edit(target, to, 'replace', operation.value);
    case 'remove':
      return edit(target, to, 'remove', undefined);
    case 'copy':
      return edit(target, to, 'add', structuredClone(at(target, from)));
    case 'move':
      return edit(edit(target, from, 'remove', undefined), to, 'add', at(target, from));
    case 'test':
      if (!sameJson(at(target, to), operation.value)) throw unprocessable(`testing value ${path} failed`);
      return target;
    default:
      throw badRequest('unexpected kind of JSON patch operation');
  }
}

const unprocessable = (why: string): KubeError =>
  new KubeError(422, 'Invalid', `the server rejected our request due to an error in our request: ${why}`);

const pointer = (path: string): string[] =>
  path
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));

const child = (value: unknown, key: string): unknown => {
  if (Array.isArray(value)) return value[key === '-' ? value.length : Number(key)];
  return isRecord(value) ? value[key] : undefined;
};

const at = (value: unknown, path: string[]): unknown => path.reduce(child, value);

function edit(target: unknown, path: string[], op: 'add' | 'replace' | 'remove', value: unknown): unknown {
  const [key, ...rest] = path;
  if (key === undefined) return value;
  const present = child(target, key) !== undefined;
  if (!present && (rest.length > 0 || op !== 'add')) throw unprocessable(`the path ${path.join('/')} is not there`);
  const next = rest.length > 0 ? edit(child(target, key), rest, op, value) : value;
  const removes = rest.length === 0 && op === 'remove';
  if (Array.isArray(target)) {
    const index = key === '-' ? target.length : Number(key);
    const inserts = rest.length === 0 && op === 'add';
    return (target as unknown[]).toSpliced(index, inserts ? 0 : 1, ...(removes ? [] : [next]));
  }
  const record = isRecord(target) ? target : {};
  return removes ? omit(record, key) : { ...record, [key]: next };
}

const ORDER = '$setElementOrder/';
const DELETE_FROM = '$deleteFromPrimitiveList/';

/** Kubernetes' strategic merge patch: lists with keys merge item by item; `$patch`, `$retainKeys` and the like obeyed. */
export function strategicPatch(target: unknown, patch: unknown, schema: Schema): unknown {
  if (!isRecord(patch)) return patch;
  if (patch.$patch === 'replace') return omit(patch, '$patch');
  if (patch.$patch === 'delete') return {};
  let out: Fields = isRecord(target) ? { ...target } : {};
  if (Array.isArray(patch.$retainKeys)) {
    const retained: unknown[] = patch.$retainKeys;
    out = Object.fromEntries(Object.entries(out).filter(([key]) => retained.includes(key)));
  }
  for (const [key, value] of Object.entries(patch)) {
    if (key.startsWith(DELETE_FROM)) {
      const name = key.slice(DELETE_FROM.length);
      const current = out[name];
      const gone: unknown[] = Array.isArray(value) ? value : [];
      if (Array.isArray(current)) out[name] = current.filter((item) => !gone.includes(item));
    } else if (!key.startsWith('$')) {
      out[key] = value === null ? undefined : strategicField(out[key], value, fieldOf(schema, key));
    }
  }
  for (const [key, value] of Object.entries(patch)) {
    if (!key.startsWith(ORDER)) continue;
    const name = key.slice(ORDER.length);
    const current = out[name];
    if (Array.isArray(current) && Array.isArray(value)) out[name] = ordered(current, value, fieldOf(schema, name));
  }
  return Object.fromEntries(Object.entries(out).filter(([, value]) => value !== undefined));
}

function strategicField(target: unknown, patch: unknown, schema: Schema): unknown {
  if (isRecord(patch)) return strategicPatch(target, patch, schema);
  if (!Array.isArray(patch)) return patch;
  const current: unknown[] = Array.isArray(target) ? target : [];
  if (schema.set) return [...new Set([...current, ...(patch as unknown[])])];
  const key = schema.keys?.[0];
  if (key === undefined) return patch;
  const items = patch.filter(isRecord);
  if (items.some((item) => item.$patch === 'replace')) return items.filter((item) => item.$patch !== 'replace');
  return items.reduce<unknown[]>((list, item) => {
    const index = list.findIndex((other) => isRecord(other) && other[key] === item[key]);
    if (item.$patch === 'delete') return index < 0 ? list : list.toSpliced(index, 1);
    const next = strategicPatch(index < 0 ? {} : list[index], item, itemOf(schema));
    return index < 0 ? [...list, next] : list.with(index, next);
  }, current);
}

function ordered(list: unknown[], order: unknown[], schema: Schema): unknown[] {
  const first = schema.keys?.[0];
  const by: Schema = first === undefined ? { set: true } : { keys: [first] };
  const rank = new Map(order.map((item, i) => [elementOf(item, by), i]));
  const place = (item: unknown): number => rank.get(elementOf(item, by)) ?? order.length;
  return list.toSorted((a, b) => place(a) - place(b));
}
