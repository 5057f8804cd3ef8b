/**
 * How the lists and maps of the built-in kinds merge. Only what differs from the default is written down:
 * a map merges key by key, a list is replaced as a whole.
 *
 * One table serves both protocols: server-side apply uses all `keys` of a list, a strategic merge patch the first one
 * (that is how Kubernetes' own `x-kubernetes-list-map-keys` and `patchMergeKey` relate for these kinds).
 */
export interface Schema {
  /** replaced and owned as a whole */
  atomic?: boolean;
  /** a list of scalars without order */
  set?: boolean;
  /** a list of objects, told apart by these fields */
  keys?: readonly string[];
  items?: Schema;
  fields?: Readonly<Record<string, Schema>>;
}

const ANY: Schema = {};
const ATOMIC: Schema = { atomic: true };
const SET: Schema = { set: true };
const list = (keys: string[], items: Schema = ANY): Schema => ({ keys, items });

/** A key that is not written counts as this value, so that `{containerPort: 80}` and `{…, protocol: TCP}` are one port. */
export const KEY_DEFAULTS: Readonly<Record<string, string>> = { protocol: 'TCP' };

const metadata: Schema = { fields: { ownerReferences: list(['uid']), finalizers: SET } };

const container: Schema = {
  fields: {
    env: list(['name'], {
      fields: { valueFrom: { fields: { fieldRef: ATOMIC, configMapKeyRef: ATOMIC, secretKeyRef: ATOMIC } } },
    }),
    ports: list(['containerPort', 'protocol']),
    volumeMounts: list(['mountPath']),
    volumeDevices: list(['devicePath']),
    resources: { fields: { claims: list(['name']) } },
  },
};

const podSpec: Schema = {
  fields: {
    containers: list(['name'], container),
    initContainers: list(['name'], container),
    ephemeralContainers: list(['name'], container),
    volumes: list(['name']),
    imagePullSecrets: list(['name']),
    hostAliases: list(['ip']),
    topologySpreadConstraints: list(['topologyKey', 'whenUnsatisfiable']),
    nodeSelector: ATOMIC,
  },
};

const podTemplate: Schema = { fields: { metadata, spec: podSpec } };
const status: Schema = { fields: { conditions: list(['type']) } };

const object = (spec: Schema, others: Record<string, Schema> = {}): Schema => ({
  fields: { metadata, spec, status, ...others },
});

const jobSpec: Schema = { fields: { selector: ATOMIC, template: podTemplate } };

export const schemas = {
  plain: object(ANY),
  pod: object(podSpec),
  workload: object({ fields: { selector: ATOMIC, template: podTemplate } }),
  cronJob: object({ fields: { jobTemplate: { fields: { metadata, spec: jobSpec } } } }),
  service: object({ fields: { selector: ATOMIC, ports: list(['port', 'protocol']) } }),
  serviceAccount: object(ANY, { secrets: list(['name']), imagePullSecrets: list(['name']) }),
  role: object(ANY, { rules: ATOMIC, roleRef: ATOMIC, subjects: ATOMIC }),
} satisfies Record<string, Schema>;

export const fieldOf = (schema: Schema, name: string): Schema => schema.fields?.[name] ?? ANY;
export const itemOf = (schema: Schema): Schema => schema.items ?? ANY;
