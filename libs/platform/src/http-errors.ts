import { ArgumentsHost, Catch, HttpException, type ExceptionFilter } from '@nestjs/common';
import { type FastifyReply, type FastifyRequest } from 'fastify';
import { ERRORS, ImsError, type ErrorCode } from '#contracts';
import { contextOf } from './http-context.js';
import { createLogger } from './logger.js';
import { PROBLEM_TYPE, toProblem } from './problem.js';

/** What Fastify and Nest throw on their own, by HTTP status. Anything else of theirs below 500 is a bad request. */
const BY_STATUS: Readonly<Record<number, ErrorCode>> = {
  400: 'malformed_body',
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'not_found',
  405: 'method_not_allowed',
  409: 'conflict',
  412: 'precondition_failed',
  413: 'payload_too_large',
  415: 'unsupported_media_type',
  428: 'precondition_required',
  429: 'rate_limited',
  503: 'unavailable',
};

/**
 * Any thrown value as an error of the catalogue. Texts of foreign errors go out only where they are known to be about
 * the request (parsers, routing); everything else becomes `internal` with the cause for the log alone.
 */
export function toImsError(thrown: unknown): ImsError {
  if (thrown instanceof ImsError) return thrown;
  if (!(thrown instanceof Error)) return ImsError.of(thrown);
  const status = thrown instanceof HttpException ? thrown.getStatus() : statusOf(thrown);
  if (status === undefined || status < 400 || (status >= 500 && status !== 503)) return ImsError.of(thrown);
  const code = BY_STATUS[status] ?? 'invalid_request';
  // The parser's own words (`Unexpected token … in JSON`) repeat a part of the body, which may hold a secret.
  const detail = code === 'malformed_body' ? ERRORS.malformed_body.title : thrown.message;
  return new ImsError(code, detail, [], { cause: thrown });
}

function statusOf(error: Error): number | undefined {
  const { statusCode, code } = error as { statusCode?: unknown; code?: unknown };
  // Only errors of Fastify itself (`FST_ERR_…`): an upstream client's error may carry a statusCode that is not ours.
  const fromFastify = typeof code === 'string' && code.startsWith('FST_ERR_');
  return (fromFastify || error instanceof SyntaxError) && typeof statusCode === 'number' ? statusCode : undefined;
}

/** Answers an error; also for code that answers outside Nest's handlers. Does nothing when an answer has begun. */
export function sendProblem(request: FastifyRequest, reply: FastifyReply, error: ImsError): void {
  if (reply.sent || reply.raw.headersSent) {
    // A stream that was under way: cut it, so that the client cannot take half an answer for a whole one.
    reply.raw.destroy();
    return;
  }
  const { requestId } = contextOf(request);
  const body = toProblem(error, { instance: request.url.split('?')[0] ?? '/', requestId });
  if (error.code === 'unauthenticated') reply.header('www-authenticate', 'Bearer');
  if (error.entry.status === 503 && !reply.hasHeader('retry-after')) reply.header('retry-after', '1');
  reply.header('x-request-id', requestId).header('cache-control', 'no-store');
  reply.type(PROBLEM_TYPE).status(body.status).send(JSON.stringify(body));
}

/** The one mapping from thrown to answered. Our own faults are logged with their cause, others at debug. */
@Catch()
export class ProblemFilter implements ExceptionFilter {
  private readonly logger = createLogger('http');

  catch(thrown: unknown, host: ArgumentsHost): void {
    const http = host.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    const error = toImsError(thrown);
    const fields = { code: error.code, method: request.method, path: request.url.split('?')[0], err: thrown };
    if (error.entry.status >= 500) this.logger.error(fields, 'a request failed');
    else this.logger.debug(fields, 'a request was refused');
    sendProblem(request, http.getResponse<FastifyReply>(), error);
  }
}
