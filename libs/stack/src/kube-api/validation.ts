import { type Kind, namedOf } from './kinds.js';
import { type Fields, isRecord, type KubeObject, omit, recordAt, recordsAt, valueAt, sameJson } from './objects.js';
import { type Cause, invalid } from './status.js';

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/;
/** The limit of a real server for a Secret or ConfigMap; a helm release that outgrows it fails there. */
const MAX_DATA_BYTES = 1_048_576;
const MAX_ANNOTATION_BYTES = 262_144;

const cause = (field: string, message: string, reason = 'FieldValueInvalid'): Cause => ({ reason, message, field });
const required = (field: string): Cause => cause(field, 'Required value', 'FieldValueRequired');

/**
 * Refuses (422, one cause a field) what a real server refuses and a deployer is likely to meet: bad names and labels,
 * selectors that miss the template, containers without image, oversized Secrets, changes to immutable fields.
 * It is a choice of rules, not a schema: unknown fields pass, `fieldValidation=Strict` included.
 */
export function validate(kind: Kind, next: KubeObject, current: KubeObject | undefined): void {
  const causes = [
    ...metadataCauses(kind, next),
    ...(WORKLOADS.includes(kind.key) ? workloadCauses(kind, next) : []),
    ...(kind.key === 'pods' ? containerCauses(recordAt(next, 'spec'), 'spec') : []),
    ...(kind.key === 'secrets' || kind.key === 'configmaps' ? dataCauses(kind, next) : []),
    ...(current === undefined ? [] : immutableCauses(kind, next, current)),
  ];
  if (causes.length > 0) throw invalid(namedOf(kind, next.metadata.name), causes);
}

const WORKLOADS = ['deployments.apps', 'statefulsets.apps', 'daemonsets.apps', 'replicasets.apps', 'jobs.batch'];

function metadataCauses(kind: Kind, object: KubeObject): Cause[] {
  const { name, labels, annotations } = object.metadata;
  const causes: Cause[] = [];
  const isRbac = kind.group === 'rbac.authorization.k8s.io';
  if (!isRbac && (name.length > 253 || !SUBDOMAIN.test(name))) {
    causes.push(cause('metadata.name', `Invalid value: "${name}": a lowercase RFC 1123 subdomain is required`));
  }
  for (const [key, value] of Object.entries(labels ?? {})) {
    if (typeof value !== 'string' || value.length > 63 || !LABEL_VALUE.test(value)) {
      causes.push(cause('metadata.labels', `Invalid value: ${JSON.stringify(value)} of label ${key}`));
    }
  }
  const size = Object.entries(annotations ?? {}).reduce((sum, [key, value]) => sum + key.length + value.length, 0);
  if (size > MAX_ANNOTATION_BYTES) {
    causes.push(
      cause(
        'metadata.annotations',
        `Too long: may not be more than ${MAX_ANNOTATION_BYTES} bytes`,
        'FieldValueTooLong',
      ),
    );
  }
  return causes;
}

function workloadCauses(kind: Kind, object: KubeObject): Cause[] {
  const spec = recordAt(object, 'spec');
  const causes = containerCauses(recordAt(spec, 'template', 'spec'), 'spec.template.spec');
  for (const field of ['replicas', 'parallelism', 'completions', 'backoffLimit']) {
    const value = spec[field];
    if (value !== undefined && (typeof value !== 'number' || !Number.isInteger(value) || value < 0)) {
      causes.push(cause(`spec.${field}`, `Invalid value: ${JSON.stringify(value)}: must be a whole number, 0 or more`));
    }
  }
  if (kind.key === 'jobs.batch') {
    if (recordAt(spec, 'template', 'spec').restartPolicy === 'Always') {
      const message = 'Unsupported value: "Always": supported values: "OnFailure", "Never"';
      causes.push(cause('spec.template.spec.restartPolicy', message, 'FieldValueNotSupported'));
    }
    return causes;
  }
  const selector = recordAt(spec, 'selector', 'matchLabels');
  const labels = recordAt(spec, 'template', 'metadata', 'labels');
  if (!isRecord(spec.selector)) causes.push(required('spec.selector'));
  if (Object.entries(selector).some(([key, value]) => labels[key] !== value)) {
    causes.push(cause('spec.template.metadata.labels', 'Invalid value: `selector` does not match template `labels`'));
  }
  return causes;
}

function containerCauses(spec: Fields, path: string): Cause[] {
  const containers = recordsAt(spec, 'containers');
  if (containers.length === 0) return [required(`${path}.containers`)];
  const causes: Cause[] = [];
  const names = new Set<unknown>();
  const all = [...containers, ...recordsAt(spec, 'initContainers')];
  all.forEach((container, i) => {
    const at = `${path}.containers[${String(i)}]`;
    if (typeof container.name !== 'string' || container.name === '') causes.push(required(`${at}.name`));
    if (typeof container.image !== 'string' || container.image === '') causes.push(required(`${at}.image`));
    if (names.has(container.name)) {
      causes.push(cause(`${at}.name`, `Duplicate value: ${JSON.stringify(container.name)}`, 'FieldValueDuplicate'));
    }
    names.add(container.name);
  });
  return causes;
}

function dataCauses(kind: Kind, object: KubeObject): Cause[] {
  const entries = [...Object.entries(recordAt(object, 'data')), ...Object.entries(recordAt(object, 'binaryData'))];
  const causes: Cause[] = [];
  let bytes = 0;
  for (const [key, value] of entries) {
    if (typeof value !== 'string') causes.push(cause(`data[${key}]`, 'Invalid value: must be a string'));
    else bytes += kind.key === 'secrets' ? Buffer.byteLength(value, 'base64') : Buffer.byteLength(value);
  }
  if (bytes > MAX_DATA_BYTES) {
    causes.push(cause('data', `Too long: may not be more than ${MAX_DATA_BYTES} bytes`, 'FieldValueTooLong'));
  }
  return causes;
}

/** Paths that may not change once the object exists. A Service may lose and get back its address, as on a real server. */
const IMMUTABLE: Readonly<Record<string, readonly string[]>> = {
  'deployments.apps': ['spec.selector'],
  'replicasets.apps': ['spec.selector'],
  'daemonsets.apps': ['spec.selector'],
  'jobs.batch': ['spec.selector', 'spec.template', 'spec.completions'],
  services: ['spec.clusterIP'],
  secrets: ['type'],
  'rolebindings.rbac.authorization.k8s.io': ['roleRef'],
  'clusterrolebindings.rbac.authorization.k8s.io': ['roleRef'],
};

const STATEFUL_SET_MUTABLE = [
  'replicas',
  'template',
  'updateStrategy',
  'revisionHistoryLimit',
  'minReadySeconds',
  'ordinals',
  'persistentVolumeClaimRetentionPolicy',
];

function immutableCauses(kind: Kind, next: KubeObject, current: KubeObject): Cause[] {
  const causes = (IMMUTABLE[kind.key] ?? [])
    .filter((path) => !sameJson(valueAt(next, ...path.split('.')), valueAt(current, ...path.split('.'))))
    .map((path) =>
      cause(path, `Invalid value: ${JSON.stringify(valueAt(next, ...path.split('.')))}: field is immutable`),
    );
  if (kind.key === 'statefulsets.apps') {
    const fixed = (object: KubeObject): Fields => omit(recordAt(object, 'spec'), ...STATEFUL_SET_MUTABLE);
    if (!sameJson(fixed(next), fixed(current))) {
      const message = `Forbidden: updates to statefulset spec for fields other than ${STATEFUL_SET_MUTABLE.join(', ')} are forbidden`;
      causes.push(cause('spec', message, 'FieldValueForbidden'));
    }
  }
  if (kind.key === 'persistentvolumeclaims') {
    const fixed = (object: KubeObject): Fields => omit(recordAt(object, 'spec'), 'resources');
    if (!sameJson(fixed(next), fixed(current))) {
      causes.push(
        cause('spec', 'Forbidden: spec is immutable after creation except resources.requests', 'FieldValueForbidden'),
      );
    }
  }
  if (current.immutable === true && !sameJson([next.data, next.binaryData], [current.data, current.binaryData])) {
    causes.push(cause('data', 'Forbidden: field is immutable when `immutable` is set', 'FieldValueForbidden'));
  }
  return causes;
}
