import { difference, elementOf, fieldsOf, intersect, pathsOf, prune, subtract, union } from './fields.js';
import {
  type Fields,
  type FieldSet,
  isRecord,
  type KubeObject,
  type ManagedFields,
  omit,
  timestamp,
  sameJson,
} from './objects.js';
import { fieldOf, itemOf, type Schema } from './schema.js';
import { type Cause, KubeError, type Named } from './status.js';

export interface Writer {
  manager: string;
  apiVersion: string;
  subresource?: string;
}

/** The part of an object whose fields have owners: not identity, not what the server writes. */
function ownable(object: Fields, subresource: string | undefined): Fields {
  const metadata = isRecord(object.metadata) ? object.metadata : {};
  const shared = ['labels', 'annotations', 'ownerReferences', 'finalizers'].filter(
    (key) => metadata[key] !== undefined,
  );
  const owned = omit(object, 'apiVersion', 'kind', 'metadata', ...(subresource === 'status' ? [] : ['status']));
  const meta = Object.fromEntries(shared.map((key) => [key, metadata[key]]));
  return shared.length > 0 ? { ...owned, metadata: meta } : owned;
}

const isEmpty = (value: Fields): boolean => Object.keys(value).length === 0;

const isOwn = (entry: ManagedFields, writer: Writer, operation: ManagedFields['operation']): boolean =>
  entry.manager === writer.manager && entry.operation === operation && entry.subresource === writer.subresource;

function withEntry(
  others: ManagedFields[],
  own: ManagedFields | undefined,
  writer: Writer,
  operation: ManagedFields['operation'],
  fields: FieldSet | undefined,
): ManagedFields[] {
  if (fields === undefined) return others;
  // An entry keeps its time while it says the same, so that repeating a write changes nothing at all.
  if (own !== undefined && sameJson(own.fieldsV1, fields)) return [...others, own];
  const { manager, apiVersion, subresource } = writer;
  const entry = {
    manager,
    operation,
    apiVersion,
    time: timestamp(),
    fieldsType: 'FieldsV1' as const,
    fieldsV1: fields,
  };
  return [...others, subresource === undefined ? entry : { ...entry, subresource }];
}

function without(entry: ManagedFields, fields: FieldSet | undefined): ManagedFields[] {
  const left = subtract(entry.fieldsV1, fields);
  return left === undefined ? [] : [{ ...entry, fieldsV1: left }];
}

/** Ownership after a write that is not an apply: the writer takes what it changed, nobody keeps what it removed. */
export function trackUpdate(
  live: KubeObject | undefined,
  next: KubeObject,
  schema: Schema,
  writer: Writer,
): ManagedFields[] {
  const before = live === undefined ? {} : ownable(live, writer.subresource);
  const after = ownable(next, writer.subresource);
  const { changed, removed } = difference(
    isEmpty(before) ? undefined : before,
    isEmpty(after) ? undefined : after,
    schema,
  );
  const entries = next.metadata.managedFields ?? live?.metadata.managedFields ?? [];
  const own = entries.find((entry) => isOwn(entry, writer, 'Update'));
  const others = entries.filter((entry) => entry !== own).flatMap((entry) => without(entry, union(changed, removed)));
  return withEntry(others, own, writer, 'Update', subtract(union(own?.fieldsV1, changed), removed));
}

/**
 * Server-side apply: merges `config` into `live`, removes what the manager applied before and no longer names, and
 * refuses (409, one cause a field) to change what somebody else owns, unless `force`.
 */
export function serverSideApply(
  live: KubeObject | undefined,
  config: KubeObject,
  schema: Schema,
  writer: Writer,
  options: { force: boolean; named: Named },
): KubeObject {
  const wanted = ownable(config, writer.subresource);
  const applied = isEmpty(wanted) ? undefined : fieldsOf(wanted, schema);
  const entries = live?.metadata.managedFields ?? [];
  const own = entries.find((entry) => isOwn(entry, writer, 'Apply'));
  const others = entries.filter((entry) => entry !== own);
  const ofOthers = others.reduce<FieldSet | undefined>((set, entry) => union(set, entry.fieldsV1), undefined);

  const base = live === undefined ? {} : ownable(live, writer.subresource);
  const merged = merge(base, wanted, schema);
  const pruned = own === undefined ? merged : prune(merged, own.fieldsV1, union(applied, ofOthers), schema);
  const next = isRecord(pruned) ? pruned : {};

  const { changed } = difference(base, next, schema);
  const conflicts = others.map((entry) => intersect(changed, entry.fieldsV1));
  if (!options.force) refuseConflicts(others, conflicts, options.named);
  const managedFields = withEntry(
    others.flatMap((entry, i) => without(entry, conflicts[i])),
    own,
    writer,
    'Apply',
    applied,
  );
  const system = omit(
    { ...(live?.metadata ?? config.metadata) },
    'labels',
    'annotations',
    'ownerReferences',
    'finalizers',
  );
  const metadata = { ...system, ...(isRecord(next.metadata) ? next.metadata : {}), managedFields };
  const kept = writer.subresource === 'status' || live?.status === undefined ? {} : { status: live.status };
  // The cast is sound: identity comes from the live object or from the config, whose identity the caller has checked.
  return { ...next, ...kept, apiVersion: config.apiVersion, kind: config.kind, metadata } as unknown as KubeObject;
}

function refuseConflicts(others: ManagedFields[], conflicts: (FieldSet | undefined)[], named: Named): void {
  const causes: Cause[] = [];
  others.forEach((entry, i) => {
    const sub = entry.subresource === undefined ? '' : ` with subresource "${entry.subresource}"`;
    const message = `conflict with "${entry.manager}"${sub} using ${entry.apiVersion}`;
    for (const field of pathsOf(conflicts[i])) causes.push({ reason: 'FieldManagerConflict', message, field });
  });
  if (causes.length === 0) return;
  const count = `${String(causes.length)} conflict${causes.length === 1 ? '' : 's'}`;
  const text = causes.map((cause) => `${cause.message}: ${cause.field}`).join('; ');
  throw new KubeError(409, 'Conflict', `Apply failed with ${count}: ${text}`, { ...named, causes });
}

function merge(live: unknown, config: unknown, schema: Schema): unknown {
  if (schema.atomic) return config;
  if (isRecord(live) && isRecord(config)) {
    const out: Fields = { ...live };
    for (const [key, value] of Object.entries(config)) {
      if (value !== null) out[key] = merge(live[key], value, fieldOf(schema, key));
    }
    return out;
  }
  if (Array.isArray(live) && Array.isArray(config) && (schema.set || schema.keys)) {
    return mergeLists(live, config, schema);
  }
  return config;
}

/** Items in the order of `config`; those that only `live` has stay behind the item that they followed. */
function mergeLists(live: unknown[], config: unknown[], schema: Schema): unknown[] {
  const liveBy = new Map(live.map((item) => [elementOf(item, schema), item]));
  const wanted = new Set(config.map((item) => elementOf(item, schema)));
  const out = config.map((item) => merge(liveBy.get(elementOf(item, schema)), item, itemOf(schema)));
  let at = 0;
  for (const item of live) {
    const element = elementOf(item, schema);
    if (wanted.has(element)) {
      at = out.findIndex((other) => elementOf(other, schema) === element) + 1;
    } else {
      out.splice(at, 0, item);
      at += 1;
    }
  }
  return out;
}
