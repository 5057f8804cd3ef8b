import { type Fields, type FieldSet, isRecord, sameJson } from './objects.js';
import { fieldOf, itemOf, KEY_DEFAULTS, type Schema } from './schema.js';

const SELF = '.';
const isMember = (set: FieldSet): boolean => SELF in set || Object.keys(set).length === 0;
const childrenOf = (set: FieldSet): [string, FieldSet][] => Object.entries(set).filter(([key]) => key !== SELF);

function build(member: boolean, children: [string, FieldSet | undefined][]): FieldSet | undefined {
  const kept = children.filter((entry): entry is [string, FieldSet] => entry[1] !== undefined);
  if (kept.length === 0) return member ? {} : undefined;
  return { ...(member ? { [SELF]: {} } : {}), ...Object.fromEntries(kept) };
}

export function union(a: FieldSet | undefined, b: FieldSet | undefined): FieldSet | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const keys = new Set([...childrenOf(a), ...childrenOf(b)].map(([key]) => key));
  return build(
    isMember(a) || isMember(b),
    [...keys].map((key) => [key, union(a[key], b[key])]),
  );
}

export function subtract(a: FieldSet | undefined, b: FieldSet | undefined): FieldSet | undefined {
  if (a === undefined || b === undefined) return a;
  return build(
    isMember(a) && !isMember(b),
    childrenOf(a).map(([key, child]) => [key, subtract(child, b[key])]),
  );
}

export function intersect(a: FieldSet | undefined, b: FieldSet | undefined): FieldSet | undefined {
  if (a === undefined || b === undefined) return undefined;
  return build(
    isMember(a) && isMember(b),
    childrenOf(a).map(([key, child]) => [key, intersect(child, b[key])]),
  );
}

/** Paths for people: `.spec.template.spec.containers[name="web"].image`. */
export function pathsOf(set: FieldSet | undefined, prefix = ''): string[] {
  if (set === undefined) return [];
  const own = isMember(set) && prefix !== '' ? [prefix] : [];
  return [...own, ...childrenOf(set).flatMap(([key, child]) => pathsOf(child, prefix + elementText(key)))];
}

function elementText(element: string): string {
  const value = element.slice(2);
  if (element.startsWith('f:')) return `.${value}`;
  if (element.startsWith('v:')) return `[=${value}]`;
  const keys = Object.entries(JSON.parse(value) as Fields).map(([key, at]) => `${key}=${JSON.stringify(at)}`);
  return `[${keys.join(',')}]`;
}

/** The name of a list item among its siblings, or undefined where the list is owned as a whole. */
export function elementOf(item: unknown, schema: Schema): string | undefined {
  if (schema.set) return `v:${JSON.stringify(item)}`;
  if (schema.keys === undefined || !isRecord(item)) return undefined;
  const keys = [...schema.keys].sort().map((key) => [key, item[key] ?? KEY_DEFAULTS[key]]);
  return `k:${JSON.stringify(Object.fromEntries(keys))}`;
}

type Parts = Map<string, { value: unknown; schema: Schema; item: boolean }>;

/** The parts of a value that are owned one by one; undefined for a leaf. */
function partsOf(value: unknown, schema: Schema): Parts | undefined {
  if (schema.atomic) return undefined;
  if (isRecord(value)) {
    const entries = Object.entries(value);
    if (entries.length === 0) return undefined;
    return new Map(entries.map(([key, at]) => [`f:${key}`, { value: at, schema: fieldOf(schema, key), item: false }]));
  }
  if (!Array.isArray(value) || value.length === 0) return undefined;
  const parts: Parts = new Map();
  for (const at of value as unknown[]) {
    const element = elementOf(at, schema);
    if (element === undefined) return undefined;
    parts.set(element, { value: at, schema: schema.set ? {} : itemOf(schema), item: true });
  }
  return parts;
}

/** Every path of a value: leaves, and the items of keyed lists themselves. */
export function fieldsOf(value: unknown, schema: Schema): FieldSet {
  const parts = partsOf(value, schema);
  if (parts === undefined) return {};
  const set: FieldSet = {};
  for (const [element, part] of parts) {
    const inner = fieldsOf(part.value, part.schema);
    set[element] = part.item && Object.keys(inner).length > 0 ? { [SELF]: {}, ...inner } : inner;
  }
  return set;
}

export interface Difference {
  /** paths that are new or have another value */
  changed: FieldSet | undefined;
  removed: FieldSet | undefined;
}

export function difference(before: unknown, after: unknown, schema: Schema): Difference {
  const old = partsOf(before, schema);
  const next = partsOf(after, schema);
  if (old === undefined || next === undefined) {
    if (sameJson(before, after)) return { changed: undefined, removed: undefined };
    return {
      changed: after === undefined ? undefined : fieldsOf(after, schema),
      removed: before === undefined ? undefined : subtract(fieldsOf(before, schema), fieldsOf(after, schema)),
    };
  }
  const elements = [...new Set([...old.keys(), ...next.keys()])];
  const parts = elements.map((element): [string, Difference] => {
    const was = old.get(element);
    const is = next.get(element);
    const one = was ?? is;
    if (was !== undefined && is !== undefined) return [element, difference(was.value, is.value, is.schema)];
    const inner = one === undefined ? {} : fieldsOf(one.value, one.schema);
    const all = one?.item && Object.keys(inner).length > 0 ? { [SELF]: {}, ...inner } : inner;
    return [element, is === undefined ? { changed: undefined, removed: all } : { changed: all, removed: undefined }];
  });
  return {
    changed: build(
      false,
      parts.map(([element, part]) => [element, part.changed]),
    ),
    removed: build(
      false,
      parts.map(([element, part]) => [element, part.removed]),
    ),
  };
}

/**
 * Removes what `last` owned and nobody in `kept` owns. A parent in which nobody owns anything any more goes as a whole,
 * with its defaulted fields: else a removed probe would leave `{timeoutSeconds: 1}` behind.
 */
export function prune(value: unknown, last: FieldSet, kept: FieldSet | undefined, schema: Schema): unknown {
  const gone = (element: string): boolean => last[element] !== undefined && kept?.[element] === undefined;
  const inner = (element: string, at: unknown, of: Schema): unknown => {
    const set = last[element];
    return set === undefined ? at : prune(at, set, kept?.[element], of);
  };
  if (schema.atomic) return value;
  if (isRecord(value)) {
    const left = Object.entries(value).filter(([key]) => !gone(`f:${key}`));
    return Object.fromEntries(left.map(([key, at]) => [key, inner(`f:${key}`, at, fieldOf(schema, key))]));
  }
  if (!Array.isArray(value)) return value;
  return (value as unknown[]).flatMap((at) => {
    const element = elementOf(at, schema);
    if (element === undefined) return [at];
    return gone(element) ? [] : [inner(element, at, itemOf(schema))];
  });
}
