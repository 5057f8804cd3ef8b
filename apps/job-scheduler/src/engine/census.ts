import { Injectable, type OnModuleInit } from '@nestjs/common';
import { Database } from '#persistence';
import { Metrics } from '#platform';

/** How many jobs and agents there are, for those who watch the service: counted when the metrics are read. */
@Injectable()
export class Census implements OnModuleInit {
  constructor(
    private readonly database: Database,
    private readonly metrics: Metrics,
  ) {}

  onModuleInit(): void {
    this.metrics.gauge({
      name: 'ims_jobs_open',
      help: 'Jobs that are not finished.',
      labels: ['status'],
      collect: async (gauge) => {
        gauge.reset();
        const rows = await this.database.query<{ status: string; n: number }>(
          `SELECT status, count(*)::integer AS n FROM jobs
            WHERE status IN ('blocked', 'queued', 'running', 'cancelling') GROUP BY status`,
        );
        for (const { status, n } of rows) gauge.set({ status }, n);
      },
    });
    this.metrics.gauge({
      name: 'ims_jobs_oldest_queued_seconds',
      help: 'Age of the oldest job that waits for its agent.',
      collect: async (gauge) => {
        const [row] = await this.database.query<{ age: number | null }>(
          `SELECT extract(epoch FROM now() - min(created_at))::float8 AS age FROM jobs WHERE status = 'queued'`,
        );
        gauge.set(row?.age ?? 0);
      },
    });
    this.metrics.gauge({
      name: 'ims_agents',
      help: 'Agents by what is known of them.',
      labels: ['presence'],
      collect: async (gauge) => {
        gauge.reset();
        const rows = await this.database.query<{ presence: string; n: number }>(
          'SELECT presence, count(*)::integer AS n FROM agents GROUP BY presence',
        );
        for (const { presence, n } of rows) gauge.set({ presence }, n);
      },
    });
  }
}
