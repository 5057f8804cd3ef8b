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
import { type NewOutboxRow, type Query, type StoredOutbox } from './outbox.js';
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

/**
 * Appends facts to their chains, in the order given: two statements, however many they are. The first locks the heads
 * of the chains, in one order, until the end of the transaction: facts of one chain are written one after another, so
 * this comes last in a transaction. The second also stores what the transaction publishes, `messagesOf` the facts
 * included: a round trip less in each transaction of the engine.
 */
export async function appendEvents(
  query: Query,
  service: ServiceName,
  facts: readonly NewEvent[],
  messagesOf: (events: readonly Event[]) => readonly NewOutboxRow[],
): Promise<{ events: Event[]; stored: StoredOutbox }> {
  const lengths = new Map<string, number>();
  const chainOf = (fact: NewEvent): string => `${service}:${fact.chainOf}`;
  for (const fact of facts) lengths.set(chainOf(fact), (lengths.get(chainOf(fact)) ?? 0) + 1);
  const locked = await query<{ chain: string; seq: number; hash: string; at: Date }>(
    `INSERT INTO event_chains AS c (chain, seq, hash)
     SELECT chain, facts, '' FROM unnest($1::text[], $2::bigint[]) AS r (chain, facts) ORDER BY chain
     ON CONFLICT (chain) DO UPDATE SET seq = c.seq + excluded.seq
     RETURNING chain, seq, hash, date_trunc('milliseconds', clock_timestamp()) AS at`,
    [[...lengths.keys()], [...lengths.values()]],
  );
  const heads = new Map(
    locked.map(({ chain, seq, hash, at }) => [
      chain,
      { seq: seq - (lengths.get(chain) ?? 0), hash, at: at.toISOString() },
    ]),
  );
  const events = facts.map((fact) => {
    const head = heads.get(chainOf(fact));
    if (!head) throw new Error('the chain head answered no row');
    head.seq += 1;
    const own: Omit<Event, 'hash' | 'prev_hash'> = {
      id: newId('event'),
      chain: chainOf(fact),
      seq: head.seq,
      type: fact.type,
      at: head.at,
      vendor_id: fact.vendor_id,
      ...(fact.install_id === undefined ? {} : { install_id: fact.install_id }),
      ...(fact.deployment_id === undefined ? {} : { deployment_id: fact.deployment_id }),
      ...(fact.job_id === undefined ? {} : { job_id: fact.job_id }),
      ...(fact.agent_id === undefined ? {} : { agent_id: fact.agent_id }),
      actor: fact.actor,
      data: storableJson(fact.data),
    };
    const hash = hashEvent(head.hash, own);
    const event = Object.assign(new Event(), own, { prev_hash: head.hash, hash });
    head.hash = hash;
    return event;
  });
  const messages = messagesOf(events);
  const column = <K extends keyof Event>(name: K): (Event[K] | null)[] => events.map((event) => event[name] ?? null);
  const rows = await query<{ id: number; xid: string }>(
    `WITH heads AS (
       UPDATE event_chains AS c SET hash = h.hash FROM unnest($1::text[], $2::text[]) AS h (chain, hash)
        WHERE c.chain = h.chain),
     facts AS (
       INSERT INTO events (id, chain, seq, prev_hash, hash, type, at, vendor_id, install_id, deployment_id, job_id,
         agent_id, actor, data)
       SELECT * FROM unnest($3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[],
         $9::timestamptz[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::jsonb[])),
     sent AS (
       INSERT INTO outbox (subject, headers, body, message_id)
       SELECT subject, headers, body, message_id
       FROM unnest($17::text[], $18::jsonb[], $19::text[], $20::text[]) WITH ORDINALITY
         AS r (subject, headers, body, message_id, position) ORDER BY position
       RETURNING id)
     SELECT id, pg_current_xact_id()::text AS xid FROM sent ORDER BY id`,
    [
      [...heads.keys()],
      [...heads.values()].map(({ hash }) => hash),
      column('id'),
      column('chain'),
      column('seq'),
      column('prev_hash'),
      column('hash'),
      column('type'),
      column('at'),
      column('vendor_id'),
      column('install_id'),
      column('deployment_id'),
      column('job_id'),
      column('agent_id'),
      column('actor'),
      events.map(({ data }) => JSON.stringify(data)),
      messages.map(({ subject }) => subject),
      messages.map(({ headers }) => JSON.stringify(headers)),
      messages.map(({ body }) => body),
      messages.map(({ messageId }) => messageId),
    ],
  );
  // Ids of one statement grow in the order of its rows.
  const sent = messages.map((row, i) => ({ ...row, id: Number(rows[i]?.id) }));
  return { events, stored: { rows: sent, xid: rows[0]?.xid ?? '' } };
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
