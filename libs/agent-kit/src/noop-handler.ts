import { ImsError, type JobKind, type JobStatement } from '#contracts';
import { type JobHandler, type StepDefinition } from './handler.js';

/** Goes through the whole loop and does nothing: for tests, load and trying out an installation. */
export class NoopHandler implements JobHandler {
  constructor(
    readonly kind: JobKind = 'noop',
    private readonly stepNames: readonly string[] = ['prepare', 'work', 'finish'],
  ) {}

  steps(job: JobStatement): readonly StepDefinition[] {
    return this.stepNames.map((name) => ({
      name,
      run: async (context) => {
        context.log('info', `${name} of ${job.component.name}: nothing to do`);
        return Promise.resolve({ step: name });
      },
    }));
  }

  result(outputs: Readonly<Record<string, object>>): { result: { steps: number } } {
    const steps = Object.keys(outputs).length;
    if (steps !== this.stepNames.length)
      throw new ImsError('agent_error', `${steps} of ${this.stepNames.length} steps`);
    return { result: { steps } };
  }
}
