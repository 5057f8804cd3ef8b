import { setImmediate as breathe } from 'node:timers/promises';
import { Injectable } from '@nestjs/common';
import { LIMITS, searchLogs, type LogHit, type LogHitPage, type SearchLogs } from '#contracts';
import { Serves } from '#messaging';
import { Database, decodeCursor, limitOf, pageOf, storableText } from '#persistence';
import { unpackLines } from './log-frames.js';
import { LogMatcher } from './log-matcher.js';

/** A page ends after this time, whatever it has found; its cursor goes on from there. */
const SEARCH_MS = 2_000;
const ATTEMPTS_AT_A_TIME = 50;
const CHUNKS_AT_A_TIME = 32;
const PAGE_BYTES = LIMITS.messageBytes / 2.5;

interface AttemptRow {
  readonly job_id: string;
  readonly attempt: number;
  readonly keep_days: number;
  readonly day: string;
  readonly began: string;
}
interface ChunkRow {
  readonly first_seq: number;
  readonly last_seq: number;
  readonly frame: Buffer;
}
/** Where a search stands: in this attempt, after this line. */
interface Place {
  readonly began: string;
  readonly job: string;
  readonly attempt: number;
  readonly seq: number;
}

/**
 * Looks through the logs of an agent, hence of an install: attempt by attempt, the newest first, lines in their order.
 * The text is packed, so each line is looked at; levels and times of a frame stand beside it and save unpacking.
 */
@Injectable()
export class LogSearch {
  constructor(private readonly database: Database) {}

  @Serves(searchLogs)
  async search(query: SearchLogs): Promise<LogHitPage> {
    const matcher = new LogMatcher(query);
    const limit = limitOf(query);
    const end = performance.now() + SEARCH_MS;
    const data: LogHit[] = [];
    let bytes = 0;
    let searched = 0;
    let place = placeOf(query.cursor);
    const page = (): LogHitPage => ({
      data,
      searched_lines: searched,
      ...(place === undefined ? {} : { next_cursor: cursorOf(place) }),
    });
    for (;;) {
      const attempts = await this.attempts(query, place);
      for (const row of attempts) {
        const at = { began: row.began, job: row.job_id, attempt: row.attempt };
        let seq = place?.job === row.job_id && place.attempt === row.attempt ? place.seq : 0;
        place = { ...at, seq };
        for (;;) {
          if (performance.now() > end) return page();
          const chunks = await this.chunks(query, row, seq, matcher);
          for (const { first_seq, last_seq, frame } of chunks) {
            const lines = unpackLines(frame);
            const wanted = matcher.matches(lines);
            for (const [i, line] of lines.entries()) {
              const own = first_seq + i;
              if (own <= seq) continue;
              seq = own;
              searched += 1;
              if (wanted[i] !== true) continue;
              const text = storableText(line.text);
              data.push({ ...line, text, job_id: row.job_id, attempt: row.attempt, seq: own });
              bytes += text.length + 200;
              place = { ...at, seq };
              if (data.length >= limit || bytes >= PAGE_BYTES) return page();
            }
            seq = Math.max(seq, last_seq);
            place = { ...at, seq };
            await breathe();
            if (performance.now() > end) return page();
          }
          if (chunks.length < CHUNKS_AT_A_TIME) break;
        }
        // Of a log that still grows, what comes later is not looked at: the newest is at the beginning of a search.
        place = { ...at, seq: Number.MAX_SAFE_INTEGER };
      }
      if (attempts.length < ATTEMPTS_AT_A_TIME) {
        place = undefined;
        return page();
      }
    }
  }

  /** From the place on, the one of the place with it unless it is done. */
  private attempts(
    { agent_id, job_id, since, until }: SearchLogs,
    place: Place | undefined,
  ): Promise<readonly AttemptRow[]> {
    return this.database.query<AttemptRow>(
      `SELECT job_id, attempt, keep_days, day::text AS day, began_at::text AS began FROM log_attempts
        WHERE agent_id = $1 AND ($2::text IS NULL OR job_id = $2)
          AND ($3::timestamptz IS NULL OR last_at >= $3) AND ($4::timestamptz IS NULL OR first_at <= $4)
          AND ($5::timestamptz IS NULL OR (began_at, job_id, attempt) < ($5, $6, $7)
               OR ((began_at, job_id, attempt) = ($5, $6, $7) AND $8::bigint < ${Number.MAX_SAFE_INTEGER}))
        ORDER BY began_at DESC, job_id DESC, attempt DESC LIMIT ${ATTEMPTS_AT_A_TIME}`,
      [
        agent_id,
        job_id ?? null,
        since ?? null,
        until ?? null,
        place?.began ?? null,
        place?.job ?? null,
        place?.attempt ?? null,
        place?.seq ?? null,
      ],
    );
  }

  private chunks(
    { agent_id, since, until }: SearchLogs,
    { job_id, attempt, keep_days, day }: AttemptRow,
    seq: number,
    { levels }: LogMatcher,
  ): Promise<readonly ChunkRow[]> {
    return this.database.query<ChunkRow>(
      `SELECT first_seq, last_seq, frame FROM log_chunks
        WHERE keep_days = $1 AND day = $2 AND job_id = $3 AND agent_id = $4 AND attempt = $5
          AND first_seq > $6::bigint - ${LIMITS.logFrameLines} AND last_seq > $6::bigint AND (levels & $7) <> 0
          AND ($8::timestamptz IS NULL OR last_at >= $8) AND ($9::timestamptz IS NULL OR first_at <= $9)
        ORDER BY first_seq, last_seq LIMIT ${CHUNKS_AT_A_TIME}`,
      [keep_days, day, job_id, agent_id, attempt, seq, levels, since ?? null, until ?? null],
    );
  }
}

function placeOf(cursor: string | undefined): Place | undefined {
  const [began, job, attempt, seq] = decodeCursor(cursor, 4) ?? [];
  if (began === undefined || job === undefined) return undefined;
  return { began, job, attempt: Number(attempt) || 0, seq: Number(seq) || 0 };
}
const cursorOf = ({ began, job, attempt, seq }: Place): string =>
  pageOf([began, job], 1, () => [began, job, String(attempt), String(seq)]).next_cursor ?? '';
