import { type LoggerService } from '@nestjs/common';
import { pino, type Logger as Pino } from 'pino';
import { currentContext, traceIdOf } from './context.js';
import { logLevel } from './config.js';
import { redactText } from './redaction.js';

/** One JSON line a call, on standard output. `fields` are the machine's part, `message` the person's. */
export interface Logger {
  debug(fields: object | string, message?: string): void;
  info(fields: object | string, message?: string): void;
  warn(fields: object | string, message?: string): void;
  error(fields: object | string, message?: string): void;
  fatal(fields: object | string, message?: string): void;
  child(fields: object): Logger;
}

interface LoggedError {
  type: string;
  message: string;
  code?: string;
  stack?: string;
  cause?: LoggedError | string;
}

/**
 * An error for the log: only these fields. Errors of TypeORM and pg carry `parameters` and `detail`, which hold row
 * values; pino's own serializer would print them.
 */
export function describeError(thrown: unknown, depth = 0): LoggedError | string {
  if (!(thrown instanceof Error)) return typeof thrown === 'string' ? thrown : `thrown: ${typeof thrown}`;
  const code = (thrown as { code?: unknown }).code;
  return {
    type: thrown.constructor.name,
    message: thrown.message,
    ...(typeof code === 'string' ? { code } : {}),
    ...(thrown.stack === undefined ? {} : { stack: thrown.stack }),
    ...(thrown.cause === undefined || depth >= 4 ? {} : { cause: describeError(thrown.cause, depth + 1) }),
  };
}

let root: Pino | undefined;

/** Every logger of a process shares one stream: two of them on the same pipe would mix half lines. */
function rootLogger(): Pino {
  root ??= pino({
    level: logLevel(),
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { err: describeError, error: describeError, cause: describeError },
    mixin: () => {
      const context = currentContext();
      return context ? { request_id: context.requestId, trace_id: traceIdOf(context) } : {};
    },
    // At the mouth of the pipe, over the finished line: no field, nesting or error text gets around it.
    hooks: { streamWrite: redactText },
  });
  return root;
}

/** A logger whose lines carry `name` (service, or service and room). Level from LOG_LEVEL, default `info`. */
export function createLogger(name: string): Logger {
  return rootLogger().child({ name });
}

/** Nest's own messages in our form. Its start-up chatter (one line a module and a route) is `debug`. */
export class NestLogger implements LoggerService {
  constructor(private readonly logger: Logger) {}

  log(message: unknown, ...rest: unknown[]): void {
    this.logger.debug(...this.line(message, rest));
  }
  error(message: unknown, ...rest: unknown[]): void {
    this.logger.error(...this.line(message, rest));
  }
  warn(message: unknown, ...rest: unknown[]): void {
    this.logger.warn(...this.line(message, rest));
  }
  debug(message: unknown, ...rest: unknown[]): void {
    this.logger.debug(...this.line(message, rest));
  }
  verbose(message: unknown, ...rest: unknown[]): void {
    this.logger.debug(...this.line(message, rest));
  }
  fatal(message: unknown, ...rest: unknown[]): void {
    this.logger.fatal(...this.line(message, rest));
  }

  /** Nest calls `(message, context)` or `(message, stack, context)`. */
  private line(message: unknown, rest: unknown[]): [object, string] {
    const texts = rest.filter((part) => typeof part === 'string');
    const context = texts.at(-1);
    const stack = texts.length > 1 ? texts[0] : undefined;
    const fields = {
      ...(context === undefined ? {} : { context }),
      ...(stack === undefined ? {} : { stack }),
      ...(message instanceof Error ? { err: message } : {}),
    };
    return [
      fields,
      message instanceof Error ? message.message : typeof message === 'string' ? message : JSON.stringify(message),
    ];
  }
}
