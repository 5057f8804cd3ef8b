import { type IncomingMessage } from 'node:http';
import { type FastifyInstance, type FastifyRequest } from 'fastify';
import { newContext, runInContext, type RequestContext } from './context.js';

const contexts = new WeakMap<IncomingMessage, RequestContext>();

const single = (header: string | string[] | undefined): string | undefined =>
  Array.isArray(header) ? header[0] : header;

/** The context of an HTTP request; made at its first use. */
export function contextOf(request: FastifyRequest): RequestContext {
  let context = contexts.get(request.raw);
  if (!context) {
    const { headers } = request.raw;
    context = newContext(single(headers['x-request-id']), single(headers['traceparent']));
    contexts.set(request.raw, context);
  }
  return context;
}

/** Runs every request in its context (Fastify keeps it over the reading of the body) and tells the client its request id. */
export function addContextHooks(http: FastifyInstance): void {
  http.addHook('onRequest', (request, reply, done) => {
    const context = contextOf(request);
    reply.header('x-request-id', context.requestId);
    reply.header('x-content-type-options', 'nosniff');
    runInContext(context, done);
  });
}
