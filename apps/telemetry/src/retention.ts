import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import {
  etagOf,
  getLogUsage,
  getRetention,
  ImsError,
  LOG_DAYS_CHOICES,
  setRetention,
  type LogUsage,
  type OwnRetention,
  type Retention,
  type SetRetention,
} from '#contracts';
import { Serves } from '#messaging';
import { Database } from '#persistence';
import { createLogger, Lifecycle, Metrics } from '#platform';
import { TelemetryConfig } from './config.js';
import { LogStore } from './log-store.js';

const SWEEP_MS = 10 * 60_000;

/** How long logs are kept, vendor by vendor, and what they take. Old ones go by whole partitions: no row is deleted. */
@Injectable()
export class LogRetention implements OnApplicationBootstrap {
  private readonly logger = createLogger('retention');

  constructor(
    private readonly database: Database,
    private readonly store: LogStore,
    private readonly config: TelemetryConfig,
    private readonly lifecycle: Lifecycle,
    private readonly metrics: Metrics,
  ) {}

  onApplicationBootstrap(): void {
    const timer = setInterval(() => void this.sweep(), SWEEP_MS);
    this.lifecycle.onDrain('stop-intake', 'retention', () => {
      clearInterval(timer);
      return Promise.resolve();
    });
    this.metrics.gauge({
      name: 'ims_log_partitions_bytes',
      help: 'Bytes on disk of all log partitions, with their indexes.',
      collect: async (gauge) => {
        const [row] = await this.database.query<{ bytes: number }>(
          `SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::float8 AS bytes FROM pg_inherits
            WHERE inhparent = 'log_chunks'::regclass`,
        );
        gauge.set(row?.bytes ?? 0);
      },
    });
  }

  /** Drops the partitions whose time is over. */
  async sweep(): Promise<void> {
    try {
      const dropped = await this.store.dropOld();
      if (dropped.length > 0) this.logger.info({ dropped }, 'old logs were deleted');
    } catch (error) {
      this.logger.warn({ err: error }, 'old logs were not deleted');
    }
  }

  @Serves(getRetention)
  async get({ vendor_id }: OwnRetention): Promise<Retention> {
    const [row] = await this.database.query<Retention>('SELECT log_days FROM retention WHERE vendor_id = $1', [
      vendor_id,
    ]);
    return row ?? { log_days: this.config.LOG_DAYS };
  }

  @Serves(setRetention)
  async set({ vendor_id, retention, if_match }: SetRetention): Promise<Retention> {
    const { log_days } = retention;
    if (!(LOG_DAYS_CHOICES as readonly number[]).includes(log_days)) {
      const message = `must be one of ${LOG_DAYS_CHOICES.join(', ')}`;
      throw new ImsError('invalid_request', `/log_days ${message}`, [{ pointer: '/log_days', message }]);
    }
    if (etagOf(await this.get({ vendor_id })) !== if_match) {
      throw new ImsError('precondition_failed', 'the retention was changed meanwhile');
    }
    await this.database.query(
      `INSERT INTO retention (vendor_id, log_days) VALUES ($1, $2)
       ON CONFLICT (vendor_id) DO UPDATE SET log_days = excluded.log_days`,
      [vendor_id, log_days],
    );
    return { log_days };
  }

  @Serves(getLogUsage)
  async usage({ vendor_id }: OwnRetention): Promise<LogUsage> {
    const [row] = await this.database.query<Omit<LogUsage, 'oldest_at'> & { oldest: Date | null }>(
      `SELECT count(*)::float8 AS attempts, coalesce(sum(lines), 0)::float8 AS lines,
              coalesce(sum(bytes), 0)::float8 AS bytes, coalesce(sum(stored_bytes), 0)::float8 AS stored_bytes,
              min(began_at) AS oldest
         FROM log_attempts JOIN agents USING (agent_id) WHERE vendor_id = $1`,
      [vendor_id],
    );
    const { oldest = null, ...sums } = row ?? { attempts: 0, lines: 0, bytes: 0, stored_bytes: 0 };
    return { ...sums, ...(oldest === null ? {} : { oldest_at: oldest.toISOString() }) };
  }
}
