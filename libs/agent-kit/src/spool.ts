import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { hashLogFrame, type LogFrame } from '#contracts';

/** A segment is deleted when all its frames are acknowledged, so this is also what is sent again after a crash. */
const SEGMENT_BYTES = 1024 * 1024;

/** Where a frame waits. */
export interface FrameRef {
  readonly segment: string;
  readonly offset: number;
  readonly length: number;
  readonly firstSeq: number;
  readonly last: boolean;
}

/**
 * Log frames of one attempt on disk, in their final form: a frame that is sent again after a crash is the same bytes
 * under the same message id, so whoever has it already can tell. Reads and writes are synchronous (page cache,
 * microseconds): the mouth of the log pipe must not wait for anything. What is sent was synced before (`sync`): after a
 * power cut other lines would else get the numbers of lines that telemetry has already.
 */
export class Spool {
  private readonly waiting: FrameRef[] = [];
  private writing: { name: string; fd: number; bytes: number } | undefined;
  /** Of the frames that wait. On disk is at most a segment more. */
  private bytes = 0;
  private next = 1;
  private closed = false;
  private tip: string | undefined;
  private readonly unsynced = new Set<string>();
  /** Lines below it are on the disk. */
  private syncedSeq = 0;
  /** An earlier life ended without a word: what was in its memory is lost. */
  readonly torn: boolean;

  constructor(
    readonly directory: string,
    private readonly maxBytes: number,
  ) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const names = readdirSync(directory).sort();
    for (const name of names) if (name.endsWith('.ndjson')) this.read(name);
    this.torn = names.length > 0 && !this.closed && !existsSync(this.cleanFile);
    rmSync(this.cleanFile, { force: true });
  }

  /** Sequence number of the next line. */
  get nextSeq(): number {
    return this.next;
  }
  /** The last frame was written: no more lines come. */
  get ended(): boolean {
    return this.closed;
  }
  /** Hash of the frame that was appended last, in whichever life. */
  get tipHash(): string | undefined {
    return this.tip;
  }
  get head(): FrameRef | undefined {
    return this.waiting[0];
  }

  /** Appends a frame; false when the spool (or the disk) is full, and then nothing of it is kept. */
  append(json: string, lines: number, last: boolean): boolean {
    const length = Buffer.byteLength(json) + 1;
    // The last frame says that the log is over: it always fits.
    if (!last && this.bytes + length > this.maxBytes) return false;
    try {
      if (this.writing !== undefined && this.writing.bytes + length > SEGMENT_BYTES) this.closeSegment();
      this.writing ??= this.openSegment();
      writeWhole(this.writing.fd, `${json}\n`);
    } catch {
      this.dropTorn();
      return false;
    }
    const { name, bytes } = this.writing;
    this.waiting.push({ segment: name, offset: bytes, length, firstSeq: this.next, last });
    this.writing.bytes += length;
    this.bytes += length;
    this.next += lines;
    this.closed ||= last;
    this.tip = hashLogFrame(json);
    this.unsynced.add(name);
    return true;
  }

  /** The frame survives a power cut, and so does all that was appended before this call: many frames for one sync. */
  async sync(frame: FrameRef): Promise<void> {
    if (frame.firstSeq < this.syncedSeq || this.unsynced.size === 0) return;
    const names = [...this.unsynced];
    const upTo = this.next;
    this.unsynced.clear();
    for (const path of [...names.map((name) => join(this.directory, name)), this.directory]) {
      try {
        const file = await open(path, 'r');
        await file.datasync().finally(() => file.close());
      } catch {
        // Removed meanwhile, since all of it is delivered; or a file system that cannot.
      }
    }
    this.syncedSeq = upTo;
  }

  /** Nothing is left in memory: the next life begins without a gap. */
  leaveClean(): void {
    try {
      if (!this.closed) writeFileSync(this.cleanFile, '');
    } catch {
      // A full disk: the next life says that something may be missing, which is then the case.
    }
  }

  load(frame: FrameRef): LogFrame {
    const buffer = Buffer.alloc(frame.length);
    const fd = openSync(join(this.directory, frame.segment), 'r');
    try {
      readSync(fd, buffer, 0, frame.length, frame.offset);
    } finally {
      closeSync(fd);
    }
    return JSON.parse(buffer.toString('utf8')) as LogFrame;
  }

  /** The head is acknowledged. The newest segment stays: it holds the last sequence number for the next start. */
  acknowledge(): void {
    const done = this.waiting.shift();
    if (done === undefined) return;
    this.bytes -= done.length;
    if (done.segment !== this.newest && this.waiting[0]?.segment !== done.segment) this.forget(done.segment);
  }

  /** All is delivered: the spool goes. */
  remove(): void {
    this.closeSegment();
    rmSync(this.directory, { recursive: true, force: true });
  }

  private newest: string | undefined;
  private get cleanFile(): string {
    return join(this.directory, 'clean');
  }

  private openSegment(): { name: string; fd: number; bytes: number } {
    const name = `${String(this.next).padStart(16, '0')}.ndjson`;
    const fd = openSync(join(this.directory, name), 'a', 0o600);
    const before = this.newest;
    this.newest = name;
    if (before !== undefined && !this.waiting.some((frame) => frame.segment === before)) this.forget(before);
    return { name, fd, bytes: 0 };
  }

  private closeSegment(): void {
    if (this.writing !== undefined) closeSync(this.writing.fd);
    this.writing = undefined;
  }

  /** A write that failed in the middle must not stand before the next frame. */
  private dropTorn(): void {
    if (this.writing === undefined) return;
    truncateSync(join(this.directory, this.writing.name), this.writing.bytes);
  }

  private forget(segment: string): void {
    rmSync(join(this.directory, segment), { force: true });
  }

  /** A segment of an earlier life. Its torn end is cut off; new frames go to a segment of their own. */
  private read(name: string): void {
    const file = join(this.directory, name);
    const bytes = readFileSync(file);
    let offset = 0;
    for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, offset)) {
      const line = bytes.subarray(offset, end);
      const frame = parseFrame(line.toString('utf8'));
      if (frame === undefined) break;
      this.tip = hashLogFrame(line);
      const length = end + 1 - offset;
      this.waiting.push({ segment: name, offset, length, firstSeq: frame.first_seq, last: frame.last });
      this.next = frame.first_seq + frame.lines.length;
      this.closed ||= frame.last;
      offset = end + 1;
    }
    if (offset < bytes.length) truncateSync(file, offset);
    this.bytes += offset;
    if (offset === 0) rmSync(file, { force: true });
    else this.newest = name;
  }
}

function writeWhole(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
}

function parseFrame(line: string): LogFrame | undefined {
  try {
    return JSON.parse(line) as LogFrame;
  } catch {
    return undefined;
  }
}
