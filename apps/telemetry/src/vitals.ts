import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { agentVitals, listVitals, type ListVitals, type Vitals, type VitalsPage } from '#contracts';
import { Consumes, Serves, type MessageContext, type Outcome } from '#messaging';
import { Database, decodeCursor, limitOf, pageOf } from '#persistence';
import { createLogger, Lifecycle } from '#platform';
import { TelemetryConfig } from './config.js';
import { OtlpForward } from './otlp.js';

const SWEEP_MS = 10 * 60_000;
/** Rows deleted by one statement: its locks and its WAL stay small. */
const SWEEP_ROWS = 5_000;

/** What agents say of themselves every 15 s, kept for some days. */
@Injectable()
export class AgentVitals implements OnApplicationBootstrap {
  private readonly logger = createLogger('vitals');

  constructor(
    private readonly database: Database,
    private readonly config: TelemetryConfig,
    private readonly lifecycle: Lifecycle,
    private readonly otlp: OtlpForward,
  ) {}

  onApplicationBootstrap(): void {
    const timer = setInterval(() => {
      this.sweep().catch((error: unknown) => this.logger.warn({ err: error }, 'old vitals were not deleted'));
    }, SWEEP_MS);
    this.lifecycle.onDrain('stop-intake', 'vitals sweep', () => {
      clearInterval(timer);
      return Promise.resolve();
    });
  }

  @Consumes(agentVitals)
  async store(vitals: Vitals, { parts }: MessageContext): Promise<Outcome> {
    await this.database.query('INSERT INTO vitals (agent_id, at, vitals) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING', [
      parts.agent,
      vitals.at,
      JSON.stringify(vitals),
    ]);
    if (parts['agent'] !== undefined) this.otlp.vitals(vitals, parts['agent']);
  }

  /** Newest first. */
  @Serves(listVitals)
  async list(query: ListVitals): Promise<VitalsPage> {
    const [before] = decodeCursor(query.cursor, 1) ?? [];
    const limit = limitOf(query);
    const rows = await this.database.query<{ vitals: Vitals; key: string }>(
      `SELECT vitals, at::text AS key FROM vitals
        WHERE agent_id = $1 AND ($2::timestamptz IS NULL OR at < $2::timestamptz)
        ORDER BY at DESC LIMIT ${limit + 1}`,
      [query.agent_id, before ?? null],
    );
    const { data, next_cursor } = pageOf(rows, limit, ({ key }) => [key]);
    return { data: data.map(({ vitals }) => vitals), ...(next_cursor === undefined ? {} : { next_cursor }) };
  }

  /** Deletes what is too old, in small statements. */
  async sweep(): Promise<void> {
    for (;;) {
      const gone = await this.database.query(
        `DELETE FROM vitals WHERE (agent_id, at) IN (
           SELECT agent_id, at FROM vitals WHERE at < now() - make_interval(days => $1) LIMIT $2) RETURNING 1`,
        [this.config.VITALS_DAYS, SWEEP_ROWS],
      );
      if (gone.length < SWEEP_ROWS) return;
    }
  }
}
