import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';

/** What travels with one piece of work through every process that it touches. */
export interface RequestContext {
  readonly requestId: string;
  /** W3C trace context: `00-<trace id>-<span id>-<flags>`. */
  readonly traceparent: string;
  /** Who caused it, when that is known and proven: `key:<id>`, `operator`. */
  readonly actor?: string;
}

const storage = new AsyncLocalStorage<RequestContext>();

/** The context of the work that is running now; undefined outside `runInContext` (start-up, timers). */
export function currentContext(): RequestContext | undefined {
  return storage.getStore();
}

export function runInContext<T>(context: RequestContext, work: () => T): T {
  return storage.run(context, work);
}

// A request id ends up in log lines, headers and messages; anything else than these characters is replaced, not escaped.
const REQUEST_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{7,79}$/;
const ACTOR = /^[a-z]+(:[a-z0-9_-]+)?$/;
const TRACEPARENT = /^00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})$/;

/**
 * A context for work that begins here. A well-formed request id from outside is kept; the trace goes on with a span
 * of our own; what is malformed is replaced silently, as W3C asks.
 */
export function newContext(requestId?: string, traceparent?: string, actor?: string): RequestContext {
  const outer = TRACEPARENT.exec(traceparent ?? '');
  const traceId = outer?.[1] ?? randomBytes(16).toString('hex');
  return {
    requestId:
      requestId !== undefined && REQUEST_ID.test(requestId) ? requestId : `req_${randomBytes(12).toString('hex')}`,
    traceparent: `00-${traceId}-${randomBytes(8).toString('hex')}-${outer?.[2] ?? '01'}`,
    ...(actor !== undefined && actor.length <= 80 && ACTOR.test(actor) ? { actor } : {}),
  };
}

export const traceIdOf = (context: RequestContext): string => context.traceparent.split('-')[1] ?? '';
