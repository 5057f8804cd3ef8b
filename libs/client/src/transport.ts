import { ApiError } from './problem.js';

export interface TransportOptions {
  /** Where the gateway is, e.g. `https://ims.example.com`. */
  readonly baseUrl: string;
  /** The API key; a function when it may change (a page that signs in). Without one: no Authorization header. */
  readonly apiKey?: string | (() => string | undefined);
  /** Milliseconds in which a request that found no service, or too many requests, is sent again. Default 10 s. */
  readonly retryForMs?: number;
  /** Sent with each request, e.g. `{ 'user-agent': 'ims/1.0' }`. */
  readonly headers?: Readonly<Record<string, string>>;
  readonly fetch?: typeof globalThis.fetch;
}

const FIRST_PAUSE_MS = 250;
const MAX_PAUSE_MS = 4_000;
/** Answers of a service that is away, or of a proxy before it. A 504 of ours is a job's time limit, and final. */
const PASSING: readonly number[] = [429, 502, 503];

/**
 * `fetch` for the API: with the key, and sent again while nothing answers. That is safe for every method: a POST
 * carries an Idempotency-Key, so a request whose answer was lost gets the answer and is not done twice.
 */
export class Transport {
  readonly baseUrl: string;

  constructor(private readonly options: TransportOptions) {
    this.baseUrl = options.baseUrl.replace(/\/+$/, '');
  }

  /** The response, whatever its status. Throws ApiError `unreachable` when none came in time, or the abort's reason. */
  readonly send = async (request: Request): Promise<Response> => {
    const { headers } = request;
    for (const [name, value] of Object.entries(this.options.headers ?? {})) headers.set(name, value);
    const key = typeof this.options.apiKey === 'function' ? this.options.apiKey() : this.options.apiKey;
    if (key !== undefined && !headers.has('authorization')) headers.set('authorization', `Bearer ${key}`);
    if (request.method === 'POST' && !headers.has('idempotency-key')) {
      headers.set('idempotency-key', crypto.randomUUID());
    }
    const doFetch = this.options.fetch ?? globalThis.fetch;
    const until = performance.now() + (this.options.retryForMs ?? 10_000);
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(pauseMs * 2, MAX_PAUSE_MS)) {
      let asked: number | undefined;
      try {
        const response = await doFetch(request.clone());
        if (!PASSING.includes(response.status)) return response;
        asked = retryAfterMs(response);
        if (performance.now() + (asked ?? pauseMs) > until) return response;
        await response.body?.cancel();
      } catch (error) {
        if (request.signal.aborted) throw error;
        if (performance.now() + pauseMs > until) throw ApiError.unreachable(request.url, error);
      }
      // Half of the pause is chance, so that clients that lost one server do not come back as one.
      await pause(asked ?? pauseMs * (0.5 + Math.random() / 2), request.signal);
    }
  };

  /** A request by path, for what the typed methods do not cover: streams, and raw calls. */
  request(method: string, path: string, init: RequestInit = {}): Promise<Response> {
    return this.send(new Request(`${this.baseUrl}${path}`, { ...init, method }));
  }
}

function retryAfterMs(response: Response): number | undefined {
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN);
  return Number.isNaN(seconds) ? undefined : seconds * 1000;
}

/** Resolves after the time; rejects with the reason of the abort. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    if (signal?.aborted === true) {
      reject(signal.reason as Error);
      return;
    }
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, ms);
    signal?.addEventListener('abort', stop, { once: true });
  });
}
