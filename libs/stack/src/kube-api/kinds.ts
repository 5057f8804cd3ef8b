import { isRecord, recordAt, recordsAt } from './objects.js';
import { type Schema, schemas } from './schema.js';
import type { Named } from './status.js';
import type { Store } from './store.js';

/** A resource that the server offers. */
export interface Kind {
  /** `deployments.apps`; the plural alone for the core group */
  key: string;
  group: string;
  version: string;
  kind: string;
  plural: string;
  singular: string;
  shortNames: readonly string[];
  /** `kubectl get all` shows it */
  inAll: boolean;
  namespaced: boolean;
  /** has a `/status` of its own, which a write to the object itself does not change */
  status: boolean;
  scale: boolean;
  custom: boolean;
  schema: Schema;
}

type Traits = Partial<Pick<Kind, 'inAll' | 'namespaced' | 'status' | 'scale' | 'schema'>> & {
  short?: string;
  plural?: string;
};

function define(group: string, version: string, kind: string, traits: Traits = {}): Kind {
  const singular = kind.toLowerCase();
  const plural = traits.plural ?? `${singular}s`;
  return {
    key: group === '' ? plural : `${plural}.${group}`,
    group,
    version,
    kind,
    plural,
    singular,
    shortNames: traits.short === undefined ? [] : [traits.short],
    inAll: traits.inAll ?? false,
    namespaced: traits.namespaced ?? true,
    status: traits.status ?? false,
    scale: traits.scale ?? false,
    custom: false,
    schema: traits.schema ?? schemas.plain,
  };
}

const workload: Traits = { inAll: true, status: true, schema: schemas.workload };
const cluster: Traits = { namespaced: false };
const rbac = 'rbac.authorization.k8s.io';

/**
 * What charts and manifests of ordinary products contain, and what `kubectl apply --prune` asks for by default. Those
 * without a controller (see controllers.ts) are stored and nothing else.
 */
const BUILT_IN: readonly Kind[] = [
  define('', 'v1', 'Namespace', { ...cluster, short: 'ns', status: true }),
  define('', 'v1', 'ConfigMap', { short: 'cm' }),
  define('', 'v1', 'Secret'),
  define('', 'v1', 'Service', { inAll: true, short: 'svc', status: true, schema: schemas.service }),
  define('', 'v1', 'ServiceAccount', { short: 'sa', schema: schemas.serviceAccount }),
  define('', 'v1', 'Pod', { inAll: true, short: 'po', status: true, schema: schemas.pod }),
  define('', 'v1', 'PersistentVolumeClaim', { short: 'pvc', status: true }),
  define('', 'v1', 'Event', { short: 'ev' }),
  define('', 'v1', 'Endpoints', { plural: 'endpoints', short: 'ep' }),
  define('', 'v1', 'ReplicationController', { status: true }),
  define('', 'v1', 'PersistentVolume', { ...cluster, short: 'pv', status: true }),
  define('', 'v1', 'ResourceQuota', { short: 'quota', status: true }),
  define('', 'v1', 'LimitRange', { short: 'limits' }),
  define('apps', 'v1', 'Deployment', { ...workload, short: 'deploy', scale: true }),
  define('apps', 'v1', 'StatefulSet', { ...workload, short: 'sts', scale: true }),
  define('apps', 'v1', 'DaemonSet', { ...workload, short: 'ds' }),
  define('apps', 'v1', 'ReplicaSet', { ...workload, short: 'rs', scale: true }),
  define('batch', 'v1', 'Job', workload),
  define('batch', 'v1', 'CronJob', { inAll: true, short: 'cj', status: true, schema: schemas.cronJob }),
  define('networking.k8s.io', 'v1', 'Ingress', { short: 'ing', plural: 'ingresses', status: true }),
  define('networking.k8s.io', 'v1', 'NetworkPolicy', { short: 'netpol', plural: 'networkpolicies' }),
  define('autoscaling', 'v2', 'HorizontalPodAutoscaler', { short: 'hpa', status: true }),
  define('policy', 'v1', 'PodDisruptionBudget', { short: 'pdb', status: true }),
  define('storage.k8s.io', 'v1', 'StorageClass', { ...cluster, short: 'sc', plural: 'storageclasses' }),
  define(rbac, 'v1', 'Role', { schema: schemas.role }),
  define(rbac, 'v1', 'RoleBinding', { schema: schemas.role }),
  define(rbac, 'v1', 'ClusterRole', { ...cluster, schema: schemas.role }),
  define(rbac, 'v1', 'ClusterRoleBinding', { ...cluster, schema: schemas.role }),
  define('apiextensions.k8s.io', 'v1', 'CustomResourceDefinition', { ...cluster, short: 'crd', status: true }),
];

export const CRDS = 'customresourcedefinitions.apiextensions.k8s.io';

export const namedOf = (kind: Kind, name: string): Named => ({
  name,
  kind: kind.plural,
  ...(kind.group === '' ? {} : { group: kind.group }),
});

export const apiVersionOf = (kind: Kind): string =>
  kind.group === '' ? kind.version : `${kind.group}/${kind.version}`;

/** Built-in resources and those that stored CustomResourceDefinitions add (their storage version only). */
export class Kinds {
  constructor(private readonly store: Store) {}

  all(): Kind[] {
    return [...BUILT_IN, ...this.store.list(CRDS).flatMap(kindOfDefinition)];
  }

  byPath(group: string, version: string, plural: string): Kind | undefined {
    return this.all().find((kind) => kind.group === group && kind.version === version && kind.plural === plural);
  }

  byKey(key: string): Kind | undefined {
    return this.all().find((kind) => kind.key === key);
  }
}

/** The resource that a CustomResourceDefinition adds; none when it is too incomplete to be served. */
export function kindOfDefinition(definition: unknown): Kind[] {
  const spec = recordAt(definition, 'spec');
  const names = recordAt(spec, 'names');
  const version = recordsAt(spec, 'versions').find((entry) => entry.storage === true);
  if (typeof spec.group !== 'string' || typeof version?.name !== 'string') return [];
  if (typeof names.kind !== 'string' || typeof names.plural !== 'string') return [];
  const subresources = recordAt(version, 'subresources');
  const kind = define(spec.group, version.name, names.kind, {
    namespaced: spec.scope !== 'Cluster',
    plural: names.plural,
    status: isRecord(subresources.status),
  });
  const shortNames: unknown[] = Array.isArray(names.shortNames) ? names.shortNames : [];
  return [{ ...kind, custom: true, shortNames: shortNames.filter((name) => typeof name === 'string') }];
}
