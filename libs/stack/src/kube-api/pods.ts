import { type Cluster, conditions, type Container, type ContainerStatus, type Pod, type PodStatus } from './cluster.js';
import { type KubeObject, timestamp } from './objects.js';

/**
 * Which images "can be pulled": always by digest; from these hosts only, where hosts are given. `any` switches the
 * policy off. This is what proves that no reference to a registry outside the install is left in a chart or manifest.
 * Hosts, or folders of hosts (`registry.example.com/shop`).
 */
export type AllowedImageHosts = readonly string[] | 'any';

const DOCKER_HUB = 'docker.io';

/** Why an image is refused, or undefined when it would be pulled. */
function imageRefusal(image: string, allowed: AllowedImageHosts | undefined): string | undefined {
  if (allowed === 'any') return undefined;
  if (!/@sha256:[0-9a-f]{64}$/.test(image)) return `image "${image}" is not named by digest`;
  const [first = ''] = image.split('/');
  const named = image.includes('/') && /[.:]|^localhost$/.test(first);
  const host = named ? first : DOCKER_HUB;
  const full = named ? image : `${DOCKER_HUB}/${image}`;
  if (allowed === undefined || allowed.some((place) => full.startsWith(`${place}/`))) return undefined;
  return `image "${image}" comes from host ${host}, which is not allowed`;
}

interface Run {
  /** undefined: runs until it is deleted */
  exitCode: number | undefined;
  runMs: number;
}

/**
 * How a container behaves, from its command alone: nothing is ever run. `false` and `exit 3` fail, `sleep 2` takes its
 * time, anything else runs for ever in a service and succeeds at once in a job. `ims.test/fail: "true"` makes it fail.
 */
function runOf(pod: Pod, container: Container | undefined): Run {
  const words = [...(container?.command ?? []), ...(container?.args ?? [])];
  const text = words.join(' ');
  const seconds = /(?:^|[\s;&|])sleep (\d+(?:\.\d+)?)/.exec(text)?.[1];
  const exit = /(?:^|[\s;&|])exit (\d+)/.exec(text)?.[1];
  const fails = pod.metadata.annotations?.['ims.test/fail'] === 'true' || /(^|[\s;&|/])false$/.test(text);
  const runMs = seconds === undefined ? 0 : Number(seconds) * 1_000;
  if (exit !== undefined) return { exitCode: Number(exit), runMs };
  if (fails) return { exitCode: 1, runMs };
  const isTask = pod.spec?.restartPolicy === 'Never' || pod.spec?.restartPolicy === 'OnFailure';
  return { exitCode: isTask || seconds !== undefined ? 0 : undefined, runMs };
}

/** The kubelet's part: pulls (or refuses), starts and ends the containers of every pod, one step a call. */
export function runPods(cluster: Cluster, allowed: AllowedImageHosts | undefined): void {
  for (const pod of cluster.list<Pod['spec'], PodStatus>('pods') as Pod[]) {
    if (pod.spec === undefined || pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') continue;
    const refusals = [...(pod.spec.initContainers ?? []), ...pod.spec.containers].flatMap(
      (container) => imageRefusal(container.image, allowed) ?? [],
    );
    if (refusals[0] !== undefined) {
      cannotPull(cluster, pod, refusals[0], allowed);
    } else if (pod.status?.phase === 'Running') {
      advance(cluster, pod, pod.status);
    } else {
      start(cluster, pod);
    }
  }
}

function statusOf(pod: Pod, phase: PodStatus['phase'], ready: boolean, states: ContainerStatus[]): PodStatus {
  const done = phase === 'Succeeded' || phase === 'Failed';
  const why = ready ? {} : { reason: done ? 'PodCompleted' : 'ContainersNotReady' };
  const flag = (type: string) => ({ type, status: ready ? ('True' as const) : ('False' as const), ...why });
  const scheduled = { type: 'PodScheduled', status: 'True' as const };
  return {
    ...pod.status,
    phase,
    conditions: conditions(pod.status?.conditions, [scheduled, flag('Ready'), flag('ContainersReady')]),
    containerStatuses: states,
  };
}

function cannotPull(cluster: Cluster, pod: Pod, message: string, allowed: AllowedImageHosts | undefined): void {
  const states = (pod.spec?.containers ?? []).map((container): ContainerStatus => {
    const refusal = imageRefusal(container.image, allowed);
    const waiting = {
      reason: refusal === undefined ? 'PodInitializing' : 'ImagePullBackOff',
      message: refusal ?? message,
    };
    return { name: container.name, image: container.image, ready: false, restartCount: 0, state: { waiting } };
  });
  cluster.setStatus('pods', pod, statusOf(pod, 'Pending', false, states));
  warn(cluster, pod, 'Failed', `Failed to pull image: ${message}`);
}

function start(cluster: Cluster, pod: Pod): void {
  const startedAt = new Date().toISOString();
  const ready = pod.metadata.annotations?.['ims.test/ready'] !== 'false';
  const states = (pod.spec?.containers ?? []).map(({ name, image }): ContainerStatus => ({
    name,
    image,
    ready,
    restartCount: 0,
    state: { running: { startedAt } },
  }));
  cluster.setStatus('pods', pod, { ...statusOf(pod, 'Running', ready, states), startTime: timestamp() });
}

/** Ends the pod when its first container has run long enough; side containers end with it. */
function advance(cluster: Cluster, pod: Pod, status: PodStatus): void {
  const startedAt = status.containerStatuses?.[0]?.state.running?.startedAt;
  const { exitCode, runMs } = runOf(pod, pod.spec?.containers[0]);
  if (exitCode === undefined || startedAt === undefined) return;
  const endMs = Date.parse(startedAt) + runMs;
  if (Date.now() < endMs) {
    cluster.wakeAt(endMs);
    return;
  }
  const reason = exitCode === 0 ? 'Completed' : 'Error';
  const terminated = { exitCode, reason, startedAt, finishedAt: timestamp() };
  const isService = pod.spec?.restartPolicy !== 'Never' && pod.spec?.restartPolicy !== 'OnFailure';
  const state = isService ? { waiting: { reason: 'CrashLoopBackOff' } } : { terminated };
  const restartCount = isService ? 1 : 0;
  const states = (status.containerStatuses ?? []).map((one) => ({ ...one, ready: false, restartCount, state }));
  const phase = isService ? 'Running' : exitCode === 0 ? 'Succeeded' : 'Failed';
  cluster.setStatus('pods', pod, statusOf(pod, phase, false, states));
  if (exitCode !== 0) warn(cluster, pod, 'BackOff', `Container exited with code ${exitCode}`);
}

/** An Event about a pod, once for each reason: what people and tools read to learn why nothing gets ready. */
function warn(cluster: Cluster, pod: Pod, reason: string, message: string): void {
  const { name, namespace = '', uid } = pod.metadata;
  const eventName = `${name}.${reason.toLowerCase()}`;
  if (cluster.has('events', namespace, eventName)) return;
  const now = timestamp();
  const event: KubeObject = {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: {
      name: eventName,
      namespace,
      uid: `${uid}-${reason.toLowerCase()}`,
      resourceVersion: '',
      creationTimestamp: now,
    },
    involvedObject: { apiVersion: 'v1', kind: 'Pod', name, namespace, uid },
    type: 'Warning',
    reason,
    message,
    count: 1,
    firstTimestamp: now,
    lastTimestamp: now,
    source: { component: 'kubelet', host: 'node-1' },
  };
  cluster.put('events', event);
}

/** What `kubectl logs` shows: the image and the command that would have run, and how it ended. Undefined: no such container. */
export function podLog(pod: Pod, containerName: string | undefined): string | undefined {
  const containers = pod.spec?.containers ?? [];
  const container = containerName === undefined ? containers[0] : containers.find(({ name }) => name === containerName);
  if (container === undefined) return undefined;
  const state = pod.status?.containerStatuses?.find(({ name }) => name === container.name)?.state;
  const command = JSON.stringify([...(container.command ?? []), ...(container.args ?? [])]);
  const lines = [`image ${container.image} command ${command}`];
  if (state?.terminated !== undefined) lines.push(`finished with exit code ${state.terminated.exitCode}`);
  return `${lines.join('\n')}\n`;
}
