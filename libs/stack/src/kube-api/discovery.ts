import { apiVersionOf, type Kind } from './kinds.js';
import type { Fields } from './objects.js';

/** The version that the clients see; kept equal to the minor of the kubectl that the project pins. */
const VERSION = {
  major: '1',
  minor: '35',
  gitVersion: 'v1.35.0-test',
  gitCommit: '',
  gitTreeState: 'clean',
  buildDate: '2026-01-01T00:00:00Z',
  goVersion: 'none',
  compiler: 'none',
  platform: 'linux/amd64',
};

const VERBS = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'];
const SUB_VERBS = ['get', 'patch', 'update'];
const PATCHES = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
  'application/apply-patch+yaml',
];

/** Discovery and OpenAPI documents for a path, or undefined when the path is none of theirs. */
export function discoveryDocument(path: string, kinds: readonly Kind[]): Fields | undefined {
  const groups = [...new Set(kinds.map((kind) => kind.group))].filter((group) => group !== '');
  switch (path) {
    case '/version':
      return VERSION;
    case '/api':
      return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
    case '/apis':
      return { kind: 'APIGroupList', apiVersion: 'v1', groups: groups.map((name) => groupOf(name, kinds)) };
    case '/openapi/v3':
      return { paths: openApiIndex(kinds) };
  }
  const parts = path.split('/').slice(1);
  if (parts[0] === 'openapi' && parts[1] === 'v3') {
    const served = servedUnder(`/${parts.slice(2).join('/')}`, kinds);
    return served.length === 0 ? undefined : openApi(served);
  }
  if (parts[0] === 'apis' && parts.length === 2 && groups.includes(parts[1] ?? '')) {
    return { kind: 'APIGroup', apiVersion: 'v1', ...groupOf(parts[1] ?? '', kinds) };
  }
  const served = servedUnder(path, kinds);
  return served[0] === undefined ? undefined : resourceList(apiVersionOf(served[0]), served);
}

const rootOf = (kind: Kind): string => `/${kind.group === '' ? 'api' : 'apis'}/${apiVersionOf(kind)}`;

const servedUnder = (root: string, kinds: readonly Kind[]): Kind[] => kinds.filter((kind) => rootOf(kind) === root);

function groupOf(name: string, kinds: readonly Kind[]): Fields {
  const versions = [...new Set(kinds.filter((kind) => kind.group === name).map((kind) => kind.version))];
  const entries = versions.map((version) => ({ groupVersion: `${name}/${version}`, version }));
  return { name, versions: entries, preferredVersion: entries[0] };
}

function resourceList(groupVersion: string, kinds: readonly Kind[]): Fields {
  const resources = kinds.flatMap((kind) => {
    const { plural, singular, namespaced, shortNames } = kind;
    const categories = kind.inAll ? ['all'] : [];
    const base = { name: plural, singularName: singular, namespaced, kind: kind.kind };
    const main = { ...base, verbs: VERBS, shortNames, categories };
    const sub = (name: string, of: Fields): Fields => ({
      name: `${plural}/${name}`,
      singularName: '',
      namespaced,
      verbs: SUB_VERBS,
      ...of,
    });
    return [
      main,
      ...(kind.status ? [sub('status', { kind: kind.kind })] : []),
      ...(kind.scale ? [sub('scale', { group: 'autoscaling', version: 'v1', kind: 'Scale' })] : []),
      ...(kind.key === 'pods' ? [sub('log', { kind: 'Pod', verbs: ['get'] })] : []),
    ];
  });
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources };
}

function openApiIndex(kinds: readonly Kind[]): Fields {
  const roots = [...new Set(kinds.map(rootOf))];
  return Object.fromEntries(
    roots.map((root) => {
      // Clients cache by this hash: it must change when a CustomResourceDefinition adds a kind.
      const hash = servedUnder(root, kinds).length;
      return [root.slice(1), { serverRelativeURL: `/openapi/v3${root}?hash=${String(hash)}` }];
    }),
  );
}

/**
 * The least from which kubectl and helm see that the server validates fields by itself (`fieldValidation` among a
 * PATCH's parameters) and knows dry runs. Schemas are open objects: nothing here can refuse a field.
 */
function openApi(kinds: readonly Kind[]): Fields {
  const query = (name: string): Fields => ({ name, in: 'query', schema: { type: 'string' } });
  const paths = kinds.map((kind) => {
    const scope = kind.namespaced ? '/namespaces/{namespace}' : '';
    const gvk = { group: kind.group, version: kind.version, kind: kind.kind };
    const patch = {
      operationId: `patch${kind.kind}`,
      parameters: ['dryRun', 'fieldManager', 'fieldValidation', 'force'].map(query),
      requestBody: { content: Object.fromEntries(PATCHES.map((type) => [type, {}])) },
      responses: { '200': { description: 'OK' } },
      'x-kubernetes-group-version-kind': gvk,
    };
    return [`${rootOf(kind)}${scope}/${kind.plural}/{name}`, { patch }] as const;
  });
  return {
    openapi: '3.0.0',
    info: { title: 'Kubernetes API for tests', version: VERSION.gitVersion },
    paths: Object.fromEntries(paths),
    components: { schemas: {} },
  };
}
