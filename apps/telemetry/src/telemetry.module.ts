import { Module, type DynamicModule } from '@nestjs/common';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import { MessagingModule } from '#messaging';
import { PersistenceModule } from '#persistence';
import { startService } from '#platform';
import { TelemetryConfig } from './config.js';
import { History } from './history.js';
import { LogSearch } from './log-search.js';
import { LogStore } from './log-store.js';
import { Logs } from './logs.js';
import { MIGRATIONS } from './migrations.js';
import { OtlpForward } from './otlp.js';
import { LogRetention } from './retention.js';
import { Timeline } from './timeline.js';
import { VitalsCharts } from './vitals-series.js';
import { AgentVitals } from './vitals.js';

@Module({})
export class TelemetryModule {
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
          ...(config.NATS_CA_FILE === undefined ? {} : { caFile: config.NATS_CA_FILE }),
          callerKeys: config.CALLER_KEYS,
          // Frames that wait together are stored by one commit.
          consumers: { concurrency: 256 },
        }),
      ],
      providers: [
        { provide: TelemetryConfig, useValue: config },
        OtlpForward,
        LogStore,
        Logs,
        LogSearch,
        LogRetention,
        History,
        Timeline,
        AgentVitals,
        VitalsCharts,
      ],
    };
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
