import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import https from 'node:https';
import { pipeline, type Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { isNativeError } from 'node:util/types';
import { ImsError } from '#contracts';
import { httpsAgent, proxyOfProcess } from '#platform';

export interface HttpRequest {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'POST' | 'PATCH' | 'DELETE';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  /** A stream is sent as it flows and can be sent once; its length goes into a Content-Length header of the caller. */
  readonly body?: Buffer | Readable;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: IncomingMessage;
}

export interface HttpOptions {
  /** PEM of the certificate authorities to trust instead of the public ones. */
  readonly ca?: string | undefined;
  /** A connection on which nothing moves for so long is given up. */
  readonly idleTimeoutMs: number;
  /** Replaces the connection pool, e.g. by one that goes through a proxy. */
  readonly agent?: http.Agent | undefined;
}

/**
 * One HTTP exchange over node:http. Raw streaming with it takes about 20 % less CPU than with undici (500 MB from
 * registry to registry: 2.0 s against 2.5 s), and it hands over the socket's own chunks without copying.
 * A connection that cannot be made or breaks rejects with `registry_unavailable`, an abort with `cancelled`.
 */
export class HttpTransport {
  private readonly plain: http.Agent;
  private readonly tls: https.Agent;

  constructor(private readonly options: HttpOptions) {
    const pool = { keepAlive: true, maxSockets: 16, keepAliveMsecs: 5_000 };
    this.plain = options.agent ?? new http.Agent(pool);
    this.tls =
      (options.agent as https.Agent | undefined) ??
      httpsAgent(proxyOfProcess(), { ...pool, ...(options.ca ? { ca: options.ca } : {}) });
  }

  send(request: HttpRequest): Promise<HttpResponse> {
    const { method, url, signal, body } = request;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) {
        reject(cancelled(signal));
        return;
      }
      const secure = url.protocol === 'https:';
      let answered = false;
      const outgoing = (secure ? https : http).request(url, {
        method,
        agent: secure ? this.tls : this.plain,
        headers: { ...request.headers, ...(Buffer.isBuffer(body) ? { 'content-length': String(body.length) } : {}) },
        ...(signal ? { signal } : {}),
      });
      outgoing.setTimeout(this.options.idleTimeoutMs, () => {
        outgoing.destroy(new Error(`nothing moved for ${this.options.idleTimeoutMs} ms`));
      });
      outgoing.on('response', (response) => {
        answered = true;
        // A body that is still flowing is not wanted any more (refused early); its socket cannot be used again.
        if (body !== undefined && !Buffer.isBuffer(body) && !outgoing.writableEnded) {
          body.destroy();
          response.once('end', () => outgoing.destroy());
        }
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: response });
      });
      outgoing.on('error', (error) => {
        if (body !== undefined && !Buffer.isBuffer(body)) body.destroy();
        reject(connectionError(error, url, signal));
      });
      if (body === undefined) outgoing.end();
      else if (Buffer.isBuffer(body)) outgoing.end(body);
      else
        pipeline(body, outgoing, (error) => {
          // pipeline would tear down the request on a failed source, but with a bare reset: say why.
          if (error && !answered) reject(connectionError(error, url, signal));
        });
    });
  }

  /** Closes idle connections. The transport may be used again; it then opens new ones. */
  close(): void {
    this.plain.destroy();
    this.tls.destroy();
  }
}

/** The whole body, or `digest_mismatch` when it is longer than the limit. */
export async function readBody(response: HttpResponse, maxBytes: number, signal?: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > maxBytes) throw new ImsError('digest_mismatch', `a registry sent more than ${maxBytes} bytes`);
      chunks.push(chunk);
    }
  } catch (error) {
    throw connectionError(error, undefined, signal);
  }
  return Buffer.concat(chunks, length);
}

/** Lets the socket be used again by reading what is left, if that is little; else drops it. */
export async function discardBody(response: HttpResponse): Promise<void> {
  let length = 0;
  try {
    for await (const chunk of response.body as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > 64 * 1024) break;
    }
  } catch {
    // The answer is already known; a break in what nobody reads changes nothing.
  }
}

/** An aborted signal as an error: its own reason when that is an ImsError, else `cancelled`. */
export function cancelled(signal: AbortSignal): ImsError {
  return signal.reason instanceof ImsError ? signal.reason : new ImsError('cancelled', 'the transfer was stopped');
}

/** Any failure of a socket as an ImsError; ImsErrors of our own streams pass through. */
export function connectionError(error: unknown, url: URL | undefined, signal: AbortSignal | undefined): ImsError {
  if (error instanceof ImsError) return error;
  if (signal?.aborted) return cancelled(signal);
  // An error of several addresses (AggregateError) has a code and no message.
  const { message, code } = isNativeError(error) ? (error as NodeJS.ErrnoException) : {};
  const why = message || code || 'connection failed';
  return new ImsError('registry_unavailable', url ? `${url.host}: ${why}` : why, [], { cause: error });
}

export interface RetryPolicy {
  /** How often a call is tried in all. */
  readonly attempts: number;
  /** First pause; each further one is twice as long, up to 5 s, with a random half. */
  readonly backoffMs: number;
}

const MAX_BACKOFF_MS = 5_000;
/** A registry may ask for a longer pause, but not for one that outlives a job's lease by far. */
const MAX_RETRY_AFTER_MS = 30_000;
const retryAfterMs = new WeakMap<ImsError, number>();

/** Marks a failure with the Retry-After (in seconds) that came with it. */
export function withRetryAfter(error: ImsError, header: string | undefined): ImsError {
  const seconds = Number(header);
  if (header !== undefined && Number.isFinite(seconds) && seconds > 0) {
    retryAfterMs.set(error, Math.min(seconds * 1_000, MAX_RETRY_AFTER_MS));
  }
  return error;
}

/** Pauses before the next try. `failures` counts from 1. Rejects with `cancelled` when aborted. */
export async function backOff(
  policy: RetryPolicy,
  failures: number,
  error: unknown,
  signal?: AbortSignal,
): Promise<void> {
  const asked = error instanceof ImsError ? (retryAfterMs.get(error) ?? 0) : 0;
  const step = Math.min(policy.backoffMs * 2 ** (failures - 1), MAX_BACKOFF_MS);
  try {
    await delay(Math.max(asked, step / 2 + (Math.random() * step) / 2), undefined, signal ? { signal } : {});
  } catch (thrown) {
    throw signal?.aborted ? cancelled(signal) : thrown;
  }
}

/** Calls until it succeeds; only `registry_unavailable` is tried again. The caller passes only what may run twice. */
export async function retrying<T>(
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  call: () => Promise<T>,
): Promise<T> {
  for (let failures = 1; ; failures += 1) {
    try {
      return await call();
    } catch (error) {
      const again = error instanceof ImsError && error.code === 'registry_unavailable' && failures < policy.attempts;
      if (!again) throw error;
      await backOff(policy, failures, error, signal);
    }
  }
}
