import { Module, type DynamicModule, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { readFileSync } from 'node:fs';
import { type AddressInfo } from 'node:net';
import { ImsError, LIMITS, type ServiceName } from '#contracts';
import { ConfigError } from './config.js';
import { ServiceHealth } from './health.js';
import { addContextHooks } from './http-context.js';
import { ProblemFilter, sendProblem } from './http-errors.js';
import { addHttpMetrics, addMethodCheck, addOperationsRoutes } from './http-ops.js';
import { Lifecycle } from './lifecycle.js';
import { createLogger, NestLogger, type Logger } from './logger.js';
import { Metrics } from './metrics.js';
import { PlatformModule } from './platform.module.js';
import { sleep } from './time.js';

export interface ServiceOptions {
  readonly name: ServiceName;
  readonly module: Type | DynamicModule;
  /** Port 0: any free one; it is in the `ready` line. */
  readonly http: {
    readonly host: string;
    readonly port: number;
    readonly https?: { cert: Buffer; key: Buffer };
    /** Addresses or networks of proxies whose `X-Forwarded-For` is believed. Default: nobody's. */
    readonly trustedProxies?: readonly string[];
  };
  /** Before the application is initialised: microservice strategies, OpenAPI, raw Fastify routes. */
  readonly configure?: (app: NestFastifyApplication) => Promise<void> | void;
  /** Between "not ready" and the end of intake, so that load balancers have seen it. Default 0. */
  readonly drainDelayMs?: number;
  /** SIGTERM, SIGINT and fatal errors end the process. Default true; tests that run a service in process say false. */
  readonly ownsProcess?: boolean;
}

/**
 * The certificate and key of a service that speaks HTTPS, read once at its start. Throws ConfigError when one of the two
 * is missing or cannot be read.
 */
export function tlsFiles(config: {
  TLS_CERT_FILE?: string;
  TLS_KEY_FILE?: string;
}): Pick<ServiceOptions['http'], 'https'> {
  const { TLS_CERT_FILE: certFile, TLS_KEY_FILE: keyFile } = config;
  if (certFile === undefined && keyFile === undefined) return {};
  if (certFile === undefined || keyFile === undefined) {
    throw new ConfigError(['TLS_CERT_FILE and TLS_KEY_FILE: give both, or none']);
  }
  try {
    return { https: { cert: readFileSync(certFile), key: readFileSync(keyFile) } };
  } catch (error) {
    throw new ConfigError([`TLS_CERT_FILE, TLS_KEY_FILE: ${(error as Error).message}`]);
  }
}

@Module({})
class RootModule {}

/**
 * Drains before Nest's shutdown hooks: those run module by module, so one that closes something (TypeORM's pool, a
 * client) would do so under the work of another. Nest awaits this one, though its declaration says void; where it did
 * not, Lifecycle's own hook still runs the phases.
 */
class DrainingAdapter extends FastifyAdapter {
  drain: (() => Promise<void>) | undefined;

  // eslint-disable-next-line @typescript-eslint/no-misused-promises -- awaited, see above
  override beforeClose(): Promise<void> {
    super.beforeClose();
    return this.drain?.() ?? Promise.resolve();
  }
}

/** All drain phases at their limits take 25 s; an orchestrator kills at 30 s, without a word about what was open. */
const END_WITHIN_MS = 28_000;
/** Ends idle keep-alive connections this often while the HTTP server closes. */
const CLOSE_IDLE_EVERY_MS = 50;

/**
 * Builds and starts a service: Nest on Fastify with our errors, request context, health, metrics and drain. Resolves
 * when it listens and every module has started, after the line `{"msg":"ready","port":…}`. Rejects (and has closed
 * what it had opened) when it cannot start.
 */
export async function startService(options: ServiceOptions): Promise<NestFastifyApplication> {
  const logger = createLogger(options.name);
  const { trustedProxies = [] } = options.http;
  const adapter = new DrainingAdapter({
    ...(options.http.https ? { https: options.http.https } : {}),
    bodyLimit: LIMITS.bodyBytes,
    ...(trustedProxies.length > 0 ? { trustProxy: [...trustedProxies] } : {}),
    // Ids in paths are 30 characters; more than 200 is nobody's id.
    routerOptions: { maxParamLength: 200 },
    // A path that the router cannot read at all names nothing. It answers before any hook has run.
    frameworkErrors: (error: Error, request: FastifyRequest, reply: FastifyReply) => {
      sendProblem(request, reply, new ImsError('not_found', error.message));
    },
  });
  const http = adapter.getInstance<FastifyInstance>();
  // Before Nest registers its own routes, so that the hooks see them all.
  addContextHooks(http);
  addMethodCheck(http);
  const app = await NestFactory.create<NestFastifyApplication>(
    { module: RootModule, imports: [PlatformModule.forRoot(), options.module] },
    adapter,
    { logger: new NestLogger(logger), abortOnError: false },
  ).catch((error: unknown) => {
    logger.fatal({ err: error }, 'cannot start');
    throw error;
  });
  try {
    app.useGlobalFilters(new ProblemFilter());
    addHttpMetrics(http, app.get(Metrics));
    addOperationsRoutes(http, app.get(ServiceHealth), app.get(Metrics));
    drainHttp(app, http);
    adapter.drain = () => app.get(Lifecycle).drain();
    if (options.ownsProcess !== false) ownProcess(app, logger, options.drainDelayMs ?? 0);
    await options.configure?.(app);
    await app.listen(options.http.port, options.http.host);
  } catch (error) {
    logger.fatal({ err: error }, 'cannot start');
    await app.close().catch((closing: unknown) => {
      logger.error({ err: closing }, 'closing after a failed start failed too');
    });
    throw error;
  }
  logger.info({ service: options.name, port: (http.server.address() as AddressInfo).port }, 'ready');
  return app;
}

/** Closes the HTTP server in two steps: no new connection, then the end of the answers that are under way. */
function drainHttp(app: NestFastifyApplication, http: FastifyInstance): void {
  const lifecycle = app.get(Lifecycle);
  const health = app.get(ServiceHealth);
  http.addHook('onSend', (_request, reply, payload, done) => {
    if (health.draining) reply.header('connection', 'close');
    done(null, payload);
  });
  let closed: Promise<void> = Promise.resolve();
  lifecycle.onDrain('stop-intake', 'http', () => {
    if (http.server.listening) {
      closed = new Promise((resolve) => {
        const idle = setInterval(() => {
          http.server.closeIdleConnections();
        }, CLOSE_IDLE_EVERY_MS);
        http.server.close(() => {
          clearInterval(idle);
          resolve();
        });
        http.server.closeIdleConnections();
      });
    }
    return Promise.resolve();
  });
  lifecycle.onDrain('finish-work', 'http', () => closed);
  // Whoever has not ended by now (a stream without end) is cut, or the process would wait for it.
  lifecycle.onDrain('close', 'http', () => {
    http.server.closeAllConnections();
    return Promise.resolve();
  });
}

/** The first SIGTERM or SIGINT drains and exits 0; the second exits at once. A fatal error exits 1. */
function ownProcess(app: NestFastifyApplication, logger: Logger, drainDelayMs: number): void {
  let ending = false;
  const end = async (signal: string): Promise<void> => {
    if (ending) {
      logger.warn({ signal }, 'second signal: ending at once');
      process.exit(1);
    }
    ending = true;
    logger.info({ signal }, 'draining');
    app.get(ServiceHealth).beginDrain();
    setTimeout(() => {
      fail(new Error(`still not closed after ${END_WITHIN_MS} ms`), 'the drain hangs');
    }, drainDelayMs + END_WITHIN_MS).unref();
    await sleep(drainDelayMs);
    await app.close();
    logger.info('drained');
    process.exit(0);
  };
  const fail = (error: unknown, what: string): void => {
    logger.fatal({ err: error }, what);
    process.exit(1);
  };
  for (const signal of ['SIGTERM', 'SIGINT']) {
    process.on(signal, () => {
      end(signal).catch((error: unknown) => {
        fail(error, 'the drain failed');
      });
    });
  }
  process.on('uncaughtException', (error) => {
    fail(error, 'uncaught exception');
  });
  process.on('unhandledRejection', (error) => {
    fail(error, 'unhandled rejection');
  });
}
