import { Injectable } from '@nestjs/common';
import { LIMITS, logFrame, logsAppended, readLogs, type LogFrame, type LogPage, type ReadLogs } from '#contracts';
import { Bus, Consumes, reject, Serves, type MessageContext, type Outcome } from '#messaging';
import { Database, storableText } from '#persistence';
import { createLogger, Metrics } from '#platform';
import { assemble, formatPosition, parsePosition, START, type LogChunk, type Position } from './log-assembly.js';
import { unpackLines } from './log-frames.js';
import { LogStore } from './log-store.js';
import { OtlpForward } from './otlp.js';

const DEFAULT_LINES = 1000;
/** Frames read for one page: each has up to 128 KiB, so 8 MiB at most are in memory for one reader. */
const CHUNKS_PER_PAGE = 64;
/** A page is one NATS message; JSON escapes may double the size of a text. */
const PAGE_BYTES = LIMITS.messageBytes / 2.5;

interface AttemptRow {
  readonly attempt: number;
  readonly keep_days: number;
  readonly day: string;
  readonly ended: boolean;
}
type ChunkRow = Omit<LogChunk, 'lines'> & { readonly frame: Buffer };

/** The logs of jobs: whole, in order, without doubles, whatever the transport did to the frames. */
@Injectable()
export class Logs {
  private readonly logger = createLogger('logs');

  constructor(
    private readonly database: Database,
    private readonly bus: Bus,
    private readonly frames: LogStore,
    private readonly metrics: Metrics,
    private readonly otlp: OtlpForward,
  ) {}

  @Consumes(logFrame)
  async store(frame: LogFrame, { parts, data, traceparent }: MessageContext): Promise<Outcome> {
    const { job, agent } = parts;
    if (job !== frame.job_id) return reject('invalid_request', 'the frame is of another job than its subject');
    if (agent === undefined || data === undefined) return reject('invalid_request', 'not from a stream');
    // The author is who published: NATS lets an agent publish under its own id only.
    const { lastSeq } = await this.frames.add(frame, agent, data);
    this.otlp.logs(frame, agent, traceparent.split('-')[1]);
    this.bus.signal(
      logsAppended,
      { job: frame.job_id },
      { job_id: frame.job_id, position: formatPosition({ attempt: frame.attempt, seq: lastSeq }) },
    );
  }

  @Serves(readLogs)
  async read({ job_id, agent_id, after, limit = DEFAULT_LINES }: ReadLogs): Promise<LogPage> {
    const from = after === undefined ? START : parsePosition(after);
    // In this order: a frame that is stored in between is then neither in the lines nor counted as the end.
    const attempts = await this.database.query<AttemptRow>(
      `SELECT attempt, keep_days, day::text AS day, ended FROM log_attempts
        WHERE job_id = $1 AND agent_id = $2 ORDER BY attempt`,
      [job_id, agent_id],
    );
    const chunks: LogChunk[] = [];
    for (const row of attempts) {
      if (row.attempt < from.attempt || chunks.length >= CHUNKS_PER_PAGE) continue;
      const after = row.attempt === from.attempt ? from : { ...START, attempt: row.attempt };
      chunks.push(...(await this.chunks({ job_id, agent_id }, row, after, CHUNKS_PER_PAGE - chunks.length)));
    }
    const { lines, position, cut, held, broken } = assemble(chunks, from, { maxLines: limit, maxBytes: PAGE_BYTES });
    if (broken > 0) {
      this.metrics
        .counter({ name: 'ims_log_chain_breaks_total', help: 'Frames read whose hash is not what the next one names.' })
        .inc(broken);
      this.logger.error({ job_id, after, broken }, 'the frames of a log do not follow from one another');
    }
    // The last frame may be stored before one that telemetry had in hand when it was killed: that comes again.
    const ended = held ? undefined : attempts.findLast((row) => row.ended)?.attempt;
    return {
      data: lines.map((line) => ({ ...line, text: storableText(line.text) })),
      ...(position.attempt > 0 ? { position: formatPosition(position) } : {}),
      more: lines.length > 0 && (cut || chunks.length === CHUNKS_PER_PAGE),
      ...(ended === undefined ? {} : { ended_attempt: ended }),
    };
  }

  private async chunks(
    { job_id, agent_id }: ReadLogs,
    { keep_days, day }: AttemptRow,
    after: Position,
    limit: number,
  ): Promise<LogChunk[]> {
    const rows = await this.database.query<ChunkRow>(
      `SELECT attempt, first_seq, last_seq, hash, prev, frame,
              (extract(epoch FROM clock_timestamp() - received_at) * 1000)::float8 AS age_ms
         FROM log_chunks
        WHERE keep_days = $1 AND day = $2 AND job_id = $3 AND agent_id = $4 AND attempt = $5
          -- A frame has at most so many lines, so the index need not be read from the beginning.
          AND first_seq > $6::bigint - ${LIMITS.logFrameLines} AND last_seq > $6::bigint
        ORDER BY first_seq, last_seq LIMIT $7`,
      [keep_days, day, job_id, agent_id, after.attempt, after.seq, limit],
    );
    return rows.map(({ frame, ...row }) => ({ ...row, lines: unpackLines(frame) }));
  }
}
