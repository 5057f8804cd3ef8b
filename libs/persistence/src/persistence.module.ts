import { Module, type DynamicModule } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { Lifecycle, Metrics, ServiceHealth } from '#platform';
import { Database } from './database.js';
import { dataSourceOptions, openDataSource, type PersistenceOptions } from './open.js';

/**
 * A service's PostgreSQL: the TypeORM data source (also for `TypeOrmModule.forFeature`) and `Database`. Migrations
 * have run when anything is injected. Needs the platform module.
 */
@Module({})
export class PersistenceModule {
  static forService(options: PersistenceOptions): DynamicModule {
    return {
      module: PersistenceModule,
      global: true,
      imports: [
        TypeOrmModule.forRootAsync({
          useFactory: () => ({ ...dataSourceOptions(options), retryAttempts: 0 }),
          dataSourceFactory: () => openDataSource(options),
        }),
      ],
      providers: [
        {
          provide: Database,
          inject: [DataSource, Lifecycle, ServiceHealth, Metrics],
          useFactory: (source: DataSource, lifecycle: Lifecycle, health: ServiceHealth, metrics: Metrics) => {
            const database = new Database(source, options.service, relayMetrics(metrics));
            health.addCheck('postgres', () => database.ping());
            // After the work that is under way has committed, before the broker's connection ends.
            lifecycle.onDrain('flush', 'outbox', () => database.stopRelay());
            return database;
          },
        },
      ],
      exports: [Database, TypeOrmModule],
    };
  }
}

function relayMetrics(metrics: Metrics) {
  const published = metrics.counter({
    name: 'ims_outbox_published_total',
    help: 'Outbox rows published: right after their commit, or by the sweep.',
    labels: ['path'],
  });
  const failed = metrics.counter({ name: 'ims_outbox_failed_total', help: 'Outbox rows whose publishing failed.' });
  const oldest = metrics.gauge({ name: 'ims_outbox_oldest_seconds', help: 'Age of the oldest row not published.' });
  return {
    published: (path: 'fast' | 'sweep', rows: number) => published.inc({ path }, rows),
    failed: (rows: number) => failed.inc(rows),
    oldest: (seconds: number) => oldest.set(seconds),
  };
}
