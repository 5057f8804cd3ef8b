import { existsSync } from 'node:fs';
import { copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { privateDirectory, writePrivate } from '#agent-kit';
import { ImsError, type ErrorCode, type JsonObject, type JsonValue } from '#contracts';
import { ARTIFACT_FORM, digestOf } from '#oci';
import { type InstallAgentConfig } from '../config.js';
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
import { TerraformState } from './terraform-state.js';
import { changesOf, identityOf, secretsOf, troublesOf, type TerraformPlan } from './terraform-plan.js';

interface RunOptions {
  readonly keep?: boolean;
  readonly good?: readonly number[];
  readonly onLine?: (line: string) => string | undefined;
  /** Gets every line. */
  readonly said?: string[];
}
type Outputs = Readonly<Record<string, { readonly sensitive: boolean; readonly value: JsonValue }>>;

export const TERRAFORM_NEEDS: Needs = {
  programs: ['terraform (or tofu)'],
  cluster: [],
  cloud:
    "what the module's own providers ask of the role of this machine; with its state in a bucket s3:ListBucket on that, and s3:GetObject, s3:PutObject and s3:DeleteObject in its folder",
  host: ['cache/terraform-plugins', 'https to the registry of its providers, at the first use of a module'],
};

/** What terraform keeps of a module: plugins, modules, where the state is. Kept, so that the same artifact needs no `init`. */
const DATA = 'terraform-data';
/** The artifact, and the backend, whose `init` made it. */
const INITIALISED = 'terraform-data.digest';
const LOCK_FILE = '.terraform.lock.hcl';
/** The values of the last apply: a teardown takes them, when what they were made of may be gone. */
const VALUES = 'values.tfvars.json';
const PLAN_FILE = 'ims.tfplan';
const RESUME_FILE = 'ims-resume.tfplan';
/** What a plan says while it looks around; all else of its text shows values. */
const PROGRESS = /: (Refreshing state|Reading|Still reading|Read complete|Preparing import)/;
const LOCK_TIMEOUT = '-lock-timeout=10s';
/** A probe must not stand in the way of an apply. */
const NO_LOCK = '-lock=false';
const REASONS_MAX = 50;
const REASON_CHARS_MAX = 500;

/**
 * Terraform with its state in the install's account (the component's directory). What is applied is the plan file,
 * so exactly what was planned; terraform itself refuses it when the state has moved on.
 */
export class TerraformExecutor implements Executor {
  readonly layer = { mediaType: ARTIFACT_FORM.terraformModule.layerMediaType, form: 'zip' } as const;
  /** Terraform's plugin cache is not made for two writers, and components are provisioned side by side. */
  private initialising: Promise<unknown> = Promise.resolve();

  private readonly state: TerraformState;

  constructor(private readonly config: InstallAgentConfig) {
    this.state = new TerraformState(config);
  }

  destroyNeedsArtifact(stateDir: string): boolean {
    return this.state.mayExist(stateDir);
  }

  async prepare(context: ExecutorContext): Promise<void> {
    const values = context.render(context.step.statement.spec.values ?? {});
    await writePrivate(join(context.workDir, VALUES), JSON.stringify(values));
    await this.initialise(context);
  }

  async plan(context: ExecutorContext): Promise<Plan> {
    return this.planFor(context, PLAN_FILE, 'plan_failed');
  }

  async planned({ workDir }: ExecutorContext): Promise<string> {
    return digestOf(await readFile(join(workDir, PLAN_FILE)));
  }

  async apply(context: ExecutorContext): Promise<void> {
    const { stateDir, step, workDir } = context;
    await copyFile(join(workDir, VALUES), join(stateDir, VALUES));
    if (!step.crashed) {
      await this.applyPlan(context, PLAN_FILE, 'apply_failed');
      return;
    }
    // A run that was cut has changed the state, so its plan file is stale; the state tells what is left to do.
    const rest = await this.planFor(context, RESUME_FILE, 'apply_failed');
    if (rest.changed) await this.applyPlan(context, RESUME_FILE, 'apply_failed');
  }

  settle(): Promise<void> {
    return Promise.resolve();
  }

  async observe(context: ExecutorContext): Promise<Observation> {
    const { stdout } = await this.terraform(context, ['output', '-json', '-no-color'], 'apply_failed', { keep: true });
    const outputs = JSON.parse(stdout) as Outputs;
    const entries = Object.entries(outputs);
    return {
      outputs: Object.fromEntries(entries.map(([name, { value }]) => [name, value])) satisfies JsonObject,
      sensitive: entries.filter(([, { sensitive }]) => sensitive).map(([name]) => name),
    };
  }

  async health(context: ExecutorContext): Promise<HealthReport> {
    const { stateDir, workDir } = context;
    if (!this.state.mayExist(stateDir)) return { health: 'missing', reasons: ['there is no state'] };
    const plan = await this.show(context, join(workDir, PLAN_FILE), 'plan_failed');
    if (plan.prior_state === undefined) return { health: 'missing', reasons: ['there is no state'] };
    const reasons = troublesOf(plan);
    const told = reasons.slice(0, REASONS_MAX).map((reason) => reason.slice(0, REASON_CHARS_MAX));
    return { health: reasons.length === 0 ? 'healthy' : 'degraded', reasons: told };
  }

  async planDestroy(context: ExecutorContext): Promise<RemovalPlan> {
    const { stateDir, workDir } = context;
    if (!this.state.mayExist(stateDir)) return { ...NO_PLAN, text: 'there is no state' };
    const values = await readFile(join(stateDir, VALUES), 'utf8').catch(() => this.valuesNow(context));
    await writePrivate(join(workDir, VALUES), values);
    await this.initialise(context);
    return this.planFor(context, PLAN_FILE, 'destroy_failed', ['-destroy']);
  }

  /** For a state that no apply of this host has made. What values were made of may be gone, and a module may need none. */
  private valuesNow({ render, step }: ExecutorContext): string {
    try {
      return JSON.stringify(render(step.statement.spec.values ?? {}));
    } catch (thrown) {
      step.log('warn', `the values of this component cannot be had: ${ImsError.of(thrown).detail}`);
      return '{}';
    }
  }

  async destroy(context: ExecutorContext): Promise<Removal> {
    const { stateDir, step } = context;
    if (!this.state.mayExist(stateDir)) return { deleted: 0, left: [] };
    const deleted = Number(step.outputOf('plan')?.['deleted'] ?? 0);
    if (!step.crashed) {
      if (step.outputOf('plan')?.['changed'] === true) await this.applyPlan(context, PLAN_FILE, 'destroy_failed');
      return { deleted, left: [] };
    }
    const rest = await this.planFor(context, RESUME_FILE, 'destroy_failed', ['-destroy']);
    if (rest.changed) await this.applyPlan(context, RESUME_FILE, 'destroy_failed');
    return { deleted, left: [] };
  }

  /** Skipped when this artifact was initialised before: that costs 0.3 s, and a registry of providers to be reachable. */
  private async initialise(context: ExecutorContext): Promise<void> {
    await this.initialiseOnce(context);
    if (context.probe) return;
    const push = (file: string) => this.terraform(context, ['state', 'push', LOCK_TIMEOUT, file], 'plan_failed');
    await this.state.takeOver(context, push);
  }

  private async initialiseOnce(context: ExecutorContext): Promise<void> {
    const { artifactDir, image, stateDir } = context;
    // The agent decides where state is, whatever backend the module names.
    const backend = this.state.backend(context);
    await writeFile(join(artifactDir, 'ims_override.tf.json'), JSON.stringify({ terraform: { backend } }));
    if (context.probe) {
      await this.init(context);
      return;
    }
    const marker = join(stateDir, INITIALISED);
    const initialised = `${image.digest} ${digestOf(Buffer.from(JSON.stringify(backend)))}`;
    const lock = { kept: join(stateDir, LOCK_FILE), used: join(artifactDir, LOCK_FILE) };
    const before = await readFile(marker, 'utf8').catch(() => undefined);
    if (before === initialised && existsSync(join(stateDir, DATA))) {
      if (existsSync(lock.kept)) await copyFile(lock.kept, lock.used);
      return;
    }
    await rm(marker, { force: true });
    await rm(join(stateDir, DATA), { recursive: true, force: true });
    await rm(lock.kept, { force: true });
    await this.init(context);
    if (existsSync(lock.used)) await copyFile(lock.used, lock.kept);
    await writePrivate(marker, initialised);
  }

  private async init(context: ExecutorContext): Promise<void> {
    const args = ['init', '-input=false', '-no-color'];
    const init = this.initialising.then(() => this.terraform(context, args, 'plan_failed'));
    this.initialising = init.catch(() => undefined);
    await init;
  }

  /** A plan as JSON: every value is in it in clear. */
  private async show(context: ExecutorContext, file: string, code: ErrorCode): Promise<TerraformPlan> {
    const { stdout } = await this.terraform(context, ['show', '-json', '-no-color', file], code, { keep: true });
    return JSON.parse(stdout) as TerraformPlan;
  }

  private async planFor(
    context: ExecutorContext,
    name: string,
    code: ErrorCode,
    more: readonly string[] = [],
  ): Promise<Plan> {
    const file = join(context.workDir, name);
    const values = `-var-file=${join(context.workDir, VALUES)}`;
    const lock = context.probe ? NO_LOCK : LOCK_TIMEOUT;
    const args = ['plan', '-input=false', '-no-color', lock, '-detailed-exitcode', values, `-out=${file}`];
    // The text waits for the secrets: a module may show one in a place that it did not mark.
    const text: string[] = [];
    const logText = (): void => text.forEach((line) => context.step.log('info', line));
    const hold = (line: string): string | undefined => {
      if (PROGRESS.test(line)) return line;
      text.push(line);
      return undefined;
    };
    const run = this.terraform(context, [...args, ...more], code, { good: [0, 2], onLine: hold });
    const { exitCode } = await run.catch((error: unknown) => {
      logText();
      throw error;
    });
    const digest = digestOf(await readFile(file));
    if (exitCode === 0) return { ...NO_PLAN, digest };
    const plan = await this.show(context, file, code);
    for (const secret of secretsOf(plan)) context.step.secrets.add(secret);
    logText();
    const { resource_changes: resources = [] } = plan;
    const count = (action: string): number => resources.filter(({ change }) => change.actions.includes(action)).length;
    return {
      changed: true,
      created: count('create'),
      updated: count('update'),
      deleted: count('delete'),
      digest,
      ready: true,
      identity: context.fingerprint(JSON.stringify(identityOf(plan))),
      text: text.join('\n'),
      changes: changesOf(plan),
    };
  }

  private async applyPlan(context: ExecutorContext, name: string, code: ErrorCode): Promise<void> {
    const file = join(context.workDir, name);
    // Outputs are observed afterwards, when it is known which ones are secret.
    let outputs = false;
    const onLine = (line: string): string | undefined => {
      outputs ||= line === 'Outputs:';
      return outputs ? undefined : line;
    };
    await this.terraform(context, ['apply', '-input=false', '-no-color', LOCK_TIMEOUT, file], code, { onLine });
  }

  /**
   * Runs terraform. A lock in a bucket outlives the process that was killed with it: one that a cut run of this job left
   * is broken, once; that of anybody else is an error, which names its holder.
   */
  private async terraform(
    context: ExecutorContext,
    args: readonly string[],
    code: ErrorCode,
    options: RunOptions = {},
  ): Promise<{ exitCode: number; stdout: string }> {
    if (!this.state.isRemote || !args.includes(LOCK_TIMEOUT)) return this.run(context, args, code, options);
    const said: string[] = [];
    try {
      return await this.state.running(context, () => this.run(context, args, code, { ...options, said }));
    } catch (error) {
      const id = await this.state.breakable(context, said);
      if (id === undefined) throw error;
      context.step.log('warn', `the state is locked by ${id}, which an attempt of this job has left: it is unlocked`);
      await this.run(context, ['force-unlock', '-force', id], code);
      return this.state.running(context, () => this.run(context, args, code, options));
    }
  }

  private async run(
    { artifactDir, cacheDir, probe, stateDir, step, workDir }: ExecutorContext,
    args: readonly string[],
    code: ErrorCode,
    { keep = false, good = [0], onLine = (line) => line, said = [] }: RunOptions = {},
  ): Promise<{ exitCode: number; stdout: string }> {
    const errors: string[] = [];
    const { exitCode, stdout = '' } = await step.run({
      command: this.config.TERRAFORM_BIN,
      args,
      cwd: artifactDir,
      env: {
        TF_DATA_DIR: join(probe ? workDir : stateDir, DATA),
        TF_PLUGIN_CACHE_DIR: await privateDirectory(join(cacheDir, 'terraform-plugins')),
        TF_IN_AUTOMATION: '1',
        CHECKPOINT_DISABLE: '1',
      },
      timeoutMs: this.config.TERRAFORM_SECONDS * 1000,
      onLine: (line) => {
        said.push(line);
        if (/^[\s│╷]*Error:/.test(line)) errors.push(line.replace(/^[\s│╷]*/, ''));
        return onLine(line);
      },
      // A plan as JSON has every value in clear: it is read, and never logged.
      ...(keep ? { maxOutputBytes: 64 * 2 ** 20 } : {}),
    });
    if (good.includes(exitCode)) return { exitCode, stdout };
    throw new ImsError(code, errors.join('; ').slice(0, 2_000) || `terraform ${args[0] ?? ''} ended with ${exitCode}`);
  }
}
