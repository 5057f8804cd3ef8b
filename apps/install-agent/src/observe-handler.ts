import { Injectable } from '@nestjs/common';
import { type JobHandler, type StepContext, type StepDefinition } from '#agent-kit';
import { type JsonObject } from '#contracts';
import { cleanedChanges, countsOf, planSummary } from '#domain';
import { type ExecutorContext, type Plan } from './executor.js';
import { digestOfPlan, Provisioning, shown } from './provision-handlers.js';
import { artifactOf } from './verification.js';

/**
 * The drift probe: what is there, against what was deployed. It changes nothing, takes no lock, and may run beside a
 * deployment of the same component.
 */
@Injectable()
export class ObserveHandler implements JobHandler {
  readonly kind = 'observe';

  constructor(private readonly provisioning: Provisioning) {}

  steps(): readonly StepDefinition[] {
    return [
      { name: 'fetch', run: (step) => this.provisioning.fetch(step) },
      { name: 'probe', run: (step) => this.probe(step) },
    ];
  }

  result({ probe = {} }: Readonly<Record<string, JsonObject>>): { result: JsonObject } {
    return { result: probe };
  }

  private async probe(step: StepContext): Promise<JsonObject> {
    const { store } = this.provisioning;
    const { component } = step.statement;
    const known = await store.read(component.name);
    if (known === undefined) return found('missing', ['it is not deployed, or was removed']);
    // A deployment has come between; its own steps have seen to the component.
    if (known.digest !== artifactOf(step).digest) return found('unknown', ['another artifact was deployed meanwhile']);
    const context = await this.provisioning.contextOf(step);
    const executor = this.provisioning.executorOf(step);
    await executor.prepare(context);
    const plan = await executor.plan(context);
    const { health, reasons } = await executor.health(context);
    const drifted = plan.changed && plan.harmless !== true;
    const told = reasons.map((reason) => step.secrets.hide(reason));
    step.log(drifted || health !== 'healthy' ? 'warn' : 'info', [health, drifted ? 'drifted' : '', ...told].join('; '));
    if (drifted) step.log('warn', plan.text);
    return { ...found(health, told), drifted, ...(drifted ? { difference: differenceOf(context, plan) } : {}) };
  }
}

const found = (health: string, reasons: readonly string[]): JsonObject => ({
  drifted: false,
  health,
  reasons: [...reasons],
});

function differenceOf(context: ExecutorContext, plan: Plan): JsonObject {
  const { changed } = plan;
  const changes = cleanedChanges(plan.changes.map(shown), (text) => context.step.secrets.hide(text));
  const summary = planSummary({ digest: digestOfPlan(context, plan), changed, ...countsOf(changes) }, changes);
  return JSON.parse(JSON.stringify(summary)) as JsonObject;
}
