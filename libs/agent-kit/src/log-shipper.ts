import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ImsError, LIMITS, isId, logFrame, type JobId, type LogFrame, type LogText } from '#contracts';
import { type Bus } from '#messaging';
import { backoffMs, createLogger, redactText, sleep } from '#platform';
import { privateDirectory } from './files.js';
import { Redactor } from './redactor.js';
import { Spool } from './spool.js';

export type LogLevel = LogText['level'];

export interface LogShipperOptions {
  readonly directory: string;
  readonly agentId: string;
  /** The most that the unsent lines of one attempt may take on disk. */
  readonly spoolBytes?: number;
  /** Lines are sent together that come within this time. */
  readonly flushMs?: number;
  /** Upper bound of the wait between tries when telemetry or NATS is away. */
  readonly retryMaxMs?: number;
}

const logger = createLogger('log-shipper');

/** Logs of all attempts: kept on disk until JetStream has them, sent again for ever, in order within an attempt. */
export class LogShipper {
  private readonly logs = new Map<string, AttemptLog>();
  private readonly stopped = new AbortController();
  private bus: Pick<Bus, 'publish'> | undefined;

  private constructor(private readonly options: LogShipperOptions) {}

  /** Finds what earlier runs left. Nothing is sent before `start`. */
  static async open(options: LogShipperOptions): Promise<LogShipper> {
    await privateDirectory(options.directory);
    const shipper = new LogShipper(options);
    for (const name of readdirSync(options.directory)) {
      const [jobId, attempt] = name.split('.');
      if (isId('job', jobId) && Number(attempt) > 0) shipper.of(jobId, Number(attempt)).cameBack();
    }
    return shipper;
  }

  start(bus: Pick<Bus, 'publish'>): void {
    this.bus = bus;
    for (const log of this.logs.values()) void this.deliver(log);
  }

  /** The log of an attempt; after a restart it goes on with the next number. */
  of(jobId: JobId, attempt: number): AttemptLog {
    const key = `${jobId}.${attempt}`;
    let log = this.logs.get(key);
    if (log === undefined) {
      const { spoolBytes = 64 * 1024 * 1024, flushMs = 100 } = this.options;
      log = new AttemptLog(jobId, attempt, new Spool(join(this.options.directory, key), spoolBytes), flushMs);
      this.logs.set(key, log);
      if (this.bus !== undefined) void this.deliver(log);
    }
    return log;
  }

  /** Ends the logs of attempts that are over (the agent died between the end of the attempt and the end of its log). */
  endAllBut(running: readonly { readonly jobId: JobId; readonly attempt: number }[]): void {
    const kept = new Set(running.map(({ jobId, attempt }) => `${jobId}.${attempt}`));
    for (const [key, log] of this.logs) if (!kept.has(key)) log.end();
  }

  /** Writes out what is in memory and gives sending so much time; what is unsent stays on disk for the next start. */
  async stop(withinMs: number): Promise<void> {
    for (const log of this.logs.values()) log.leave();
    const limit = new AbortController();
    await Promise.race([
      Promise.all([...this.logs.values()].map((log) => log.idle(limit.signal))),
      sleep(this.bus === undefined ? 0 : withinMs, limit.signal),
    ]);
    limit.abort();
    this.stopped.abort();
    for (const log of this.logs.values()) log.wake();
  }

  /** One loop for each attempt: the head of its spool until it is acknowledged, then the next. */
  private async deliver(log: AttemptLog): Promise<void> {
    for (let tries = 0; !this.stopped.signal.aborted;) {
      const head = log.spool.head;
      if (head === undefined) {
        await log.more();
        continue;
      }
      try {
        await log.spool.sync(head);
        await this.send(log, log.spool.load(head));
      } catch (error) {
        tries += 1;
        // Once at the beginning, then now and then: a log that says each second that logs cannot be sent helps nobody.
        if (tries === 1 || tries % 50 === 0) logger.warn({ job_id: log.jobId, tries, err: error }, 'logs wait');
        await sleep(backoffMs(tries, { baseMs: 50, maxMs: this.options.retryMaxMs ?? 5_000 }), this.stopped.signal);
        continue;
      }
      tries = 0;
      log.spool.acknowledge();
      if (!head.last) continue;
      log.spool.remove();
      this.logs.delete(`${log.jobId}.${log.attempt}`);
      log.delivered();
      return;
    }
  }

  private async send(log: AttemptLog, frame: LogFrame): Promise<void> {
    if (this.bus === undefined) throw new ImsError('unavailable', 'not connected');
    const id = `${log.jobId}.${log.attempt}.${frame.first_seq}`;
    await this.bus.publish(logFrame, { agent: this.options.agentId, job: log.jobId }, frame, id);
  }
}

/** The log of one attempt: lines in, frames into the spool. Never waits for the network. */
export class AttemptLog {
  readonly redactor = new Redactor();
  private lines: string[] = [];
  private bytes = 0;
  private leftOut = 0;
  /** Bytes that may still go out. */
  private left = Infinity;
  private timer: NodeJS.Timeout | undefined;
  private wakeUp: () => void = () => undefined;
  private done: () => void = () => undefined;
  /** Resolves when JetStream has the last frame. */
  readonly finished = new Promise<void>((resolve) => {
    this.done = resolve;
  });

  constructor(
    readonly jobId: JobId,
    readonly attempt: number,
    readonly spool: Spool,
    private readonly flushMs: number,
  ) {}

  /** Adds text, redacted, split into lines. `cut`: the text lost its end before it came here. */
  write(level: LogLevel, step: string, text: string, cut = false): void {
    if (this.spool.ended) return;
    // PostgreSQL's text type has no NUL.
    const clean = redactText(this.redactor.redact(text, cut)).replaceAll('\0', '\ufffd');
    const at = new Date().toISOString();
    for (const line of clean.split(/\r?\n/)) {
      this.add({ at, level, step: step.slice(0, 40), text: shorten(line, cut) });
    }
  }

  /** After a start: says where an earlier life was cut off, since what it had in memory is not in the log. */
  cameBack(): void {
    if (this.spool.torn)
      this.write('warn', '', '[the agent ended here without warning: its last 0.1 s may be missing]');
  }

  /** The process ends in order: nothing of the log is in its memory any more. */
  leave(): void {
    this.flush();
    if (this.leftOut === 0) this.spool.leaveClean();
  }

  /** Nothing goes out beyond so many bytes (of this life of the agent), but a line that says so. */
  limit(bytes: number): void {
    this.left = bytes;
  }

  /** The attempt is over: what is left is written, with the mark that no more comes. */
  end(): void {
    this.flush();
    if (this.spool.ended) return;
    const note = this.leftOut === 0 ? [] : [this.note()];
    // Only a full disk can refuse it.
    if (this.spool.append(this.frame(note, true), note.length, true)) this.wakeUp();
    else setTimeout(() => this.end(), 1_000).unref();
  }

  /** Memory to disk. */
  flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.spool.ended || (this.lines.length === 0 && this.leftOut === 0)) return;
    // The note about a gap stands where the gap is: before the lines that come after it.
    if (this.leftOut > 0 && this.spool.append(this.frame([this.note()], false), 1, false)) this.leftOut = 0;
    const fits = this.leftOut === 0 && this.spool.append(this.frame(this.lines, false), this.lines.length, false);
    if (!fits) this.leftOut += this.lines.length;
    this.lines = [];
    this.bytes = 0;
    this.wakeUp();
  }

  /** Resolves when there is something to send. */
  more(): Promise<void> {
    return new Promise((resolve) => {
      this.wakeUp = resolve;
      if (this.spool.head !== undefined) resolve();
    });
  }
  wake(): void {
    this.wakeUp();
  }
  delivered(): void {
    this.done();
  }
  /** Resolves when nothing is left to send now, or on the signal. */
  async idle(signal: AbortSignal): Promise<void> {
    while (this.spool.head !== undefined && !signal.aborted) await sleep(10, signal);
  }

  private add(line: LogText): void {
    if (this.left <= 0) return;
    let json = JSON.stringify(line);
    let size = Buffer.byteLength(json) + 1;
    this.left -= size;
    if (this.left < 0) {
      json = JSON.stringify({
        ...line,
        level: 'warn',
        text: '[no more of this log goes out: limits.log_bytes of the customer]',
      });
      size = Buffer.byteLength(json) + 1;
    }
    if (this.lines.length >= LIMITS.logFrameLines || this.bytes + size > LIMITS.logFrameBytes) this.flush();
    this.lines.push(json);
    this.bytes += size;
    this.timer ??= setTimeout(() => this.flush(), this.flushMs).unref();
  }

  private note(): string {
    const text = `[${this.leftOut} lines were left out here: the agent's log spool was full]`;
    return JSON.stringify({ at: new Date().toISOString(), level: 'warn', step: '', text } satisfies LogText);
  }

  /** A LogFrame as JSON, of lines that are JSON already. */
  private frame(lines: readonly string[], last: boolean): string {
    const { nextSeq, tipHash } = this.spool;
    const head = `"job_id":"${this.jobId}","attempt":${this.attempt},"first_seq":${nextSeq}`;
    const prev = tipHash === undefined ? '' : `,"prev":"${tipHash}"`;
    return `{${head},"lines":[${lines.join(',')}],"last":${last}${prev}}`;
  }
}

/** At most LIMITS.logLineBytes bytes of UTF-8, with a mark that says how much is missing. */
function shorten(text: string, cut: boolean): string {
  const bytes = Buffer.from(text);
  const mark = (missing: string): string => ` [line cut: ${missing} left out]`;
  if (bytes.length <= LIMITS.logLineBytes - 60) return cut ? text + mark('its end was') : text;
  const kept = LIMITS.logLineBytes - 60;
  const missing = `${bytes.length - kept} bytes${cut ? ' and more' : ''} were`;
  // A character that was cut in the middle decodes to U+FFFD.
  return (
    bytes
      .subarray(0, kept)
      .toString('utf8')
      .replace(/\ufffd+$/, '') + mark(missing)
  );
}
