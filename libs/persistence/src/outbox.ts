import { type Logger } from '#platform';

export type Query = <T = Record<string, unknown>>(sql: string, params?: readonly unknown[]) => Promise<T[]>;

/** Who sends outbox rows on; resolves when the message is stored (JetStream's acknowledgement). */
export interface Publisher {
  publish(subject: string, headers: Readonly<Record<string, string>>, body: string, messageId: string): Promise<void>;
}

export interface NewOutboxRow {
  readonly subject: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly messageId: string;
}
export interface OutboxRow extends NewOutboxRow {
  readonly id: number;
}

/** Rows as they were stored, and the id of the transaction that did it. */
export interface StoredOutbox {
  readonly rows: readonly OutboxRow[];
  readonly xid: string;
}

/** What the relay needs of the database; `inTransaction` keeps row locks until its work has ended. */
export interface RelayStore {
  query: Query;
  inTransaction<T>(work: (query: Query) => Promise<T>): Promise<T>;
}
export interface RelayMetrics {
  published(path: 'fast' | 'sweep', rows: number): void;
  failed(rows: number): void;
  /** Age of the oldest row that is not published. */
  oldest(seconds: number): void;
}

/** A row is swept when nobody has published it this long after its transaction began. */
const SWEEP_EVERY_MS = 1_000;
const SWEEP_BATCH = 500;
/** More rows than this in memory means that the broker does not keep up; the others wait in the table. */
const MAX_QUEUED = 2_000;

/** Writes rows inside a transaction: one statement for all. Also answers the transaction's id. */
export async function insertOutbox(query: Query, rows: readonly NewOutboxRow[]): Promise<StoredOutbox> {
  const stored = await query<{ id: number; xid: string }>(
    `INSERT INTO outbox (subject, headers, body, message_id)
     SELECT subject, headers, body, message_id
     FROM unnest($1::text[], $2::jsonb[], $3::text[], $4::text[]) WITH ORDINALITY
       AS r (subject, headers, body, message_id, position) ORDER BY position
     RETURNING id, pg_current_xact_id()::text AS xid`,
    [
      rows.map((row) => row.subject),
      rows.map((row) => JSON.stringify(row.headers)),
      rows.map((row) => row.body),
      rows.map((row) => row.messageId),
    ],
  );
  return {
    rows: rows.map((row, i) => ({ ...row, id: Number(stored[i]?.id) })),
    xid: stored[0]?.xid ?? '',
  };
}

/**
 * Publishes outbox rows and deletes them. Rows of a transaction of this process go out at once; what a crash or an
 * unreachable broker left is swept, by any replica. Within this process the rows of one subject go in their order, one
 * at a time; different subjects in parallel. A row may be published twice (crash between publish and delete): the
 * message id lets JetStream drop the second within two minutes, and consumers are idempotent beyond that.
 */
export class OutboxRelay {
  private publisher: Publisher | undefined;
  private readonly lanes = new Map<string, OutboxRow[]>();
  /** Subjects whose last row failed: newer rows must not overtake it, so they wait for the sweep too. */
  private readonly parked = new Set<string>();
  /** Rows that this process holds (queued, or published and not yet deleted): the sweep leaves them alone. */
  private readonly held = new Set<number>();
  private published: number[] = [];
  private deleting: Promise<void> | undefined;
  private running = new Set<Promise<void>>();
  private timer: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> | undefined;
  private stopped = false;
  private failing = false;
  private failures = 0;

  constructor(
    private readonly store: RelayStore,
    private readonly logger: Logger,
    private readonly metrics: RelayMetrics,
  ) {}

  start(publisher: Publisher): void {
    if (this.publisher) throw new Error('the outbox relay has been started before');
    this.publisher = publisher;
    this.schedule(0);
  }

  /** Takes rows that have just been committed. Returns at once. */
  offer(rows: readonly OutboxRow[]): void {
    if (!this.publisher || this.stopped) return;
    for (const row of rows) {
      if (this.parked.has(row.subject) || this.held.size >= MAX_QUEUED) continue;
      this.held.add(row.id);
      const lane = this.lanes.get(row.subject);
      if (lane) {
        lane.push(row);
        continue;
      }
      this.lanes.set(row.subject, [row]);
      this.track(this.runLane(row.subject, this.publisher));
    }
  }

  /** Sends what is queued, then ends. Rows that cannot be sent stay for the next process. */
  async stop(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    await this.sweeping;
    while (this.running.size > 0) await Promise.all(this.running);
    await this.deleting;
  }

  private track(work: Promise<void>): void {
    this.running.add(work);
    void work.finally(() => this.running.delete(work));
  }

  private async runLane(subject: string, publisher: Publisher): Promise<void> {
    const lane = this.lanes.get(subject) ?? [];
    for (let row = lane[0]; row !== undefined; row = lane[0]) {
      try {
        await publisher.publish(row.subject, row.headers, row.body, row.messageId);
      } catch (error) {
        this.parked.add(subject);
        for (const left of lane) this.held.delete(left.id);
        this.lanes.delete(subject);
        this.fail(error, lane.length);
        return;
      }
      lane.shift();
      this.metrics.published('fast', 1);
      this.published.push(row.id);
      this.deleting ??= this.deletePublished().finally(() => (this.deleting = undefined));
    }
    this.lanes.delete(subject);
  }

  /** One statement for all rows published while the one before was running. */
  private async deletePublished(): Promise<void> {
    while (this.published.length > 0) {
      const ids = this.published;
      this.published = [];
      try {
        await this.store.query('DELETE FROM outbox WHERE id = ANY($1)', [ids]);
      } catch (error) {
        // They stay held, so that nobody publishes them again here; the next sweep tries to delete them.
        this.published.push(...ids);
        this.logger.warn({ err: error, rows: ids.length }, 'published outbox rows could not be deleted yet');
        return;
      }
      for (const id of ids) this.held.delete(id);
    }
  }

  private schedule(ms: number): void {
    if (this.stopped) return;
    this.timer = setTimeout(() => {
      this.sweeping = this.sweep().finally(() => {
        this.sweeping = undefined;
        this.schedule(SWEEP_EVERY_MS);
      });
    }, ms);
    this.timer.unref();
  }

  private async sweep(): Promise<void> {
    const before = this.failures;
    try {
      this.deleting ??= this.deletePublished().finally(() => (this.deleting = undefined));
      await this.deleting;
      for (let more = true; more && !this.stopped;) more = await this.sweepBatch();
      const [oldest] = await this.store.query<{ age: number | null }>(
        `SELECT extract(epoch FROM clock_timestamp() - created_at)::float8 AS age FROM outbox ORDER BY id LIMIT 1`,
      );
      this.metrics.oldest(oldest?.age ?? 0);
      if (this.failures === before) this.recovered();
    } catch (error) {
      this.fail(error, 0);
    }
  }

  /** One batch; true when there may be more that is due. */
  private async sweepBatch(): Promise<boolean> {
    const { publisher } = this;
    if (!publisher) return false;
    return this.store.inTransaction(async (query) => {
      const rows = await query<OutboxRow>(
        `SELECT id, subject, headers, body, message_id AS "messageId" FROM outbox
         WHERE next_at <= now() AND id <> ALL($1) ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED`,
        [[...this.held], SWEEP_BATCH],
      );
      const lanes = new Map<string, OutboxRow[]>();
      for (const row of rows) lanes.set(row.subject, [...(lanes.get(row.subject) ?? []), row]);
      if (this.parked.size > 0) await this.unpark(query);
      const sent: number[] = [];
      const left: number[] = [];
      await Promise.all(
        [...lanes.values()].map(async (lane) => {
          for (const [i, row] of lane.entries()) {
            try {
              await publisher.publish(row.subject, row.headers, row.body, row.messageId);
              sent.push(row.id);
            } catch (error) {
              this.parked.add(row.subject);
              left.push(...lane.slice(i).map((other) => other.id));
              this.fail(error, lane.length - i);
              return;
            }
          }
        }),
      );
      if (sent.length > 0) {
        await query('DELETE FROM outbox WHERE id = ANY($1)', [sent]);
        this.metrics.published('sweep', sent.length);
      }
      if (left.length > 0) {
        // Back-off up to 2 s: rows that never go out (too large, no stream) must not fill every batch.
        await query(
          `UPDATE outbox SET attempts = attempts + 1, next_at = now() + least(2, 2 ^ least(attempts, 3)) * interval '1 second'
           WHERE id = ANY($1)`,
          [left],
        );
      }
      return rows.length === SWEEP_BATCH && left.length === 0;
    });
  }

  /** Nothing left of a subject that had failed: its new rows may go out at once again. */
  private async unpark(query: Query): Promise<void> {
    const left = await query<{ subject: string }>('SELECT DISTINCT subject FROM outbox WHERE subject = ANY($1)', [
      [...this.parked],
    ]);
    for (const subject of this.parked) if (!left.some((row) => row.subject === subject)) this.parked.delete(subject);
  }

  /** One line when it begins, not one a second for as long as it lasts. */
  private fail(error: unknown, rows: number): void {
    this.metrics.failed(rows);
    this.failures += 1;
    if (this.failing) return;
    this.failing = true;
    this.logger.warn({ err: error }, 'outbox rows cannot be published; they are kept and tried again');
  }

  private recovered(): void {
    if (!this.failing) return;
    this.failing = false;
    this.logger.info('outbox rows are published again');
  }
}
