import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Injectable } from '@nestjs/common';
import {
  Identity,
  privateDirectory,
  writePrivate,
  type JobHandler,
  type StepContext,
  type StepDefinition,
} from '#agent-kit';
import { ImsError, type ComponentKind, type JsonObject } from '#contracts';
import { render, type Change } from '#domain';
import { openParcel, pullLayer, registrySource, untarTo, unzipTo } from '#oci';
import { ComponentStore, contains, textsOf } from './component-store.js';
import { InstallAgentConfig } from './config.js';
import { type Executor, type ExecutorContext, type Plan, type Proposal } from './executor.js';
import { HelmExecutor } from './executors/helm.js';
import { ImageExecutor } from './executors/image.js';
import { JobExecutor } from './executors/job.js';
import { Kubectl } from './executors/kubectl.js';
import { ManifestsExecutor } from './executors/manifests.js';
import { TerraformExecutor } from './executors/terraform.js';
import { InstallRegistry } from './install-registry.js';
import { localRepository } from './sync-handler.js';
import { artifactOf, verifyProvenance } from './verification.js';

/** Digests of the images that came with the artifact, by name; of this attempt. */
const IMAGES = 'images.json';

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
    await verifyProvenance(step, this.identity.enrolment, registrySource(from));
    const { layer } = this.executorOf(step);
    if (!layer) return { digest };
    const parcel = await openParcel({ ...from, digest, signal: step.signal });
    const names = JSON.stringify([...parcel.images]);
    await writePrivate(join(step.workspace, IMAGES), names);
    const directory = join(step.workspace, 'artifact');
    await rm(directory, { recursive: true, force: true });
    const file = layer.form === 'file' ? join(directory, 'layer') : join(step.workspace, 'layer');
    await privateDirectory(directory);
    await pullLayer({ ...from, digest: parcel.digest, mediaType: layer.mediaType, file, signal: step.signal });
    if (layer.form === 'zip') await unzipTo(file, directory);
    if (layer.form === 'tar+gzip') await untarTo(file, directory);
    return { digest };
  }

  private async imagesOf(step: StepContext): Promise<ReadonlyMap<string, string>> {
    // A teardown has not fetched anything.
    const text = await readFile(join(step.workspace, IMAGES), 'utf8').catch(() => '[]');
    const place = `${this.registry.host}/${localRepository(step)}`;
    return new Map((JSON.parse(text) as [string, string][]).map(([name, digest]) => [name, `${place}@${digest}`]));
  }

  async contextOf(step: StepContext): Promise<ExecutorContext> {
    const { statement, workspace } = step;
    const { component, install_id: id = '', install_name: name = '', customer_inputs = [] } = statement;
    const inputs = { ...statement.inputs, ...(await this.store.customerValues(customer_inputs)) };
    for (const secret of await this.store.secrets()) step.secrets.add(secret);
    const scope = { components: await this.store.outputs(), install: { id, name, inputs } };
    const digest = statement.artifact?.digest ?? '';
    return {
      step,
      artifactDir: join(workspace, 'artifact'),
      workDir: await privateDirectory(join(workspace, 'private')),
      stateDir: await this.store.directoryOf(component.name),
      cacheDir: await this.store.cacheDirectory(),
      image: { host: this.registry.host, repository: localRepository(step), digest },
      images: await this.imagesOf(step),
      installId: id,
      namespace: statement.spec.namespace ?? statement.app_name,
      render: (value) => render(value, scope),
      fingerprint: await this.store.fingerprinter(),
      probe: statement.kind === 'observe',
      isStored: async () => {
        const { client } = this.registry;
        return (await client.headManifest(localRepository(step), digest, { signal: step.signal })) !== undefined;
      },
    };
  }
}

/** Asks the customer's policy. The digest is the same in each attempt that would do the same with the same artifact. */
async function propose(
  context: ExecutorContext,
  plan: Proposal & Pick<Plan, 'changed' | 'created' | 'updated' | 'deleted'>,
): Promise<void> {
  const { step } = context;
  const { changed, created, updated, deleted, identity, text, changes, harmless = false } = plan;
  await step.propose({
    digest: digestOfPlan(context, { identity }),
    ...(harmless ? { created: 0, updated: 0, deleted: 0 } : { created, updated, deleted }),
    changed: changed && !harmless,
    text,
    ...(harmless ? {} : { changes: changes.map(shown) }),
  });
}

/** What a yes is bound to: the change, of this component, by this kind of job, with this artifact. */
export function digestOfPlan(
  { step, fingerprint, image }: ExecutorContext,
  { identity }: Pick<Proposal, 'identity'>,
): string {
  const { component, kind } = step.statement;
  return fingerprint(JSON.stringify([kind, component.name, component.kind, image.digest, identity]));
}

/** Without the values that nobody outside of the install may see. */
export const shown = ({ fields, ...change }: Change): Change => ({
  ...change,
  ...(fields === undefined
    ? {}
    : { fields: fields.map((field) => (field.hidden === true ? { path: field.path, hidden: true } : field)) }),
});

const planOf = ({ changed, created, updated, deleted, digest, ready }: Plan): JsonObject => ({
  changed,
  created,
  updated,
  deleted,
  digest,
  ready,
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
  readonly plans = true;

  constructor(private readonly provisioning: Provisioning) {}

  steps(): readonly StepDefinition[] {
    return [
      { name: 'fetch', run: (step) => this.fetch(step) },
      { name: 'plan', run: (step) => this.plan(step) },
      { name: 'apply', run: (step) => this.apply(step) },
      { name: 'observe', run: (step) => this.observe(step) },
    ];
  }

  result({ plan = {}, observe }: Readonly<Record<string, JsonObject>>): { result: JsonObject } {
    return { result: outcomeOf(plan, observe) };
  }

  private async fetch(step: StepContext): Promise<JsonObject> {
    const { highWater } = this.provisioning.store;
    await highWater.check(step.statement);
    const fetched = await this.provisioning.fetch(step);
    await highWater.raise(step.statement);
    return fetched;
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
    await propose(context, plan);
    return planOf(plan);
  }

  private async apply(step: StepContext): Promise<JsonObject> {
    const plan = step.outputOf('plan') ?? {};
    const changed = plan['changed'] === true;
    if (!changed && plan['ready'] === true) return { applied: false };
    const context = await this.provisioning.contextOf(step);
    const executor = this.provisioning.executorOf(step);
    if (changed) {
      if ((await executor.planned(context)) !== plan['digest'])
        throw new ImsError('stale_plan', 'what the plan left on this host is not what was planned');
      await executor.apply(context);
    }
    await executor.settle(context);
    return { applied: changed };
  }

  private async observe(step: StepContext): Promise<JsonObject> {
    const { store } = this.provisioning;
    const { component } = step.statement;
    const context = await this.provisioning.contextOf(step);
    const { outputs, sensitive: declared } = await this.provisioning.executorOf(step).observe(context);
    const others = await store.secrets();
    const secrets = [...others, ...declared.flatMap((key) => textsOf(outputs[key]))];
    for (const secret of secrets) step.secrets.add(secret);
    // A module that puts a secret of another into a plain output does not make it less of a secret.
    const sensitive = Object.keys(outputs).filter(
      (key) => declared.includes(key) || contains(outputs[key] ?? null, secrets),
    );
    for (const key of sensitive.filter((each) => !declared.includes(each))) {
      step.log('warn', `output ${key} contains a sensitive value: it is kept on this host`);
      for (const secret of textsOf(outputs[key])) step.secrets.add(secret);
    }
    await store.write(component.name, { digest: artifactOf(step).digest, kind: component.kind, outputs, sensitive });
    // Values of sensitive outputs stay in the store on this host; the outside learns their names.
    const open = Object.entries(outputs).filter(([key]) => !sensitive.includes(key));
    return { outputs: Object.fromEntries(open), sensitive_outputs: sensitive };
  }
}

/** Takes one component away, with everything that was made for it. */
@Injectable()
export class DestroyHandler implements JobHandler {
  readonly kind = 'destroy';
  readonly plans = true;

  constructor(private readonly provisioning: Provisioning) {}

  steps(): readonly StepDefinition[] {
    return [
      { name: 'fetch', run: (step) => this.fetch(step) },
      { name: 'plan', run: (step) => this.plan(step) },
      { name: 'destroy', run: (step) => this.destroy(step) },
      { name: 'forget', run: (step) => this.forget(step) },
    ];
  }

  result({ destroy = {} }: Readonly<Record<string, JsonObject>>): { result: JsonObject } {
    return { result: outcomeOf(destroy) };
  }

  private async fetch(step: StepContext): Promise<JsonObject> {
    const { highWater } = this.provisioning.store;
    await highWater.check(step.statement);
    await highWater.raise(step.statement);
    const place = this.provisioning.store.placeOf(step.statement.component.name);
    if (!this.provisioning.executorOf(step).destroyNeedsArtifact(place)) return {};
    return this.provisioning.fetch(step);
  }

  private async plan(step: StepContext): Promise<JsonObject> {
    const context = await this.provisioning.contextOf(step);
    const plan = await this.provisioning.executorOf(step).planDestroy(context);
    const { changed, deleted } = plan;
    step.log('info', `plan: ${deleted} to delete`);
    await propose(context, { ...plan, created: 0, updated: 0 });
    return { changed, created: 0, updated: 0, deleted };
  }

  private async destroy(step: StepContext): Promise<JsonObject> {
    const context = await this.provisioning.contextOf(step);
    const { deleted, left } = await this.provisioning.executorOf(step).destroy(context);
    step.log('info', deleted > 0 ? `removed ${deleted}` : 'there was nothing to remove');
    for (const what of left) step.log('warn', `left in place: ${what}`);
    return { changed: deleted > 0, created: 0, updated: 0, deleted, left: [...left] };
  }

  private async forget(step: StepContext): Promise<JsonObject> {
    await this.provisioning.store.remove(step.statement.component.name);
    return {};
  }
}
