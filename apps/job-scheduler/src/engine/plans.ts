import { Injectable } from '@nestjs/common';
import {
  getPlan,
  ImsError,
  JobComponent,
  JobPlan,
  PlanVerdict,
  reportPlan,
  type ComponentId,
  type ComponentKind,
  type InstallId,
  type JobId,
  type JobRef,
  type PlanSummary,
  type ReportPlan,
} from '#contracts';
import { renderPlan } from '#domain';
import { Serves, type MessageContext } from '#messaging';
import { Database, storableJson } from '#persistence';
import { found } from '../catalogue/lists.js';
import { iso, json, wire } from '../wire.js';
import { callerOf } from './claims.js';
import { lockJob } from './rows.js';
import { Transitions } from './transitions.js';

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
      return wire(PlanVerdict, { decision: 'go' });
    });
  }

  @Serves(getPlan)
  async getPlan({ vendor_id, job_id }: JobRef): Promise<JobPlan> {
    const [row] = await this.database.query<PlanRow>(
      `SELECT p.*, j.install_id, j.component_id, j.component_name, j.component_kind
         FROM job_plans p JOIN jobs j ON j.id = p.job_id WHERE p.job_id = $1 AND j.vendor_id = $2`,
      [job_id, vendor_id],
    );
    const { plan, component_id, component_name, component_kind, ...rest } = found(row, `plan of job ${job_id}`);
    return wire(JobPlan, {
      ...plan,
      ...rest,
      component: wire(JobComponent, { id: component_id, name: component_name, kind: component_kind }),
      text: renderPlan(plan),
      planned_at: iso(rest.planned_at),
    });
  }
}
