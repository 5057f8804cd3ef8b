import { type Database } from '#persistence';

/** Where the chunks of an attempt lie: all in one partition. */
export interface Place {
  /** Days from `day` on which the partition is kept. */
  readonly keepDays: number;
  /** `2026-11-24`, of the database's clock when the attempt's first frame came. */
  readonly day: string;
}

export const placeName = ({ keepDays, day }: Place): string => `log_chunks_k${keepDays}_${day.replaceAll('-', '')}`;

/** Makes the partition of a place when it is not there. Days come from the database, so the text is safe. */
export function partitionSql(place: Place): string {
  const { keepDays, day } = place;
  if (!Number.isInteger(keepDays) || !/^\d{4}-\d\d-\d\d$/.test(day)) throw new Error(`not a place: ${keepDays} ${day}`);
  return `CREATE TABLE IF NOT EXISTS ${placeName(place)} PARTITION OF log_chunks
            FOR VALUES FROM (${keepDays}, '${day}') TO (${keepDays}, date '${day}' + 1)`;
}

/** Replicas that make or drop partitions do it one after another: two at the same time would deadlock on the parent. */
const LOCK = `SELECT pg_advisory_xact_lock(hashtextextended('ims.log-partitions', 0))`;

/** The partitions of the logs: made when something is to be stored in them, dropped when their time is over. */
export class LogPartitions {
  private readonly known = new Set<string>();

  constructor(private readonly database: Database) {}

  async ensure(places: readonly Place[]): Promise<void> {
    const missing = places.filter((place) => !this.known.has(placeName(place)));
    if (missing.length === 0) return;
    await this.database.transaction(async ({ query }) => {
      await query(LOCK);
      for (const place of missing) await query(partitionSql(place));
    });
    for (const place of missing) this.known.add(placeName(place));
  }

  /** What was known may be wrong: a partition was dropped by another replica, say. */
  forget(): void {
    this.known.clear();
  }

  /** Drops what is older than its time, with the rows that lead to it. Returns the names. */
  async dropOld(): Promise<readonly string[]> {
    const old = await this.database.query<{ name: string }>(
      `SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'log_chunks'::regclass
          AND to_date(substring(c.relname FROM '_(\\d{8})$'), 'YYYYMMDD')
              + substring(c.relname FROM '_k(\\d+)_')::integer < current_date
        ORDER BY c.relname`,
    );
    for (const { name } of old) {
      const [, keepDays, day] = /^log_chunks_k(\d+)_(\d{8})$/.exec(name) ?? [];
      if (keepDays === undefined || day === undefined) continue;
      await this.database.transaction(async ({ query }) => {
        await query(LOCK);
        await query(`DROP TABLE IF EXISTS ${name}`);
        await query(`DELETE FROM log_attempts WHERE keep_days = $1 AND day = to_date($2, 'YYYYMMDD')`, [
          Number(keepDays),
          day,
        ]);
      });
    }
    return old.map(({ name }) => name);
  }
}
