import createClient, { type FetchResponse, type MaybeOptionalInit } from 'openapi-fetch';
import { followLogs, readLogs, type LogLine, type LogNews, type LogReading } from './logs.js';
import { ApiError, type Schemas } from './problem.js';
import { type paths } from './schema.js';
import { Transport, type TransportOptions } from './transport.js';

type Method = 'get' | 'post' | 'put' | 'delete' | 'patch';
type PathOf<M extends Method> = {
  [P in keyof paths]: paths[P][M] extends { responses: unknown } ? P : never;
}[keyof paths];
type InitOf<P extends keyof paths, M extends Method> = MaybeOptionalInit<paths[P], M>;
type ArgsOf<P extends keyof paths, M extends Method> =
  undefined extends InitOf<P, M> ? [init?: InitOf<P, M>] : [init: InitOf<P, M>];
/** What a route answers when it succeeds. */
export type AnswerOf<P extends keyof paths, M extends Method> = NonNullable<
  FetchResponse<Extract<paths[P][M], Record<string, unknown>>, unknown, 'application/json'>['data']
>;
/** Lists: what answers `{ data, next_cursor }`. */
type ListPath = {
  [P in PathOf<'get'>]: AnswerOf<P, 'get'> extends { data: unknown[]; next_cursor?: string } ? P : never;
}[PathOf<'get'>];
export type ItemOf<P extends ListPath> = AnswerOf<P, 'get'> extends { data: (infer T)[] } ? T : never;

export interface Waiting<T> {
  /** Milliseconds to wait at most; default: for ever. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
  /** Told of each reading that differs from the one before. */
  readonly onChange?: (value: T) => void;
}

/** The server answers within this time and is asked again; proxies cut connections that are silent for 60 s. */
const WAIT_S = 30;
const FINAL: readonly string[] = ['succeeded', 'failed', 'cancelled', 'skipped'];
/** True when a job, build or deployment of this status will not change any more. */
export const isFinal = ({ status }: { readonly status: string }): boolean => FINAL.includes(status);

/**
 * The API of Vendor Cloud, typed by its own OpenAPI document: `ims.get('/v1/jobs/{job_id}', { params: { path: … } })`.
 * Methods answer the body of a success and throw ApiError otherwise. Runs in Node and in browsers.
 */
export class ImsClient {
  /** For what the typed methods do not cover. */
  readonly transport: Transport;
  private readonly http: ReturnType<typeof createClient<paths, 'application/json'>>;

  constructor(options: TransportOptions) {
    this.transport = new Transport(options);
    this.http = createClient<paths, 'application/json'>({
      baseUrl: this.transport.baseUrl,
      fetch: this.transport.send,
    });
    this.http.use({
      onResponse: async ({ response }) => {
        if (!response.ok && response.status !== 304) throw await ApiError.of(response);
      },
    });
  }

  get<P extends PathOf<'get'>>(path: P, ...init: ArgsOf<P, 'get'>): Promise<AnswerOf<P, 'get'>> {
    return this.call('get', path, init[0]);
  }
  post<P extends PathOf<'post'>>(path: P, ...init: ArgsOf<P, 'post'>): Promise<AnswerOf<P, 'post'>> {
    return this.call('post', path, init[0]);
  }
  put<P extends PathOf<'put'>>(path: P, ...init: ArgsOf<P, 'put'>): Promise<AnswerOf<P, 'put'>> {
    return this.call('put', path, init[0]);
  }
  delete<P extends PathOf<'delete'>>(path: P, ...init: ArgsOf<P, 'delete'>): Promise<AnswerOf<P, 'delete'>> {
    return this.call('delete', path, init[0]);
  }
  patch<P extends PathOf<'patch'>>(path: P, ...init: ArgsOf<P, 'patch'>): Promise<AnswerOf<P, 'patch'>> {
    return this.call('patch', path, init[0]);
  }

  /** A resource with its ETag as `If-Match` wants it, for a change that must not overwrite another one. */
  async read<P extends PathOf<'get'>>(
    path: P,
    ...init: ArgsOf<P, 'get'>
  ): Promise<{ readonly data: AnswerOf<P, 'get'>; readonly etag: string }> {
    const { data, response } = await this.exchange('get', path, init[0]);
    return { data: data as AnswerOf<P, 'get'>, etag: response.headers.get('etag') ?? '' };
  }

  /** Every item of a list, page after page, as it is asked for. */
  async *list<P extends ListPath>(path: P, ...init: ArgsOf<P, 'get'>): AsyncGenerator<ItemOf<P>> {
    let cursor: string | undefined;
    do {
      const answer: unknown = await this.call('get', path, withCursor(init[0], cursor));
      const page = answer as { data: ItemOf<P>[]; next_cursor?: string };
      yield* page.data;
      cursor = page.next_cursor;
    } while (cursor !== undefined);
  }

  /** The log of a job as it is now. */
  readLogs(jobId: string, reading?: LogReading): AsyncGenerator<LogLine> {
    return readLogs(this.transport, jobId, reading);
  }
  /** The log of a job until it has ended, over restarts of the servers. */
  followLogs(jobId: string, reading?: LogReading): AsyncGenerator<LogNews> {
    return followLogs(this.transport, jobId, reading);
  }

  /** The job when it has ended, or as it is when the time has passed. */
  waitForJob(jobId: string, waiting: Waiting<Schemas['Job']> = {}): Promise<Schemas['Job']> {
    return this.waitFor(waiting, (seconds, signal) =>
      this.get('/v1/jobs/{job_id}', {
        params: { path: { job_id: jobId }, header: { Prefer: `wait=${seconds}` } },
        signal,
      }),
    );
  }
  /** The deployment when it has ended, or as it is when the time has passed. */
  waitForDeployment(id: string, waiting: Waiting<Schemas['Deployment']> = {}): Promise<Schemas['Deployment']> {
    return this.waitFor(waiting, (seconds, signal) =>
      this.get('/v1/deployments/{deployment_id}', {
        params: { path: { deployment_id: id }, header: { Prefer: `wait=${seconds}` } },
        signal,
      }),
    );
  }

  private async waitFor<T extends { status: string }>(
    { timeoutMs = Infinity, signal, onChange }: Waiting<T>,
    read: (seconds: number, signal: AbortSignal | null) => Promise<T>,
  ): Promise<T> {
    const until = performance.now() + timeoutMs;
    let before = '';
    for (;;) {
      const seconds = Math.max(0, Math.min(WAIT_S, Math.ceil((until - performance.now()) / 1000)));
      const value = await read(seconds, signal ?? null);
      const text = JSON.stringify(value);
      if (text !== before) onChange?.(value);
      before = text;
      if (isFinal(value) || performance.now() >= until) return value;
    }
  }

  private async call<P extends keyof paths, M extends Method>(
    method: M,
    path: P,
    init: unknown,
  ): Promise<AnswerOf<P, M>> {
    return (await this.exchange(method, path, init)).data as AnswerOf<P, M>;
  }

  /** The types of the call were checked by the public method; openapi-fetch cannot see them through a generic verb. */
  private exchange(method: Method, path: string, init: unknown): Promise<{ data: unknown; response: Response }> {
    const request = this.http.request as unknown as (
      method: Method,
      path: string,
      init: unknown,
    ) => Promise<{ data: unknown; response: Response }>;
    return request(method, path, init ?? {});
  }
}

function withCursor(init: unknown, cursor: string | undefined): unknown {
  if (cursor === undefined) return init;
  const given = (init ?? {}) as { params?: { query?: object } };
  return { ...given, params: { ...given.params, query: { ...given.params?.query, cursor } } };
}
