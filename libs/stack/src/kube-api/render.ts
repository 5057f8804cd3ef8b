import { apiVersionOf, type Kind } from './kinds.js';
import { type Fields, type KubeObject, recordAt, recordsAt, valueAt } from './objects.js';

/** The forms in which a client may ask for objects: whole, metadata only, or as the rows of a table. */
export type Form = 'object' | 'metadata' | 'table';

export function formOf(accept: string | undefined): Form {
  if (accept?.includes('as=Table') === true) return 'table';
  return accept?.includes('as=PartialObjectMetadata') === true ? 'metadata' : 'object';
}

const metadataOnly = ({ metadata }: KubeObject): Fields => ({
  kind: 'PartialObjectMetadata',
  apiVersion: 'meta.k8s.io/v1',
  metadata,
});

export function renderOne(kind: Kind, object: KubeObject, form: Form): Fields {
  if (form === 'metadata') return metadataOnly(object);
  if (form === 'object') return object;
  return table(kind, [object], { resourceVersion: object.metadata.resourceVersion });
}

export function renderList(kind: Kind, objects: readonly KubeObject[], metadata: Fields, form: Form): Fields {
  if (form === 'table') return table(kind, objects, metadata);
  if (form === 'object') return { kind: `${kind.kind}List`, apiVersion: apiVersionOf(kind), metadata, items: objects };
  const items = objects.map(metadataOnly);
  return { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1', metadata, items };
}

type Cell = (object: KubeObject) => string;

const text = (value: unknown, missing = ''): string =>
  typeof value === 'string' || typeof value === 'number' ? String(value) : missing;

const at =
  (path: string, missing?: string): Cell =>
  (object) =>
    text(valueAt(object, ...path.split('.')), missing);

const count = (path: string): Cell => at(path, '0');
const ratio =
  (part: string, whole: string): Cell =>
  (object) =>
    `${count(part)(object)}/${count(whole)(object)}`;

/** The columns between NAME and AGE; a kind that is not here has none. */
const COLUMNS: Readonly<Record<string, Readonly<Record<string, Cell>>>> = {
  namespaces: { Status: at('status.phase') },
  pods: { Ready: podReady, Status: podStatus },
  services: { Type: at('spec.type'), 'Cluster-IP': at('spec.clusterIP', '<none>') },
  secrets: { Type: at('type'), Data: (object) => String(Object.keys(recordAt(object, 'data')).length) },
  configmaps: { Data: (object) => String(Object.keys(recordAt(object, 'data')).length) },
  persistentvolumeclaims: { Status: at('status.phase') },
  events: { Type: at('type'), Reason: at('reason'), Object: at('involvedObject.name'), Message: at('message') },
  'deployments.apps': {
    Ready: ratio('status.readyReplicas', 'spec.replicas'),
    'Up-to-date': count('status.updatedReplicas'),
    Available: count('status.availableReplicas'),
  },
  'replicasets.apps': { Desired: count('spec.replicas'), Ready: count('status.readyReplicas') },
  'statefulsets.apps': { Ready: ratio('status.readyReplicas', 'spec.replicas') },
  'daemonsets.apps': { Ready: ratio('status.numberReady', 'status.desiredNumberScheduled') },
  'jobs.batch': { Status: jobStatus, Completions: ratio('status.succeeded', 'spec.completions') },
};

function podReady(pod: KubeObject): string {
  const states = recordsAt(pod, 'status', 'containerStatuses');
  const ready = states.filter((state) => state.ready === true).length;
  return `${String(ready)}/${String(recordsAt(pod, 'spec', 'containers').length)}`;
}

function podStatus(pod: KubeObject): string {
  const states = recordsAt(pod, 'status', 'containerStatuses').map((status) => recordAt(status, 'state'));
  const told = states.map((state) => recordAt(state, 'waiting').reason ?? recordAt(state, 'terminated').reason);
  return text(
    told.find((reason) => reason !== undefined),
    text(pod.status?.phase),
  );
}

function jobStatus(job: KubeObject): string {
  const ends = recordsAt(job, 'status', 'conditions').filter((c) => c.type === 'Complete' || c.type === 'Failed');
  return text(ends[0]?.type, 'Running');
}

function table(kind: Kind, objects: readonly KubeObject[], metadata: Fields): Fields {
  const columns = Object.entries(COLUMNS[kind.key] ?? {});
  const definitions = ['Name', ...columns.map(([name]) => name), 'Age'].map((name) => ({
    name,
    type: 'string',
    format: name === 'Name' ? 'name' : '',
    description: '',
    priority: 0,
  }));
  const rows = objects.map((object) => ({
    cells: [object.metadata.name, ...columns.map(([, cell]) => cell(object)), age(object.metadata.creationTimestamp)],
    object: metadataOnly(object),
  }));
  return { kind: 'Table', apiVersion: 'meta.k8s.io/v1', metadata, columnDefinitions: definitions, rows };
}

function age(since: string): string {
  const seconds = Math.max(0, Math.floor((Date.now() - Date.parse(since)) / 1_000));
  if (seconds < 120) return `${String(seconds)}s`;
  if (seconds < 7_200) return `${String(Math.floor(seconds / 60))}m`;
  return seconds < 172_800 ? `${String(Math.floor(seconds / 3_600))}h` : `${String(Math.floor(seconds / 86_400))}d`;
}
