import { Injectable } from '@nestjs/common';
import { LIMITS, logFrame, logsAppended, readLogs, type LogFrame, type LogPage, type ReadLogs } from '#contracts';
import { Bus, Consumes, reject, Serves, type MessageContext, type Outcome } from '#messaging';
import { Database, storableText } from '#persistence';
import { assemble, formatPosition, parsePosition, START, type LogChunk } from './log-assembly.js';

const DEFAULT_LINES = 1000;
/** Frames read for one page: each has up to 128 KiB, so 8 MiB at most are in memory for one reader. */
const CHUNKS_PER_PAGE = 64;
/** A page is one NATS message; JSON escapes may double the size of a text. */
const PAGE_BYTES = LIMITS.messageBytes / 2.5;

/** The logs of jobs: whole, in order, without doubles, whatever the transport did to the frames. */
@Injectable()
export class Logs {
  constructor(
    private readonly database: Database,
    private readonly bus: Bus,
  ) {}

  @Consumes(logFrame)
  async store(frame: LogFrame, { parts }: MessageContext): Promise<Outcome> {
    if (parts.job !== frame.job_id) return reject('invalid_request', 'the frame is of another job than its subject');
    const lastSeq = frame.first_seq + frame.lines.length - 1;
    const lines = frame.lines.map((line) => ({ ...line, text: storableText(line.text) }));
    // The author is who published: NATS lets an agent publish under its own id only.
    await this.database.query(
      `INSERT INTO log_chunks (job_id, agent_id, attempt, first_seq, last_seq, last, lines)
       VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
      [frame.job_id, parts.agent, frame.attempt, frame.first_seq, lastSeq, frame.last, JSON.stringify(lines)],
    );
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
    const [ended] = await this.database.query<{ attempt: number | null }>(
      'SELECT max(attempt) AS attempt FROM log_chunks WHERE job_id = $1 AND agent_id = $2 AND last',
      [job_id, agent_id],
    );
    const chunks = await this.database.query<LogChunk>(
      `SELECT attempt, first_seq, last_seq, lines,
              (extract(epoch FROM clock_timestamp() - received_at) * 1000)::float8 AS age_ms
         FROM log_chunks
        WHERE job_id = $1 AND agent_id = $2 AND (attempt > $3 OR (attempt = $3 AND last_seq > $4))
        ORDER BY attempt, first_seq, last_seq LIMIT $5`,
      [job_id, agent_id, from.attempt, from.seq, CHUNKS_PER_PAGE],
    );
    const { lines, position, cut } = assemble(chunks, from, { maxLines: limit, maxBytes: PAGE_BYTES });
    return {
      data: [...lines],
      ...(position.attempt > 0 ? { position: formatPosition(position) } : {}),
      more: lines.length > 0 && (cut || chunks.length === CHUNKS_PER_PAGE),
      ...(ended?.attempt == null ? {} : { ended_attempt: ended.attempt }),
    };
  }
}
