import {
  Injectable,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
  StreamableFile,
} from '@nestjs/common';
import { type FastifyReply, type FastifyRequest } from 'fastify';
import { from, lastValueFrom, type Observable } from 'rxjs';
import { etagOf, ImsError, Page, type VendorAccount } from '#contracts';
import { currentContext, newContext, runInContext } from '#platform';
import { Ask, callerOf, keepAsk, type Caller } from './ask.js';
import { Audit, type Deed } from '../access/audit.js';
import { Idempotency, type Answer } from './idempotency.js';
import { listsEtag, parseBody, parseQuery, preferredWaitMs } from './read-request.js';
import { routeOf, type DeclaredRoute } from './routes.js';

const actorOf = (caller: Caller): string => (caller.kind === 'vendor' ? `key:${caller.keyId}` : caller.kind);
const single = (value: string | string[] | undefined): string | undefined => (Array.isArray(value) ? value[0] : value);

/**
 * What is the same for every route, around the handler: parse strictly, run once under an Idempotency-Key, and put
 * Location, ETag, Link and Cache-Control on the answer. Runs after the guard, so a stranger learns nothing about a body.
 */
@Injectable()
export class Pipeline implements NestInterceptor {
  constructor(
    private readonly idempotency: Idempotency,
    private readonly audit: Audit,
  ) {}

  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const actor = actorOf(callerOf(context));
    const outer = currentContext() ?? newContext();
    return from(runInContext({ ...outer, actor }, () => this.run(context, next)));
  }

  private async run(context: ExecutionContext, next: CallHandler): Promise<unknown> {
    const route = routeOf(context);
    const http = context.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    const reply = http.getResponse<FastifyReply>();
    const ask = readAsk(route, callerOf(context), request, reply);
    keepAsk(context, ask);

    const key = single(request.headers['idempotency-key']);
    const work = async (): Promise<Answer | StreamableFile> => {
      const body = await this.done(route, ask, request, next);
      if (body instanceof StreamableFile) return body;
      const location = route.location?.(body, ask.params);
      return { status: route.status, body, ...(location === undefined ? {} : { location }) };
    };
    if (route.method !== 'POST' || key === undefined || route.repeatable === true) {
      const answer = await work();
      if (answer instanceof StreamableFile) {
        // Proxies must neither keep a log nor collect it before they pass it on.
        reply.header('cache-control', 'no-store').header('x-accel-buffering', 'no');
        return answer;
      }
      if (ask.waitMs > 0) reply.header('preference-applied', `wait=${ask.waitMs / 1000}`);
      return dress(route, request, reply, answer);
    }
    const once = {
      key,
      actor: actorOf(ask.caller),
      credential: request.headers.authorization ?? '',
      method: route.method,
      path: request.url,
      body: request.body,
    };
    const { replayed, ...answer } = await this.idempotency.once(once, async (idSuffix) => {
      ask.reserveWith(idSuffix);
      const made = await work();
      if (made instanceof StreamableFile) throw new Error('a stream cannot be answered twice');
      return made;
    });
    if (replayed) reply.header('idempotency-replayed', 'true');
    return dress(route, request, reply, answer);
  }

  /** What the handler answers; a change, made or refused, is in the audit before its answer goes out. */
  private async done(route: DeclaredRoute, ask: Ask, request: FastifyRequest, next: CallHandler): Promise<object> {
    const { caller } = ask;
    const tell = async (outcome: Pick<Deed, 'status' | 'code' | 'after' | 'vendorId'>): Promise<void> => {
      if (route.method === 'GET' || caller.kind === 'public') return;
      const before = ask.before === undefined ? {} : { before: ask.before };
      await this.audit.record(request, { caller, action: route.handler, ...before, ...outcome });
    };
    try {
      const body = await lastValueFrom(next.handle() as Observable<object>);
      const vendorId = ask.params['vendor_id'] ?? (body as Partial<VendorAccount>).vendor?.id;
      await tell({
        status: route.status,
        ...(route.secret === true || body instanceof StreamableFile ? {} : { after: body }),
        ...(vendorId === undefined ? {} : { vendorId }),
      });
      return body;
    } catch (error) {
      const { code, entry } = ImsError.of(error);
      await tell({ status: entry.status, code });
      throw error;
    }
  }
}

/** The request, parsed by what the route declares. Throws `invalid_request` naming each bad field by its pointer. */
function readAsk(route: DeclaredRoute, caller: Caller, request: FastifyRequest, reply: FastifyReply): Ask {
  const header = (name: string): string | undefined => single(request.headers[name]);
  const hasBody = request.body !== undefined && request.body !== null;
  // Nest's adapter reads forms too; a form has no types, so its fields would be refused one by one for no clear reason.
  if (hasBody && !/^application\/([\w.-]+\+)?json\b/i.test(header('content-type') ?? '')) {
    throw new ImsError('unsupported_media_type', `${header('content-type') ?? 'no content type'} is not JSON`);
  }
  const query = parseQuery(route.query, request.query);
  const body = parseBody(route.body, request.body);
  const ifMatch = header('if-match') ?? '';
  if (route.ifMatch === true && ifMatch === '') throw new ImsError('precondition_required');
  const gone = new AbortController();
  reply.raw.once('close', () => gone.abort());
  return new Ask(
    caller,
    request.params as Record<string, string>,
    query,
    body,
    ifMatch,
    route.waits === true ? preferredWaitMs(header('prefer')) : 0,
    header,
    gone.signal,
    (name, value) => void reply.header(name, value),
  );
}

/** Status and headers of an answer; its body is what is returned. */
function dress(route: DeclaredRoute, request: FastifyRequest, reply: FastifyReply, answer: Answer): unknown {
  reply.status(answer.status);
  if (answer.location !== undefined) reply.header('location', answer.location);
  if (route.secret === true) reply.header('cache-control', 'no-store');
  if (route.reply !== 'object' && route.reply.prototype instanceof Page) {
    const { next_cursor: cursor } = answer.body as Page;
    if (cursor !== undefined) reply.header('link', `<${nextPage(request.url, cursor)}>; rel="next"`);
  }
  if (route.etag === true) {
    const etag = etagOf(answer.body);
    reply.header('etag', `"${etag}"`).header('cache-control', 'private, no-cache');
    const known = single(request.headers['if-none-match']);
    if (route.method === 'GET' && known !== undefined && listsEtag(known, etag)) {
      reply.status(304);
      return undefined;
    }
  }
  return answer.body;
}

/** The same list from the cursor on, filters kept. */
function nextPage(url: string, cursor: string): string {
  const [path = '', query = ''] = url.split('?');
  const params = new URLSearchParams(query);
  params.set('cursor', cursor);
  return `${path}?${params.toString()}`;
}
