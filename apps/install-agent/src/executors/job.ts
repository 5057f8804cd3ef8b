import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writePrivate } from '#agent-kit';
import { type JsonValue } from '#contracts';
import { ARTIFACT_FORM } from '#oci';
import { type Executor, type ExecutorContext, type Needs, type Plan } from '../executor.js';
import { changeOf, removalOf, textOf } from './differences.js';
import { Inventory } from './inventory.js';
import { assertNotOfAnotherInstall, NAMESPACE_NEEDS, OBJECT_NEEDS } from './kubectl.js';
import { type KubeObject } from './objects.js';
import { ManifestsExecutor } from './manifests.js';
import { readinessOf } from './readiness.js';

export const JOB_NEEDS: Needs = {
  programs: ['kubectl'],
  cluster: [
    ...NAMESPACE_NEEDS,
    { resources: ['jobs'], verbs: OBJECT_NEEDS.verbs, why: 'the Job that is run' },
    { resources: ['pods/log'], verbs: ['get'], why: 'what the job said goes to its log' },
  ],
  cloud: 'nothing',
  host: [],
};
/** Identity of a run that had failed before this attempt: only that one is run again. */
const FAILED_BEFORE = 'failed-before';
/** A job may take its own time, and then the cluster has to say so. */
const MARGIN_SECONDS = 30;
const LOG_LINES = 1_000;
/** kubectl would wait 20 s for a pod to come; those of a job that ran out of time have gone. */
const NO_POD = '--pod-running-timeout=1s';

/**
 * Something run to completion, as a Kubernetes Job. Its name has the digest of what it runs: the same again is not run
 * again, anything else is another Job. One that failed is run again by the next deployment, and never by a resume.
 */
export class JobExecutor extends ManifestsExecutor {
  override readonly layer: Executor['layer'] = { mediaType: ARTIFACT_FORM.job.layerMediaType, form: 'file' };

  override async plan(context: ExecutorContext): Promise<Plan> {
    const { items, placed, digest } = await this.rendered(context);
    const [found] = (await this.live(context, items)).values();
    if (found) assertNotOfAnotherInstall(found, context);
    const gone = await new Inventory(context.stateDir).obsolete(placed);
    const deleted = gone.length;
    const state = found && readinessOf(found).state;
    const marker = join(context.workDir, FAILED_BEFORE);
    await rm(marker, { force: true });
    if (state === 'failed') await writePrivate(marker, found?.metadata.uid ?? '');
    const created = found ? 0 : 1;
    // A Job cannot be changed; one that has failed is made anew. One that still runs is only waited for.
    const updated = state === 'failed' ? 1 : 0;
    const { namespace: home } = context;
    const runs = new Map((created + updated > 0 ? items : []).map((job) => [changeOf('run', job, home), job] as const));
    const changes = [...gone.map((each) => removalOf(each, home)), ...runs.keys()];
    return {
      changed: created + updated + deleted > 0,
      created,
      updated,
      deleted,
      digest,
      ready: state === 'ready',
      identity: context.fingerprint(JSON.stringify([digest, created, updated, gone])),
      text: textOf(changes, runs),
      changes,
    };
  }

  override async apply(context: ExecutorContext): Promise<void> {
    const failed = await readFile(join(context.workDir, FAILED_BEFORE), 'utf8').catch(() => undefined);
    if (failed !== undefined) {
      const { items, placed } = await this.rendered(context);
      const [found] = (await this.live(context, items)).values();
      // Another identity: this attempt has made it anew before it was cut.
      if (found?.metadata.uid === failed) await this.kubectl.remove(context, placed, 'apply_failed');
    }
    await super.apply(context);
  }

  protected override async objectsOf(context: ExecutorContext): Promise<KubeObject[]> {
    const { artifactDir, fingerprint, render, step } = context;
    const { component, spec, app_name: app } = step.statement;
    const run = render(JSON.parse(await readFile(join(artifactDir, 'layer'), 'utf8')) as JsonValue) as unknown as {
      image: string;
      command: string[];
      args: string[];
      timeout_seconds: number;
    };
    const values = render(spec.values ?? {}) as Record<string, JsonValue>;
    const env = Object.entries(values).map(([name, value]) => ({
      name,
      value: typeof value === 'string' ? value : JSON.stringify(value),
    }));
    const container = { name: component.name, image: run.image, command: run.command, args: run.args, env };
    const digest = fingerprint(JSON.stringify([container, run.timeout_seconds])).slice('sha256:'.length);
    return [
      {
        apiVersion: 'batch/v1',
        kind: 'Job',
        metadata: { name: `${`${app}-${component.name}`.slice(0, 50)}-${digest.slice(0, 10)}` },
        spec: {
          backoffLimit: 0,
          activeDeadlineSeconds: run.timeout_seconds,
          template: { spec: { restartPolicy: 'Never', containers: [container] } },
        },
      },
    ];
  }

  protected override waitSeconds(workloads: readonly KubeObject[]): number {
    const limits = workloads.map(({ spec }) => (spec as { activeDeadlineSeconds: number }).activeDeadlineSeconds);
    return Math.max(...limits) + MARGIN_SECONDS;
  }

  /** What the job has said goes to the log. */
  protected override async afterwards(context: ExecutorContext, workloads: readonly KubeObject[]): Promise<void> {
    for (const { metadata } of workloads) {
      const args = ['logs', `job/${metadata.name}`, `--tail=${LOG_LINES}`, NO_POD];
      const { stdout } = await this.kubectl.run(context, args, 'apply_failed', { good: [0, 1] });
      for (const line of stdout.split('\n').filter(Boolean)) context.step.log('info', line);
    }
  }
}
