import { Readable } from 'node:stream';
import { ImsError } from '#contracts';
import { type Authorizer } from './credentials.js';
import { hexOf, isDigest, isRecord } from './descriptor.js';
import {
  cancelled,
  discardBody,
  readBody,
  retrying,
  withRetryAfter,
  type HttpRequest,
  type HttpResponse,
  type HttpTransport,
  type RetryPolicy,
} from './http.js';
import { isRepositoryName, type Access } from './registry-token.js';

export interface Call {
  readonly signal?: AbortSignal | undefined;
}

const MAX_ERROR_BYTES = 64 * 1024;
const MAX_REDIRECTS = 5;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;

export interface Exchange extends Call {
  readonly method: HttpRequest['method'];
  /** Path below the base URL, or a whole URL that the registry gave (upload location). */
  readonly target: string | URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | Readable;
  readonly access: readonly Access[];
  readonly expect: readonly number[];
}

/**
 * Authorised calls to one registry: answers challenges, follows redirects of reads without taking the credential
 * along, and turns what the registry answers into ImsErrors. What the calls mean is the client's business.
 */
export class RegistrySession {
  constructor(
    readonly baseUrl: URL,
    readonly policy: RetryPolicy,
    private readonly transport: HttpTransport,
    private readonly authorizer: Authorizer,
  ) {}

  /** A call that may run twice, with its whole body. */
  async readAll(exchange: Exchange, maxBytes: number): Promise<{ bytes: Buffer; response: HttpResponse }> {
    return retrying(this.policy, exchange.signal, async () => {
      const response = await this.once(exchange);
      return { response, bytes: await readBody(response, maxBytes, exchange.signal) };
    });
  }

  /** A call that may run twice. */
  repeat(exchange: Exchange): Promise<HttpResponse> {
    return retrying(this.policy, exchange.signal, () => this.once(exchange));
  }

  /** One call with its challenge and redirects. Resolves with an expected status; the body is still to be read. */
  async once(exchange: Exchange): Promise<HttpResponse> {
    const { method, signal, access, body } = exchange;
    let url = typeof exchange.target === 'string' ? new URL(exchange.target, this.baseUrl) : exchange.target;
    let challenged = false;
    for (let hops = 0; hops <= MAX_REDIRECTS;) {
      if (signal?.aborted) throw cancelled(signal);
      // The credential is the registry's: an object store behind a redirect never sees it.
      const ours = url.origin === this.baseUrl.origin;
      const authorization = ours ? await this.authorizer.header(access) : undefined;
      const headers = { ...exchange.headers, ...(authorization === undefined ? {} : { authorization }) };
      const response = await this.transport.send({
        method,
        url,
        headers,
        signal,
        ...(body === undefined ? {} : { body }),
      });
      const { status } = response;
      if (exchange.expect.includes(status)) return response;
      if (status === 401 && ours && !challenged && this.authorizer.learn(response, access, authorization)) {
        await discardBody(response);
        // A stream is spent; the caller opens a new one.
        if (body instanceof Readable) throw new ImsError('registry_unavailable', `${url.host} wants a new token`);
        challenged = true;
        continue;
      }
      if ([301, 302, 303, 307, 308].includes(status) && (method === 'GET' || method === 'HEAD')) {
        await discardBody(response);
        url = this.redirect(url, response.headers.location);
        hops += 1;
        continue;
      }
      throw await this.failure(exchange, url, response);
    }
    throw new ImsError('registry_unavailable', `${this.baseUrl.host} redirects more than ${MAX_REDIRECTS} times`);
  }

  private async failure(exchange: Exchange, url: URL, response: HttpResponse): Promise<ImsError> {
    const { status } = response;
    const codes = errorCodes(await readBody(response, MAX_ERROR_BYTES).catch(() => Buffer.alloc(0)));
    // The path names repository and digest; the query may carry a signature and stays out.
    const what = `${url.host} answered ${status}${codes.length > 0 ? ` ${codes.join(' ')}` : ''} to ${exchange.method} ${url.pathname}`;
    if (status === 429 || status >= 500) {
      return withRetryAfter(new ImsError('registry_unavailable', what), response.headers['retry-after']);
    }
    if (status === 401 || status === 403) return new ImsError('registry_denied', what);
    if (status === 404 || codes.some((code) => code.endsWith('_UNKNOWN')))
      return new ImsError('artifact_missing', what);
    if (codes.some((code) => code === 'DIGEST_INVALID' || code === 'SIZE_INVALID'))
      return new ImsError('digest_mismatch', what);
    if (status === 409 || codes.some((code) => code.includes('IMMUTABLE') || code.includes('ALREADY_EXISTS'))) {
      return new ImsError('conflict', what);
    }
    // An upload session that the registry has lost track of: a new one may succeed.
    if (status === 416 || codes.some((code) => code === 'BLOB_UPLOAD_INVALID' || code === 'RANGE_INVALID')) {
      return new ImsError('registry_unavailable', what);
    }
    return new ImsError('internal', what);
  }

  /** The absolute URL of a Location header. */
  location(header: string | undefined): URL {
    if (header === undefined || !URL.canParse(header, this.baseUrl.href)) {
      throw new ImsError('internal', `${this.baseUrl.host} gave no usable Location`);
    }
    return this.redirect(this.baseUrl, header);
  }

  private redirect(from: URL, header: string | undefined): URL {
    const url = header !== undefined && URL.canParse(header, from.href) ? new URL(header, from) : undefined;
    const down = url?.protocol !== 'https:' && from.protocol === 'https:';
    if (url === undefined || !/^https?:$/.test(url.protocol) || down) {
      throw new ImsError('registry_denied', `${this.baseUrl.host} redirects to an address that is not allowed`);
    }
    return url;
  }

  close(): void {
    this.transport.close();
  }

  mismatch(repository: string, digest: string, why: string): ImsError {
    return new ImsError('digest_mismatch', `${this.baseUrl.host}/${repository}@${digest}: ${why}`);
  }
}

/** Tags that this product reads or writes. */
export function isTag(text: string): boolean {
  return TAG.test(text);
}

export function checkedName(repository: string): string {
  if (!isRepositoryName(repository))
    throw new ImsError('invalid_request', `not a repository name: ${repository.slice(0, 100)}`);
  return repository;
}

export function manifestPath(repository: string, reference: string): string {
  if (!isDigest(reference) && !TAG.test(reference)) {
    throw new ImsError('invalid_request', `neither a digest nor a tag: ${reference.slice(0, 100)}`);
  }
  return `/v2/${checkedName(repository)}/manifests/${reference}`;
}

export function blobPath(repository: string, digest: string): string {
  return `/v2/${checkedName(repository)}/blobs/sha256:${hexOf(digest)}`;
}

export function pull(name: string): readonly Access[] {
  return [{ type: 'repository', name, actions: ['pull'] }];
}

export function push(name: string): readonly Access[] {
  return [{ type: 'repository', name, actions: ['pull', 'push'] }];
}

export function contentType(response: HttpResponse): string {
  return (response.headers['content-type'] ?? '').split(';')[0]?.trim() ?? '';
}

export function json(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}

/** The codes of an error body of the distribution specification; messages are left out, they may quote secrets. */
export function errorCodes(bytes: Buffer): readonly string[] {
  const body = json(bytes);
  const errors = isRecord(body) && Array.isArray(body['errors']) ? (body['errors'] as unknown[]) : [];
  return errors
    .map((error) => (isRecord(error) ? error['code'] : undefined))
    .filter((code): code is string => typeof code === 'string' && /^[A-Za-z_]{1,64}$/.test(code))
    .map((code) => code.toUpperCase())
    .slice(0, 5);
}
