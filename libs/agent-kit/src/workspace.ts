import { readFile, readdir, rm, statfs, writeFile } from 'node:fs/promises';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { ImsError, type JobId } from '#contracts';
import { privateDirectory } from './files.js';

const MIB = 1024 * 1024;

/** A directory for each attempt, kept over restarts, removed when the attempt is over. */
export class Workspaces {
  constructor(
    private readonly root: string,
    private readonly minFreeBytes = 256 * MIB,
  ) {}

  /** Makes it (or finds it again). Throws `agent_error` when the disk is nearly full: better now than in mid-apply. */
  async open(jobId: JobId, attempt: number): Promise<string> {
    await privateDirectory(this.root);
    const free = await freeBytes(this.root);
    if (free < this.minFreeBytes) {
      const have = `${Math.floor(free / MIB)} MiB`;
      throw new ImsError(
        'agent_error',
        `only ${have} free in ${this.root}, a job needs ${this.minFreeBytes / MIB} MiB`,
      );
    }
    return privateDirectory(join(this.root, `${jobId}.${attempt}`));
  }

  async remove(jobId: JobId, attempt: number): Promise<void> {
    await rm(join(this.root, `${jobId}.${attempt}`), { recursive: true, force: true, maxRetries: 3 });
  }

  /** Removes what no journal speaks of any more. */
  async sweep(keep: readonly { readonly jobId: JobId; readonly attempt: number }[]): Promise<void> {
    const kept = new Set(keep.map(({ jobId, attempt }) => `${jobId}.${attempt}`));
    await privateDirectory(this.root);
    for (const name of await readdir(this.root)) {
      if (!kept.has(name)) await rm(join(this.root, name), { recursive: true, force: true, maxRetries: 3 });
    }
  }

  freeBytes(): Promise<number> {
    return freeBytes(this.root);
  }
}

async function freeBytes(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/**
 * The end of a lease in a file, for the keepers of the process groups: when this process is stopped (SIGSTOP, frozen,
 * swapped out) it cannot kill them in time, but they look at the file themselves twice a second.
 */
export class LeaseFile {
  private tail: Promise<void> = Promise.resolve();

  constructor(readonly path: string) {}

  /** One after the other: an older end must not be written over a newer one. */
  write(endsInMs: number): Promise<void> {
    const at = performance.now() + endsInMs;
    this.tail = this.tail.catch(() => undefined).then(() => this.store(at - performance.now()));
    return this.tail;
  }

  async remove(): Promise<void> {
    await this.tail.catch(() => undefined);
    await rm(this.path, { force: true });
  }

  /** In hundredths of a second of this boot: /proc/uptime without its point. */
  private async store(endsInMs: number): Promise<void> {
    const at = Math.max(0, Math.round((await bootSeconds()) * 100 + endsInMs / 10));
    await writeFile(this.path, `${at}\n`, { mode: 0o600 });
  }
}

/** From the very file that the keepers read: what a container shows there may not be what the system call says. */
async function bootSeconds(): Promise<number> {
  const text = await readFile('/proc/uptime', 'utf8').catch(() => '');
  return text === '' ? uptime() : Number(text.split(' ')[0]);
}
