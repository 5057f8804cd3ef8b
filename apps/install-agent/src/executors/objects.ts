import { parseAllDocuments } from 'yaml';
import { ImsError } from '#contracts';

/** Which fields somebody has set, as the cluster keeps it: `{"f:spec": {"f:replicas": {}}}`. */
export interface ManagedFields {
  readonly manager?: string;
  readonly subresource?: string;
  readonly fieldsV1?: Readonly<Record<string, unknown>>;
}
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly uid?: string;
    readonly generation?: number;
    readonly labels?: Readonly<Record<string, string>>;
    readonly managedFields?: readonly ManagedFields[];
  };
  readonly [key: string]: unknown;
}

/** An object that this agent has put into the cluster: enough to find it again. */
export interface Placed {
  /** Where it is, or where one of its kind would be when it is not in a namespace. */
  readonly namespace: string;
  /** `Kind.version.group/name`, as kubectl takes it. */
  readonly reference: string;
}

export const placeOf = (object: KubeObject, namespace: string): Placed => {
  const [version = '', group = ''] = object.apiVersion.split('/').reverse();
  return {
    namespace: object.metadata.namespace ?? namespace,
    reference: `${object.kind}.${version}.${group}/${object.metadata.name}`,
  };
};

/** `Kind/name` of what was put into the cluster. */
export const resourceOf = ({ reference }: Placed): string => {
  const [kind = '', name = ''] = reference.split('/');
  return `${kind.split('.')[0] ?? ''}/${name}`;
};

/** The same for every version of an API, so that a manifest that moves from v1beta1 to v1 names the same object. */
export const identityOf = ({ namespace, reference }: Placed): string =>
  `${namespace}/${reference.replace(/^([^.]*)\.[^.]*/, '$1')}`;

export const nameOf = ({ kind, metadata }: KubeObject): string => `${kind}/${metadata.name}`;

/** What has to be there before the rest: a place to be in, and the kinds themselves. */
export const isGround = (kind: string): boolean => kind === 'Namespace' || kind === 'CustomResourceDefinition';

/**
 * The documents of a YAML text as kubectl would read them, which is YAML 1.1: `0644` is octal, a bare `yes` true. Its
 * times and sexagesimal numbers are left out, as Go's reader does (a date is a text there, and `1:30` too).
 */
export function parseManifests(text: string, file: string): unknown[] {
  const documents = parseAllDocuments(text, {
    version: '1.1',
    merge: true,
    customTags: (tags) =>
      tags.filter(
        (tag) =>
          typeof tag === 'string' || !(tag.tag.endsWith(':timestamp') || ('format' in tag && tag.format === 'TIME')),
      ),
  });
  return documents.flatMap((document) => {
    const [error] = document.errors;
    if (error) throw new ImsError('plan_failed', `${file}: ${error.message.split('\n')[0] ?? ''}`);
    const value: unknown = document.toJS();
    return value === null ? [] : [value];
  });
}
