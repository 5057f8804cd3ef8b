import {
  Event,
  hashEvent,
  newId,
  type AgentId,
  type DeploymentId,
  type InstallId,
  type JobId,
  type JsonObject,
  type ServiceName,
  type VendorId,
} from '#contracts';
import { storableJson } from './storable.js';

/** A fact to record. Its chain is that of the install or vendor that it is about. */
export interface NewEvent {
  readonly chainOf: InstallId | VendorId;
  /** `job.granted`, `agent.enrolled` … */
  readonly type: string;
  readonly vendor_id: VendorId;
  readonly install_id?: InstallId | undefined;
  readonly deployment_id?: DeploymentId | undefined;
  readonly job_id?: JobId | undefined;
  readonly agent_id?: AgentId | undefined;
  /** `key:<id>`, `agent:<id>`, `service:<name>` */
  readonly actor: string;
  readonly data: JsonObject;
}

export type Query = <T = Record<string, unknown>>(sql: string, params?: readonly unknown[]) => Promise<T[]>;

/**
 * Appends a fact to its chain. The first statement locks the chain's head until the end of the transaction: facts of
 * one chain are written one after another, so this comes last in a transaction.
 */
export async function appendEvent(query: Query, service: ServiceName, fact: NewEvent): Promise<Event> {
  const chain = `${service}:${fact.chainOf}`;
  const [head] = await query<{ seq: number; hash: string; at: Date }>(
    `INSERT INTO event_chains AS c (chain, seq, hash) VALUES ($1, 1, '')
     ON CONFLICT (chain) DO UPDATE SET seq = c.seq + 1
     RETURNING seq, hash, date_trunc('milliseconds', clock_timestamp()) AS at`,
    [chain],
  );
  if (!head) throw new Error('the chain head answered no row');
  const event: Omit<Event, 'hash' | 'prev_hash'> = {
    id: newId('event'),
    chain,
    seq: head.seq,
    type: fact.type,
    at: head.at.toISOString(),
    vendor_id: fact.vendor_id,
    ...(fact.install_id === undefined ? {} : { install_id: fact.install_id }),
    ...(fact.deployment_id === undefined ? {} : { deployment_id: fact.deployment_id }),
    ...(fact.job_id === undefined ? {} : { job_id: fact.job_id }),
    ...(fact.agent_id === undefined ? {} : { agent_id: fact.agent_id }),
    actor: fact.actor,
    data: storableJson(fact.data),
  };
  const hash = hashEvent(head.hash, event);
  await query(
    `WITH head AS (UPDATE event_chains SET hash = $6 WHERE chain = $2)
     INSERT INTO events (id, chain, seq, prev_hash, hash, type, at, vendor_id, install_id, deployment_id, job_id,
       agent_id, actor, data)
     VALUES ($1, $2, $3, $4, $6, $5, $7, $8, $9, $10, $11, $12, $13, $14)`,
    [
      event.id,
      chain,
      event.seq,
      head.hash,
      event.type,
      hash,
      event.at,
      event.vendor_id,
      event.install_id ?? null,
      event.deployment_id ?? null,
      event.job_id ?? null,
      event.agent_id ?? null,
      event.actor,
      JSON.stringify(event.data),
    ],
  );
  return Object.assign(new Event(), event, { prev_hash: head.hash, hash });
}

/** A row of `events` (read with `SELECT *`) as the wire's Event. */
export function eventOfRow(row: Record<string, unknown>): Event {
  const present = Object.entries(row).filter(([, value]) => value !== null && value !== undefined);
  const fields: Record<string, unknown> = Object.fromEntries(present);
  const at = fields['at'];
  return Object.assign(new Event(), fields, {
    seq: Number(fields['seq']),
    at: at instanceof Date ? at.toISOString() : at,
  });
}

/**
 * The first place where events of one chain, in order, do not fit together; undefined when the chain is whole.
 * `before`: the last event of the part that has been checked already.
 */
export function findChainBreak(
  events: readonly Event[],
  before?: Event,
): { seq: number; reason: 'missing' | 'relinked' | 'changed' } | undefined {
  let seq = before?.seq ?? 0;
  let hash = before?.hash ?? '';
  for (const event of events) {
    if (event.seq !== seq + 1) return { seq: seq + 1, reason: 'missing' };
    if (event.prev_hash !== hash) return { seq: event.seq, reason: 'relinked' };
    if (hashEvent(hash, event) !== event.hash) return { seq: event.seq, reason: 'changed' };
    seq = event.seq;
    hash = event.hash;
  }
  return undefined;
}
