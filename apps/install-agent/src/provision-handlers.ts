import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Injectable } from '@nestjs/common';
import { Identity, privateDirectory, type JobHandler, type StepContext, type StepDefinition } from '#agent-kit';
import { ImsError, type ComponentKind, type JsonObject } from '#contracts';
import { render } from '#domain';
import { pullLayer, untarTo, unzipTo } from '#oci';
import { ComponentStore, textsOf } from './component-store.js';
import { InstallAgentConfig } from './config.js';
import { type Executor, type ExecutorContext, type Plan } from './executor.js';
import { HelmExecutor } from './executors/helm.js';
import { ImageExecutor } from './executors/image.js';
import { JobExecutor } from './executors/job.js';
import { Kubectl } from './executors/kubectl.js';
import { ManifestsExecutor } from './executors/manifests.js';
import { TerraformExecutor } from './executors/terraform.js';
import { InstallRegistry } from './install-registry.js';
import { localRepository } from './sync-handler.js';
import { artifactOf, verifyProvenance } from './verification.js';

/** What apply and destroy share: the executors, and what a step hands to them. */
@Injectable()
export class Provisioning {
  private readonly executors: Readonly<Record<ComponentKind, Executor>>;

  constructor(
    config: InstallAgentConfig,
    private readonly identity: Identity,
    private readonly registry: InstallRegistry,
    readonly store: ComponentStore,
  ) {
    const kubectl = new Kubectl(config);
    const image = new ImageExecutor();
    this.executors = {
      'container-image': image,
      'external-image': image,
      'terraform-module': new TerraformExecutor(config),
      'kubernetes-manifests': new ManifestsExecutor(config, kubectl),
      'helm-chart': new HelmExecutor(config, kubectl),
      job: new JobExecutor(config, kubectl),
    };
  }

  executorOf({ statement }: StepContext): Executor {
    return this.executors[statement.component.kind];
  }

  /** Takes the artifact out of the install's registry, verified again, before a byte of it is used. */
  async fetch(step: StepContext): Promise<JsonObject> {
    const { digest } = artifactOf(step);
    const from = { client: this.registry.client, repository: localRepository(step) };
    await verifyProvenance(step, this.identity.enrolment, from);
    const { layer } = this.executorOf(step);
    if (!layer) return { digest };
    const directory = join(step.workspace, 'artifact');
    await rm(directory, { recursive: true, force: true });
    const file = layer.form === 'file' ? join(directory, 'layer') : join(step.workspace, 'layer');
    await privateDirectory(directory);
    await pullLayer({ ...from, digest, mediaType: layer.mediaType, file, signal: step.signal });
    if (layer.form === 'zip') await unzipTo(file, directory);
    if (layer.form === 'tar+gzip') await untarTo(file, directory);
    return { digest };
  }

  async contextOf(step: StepContext): Promise<ExecutorContext> {
    const { statement, workspace } = step;
    const { component, install_id: id = '', install_name: name = '', inputs = {} } = statement;
    for (const secret of await this.store.secrets()) step.secrets.add(secret);
    const scope = { components: await this.store.outputs(), install: { id, name, inputs } };
    return {
      step,
      artifactDir: join(workspace, 'artifact'),
      workDir: await privateDirectory(join(workspace, 'private')),
      stateDir: await this.store.directoryOf(component.name),
      image: { host: this.registry.host, repository: localRepository(step), digest: artifactOf(step).digest },
      installId: id,
      namespace: statement.spec.namespace ?? statement.app_name,
      render: (value) => render(value, scope),
    };
  }
}

const countsOf = ({ changed, created, updated, deleted, digest }: Plan): JsonObject => ({
  changed,
  created,
  updated,
  deleted,
  digest,
});
const outcomeOf = (plan: JsonObject, outputs: JsonObject = {}): JsonObject => ({
  changed: plan['changed'] ?? false,
  created: plan['created'] ?? 0,
  updated: plan['updated'] ?? 0,
  deleted: plan['deleted'] ?? 0,
  outputs: outputs['outputs'] ?? {},
  sensitive_outputs: outputs['sensitive_outputs'] ?? [],
});

/** Takes one component to its artifact: fetch, plan, apply exactly that, observe. */
@Injectable()
export class ApplyHandler implements JobHandler {
  readonly kind = 'apply';

  constructor(private readonly provisioning: Provisioning) {}

  steps(): readonly StepDefinition[] {
    return [
      { name: 'fetch', run: (step) => this.provisioning.fetch(step) },
      { name: 'plan', run: (step) => this.plan(step) },
      { name: 'apply', run: (step) => this.apply(step) },
      { name: 'observe', run: (step) => this.observe(step) },
    ];
  }

  result({ plan = {}, observe }: Readonly<Record<string, JsonObject>>): { result: JsonObject } {
    return { result: outcomeOf(plan, observe) };
  }

  private async plan(step: StepContext): Promise<JsonObject> {
    const context = await this.provisioning.contextOf(step);
    const executor = this.provisioning.executorOf(step);
    await executor.prepare(context);
    const plan = await executor.plan(context);
    const { created, updated, deleted } = plan;
    step.log(
      'info',
      plan.changed ? `plan: ${deleted} to delete, ${created} to create, ${updated} to change` : 'plan: no changes',
    );
    return countsOf(plan);
  }

  private async apply(step: StepContext): Promise<JsonObject> {
    if (step.outputOf('plan')?.['changed'] !== true) return { applied: false };
    await this.provisioning.executorOf(step).apply(await this.provisioning.contextOf(step));
    return { applied: true };
  }

  private async observe(step: StepContext): Promise<JsonObject> {
    const { component } = step.statement;
    const { outputs, sensitive } = await this.provisioning
      .executorOf(step)
      .observe(await this.provisioning.contextOf(step));
    for (const key of sensitive) for (const secret of textsOf(outputs[key])) step.secrets.add(secret);
    await this.provisioning.store.write(component.name, {
      digest: artifactOf(step).digest,
      kind: component.kind,
      outputs,
      sensitive,
    });
    // Values of sensitive outputs stay in the store on this host; the outside learns their names.
    const open = Object.entries(outputs).filter(([key]) => !sensitive.includes(key));
    return { outputs: Object.fromEntries(open), sensitive_outputs: [...sensitive] };
  }
}

/** Takes one component away, with everything that was made for it. */
@Injectable()
export class DestroyHandler implements JobHandler {
  readonly kind = 'destroy';

  constructor(private readonly provisioning: Provisioning) {}

  steps(): readonly StepDefinition[] {
    return [
      { name: 'fetch', run: (step) => this.provisioning.fetch(step) },
      { name: 'destroy', run: (step) => this.destroy(step) },
    ];
  }

  result({ destroy = {} }: Readonly<Record<string, JsonObject>>): { result: JsonObject } {
    return { result: outcomeOf(destroy) };
  }

  private async destroy(step: StepContext): Promise<JsonObject> {
    const context = await this.provisioning.contextOf(step);
    const executor = this.provisioning.executorOf(step);
    await executor.prepare(context).catch((error: unknown) => {
      // What was never deployed may lack what its templates name; there is nothing to render then either.
      if (!(error instanceof ImsError) || error.code !== 'unknown_reference') throw error;
      step.log('warn', error.detail);
    });
    const plan = await executor.destroy(context);
    await this.provisioning.store.remove(step.statement.component.name);
    step.log('info', plan.changed ? `removed ${plan.deleted}` : 'there was nothing to remove');
    return countsOf(plan);
  }
}
