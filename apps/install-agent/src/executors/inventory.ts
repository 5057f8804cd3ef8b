import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writePrivate } from '#agent-kit';
import { identityOf, type Placed } from './objects.js';

const FILE = 'inventory.json';

/** What of a component is in the cluster, in the order in which it was put there. It is written before the objects are. */
export class Inventory {
  constructor(private readonly stateDir: string) {}

  async read(): Promise<readonly Placed[]> {
    const text = await readFile(join(this.stateDir, FILE), 'utf8').catch(() => undefined);
    return text === undefined ? [] : (JSON.parse(text) as { objects: Placed[] }).objects;
  }

  async write(objects: readonly Placed[]): Promise<void> {
    await writePrivate(join(this.stateDir, FILE), JSON.stringify({ objects }));
  }

  async forget(): Promise<void> {
    await rm(join(this.stateDir, FILE), { force: true });
  }

  /** What is there by the inventory and not wanted any more. */
  async obsolete(wanted: readonly Placed[]): Promise<Placed[]> {
    const keep = new Set(wanted.map(identityOf));
    return (await this.read()).filter((placed) => !keep.has(identityOf(placed)));
  }
}
