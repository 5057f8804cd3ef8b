import { Module, type DynamicModule, type OnApplicationBootstrap } from '@nestjs/common';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import { MessagingModule, RawPublisher } from '#messaging';
import { Database, PersistenceModule } from '#persistence';
import { startService } from '#platform';
import { TelemetryConfig } from './config.js';
import { History } from './history.js';
import { Logs } from './logs.js';
import { MIGRATIONS } from './migrations.js';
import { AgentVitals } from './vitals.js';

@Module({})
export class TelemetryModule implements OnApplicationBootstrap {
  constructor(
    private readonly database: Database,
    private readonly publisher: RawPublisher,
  ) {}

  static with(config: TelemetryConfig): DynamicModule {
    return {
      module: TelemetryModule,
      imports: [
        PersistenceModule.forService({ service: 'telemetry', url: config.DATABASE_URL, migrations: MIGRATIONS }),
        MessagingModule.forService({
          service: 'telemetry',
          servers: config.NATS_URLS,
          jwt: config.NATS_JWT,
          seed: config.NATS_SEED,
        }),
      ],
      providers: [{ provide: TelemetryConfig, useValue: config }, Logs, History, AgentVitals],
    };
  }

  onApplicationBootstrap(): void {
    this.database.startRelay(this.publisher);
  }
}

/** Starts telemetry; `ownsProcess: false` inside another process. */
export function startTelemetry(
  config: TelemetryConfig,
  options: { readonly ownsProcess?: boolean } = {},
): Promise<NestFastifyApplication> {
  return startService({
    name: 'telemetry',
    module: TelemetryModule.with(config),
    http: { host: config.HTTP_HOST, port: config.HTTP_PORT },
    ...options,
  });
}
