import { ImsError, type JobKind, type JobStatement, type JsonObject } from '#contracts';
import { type JobHandler, type ProposedPlan, type StepDefinition } from '../src/index.js';

export interface ScriptStep {
  readonly name: string;
  /** For `sh -c`. `$CRASHED` is 1 when the step is run again after a crash. */
  readonly script: string;
  readonly secret?: string;
  /** What the step proposes; the text is what the script's last line is. */
  readonly plan?: Omit<ProposedPlan, 'text'> & { readonly text?: string };
}

/** Steps that are shell scripts, given in the statement's values: the tests say what a job does. */
export class ScriptHandler implements JobHandler {
  constructor(
    readonly kind: JobKind,
    readonly plans = true,
  ) {}

  steps(job: JobStatement): readonly StepDefinition[] {
    const steps = (job.spec.values?.['steps'] ?? []) as unknown as readonly ScriptStep[];
    return steps.map(({ name, script, secret, plan }) => ({
      name,
      run: async (context) => {
        if (secret !== undefined) context.secrets.add(secret);
        context.log('info', `step ${name}${context.crashed ? ' again' : ''}`);
        const result = await context.run({
          command: 'sh',
          args: ['-c', script],
          env: { CRASHED: context.crashed ? '1' : '', ...(secret === undefined ? {} : { SECRET: secret }) },
          timeoutMs: 120_000,
        });
        if (result.exitCode !== 0) throw new ImsError('apply_failed', `${name} ended with ${result.exitCode}`);
        if (plan !== undefined) await context.propose({ text: `what ${name} would do`, ...plan });
        return { before: Object.keys(context.outputOf('first') ?? {}).length };
      },
    }));
  }

  result(outputs: Readonly<Record<string, JsonObject>>): { result: JsonObject } {
    return { result: { steps: Object.keys(outputs) } };
  }
}
