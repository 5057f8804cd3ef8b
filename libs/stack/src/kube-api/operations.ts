import { randomUUID } from 'node:crypto';
import { parse as parseYaml } from 'yaml';
import { serverSideApply, trackUpdate, type Writer } from './apply.js';
import { withDefaults } from './defaults.js';
import { apiVersionOf, type Kind, namedOf } from './kinds.js';
import {
  type Fields,
  isRecord,
  type KubeObject,
  type Metadata,
  omit,
  randomSuffix,
  recordAt,
  timestamp,
  sameJson,
} from './objects.js';
import { jsonPatch, mergePatch, strategicPatch } from './patch.js';
import type { Match } from './selectors.js';
import { alreadyExists, badRequest, conflict, forbidden, invalid, KubeError, notFound } from './status.js';
import type { Store } from './store.js';
import { validate } from './validation.js';

export interface WriteOptions {
  dryRun: boolean;
  fieldManager: string;
  force: boolean;
}

/** Where a request points: the resource, and the object if it names one. */
export interface Target {
  kind: Kind;
  namespace: string | undefined;
  name: string;
  subresource?: string | undefined;
}

/** Namespaces that a real server does not let go. */
const PERMANENT = ['default', 'kube-system'];

/** What the API does to objects, whatever the transport: every refusal is a KubeError, nothing is stored on a refusal. */
export class Operations {
  constructor(private readonly store: Store) {}

  get(target: Target): KubeObject {
    const { kind, namespace, name } = target;
    const found = this.store.get(kind.key, namespace, name);
    if (found === undefined) throw notFound(namedOf(kind, name));
    return target.subresource === 'scale' ? scaleOf(found) : found;
  }

  create(target: Omit<Target, 'name'>, body: unknown, options: WriteOptions): KubeObject {
    const { kind, namespace } = target;
    const sent = objectIn(body, kind, namespace);
    const generated = sent.metadata.generateName;
    const name = sent.metadata.name ?? (generated === undefined ? undefined : generated + randomSuffix());
    if (name === undefined) {
      const field = {
        reason: 'FieldValueRequired',
        message: 'Required value: name or generateName is required',
        field: 'metadata.name',
      };
      throw invalid(namedOf(kind, ''), [field]);
    }
    if (this.store.get(kind.key, namespace, name) !== undefined) throw alreadyExists(namedOf(kind, name));
    const fresh = this.fresh(kind, namespace, { ...sent, metadata: { ...sent.metadata, name } });
    const managedFields = trackUpdate(undefined, fresh, kind.schema, writerOf(options, kind));
    return this.save(kind, { ...fresh, metadata: { ...fresh.metadata, managedFields } }, options);
  }

  replace(target: Target, body: unknown, options: WriteOptions): KubeObject {
    const { kind, namespace, name, subresource } = target;
    const current = this.get({ kind, namespace, name });
    if (subresource === 'scale') return this.scale(target, current, body, options);
    const sent = objectIn(body, kind, namespace);
    if (sent.metadata.name !== name)
      throw badRequest(`the name of the object does not match the name on the URL (${name})`);
    return this.update(target, current, sent, options);
  }

  patch(target: Target, type: string, body: Buffer, options: WriteOptions): KubeObject {
    const { kind, namespace, name, subresource } = target;
    if (type === 'application/apply-patch+yaml') return this.apply(target, parseYaml(body.toString('utf8')), options);
    const patch: unknown = JSON.parse(body.toString('utf8'));
    const current = this.get({ kind, namespace, name });
    if (subresource === 'scale') return this.scale(target, current, mergePatch(scaleOf(current), patch), options);
    const next = patched(kind, type, current, patch);
    return this.update(target, current, objectIn(next, kind, namespace), options);
  }

  /**
   * Deletes: at once, or, while finalizers (or `Foreground` dependents, or a namespace's contents) are there, by marking.
   * What the object owned is collected by the controllers.
   */
  remove(target: Target, body: unknown, dryRun: boolean): KubeObject {
    const { kind, name } = target;
    const current = this.get({ kind, namespace: target.namespace, name });
    const asked = recordAt(body, 'preconditions');
    const { uid, resourceVersion, finalizers = [], deletionTimestamp } = current.metadata;
    if (asked.uid !== undefined && asked.uid !== uid)
      throw conflict(namedOf(kind, name), 'the UID in the precondition does not match');
    if (asked.resourceVersion !== undefined && asked.resourceVersion !== resourceVersion) {
      throw conflict(namedOf(kind, name), 'the ResourceVersion in the precondition does not match');
    }
    if (kind.key === 'namespaces' && PERMANENT.includes(name)) {
      throw forbidden(namedOf(kind, name), 'this namespace may not be deleted');
    }
    if (dryRun) return current;
    const policy = recordAt(body).propagationPolicy;
    const extra = policy === 'Foreground' ? ['foregroundDeletion'] : policy === 'Orphan' ? ['orphan'] : [];
    const waits = [...new Set([...finalizers, ...extra])];
    if (waits.length === 0 && kind.key !== 'namespaces') {
      this.store.remove(kind.key, current);
      return current;
    }
    const metadata: Metadata = { ...current.metadata, deletionTimestamp: deletionTimestamp ?? timestamp() };
    if (waits.length > 0) metadata.finalizers = waits;
    const ending = kind.key === 'namespaces' ? { status: { phase: 'Terminating' } } : {};
    return this.store.put(kind.key, { ...current, ...ending, metadata });
  }

  removeAll(target: Omit<Target, 'name'>, match: Match, body: unknown, dryRun: boolean): KubeObject[] {
    const { kind, namespace } = target;
    const chosen = this.store.list(kind.key, namespace).filter(match);
    return chosen.map((o) => this.remove(targetOf(kind, o.metadata), omit(recordAt(body), 'preconditions'), dryRun));
  }

  private apply(target: Target, body: unknown, options: WriteOptions): KubeObject {
    const { kind, namespace, name, subresource } = target;
    if (options.fieldManager === '') throw badRequest('fieldManager is required for apply patch');
    const current = this.store.get(kind.key, namespace, name);
    if (subresource === 'scale') throw new KubeError(415, 'UnsupportedMediaType', 'apply on scale is not supported');
    const sent = objectIn(body, kind, namespace);
    if (sent.metadata.managedFields !== undefined) throw badRequest('metadata.managedFields must be nil');
    const config = { ...sent, metadata: { ...sent.metadata, name } } as KubeObject;
    const writer = writerOf(options, kind, subresource);
    if (current !== undefined) {
      const named = namedOf(kind, name);
      const next = serverSideApply(current, config, kind.schema, writer, { force: options.force, named });
      const revision = sent.metadata.resourceVersion ?? current.metadata.resourceVersion;
      const asSent = { ...next, metadata: { ...next.metadata, resourceVersion: revision } };
      return this.update(target, current, asSent, options, true);
    }
    const created = serverSideApply(undefined, config, kind.schema, writer, { force: true, named: {} });
    return this.save(kind, this.fresh(kind, namespace, created), options);
  }

  /** A new object with all that the server adds; admitted, not stored. */
  private fresh(kind: Kind, namespace: string | undefined, sent: KubeObject | Sent): KubeObject {
    if (namespace !== undefined) this.needsNamespace(kind, namespace, sent.metadata.name ?? '');
    const metadata = {
      ...omit({ ...sent.metadata }, 'selfLink', 'deletionTimestamp', 'resourceVersion'),
      ...(namespace === undefined ? {} : { namespace }),
      uid: randomUUID(),
      resourceVersion: '',
      creationTimestamp: timestamp(),
      ...(recordAt(sent).spec === undefined ? {} : { generation: 1 }),
    } as Metadata;
    const bare = { ...(kind.status ? omit({ ...sent }, 'status') : sent), metadata } as KubeObject;
    const object = withDefaults(kind.key, bare, this.store.revision + 1);
    validate(kind, object, undefined);
    return object;
  }

  private needsNamespace(kind: Kind, namespace: string, name: string): void {
    const found = this.store.get('namespaces', undefined, namespace);
    if (found === undefined) throw notFound({ kind: 'namespaces', name: namespace });
    if (found.metadata.deletionTimestamp === undefined) return;
    throw forbidden(
      namedOf(kind, name),
      `unable to create new content in namespace ${namespace} because it is being terminated`,
    );
  }

  private update(target: Target, current: KubeObject, sent: Sent, options: WriteOptions, applied = false): KubeObject {
    const { kind, name, subresource } = target;
    const { uid, resourceVersion } = sent.metadata;
    if (uid !== undefined && uid !== current.metadata.uid)
      throw conflict(namedOf(kind, name), 'the UID does not match');
    if (
      resourceVersion !== undefined &&
      resourceVersion !== '' &&
      resourceVersion !== current.metadata.resourceVersion
    ) {
      throw conflict(
        namedOf(kind, name),
        'the object has been modified; please apply your changes to the latest version and try again',
      );
    }
    const next = this.admitted(kind, current, sent, subresource);
    const tracked = applied
      ? next.metadata.managedFields
      : trackUpdate(current, next, kind.schema, writerOf(options, kind, subresource));
    const managed = tracked === undefined ? {} : { managedFields: tracked };
    return this.save(kind, { ...next, metadata: { ...next.metadata, ...managed } }, options);
  }

  /** The new version with what a client cannot change put back, defaults, generation; refused when not valid. */
  private admitted(kind: Kind, current: KubeObject, sent: Sent, subresource: string | undefined): KubeObject {
    const { uid, creationTimestamp, resourceVersion, generation, deletionTimestamp, namespace } = current.metadata;
    if (subresource === 'status') {
      const managed = sent.metadata.managedFields === undefined ? {} : { managedFields: sent.metadata.managedFields };
      const metadata = { ...current.metadata, ...managed };
      return { ...current, metadata, ...(isRecord(sent.status) ? { status: sent.status } : {}) };
    }
    const metadata = {
      ...omit({ ...sent.metadata }, 'deletionTimestamp', 'selfLink'),
      ...(namespace === undefined ? {} : { namespace }),
      ...(generation === undefined ? {} : { generation }),
      ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
      uid,
      creationTimestamp,
      resourceVersion,
    } as Metadata;
    const body = kind.status ? { ...omit({ ...sent }, 'status'), ...pick(current, 'status') } : sent;
    const carried = { ...body, metadata } as KubeObject;
    if (kind.key === 'services') keepAddress(carried, current);
    const next = withDefaults(kind.key, carried, this.store.revision + 1);
    validate(kind, next, current);
    if (generation !== undefined && !sameJson(next.spec, current.spec)) next.metadata.generation = generation + 1;
    return next;
  }

  private scale(target: Target, current: KubeObject, body: unknown, options: WriteOptions): KubeObject {
    const replicas = recordAt(body, 'spec').replicas ?? 0;
    const { resourceVersion } = recordAt(body, 'metadata') as { resourceVersion?: string };
    const metadata = { ...current.metadata, resourceVersion: resourceVersion ?? '' };
    const next = { ...current, metadata, spec: { ...current.spec, replicas } };
    return scaleOf(this.update(target, current, next, options));
  }

  private save(kind: Kind, object: KubeObject, options: WriteOptions): KubeObject {
    if (options.dryRun) return object;
    const { deletionTimestamp, finalizers = [] } = object.metadata;
    if (deletionTimestamp === undefined || finalizers.length > 0 || kind.key === 'namespaces') {
      return this.store.put(kind.key, object);
    }
    this.store.remove(kind.key, object);
    return object;
  }
}

/** An object as a client sends it: identity may be missing. */
type Sent = Omit<KubeObject, 'metadata'> & { metadata: Partial<Metadata>; status?: unknown };

function objectIn(body: unknown, kind: Kind, namespace: string | undefined): Sent {
  if (!isRecord(body)) throw badRequest('the body must be an object');
  const apiVersion = body.apiVersion ?? apiVersionOf(kind);
  const sentKind = body.kind ?? kind.kind;
  if (apiVersion !== apiVersionOf(kind) || sentKind !== kind.kind) {
    const sent = `${JSON.stringify(apiVersion)} ${JSON.stringify(sentKind)}`;
    throw badRequest(`${sent} in the body does not match ${apiVersionOf(kind)} ${kind.kind} of the URL`);
  }
  const metadata: Partial<Metadata> = recordAt(body, 'metadata');
  if (metadata.namespace !== undefined && metadata.namespace !== namespace) {
    throw badRequest(`the namespace of the provided object does not match the namespace sent on the request`);
  }
  return { ...body, apiVersion: apiVersionOf(kind), kind: kind.kind, metadata };
}

function targetOf(kind: Kind, metadata: Metadata): Target {
  return { kind, namespace: metadata.namespace, name: metadata.name };
}

function patched(kind: Kind, type: string, current: KubeObject, patch: unknown): unknown {
  switch (type) {
    case 'application/merge-patch+json':
      return mergePatch(current, patch);
    case 'application/json-patch+json':
      return jsonPatch(current, patch);
    case 'application/strategic-merge-patch+json':
      if (!kind.custom) return strategicPatch(current, patch, kind.schema);
      break;
  }
  throw new KubeError(415, 'UnsupportedMediaType', `the body of the request was in an unknown format: ${type}`);
}

const writerOf = (options: WriteOptions, kind: Kind, subresource?: string): Writer => ({
  manager: options.fieldManager,
  apiVersion: apiVersionOf(kind),
  ...(subresource === undefined ? {} : { subresource }),
});

const pick = (object: Fields, key: string): Fields => (object[key] === undefined ? {} : { [key]: object[key] });

/** A PUT that leaves the cluster address out keeps it. */
function keepAddress(next: KubeObject, current: KubeObject): void {
  const { clusterIP, clusterIPs } = recordAt(current, 'spec');
  if (clusterIP !== undefined) next.spec = { clusterIP, clusterIPs, ...next.spec };
}

function scaleOf(object: KubeObject): KubeObject {
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  const metadata = { name, uid, resourceVersion, creationTimestamp, ...(namespace === undefined ? {} : { namespace }) };
  const labels = Object.entries(recordAt(object, 'spec', 'selector', 'matchLabels'));
  const selector = labels.map(([key, value]) => `${key}=${String(value)}`).join(',');
  const replicas = object.spec?.replicas ?? 0;
  const status = { replicas: object.status?.replicas ?? 0, selector };
  return { apiVersion: 'autoscaling/v1', kind: 'Scale', metadata, spec: { replicas }, status };
}
