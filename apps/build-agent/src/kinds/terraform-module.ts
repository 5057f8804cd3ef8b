import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ImsError, type JsonObject } from '#contracts';
import { zipDirectory, type Descriptor } from '#oci';
import { type BuildAgentConfig } from '../config.js';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';
import { keepLayer, pushLayer } from './packaged.js';

interface Validation {
  readonly valid: boolean;
  readonly diagnostics: readonly {
    readonly severity: string;
    readonly summary: string;
    readonly detail?: string;
    readonly range?: { readonly filename: string; readonly start: { readonly line: number } };
  }[];
}

const TIMEOUT_MS = 300_000;
const CHECKPOINT = { CHECKPOINT_DISABLE: '1', TF_IN_AUTOMATION: '1', TF_INPUT: '0' };
/** What a run of terraform leaves behind; in an artifact it would carry somebody's state or machine. */
const isLeftover = (entry: string): boolean => /(^|\/)\.terraform$|\.tfstate(\.backup)?$|(^|\/)crash\.log$/.test(entry);

/** A module, validated by terraform itself, as OpenTofu's `oci://` form of a module. */
export class TerraformModule implements KindBuilder {
  constructor(private readonly config: BuildAgentConfig) {}

  async build(context: BuildContext): Promise<JsonObject> {
    const { step, sourceDir, outDir } = context;
    // Terraform writes beside the sources; they stay as they were checked out.
    const copy = join(outDir, 'check');
    await rm(copy, { recursive: true, force: true });
    await cp(sourceDir, copy, { recursive: true });
    const terraform = (args: string[], keep: boolean) =>
      step.run({
        command: this.config.TERRAFORM_BIN,
        args,
        cwd: copy,
        env: CHECKPOINT,
        timeoutMs: TIMEOUT_MS,
        ...(keep ? { maxOutputBytes: 4 * 2 ** 20 } : {}),
      });
    const init = await terraform(['init', '-backend=false', '-input=false', '-no-color'], false);
    // A module that does not parse fails init too, with prose; validate tells file and line.
    const validate = await terraform(['validate', '-json', '-no-color'], true);
    const report = parseReport(validate.stdout ?? '');
    if (!report?.valid)
      throw new ImsError('source_invalid', faultsOf(report) ?? 'terraform validate failed; see the log');
    if (init.exitCode !== 0) throw new ImsError('source_invalid', 'terraform init failed; see the log');
    await keepLayer(context, await zipDirectory(sourceDir, { exclude: isLeftover }));
    return {};
  }

  push(context: BuildContext, target: PushTarget): Promise<Descriptor> {
    return pushLayer(context, target, 'terraformModule');
  }
}

function parseReport(text: string): Validation | undefined {
  try {
    return JSON.parse(text) as Validation;
  } catch {
    return undefined;
  }
}

function faultsOf(report: Validation | undefined): string | undefined {
  const errors = report?.diagnostics.filter(({ severity }) => severity === 'error') ?? [];
  if (errors.length === 0) return undefined;
  return errors
    .map(({ summary, detail, range }) => {
      const at = range ? `${range.filename}:${range.start.line}: ` : '';
      return `${at}${summary}${detail ? `. ${detail.split('\n')[0] ?? ''}` : ''}`;
    })
    .join('\n')
    .slice(0, 2_000);
}
