import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writePrivate } from '#agent-kit';
import {
  NO_PLAN,
  type Executor,
  type ExecutorContext,
  type HealthReport,
  type Needs,
  type Observation,
  type Plan,
  type Removal,
  type RemovalPlan,
} from '../executor.js';

export const IMAGE_NEEDS: Needs = { programs: [], cluster: [], cloud: 'nothing', host: [] };

const FILE = 'image';

const referenceOf = ({ image: { host, repository, digest } }: ExecutorContext): string =>
  `${host}/${repository}@${digest}`;
const known = ({ stateDir }: ExecutorContext): Promise<string | undefined> =>
  readFile(join(stateDir, FILE), 'utf8').catch(() => undefined);

/** Images are used by other components. Provisioning one is making its reference in the install's registry known. */
export class ImageExecutor implements Executor {
  readonly layer = undefined;

  destroyNeedsArtifact(): boolean {
    return false;
  }

  prepare(): Promise<void> {
    return Promise.resolve();
  }

  async plan(context: ExecutorContext): Promise<Plan> {
    const { digest } = context.image;
    const before = await known(context);
    if (before === referenceOf(context)) return { ...NO_PLAN, digest };
    const first = before === undefined;
    const identity = referenceOf(context);
    const text = `the image becomes known to other components as ${identity}`;
    const counts = { created: first ? 1 : 0, updated: first ? 0 : 1 };
    return { ...NO_PLAN, ...counts, changed: true, digest, identity, text, harmless: true };
  }

  planned({ image }: ExecutorContext): Promise<string> {
    return Promise.resolve(image.digest);
  }

  async apply(context: ExecutorContext): Promise<void> {
    await writePrivate(join(context.stateDir, FILE), referenceOf(context));
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  observe({ image: { host, repository, digest } }: ExecutorContext): Promise<Observation> {
    const name = `${host}/${repository}`;
    return Promise.resolve({ outputs: { image: `${name}@${digest}`, repository: name, digest }, sensitive: [] });
  }

  async health({ isStored }: ExecutorContext): Promise<HealthReport> {
    if (await isStored()) return { health: 'healthy', reasons: [] };
    return { health: 'missing', reasons: ["the image is no longer in the install's registry"] };
  }

  async planDestroy(context: ExecutorContext): Promise<RemovalPlan> {
    const identity = (await known(context)) ?? '';
    const text = identity === '' ? 'nothing to remove' : `${identity} is no longer known; it stays in the registry`;
    return { changed: identity !== '', deleted: identity === '' ? 0 : 1, identity, text, changes: [], harmless: true };
  }

  async destroy(context: ExecutorContext): Promise<Removal> {
    const before = await known(context);
    await rm(join(context.stateDir, FILE), { force: true });
    return { deleted: before === undefined ? 0 : 1, left: [] };
  }
}
