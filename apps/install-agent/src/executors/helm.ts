import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { writePrivate } from '#agent-kit';
import { ImsError, type ErrorCode } from '#contracts';
import { ARTIFACT_FORM, digestOf } from '#oci';
import { type InstallAgentConfig } from '../config.js';
import { type Executor, type ExecutorContext, type Observation, type Plan } from '../executor.js';
import { type Kubectl } from './kubectl.js';

interface Release {
  readonly name: string;
  readonly status: string;
  readonly revision: string | number;
}
const VALUES = 'values.json';

/** A chart as a Helm release named like the component. The plan is the difference between what runs and what would. */
export class HelmExecutor implements Executor {
  readonly layer = { mediaType: ARTIFACT_FORM.helmChart.layerMediaType, form: 'tar+gzip' } as const;

  constructor(
    private readonly config: InstallAgentConfig,
    private readonly kubectl: Kubectl,
  ) {}

  async prepare(context: ExecutorContext): Promise<void> {
    this.kubectl.environment(context);
    const values = context.render(context.step.statement.spec.values ?? {});
    await writePrivate(join(context.workDir, VALUES), JSON.stringify(values));
  }

  async plan(context: ExecutorContext): Promise<Plan> {
    const args = [
      'template',
      this.nameOf(context),
      await this.chartOf(context),
      '--no-hooks',
      '--values',
      join(context.workDir, VALUES),
    ];
    const wanted = objects(await this.helm(context, args, 'plan_failed'));
    const release = await this.release(context, 'plan_failed');
    const live = release
      ? objects(await this.helm(context, ['get', 'manifest', release.name], 'plan_failed'))
      : new Map<string, string>();
    const created = [...wanted.keys()].filter((key) => !live.has(key)).length;
    const updated = [...wanted].filter(([key, text]) => live.has(key) && live.get(key) !== text).length;
    const deleted = [...live.keys()].filter((key) => !wanted.has(key)).length;
    const changed = created + updated + deleted > 0 || release?.status !== 'deployed';
    return { changed, created, updated, deleted, digest: digestOf(Buffer.from(JSON.stringify([...wanted]))) };
  }

  async apply(context: ExecutorContext): Promise<void> {
    const name = this.nameOf(context);
    const release = await this.release(context, 'apply_failed');
    // An upgrade that was cut blocks the next one until it is taken back.
    if (release?.status === 'pending-install') await this.helm(context, ['uninstall', name], 'apply_failed');
    else if (release?.status.startsWith('pending-') === true)
      await this.helm(context, ['rollback', name], 'apply_failed');
    const wait = ['--wait', '--rollback-on-failure', '--timeout', `${this.config.READY_SECONDS}s`];
    const values = ['--values', join(context.workDir, VALUES)];
    await this.helm(
      context,
      ['upgrade', '--install', name, await this.chartOf(context), '--create-namespace', ...values, ...wait],
      'apply_failed',
    );
  }

  async observe(context: ExecutorContext): Promise<Observation> {
    const release = await this.release(context, 'apply_failed');
    const outputs = {
      release: this.nameOf(context),
      namespace: context.namespace,
      revision: Number(release?.revision ?? 0),
    };
    return { outputs, sensitive: [] };
  }

  async destroy(context: ExecutorContext): Promise<Plan> {
    const release = await this.release(context, 'destroy_failed');
    if (release)
      await this.helm(
        context,
        ['uninstall', release.name, '--wait', '--timeout', `${this.config.READY_SECONDS}s`],
        'destroy_failed',
      );
    return {
      changed: release !== undefined,
      created: 0,
      updated: 0,
      deleted: release ? 1 : 0,
      digest: digestOf(Buffer.from('uninstall')),
    };
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

  private async release(context: ExecutorContext, code: ErrorCode): Promise<Release | undefined> {
    const name = this.nameOf(context);
    const text = await this.helm(context, ['list', '--filter', `^${name}$`, '-o', 'json'], code);
    return (JSON.parse(text || '[]') as Release[])[0];
  }

  private async helm(context: ExecutorContext, args: readonly string[], code: ErrorCode): Promise<string> {
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
      },
      timeoutMs: (this.config.READY_SECONDS + 30) * 1000,
      maxOutputBytes: 32 * 2 ** 20,
      onLine: (line) => {
        said.push(line);
        return line;
      },
    });
    if (exitCode === 0) return stdout;
    throw new ImsError(
      code,
      said.slice(-5).join('; ').slice(0, 2_000) || `helm ${args[0] ?? ''} ended with ${exitCode}`,
    );
  }
}

/** The objects of a rendered manifest, by kind and name, each as normalised text. */
function objects(manifest: string): Map<string, string> {
  return new Map(
    parseAllDocuments(manifest).flatMap((document) => {
      const object = document.toJS() as { kind?: string; metadata?: { name?: string } } | null;
      return object ? [[`${object.kind ?? ''}/${object.metadata?.name ?? ''}`, JSON.stringify(object)] as const] : [];
    }),
  );
}
