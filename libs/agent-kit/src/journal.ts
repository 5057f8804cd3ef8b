import { open, readFile, readdir, rm, truncate, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { LIMITS, isId, type Envelope, type JobId, type JobResult, type JsonObject, type PlanVerdict } from '#contracts';
import { type PlanFacts } from '#domain';
import { privateDirectory, syncDirectory, writePrivate } from './files.js';
import { type GroupMark } from './processes.js';

/**
 * What this agent has taken on, on its disk: one append-only file for each attempt, each record synced before what it
 * announces is done. After a crash it tells which step to go on with, what may still run, and which result nobody has
 * acknowledged. Dropped at the receipt.
 */

export interface StepRecord {
  readonly name: string;
  readonly startedAt: string;
  /** Undefined while the step is not done; after a crash that means: started, outcome unknown. */
  done?: StepDone;
}
export interface StepDone {
  readonly durationMs: number;
  readonly toolMs: number;
  readonly output?: JsonObject;
  /** What it proposed: the next step begins only when the customer's policy lets it. */
  readonly plan?: JudgedPlan;
}
/** A plan, and what the vendor has said to it. */
export interface JudgedPlan extends PlanFacts {
  readonly verdict?: PlanVerdict;
}

type Entry =
  | { readonly t: 'grant'; readonly envelope: Envelope }
  | { readonly t: 'step'; readonly name: string; readonly at: string }
  | ({ readonly t: 'done'; readonly name: string } & StepDone)
  | { readonly t: 'group'; readonly mark: GroupMark }
  | { readonly t: 'gone'; readonly pgid: number }
  | { readonly t: 'result'; readonly result: JobResult };

/** The record of one attempt. */
export class AttemptJournal {
  private readonly stepsByName = new Map<string, StepRecord>();
  private readonly groups = new Map<number, GroupMark>();
  private grant: Envelope | undefined;
  private ended: JobResult | undefined;
  private tail: Promise<void> = Promise.resolve();
  private handle: FileHandle | undefined;

  constructor(
    readonly file: string,
    readonly jobId: JobId,
    readonly attempt: number,
  ) {}

  /** The signed statement of the latest grant of this attempt. */
  get envelope(): Envelope | undefined {
    return this.grant;
  }
  get result(): JobResult | undefined {
    return this.ended;
  }
  /** In the order in which they were first started. */
  get steps(): readonly StepRecord[] {
    return [...this.stepsByName.values()];
  }
  step(name: string): StepRecord | undefined {
    return this.stepsByName.get(name);
  }
  /** Groups that were started and not seen to end. */
  get openGroups(): readonly GroupMark[] {
    return [...this.groups.values()];
  }

  granted(envelope: Envelope): Promise<void> {
    return this.append({ t: 'grant', envelope });
  }
  stepStarted(name: string, at: string): Promise<void> {
    return this.append({ t: 'step', name, at });
  }
  stepDone(name: string, done: StepDone): Promise<void> {
    return this.append({ t: 'done', name, ...done });
  }
  groupStarted(mark: GroupMark): Promise<void> {
    return this.append({ t: 'group', mark });
  }
  groupEnded(pgid: number): Promise<void> {
    return this.append({ t: 'gone', pgid });
  }
  resultReady(result: JobResult): Promise<void> {
    return this.append({ t: 'result', result });
  }

  /** Applies a record; false when it is none. */
  apply(entry: Entry): boolean {
    switch (entry.t) {
      case 'grant':
        this.grant = entry.envelope;
        return true;
      case 'step':
        this.stepsByName.set(entry.name, { name: entry.name, startedAt: entry.at });
        return true;
      case 'done': {
        const { name, durationMs, toolMs, output, plan } = entry;
        const record = this.stepsByName.get(name) ?? { name, startedAt: new Date(0).toISOString() };
        record.done = {
          durationMs,
          toolMs,
          ...(output === undefined ? {} : { output }),
          ...(plan === undefined ? {} : { plan }),
        };
        this.stepsByName.set(name, record);
        return true;
      }
      case 'group':
        this.groups.set(entry.mark.pgid, entry.mark);
        return true;
      case 'gone':
        this.groups.delete(entry.pgid);
        return true;
      case 'result':
        this.ended = entry.result;
        return true;
      default:
        return false;
    }
  }

  async close(): Promise<void> {
    await this.tail.catch(() => undefined);
    await this.handle?.close();
    this.handle = undefined;
  }

  /** Records are written in the order of the calls. A failed one (disk full) is the caller's; later ones still try. */
  private append(entry: Entry): Promise<void> {
    this.apply(entry);
    const written = this.tail.catch(() => undefined).then(() => this.write(`${JSON.stringify(entry)}\n`));
    this.tail = written;
    return written;
  }

  private async write(line: string): Promise<void> {
    this.handle ??= await open(this.file, 'a', 0o600);
    await this.handle.appendFile(line);
    await this.handle.datasync();
  }
}

const FILE_NAME = /^(job_\w+)\.(\d+)\.ndjson$/;

interface Fence {
  readonly attempt: number;
  readonly at: number;
}

/** All attempts of this agent, and the highest attempt it has seen of each job. */
export class Journal {
  private constructor(
    private readonly directory: string,
    private readonly attempts: Map<string, AttemptJournal>,
    private readonly fences: Map<string, Fence>,
    private readonly fenceFile: FileHandle,
  ) {}

  /** Reads what an earlier life left. A torn last record (power cut in the middle of a write) is cut off. */
  static async open(directory: string): Promise<Journal> {
    await privateDirectory(directory);
    const entries = new Map<string, AttemptJournal>();
    for (const name of await readdir(directory)) {
      const found = FILE_NAME.exec(name);
      const jobId = found?.[1];
      if (found === null || !isId('job', jobId)) continue;
      const entry = new AttemptJournal(join(directory, name), jobId, Number(found[2]));
      await replay(entry);
      // Not even the grant is whole: nothing was done in its name.
      if (entry.envelope === undefined) await rm(entry.file, { force: true });
      else entries.set(keyOf(entry), entry);
    }
    const fences = await readFences(join(directory, 'fences.ndjson'));
    const text = [...fences].map(([job, fence]) => fenceLine(job, fence)).join('');
    await writePrivate(join(directory, 'fences.ndjson'), text);
    return new Journal(directory, entries, fences, await open(join(directory, 'fences.ndjson'), 'a', 0o600));
  }

  /** Names of the attempts in a state directory, without touching it: another process may be writing. */
  static async peek(directory: string): Promise<string[]> {
    const names = await readdir(directory).catch(() => [] as string[]);
    return names
      .map((name) => FILE_NAME.exec(name))
      .flatMap((found) => (found === null ? [] : [`${found[1]}.${found[2]}`]));
  }

  entries(): readonly AttemptJournal[] {
    return [...this.attempts.values()];
  }
  find(jobId: JobId, attempt: number): AttemptJournal | undefined {
    return this.attempts.get(keyOf({ jobId, attempt }));
  }

  /** 0 when no attempt of the job was seen within the life of a statement. */
  lastAttempt(jobId: JobId): number {
    return this.fences.get(jobId)?.attempt ?? 0;
  }

  /**
   * A new attempt is taken on: its number and its statement are on disk when this resolves. `trusted`: the statement's
   * signature is good; without it the number is not remembered, or a forged one would shut out all that follow.
   */
  async begin(jobId: JobId, attempt: number, envelope: Envelope, trusted = true): Promise<AttemptJournal> {
    const entry = new AttemptJournal(join(this.directory, `${keyOf({ jobId, attempt })}.ndjson`), jobId, attempt);
    if (trusted) {
      const fence = { attempt, at: Date.now() };
      raise(this.fences, jobId, fence);
      await this.fenceFile.appendFile(fenceLine(jobId, fence));
      await this.fenceFile.datasync();
    }
    await entry.granted(envelope);
    await syncDirectory(this.directory);
    this.attempts.set(keyOf(entry), entry);
    return entry;
  }

  /** The attempt is over for this agent: acknowledged, or another's. */
  async drop(entry: AttemptJournal): Promise<void> {
    this.attempts.delete(keyOf(entry));
    await entry.close();
    await rm(entry.file, { force: true });
  }

  /** Safe to call twice. */
  async close(): Promise<void> {
    await Promise.all(this.entries().map((entry) => entry.close()));
    await this.fenceFile.close();
  }
}

const keyOf = (held: { jobId: string; attempt: number }): string => `${held.jobId}.${held.attempt}`;
const fenceLine = (job: string, { attempt, at }: Fence): string => `${JSON.stringify({ job, attempt, at })}\n`;

function raise(fences: Map<string, Fence>, job: string, fence: Fence): void {
  if ((fences.get(job)?.attempt ?? 0) <= fence.attempt) fences.set(job, { attempt: fence.attempt, at: fence.at });
}

/** Whole lines of a file; cuts off a last one without its line end, so that the next record does not run into it. */
async function wholeLines(file: string): Promise<string[]> {
  const bytes = await readFile(file).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw error;
  });
  const end = bytes.lastIndexOf(0x0a) + 1;
  if (end < bytes.length) await truncate(file, end);
  return bytes.subarray(0, end).toString('utf8').split('\n').slice(0, -1);
}

async function replay(entry: AttemptJournal): Promise<void> {
  let whole = 0;
  for (const line of await wholeLines(entry.file)) {
    const record = parseLine<Entry>(line);
    // A block that never reached the disk reads as zeroes: nothing after it can be trusted either.
    if (record === undefined || !entry.apply(record)) {
      await truncate(entry.file, whole);
      return;
    }
    whole += Buffer.byteLength(line) + 1;
  }
}

async function readFences(file: string): Promise<Map<string, Fence>> {
  const fences = new Map<string, Fence>();
  // A statement older than this is refused by its own expiry, so its number need not be remembered.
  const oldest = Date.now() - 2 * LIMITS.jobStatementMs;
  for (const line of await wholeLines(file)) {
    const read = parseLine<Fence & { job: string }>(line);
    if (read !== undefined && read.at > oldest) raise(fences, read.job, read);
  }
  return fences;
}

function parseLine<T extends object>(line: string): T | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as T) : undefined;
  } catch {
    return undefined;
  }
}
