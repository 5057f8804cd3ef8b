import { Module, type DynamicModule, type Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { MessagingModule } from '#messaging';
import { PersistenceModule } from '#persistence';
import { startService, tlsFiles } from '#platform';
import { AccessGuard } from './access/access.guard.js';
import { ApiKeys } from './access/api-keys.js';
import { Audit } from './access/audit.js';
import { EnrolmentTokens } from './access/enrolment-tokens.js';
import { RateLimits } from './access/rate-limits.js';
import { CatalogueController } from './catalogue.controller.js';
import { GatewayConfig } from './config.js';
import { DeploymentsController } from './deployments.controller.js';
import { Idempotency } from './edge/idempotency.js';
import { openApiDocument } from './edge/openapi.js';
import { Pipeline } from './edge/pipeline.js';
import { ApiDocument, EntranceController } from './entrance.controller.js';
import { InstallsController } from './installs.controller.js';
import { JobsController } from './jobs.controller.js';
import { ObserveController } from './observe.controller.js';
import { KeysController } from './keys.controller.js';
import { JobLogs } from './live/job-logs.js';
import { Wakeups } from './live/wakeups.js';
import { MIGRATIONS } from './migrations.js';
import { acceptSessions } from './page/cookie.js';
import { servePage } from './page/files.js';
import { SessionController } from './page/session.controller.js';
import { Sessions } from './page/sessions.js';
import { RolloutsController } from './rollouts.controller.js';
import { VendorsController } from './vendors.controller.js';
import { Deliveries } from './webhooks/deliveries.js';
import { WebhooksController } from './webhooks/webhooks.controller.js';
import { Webhooks } from './webhooks/webhooks.js';

const CONTROLLERS: Type[] = [
  EntranceController,
  VendorsController,
  CatalogueController,
  InstallsController,
  DeploymentsController,
  RolloutsController,
  JobsController,
  SessionController,
  ObserveController,
  KeysController,
  WebhooksController,
];

@Module({})
class GatewayModule {
  static with(config: GatewayConfig): DynamicModule {
    return {
      module: GatewayModule,
      imports: [
        PersistenceModule.forService({ service: 'gateway', url: config.DATABASE_URL, migrations: MIGRATIONS }),
        MessagingModule.forService({
          service: 'gateway',
          servers: config.NATS_URLS,
          jwt: config.NATS_JWT,
          seed: config.NATS_SEED,
          ...(config.NATS_CA_FILE === undefined ? {} : { caFile: config.NATS_CA_FILE }),
        }),
      ],
      providers: [
        { provide: GatewayConfig, useValue: config },
        ApiKeys,
        Audit,
        EnrolmentTokens,
        RateLimits,
        Idempotency,
        Wakeups,
        JobLogs,
        ApiDocument,
        Sessions,
        Webhooks,
        Deliveries,
      ],
      controllers: CONTROLLERS,
    };
  }
}

/** Starts the gateway; `ownsProcess: false` for a gateway inside another process. */
export function startGateway(
  config: GatewayConfig,
  options: { readonly ownsProcess?: boolean } = {},
): Promise<NestFastifyApplication> {
  return startService({
    name: 'gateway',
    module: GatewayModule.with(config),
    http: {
      host: config.HTTP_HOST,
      port: config.HTTP_PORT,
      trustedProxies: config.TRUSTED_PROXIES,
      ...tlsFiles(config),
    },
    configure: async (app) => {
      app.get(ApiDocument).set(openApiDocument(app, config.PUBLIC_URL));
      acceptSessions(app.getHttpAdapter().getInstance(), app.get(Sessions));
      await servePage(app, config.DASHBOARD_DIR);
    },
    ...options,
  });
}

/** The OpenAPI document from the declarations alone, no server behind it: for the generated client and the reference. */
export async function offlineDocument(): Promise<object> {
  const needed = [...CONTROLLERS, AccessGuard, Pipeline].flatMap(
    (type) => (Reflect.getMetadata('design:paramtypes', type) ?? []) as Type[],
  );
  // Nothing is called, so what the controllers are made with may be empty; only the guard looks at the configuration.
  const providers = [...new Set(needed)].map((provide) => ({ provide, useValue: { OPERATOR_KEY: '' } }));
  const module = { module: class Routes {}, controllers: CONTROLLERS, providers };
  const app = await NestFactory.create<NestFastifyApplication>(module, new FastifyAdapter(), {
    logger: false,
    abortOnError: false,
  });
  try {
    return openApiDocument(app, 'http://127.0.0.1:8080');
  } finally {
    await app.close();
  }
}
