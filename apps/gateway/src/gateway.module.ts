import { Module, type DynamicModule } from '@nestjs/common';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import { MessagingModule } from '#messaging';
import { PersistenceModule } from '#persistence';
import { startService, tlsFiles } from '#platform';
import { ApiKeys } from './access/api-keys.js';
import { CatalogueController } from './catalogue.controller.js';
import { GatewayConfig } from './config.js';
import { DeploymentsController } from './deployments.controller.js';
import { Idempotency } from './edge/idempotency.js';
import { openApiDocument } from './edge/openapi.js';
import { ApiDocument, EntranceController } from './entrance.controller.js';
import { InstallsController } from './installs.controller.js';
import { JobsController } from './jobs.controller.js';
import { JobLogs } from './live/job-logs.js';
import { Wakeups } from './live/wakeups.js';
import { MIGRATIONS } from './migrations.js';
import { acceptSessions } from './page/cookie.js';
import { servePage } from './page/files.js';
import { SessionController } from './page/session.controller.js';
import { Sessions } from './page/sessions.js';
import { VendorsController } from './vendors.controller.js';

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
        Idempotency,
        Wakeups,
        JobLogs,
        ApiDocument,
        Sessions,
      ],
      controllers: [
        EntranceController,
        VendorsController,
        CatalogueController,
        InstallsController,
        DeploymentsController,
        JobsController,
        SessionController,
      ],
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
    http: { host: config.HTTP_HOST, port: config.HTTP_PORT, ...tlsFiles(config) },
    configure: async (app) => {
      app.get(ApiDocument).set(openApiDocument(app, config.PUBLIC_URL));
      acceptSessions(app.getHttpAdapter().getInstance(), app.get(Sessions));
      await servePage(app, config.DASHBOARD_DIR);
    },
    ...options,
  });
}
