import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, readdir, truncate, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { sortedJson, type JsonObject } from '#contracts';
import { createLogger } from '#platform';
import { privateDirectory, syncDirectory } from './files.js';

/**
 * The customer's record of what its agent was asked and did: append-only files that the agent never shortens, each entry
 * with the hash of the one before it, so that a changed, dropped or reordered entry shows. Whoever keeps a head (sequence
 * number and hash) from an earlier day can tell that everything up to it is still there.
 */

export interface RecordEntry {
  readonly seq: number;
  readonly at: string;
  /** `job.received`, `policy.changed`, … */
  readonly type: string;
  readonly data: JsonObject;
  /** Hash of the entry before; 64 zeroes before the first. */
  readonly prev: string;
  /** SHA-256 over `prev` and the canonical JSON of seq, at, type and data. */
  readonly hash: string;
}
export interface RecordHead {
  readonly seq: number;
  readonly hash: string;
}
/** What is wrong with a record, and where. */
export interface RecordFault {
  readonly file: string;
  readonly line: number;
  readonly reason: string;
}

interface Waiting {
  readonly type: string;
  readonly data: JsonObject;
  resolve(): void;
  reject(error: unknown): void;
}

const START: RecordHead = { seq: 0, hash: '0'.repeat(64) };
const FILE_NAME = /^\d{12}\.ndjson$/;
const logger = createLogger('record');

export function hashEntry({ prev, seq, at, type, data }: Omit<RecordEntry, 'hash'>): string {
  return createHash('sha256')
    .update(prev)
    .update(JSON.stringify(sortedJson({ seq, at, type, data })))
    .digest('hex');
}

/** The one writer of a record: the running agent. */
export class CustomerRecord {
  private readonly waiting: Waiting[] = [];
  private writing: Promise<void> | undefined;
  private handle: FileHandle | undefined;
  private bytes = 0;

  private constructor(
    private readonly directory: string,
    private readonly rotateBytes: number,
    private last: RecordHead,
    private file: string | undefined,
  ) {}

  /**
   * Goes on where the last life ended. A torn last line (a power cut within a write) is cut off and the cut recorded;
   * anything else that does not fit is left as it is and recorded, and `verifyRecord` names it.
   */
  static async open(directory: string, rotateBytes = 16 * 2 ** 20): Promise<CustomerRecord> {
    await privateDirectory(directory);
    const name = (await recordFiles(directory)).at(-1);
    if (name === undefined) return new CustomerRecord(directory, rotateBytes, START, undefined);
    const file = join(directory, name);
    const bytes = await readFile(file);
    const end = bytes.lastIndexOf(0x0a) + 1;
    const torn = bytes.subarray(end);
    const before = bytes.subarray(0, Math.max(end - 1, 0));
    const lastLine = before.subarray(before.lastIndexOf(0x0a) + 1).toString('utf8');
    const entry = parseEntry(lastLine);
    // The file's name has the number of its first entry: enough to go on after a cut that left nothing of it.
    const last = entry ?? (end === 0 ? await headBefore(directory, name) : undefined);
    const record = new CustomerRecord(directory, rotateBytes, last ?? START, file);
    record.bytes = end;
    if (torn.length > 0) {
      await truncate(file, end);
      const sha256 = createHash('sha256').update(torn).digest('hex');
      await record.append('record.cut', { file: name, bytes: torn.length, sha256 });
    }
    if (last === undefined || (entry !== undefined && hashEntry(entry) !== entry.hash)) {
      logger.error({ file }, 'the record is damaged: see audit verify');
      await record.append('record.damaged', { file: name });
    }
    return record;
  }

  /** The last entry: who has kept it can tell later that nothing before it is gone. */
  get head(): RecordHead {
    return this.last;
  }

  /** On disk (synced) when it resolves. Entries are written in the order of the calls, those of one moment with one sync. */
  append(type: string, data: JsonObject): Promise<void> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ type, data, resolve, reject });
      this.writing ??= this.writeAll();
    });
  }

  async close(): Promise<void> {
    while (this.writing !== undefined) await this.writing;
    await this.handle?.close();
    this.handle = undefined;
  }

  private async writeAll(): Promise<void> {
    while (this.waiting.length > 0) {
      // What is asked for in the same turn of the event loop is written together.
      await Promise.resolve();
      const batch = this.waiting.splice(0);
      try {
        await this.write(batch);
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    // In the same turn as the last look: an entry that comes in between would wait for ever.
    this.writing = undefined;
  }

  private async write(batch: readonly Waiting[]): Promise<void> {
    let head = this.last;
    const lines = batch.map(({ type, data }) => {
      const plain = JSON.parse(JSON.stringify(data)) as JsonObject;
      const own = { seq: head.seq + 1, at: new Date().toISOString(), type, data: plain, prev: head.hash };
      const entry: RecordEntry = { ...own, hash: hashEntry(own) };
      head = { seq: entry.seq, hash: entry.hash };
      return `${JSON.stringify(entry)}\n`;
    });
    const text = lines.join('');
    const handle = await this.handleFor(this.last.seq + 1);
    try {
      await handle.appendFile(text);
      await handle.datasync();
    } catch (error) {
      // A full disk may have taken half of it: that must not stand before the next entry.
      await handle.truncate(this.bytes).catch(() => undefined);
      throw error;
    }
    this.bytes += Buffer.byteLength(text);
    this.last = head;
  }

  private async handleFor(seq: number): Promise<FileHandle> {
    if (this.file === undefined || this.bytes >= this.rotateBytes) {
      await this.handle?.close();
      this.handle = undefined;
      this.file = join(this.directory, `${String(seq).padStart(12, '0')}.ndjson`);
      this.bytes = 0;
    }
    if (this.handle === undefined) {
      this.handle = await open(this.file, 'a', 0o600);
      await syncDirectory(this.directory);
    }
    return this.handle;
  }
}

/** Files of a record, oldest first. */
export async function recordFiles(directory: string): Promise<string[]> {
  const names = await readdir(directory).catch(() => [] as string[]);
  return names.filter((name) => FILE_NAME.test(name)).sort();
}

/** Every entry, oldest first, as it stands; undefined for a line that is none. A line that is being written is left out. */
export async function* readRecord(
  directory: string,
): AsyncGenerator<{ file: string; line: number; entry: RecordEntry | undefined }> {
  for (const file of await recordFiles(directory)) {
    let line = 0;
    let held: string | undefined;
    for await (const text of createInterface({ input: createReadStream(join(directory, file)), crlfDelay: Infinity })) {
      if (held !== undefined) yield { file, line, entry: parseEntry(held) };
      held = text;
      line += 1;
    }
    // The last line counts when its line end is there.
    if (held !== undefined && (await endsWhole(join(directory, file)))) yield { file, line, entry: parseEntry(held) };
  }
}

/**
 * Checks the whole chain. `expected`: a head that was kept; its entry must be there, unchanged. Answers the head and how
 * many entries there are, or the first fault.
 */
export async function verifyRecord(
  directory: string,
  expected?: RecordHead,
): Promise<{ readonly head: RecordHead; readonly fault?: undefined } | { readonly fault: RecordFault }> {
  let last = START;
  let where = { file: directory, line: 0 };
  let found = expected === undefined || expected.seq === 0;
  for await (const { file, line, entry } of readRecord(directory)) {
    where = { file, line };
    const fault = (reason: string): { fault: RecordFault } => ({ fault: { file, line, reason } });
    if (entry === undefined) return fault('the line is not an entry');
    if (entry.seq !== last.seq + 1) return fault(`entry ${entry.seq} follows entry ${last.seq}`);
    if (entry.prev !== last.hash) return fault(`entry ${entry.seq} does not continue entry ${last.seq}`);
    if (hashEntry(entry) !== entry.hash)
      return fault(`entry ${entry.seq} was changed: its hash is not that of its content`);
    if (entry.seq === expected?.seq) {
      if (entry.hash !== expected.hash) return fault(`entry ${entry.seq} is not the one of the given head`);
      found = true;
    }
    last = { seq: entry.seq, hash: entry.hash };
  }
  if (!found) {
    return {
      fault: {
        ...where,
        reason: `the record ends at entry ${last.seq}, before entry ${expected?.seq ?? 0} of the given head`,
      },
    };
  }
  return { head: last };
}

function parseEntry(text: string): RecordEntry | undefined {
  try {
    const entry = JSON.parse(text) as Partial<RecordEntry> | null;
    const { seq, at, type, data, prev, hash } = entry ?? {};
    const good =
      typeof seq === 'number' &&
      [at, type, prev, hash].every((value) => typeof value === 'string') &&
      typeof data === 'object' &&
      // Not a field more: the hash would not cover it.
      Object.keys(entry ?? {}).length === 6;
    return good ? (entry as RecordEntry) : undefined;
  } catch {
    return undefined;
  }
}

/** The last entry of the file before this one. */
async function headBefore(directory: string, name: string): Promise<RecordHead | undefined> {
  const before = (await recordFiles(directory)).filter((each) => each < name).at(-1);
  if (before === undefined) return START;
  const lines = (await readFile(join(directory, before), 'utf8')).trimEnd().split('\n');
  return parseEntry(lines.at(-1) ?? '');
}

async function endsWhole(file: string): Promise<boolean> {
  const handle = await open(file, 'r');
  try {
    const { size } = await handle.stat();
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(1), 0, 1, Math.max(size - 1, 0));
    return bytesRead === 1 && buffer[0] === 0x0a;
  } finally {
    await handle.close();
  }
}
