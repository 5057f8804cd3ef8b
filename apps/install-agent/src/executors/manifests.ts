import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { writePrivate } from '#agent-kit';
import { ImsError, type ErrorCode, type JsonValue } from '#contracts';
import { ARTIFACT_FORM, digestOf } from '#oci';
import { type InstallAgentConfig } from '../config.js';
import { type Executor, type ExecutorContext, type Observation, type Plan } from '../executor.js';
import { type KubeObject, type Kubectl } from './kubectl.js';

/** JSON documents in a YAML stream: kubectl validates each by its own schema, which it cannot for a `List`. */
const RENDERED = 'rendered.yaml';
const INVENTORY = 'inventory.json';
const MANAGER = '--field-manager=vendor-cloud';
const WORKLOADS = ['Deployment', 'StatefulSet', 'DaemonSet'];
const MANAGED_BY = 'app.kubernetes.io/managed-by';

/** What is deployed of a component: enough to find each object again. */
interface Inventory {
  readonly namespace: string;
  /** `Kind.version.group/name`, as kubectl takes it. */
  readonly objects: readonly string[];
}

const referenceOf = ({ apiVersion, kind, metadata }: KubeObject): string => {
  const [version = '', group] = apiVersion.split('/').reverse();
  return `${kind}.${version}.${group ?? ''}/${metadata.name}`;
};

/** Plain manifests: rendered, compared, applied server-side, and what is no longer in them removed. */
export class ManifestsExecutor implements Executor {
  readonly layer: Executor['layer'] = {
    mediaType: ARTIFACT_FORM.kubernetesManifests.layerMediaType,
    form: 'tar+gzip',
  };

  constructor(
    protected readonly config: InstallAgentConfig,
    protected readonly kubectl: Kubectl,
  ) {}

  async prepare(context: ExecutorContext): Promise<void> {
    this.kubectl.environment(context);
    const objects = (await this.objectsOf(context)).map((object) => labelled(object, context));
    await writePrivate(
      join(context.workDir, RENDERED),
      objects.map((object) => `---\n${JSON.stringify(object)}\n`).join(''),
    );
  }

  async plan(context: ExecutorContext): Promise<Plan> {
    const { items, digest } = await this.rendered(context);
    const gone = await this.obsolete(context, items);
    if (!(await this.kubectl.get(context, 'namespace', context.namespace, 'plan_failed'))) {
      return { changed: true, created: items.length, updated: 0, deleted: gone.length, digest };
    }
    const file = join(context.workDir, RENDERED);
    const diff = await this.kubectl.run(
      context,
      ['diff', '--server-side', '--force-conflicts', MANAGER, '-f', file],
      'plan_failed',
      {
        good: [1],
      },
    );
    const there = await this.kubectl.run(
      context,
      ['get', '-f', file, '--ignore-not-found', '-o', 'name'],
      'plan_failed',
    );
    const count = (text: string, line: RegExp): number => text.split('\n').filter((each) => line.test(each)).length;
    const created = items.length - count(there.stdout, /\S/);
    const updated = Math.max(0, count(diff.stdout, /^diff /) - created);
    return { changed: created + updated + gone.length > 0, created, updated, deleted: gone.length, digest };
  }

  async apply(context: ExecutorContext): Promise<void> {
    const { items } = await this.rendered(context);
    const gone = await this.obsolete(context, items);
    await this.ensureNamespace(context);
    // Old and new together first: whatever a crash leaves can be found again.
    await this.keepInventory(context, [...items.map(referenceOf), ...gone]);
    await this.kubectl.run(
      context,
      ['apply', '--server-side', '--force-conflicts', MANAGER, '-f', join(context.workDir, RENDERED)],
      'apply_failed',
    );
    await this.remove(context, gone, 'apply_failed');
    await this.keepInventory(context, items.map(referenceOf));
    for (const object of items) await this.untilReady(context, object);
  }

  async observe(context: ExecutorContext): Promise<Observation> {
    const { items } = await this.rendered(context);
    const objects = items.map(({ kind, metadata }) => `${kind}/${metadata.name}`);
    return { outputs: { namespace: context.namespace, objects }, sensitive: [] };
  }

  async destroy(context: ExecutorContext): Promise<Plan> {
    const { objects } = await this.inventory(context);
    await this.remove(context, objects, 'destroy_failed');
    await this.removeEmptyNamespace(context);
    return {
      changed: objects.length > 0,
      created: 0,
      updated: 0,
      deleted: objects.length,
      digest: digestOf(Buffer.from(objects.join())),
    };
  }

  /** The objects of the artifact with their templates filled: in texts only, after parsing, so a value cannot change the structure. */
  protected async objectsOf({ artifactDir, render }: ExecutorContext): Promise<KubeObject[]> {
    const names = (await readdir(artifactDir, { recursive: true })).filter((name) => /\.ya?ml$/.test(name)).sort();
    const objects: KubeObject[] = [];
    for (const name of names) {
      for (const document of parseAllDocuments(await readFile(join(artifactDir, name), 'utf8'))) {
        const object = document.toJS() as JsonValue;
        if (object !== null) objects.push(render(object) as unknown as KubeObject);
      }
    }
    return objects;
  }

  /** Waits until the object does what it is for. */
  protected async untilReady(context: ExecutorContext, { kind, metadata }: KubeObject): Promise<void> {
    const seconds = this.config.READY_SECONDS;
    const limit = { timeoutMs: (seconds + 10) * 1000 };
    if (WORKLOADS.includes(kind)) {
      await this.kubectl.run(
        context,
        ['rollout', 'status', `${kind}/${metadata.name}`, `--timeout=${seconds}s`],
        'apply_failed',
        limit,
      );
    }
    if (kind === 'Job') {
      await this.kubectl.run(
        context,
        ['wait', '--for=condition=complete', `job/${metadata.name}`, `--timeout=${seconds}s`],
        'apply_failed',
        limit,
      );
    }
  }

  protected async rendered({ workDir }: ExecutorContext): Promise<{ items: KubeObject[]; digest: string }> {
    const text = await readFile(join(workDir, RENDERED), 'utf8');
    const items = text
      .split('---\n')
      .filter((part) => part.trim() !== '')
      .map((part) => JSON.parse(part) as KubeObject);
    return { items, digest: digestOf(Buffer.from(text)) };
  }

  private async obsolete(context: ExecutorContext, items: readonly KubeObject[]): Promise<string[]> {
    const wanted = new Set(items.map(referenceOf));
    return (await this.inventory(context)).objects.filter((reference) => !wanted.has(reference));
  }

  private async inventory({ stateDir, namespace }: ExecutorContext): Promise<Inventory> {
    const text = await readFile(join(stateDir, INVENTORY), 'utf8').catch(() => undefined);
    return text === undefined ? { namespace, objects: [] } : (JSON.parse(text) as Inventory);
  }

  private async keepInventory({ stateDir, namespace }: ExecutorContext, objects: readonly string[]): Promise<void> {
    await writePrivate(join(stateDir, INVENTORY), JSON.stringify({ namespace, objects } satisfies Inventory));
  }

  private async remove(context: ExecutorContext, references: readonly string[], code: ErrorCode): Promise<void> {
    if (references.length === 0) return;
    await this.kubectl.run(context, ['delete', '--ignore-not-found', '--wait=true', ...references], code);
  }

  private async ensureNamespace(context: ExecutorContext): Promise<void> {
    if (await this.kubectl.get(context, 'namespace', context.namespace, 'apply_failed')) return;
    const namespace = {
      apiVersion: 'v1',
      kind: 'Namespace',
      metadata: {
        name: context.namespace,
        labels: { [MANAGED_BY]: 'vendor-cloud', 'vendor-cloud.dev/install': context.installId },
      },
    };
    await this.kubectl.run(context, ['apply', '--server-side', MANAGER, '-f', '-'], 'apply_failed', {
      stdin: JSON.stringify(namespace),
    });
  }

  /** The namespace was made for the app: it goes with the last component, and only when this install had made it. */
  private async removeEmptyNamespace(context: ExecutorContext): Promise<void> {
    const found = await this.kubectl.get(context, 'namespace', context.namespace, 'destroy_failed');
    if (found?.metadata.labels?.['vendor-cloud.dev/install'] !== context.installId) return;
    const selector = `vendor-cloud.dev/install=${context.installId}`;
    const kinds = 'deployments,statefulsets,daemonsets,jobs,services,configmaps,secrets,ingresses';
    const { stdout } = await this.kubectl.run(
      context,
      ['get', kinds, '-l', selector, '-o', 'name', '--ignore-not-found'],
      'destroy_failed',
    );
    if (stdout.trim() !== '') return;
    await this.kubectl.run(context, ['delete', 'namespace', context.namespace, '--ignore-not-found'], 'destroy_failed');
  }
}

function labelled(object: KubeObject, { installId, step }: ExecutorContext): KubeObject {
  if (typeof object.metadata?.name !== 'string') {
    throw new ImsError('plan_failed', `a ${object.kind} has no name`);
  }
  const labels = {
    ...object.metadata.labels,
    [MANAGED_BY]: 'vendor-cloud',
    'vendor-cloud.dev/install': installId,
    'vendor-cloud.dev/component': step.statement.component.name,
  };
  return { ...object, metadata: { ...object.metadata, labels } };
}
