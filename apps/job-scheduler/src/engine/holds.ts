import { createHash } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import {
  CustomerPolicyReceipt,
  Hold,
  ImsError,
  reportPolicy,
  sortedJson,
  type AgentId,
  type CustomerPolicyReport,
  type InstallId,
  type JobId,
  type JsonObject,
  type ResumeHeldJob,
  type VendorId,
} from '#contracts';
import { jobMachine } from '#domain';
import { Serves, type MessageContext } from '#messaging';
import { Database, storableJson, storableText } from '#persistence';
import { Presence } from '../agents/presence.js';
import { caller, json, wire } from '../wire.js';
import { callerOf } from './claims.js';
import { lockJob, type JobRow } from './rows.js';
import { type Change } from './change.js';
import { SCHEDULER, Transitions } from './transitions.js';

/** So much at most in one sweep; the next comes half a second later. */
const LIFT_BATCH = 100;
/** Jobs of an agent whose customer hold is over because the agent has reported its policy since the attempt began. */
const OVERTAKEN = `j.status = 'queued' AND j.hold IS NOT NULL AND j.hold_serial < a.policy_serial`;

interface ReportingAgent {
  readonly vendor_id: VendorId;
  readonly install_id: InstallId | null;
  readonly presence: string;
  readonly policy_digest: string | null;
}

/**
 * Who may hold a job and who lets it go on. A hold of the customer stands only while its agent has not reported its
 * policy since the deferred attempt was granted: a report that overtakes the result of that attempt (they travel on
 * different ways) lifts the hold all the same, at the latest in the next sweep. Looked at once too often costs one
 * attempt that is deferred again; once too seldom would let the job sleep for ever.
 */
@Injectable()
export class Holds {
  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
    private readonly presence: Presence,
  ) {}

  /** A token of the job was in wrong hands. No error where nothing is left to hold: held already, ending, ended. */
  async hold(vendor_id: VendorId, job_id: JobId, { code, detail }: Hold): Promise<void> {
    const hold = wire(Hold, { code, detail: storableText(detail) });
    if (code !== 'token_tampered')
      throw new ImsError('invalid_request', `${code} comes with an attempt's result alone`);
    await this.transitions.run(async (change) => {
      const job = await this.lock(change, vendor_id, job_id);
      if (job.status === 'cancelling' || jobMachine.isFinal(job.status)) return;
      this.transitions.apply(change, job, { type: 'hold', hold }, { actor: 'service:registry-token' });
    });
  }

  /** A person at the vendor has looked at it. Throws `held_by_customer`, or `conflict` when there is nothing to lift. */
  async resume({ vendor_id, job_id, resume }: ResumeHeldJob): Promise<void> {
    const reason = resume.reason === undefined ? {} : { reason: storableText(resume.reason) };
    await this.transitions.run(async (change) => {
      const job = await this.lock(change, vendor_id, job_id);
      const actor = caller();
      const decision = this.transitions.apply(change, job, { type: 'resume' }, { actor, data: reason });
      if ('refusal' in decision) throw new ImsError(decision.refusal, `${job.id}: ${decision.detail}`);
    });
  }

  /**
   * Keeps what the agent says of its customer's policy, and offers again what the customer held: the agent decides
   * anew. All in one transaction, so the answer counts what this report has lifted, however many replicas sweep.
   */
  @Serves(reportPolicy)
  async report({ policy }: CustomerPolicyReport, context: MessageContext): Promise<CustomerPolicyReceipt> {
    const id = callerOf(context);
    this.presence.heard(id);
    const stored = storableJson(policy);
    const content = contentOf(stored);
    const digest = createHash('sha256')
      .update(JSON.stringify(sortedJson(content)))
      .digest('hex');
    return this.transitions.run(async (change) => {
      const { tx } = change;
      const [agent] = await tx.query<ReportingAgent>(
        'SELECT vendor_id, install_id, presence, policy_digest FROM agents WHERE id = $1 FOR NO KEY UPDATE',
        [id],
      );
      if (!agent) throw new ImsError('not_found', `there is no agent ${id}`);
      if (agent.presence === 'revoked') throw new ImsError('agent_revoked', `${id} was revoked`);
      await tx.query(
        'UPDATE agents SET policy = $2, policy_digest = $3, policy_serial = policy_serial + 1 WHERE id = $1',
        [id, json(stored), digest],
      );
      if (agent.policy_digest !== digest) this.changed(change, id, agent, content, digest);
      const held = await tx.query<JobRow>(
        `SELECT j.*, clock_timestamp() AS now FROM jobs j JOIN agents a ON a.id = j.agent_id
         WHERE j.agent_id = $1 AND ${OVERTAKEN} ORDER BY j.id FOR UPDATE OF j`,
        [id],
      );
      for (const job of held) {
        this.transitions.apply(change, job, { type: 'lift', by: 'report' }, { actor: `agent:${id}` });
      }
      return wire(CustomerPolicyReceipt, { lifted: held.length });
    });
  }

  /** Lifts what is over: its time has come, or a report has overtaken the deferral. Answers how many. */
  async liftDue(): Promise<number> {
    const due = await this.database.query<{ id: JobId }>(
      `SELECT j.id FROM jobs j JOIN agents a ON a.id = j.agent_id
       WHERE j.status = 'queued' AND j.hold IS NOT NULL
         AND (j.hold_until <= clock_timestamp() OR j.hold_serial < a.policy_serial) LIMIT $1`,
      [LIFT_BATCH],
    );
    let lifted = 0;
    for (const { id } of due) if (await this.liftOne(id)) lifted += 1;
    return lifted;
  }

  private liftOne(id: JobId): Promise<boolean> {
    return this.transitions.run(async (change) => {
      // Somebody else is at work there: the next sweep looks again.
      const free = await change.tx.query('SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE SKIP LOCKED', [id]);
      const job = free.length > 0 ? await lockJob(change.tx, id) : undefined;
      if (!job) return false;
      const overtaken = await change.tx.query(
        `SELECT 1 FROM jobs j JOIN agents a ON a.id = j.agent_id WHERE j.id = $1 AND ${OVERTAKEN}`,
        [id],
      );
      const by = overtaken.length > 0 ? 'report' : 'time';
      return !('refusal' in this.transitions.apply(change, job, { type: 'lift', by }, { actor: SCHEDULER }));
    });
  }

  private async lock(change: Change, vendor_id: VendorId, job_id: JobId): Promise<JobRow> {
    const job = await lockJob(change.tx, job_id);
    if (job?.vendor_id !== vendor_id) throw new ImsError('not_found', `there is no job ${job_id}`);
    return job;
  }

  private changed(change: Change, id: AgentId, agent: ReportingAgent, policy: JsonObject, digest: string): void {
    change.facts.push({
      chainOf: agent.install_id ?? agent.vendor_id,
      type: 'agent.policy_changed',
      vendor_id: agent.vendor_id,
      install_id: agent.install_id ?? undefined,
      agent_id: id,
      actor: `agent:${id}`,
      data: { policy, digest, before: agent.policy_digest },
    });
  }
}

/** The policy alone. What waits for approval and where the customer's record stands is news with each report. */
function contentOf(report: JsonObject): JsonObject {
  const { pending: _pending, record: _record, ...policy } = report;
  return policy;
}
