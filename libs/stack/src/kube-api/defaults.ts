import { type Fields, isRecord, type KubeObject, recordAt } from './objects.js';

/**
 * The defaults that a real server writes into the kinds that matter here. They are part of the protocol: a diff, a
 * three-way merge or a drift probe that does not expect fields nobody sent fails on a real cluster and must fail here.
 * `ordinal` is a number that no other object has (the next revision): a Service's cluster address follows from it.
 */
export function withDefaults(key: string, object: KubeObject, ordinal: number): KubeObject {
  const next = structuredClone(object);
  switch (key) {
    case 'deployments.apps':
      podTemplate(fill(next, 'spec', DEPLOYMENT));
      break;
    case 'statefulsets.apps':
      podTemplate(fill(next, 'spec', STATEFUL_SET));
      break;
    case 'daemonsets.apps':
      podTemplate(fill(next, 'spec', DAEMON_SET));
      break;
    case 'replicasets.apps':
      podTemplate(fill(next, 'spec', { replicas: 1 }));
      break;
    case 'jobs.batch':
      job(next);
      break;
    case 'cronjobs.batch':
      podTemplate(fill(inside(fill(next, 'spec', CRON_JOB), 'jobTemplate'), 'spec', {}));
      break;
    case 'pods':
      podSpec(fill(next, 'spec', {}));
      break;
    case 'services':
      service(fill(next, 'spec', { type: 'ClusterIP', sessionAffinity: 'None' }), ordinal);
      break;
    case 'secrets':
      secret(next);
      break;
    case 'namespaces':
      fill(next, 'spec', { finalizers: ['kubernetes'] });
      next.metadata.labels = { ...next.metadata.labels, 'kubernetes.io/metadata.name': next.metadata.name };
      break;
    case 'persistentvolumeclaims':
      fill(next, 'spec', { volumeMode: 'Filesystem', storageClassName: 'standard' });
      break;
    case 'networkpolicies.networking.k8s.io':
      fill(next, 'spec', { policyTypes: ['Ingress'] });
      break;
  }
  return next;
}

const ROLLING = { maxSurge: '25%', maxUnavailable: '25%' };
const DEPLOYMENT = { replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600 };
const STATEFUL_SET = { replicas: 1, revisionHistoryLimit: 10, podManagementPolicy: 'OrderedReady' };
const DAEMON_SET = { revisionHistoryLimit: 10 };
const CRON_JOB = {
  concurrencyPolicy: 'Allow',
  suspend: false,
  successfulJobsHistoryLimit: 3,
  failedJobsHistoryLimit: 1,
};
const JOB = { parallelism: 1, completions: 1, backoffLimit: 6, completionMode: 'NonIndexed', suspend: false };

/** The record at `key`, made if missing, with defaults in the places that nobody filled. */
function fill(parent: Fields, key: string, defaults: Fields): Fields {
  const record = inside(parent, key);
  for (const [name, value] of Object.entries(defaults)) record[name] ??= structuredClone(value);
  if (key !== 'spec') return record;
  if (defaults === DEPLOYMENT) fill(record, 'strategy', { type: 'RollingUpdate' });
  const strategy = record.strategy;
  if (isRecord(strategy) && strategy.type === 'RollingUpdate') fill(strategy, 'rollingUpdate', ROLLING);
  if (defaults === STATEFUL_SET || defaults === DAEMON_SET) fill(record, 'updateStrategy', { type: 'RollingUpdate' });
  return record;
}

function inside(parent: Fields, key: string): Fields {
  const current = parent[key];
  if (isRecord(current)) return current;
  const made: Fields = {};
  parent[key] = made;
  return made;
}

function podTemplate(spec: Fields): void {
  const template = inside(spec, 'template');
  inside(template, 'metadata');
  podSpec(inside(template, 'spec'));
}

function podSpec(spec: Fields): void {
  const defaults = {
    restartPolicy: 'Always',
    terminationGracePeriodSeconds: 30,
    dnsPolicy: 'ClusterFirst',
    securityContext: {},
    schedulerName: 'default-scheduler',
  };
  for (const [name, value] of Object.entries(defaults)) spec[name] ??= value;
  for (const container of records(spec.containers, spec.initContainers)) {
    const image = typeof container.image === 'string' ? container.image : '';
    const moves = !image.includes('@') && (image.endsWith(':latest') || !/:[^/]+$/.test(image));
    container.imagePullPolicy ??= moves ? 'Always' : 'IfNotPresent';
    container.resources ??= {};
    container.terminationMessagePath ??= '/dev/termination-log';
    container.terminationMessagePolicy ??= 'File';
    for (const port of records(container.ports)) port.protocol ??= 'TCP';
    for (const probe of records([container.livenessProbe, container.readinessProbe, container.startupProbe])) {
      const timing = { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 };
      for (const [name, value] of Object.entries(timing)) probe[name] ??= value;
      if (isRecord(probe.httpGet)) probe.httpGet.scheme ??= 'HTTP';
    }
  }
  for (const volume of records(spec.volumes)) {
    for (const source of records([volume.configMap, volume.secret])) source.defaultMode ??= 420;
  }
}

function records(...lists: unknown[]): Fields[] {
  return lists.flatMap((list) => (Array.isArray(list) ? list.filter(isRecord) : []));
}

/** The Job controller finds its pods by a label with the job's own uid; the template is immutable from here on. */
function job(object: KubeObject): void {
  const spec = fill(object, 'spec', JOB);
  podTemplate(spec);
  const { uid, name } = object.metadata;
  spec.selector ??= { matchLabels: { 'batch.kubernetes.io/controller-uid': uid } };
  const metadata = inside(inside(spec, 'template'), 'metadata');
  metadata.labels = {
    ...recordAt(metadata, 'labels'),
    'batch.kubernetes.io/controller-uid': uid,
    'batch.kubernetes.io/job-name': name,
    'controller-uid': uid,
    'job-name': name,
  };
}

function service(spec: Fields, ordinal: number): void {
  for (const port of records(spec.ports)) {
    port.protocol ??= 'TCP';
    port.targetPort ??= port.port;
  }
  if (spec.type === 'ExternalName') return;
  spec.clusterIP ??= `10.96.${String((ordinal >> 8) % 256)}.${String(ordinal % 256)}`;
  spec.clusterIPs ??= [spec.clusterIP];
  spec.internalTrafficPolicy ??= 'Cluster';
  spec.ipFamilies ??= ['IPv4'];
  spec.ipFamilyPolicy ??= 'SingleStack';
}

/** `stringData` is for writing only: it becomes part of `data` and is never shown. */
function secret(object: KubeObject): void {
  object.type ??= 'Opaque';
  const text = recordAt(object, 'stringData');
  if (Object.keys(text).length > 0) {
    const encoded = Object.entries(text).map(([key, value]) => [
      key,
      Buffer.from(typeof value === 'string' ? value : '').toString('base64'),
    ]);
    object.data = { ...recordAt(object, 'data'), ...(Object.fromEntries(encoded) as Fields) };
  }
  Reflect.deleteProperty(object, 'stringData');
}
