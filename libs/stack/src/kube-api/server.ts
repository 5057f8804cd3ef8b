import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { Pod } from './cluster.js';
import { discoveryDocument } from './discovery.js';
import { type Kind, type Kinds, namedOf } from './kinds.js';
import { type Fields, type KubeObject, valueAt } from './objects.js';
import type { Operations, WriteOptions } from './operations.js';
import { podLog } from './pods.js';
import { formOf, renderList, renderOne } from './render.js';
import { contentType, decodeBody, readBody, type Route, routeOf } from './routes.js';
import { fieldSelector, labelSelector, type Match } from './selectors.js';
import { badRequest, KubeError, notFound } from './status.js';
import type { Store } from './store.js';
import type { ServerCertificate } from './tls.js';
import { serveWatch } from './watch.js';

/** One request as it was served. Bodies and credentials are never kept. */
export interface RequestRecord {
  at: string;
  method: string;
  path: string;
  query: string;
  /** 0 while it is being answered: a watch is, until it ends */
  status: number;
  userAgent: string;
}

export interface Backend {
  store: Store;
  kinds: Kinds;
  operations: Operations;
  token: string | undefined;
  /** asked before each request; a refusal is sent instead of the answer */
  fault: (method: string, path: string) => KubeError | undefined;
  log: (record: RequestRecord) => void;
}

const OPEN_PATHS = ['/version', '/livez', '/readyz', '/healthz'];

/** Serves plain HTTP, or HTTPS where a certificate is given. */
export function createKubeServer(backend: Backend, certificate: ServerCertificate | undefined): Server {
  const listener = (request: IncomingMessage, response: ServerResponse): void => {
    const url = new URL(request.url ?? '/', 'http://kube');
    const { method = 'GET', headers } = request;
    const record: RequestRecord = {
      at: new Date().toISOString(),
      method,
      path: url.pathname,
      query: url.search,
      status: 0,
      userAgent: headers['user-agent'] ?? '',
    };
    backend.log(record);
    response.once('close', () => {
      record.status = response.statusCode;
    });
    handle(backend, request, url, response).catch((error: unknown) => {
      const refusal =
        error instanceof KubeError
          ? error
          : new KubeError(
              500,
              'InternalError',
              error instanceof Error ? (error.stack ?? error.message) : 'unknown error',
            );
      if (response.headersSent) response.destroy();
      else send(response, refusal.code, refusal.toStatus());
    });
  };
  return certificate === undefined ? createServer(listener) : createTlsServer({ ...certificate }, listener);
}

function send(response: ServerResponse, code: number, body: Fields | string): void {
  const isText = typeof body === 'string';
  response.writeHead(code, {
    'content-type': isText ? 'text/plain' : 'application/json',
    'cache-control': 'no-cache, private',
  });
  response.end(isText ? body : JSON.stringify(body));
}

async function handle(backend: Backend, request: IncomingMessage, url: URL, response: ServerResponse): Promise<void> {
  const { method = 'GET', headers } = request;
  const { pathname } = url;
  if (pathname.endsWith('z') && OPEN_PATHS.includes(pathname)) {
    send(response, 200, 'ok');
    return;
  }
  const isOpen = backend.token === undefined || OPEN_PATHS.includes(pathname);
  if (!isOpen && headers.authorization !== `Bearer ${backend.token ?? ''}`) {
    throw new KubeError(401, 'Unauthorized', 'Unauthorized');
  }
  const fault = backend.fault(method, pathname);
  if (fault !== undefined) throw fault;

  const document = method === 'GET' ? discoveryDocument(pathname, backend.kinds.all()) : undefined;
  if (document !== undefined) {
    send(response, 200, document);
    return;
  }
  const body = await readBody(request);
  const route = routeOf(pathname);
  if (route?.group === 'authorization.k8s.io' && route.plural === 'selfsubjectaccessreviews') {
    // There is no RBAC here: whoever has the token may do everything.
    send(response, 201, {
      kind: 'SelfSubjectAccessReview',
      apiVersion: 'authorization.k8s.io/v1',
      status: { allowed: true },
    });
    return;
  }
  const kind = route === undefined ? undefined : backend.kinds.byPath(route.group, route.version, route.plural);
  if (route === undefined || kind === undefined || (route.namespace !== undefined && !kind.namespaced)) {
    throw new KubeError(404, 'NotFound', 'the server could not find the requested resource');
  }
  new Exchange(backend, kind, route, request, url.searchParams, body, response).answer();
}

/** One request for a resource, and its answer. */
class Exchange {
  constructor(
    private readonly backend: Backend,
    private readonly kind: Kind,
    private readonly route: Route,
    private readonly request: IncomingMessage,
    private readonly query: URLSearchParams,
    private readonly body: Buffer,
    private readonly response: ServerResponse,
  ) {}

  answer(): void {
    const { name, subresource } = this.route;
    const { method = 'GET' } = this.request;
    if (name === undefined) {
      this.onCollection(method);
      return;
    }
    const known = subresource === undefined || this.subresources().includes(subresource);
    if (!known) throw new KubeError(404, 'NotFound', 'the server could not find the requested resource');
    if (this.kind.namespaced && this.route.namespace === undefined) throw this.notAllowed();
    this.onObject(method, name);
  }

  private onCollection(method: string): void {
    const { store, operations } = this.backend;
    const { namespace } = this.route;
    const target = { kind: this.kind, namespace };
    switch (method) {
      case 'GET': {
        const selection = { ...target, match: this.match() };
        const form = formOf(this.request.headers.accept);
        if (isTrue(this.query.get('watch'))) serveWatch(store, selection, this.query, form, this.response);
        else this.list(selection.match);
        return;
      }
      case 'POST':
        if (this.kind.namespaced && namespace === undefined) throw this.notAllowed();
        this.sendObject(201, operations.create(target, this.decoded(), this.writeOptions()));
        return;
      case 'DELETE': {
        const removed = operations.removeAll(target, this.match(), this.decoded(), this.isDryRun());
        send(this.response, 200, renderList(this.kind, removed, { resourceVersion: String(store.revision) }, 'object'));
        return;
      }
      default:
        throw this.notAllowed();
    }
  }

  private onObject(method: string, name: string): void {
    const { store, operations } = this.backend;
    const { namespace, subresource } = this.route;
    const target = { kind: this.kind, namespace, name, subresource };
    switch (method) {
      case 'GET':
        if (subresource === 'log') this.log(name);
        else this.sendObject(200, operations.get(target));
        return;
      case 'PUT':
        this.sendObject(200, operations.replace(target, this.decoded(), this.writeOptions()));
        return;
      case 'PATCH': {
        const isNew = store.get(this.kind.key, namespace, name) === undefined;
        const type = contentType(this.request);
        this.sendObject(isNew ? 201 : 200, operations.patch(target, type, this.body, this.writeOptions()));
        return;
      }
      case 'DELETE': {
        const removed = operations.remove(target, this.decoded(), this.isDryRun());
        const stays = store.get(this.kind.key, namespace, name);
        if (stays?.metadata.deletionTimestamp !== undefined) this.sendObject(200, stays);
        else send(this.response, 200, this.deleted(removed));
        return;
      }
      default:
        throw this.notAllowed();
    }
  }

  private deleted({ metadata }: KubeObject): Fields {
    const details = { ...namedOf(this.kind, metadata.name), uid: metadata.uid };
    return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details };
  }

  /** Pages by name: a page shows the objects as they are now, not as they were on the first page. */
  private list(match: Match): void {
    const { store } = this.backend;
    const after = this.query.get('continue');
    const placeOf = (object: KubeObject): string => `${object.metadata.namespace ?? ''}/${object.metadata.name}`;
    const start = after === null ? '' : Buffer.from(after, 'base64url').toString('utf8');
    const chosen = store.list(this.kind.key, this.route.namespace).filter((o) => match(o) && placeOf(o) > start);
    const limit = Number(this.query.get('limit') ?? 0);
    const page = limit > 0 ? chosen.slice(0, limit) : chosen;
    const last = page.at(-1);
    const left = chosen.length - page.length;
    const more =
      last === undefined || left === 0
        ? {}
        : { continue: Buffer.from(placeOf(last)).toString('base64url'), remainingItemCount: left };
    const metadata = { resourceVersion: String(store.revision), ...more };
    send(this.response, 200, renderList(this.kind, page, metadata, formOf(this.request.headers.accept)));
  }

  /** With `follow`, what is new is sent as it comes, until the pod has ended or is gone. */
  private log(name: string): void {
    const { store } = this.backend;
    const { namespace } = this.route;
    const container = this.query.get('container') ?? undefined;
    const read = (): Pod | undefined => store.get('pods', namespace, name) as unknown as Pod | undefined;
    const pod = read();
    if (pod === undefined) throw notFound(namedOf(this.kind, name));
    const waiting = valueAt(pod.status?.containerStatuses?.[0], 'state', 'waiting', 'reason');
    if (typeof waiting === 'string' || pod.status?.containerStatuses === undefined) {
      const why = typeof waiting === 'string' ? waiting : 'ContainerCreating';
      throw badRequest(`container in pod "${name}" is waiting to start: ${why}`);
    }
    const text = podLog(pod, container);
    if (text === undefined) throw badRequest(`container ${container ?? ''} is not valid for pod ${name}`);
    const hasEnded = (one: Pod | undefined): boolean =>
      one === undefined || one.status?.phase === 'Succeeded' || one.status?.phase === 'Failed';
    if (!isTrue(this.query.get('follow')) || hasEnded(pod)) {
      send(this.response, 200, text);
      return;
    }
    this.response.writeHead(200, { 'content-type': 'text/plain' });
    this.response.write(text);
    let sent = text.length;
    const unsubscribe = store.subscribe(({ key }) => {
      if (key !== 'pods') return;
      const now = read();
      const next = now === undefined ? '' : (podLog(now, container) ?? '');
      this.response.write(next.slice(sent));
      sent = Math.max(sent, next.length);
      if (!hasEnded(now)) return;
      unsubscribe();
      this.response.end();
    });
    this.response.once('close', unsubscribe);
  }

  private sendObject(code: number, object: KubeObject): void {
    send(this.response, code, renderOne(this.kind, object, formOf(this.request.headers.accept)));
  }

  private decoded(): unknown {
    return decodeBody(contentType(this.request), this.body);
  }

  private match(): Match {
    const labels = labelSelector(this.query.get('labelSelector') ?? '');
    const fields = fieldSelector(this.query.get('fieldSelector') ?? '');
    return (object) => labels(object) && fields(object);
  }

  private isDryRun(): boolean {
    const inBody = valueAt(this.request.method === 'DELETE' ? this.decoded() : undefined, 'dryRun');
    return this.query.get('dryRun') === 'All' || (Array.isArray(inBody) && inBody.includes('All'));
  }

  private writeOptions(): WriteOptions {
    // Without a name of its own a client is known by the first word of its user agent, as on a real server.
    const agent = this.request.headers['user-agent']?.split('/')[0] ?? 'unknown';
    const isApply = contentType(this.request) === 'application/apply-patch+yaml';
    return {
      dryRun: this.isDryRun(),
      fieldManager: this.query.get('fieldManager') ?? (isApply ? '' : agent),
      force: isTrue(this.query.get('force')),
    };
  }

  private subresources(): string[] {
    const { status, scale, key } = this.kind;
    return [...(status ? ['status'] : []), ...(scale ? ['scale'] : []), ...(key === 'pods' ? ['log'] : [])];
  }

  private notAllowed(): KubeError {
    return new KubeError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource');
  }
}

const isTrue = (value: string | null): boolean => value === 'true' || value === '1';
