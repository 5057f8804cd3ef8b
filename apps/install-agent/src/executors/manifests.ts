import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writePrivate } from '#agent-kit';
import { ImsError, type JsonValue } from '#contracts';
import { mapImages, type Change } from '#domain';
import { ARTIFACT_FORM } from '#oci';
import { sleep } from '#platform';
import { type InstallAgentConfig } from '../config.js';
import {
  type Executor,
  type ExecutorContext,
  type HealthReport,
  type Needs,
  type Observation,
  type Plan,
  type Removal,
  type RemovalPlan,
} from '../executor.js';
import { Inventory } from './inventory.js';
import {
  AS_US,
  assertNotOfAnotherInstall,
  byNamespace,
  COMPONENT_LABEL,
  documents,
  FIELD_MANAGER,
  INSTALL_LABEL,
  MANAGED_BY,
  NAMESPACE_NEEDS,
  OBJECT_NEEDS,
  type Kubectl,
} from './kubectl.js';
import { changeOf, differences, removalOf, textOf } from './differences.js';
import { identityOf, isGround, nameOf, parseManifests, placeOf, type KubeObject, type Placed } from './objects.js';
import { healthOf, isWorkload, readinessOf } from './readiness.js';
import { Troubles } from './troubles.js';

const RENDERED = 'rendered.json';
export const MANIFESTS_NEEDS: Needs = {
  programs: ['kubectl'],
  cluster: [...NAMESPACE_NEEDS, OBJECT_NEEDS],
  cloud: 'nothing',
  host: [],
};
/** How often a cluster that is not ready is asked; grows to MAX: each look is a kubectl of 0.1 s and more. */
const LOOK_MS = 200;
const LOOK_MAX_MS = 2_000;

interface Rendered {
  readonly items: readonly KubeObject[];
  readonly placed: readonly Placed[];
  readonly digest: string;
}

/**
 * Plain manifests: rendered, compared, applied server-side, and what is no longer in them removed. Where somebody else
 * has changed a field that the manifests name, the manifests win (`--force-conflicts`); other fields stay his.
 */
export class ManifestsExecutor implements Executor {
  readonly layer: Executor['layer'] = {
    mediaType: ARTIFACT_FORM.kubernetesManifests.layerMediaType,
    form: 'tar+gzip',
  };

  constructor(
    protected readonly config: InstallAgentConfig,
    protected readonly kubectl: Kubectl,
  ) {}

  destroyNeedsArtifact(): boolean {
    return false;
  }

  async prepare(context: ExecutorContext): Promise<void> {
    this.kubectl.environment(context);
    const objects = (await this.objectsOf(context)).map((object) => labelled(fromHere(object, context), context));
    const ordered = [...objects.filter(({ kind }) => isGround(kind)), ...objects.filter(({ kind }) => !isGround(kind))];
    await writePrivate(join(context.workDir, RENDERED), JSON.stringify(ordered));
  }

  async plan(context: ExecutorContext): Promise<Plan> {
    const { items, placed, digest } = await this.rendered(context);
    const live = await this.live(context, items);
    for (const object of live.values()) assertNotOfAnotherInstall(object, context);
    const { namespace: home } = context;
    const there = items.filter((item) => live.has(identityOf(placeOf(item, home))));
    const differing = await this.differing(context, there, live);
    const missing = items.filter((item) => !there.includes(item));
    const gone = await new Inventory(context.stateDir).obsolete(placed);
    const [created, updated, deleted] = [missing.length, differing.length, gone.length];
    const creations = new Map(missing.map((object) => [changeOf('create', object, home), object] as const));
    const changes = [...gone.map((each) => removalOf(each, home)), ...creations.keys(), ...differing];
    const ready = [...live.values()].every((object) => readinessOf(object).state === 'ready');
    return {
      changed: created + updated + deleted > 0,
      created,
      updated,
      deleted,
      digest,
      ready,
      identity: context.fingerprint(JSON.stringify([digest, missing.map(nameOf), differing, gone])),
      text: textOf(changes, creations),
      changes,
    };
  }

  async planned(context: ExecutorContext): Promise<string> {
    return (await this.rendered(context)).digest;
  }

  async apply(context: ExecutorContext): Promise<void> {
    const { items, placed } = await this.rendered(context);
    const inventory = new Inventory(context.stateDir);
    const gone = await inventory.obsolete(placed);
    // Where all objects are there already, so is their namespace.
    if (context.step.outputOf('plan')?.['created'] !== 0) await this.kubectl.ensureNamespace(context);
    // Old and new together first: whatever a crash leaves can be found again.
    await inventory.write([...gone, ...placed]);
    const ground = items.filter(({ kind }) => isGround(kind));
    await this.put(context, ground);
    const kinds = ground.filter(({ kind }) => kind === 'CustomResourceDefinition');
    if (kinds.length > 0) {
      const args = ['wait', '--for=condition=established', '--timeout=60s', '-f', '-'];
      await this.kubectl.run(context, args, 'apply_failed', { stdin: documents(kinds) });
    }
    await this.put(
      context,
      items.filter(({ kind }) => !isGround(kind)),
    );
    await this.kubectl.remove(context, gone.reverse(), 'apply_failed');
    await inventory.write(placed);
  }

  async settle(context: ExecutorContext): Promise<void> {
    const { items } = await this.rendered(context);
    const workloads = items.filter(isWorkload);
    if (workloads.length === 0) return;
    const seconds = this.waitSeconds(workloads);
    const from = performance.now();
    const troubles = new Troubles(this.kubectl, context);
    for (let wait = LOOK_MS; ; wait = Math.min(wait * 1.5, LOOK_MAX_MS)) {
      const live = [...(await this.kubectl.live(context, workloads, 'apply_failed')).values()];
      const not = live.map((object) => ({ object, ...readinessOf(object) })).filter(({ state }) => state !== 'ready');
      const failed = not.filter(({ state }) => state === 'failed');
      const late = performance.now() - from > seconds * 1000;
      if (failed.length === 0 && not.length === 0 && live.length === workloads.length) break;
      const bad = failed.length > 0 ? failed : not;
      if (failed.length > 0 || late || troubles.isDue) await troubles.look(bad.map(({ object }) => object));
      const reasons = bad.map(({ object, why }) => `${nameOf(object)}: ${why}`);
      const detail = [...reasons, ...troubles.seen].join('; ').slice(0, 2_000);
      if (failed.length > 0) {
        await this.afterwards(context, live);
        throw new ImsError('apply_failed', detail);
      }
      if (late) throw new ImsError('apply_failed', `not ready after ${seconds} s: ${detail || 'objects are gone'}`);
      await sleep(wait, context.step.signal);
    }
    await this.afterwards(context, workloads);
  }

  async observe(context: ExecutorContext): Promise<Observation> {
    const { items } = await this.rendered(context);
    return { outputs: { namespace: context.namespace, objects: items.map(nameOf) }, sensitive: [] };
  }

  async health(context: ExecutorContext): Promise<HealthReport> {
    const { items } = await this.rendered(context);
    return healthOf(items, await this.live(context, items), context.namespace);
  }

  async planDestroy(context: ExecutorContext): Promise<RemovalPlan> {
    const placed = await new Inventory(context.stateDir).read();
    const changes = placed.map((each) => removalOf(each, context.namespace));
    return {
      changed: placed.length > 0,
      deleted: placed.length,
      identity: JSON.stringify(placed),
      text: textOf(changes),
      changes,
    };
  }

  async destroy(context: ExecutorContext): Promise<Removal> {
    const inventory = new Inventory(context.stateDir);
    const placed = await inventory.read();
    const kindOf = ({ reference }: Placed): string => reference.split('.')[0] ?? '';
    const ground = placed.filter((each) => isGround(kindOf(each)));
    const rest = placed.filter((each) => !isGround(kindOf(each)));
    const removed = await this.kubectl.remove(context, rest.reverse(), 'destroy_failed');
    // Objects of a kind that is gone itself could not even be asked for after a crash in between.
    await inventory.write(ground);
    removed.push(...(await this.kubectl.remove(context, ground.reverse(), 'destroy_failed')));
    const left = await this.kubectl.removeEmptyNamespace(context);
    await inventory.forget();
    return { deleted: removed.length, left };
  }

  /** The objects of the artifact with their templates filled: in texts only, after parsing, so a value cannot change the structure. */
  protected async objectsOf({ artifactDir, render }: ExecutorContext): Promise<KubeObject[]> {
    const names = (await readdir(artifactDir, { recursive: true })).filter((name) => /\.ya?ml$/.test(name)).sort();
    const objects: KubeObject[] = [];
    for (const name of names) {
      const text = await readFile(join(artifactDir, name), 'utf8');
      for (const object of parseManifests(text, name))
        objects.push(render(object as JsonValue) as unknown as KubeObject);
    }
    return objects;
  }

  /** How long the objects may take until they are ready. */
  protected waitSeconds(_workloads: readonly KubeObject[]): number {
    return this.config.READY_SECONDS;
  }

  /** Called when a wait has ended, well or badly. */
  protected afterwards(_context: ExecutorContext, _workloads: readonly KubeObject[]): Promise<void> {
    return Promise.resolve();
  }

  protected async rendered({ fingerprint, namespace, workDir }: ExecutorContext): Promise<Rendered> {
    const text = await readFile(join(workDir, RENDERED), 'utf8');
    const items = JSON.parse(text) as KubeObject[];
    return { items, placed: items.map((item) => placeOf(item, namespace)), digest: fingerprint(text) };
  }

  /** What of the objects is there. Objects of a kind that they define themselves cannot be asked for before it is there. */
  protected async live(context: ExecutorContext, items: readonly KubeObject[]): Promise<Map<string, KubeObject>> {
    const kinds = items.filter(({ kind }) => kind === 'CustomResourceDefinition');
    if (kinds.length === 0) return this.kubectl.live(context, items, 'plan_failed');
    const known = await this.kubectl.live(context, kinds, 'plan_failed');
    const missing = kinds
      .filter((each) => !known.has(identityOf(placeOf(each, context.namespace))))
      .map((each) => each['spec'] as { group: string; names: { kind: string } })
      .map(({ group, names }) => `${group}/${names.kind}`);
    const rest = items.filter(
      ({ apiVersion, kind }) =>
        kind !== 'CustomResourceDefinition' && !missing.includes(`${apiVersion.split('/')[0] ?? ''}/${kind}`),
    );
    return new Map([...known, ...(await this.kubectl.live(context, rest, 'plan_failed'))]);
  }

  /**
   * The objects that would be changed, each value with who has set it. The cluster says itself what it would make of
   * them: its defaults, and fields that are others', are no difference. They are there: the cluster cannot be asked
   * about what has no namespace yet.
   */
  private async differing(
    context: ExecutorContext,
    items: readonly KubeObject[],
    live: ReadonlyMap<string, KubeObject>,
  ): Promise<Change[]> {
    const merged = await this.kubectl.merged(context, items, FIELD_MANAGER);
    return items.flatMap((item) => {
      const identity = identityOf(placeOf(item, context.namespace));
      const [before, after] = [live.get(identity), merged.get(identity)];
      const fields = before && after ? differences(before, after, FIELD_MANAGER) : [];
      return fields.length === 0 ? [] : [changeOf('update', item, context.namespace, fields)];
    });
  }

  private async put(context: ExecutorContext, items: readonly KubeObject[]): Promise<void> {
    for (const [namespace, members] of byNamespace(items, context.namespace)) {
      const args = ['apply', '--server-side', '--force-conflicts', AS_US, '-f', '-'];
      const { stdout } = await this.kubectl.run(context, args, 'apply_failed', {
        namespace,
        stdin: documents(members),
      });
      for (const line of stdout.split('\n').filter(Boolean)) context.step.log('info', line);
    }
  }
}

/** The object with its images as the install's registry has them; `external_reference` where one would come from outside. */
export function fromHere(object: KubeObject, { image: { host }, images }: ExecutorContext): KubeObject {
  return mapImages(object, (name, place) => {
    const here = images.get(name) ?? name;
    if (here.startsWith(`${host}/`)) return here;
    throw new ImsError('external_reference', `${nameOf(object)} ${place}: ${name}`);
  });
}

function labelled(object: KubeObject, { installId, step }: ExecutorContext): KubeObject {
  if (typeof object.metadata?.name !== 'string') {
    throw new ImsError('plan_failed', `a ${object.kind} has no name`);
  }
  const labels = {
    ...object.metadata.labels,
    [MANAGED_BY]: 'vendor-cloud',
    [INSTALL_LABEL]: installId,
    [COMPONENT_LABEL]: step.statement.component.name,
  };
  return { ...object, metadata: { ...object.metadata, labels } };
}
