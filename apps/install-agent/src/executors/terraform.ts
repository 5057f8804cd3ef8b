import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writePrivate } from '#agent-kit';
import { ImsError, type ErrorCode, type JsonObject, type JsonValue } from '#contracts';
import { ARTIFACT_FORM, digestOf } from '#oci';
import { type InstallAgentConfig } from '../config.js';
import { type Executor, type ExecutorContext, type Observation, type Plan } from '../executor.js';

interface PlanJson {
  readonly resource_changes?: readonly { readonly change: { readonly actions: readonly string[] } }[];
}
type Outputs = Readonly<Record<string, { readonly sensitive: boolean; readonly value: JsonValue }>>;

const PLAN_FILE = 'ims.tfplan';
const LOCK_TIMEOUT = '-lock-timeout=10s';

/**
 * Terraform with its state in the install's account (the component's directory). What is applied is the plan file,
 * so exactly what was planned; terraform itself refuses it when the state has moved on.
 */
export class TerraformExecutor implements Executor {
  readonly layer = { mediaType: ARTIFACT_FORM.terraformModule.layerMediaType, form: 'zip' } as const;

  constructor(private readonly config: InstallAgentConfig) {}

  async prepare(context: ExecutorContext): Promise<void> {
    const { artifactDir, stateDir, step } = context;
    const values = context.render(step.statement.spec.values ?? {});
    // The agent decides where state is, whatever backend the module names.
    const backend = { terraform: { backend: { local: { path: join(stateDir, 'terraform.tfstate') } } } };
    await writeFile(join(artifactDir, 'ims_override.tf.json'), JSON.stringify(backend));
    await writePrivate(join(artifactDir, 'ims.auto.tfvars.json'), JSON.stringify(values));
    await this.terraform(context, ['init', '-input=false', '-no-color'], 'plan_failed');
  }

  async plan(context: ExecutorContext): Promise<Plan> {
    return this.planFor(context, []);
  }

  async apply(context: ExecutorContext): Promise<void> {
    // A run that was cut has changed the state, so its plan file is stale; the state tells what is left to do.
    if (context.step.crashed) await this.planFor(context, []);
    await this.applyPlan(context, 'apply_failed');
  }

  async observe(context: ExecutorContext): Promise<Observation> {
    const { stdout } = await this.terraform(context, ['output', '-json', '-no-color'], 'apply_failed', true);
    const outputs = JSON.parse(stdout) as Outputs;
    const entries = Object.entries(outputs);
    return {
      outputs: Object.fromEntries(entries.map(([name, { value }]) => [name, value])) satisfies JsonObject,
      sensitive: entries.filter(([, { sensitive }]) => sensitive).map(([name]) => name),
    };
  }

  async destroy(context: ExecutorContext): Promise<Plan> {
    if (!existsSync(join(context.stateDir, 'terraform.tfstate'))) {
      return { changed: false, created: 0, updated: 0, deleted: 0, digest: digestOf(Buffer.alloc(0)) };
    }
    const plan = await this.planFor(context, ['-destroy']);
    if (plan.changed) await this.applyPlan(context, 'destroy_failed');
    return plan;
  }

  private async planFor(context: ExecutorContext, more: readonly string[]): Promise<Plan> {
    const file = join(context.workDir, PLAN_FILE);
    const args = ['plan', '-input=false', '-no-color', LOCK_TIMEOUT, '-detailed-exitcode', `-out=${file}`, ...more];
    const { exitCode } = await this.terraform(context, args, 'plan_failed', false, [0, 2]);
    const shown = await this.terraform(context, ['show', '-json', '-no-color', file], 'plan_failed', true);
    const { resource_changes: changes = [] } = JSON.parse(shown.stdout) as PlanJson;
    const count = (action: string): number => changes.filter(({ change }) => change.actions.includes(action)).length;
    return {
      changed: exitCode === 2,
      created: count('create'),
      updated: count('update'),
      deleted: count('delete'),
      digest: digestOf(await readFile(file)),
    };
  }

  private async applyPlan(context: ExecutorContext, code: ErrorCode): Promise<void> {
    const file = join(context.workDir, PLAN_FILE);
    await this.terraform(context, ['apply', '-input=false', '-no-color', LOCK_TIMEOUT, file], code);
  }

  private async terraform(
    { artifactDir, step, workDir }: ExecutorContext,
    args: readonly string[],
    code: ErrorCode,
    keep = false,
    good: readonly number[] = [0],
  ): Promise<{ exitCode: number; stdout: string }> {
    const errors: string[] = [];
    const { exitCode, stdout = '' } = await step.run({
      command: this.config.TERRAFORM_BIN,
      args,
      cwd: artifactDir,
      env: { TF_DATA_DIR: join(workDir, 'terraform'), TF_IN_AUTOMATION: '1', CHECKPOINT_DISABLE: '1' },
      timeoutMs: this.config.TERRAFORM_SECONDS * 1000,
      onLine: (line) => {
        if (/^[\s│╷]*Error:/.test(line)) errors.push(line.replace(/^[\s│╷]*/, ''));
        return line;
      },
      // A plan as JSON has every value in clear: it is read, and never logged.
      ...(keep ? { maxOutputBytes: 64 * 2 ** 20 } : {}),
    });
    if (good.includes(exitCode)) return { exitCode, stdout };
    throw new ImsError(code, errors.join('; ').slice(0, 2_000) || `terraform ${args[0] ?? ''} ended with ${exitCode}`);
  }
}
