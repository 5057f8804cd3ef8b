import { type HealthReport } from '../executor.js';
import { identityOf, nameOf, placeOf, type KubeObject } from './objects.js';

/** Whether an object does what it is for: `waiting` may still come, `failed` will not without a change. */
export interface Readiness {
  readonly state: 'ready' | 'waiting' | 'failed';
  readonly why: string;
}

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}
interface Status {
  readonly [count: string]: unknown;
  readonly observedGeneration?: number;
  readonly conditions?: readonly Condition[];
}
interface Spec {
  readonly replicas?: number;
  readonly suspend?: boolean;
  readonly updateStrategy?: { readonly type?: string; readonly rollingUpdate?: { readonly partition?: number } };
  readonly selector?: { readonly matchLabels?: Readonly<Record<string, string>> };
}

const READY: Readiness = { state: 'ready', why: '' };
const waiting = (why: string): Readiness => ({ state: 'waiting', why });

/** Kinds that take time until they do what they are for. */
export const isWorkload = ({ kind }: KubeObject): boolean =>
  ['Deployment', 'StatefulSet', 'DaemonSet', 'Job'].includes(kind);

/** The rules of `kubectl rollout status`, for all workloads of a component in one look. Other kinds are ready at once. */
export function readinessOf(object: KubeObject): Readiness {
  const spec = (object['spec'] ?? {}) as Spec;
  const status = (object['status'] ?? {}) as Status;
  if (object.kind === 'Job') return jobReadiness(spec, status);
  if (!isWorkload(object)) return READY;
  if ((status.observedGeneration ?? 0) < (object.metadata.generation ?? 0))
    return waiting('the change is not seen yet');
  const count = (name: string): number => (typeof status[name] === 'number' ? status[name] : 0);
  const atLeast = (have: number, want: number, what: string): Readiness | undefined =>
    have < want ? waiting(`${have} of ${want} pods are ${what}`) : undefined;
  if (object.kind === 'DaemonSet') {
    const want = count('desiredNumberScheduled');
    const updated = atLeast(count('updatedNumberScheduled'), want, 'updated');
    return onDelete(spec) ? READY : (updated ?? atLeast(count('numberAvailable'), want, 'available') ?? READY);
  }
  const want = spec.replicas ?? 1;
  if (object.kind === 'StatefulSet') {
    const partition = spec.updateStrategy?.rollingUpdate?.partition ?? 0;
    const updated = onDelete(spec) ? undefined : atLeast(count('updatedReplicas'), want - partition, 'updated');
    return atLeast(count('readyReplicas'), want, 'ready') ?? updated ?? READY;
  }
  const progress = status.conditions?.find(({ type }) => type === 'Progressing');
  if (progress?.reason === 'ProgressDeadlineExceeded') return { state: 'failed', why: 'it makes no progress' };
  if (count('replicas') > count('updatedReplicas') && count('updatedReplicas') >= want)
    return waiting(`${count('replicas') - count('updatedReplicas')} old pods are not gone`);
  return (
    atLeast(count('updatedReplicas'), want, 'updated') ??
    atLeast(count('availableReplicas'), want, 'available') ??
    READY
  );
}

const REASONS_MAX = 50;
const REASON_CHARS_MAX = 500;

/** The health of a component's objects: the worst of theirs, and why. `live`: what of them the cluster has. */
export function healthOf(
  objects: readonly KubeObject[],
  live: ReadonlyMap<string, KubeObject>,
  namespace: string,
): HealthReport {
  const found = objects.map((object) => {
    const there = live.get(identityOf(placeOf(object, namespace)));
    if (there === undefined) return { health: 'missing' as const, reason: `${nameOf(object)} is gone` };
    const { state, why } = conditionOf(there);
    const health = state === 'ready' ? 'healthy' : state === 'failed' ? 'degraded' : 'progressing';
    return { health, reason: `${nameOf(object)}: ${why}` } as const;
  });
  const health = WORST_FIRST.find((each) => found.some((one) => one.health === each)) ?? 'healthy';
  const reasons = found
    .filter((one) => one.health !== 'healthy')
    .map(({ reason }) => reason.slice(0, REASON_CHARS_MAX));
  return { health, reasons: reasons.slice(0, REASONS_MAX) };
}
const WORST_FIRST = ['missing', 'degraded', 'progressing'] as const;

/** How an object does, by its kind: workloads, and what says of itself that it is not ready. */
function conditionOf(object: KubeObject): Readiness {
  if (isWorkload(object)) return readinessOf(object);
  const { conditions = [], phase } = (object['status'] ?? {}) as Status & { readonly phase?: string };
  if (object.kind === 'PersistentVolumeClaim') {
    // A claim may wait for the pod that uses it.
    return phase === 'Lost' ? { state: 'failed', why: 'its volume is lost' } : READY;
  }
  if (object.kind === 'Pod' && phase === 'Failed') return { state: 'failed', why: 'it failed' };
  const said = (type: string, status: string): Condition | undefined =>
    conditions.find((each) => each.type === type && each.status === status);
  const told = ({ message, reason, type }: Condition): string => message ?? reason ?? type;
  const stalled = said('Stalled', 'True') ?? said('NamesAccepted', 'False');
  if (stalled) return { state: 'failed', why: told(stalled) };
  const not = said('Ready', 'False') ?? said('Available', 'False') ?? said('Established', 'False');
  return not ? waiting(told(not)) : READY;
}

const onDelete = (spec: Spec): boolean => spec.updateStrategy?.type === 'OnDelete';

function jobReadiness(spec: Spec, { conditions = [] }: Status): Readiness {
  const holds = (type: string): Condition | undefined =>
    conditions.find((each) => each.type === type && each.status === 'True');
  if (holds('Complete')) return READY;
  const failed = holds('Failed');
  if (failed) return { state: 'failed', why: `it failed (${failed.message ?? failed.reason ?? 'no reason given'})` };
  // Whoever suspends a job wants it to run later.
  return spec.suspend === true ? READY : waiting('it is not done');
}

interface ContainerStatus {
  readonly name: string;
  readonly state?: Readonly<
    Record<string, { readonly reason?: string; readonly message?: string; readonly exitCode?: number } | undefined>
  >;
}

/** What keeps the pods of a workload from working, each cause once: `container web: ImagePullBackOff: …`. */
export function troublesOf(owner: KubeObject, pods: readonly KubeObject[]): string[] {
  const labels = ((owner['spec'] ?? {}) as Spec).selector?.matchLabels ?? {};
  const own = pods.filter(
    ({ metadata }) =>
      Object.keys(labels).length > 0 &&
      Object.entries(labels).every(([name, value]) => metadata.labels?.[name] === value),
  );
  const found = own.flatMap((pod) => {
    const status = (pod['status'] ?? {}) as Status & Record<string, unknown>;
    const containers = [
      ...((status['initContainerStatuses'] ?? []) as readonly ContainerStatus[]),
      ...((status['containerStatuses'] ?? []) as readonly ContainerStatus[]),
    ];
    const unscheduled = status.conditions?.find(({ type, status: is }) => type === 'PodScheduled' && is === 'False');
    return [
      ...(unscheduled ? [`not scheduled: ${unscheduled.message ?? unscheduled.reason ?? ''}`] : []),
      ...containers.flatMap(({ name, state = {} }) => {
        const { waiting: waits, terminated } = state;
        if (waits && waits.reason !== 'ContainerCreating' && waits.reason !== 'PodInitializing')
          return [`container ${name}: ${[waits.reason, waits.message].filter(Boolean).join(': ')}`];
        const code = terminated?.exitCode ?? 0;
        return code === 0 ? [] : [`container ${name} ended with exit code ${code}`];
      }),
    ];
  });
  return [...new Set(found)].map((trouble) => `${nameOf(owner)}: ${trouble}`);
}
