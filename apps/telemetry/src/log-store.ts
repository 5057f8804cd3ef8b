import { Injectable, type OnModuleInit } from '@nestjs/common';
import { ImsError, type AgentId, type LogFrame } from '#contracts';
import { Database } from '#persistence';
import { createLogger, Metrics } from '#platform';
import { TelemetryConfig } from './config.js';
import { packFrame, type PackedFrame } from './log-frames.js';
import { LogPartitions, type Place } from './log-partitions.js';

interface Waiting {
  readonly frame: PackedFrame;
  readonly stored: () => void;
  readonly failed: (error: unknown) => void;
}
/** Frames of one transaction. A commit costs a millisecond however many they are; with 128 in hand it is no limit. */
const BATCH_FRAMES = 128;
/** One is written while the next is gathered and packed. */
const BATCHES_AT_A_TIME = 2;
/** Attempts whose place is remembered; one more costs two statements. */
const PLACES = 10_000;

const keyOf = ({ jobId, agentId, attempt }: PackedFrame): string => `${jobId}.${agentId}.${attempt}`;

/** Writes frames, all that wait in one transaction: a promise resolves when its frame is durable. */
@Injectable()
export class LogStore implements OnModuleInit {
  private readonly logger = createLogger('log-store');
  private readonly waiting: Waiting[] = [];
  private readonly places = new Map<string, Place>();
  private readonly partitions: LogPartitions;
  private writing = 0;

  constructor(
    private readonly database: Database,
    private readonly config: TelemetryConfig,
    private readonly metrics: Metrics,
  ) {
    this.partitions = new LogPartitions(database);
  }

  onModuleInit(): void {
    const today = this.database.query<{ day: string }>('SELECT current_date::text AS day');
    // The first line of the day need not wait for it.
    today
      .then(([row]) => row && this.partitions.ensure([{ keepDays: this.config.LOG_DAYS, day: row.day }]))
      .catch((error: unknown) => this.logger.warn({ err: error }, 'today’s partition is made later'));
  }

  private readonly lines = () =>
    this.metrics.counter({ name: 'ims_log_lines_stored_total', help: 'Log lines that are durable.' });
  private readonly batches = () =>
    this.metrics.histogram({
      name: 'ims_log_batch_seconds',
      help: 'Time to store one batch of log frames.',
      buckets: [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2],
    });

  /** Resolves when the frame is in PostgreSQL, also when it was there already. Throws as Database does. */
  async add(frame: LogFrame, agentId: AgentId, bytes: Uint8Array): Promise<PackedFrame> {
    const packed = await packFrame(frame, agentId, bytes);
    await new Promise<void>((stored, failed) => {
      this.waiting.push({ frame: packed, stored, failed });
      this.next();
    });
    return packed;
  }

  private next(): void {
    while (this.writing < BATCHES_AT_A_TIME && this.waiting.length > 0) {
      const batch = this.waiting.splice(0, BATCH_FRAMES);
      this.writing += 1;
      void this.settle(batch).finally(() => {
        this.writing -= 1;
        this.next();
      });
    }
  }

  private async settle(batch: readonly Waiting[]): Promise<void> {
    const took = this.batches().startTimer();
    try {
      await this.write(batch.map(({ frame }) => frame));
      for (const { stored } of batch) stored();
      took();
    } catch (error) {
      // The partition may have been dropped under an attempt that slept for its whole time to live.
      this.forget();
      const alone = batch.length === 1 || (error instanceof ImsError && error.code === 'unavailable');
      if (alone) for (const { failed } of batch) failed(error);
      // One bad frame must not take the others with it.
      else for (const each of batch) await this.settle([each]);
    }
  }

  private async write(frames: readonly PackedFrame[]): Promise<void> {
    const places = await this.placesOf(frames);
    await this.partitions.ensure(places);
    const offsets: number[] = [];
    let at = 1;
    for (const { packed } of frames) {
      offsets.push(at);
      at += packed.length;
    }
    const [counted] = await this.database.query<{ lines: number; placed: number }>(STORE, [
      frames.map(({ jobId }) => jobId),
      frames.map(({ agentId }) => agentId),
      frames.map(({ attempt }) => attempt),
      frames.map(({ firstSeq }) => firstSeq),
      frames.map(({ lastSeq }) => lastSeq),
      frames.map(({ last }) => last),
      places.map(({ keepDays }) => keepDays),
      places.map(({ day }) => day),
      frames.map(({ levels }) => levels),
      frames.map(({ firstAt }) => firstAt),
      frames.map(({ lastAt }) => lastAt),
      frames.map(({ bytes }) => bytes),
      frames.map(({ hash }) => hash),
      frames.map(({ prev }) => prev),
      offsets,
      frames.map(({ packed }) => packed.length),
      // In one piece: as a parameter of its own a Buffer goes out as bytes, in an array as hexadecimal text.
      Buffer.concat(frames.map(({ packed }) => packed)),
    ]);
    this.lines().inc(counted?.lines ?? 0);
    if (counted?.placed !== frames.length) {
      throw new ImsError('unavailable', 'an attempt’s logs were dropped a moment ago: it begins anew');
    }
  }

  /** Drops the partitions whose time is over; returns their names. */
  async dropOld(): Promise<readonly string[]> {
    const dropped = await this.partitions.dropOld();
    if (dropped.length > 0) this.forget();
    return dropped;
  }

  /** Places and partitions together: a place that is remembered would have its partition made again. */
  private forget(): void {
    this.places.clear();
    this.partitions.forget();
  }

  private async placesOf(frames: readonly PackedFrame[]): Promise<Place[]> {
    const unknown = new Map(frames.filter((frame) => !this.places.has(keyOf(frame))).map((f) => [keyOf(f), f]));
    if (unknown.size > 0) {
      const begun = [...unknown.values()].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
      const keys = [
        begun.map(({ jobId }) => jobId),
        begun.map(({ agentId }) => agentId),
        begun.map(({ attempt }) => attempt),
      ];
      await this.database.query(BEGIN_ATTEMPTS, [...keys, this.config.LOG_DAYS]);
      const rows = await this.database.query<{ key: string; keepDays: number; day: string }>(PLACES_OF, keys);
      if (this.places.size + rows.length > PLACES) this.places.clear();
      for (const { key, keepDays, day } of rows) this.places.set(key, { keepDays, day });
    }
    return frames.map((frame) => {
      const place = this.places.get(keyOf(frame));
      if (place === undefined) throw new ImsError('unavailable', 'the attempt’s row was deleted a moment ago');
      return place;
    });
  }
}

const BEGIN_ATTEMPTS = `
  INSERT INTO log_attempts (job_id, agent_id, attempt, keep_days, day)
  SELECT r.job_id, r.agent_id, r.attempt, coalesce(t.log_days, $4), current_date
    FROM unnest($1::text[], $2::text[], $3::integer[]) AS r (job_id, agent_id, attempt)
    LEFT JOIN agents a ON a.agent_id = r.agent_id
    LEFT JOIN retention t ON t.vendor_id = a.vendor_id
  ON CONFLICT DO NOTHING`;

const PLACES_OF = `
  SELECT job_id || '.' || agent_id || '.' || attempt AS key, keep_days AS "keepDays", day::text AS day
    FROM log_attempts
    JOIN unnest($1::text[], $2::text[], $3::integer[]) AS r (job_id, agent_id, attempt) USING (job_id, agent_id, attempt)`;

/** A frame that comes again changes nothing, so what is counted is what is new. */
const STORE = `
  WITH frames AS (
    SELECT r.*
      FROM unnest($1::text[], $2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::boolean[], $7::integer[],
                  $8::date[], $9::smallint[], $10::timestamptz[], $11::timestamptz[], $12::integer[], $13::text[],
                  $14::text[], $15::integer[], $16::integer[])
        AS r (job_id, agent_id, attempt, first_seq, last_seq, last, keep_days, day, levels, first_at, last_at, bytes,
              hash, prev, at, length)
      JOIN log_attempts USING (job_id, agent_id, attempt, keep_days, day)),
  stored AS (
    INSERT INTO log_chunks (job_id, agent_id, attempt, first_seq, last_seq, last, keep_days, day, levels, first_at,
                            last_at, bytes, hash, prev, frame)
    SELECT job_id, agent_id, attempt, first_seq, last_seq, last, keep_days, day, levels, first_at, last_at, bytes,
           hash, prev, substring($17::bytea FROM at FOR length)
      FROM frames
    ON CONFLICT DO NOTHING
    RETURNING job_id, agent_id, attempt, first_seq, last_seq, last, first_at, last_at, bytes,
              octet_length(frame) AS stored_bytes),
  sums AS (
    SELECT job_id, agent_id, attempt, sum(last_seq - first_seq + 1) AS lines, sum(bytes) AS bytes,
           sum(stored_bytes) AS stored_bytes, min(first_at) AS first_at, max(last_at) AS last_at, bool_or(last) AS last
      FROM stored GROUP BY job_id, agent_id, attempt),
  counted AS (
    UPDATE log_attempts a
       SET lines = a.lines + s.lines, bytes = a.bytes + s.bytes, stored_bytes = a.stored_bytes + s.stored_bytes,
           first_at = least(a.first_at, s.first_at), last_at = greatest(a.last_at, s.last_at), ended = a.ended OR s.last
      FROM sums s WHERE a.job_id = s.job_id AND a.agent_id = s.agent_id AND a.attempt = s.attempt
    RETURNING s.lines)
  SELECT coalesce(sum(lines), 0)::float8 AS lines, (SELECT count(*) FROM frames)::integer AS placed FROM counted`;
