import { writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { startControllers } from './controllers.js';
import { Kinds } from './kinds.js';
import type { KubeObject } from './objects.js';
import { Operations } from './operations.js';
import type { AllowedImageHosts } from './pods.js';
import { createKubeServer, type RequestRecord } from './server.js';
import { KubeError } from './status.js';
import { Store } from './store.js';
import { serverCertificate } from './tls.js';

export interface KubeApiOptions {
  /** folder of the state file; without it nothing outlives `stop` */
  dir?: string;
  /** on 127.0.0.1; default: a free one */
  port?: number;
  /** the bearer token that every request must carry, over TLS then; default: none is asked for, plain HTTP */
  token?: string;
  /** hosts (`name:port`) from which images can be pulled; default: any, by digest; `any`: any, by tag too */
  allowedImageHosts?: AllowedImageHosts;
}

/** Answers `code` instead of serving, for the next `times` (default 1) requests that match. */
export interface Fault {
  method?: string;
  path: RegExp;
  code: number;
  times?: number;
}

export interface KubeApi {
  url: string;
  /** PEM of the certificate to trust; undefined for plain HTTP */
  ca: string | undefined;
  /** Writes a kubeconfig for this server (mode 0600: it holds the token) and returns its path. */
  kubeconfig(path: string): string;
  /** Everything that is stored, as it is now: a copy. */
  objects(): KubeObject[];
  /** The last requests served (at most 10,000), oldest first. */
  requests(): readonly RequestRecord[];
  fail(fault: Fault): void;
  /** Cuts every connection, watches too; clients have to come back. */
  disconnect(): void;
  stop(): Promise<void>;
}

const MAX_REQUESTS = 10_000;
const FIRST_NAMESPACES = ['default', 'kube-system'];

/**
 * Starts a small Kubernetes API server on loopback, for tests and the demo. It carries the real kubectl
 * and helm over the real protocol; it is not Kubernetes, and no container ever runs (see README.md beside this file).
 *
 * @throws the listen error, e.g. when the port is taken
 */
export async function startKubeApi(options: KubeApiOptions = {}): Promise<KubeApi> {
  const { dir, port = 0, token, allowedImageHosts } = options;
  const store = new Store(dir === undefined ? undefined : join(dir, 'state.json'));
  const kinds = new Kinds(store);
  const operations = new Operations(store);
  seed(store, kinds, operations);
  const requests: RequestRecord[] = [];
  let faults: (Fault & { left: number })[] = [];

  const certificate = token === undefined ? undefined : await serverCertificate(dir);
  const backend = {
    store,
    kinds,
    operations,
    token,
    fault: (method: string, path: string) => {
      const hit = faults.find((fault) => (fault.method ?? method) === method && fault.path.test(path));
      if (hit === undefined) return undefined;
      hit.left -= 1;
      faults = faults.filter((fault) => fault.left > 0);
      return new KubeError(hit.code, 'InternalError', 'refused on request of a test');
    },
    log: (record: RequestRecord) => {
      requests.push(record);
      if (requests.length > MAX_REQUESTS) requests.splice(0, requests.length - MAX_REQUESTS);
    },
  };
  const server = createKubeServer(backend, certificate);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  const stopControllers = startControllers(store, kinds, allowedImageHosts);
  const url = `${certificate === undefined ? 'http' : 'https'}://127.0.0.1:${String((server.address() as AddressInfo).port)}`;

  return {
    url,
    ca: certificate?.cert,
    kubeconfig: (path) => {
      writeFileSync(path, kubeconfigOf(url, certificate?.cert, token), { mode: 0o600 });
      return path;
    },
    objects: () => structuredClone(store.everything().map(({ object }) => object)),
    requests: () => requests,
    fail: (fault) => {
      faults.push({ ...fault, left: fault.times ?? 1 });
    },
    disconnect: () => server.closeAllConnections(),
    stop: async () => {
      stopControllers();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
      store.flush();
    },
  };
}

function seed(store: Store, kinds: Kinds, operations: Operations): void {
  const kind = kinds.byKey('namespaces');
  for (const name of FIRST_NAMESPACES) {
    if (kind === undefined || store.get(kind.key, undefined, name) !== undefined) continue;
    const write = { dryRun: false, fieldManager: 'kube-apiserver', force: false };
    operations.create({ kind, namespace: undefined }, { metadata: { name } }, write);
  }
}

function kubeconfigOf(server: string, ca: string | undefined, token: string | undefined): string {
  const name = 'kube-api';
  const trust = ca === undefined ? {} : { 'certificate-authority-data': Buffer.from(ca).toString('base64') };
  return stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server, ...trust } }],
    users: [{ name, user: token === undefined ? {} : { token } }],
    contexts: [{ name, context: { cluster: name, user: name, namespace: 'default' } }],
    'current-context': name,
  });
}
