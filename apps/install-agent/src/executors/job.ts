import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ImsError, type JsonValue } from '#contracts';
import { ARTIFACT_FORM, digestOf } from '#oci';
import { sleep } from '#platform';
import { type Executor, type ExecutorContext, type Plan } from '../executor.js';
import { type KubeObject } from './kubectl.js';
import { ManifestsExecutor } from './manifests.js';

const LOOK_MS = 300;
interface Condition {
  readonly type: string;
  readonly status: string;
  readonly message?: string;
}

/**
 * Something run to completion, as a Kubernetes Job. Its name has the digest of what it runs: the same again is not run
 * again, anything else is another Job.
 */
export class JobExecutor extends ManifestsExecutor {
  override readonly layer: Executor['layer'] = { mediaType: ARTIFACT_FORM.job.layerMediaType, form: 'file' };

  override async plan(context: ExecutorContext): Promise<Plan> {
    const plan = await super.plan(context);
    const { items } = await this.rendered(context);
    const [job] = items;
    const found = job && (await this.kubectl.get(context, 'job', job.metadata.name, 'plan_failed'));
    // A Job cannot be changed; one that has failed is run again by making it anew.
    if (found && conditionOf(found) === 'Failed') return { ...plan, changed: true, updated: 1 };
    return found ? { ...plan, changed: plan.deleted > 0 || conditionOf(found) === undefined, updated: 0 } : plan;
  }

  override async apply(context: ExecutorContext): Promise<void> {
    const { items } = await this.rendered(context);
    for (const { metadata } of items) {
      const found = await this.kubectl.get(context, 'job', metadata.name, 'apply_failed');
      if (found && conditionOf(found) === 'Failed') {
        await this.kubectl.run(
          context,
          ['delete', 'job', metadata.name, '--ignore-not-found', '--wait=true'],
          'apply_failed',
        );
      }
    }
    await super.apply(context);
  }

  protected override async objectsOf({ artifactDir, render, step }: ExecutorContext): Promise<KubeObject[]> {
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
    const digest = digestOf(Buffer.from(JSON.stringify([container, run.timeout_seconds]))).slice('sha256:'.length);
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

  protected override async untilReady(context: ExecutorContext, { metadata }: KubeObject): Promise<void> {
    const until = performance.now() + this.config.READY_SECONDS * 1000;
    for (;;) {
      const found = await this.kubectl.get(context, 'job', metadata.name, 'apply_failed');
      const end = found && conditionOf(found);
      if (end !== undefined) {
        await this.kubectl
          .run(context, ['logs', `job/${metadata.name}`, '--tail=1000'], 'apply_failed', { good: [1] })
          .then(({ stdout }) =>
            stdout
              .split('\n')
              .filter(Boolean)
              .forEach((line) => context.step.log('info', line)),
          );
        if (end === 'Complete') return;
        throw new ImsError('apply_failed', `job ${metadata.name} failed; its output is in the log`);
      }
      if (performance.now() > until)
        throw new ImsError('timed_out', `job ${metadata.name} did not end in ${this.config.READY_SECONDS} s`);
      await sleep(LOOK_MS, context.step.signal);
    }
  }
}

/** How a Job has ended, if it has. */
function conditionOf(job: KubeObject): 'Complete' | 'Failed' | undefined {
  const { conditions = [] } = (job['status'] ?? {}) as { conditions?: readonly Condition[] };
  const holds = (type: string): boolean => conditions.some((each) => each.type === type && each.status === 'True');
  return holds('Complete') ? 'Complete' : holds('Failed') ? 'Failed' : undefined;
}
