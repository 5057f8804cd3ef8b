import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writePrivate } from '#agent-kit';
import { ImsError, type ErrorCode, type FieldChange } from '#contracts';
import { type Change } from '#domain';
import { ARTIFACT_FORM } from '#oci';
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
import { changeOf, differences, removalOf, textOf } from './differences.js';
import { Inventory } from './inventory.js';
import { MANAGED_BY, NAMESPACE_NEEDS, OBJECT_NEEDS, type Kubectl } from './kubectl.js';
import { healthOf, isWorkload } from './readiness.js';
import { Troubles } from './troubles.js';
import { renamedImages } from './helm-images.js';
import { isKept, partsOf, same, type Annotated, type Release } from './helm-release.js';
import { fromHere } from './manifests.js';
import { identityOf, nameOf, placeOf, type KubeObject } from './objects.js';

export const HELM_NEEDS: Needs = {
  programs: ['helm', 'kubectl'],
  cluster: [
    ...NAMESPACE_NEEDS,
    { ...OBJECT_NEEDS, verbs: [...OBJECT_NEEDS.verbs, 'update'], why: 'kinds that the chart and its hooks have' },
    {
      resources: ['secrets'],
      verbs: ['get', 'list', 'create', 'update', 'patch', 'delete', 'deletecollection'],
      why: "helm's records of the release, in the component's namespace",
    },
  ],
  cloud: 'nothing',
  host: [],
};

const VALUES = 'values.json';
const PLANNED = 'planned.json';
const REVISION = 'revision';
const REASONS_MAX = 50;
const RUNS = new Set(['deployed', 'superseded']);
/** Who sets the fields of a release. */
const HELM_MANAGER = 'helm';
/** What an upgrade that was cut leaves behind; helm refuses the next one because of it. */
const PENDING = 'pending-install,pending-upgrade,pending-rollback';

/**
 * A chart as a Helm release named like the component. The plan is the difference between what the release's record and
 * the cluster have and what helm would make of chart and values, hooks included, asked from the cluster (a dry run), so
 * that charts that look around (`lookup`, `.Capabilities`) do not seem to change each time. Helm 4: fields that others
 * have changed are taken back, as for manifests.
 */
export class HelmExecutor implements Executor {
  readonly layer = { mediaType: ARTIFACT_FORM.helmChart.layerMediaType, form: 'tar+gzip' } as const;

  constructor(
    private readonly config: InstallAgentConfig,
    private readonly kubectl: Kubectl,
  ) {}

  destroyNeedsArtifact(): boolean {
    return false;
  }

  async prepare(context: ExecutorContext): Promise<void> {
    this.kubectl.environment(context);
    const values = context.render(context.step.statement.spec.values ?? {});
    await writePrivate(join(context.workDir, VALUES), JSON.stringify(values));
  }

  async plan(context: ExecutorContext): Promise<Plan> {
    const { workDir } = context;
    const release = await this.release(context, 'plan_failed');
    const pending = release?.info.status.startsWith('pending-') === true;
    const next = pending ? await this.template(context) : await this.dryRun(context);
    const wanted = partsOf(next, context);
    for (const text of wanted.values()) fromHere(JSON.parse(text) as KubeObject, context);
    const recorded = release ? partsOf(release, context) : new Map<string, string>();
    const live = Object.values(release?.info.resources ?? {}).flatMap((objects) => objects.map(nameOf));
    // In the record and not in the cluster: somebody has removed it. Hooks come and go.
    const there = (part: string): boolean =>
      recorded.has(part) && (part.startsWith('hook ') || live.includes(part.split(' ').at(-1) ?? ''));
    const missing = [...wanted].filter(([part]) => !there(part));
    const kept = [...wanted].filter(([part]) => there(part));
    const moved = pending ? new Map<string, readonly FieldChange[]>() : await this.differing(context, kept);
    const differing = kept.filter(([part, text]) => recorded.get(part) !== text || moved.has(part));
    const gone = [...recorded].filter(([part]) => !wanted.has(part));
    const [created, updated, deleted] = [missing.length, differing.length, gone.length];
    await writePrivate(join(workDir, PLANNED), JSON.stringify([...wanted]));
    await writePrivate(join(workDir, REVISION), String(release?.version ?? 0));
    const runs = release !== undefined && RUNS.has(release.info.status);
    const changed = created + updated + deleted > 0 || !runs;
    const digest = await this.planned(context);
    const before = differing.map(([part]) => [part, recorded.get(part), moved.get(part) ?? null]);
    const at = (action: Change['action'], part: string, text: string, fields?: readonly FieldChange[]): Change => {
      const change = changeOf(action, JSON.parse(text) as KubeObject, context.namespace, fields);
      return part.startsWith('hook ') ? { ...change, resource: `hook ${change.resource}` } : change;
    };
    const creations = new Map(
      missing.map(([part, text]) => [at('create', part, text), JSON.parse(text) as KubeObject] as const),
    );
    const changes = [
      ...gone.map(([part, text]) => at('delete', part, text)),
      ...creations.keys(),
      ...differing.map(([part, text]) => {
        const old = JSON.parse(recorded.get(part) ?? '{}') as KubeObject;
        return at('update', part, text, moved.get(part) ?? differences(old, JSON.parse(text) as KubeObject));
      }),
    ];
    return {
      changed,
      created,
      updated,
      deleted,
      digest,
      ready: true,
      identity: context.fingerprint(
        JSON.stringify([
          digest,
          release?.info.status,
          missing.map(([part]) => part),
          before,
          gone.map(([part]) => part),
        ]),
      ),
      text: [
        ...(release === undefined || runs ? [] : [`the last upgrade of the release is ${release.info.status}`]),
        textOf(changes, creations),
      ].join('\n'),
      changes,
    };
  }

  /**
   * The third side of the difference: what the cluster has, beside the record and the chart. Each value that the upgrade
   * would set to another, by part; what others have set beside the chart's fields is none of them.
   */
  private async differing(
    context: ExecutorContext,
    parts: readonly (readonly [string, string])[],
  ): Promise<Map<string, readonly FieldChange[]>> {
    const objects = parts
      .filter(([part]) => !part.startsWith('hook '))
      .map(([part, text]) => ({ part, object: this.asHelmSends(JSON.parse(text) as Annotated, context) }));
    const sent = objects.map(({ object }) => object);
    const live = await this.kubectl.live(context, sent, 'plan_failed');
    const merged = await this.kubectl.merged(context, sent, HELM_MANAGER);
    return new Map(
      objects.flatMap(({ part, object }) => {
        const identity = identityOf(placeOf(object, context.namespace));
        const [before, after] = [live.get(identity), merged.get(identity)];
        const fields = before && after ? differences(before, after, HELM_MANAGER) : [];
        return fields.length === 0 ? [] : [[part, fields] as const];
      }),
    );
  }

  /** Helm marks what it sends as the release's. */
  private asHelmSends(object: Annotated, context: ExecutorContext): Annotated {
    const { labels, annotations } = object.metadata;
    return {
      ...object,
      metadata: {
        ...object.metadata,
        labels: { ...labels, [MANAGED_BY]: 'Helm' },
        annotations: {
          ...annotations,
          'meta.helm.sh/release-name': this.nameOf(context),
          'meta.helm.sh/release-namespace': context.namespace,
        },
      },
    };
  }

  async planned({ fingerprint, image, workDir }: ExecutorContext): Promise<string> {
    const [values, planned] = await Promise.all([VALUES, PLANNED].map((name) => readFile(join(workDir, name), 'utf8')));
    return fingerprint(JSON.stringify([image.digest, values, planned]));
  }

  async apply(context: ExecutorContext): Promise<void> {
    const { step, workDir } = context;
    const planned = new Map(JSON.parse(await readFile(join(workDir, PLANNED), 'utf8')) as [string, string][]);
    if (step.crashed) {
      const release = await this.release(context, 'apply_failed');
      if (release?.info.status === 'deployed' && same(partsOf(release, context), planned)) {
        await writePrivate(join(workDir, REVISION), String(release.version));
        return;
      }
    }
    await this.kubectl.ensureNamespace(context);
    await this.removePending(context);
    await this.keepHooks(context, planned);
    const { READY_SECONDS: seconds } = this.config;
    const troubles = new Troubles(this.kubectl, context);
    const workloads = [...planned.values()].map((object) => JSON.parse(object) as KubeObject).filter(isWorkload);
    const upgrade = this.helm(
      context,
      [
        ...['upgrade', '--install', this.nameOf(context), await this.chartOf(context), '-o', 'json'],
        ...['--values', join(workDir, VALUES), '--server-side=true', '--force-conflicts'],
        ...['--wait', '--wait-for-jobs', '--rollback-on-failure', '--timeout', `${seconds}s`],
        ...(await renamedImages(context)).args,
      ],
      'apply_failed',
    );
    const text = await troubles.during(upgrade, workloads).catch((error: unknown) => {
      if (!(error instanceof ImsError) || error.code !== 'apply_failed') throw error;
      throw new ImsError('apply_failed', [error.detail, ...troubles.seen].join('; ').slice(0, 2_000));
    });
    await writePrivate(join(workDir, REVISION), String((JSON.parse(text) as Release).version));
  }

  /** Helm has waited. */
  settle(): Promise<void> {
    return Promise.resolve();
  }

  async observe(context: ExecutorContext): Promise<Observation> {
    const revision = Number(await readFile(join(context.workDir, REVISION), 'utf8'));
    return { outputs: { release: this.nameOf(context), namespace: context.namespace, revision }, sensitive: [] };
  }

  async health(context: ExecutorContext): Promise<HealthReport> {
    const release = await this.release(context, 'plan_failed');
    if (!release) return { health: 'missing', reasons: ['there is no release'] };
    const parts = [...partsOf(release, context)].filter(([part]) => !part.startsWith('hook '));
    const objects = parts.map(([, text]) => JSON.parse(text) as KubeObject);
    const found = healthOf(objects, await this.kubectl.live(context, objects, 'plan_failed'), context.namespace);
    const { status } = release.info;
    if (RUNS.has(status)) return found;
    const health = found.health === 'missing' ? 'missing' : status.startsWith('pending-') ? 'progressing' : 'degraded';
    return { health, reasons: [`the release is ${status}`, ...found.reasons].slice(0, REASONS_MAX) };
  }

  async planDestroy(context: ExecutorContext): Promise<RemovalPlan> {
    const release = await this.release(context, 'destroy_failed');
    const parts = release ? [...partsOf(release, context)] : [];
    const left = await new Inventory(context.stateDir).read();
    const changes = [
      ...parts
        .filter(([part]) => !part.startsWith('hook '))
        .map(([, text]) => changeOf('delete', JSON.parse(text) as KubeObject, context.namespace)),
      ...left.map((each) => removalOf(each, context.namespace)),
    ];
    return {
      changed: release !== undefined || left.length > 0,
      deleted: parts.filter(([part]) => !part.startsWith('hook ')).length,
      identity: context.fingerprint(JSON.stringify([release?.info.status ?? '', parts, left])),
      text: [
        release ? `uninstall release ${this.nameOf(context)}` : 'there is no release',
        ...(changes.length === 0 ? [] : [textOf(changes)]),
      ].join('\n'),
      changes,
    };
  }

  async destroy(context: ExecutorContext): Promise<Removal> {
    const planned = context.step.outputOf('plan');
    if (planned?.['changed'] !== false) {
      const how = [
        '--cascade=foreground',
        '--wait',
        '--ignore-not-found',
        '--timeout',
        `${this.config.READY_SECONDS}s`,
      ];
      await this.helm(context, ['uninstall', this.nameOf(context), ...how], 'destroy_failed');
    }
    // Helm leaves what hooks have made.
    const inventory = new Inventory(context.stateDir);
    await this.kubectl.remove(context, await inventory.read(), 'destroy_failed');
    const left = await this.kubectl.removeEmptyNamespace(context);
    await inventory.forget();
    return { deleted: Number(planned?.['deleted'] ?? 0), left };
  }

  private nameOf({ step }: ExecutorContext): string {
    return step.statement.component.name;
  }

  /** The one folder in the archive. */
  private async chartOf({ artifactDir }: ExecutorContext): Promise<string> {
    const [folder] = await readdir(artifactDir);
    if (folder === undefined) throw new ImsError('plan_failed', 'the chart is empty');
    return join(artifactDir, folder);
  }

  /** The newest revision, whatever its state. */
  private async release(context: ExecutorContext, code: ErrorCode): Promise<Release | undefined> {
    const args = ['status', this.nameOf(context), '-o', 'json'];
    const text = await this.helm(context, args, code, /release: not found/);
    return text === undefined ? undefined : (JSON.parse(text) as Release);
  }

  private async dryRun(context: ExecutorContext): Promise<Release> {
    const args = ['upgrade', '--install', this.nameOf(context), await this.chartOf(context), '--dry-run=server'];
    const { args: renamed } = await renamedImages(context);
    const values = ['--values', join(context.workDir, VALUES), '-o', 'json'];
    return JSON.parse(await this.helm(context, [...args, ...values, ...renamed], 'plan_failed')) as Release;
  }

  /** Without the cluster: helm makes no dry run beside a pending revision. */
  private async template(context: ExecutorContext): Promise<Release> {
    const { args: renamed } = await renamedImages(context);
    const values = ['--values', join(context.workDir, VALUES), ...renamed];
    const manifest = await this.helm(
      context,
      ['template', this.nameOf(context), await this.chartOf(context), ...values],
      'plan_failed',
    );
    return { info: { status: 'planned' }, version: 0, manifest };
  }

  /**
   * Takes back the record of a revision that was cut. What it had made so far is labelled as the release's, so the next
   * upgrade takes it over; a rollback or an uninstall in between would stop what runs.
   */
  private async removePending(context: ExecutorContext): Promise<void> {
    const selector = `owner=helm,name=${this.nameOf(context)},status in (${PENDING})`;
    await this.kubectl.run(context, ['delete', 'secrets', '-l', selector, '--ignore-not-found'], 'apply_failed');
  }

  private async keepHooks(context: ExecutorContext, planned: ReadonlyMap<string, string>): Promise<void> {
    const inventory = new Inventory(context.stateDir);
    const hooks = [...planned]
      .filter(([part]) => part.startsWith('hook '))
      .map(([, text]) => JSON.parse(text) as Annotated)
      .filter((object) => !isKept(object))
      .map((object) => placeOf(object, context.namespace));
    await inventory.write([...(await inventory.obsolete(hooks)), ...hooks]);
  }

  private helm(context: ExecutorContext, args: readonly string[], code: ErrorCode): Promise<string>;
  private helm(
    context: ExecutorContext,
    args: readonly string[],
    code: ErrorCode,
    missing: RegExp,
  ): Promise<string | undefined>;
  private async helm(
    context: ExecutorContext,
    args: readonly string[],
    code: ErrorCode,
    missing?: RegExp,
  ): Promise<string | undefined> {
    const said: string[] = [];
    const home = join(context.workDir, 'helm');
    const { exitCode, stdout = '' } = await context.step.run({
      command: this.config.HELM_BIN,
      args: ['--namespace', context.namespace, ...args],
      env: {
        ...this.kubectl.environment(context),
        HELM_CACHE_HOME: home,
        HELM_CONFIG_HOME: home,
        HELM_DATA_HOME: home,
        ...(await renamedImages(context)).env,
      },
      // Twice: a failed upgrade is rolled back, within the same time again.
      timeoutMs: (2 * this.config.READY_SECONDS + 30) * 1000,
      maxOutputBytes: 32 * 2 ** 20,
      onLine: (line) => {
        said.push(line);
        return missing?.test(line) === true ? undefined : line;
      },
    });
    if (exitCode === 0) return stdout;
    if (missing && said.some((line) => missing.test(line))) return undefined;
    throw new ImsError(
      code,
      said
        .filter((line) => !line.startsWith('level='))
        .slice(-5)
        .join('; ')
        .replace(/^Error: /, '')
        .slice(0, 2_000) || `helm ${args[0] ?? ''} ended with ${exitCode}`,
    );
  }
}
