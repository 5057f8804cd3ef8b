import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { bootId, startOf } from './proc.js';

const FILE = 'agent.lock';

interface Owner {
  readonly pid: number;
  readonly started: string;
  readonly boot: string;
}

/**
 * One process for each state directory: a second one would take the first one's process groups for leftovers of a
 * crash. A lock whose owner is gone (other boot, other start time) is taken over.
 */
export class StateLock {
  private constructor(private readonly file: string) {}

  static async take(stateDir: string): Promise<StateLock> {
    const file = join(stateDir, FILE);
    const mine: Owner = { pid: process.pid, started: startOf(process.pid) ?? '', boot: bootId() };
    for (let tries = 0; ; tries++) {
      try {
        const handle = await open(file, 'wx', 0o600);
        await handle.writeFile(JSON.stringify(mine));
        await handle.close();
        return new StateLock(file);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || tries > 10) throw error;
      }
      const owner = await runningAgent(stateDir);
      if (owner !== undefined) throw new Error(`${stateDir} is in use by the agent with pid ${owner}`);
      await rm(file, { force: true });
    }
  }

  async release(): Promise<void> {
    await rm(this.file, { force: true });
  }
}

/** The pid of the agent that works with this state directory; undefined when none does. */
export async function runningAgent(stateDir: string): Promise<number | undefined> {
  try {
    const owner = JSON.parse(await readFile(join(stateDir, FILE), 'utf8')) as Owner;
    const alive = owner.boot === bootId() && startOf(owner.pid) === owner.started;
    return alive ? owner.pid : undefined;
  } catch {
    return undefined;
  }
}
