import { toScheduler } from './catalogue.js';
import {
  Digest,
  Flag,
  IdOf,
  Int,
  Json,
  ListOf,
  Nested,
  OneOf,
  Optional,
  Text,
  TextList,
  Time,
  type JsonObject,
} from './fields.js';
import { type InstallId, type JobId } from './ids.js';
import { HeldAttempt, Hold, JobComponent, JobRef } from './jobs.js';
import { LIMITS } from './limits.js';
import { call } from './message.js';

/** What may happen to one thing. `replace`: removed and made anew. `run`: work that leaves nothing but its effect. */
export const CHANGE_ACTIONS = ['delete', 'replace', 'create', 'update', 'run'] as const;
export type ChangeAction = (typeof CHANGE_ACTIONS)[number];

/** One value that becomes another, each as JSON text, cut. Without both where the value is sensitive. */
export class FieldChange {
  /** `spec.replicas` */
  @Text(0, 300) path: string;
  @Optional() @Text(0, 300) before?: string;
  @Optional() @Text(0, 300) after?: string;
  /** The value is sensitive: nobody outside of the install sees it. */
  @Optional() @Flag() hidden?: boolean;
  /** Who set the value that is there, as the cluster names it, when it was not this component: its change is taken back. */
  @Optional() @Text(0, 100) set_by?: string;
}
export class PlannedChange {
  @OneOf(CHANGE_ACTIONS) action: ChangeAction;
  /** As its tool names it: `aws_db_instance.main`, `Deployment/web`. */
  @Text(1, 300) resource: string;
  /** Of the cluster, when it is not the component's own. */
  @Optional() @Text(1, 80) namespace?: string;
  /** What of it changes; for what is new or goes there is nothing to compare. */
  @Optional() @ListOf(() => FieldChange, LIMITS.planFields) fields?: FieldChange[];
}

/** What an attempt would do, in numbers and by name. Deletions first. */
export class PlanSummary {
  /** The same for the same change, over attempts: what a yes is bound to. Keyed at the agent, so it tells no secret. */
  @Digest() digest: string;
  /** Also true for a change that none of the counts shows (an output, a release whose last upgrade failed). */
  @Flag() changed: boolean;
  /** A replacement counts as created and as deleted. */
  @Int(0, 1_000_000) created: number;
  @Int(0, 1_000_000) updated: number;
  @Int(0, 1_000_000) deleted: number;
  @ListOf(() => PlannedChange, LIMITS.planChanges) changes: PlannedChange[];
  /** Changes, and fields of changes, that had no room here. */
  @Int(0, 10_000_000) omitted: number;
}
export class ReportPlan extends HeldAttempt {
  @Text(8, 60) session_id: string;
  @Nested(() => PlanSummary) plan: PlanSummary;
}
export const PLAN_DECISIONS = ['go', 'hold', 'refuse'] as const;
/** What the vendor says to a plan of a running attempt. The customer's own agent decides after it, and alone. */
export class PlanVerdict {
  @OneOf(PLAN_DECISIONS) decision: (typeof PLAN_DECISIONS)[number];
  /** refuse: why. */
  @Optional() @Text(0, 500) detail?: string;
  /** hold: the agent gives the job back with it, as `deferred`. */
  @Optional() @Nested(() => Hold) hold?: Hold;
  /** go: the vendor asks for the customer's yes too, whatever the customer's policy says. */
  @Optional() @Flag() ask_customer?: boolean;
}
/**
 * After the plan, before the first effect. The scheduler keeps the plan and answers whether the attempt may go on;
 * `stale_attempt` when it is another's. The same plan of the same attempt may be reported again.
 */
export const reportPlan = call({
  name: 'agent.plan',
  version: 1,
  subject: 'ims.v1.rpc.{agent}.plan',
  body: ReportPlan,
  reply: PlanVerdict,
  from: ['install'],
  servedBy: 'job-scheduler',
  timeoutMs: 5_000,
});

/** What somebody at the vendor has said to a plan. */
export class PlanApproval {
  /** `key:<id>` */
  @Text(1, 80) by: string;
  @OneOf(['approved', 'rejected']) decision: 'approved' | 'rejected';
  @Optional() @Text(0, 500) note?: string;
  @Time() at: string;
  @Time() expires_at: string;
}
/** The plan of a job's latest attempt that made one. */
export class JobPlan extends PlanSummary {
  @IdOf('job') job_id: JobId;
  @Int(1, 1_000_000) attempt: number;
  @IdOf('install') install_id: InstallId;
  @Nested(() => JobComponent) component: JobComponent;
  /** For people: a line for each change, deletions first. */
  @Text(0, 1_000_000) text: string;
  /** What was said to this very plan. */
  @ListOf(() => PlanApproval, 100) approvals: PlanApproval[];
  @Time() planned_at: string;
}
export const getPlan = toScheduler('get_plan', JobRef, JobPlan);

export class PlanNote {
  @Optional() @Text(0, 500) note?: string;
}
/** `digest`: the plan that the person has seen; `stale_plan` when the job's is another by now. */
export class DecidePlan extends JobRef {
  @Digest() digest: string;
  @OneOf(['approved', 'rejected']) decision: 'approved' | 'rejected';
  @Optional() @Text(0, 500) note?: string;
}
export const decidePlanOfJob = toScheduler('decide_plan', DecidePlan, JobPlan);

/** How a component does. `progressing`: not yet, and it may come by itself. `missing`: it was deployed and is gone. */
export const HEALTHS = ['healthy', 'progressing', 'degraded', 'missing', 'unknown'] as const;
export type Health = (typeof HEALTHS)[number];
/** What a drift probe found. It changes nothing. */
export class ObserveOutcome {
  /** What is there is not what was deployed: a deployment of the same release would change something. */
  @Flag() drifted: boolean;
  /** The difference, as the plan that would take it back. */
  @Optional() @Nested(() => PlanSummary) difference?: PlanSummary;
  @OneOf(HEALTHS) health: Health;
  /** What is not healthy and why: `Deployment/web: 1 of 2 are available`. */
  @TextList(50, 500) reasons: string[];
  /** Outputs that are not sensitive, as they are now. */
  @Optional() @Json() outputs?: JsonObject;
}
