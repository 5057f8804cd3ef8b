import { randomUUID } from 'node:crypto';
import type { Cluster } from './cluster.js';
import { CRDS, kindOfDefinition, type Kinds } from './kinds.js';
import { type Fields, type KubeObject, recordAt, recordsAt, timestamp } from './objects.js';

/** Namespaces: what every new one contains, and emptying one that is being deleted. */
export function runNamespaces(cluster: Cluster): void {
  for (const namespace of cluster.list('namespaces')) {
    const { name, deletionTimestamp, finalizers = [] } = namespace.metadata;
    if (deletionTimestamp === undefined) {
      if (recordAt(namespace, 'status').phase === undefined) {
        cluster.setStatus('namespaces', namespace, { phase: 'Active' });
        cluster.put('serviceaccounts', bare('ServiceAccount', name, 'default'));
        const data = { 'ca.crt': 'not a certificate: see the kubeconfig\n' };
        cluster.put('configmaps', { ...bare('ConfigMap', name, 'kube-root-ca.crt'), data });
      }
      continue;
    }
    const content = cluster.everything().filter(({ object }) => object.metadata.namespace === name);
    for (const { key, object } of content) cluster.remove(key, object);
    if (content.length === 0 && finalizers.length === 0) cluster.remove('namespaces', namespace);
  }
}

function bare(kind: string, namespace: string, name: string): KubeObject {
  const metadata = { name, namespace, uid: randomUUID(), resourceVersion: '', creationTimestamp: timestamp() };
  return { apiVersion: 'v1', kind, metadata };
}

/**
 * Garbage collection: what has owners but none that exists goes; an owner that waits for its dependents (`Foreground`)
 * loses them first, one that leaves them (`Orphan`) is forgotten by them.
 */
export function collectGarbage(cluster: Cluster): void {
  const all = cluster.everything();
  const owners = new Map(all.map(({ object }) => [object.metadata.uid, object]));
  const waited = new Set<string>();
  for (const { key, object } of all) {
    const references = object.metadata.ownerReferences ?? [];
    if (references.length === 0) continue;
    const kept = references.filter(({ uid }) => !has(owners.get(uid), 'orphan'));
    const dead = kept.every(({ uid }) => !owners.has(uid) || has(owners.get(uid), 'foregroundDeletion'));
    if (kept.length < references.length) {
      cluster.put(key, { ...object, metadata: { ...object.metadata, ownerReferences: kept } });
    } else if (dead) {
      for (const { uid } of kept) waited.add(uid);
      cluster.remove(key, object);
    }
  }
  for (const { key, object } of all) {
    const { uid, finalizers = [], deletionTimestamp } = object.metadata;
    if (deletionTimestamp === undefined) continue;
    const done = finalizers.filter((f) => f === 'orphan' || (f === 'foregroundDeletion' && !waited.has(uid)));
    if (done.length === 0) continue;
    const left = finalizers.filter((finalizer) => !done.includes(finalizer));
    const next = { ...object, metadata: { ...object.metadata, finalizers: left } };
    if (left.length === 0) cluster.remove(key, next);
    else cluster.put(key, next);
  }
}

const has = (owner: KubeObject | undefined, finalizer: string): boolean =>
  owner?.metadata.deletionTimestamp !== undefined && (owner.metadata.finalizers?.includes(finalizer) ?? false);

/** CustomResourceDefinitions become established; the objects of one that is gone go with it. */
export function runDefinitions(cluster: Cluster, kinds: Kinds): void {
  for (const definition of cluster.list(CRDS)) {
    const isServed = kindOfDefinition(definition).length > 0;
    if (!isServed || recordsAt(definition, 'status', 'conditions').length > 0) continue;
    const names = recordAt(definition, 'spec', 'names');
    const condition = (type: string, reason: string): Fields => ({
      type,
      status: 'True',
      reason,
      lastTransitionTime: timestamp(),
    });
    cluster.setStatus(CRDS, definition, {
      acceptedNames: names,
      storedVersions: recordsAt(definition, 'spec', 'versions').flatMap((v) => (v.storage === true ? [v.name] : [])),
      conditions: [condition('NamesAccepted', 'NoConflicts'), condition('Established', 'InitialNamesAccepted')],
    });
  }
  const served = new Set(kinds.all().map((kind) => kind.key));
  for (const { key, object } of cluster.everything()) if (!served.has(key)) cluster.remove(key, object);
}

/** Addresses and volumes are there at once. */
export function runProvisioning(cluster: Cluster): void {
  for (const claim of cluster.list('persistentvolumeclaims')) {
    const capacity = recordAt(claim, 'spec', 'resources', 'requests');
    cluster.setStatus('persistentvolumeclaims', claim, {
      phase: 'Bound',
      accessModes: claim.spec?.accessModes,
      capacity,
    });
  }
  const loadBalancer = { ingress: [{ ip: '127.0.0.1' }] };
  for (const service of cluster.list('services')) {
    const status = service.spec?.type === 'LoadBalancer' ? { loadBalancer } : { loadBalancer: {} };
    cluster.setStatus('services', service, status);
  }
  for (const ingress of cluster.list('ingresses.networking.k8s.io')) {
    cluster.setStatus('ingresses.networking.k8s.io', ingress, { loadBalancer });
  }
}
