import { Injectable } from '@nestjs/common';
import {
  decidePlanOfJob,
  getPlan,
  ImsError,
  JobComponent,
  JobPlan,
  PlanApproval,
  PlanVerdict,
  reportPlan,
  type ApprovalPolicy,
  type ComponentId,
  type ComponentKind,
  type DecidePlan,
  type InstallId,
  type JobId,
  type JobRef,
  type PlanSummary,
  type ReportPlan,
} from '#contracts';
import { jobMachine, judgePlan, mayVote, renderPlan, type JobEvent, type PlanJudgement, type PlanVote } from '#domain';
import { Serves, type MessageContext } from '#messaging';
import { Database, storableJson, storableText, type Tx } from '#persistence';
import { found } from '../catalogue/lists.js';
import { caller, iso, json, wire } from '../wire.js';
import { callerOf } from './claims.js';
import { type Change } from './change.js';
import { lockJob, lockJobInDeployment, type JobRow } from './rows.js';
import { SCHEDULER, Transitions } from './transitions.js';

interface PlanRow {
  readonly job_id: JobId;
  readonly attempt: number;
  readonly install_id: InstallId;
  readonly component_id: ComponentId;
  readonly component_name: string;
  readonly component_kind: ComponentKind;
  readonly plan: PlanSummary;
  readonly planned_at: Date;
}

interface VoteRow {
  readonly actor: string;
  readonly decision: PlanVote['decision'];
  readonly note: string | null;
  readonly at: Date;
  readonly expires_at: Date;
}
const VOTES = 'SELECT * FROM plan_approvals WHERE job_id = $1 AND plan_digest = $2 ORDER BY at LIMIT 100';
const DAY_HOURS = 24;
const VOTES_BATCH = 100;

/** What attempts would do, told by their agents before they do it: for people to read, and to say yes or no to. */
@Injectable()
export class Plans {
  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
  ) {}

  /** Keeps the plan of the running attempt, in the place of an earlier one, and says whether the attempt may go on. */
  @Serves(reportPlan)
  async report({ job_id, attempt, plan }: ReportPlan, context: MessageContext): Promise<PlanVerdict> {
    const agent = callerOf(context);
    const stored = storableJson(JSON.parse(JSON.stringify(plan)) as Parameters<typeof storableJson>[0]);
    return this.transitions.run(async (change) => {
      const { tx } = change;
      const job = await lockJob(tx, job_id);
      if (job?.agent_id !== agent) throw new ImsError('not_found', `${agent} has no job ${job_id}`);
      if (job.attempt !== attempt || job.status !== 'running') {
        throw new ImsError('stale_attempt', `attempt ${attempt} of ${job_id} does not run`);
      }
      const [before] = await tx.query<{ plan: PlanSummary; attempt: number }>(
        'SELECT plan, attempt FROM job_plans WHERE job_id = $1',
        [job_id],
      );
      await tx.query(
        `INSERT INTO job_plans (job_id, attempt, plan) VALUES ($1, $2, $3)
         ON CONFLICT (job_id) DO UPDATE SET attempt = EXCLUDED.attempt, plan = EXCLUDED.plan, planned_at = now()`,
        [job_id, attempt, json(stored)],
      );
      const repeated = before?.attempt === attempt && before.plan.digest === plan.digest;
      if (plan.changed && !repeated) {
        const { digest, created, updated, deleted } = plan;
        const data = { attempt, plan_digest: digest, created, updated, deleted };
        this.transitions.fact(change, job, 'job.planned', `agent:${agent}`, data);
      }
      return verdictOf(
        judgePlan(await policyOf(tx, job_id), plan, await votesOn(tx, job_id, plan.digest), job.now.getTime()),
      );
    });
  }

  /**
   * A person's word on the plan that it has read. Enough of them let the job go on, a no ends it. Throws `stale_plan`
   * when the job has another plan by now, `forbidden` when the policy does not count this key, `conflict` when nothing
   * waits for it.
   */
  @Serves(decidePlanOfJob)
  async decide({ vendor_id, job_id, digest, decision, note }: DecidePlan): Promise<JobPlan> {
    await this.transitions.run(async (change) => {
      const { tx } = change;
      const job = await lockJobInDeployment(tx, job_id);
      if (job?.vendor_id !== vendor_id) throw new ImsError('not_found', `there is no job ${job_id}`);
      const [row] = await tx.query<{ plan: PlanSummary }>('SELECT plan FROM job_plans WHERE job_id = $1', [job_id]);
      const { plan } = found(row, `plan of job ${job_id}`);
      if (plan.digest !== digest) throw new ImsError('stale_plan', `the plan of ${job_id} is ${plan.digest} by now`);
      const policy = await policyOf(tx, job_id);
      const now = job.now.getTime();
      const before = judgePlan(policy, plan, await votesOn(tx, job_id, digest), now);
      if (jobMachine.isFinal(job.status) || before.decision !== 'hold') {
        throw new ImsError('conflict', `${job_id} does not wait for an approval: it is ${job.status}`);
      }
      const by = caller();
      if (policy && !mayVote(policy, by)) throw new ImsError('forbidden', `${by} is no approver here`);
      const expires = new Date(now + (policy?.expires_hours ?? DAY_HOURS) * 3_600_000);
      const text = note === undefined ? null : storableText(note);
      await tx.query(
        `INSERT INTO plan_approvals (job_id, plan_digest, actor, decision, note, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (job_id, plan_digest, actor) DO UPDATE SET
           decision = EXCLUDED.decision, note = EXCLUDED.note, at = now(), expires_at = EXCLUDED.expires_at`,
        [job_id, digest, by, decision, text, expires],
      );
      const data = { plan_digest: digest, ...(text === null ? {} : { note: text }) };
      this.transitions.fact(change, job, `job.plan_${decision}`, by, data);
      this.follow(change, job, judgePlan(policy, plan, await votesOn(tx, job_id, digest), now), by);
    });
    return this.getPlan({ vendor_id, job_id });
  }

  /** Answers that came while the attempt was still giving the job back. Answers how many jobs went on. */
  async followVotes(): Promise<number> {
    const due = await this.database.query<{ id: JobId }>(
      `SELECT DISTINCT j.id FROM jobs j JOIN plan_approvals v ON v.job_id = j.id AND v.plan_digest = j.hold->>'plan_digest'
       WHERE j.status = 'queued' AND j.hold->>'code' = 'awaiting_approval' AND v.at > j.offered_at LIMIT $1`,
      [VOTES_BATCH],
    );
    let followed = 0;
    for (const { id } of due) {
      followed += await this.transitions.run(async (change) => {
        const job = await lockJobInDeployment(change.tx, id);
        const digest = job?.hold?.plan_digest;
        if (job?.status !== 'queued' || job.hold?.code !== 'awaiting_approval' || digest === undefined) return 0;
        const [row] = await change.tx.query<{ plan: PlanSummary }>('SELECT plan FROM job_plans WHERE job_id = $1', [
          id,
        ]);
        if (row?.plan.digest !== digest) return 0;
        const votes = await votesOn(change.tx, id, digest);
        const judged = judgePlan(await policyOf(change.tx, id), row.plan, votes, job.now.getTime());
        return this.follow(change, job, judged, SCHEDULER);
      });
    }
    return followed;
  }

  private follow(change: Change, job: JobRow, judged: PlanJudgement, actor: string): 0 | 1 {
    if (judged.decision === 'hold' || job.hold?.code !== 'awaiting_approval') return 0;
    const { plan_digest = '' } = job.hold;
    const event: JobEvent =
      judged.decision === 'go'
        ? { type: 'approved' }
        : { type: 'rejected', fault: { code: 'plan_rejected', detail: judged.detail } };
    const decision = this.transitions.apply(change, job, event, { actor, data: { plan_digest } });
    return 'refusal' in decision ? 0 : 1;
  }

  @Serves(getPlan)
  async getPlan({ vendor_id, job_id }: JobRef): Promise<JobPlan> {
    const [row] = await this.database.query<PlanRow>(
      `SELECT p.*, j.install_id, j.component_id, j.component_name, j.component_kind
         FROM job_plans p JOIN jobs j ON j.id = p.job_id WHERE p.job_id = $1 AND j.vendor_id = $2`,
      [job_id, vendor_id],
    );
    const { plan, component_id, component_name, component_kind, ...rest } = found(row, `plan of job ${job_id}`);
    const votes = await this.database.query<VoteRow>(VOTES, [job_id, plan.digest]);
    return wire(JobPlan, {
      ...plan,
      ...rest,
      component: wire(JobComponent, { id: component_id, name: component_name, kind: component_kind }),
      text: renderPlan(plan),
      approvals: votes.map(({ actor, decision, note, at, expires_at }) =>
        wire(PlanApproval, { by: actor, decision, note, at: iso(at), expires_at: iso(expires_at) }),
      ),
      planned_at: iso(rest.planned_at),
    });
  }
}

/** The policy of the job's install, else of its app. */
async function policyOf(tx: Tx, job_id: JobId): Promise<ApprovalPolicy | undefined> {
  const [row] = await tx.query<{ approval: ApprovalPolicy | null }>(
    `SELECT coalesce(i.approval, a.approval) AS approval
     FROM jobs j JOIN apps a ON a.id = j.app_id LEFT JOIN installs i ON i.id = j.install_id WHERE j.id = $1`,
    [job_id],
  );
  return row?.approval ?? undefined;
}

async function votesOn(tx: Tx, job_id: JobId, digest: string): Promise<PlanVote[]> {
  const rows = await tx.query<VoteRow>(VOTES, [job_id, digest]);
  return rows.map(({ actor, expires_at, ...vote }) => ({ ...vote, by: actor, expiresAt: expires_at.getTime() }));
}

function verdictOf(judged: PlanJudgement): PlanVerdict {
  switch (judged.decision) {
    case 'go':
      return wire(PlanVerdict, { decision: 'go', ...(judged.askCustomer ? { ask_customer: true } : {}) });
    case 'hold':
      return wire(PlanVerdict, { decision: 'hold', hold: judged.hold });
    case 'refuse':
      return wire(PlanVerdict, { decision: 'refuse', detail: judged.detail.slice(0, 500) });
  }
}
