import { DataSource, MigrationExecutor, type DataSourceOptions, type MigrationInterface } from 'typeorm';
import { backoffMs, createLogger, sleep } from '#platform';
import { type ServiceName } from '#contracts';
import { HeededClient } from './client.js';
import { Foundation1700000000000 } from './foundation.js';
import { isConnectionLoss, isRefused } from './pg-errors.js';

type PostgresOptions = Extract<DataSourceOptions, { type: 'postgres' }>;
export type MigrationClass = new () => MigrationInterface;

export interface PersistenceOptions {
  readonly service: ServiceName;
  /** `postgres://…` of the service's own role, whose search_path is the service's own schema. */
  readonly url: string;
  readonly entities?: readonly (new () => object)[];
  /** Besides the shared foundation; class names end in a time stamp (milliseconds) that orders them. */
  readonly migrations: readonly MigrationClass[];
  /** Connections of this process. Default 10: beyond some 8 busy ones two cores gain nothing (measured). */
  readonly poolSize?: number;
  /** How long to wait at the start for a PostgreSQL that is not there yet. Default 60 s. */
  readonly startTimeoutMs?: number;
}

const logger = createLogger('database');

/** Limits of every session, so that no statement, lock or forgotten transaction holds others up for long. */
const SESSION = {
  statement_timeout: 30_000,
  lock_timeout: 10_000,
  idle_in_transaction_session_timeout: 30_000,
  /** Also the wait for a free connection. A server that is there answers in milliseconds. */
  connectionTimeoutMillis: 3_000,
  keepAlive: true,
} as const;

export function dataSourceOptions(options: PersistenceOptions): PostgresOptions {
  return {
    type: 'postgres',
    url: options.url,
    applicationName: options.service,
    poolSize: options.poolSize ?? 10,
    entities: [...(options.entities ?? [])],
    migrations: [Foundation1700000000000, ...options.migrations],
    migrationsTransactionMode: 'each',
    synchronize: false,
    logging: false,
    // Counters and sequence numbers are far below 2^53; as text they compare and add wrongly without a word.
    parseInt8: true,
    extra: { ...SESSION, Client: HeededClient },
    poolErrorHandler: (error: unknown) => {
      logger.warn({ err: error }, 'an idle database connection was lost');
    },
  };
}

/** Connects (waiting for a PostgreSQL that is still starting) and brings the schema up to date. */
export async function openDataSource(options: PersistenceOptions): Promise<DataSource> {
  const deadline = performance.now() + (options.startTimeoutMs ?? 60_000);
  for (let attempt = 1; ; attempt += 1) {
    const dataSource = new DataSource(dataSourceOptions(options));
    try {
      await dataSource.initialize();
      await migrate(dataSource);
      return dataSource;
    } catch (error) {
      if (dataSource.isInitialized) await dataSource.destroy().catch(() => undefined);
      if (isRefused(error) || !isConnectionLoss(error) || performance.now() > deadline) throw error;
      if (attempt === 1) logger.warn({ err: error }, 'waiting for the database');
      await sleep(backoffMs(attempt, { baseMs: 100, maxMs: 2_000 }));
    }
  }
}

/** Pending migrations, one transaction each. Replicas that start together do it one after another. */
async function migrate(dataSource: DataSource): Promise<void> {
  const runner = dataSource.createQueryRunner();
  try {
    await runner.connect();
    const [row] = (await runner.query('SELECT current_schema() AS schema')) as { schema: string | null }[];
    if (row?.schema == null) {
      throw new Error('the database role has no schema: create it and set it with ALTER ROLE … SET search_path');
    }
    // A migration may take longer than any statement of the service may, and so may waiting for another replica's.
    await runner.query('SET statement_timeout = 0; SET lock_timeout = 0');
    await runner.query(`SELECT pg_advisory_lock(hashtextextended('ims.migrations.' || $1, 0))`, [row.schema]);
    const executor = new MigrationExecutor(dataSource, runner);
    executor.transaction = 'each';
    const done = await executor.executePendingMigrations();
    if (done.length > 0) logger.info({ migrations: done.map(({ name }) => name) }, 'the schema is up to date');
    await runner.query(`SELECT pg_advisory_unlock_all()`);
    await runner.query('RESET statement_timeout; RESET lock_timeout');
  } catch (error) {
    // The lock belongs to the session: end it, whatever state it is in.
    await dataSource.destroy().catch(() => undefined);
    throw error;
  } finally {
    if (!runner.isReleased) await runner.release();
  }
}
