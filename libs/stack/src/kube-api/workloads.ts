import {
  childMetadata,
  type Cluster,
  conditions,
  hashOf,
  isReady,
  makePod,
  type Pod,
  type PodSpec,
  type PodStatus,
  type PodTemplate,
} from './cluster.js';
import { type Condition, type KubeObject, type Metadata, omit, randomSuffix } from './objects.js';

const REVISION = 'deployment.kubernetes.io/revision';
const HASH = 'pod-template-hash';

interface Selector {
  matchLabels?: Record<string, string>;
}

interface ReplicaSetSpec {
  replicas: number;
  selector: Selector;
  template: PodTemplate;
}

interface DeploymentSpec extends ReplicaSetSpec {
  paused?: boolean;
  revisionHistoryLimit: number;
  progressDeadlineSeconds: number;
  strategy: { type: 'RollingUpdate' | 'Recreate' };
}

interface ReplicaStatus {
  observedGeneration?: number;
  replicas: number;
  readyReplicas: number;
  availableReplicas: number;
  conditions?: Condition[];
}

interface DeploymentStatus extends ReplicaStatus {
  updatedReplicas: number;
  unavailableReplicas: number;
}

type Deployment = KubeObject<DeploymentSpec, DeploymentStatus>;
type ReplicaSet = KubeObject<ReplicaSetSpec, ReplicaStatus>;

const podsOf = (cluster: Cluster, owner: KubeObject<unknown, unknown>): Pod[] =>
  cluster.owned<PodSpec, PodStatus>('pods', owner);

const observed = (metadata: Metadata): { observedGeneration?: number } =>
  metadata.generation === undefined ? {} : { observedGeneration: metadata.generation };

const isAlive = (object: KubeObject<unknown, unknown>): boolean => object.metadata.deletionTimestamp === undefined;

export function runReplicaSets(cluster: Cluster): void {
  for (const set of cluster.list<ReplicaSetSpec, ReplicaStatus>('replicasets.apps').filter(isAlive)) {
    if (set.spec === undefined) continue;
    const { replicas, template } = set.spec;
    const pods = podsOf(cluster, set);
    for (let i = pods.length; i < replicas; i += 1) {
      cluster.put('pods', makePod(set, template, `${set.metadata.name}-${randomSuffix()}`));
    }
    for (const pod of pods.slice(replicas)) cluster.remove('pods', pod);
    const kept = podsOf(cluster, set);
    const ready = kept.filter(isReady).length;
    const counts = {
      replicas: kept.length,
      fullyLabeledReplicas: kept.length,
      readyReplicas: ready,
      availableReplicas: ready,
    };
    cluster.setStatus('replicasets.apps', set, { ...counts, ...observed(set.metadata) });
  }
}

export function runDeployments(cluster: Cluster): void {
  for (const deployment of cluster.list<DeploymentSpec, DeploymentStatus>('deployments.apps').filter(isAlive)) {
    if (deployment.spec !== undefined) runDeployment(cluster, deployment, deployment.spec);
  }
}

const revisionOf = (object: KubeObject<unknown, unknown>): number =>
  Number(object.metadata.annotations?.[REVISION] ?? 0);

/** Rolls by full surge: the old pods stay until all new ones are ready, so a version that never starts takes nothing down. */
function runDeployment(cluster: Cluster, deployment: Deployment, spec: DeploymentSpec): void {
  const hash = hashOf(spec.template);
  const sets = cluster.owned<ReplicaSetSpec, ReplicaStatus>('replicasets.apps', deployment);
  const newest = Math.max(0, ...sets.map(revisionOf));
  let current = sets.find((set) => set.metadata.labels?.[HASH] === hash);
  const old = sets.filter((set) => set !== current);
  if (spec.paused !== true) {
    current = roll(cluster, deployment, { spec, hash, current, old, newest });
    const spare = old.filter((set) => set.status?.replicas === 0).sort((a, b) => revisionOf(b) - revisionOf(a));
    for (const set of spare.slice(spec.revisionHistoryLimit)) cluster.remove('replicasets.apps', set);
  }
  const annotations = {
    ...deployment.metadata.annotations,
    ...(current && { [REVISION]: String(revisionOf(current)) }),
  };
  const status = deploymentStatus(cluster, deployment, spec, current, old);
  cluster.put('deployments.apps', { ...deployment, metadata: { ...deployment.metadata, annotations }, status });
}

interface Rollout {
  spec: DeploymentSpec;
  hash: string;
  current: ReplicaSet | undefined;
  old: ReplicaSet[];
  newest: number;
}

function roll(cluster: Cluster, deployment: Deployment, { spec, hash, current, old, newest }: Rollout): ReplicaSet {
  const oldPods = old.reduce((sum, set) => sum + (set.status?.replicas ?? 0), 0);
  const waits = spec.strategy.type === 'Recreate' && oldPods > 0;
  const replicas = waits ? 0 : spec.replicas;
  const base = current ?? newReplicaSet(deployment, spec, hash);
  // A template that was used before gets a new, highest number: that is how a rollback appears in the history.
  const isNewest = current !== undefined && revisionOf(current) === newest;
  const revision = String(isNewest ? newest : newest + 1);
  const next = scaled(base, replicas, { ...base.metadata.annotations, [REVISION]: revision });
  cluster.put('replicasets.apps', next);
  const ready = current?.status?.readyReplicas ?? 0;
  if (waits || spec.strategy.type === 'Recreate' || ready >= spec.replicas) {
    for (const set of old) cluster.put('replicasets.apps', scaled(set, 0, set.metadata.annotations ?? {}));
  }
  return next;
}

function newReplicaSet(deployment: Deployment, spec: DeploymentSpec, hash: string): ReplicaSet {
  const labels = { ...spec.template.metadata?.labels, [HASH]: hash };
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: { ...childMetadata(deployment, `${deployment.metadata.name}-${hash}`, labels), generation: 0 },
    spec: {
      replicas: -1,
      selector: { matchLabels: { ...spec.selector.matchLabels, [HASH]: hash } },
      template: { ...spec.template, metadata: { ...spec.template.metadata, labels } },
    },
  };
}

function scaled(set: ReplicaSet, replicas: number, annotations: Record<string, string>): ReplicaSet {
  const { generation = 0 } = set.metadata;
  const changes = set.spec !== undefined && set.spec.replicas !== replicas;
  const metadata = { ...set.metadata, annotations, generation: changes ? generation + 1 : generation };
  return { ...set, metadata, ...(set.spec === undefined ? {} : { spec: { ...set.spec, replicas } }) };
}

function deploymentStatus(
  cluster: Cluster,
  deployment: Deployment,
  spec: DeploymentSpec,
  current: ReplicaSet | undefined,
  old: ReplicaSet[],
): DeploymentStatus {
  const updated = current === undefined ? [] : podsOf(cluster, current);
  const pods = [...updated, ...old.flatMap((set) => podsOf(cluster, set))];
  const ready = pods.filter(isReady).length;
  const counts = {
    ...observed(deployment.metadata),
    replicas: pods.length,
    updatedReplicas: updated.length,
    readyReplicas: ready,
    availableReplicas: ready,
    unavailableReplicas: Math.max(0, Math.max(pods.length, spec.replicas) - ready),
  };
  // 25 % of the replicas, rounded down, may be missing: the default of a rolling update.
  const enough = ready >= spec.replicas - Math.floor(spec.replicas / 4);
  const available: Condition = {
    type: 'Available',
    status: enough ? 'True' : 'False',
    reason: enough ? 'MinimumReplicasAvailable' : 'MinimumReplicasUnavailable',
    message: enough ? 'Deployment has minimum availability.' : 'Deployment does not have minimum availability.',
  };
  const complete = [pods.length, updated.length, updated.filter(isReady).length].every((n) => n === spec.replicas);
  const before = deployment.status;
  const moved = Object.entries(counts).some(([key, value]) => before?.[key as keyof typeof before] !== value);
  const progress = progressing(cluster, spec, before?.conditions, { complete, moved });
  return { ...counts, conditions: conditions(before?.conditions, [available, progress]) };
}

/** Whether the rollout moves: it counts as stuck when no number has changed for `progressDeadlineSeconds`. */
function progressing(
  cluster: Cluster,
  spec: DeploymentSpec,
  before: Condition[] | undefined,
  now: { complete: boolean; moved: boolean },
): Condition {
  const old = before?.find((condition) => condition.type === 'Progressing');
  const lastUpdateTime = (now.moved ? undefined : old?.lastUpdateTime) ?? new Date().toISOString();
  const base = { type: 'Progressing', lastUpdateTime };
  if (now.complete)
    return { ...base, status: 'True', reason: 'NewReplicaSetAvailable', message: 'ReplicaSet is available.' };
  const deadline = Date.parse(lastUpdateTime) + spec.progressDeadlineSeconds * 1_000;
  if (Date.now() >= deadline) {
    const message = `No progress for ${spec.progressDeadlineSeconds} seconds.`;
    return { ...base, status: 'False', reason: 'ProgressDeadlineExceeded', message };
  }
  cluster.wakeAt(deadline);
  return { ...base, status: 'True', reason: 'ReplicaSetUpdated', message: 'ReplicaSet is progressing.' };
}

interface StatefulSetSpec extends ReplicaSetSpec {
  volumeClaimTemplates?: { metadata: { name: string; labels?: Record<string, string> }; spec?: unknown }[];
}

const CONTROLLER_HASH = 'controller-revision-hash';

/** Pods by number, in order: the next one starts when those before are ready; an update replaces from the highest down. */
export function runStatefulSets(cluster: Cluster): void {
  for (const set of cluster.list<StatefulSetSpec, ReplicaStatus>('statefulsets.apps').filter(isAlive)) {
    if (set.spec === undefined) continue;
    const { name } = set.metadata;
    const { replicas, template } = set.spec;
    const revision = `${name}-${hashOf(template)}`;
    const isCurrent = (pod: Pod): boolean => pod.metadata.labels?.[CONTROLLER_HASH] === revision;
    const byName = new Map(podsOf(cluster, set).map((pod) => [pod.metadata.name, pod]));
    const wanted = Array.from({ length: replicas }, (_, i) => `${name}-${String(i)}`);
    for (const [podName, pod] of byName) if (!wanted.includes(podName)) cluster.remove('pods', pod);

    const missing = wanted.find((podName) => !byName.has(podName));
    const firstUnready = wanted.find((podName) => !isReady(byName.get(podName) ?? ({} as Pod)));
    const outdated = wanted.findLast((podName) => byName.has(podName) && !isCurrent(byName.get(podName) as Pod));
    if (missing !== undefined && missing === firstUnready) {
      claimVolumes(cluster, set, set.spec, missing);
      const labels = { [CONTROLLER_HASH]: revision, 'statefulset.kubernetes.io/pod-name': missing };
      cluster.put('pods', makePod(set, template, missing, labels));
    } else if (missing === undefined && outdated !== undefined && (firstUnready ?? outdated) === outdated) {
      cluster.remove('pods', byName.get(outdated) as Pod);
    }
    const pods = podsOf(cluster, set);
    const ready = pods.filter(isReady).length;
    const updatedReplicas = pods.filter(isCurrent).length;
    const before = (set.status as { currentRevision?: string } | undefined)?.currentRevision;
    cluster.setStatus('statefulsets.apps', set, {
      ...observed(set.metadata),
      replicas: pods.length,
      readyReplicas: ready,
      availableReplicas: ready,
      currentReplicas: updatedReplicas,
      updatedReplicas,
      updateRevision: revision,
      currentRevision: updatedReplicas === replicas ? revision : (before ?? revision),
      collisionCount: 0,
    });
  }
}

/** Claims have no owner: they stay when the set goes, as on a real cluster. */
function claimVolumes(
  cluster: Cluster,
  set: KubeObject<StatefulSetSpec, ReplicaStatus>,
  spec: StatefulSetSpec,
  pod: string,
): void {
  for (const template of spec.volumeClaimTemplates ?? []) {
    const name = `${template.metadata.name}-${pod}`;
    if (cluster.has('persistentvolumeclaims', set.metadata.namespace, name)) continue;
    const child = childMetadata(set, name, { ...template.metadata.labels, ...spec.selector.matchLabels });
    const metadata = omit({ ...child }, 'ownerReferences') as unknown as Metadata;
    cluster.put('persistentvolumeclaims', {
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata,
      spec: template.spec,
    });
  }
}

/** The cluster has one node, so a DaemonSet has one pod; an update replaces it. */
export function runDaemonSets(cluster: Cluster): void {
  for (const set of cluster.list<ReplicaSetSpec, unknown>('daemonsets.apps').filter(isAlive)) {
    if (set.spec === undefined) continue;
    const hash = hashOf(set.spec.template);
    const isCurrent = (pod: Pod): boolean => pod.metadata.labels?.[CONTROLLER_HASH] === hash;
    for (const pod of podsOf(cluster, set)) if (!isCurrent(pod)) cluster.remove('pods', pod);
    if (podsOf(cluster, set).length === 0) {
      const name = `${set.metadata.name}-${randomSuffix()}`;
      cluster.put('pods', makePod(set, set.spec.template, name, { [CONTROLLER_HASH]: hash }));
    }
    const pods = podsOf(cluster, set);
    const ready = pods.filter(isReady).length;
    cluster.setStatus('daemonsets.apps', set, {
      ...observed(set.metadata),
      desiredNumberScheduled: 1,
      currentNumberScheduled: pods.length,
      updatedNumberScheduled: pods.filter(isCurrent).length,
      numberReady: ready,
      numberAvailable: ready,
      numberUnavailable: 1 - ready,
      numberMisscheduled: 0,
    });
  }
}
