import { createHash, randomUUID } from 'node:crypto';
import { type Condition, type Fields, isRecord, type KubeObject, type OwnerReference, timestamp } from './objects.js';
import type { Store } from './store.js';

export interface Container {
  name: string;
  image: string;
  command?: string[];
  args?: string[];
}

export interface PodSpec {
  restartPolicy?: 'Always' | 'OnFailure' | 'Never';
  containers: Container[];
  initContainers?: Container[];
  nodeName?: string;
}

export interface PodTemplate {
  metadata?: { labels?: Record<string, string>; annotations?: Record<string, string> };
  spec: PodSpec;
}

export interface ContainerStatus {
  name: string;
  image: string;
  ready: boolean;
  restartCount: number;
  state: {
    waiting?: { reason: string; message?: string };
    running?: { startedAt: string };
    terminated?: { exitCode: number; reason: string; startedAt: string; finishedAt: string };
  };
}

export interface PodStatus {
  phase: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
  startTime?: string;
  conditions?: Condition[];
  containerStatuses?: ContainerStatus[];
}

export type Pod = KubeObject<PodSpec, PodStatus>;

/** What the controllers see of the store. Each of them brings the world one step nearer to what is declared. */
export class Cluster {
  /** the earliest time at which a controller wants to look again although nothing changed */
  private alarm: number | undefined;

  constructor(private readonly store: Store) {}

  list<Spec = Fields, Status = Fields>(key: string, namespace?: string): KubeObject<Spec, Status>[] {
    // The store holds what was validated at the door or made by a controller; the views name the parts that are read.
    return this.store.list(key, namespace) as unknown as KubeObject<Spec, Status>[];
  }

  owned<Spec, Status>(key: string, owner: KubeObject<unknown, unknown>): KubeObject<Spec, Status>[] {
    const { uid, namespace } = owner.metadata;
    const isOwned = (object: KubeObject<Spec, Status>): boolean =>
      object.metadata.ownerReferences?.some((reference) => reference.uid === uid && reference.controller === true) ??
      false;
    return this.list<Spec, Status>(key, namespace).filter(isOwned);
  }

  everything(): { key: string; object: KubeObject }[] {
    return this.store.everything();
  }

  has(key: string, namespace: string | undefined, name: string): boolean {
    return this.store.get(key, namespace, name) !== undefined;
  }

  put(key: string, object: KubeObject<unknown, unknown>): void {
    this.store.put(key, object as KubeObject);
  }

  setStatus(key: string, object: KubeObject<unknown, unknown>, status: unknown): void {
    this.put(key, { ...object, status });
  }

  /** Removes, or, while finalizers are there, marks. */
  remove(key: string, object: KubeObject<unknown, unknown>): void {
    const { finalizers = [], deletionTimestamp } = object.metadata;
    if (finalizers.length === 0) {
      this.store.remove(key, object as KubeObject);
    } else if (deletionTimestamp === undefined) {
      this.put(key, { ...object, metadata: { ...object.metadata, deletionTimestamp: timestamp() } });
    }
  }

  wakeAt(ms: number): void {
    this.alarm = Math.min(this.alarm ?? Infinity, ms);
  }

  takeAlarm(): number | undefined {
    const alarm = this.alarm;
    this.alarm = undefined;
    return alarm;
  }
}

/** Metadata of an object that a controller makes for `owner`. */
export function childMetadata(
  owner: KubeObject<unknown, unknown>,
  name: string,
  labels: Record<string, string>,
): KubeObject['metadata'] {
  const { apiVersion, kind, metadata } = owner;
  const reference: OwnerReference = {
    apiVersion,
    kind,
    name: metadata.name,
    uid: metadata.uid,
    controller: true,
    blockOwnerDeletion: true,
  };
  return {
    name,
    ...(metadata.namespace === undefined ? {} : { namespace: metadata.namespace }),
    uid: randomUUID(),
    resourceVersion: '',
    creationTimestamp: timestamp(),
    labels,
    ownerReferences: [reference],
  };
}

export function makePod(
  owner: KubeObject<unknown, unknown>,
  template: PodTemplate,
  name: string,
  labels: Record<string, string> = {},
): Pod {
  const metadata = childMetadata(owner, name, { ...template.metadata?.labels, ...labels });
  const annotations = template.metadata?.annotations;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: annotations === undefined ? metadata : { ...metadata, annotations },
    spec: { ...template.spec, nodeName: 'node-1' },
    status: {
      phase: 'Pending',
      conditions: [{ type: 'PodScheduled', status: 'True', lastTransitionTime: timestamp() }],
    },
  };
}

export const isReady = (pod: Pod): boolean =>
  pod.status?.conditions?.some((condition) => condition.type === 'Ready' && condition.status === 'True') ?? false;

/** Conditions as they are now; times move only where something changed, so that an unchanged world stays unchanged. */
export function conditions(before: readonly Condition[] | undefined, wanted: readonly Condition[]): Condition[] {
  return wanted.map((next) => {
    const old = before?.find((condition) => condition.type === next.type);
    const lastTransitionTime = old?.status === next.status ? old.lastTransitionTime : undefined;
    return { ...next, lastTransitionTime: lastTransitionTime ?? timestamp() };
  });
}

/** A name for a pod template that does not depend on the order of its keys. */
export function hashOf(template: unknown): string {
  return createHash('sha256').update(JSON.stringify(template, sortKeys)).digest('hex').slice(0, 10);
}

function sortKeys(_key: string, value: unknown): unknown {
  return isRecord(value)
    ? Object.fromEntries<unknown>(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;
}
