import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writePrivate } from '#agent-kit';
import { NO_PLAN, type Executor, type ExecutorContext, type Observation, type Plan } from '../executor.js';

const FILE = 'image';

/** Images are used by other components. Provisioning one is making its reference in the install's registry known. */
export class ImageExecutor implements Executor {
  readonly layer = undefined;

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  async plan({ image, stateDir }: ExecutorContext): Promise<Plan> {
    const known = await readFile(join(stateDir, FILE), 'utf8').catch(() => undefined);
    if (known === image.digest) return { ...NO_PLAN, digest: image.digest };
    const first = known === undefined;
    return { changed: true, created: first ? 1 : 0, updated: first ? 0 : 1, deleted: 0, digest: image.digest };
  }

  async apply({ image, stateDir }: ExecutorContext): Promise<void> {
    await writePrivate(join(stateDir, FILE), image.digest);
  }

  observe({ image: { host, repository, digest } }: ExecutorContext): Promise<Observation> {
    const name = `${host}/${repository}`;
    return Promise.resolve({ outputs: { image: `${name}@${digest}`, repository: name, digest }, sensitive: [] });
  }

  async destroy({ stateDir, image }: ExecutorContext): Promise<Plan> {
    const known = await readFile(join(stateDir, FILE), 'utf8').catch(() => undefined);
    return { ...NO_PLAN, changed: known !== undefined, deleted: known === undefined ? 0 : 1, digest: image.digest };
  }
}
