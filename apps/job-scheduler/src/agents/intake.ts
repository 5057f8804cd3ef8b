import { Injectable } from '@nestjs/common';
import {
  ImsError,
  type AgentId,
  type InstallId,
  type JsonObject,
  type SetAgentIntake,
  type UpdateAgentSettings,
  type VendorId,
} from '#contracts';
import { Database, storableText, type Tx } from '#persistence';
import { found } from '../catalogue/lists.js';
import { type StoredIntake } from '../engine/bars.js';
import { Offers } from '../engine/offers.js';
import { caller, checkStorable, iso, json } from '../wire.js';

interface Subject {
  readonly id: AgentId;
  readonly vendor_id: VendorId;
  readonly install_id: InstallId | null;
  readonly intake: StoredIntake | null;
}
const LABELS_MAX = 20;
/** So much at most in one sweep; the next comes half a second later. */
const DRAINED_BATCH = 100;

/** What a person at the vendor says of an agent: whether it takes jobs, how many at a time, and what it is called by. */
@Injectable()
export class Intake {
  constructor(
    private readonly database: Database,
    private readonly offers: Offers,
  ) {}

  /** Pauses, drains or opens the agent. What runs goes on; what was offered and not claimed waits. Twice is no error. */
  async set({ vendor_id, agent_id, intake, request }: SetAgentIntake): Promise<void> {
    const note = storableText(request.note ?? '');
    await this.database.transaction(async (tx) => {
      const agent = await lockAgent(tx, vendor_id, agent_id);
      const state = agent.intake?.state === 'drained' ? 'draining' : (agent.intake?.state ?? 'open');
      if (state === intake && (agent.intake?.note ?? '') === note) return;
      const stored = { state: intake, by: caller(), note, since: iso(agent.now) };
      await tx.query('UPDATE agents SET intake = $2 WHERE id = $1', [
        agent_id,
        intake === 'open' ? null : json(stored),
      ]);
      if (intake === 'open') await this.offers.make(tx, [agent_id]);
      // Offered at once when the agent is open again, instead of when the old offer would be repeated.
      else await tx.query(`UPDATE jobs SET offered_at = NULL WHERE agent_id = $1 AND status = 'queued'`, [agent_id]);
      const type = { open: 'agent.resumed', paused: 'agent.paused', draining: 'agent.draining' }[intake];
      await told(tx, agent, type, caller(), { note });
    });
  }

  /** Changes slots and labels. What is not named is as it was. */
  async settings({ vendor_id, agent_id, settings }: UpdateAgentSettings): Promise<void> {
    const { slots, labels } = settings;
    if (labels !== undefined) checkLabels(labels);
    await this.database.transaction(async (tx) => {
      const agent = await lockAgent(tx, vendor_id, agent_id);
      await tx.query(
        'UPDATE agents SET slots = coalesce($2, slots), labels = coalesce($3::jsonb, labels) WHERE id = $1',
        [agent_id, slots ?? null, json(labels)],
      );
      await this.offers.make(tx, [agent_id]);
      const changed = { ...(slots === undefined ? {} : { slots }), ...(labels === undefined ? {} : { labels }) };
      await told(tx, agent, 'agent.settings_changed', caller(), changed);
    });
  }

  /** Agents that were to run dry and have: said once. */
  async drained(): Promise<void> {
    // A claim that had seen the agent open may still be on its way into the table: it takes milliseconds.
    const dry = `intake->>'state' = 'draining' AND (intake->>'since')::timestamptz < now() - interval '1 second'
      AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.agent_id = a.id)`;
    const due = await this.database.query<{ id: AgentId }>(`SELECT a.id FROM agents a WHERE ${dry} LIMIT $1`, [
      DRAINED_BATCH,
    ]);
    for (const { id } of due) {
      await this.database.transaction(async (tx) => {
        const [agent] = await tx.query<Subject>(
          `UPDATE agents a SET intake = jsonb_set(intake, '{state}', '"drained"') WHERE id = $1 AND ${dry}
           RETURNING id, vendor_id, install_id, intake`,
          [id],
        );
        if (agent) await told(tx, agent, 'agent.drained', 'service:job-scheduler', {});
      });
    }
  }
}

async function lockAgent(tx: Tx, vendor_id: VendorId, agent_id: AgentId): Promise<Subject & { readonly now: Date }> {
  const [agent] = await tx.query<Subject & { readonly now: Date }>(
    `SELECT id, vendor_id, install_id, intake, clock_timestamp() AS now FROM agents
     WHERE id = $1 AND vendor_id = $2 FOR NO KEY UPDATE`,
    [agent_id, vendor_id],
  );
  return found(agent, `agent ${agent_id}`);
}

function checkLabels(labels: JsonObject): void {
  checkStorable(labels);
  const entries = Object.entries(labels);
  const sound = entries.every(
    ([name, value]) => /^[a-z0-9][a-z0-9._/-]{0,62}$/.test(name) && typeof value === 'string',
  );
  if (sound && entries.length <= LABELS_MAX) return;
  const message = `must be at most ${LABELS_MAX} names of a-z, 0-9, ".", "_", "/" and "-", each with a text`;
  throw new ImsError('invalid_request', `/labels ${message}`, [{ pointer: '/labels', message }]);
}

async function told(tx: Tx, agent: Subject, type: string, actor: string, data: JsonObject): Promise<void> {
  await tx.record({
    chainOf: agent.install_id ?? agent.vendor_id,
    type,
    vendor_id: agent.vendor_id,
    install_id: agent.install_id ?? undefined,
    agent_id: agent.id,
    actor,
    data,
  });
}
