import { Readable } from 'node:stream';
import { Injectable, StreamableFile } from '@nestjs/common';
import { getJob, ImsError, readLogs, type Job, type LogPage, type VendorId } from '#contracts';
import { Bus } from '#messaging';
import { createLogger } from '#platform';
import { format, type LogItem, type LogType } from './log-formats.js';
import { HEARTBEAT_MS, Wakeups, type Listener } from './wakeups.js';

/** A page is one message (at most 1 MB), and with the one being sent all that a reader holds in memory. */
const PAGE_LINES = 500;
/**
 * A job's end and its last lines come by two ways. An agent that reported the end sends its last frame until it is
 * stored, so a follower waits for that; one that died never marks its last frame, and the log counts as whole when it
 * was quiet for a moment.
 */
const quietAfterEndMs = ({ error }: Job): number => (error?.code === 'lease_expired' ? 3_000 : 30_000);
/** Telemetry away while following: asked again after this time. */
const RETRY_MS = 1_000;

export const isFinal = ({ status }: Job): boolean =>
  status === 'succeeded' || status === 'failed' || status === 'cancelled' || status === 'skipped';

export interface LogReader {
  readonly vendorId: VendorId;
  readonly type: LogType;
  /** `<attempt>.<seq>`: go on after this line. */
  readonly after: string | undefined;
  readonly follow: boolean;
  readonly gone: AbortSignal;
}

/** The log of a job as a stream, whole or live: read by position, woken by signals, so no line is missed or repeated. */
@Injectable()
export class JobLogs {
  private readonly logger = createLogger('job-logs');

  constructor(
    private readonly bus: Bus,
    private readonly wakeups: Wakeups,
  ) {}

  /**
   * The stream that answers a reader. The first page is read before it begins, so that what cannot be read is answered
   * as an error and not as an empty log. Throws `invalid_request` for a malformed position.
   */
  async stream(job: Job, reader: LogReader): Promise<StreamableFile> {
    if (reader.after !== undefined && !/^\d{1,7}\.\d{1,16}$/.test(reader.after)) {
      const message = 'must be a position like 1.42: <attempt>.<seq>';
      throw new ImsError('invalid_request', `/after ${message}`, [{ pointer: '/after', message }]);
    }
    const follow = reader.follow || reader.type === 'text/event-stream';
    // Listens before the first read: a line that is stored in between wakes the reader.
    const listener = follow ? this.wakeups.listen({ job: job.id, logsOf: job.id }, reader.gone) : undefined;
    try {
      const first = await this.read(job, reader.after);
      const items = listener === undefined ? this.whole(job, first) : this.live(job, first, reader, listener);
      // One chunk ahead at most: Readable would else collect 16 of them, each up to a page.
      const text = Readable.from(format(reader.type, items), { highWaterMark: 1 });
      return new StreamableFile(text, { type: `${reader.type}; charset=utf-8` });
    } catch (error) {
      listener?.stop();
      throw error;
    }
  }

  private read(job: Job, after: string | undefined): Promise<LogPage> {
    const position = after === undefined ? {} : { after };
    return this.bus.call(readLogs, { job_id: job.id, agent_id: job.agent_id, limit: PAGE_LINES, ...position });
  }

  /** What is there now, to its end. A failure cuts the connection: half a log must not look whole. */
  private async *whole(job: Job, first: LogPage): AsyncGenerator<LogItem> {
    for (let page = first; ; page = await this.read(job, page.position)) {
      if (page.data.length > 0) yield { kind: 'lines', lines: page.data };
      if (!page.more) return;
    }
  }

  /**
   * What is there and what comes, until the job has ended and its log is whole. A follower outlives a restart of the
   * services behind it: what they cannot answer now is asked again; any other failure cuts the connection.
   */
  private async *live(start: Job, first: LogPage, reader: LogReader, listener: Listener): AsyncGenerator<LogItem> {
    let job = start;
    let page: LogPage | undefined = first;
    let position = reader.after;
    let jobDue = false;
    let quietSince = performance.now();
    try {
      yield { kind: 'heartbeat' };
      for (;;) {
        if (page !== undefined && page.data.length > 0) {
          yield { kind: 'lines', lines: page.data };
          quietSince = performance.now();
        }
        position = page?.position ?? position;
        if (page?.more !== true) {
          const quietMs = performance.now() - quietSince;
          if (page !== undefined && isFinal(job) && (isWhole(job, page) || quietMs >= quietAfterEndMs(job))) {
            yield { kind: 'end', status: job.status };
            return;
          }
          const patienceMs = isFinal(job) ? Math.min(HEARTBEAT_MS, quietAfterEndMs(job) - quietMs) : HEARTBEAT_MS;
          const news = await listener.next(page === undefined ? RETRY_MS : patienceMs);
          if (news === 'gone') return;
          if (news === 'draining') {
            yield { kind: 'moved' };
            return;
          }
          if (news === 'none') yield { kind: 'heartbeat' };
          jobDue ||= news !== 'logs' && !isFinal(job);
        }
        try {
          if (jobDue) job = await this.bus.call(getJob, { vendor_id: reader.vendorId, job_id: job.id });
          if (jobDue && isFinal(job)) quietSince = performance.now();
          jobDue = false;
          const wasAway = page === undefined;
          page = await this.read(job, position);
          // It has to catch up first.
          if (wasAway) quietSince = performance.now();
        } catch (error) {
          if (!(error instanceof ImsError) || error.code !== 'unavailable') throw error;
          this.logger.warn({ job: job.id, detail: error.detail }, 'a follower waits for a service');
          page = undefined;
        }
      }
    } finally {
      listener.stop();
    }
  }
}

/** Every line of the job's last attempt is stored and was on this page or before. */
const isWhole = (job: Job, page: LogPage): boolean => job.attempt === 0 || (page.ended_attempt ?? 0) >= job.attempt;
