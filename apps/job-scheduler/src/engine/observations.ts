import { type Health, type InstallId, type JsonObject, type ObserveOutcome } from '#contracts';
import { storableJson, type NewEvent, type Tx } from '#persistence';
import { json } from '../wire.js';
import { type JobRow } from './rows.js';

interface Before {
  readonly health: Health | null;
  readonly drifted: boolean | null;
  readonly digest: string | null;
}

/**
 * Keeps what a drift probe has found: the newest on the component, and a line of its history when it differs from what
 * was found before. Answers the facts: that a component has drifted, is as deployed again, or is well or unwell.
 */
export async function storeObservation(tx: Tx, job: JobRow, outcome: ObserveOutcome): Promise<NewEvent[]> {
  const { install_id, component_name: name } = job;
  if (install_id === null) return [];
  const [before] = await tx.query<Before>(
    `SELECT health, drifted, difference->>'digest' AS digest FROM install_components
     WHERE install_id = $1 AND name = $2 FOR UPDATE`,
    [install_id, name],
  );
  if (!before) return [];
  const { health, reasons, drifted } = outcome;
  const difference = outcome.difference && storableJson(JSON.parse(JSON.stringify(outcome.difference)) as JsonObject);
  const digest = drifted ? (outcome.difference?.digest ?? null) : null;
  await tx.query(
    `UPDATE install_components SET health = $3, reasons = $4, drifted = $5, difference = $6, observed_at = now(),
       fix_digest = CASE WHEN $5 THEN fix_digest END
     WHERE install_id = $1 AND name = $2`,
    [install_id, name, health, reasons, drifted, drifted ? json(difference) : null],
  );
  const same = before.health === health && before.drifted === drifted && before.digest === digest;
  if (same) return [];
  await tx.query(
    `INSERT INTO observations (job_id, install_id, component, health, reasons, drifted, difference)
     VALUES ($1, $2, $3, $4, $5, $6, $7)`,
    [job.id, install_id, name, health, reasons, drifted, json(difference)],
  );
  const fact = (type: string, data: JsonObject): NewEvent =>
    factOf(job, install_id, type, { component: name, ...data });
  const facts: NewEvent[] = [];
  if (drifted && (before.drifted !== true || before.digest !== digest)) {
    const { created = 0, updated = 0, deleted = 0 } = outcome.difference ?? {};
    facts.push(fact('component.drifted', { plan_digest: digest, created, updated, deleted }));
  }
  if (!drifted && before.drifted === true) facts.push(fact('component.drift_ended', {}));
  if (before.health !== health && (before.health !== null || health !== 'healthy')) {
    facts.push(fact('component.health_changed', { health, before: before.health, reasons: reasons.slice(0, 10) }));
  }
  return facts;
}

const factOf = (job: JobRow, install_id: InstallId, type: string, data: JsonObject): NewEvent => ({
  chainOf: install_id,
  type,
  vendor_id: job.vendor_id,
  install_id,
  job_id: job.id,
  agent_id: job.agent_id,
  actor: `agent:${job.agent_id}`,
  data,
});
