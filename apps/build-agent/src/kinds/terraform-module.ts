import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ImsError, type JsonObject } from '#contracts';
import { unzipTo, zipDirectory, type Descriptor } from '#oci';
import { type BuildAgentConfig } from '../config.js';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';
import { keepLayer, LAYER, pushLayer } from './packaged.js';

interface Validation {
  readonly diagnostics: readonly {
    readonly severity: string;
    readonly summary: string;
    readonly detail?: string;
    readonly range?: { readonly filename: string; readonly start: { readonly line: number } };
  }[];
}

const TIMEOUT_MS = 300_000;
const REPORT_MAX_BYTES = 4 * 2 ** 20;
/** What a run of terraform leaves behind; in an artifact it would carry somebody's state or machine. */
const isLeftover = (entry: string): boolean => /(^|\/)\.terraform$|\.tfstate(\.backup)?$|(^|\/)crash\.log$/.test(entry);

/** A module, validated by terraform itself, as OpenTofu's `oci://` form of a module. */
export class TerraformModule implements KindBuilder {
  constructor(private readonly config: BuildAgentConfig) {}

  async build(context: BuildContext): Promise<JsonObject> {
    const { step, sourceDir, outDir } = context;
    await keepLayer(context, await zipDirectory(sourceDir, { exclude: isLeftover }));
    // Checked is what will be pushed, unpacked; terraform also writes beside the files that it reads.
    const check = join(outDir, 'check');
    await rm(check, { recursive: true, force: true });
    await unzipTo(join(outDir, LAYER), check);
    const said: string[] = [];
    const terraform = (args: readonly string[], maxOutputBytes?: number) =>
      step.run({
        command: this.config.TERRAFORM_BIN,
        args,
        cwd: check,
        env: { CHECKPOINT_DISABLE: '1', TF_IN_AUTOMATION: '1', TF_INPUT: '0' },
        timeoutMs: TIMEOUT_MS,
        onLine: (line) => {
          said.push(line);
          return line;
        },
        ...(maxOutputBytes === undefined ? {} : { maxOutputBytes }),
      });
    const init = await terraform(['init', '-backend=false', '-input=false', '-no-color']);
    // A module that does not parse fails init too, but in prose; validate tells file and line.
    const validate = await terraform(['validate', '-json', '-no-color'], REPORT_MAX_BYTES);
    const faults = faultsOf(parseReport(validate.stdout ?? ''));
    const inProse = said.filter((line) => line.includes('Error:')).join('\n') || 'see the log';
    if (faults !== undefined || validate.exitCode !== 0 || init.exitCode !== 0) {
      throw new ImsError('source_invalid', faults ?? `terraform init or validate failed: ${inProse}`.slice(0, 2_000));
    }
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
