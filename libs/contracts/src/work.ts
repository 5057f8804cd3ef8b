import { Page, ListInVendor, toScheduler } from './catalogue.js';
import {
  Flag,
  IdOf,
  Int,
  Json,
  ListOf,
  Name,
  Nested,
  OneOf,
  Optional,
  Text,
  TextList,
  Time,
  type JsonObject,
} from './fields.js';
import { type AgentId, type InstallId, type JobId } from './ids.js';
import { Agent, AgentRef, Deployment, DeploymentRef, InstallRef, ResumeRequest } from './installs.js';
import { Hold, Job, JobRef } from './jobs.js';
import { LIMITS } from './limits.js';
import { call } from './message.js';

// ---- work: a graph of jobs that a person asks for, beside deployments

/** Kinds that change nothing at the product, so they may run beside a deployment. */
export const WORK_KINDS = ['noop', 'sync'] as const;
export type WorkKind = (typeof WORK_KINDS)[number];

/** One job of a graph that is asked for. */
export class NewWorkJob {
  /** Names the job within the graph. */
  @Name() key: string;
  @OneOf(WORK_KINDS) kind: WorkKind;
  /** `sync` takes what the install was last deployed from. */
  @Text(1, 40) component: string;
  /** Keys of jobs in this graph that have to succeed first. */
  @Optional() @TextList(LIMITS.jobsPerGraph, 40) depends_on?: string[];
  /** When it fails, what depends on it runs all the same, and the graph does not fail. */
  @Optional() @Flag() allow_failure?: boolean;
  /** Higher is sooner; a step is worth ten seconds of waiting. Default 0. */
  @Optional() @Int(-LIMITS.priorityMax, LIMITS.priorityMax) priority?: number;
  /** Not to begin before this time, or so many seconds from now. */
  @Optional() @Time() not_before?: string;
  @Optional() @Int(0, LIMITS.delaySecondsMax) delay_seconds?: number;
  /** Fails when it has not begun by then. */
  @Optional() @Time() expires_at?: string;
  /** A new job with the same singleton takes the place of one that waits, whose dependents do not run. */
  @Optional() @Text(1, 60) singleton?: string;
  /** Jobs of the install with the same lock run one at a time. `component:<name>` is what deployments take. */
  @Optional() @Text(1, 60) lock?: string;
}
export class NewWork {
  @ListOf(() => NewWorkJob, LIMITS.jobsPerGraph) jobs: NewWorkJob[];
}
export class CreateWork extends InstallRef {
  @Nested(() => NewWork) work: NewWork;
}
export class ExtendWork extends DeploymentRef {
  @Nested(() => NewWork) work: NewWork;
}
/** All jobs of the graph or none. The answer is a deployment of kind `work`: cancelled, waited for and read like one. */
export const createWork = toScheduler('create_work', CreateWork, Deployment);
/** More jobs for a graph that is not finished; they may depend on its jobs by their keys. */
export const extendWork = toScheduler('extend_work', ExtendWork, Deployment);

// ---- what a person does when something failed

export class RetryRequest {
  /** This job and everything that depends on it runs again, whatever became of it. */
  @Optional() @IdOf('job') from?: JobId;
  /** Jobs that are left out: what depends on them runs. */
  @Optional() @TextList(LIMITS.jobsPerGraph, 40) skip?: JobId[];
  @Optional() @Text(0, 500) reason?: string;
}
export class RetryDeployment extends DeploymentRef {
  @Nested(() => RetryRequest) retry: RetryRequest;
}
/** A new deployment with the jobs that have not succeeded. */
export const retryDeployment = toScheduler('retry_deployment', RetryDeployment, Deployment);

/** Why a person does it; recorded. */
export class ReasonRequest {
  @Optional() @Text(0, 500) reason?: string;
}
export class JobReason extends JobRef {
  @Nested(() => ReasonRequest) request: ReasonRequest;
}
/** Does not wait for its time; of a build that has ended, a new build of the same source. Answers the job that runs. */
export const retryJob = toScheduler('retry_job', JobReason, Job);
/** Leaves out a job that has not begun; what depends on it runs. */
export const skipJob = toScheduler('skip_job', JobReason, Job);

// ---- holds

export class HoldJob extends JobRef {
  @Nested(() => Hold) hold: Hold;
}
/** registry-token saw somebody else present a token of this job: stop what runs, and wait for a person. */
export const holdJob = call({
  name: 'scheduler.hold_job',
  version: 1,
  subject: 'ims.v1.svc.job_scheduler.hold_job',
  body: HoldJob,
  reply: Job,
  from: ['registry-token'],
  servedBy: 'job-scheduler',
  timeoutMs: 5_000,
});
export class ResumeHeldJob extends JobRef {
  @Nested(() => ResumeRequest) resume: ResumeRequest;
}
/**
 * A person at the vendor lifts `token_tampered`. Holds of the customer answer `held_by_customer`; a job that is not
 * held, or whose attempt is still being stopped, `conflict`.
 */
export const resumeHeldJob = toScheduler('resume_job', ResumeHeldJob, Job);

// ---- locks

/** What one attempt has for itself. It ends with the attempt, at the latest with its lease. */
export class Lock {
  /** Within the install: `component:<name>`, or as the job named it. */
  @Text(1, 80) name: string;
  @Optional() @IdOf('install') install_id?: InstallId;
  @IdOf('job') job_id: JobId;
  @Int(1, 1_000_000) attempt: number;
  @IdOf('agent') agent_id: AgentId;
  @Time() taken_at: string;
  /** Renewed while the agent is there. */
  @Time() lease_until: string;
  /** A person has taken it away: the lease is not renewed any more. */
  @Optional() @Flag() unlocking?: boolean;
  /** Jobs that wait for it. */
  @Int(0, 1_000_000) waiting: number;
}
export class ListLocks extends ListInVendor {
  @Optional() @IdOf('install') install_id?: InstallId;
}
export class LockPage extends Page {
  @ListOf(() => Lock, LIMITS.pageMax) data: Lock[];
}
export const listLocks = toScheduler('list_locks', ListLocks, LockPage);
/** Takes the lock away from the running attempt of this job, which ends with its lease and is tried again. */
export const unlockJob = toScheduler('unlock_job', JobReason, Job);

// ---- agents

export const AGENT_INTAKES = ['open', 'paused', 'draining'] as const;
export class IntakeRequest {
  /** Shown to whoever asks why jobs wait. */
  @Optional() @Text(0, 300) note?: string;
}
export class SetAgentIntake extends AgentRef {
  @OneOf(AGENT_INTAKES) intake: (typeof AGENT_INTAKES)[number];
  @Nested(() => IntakeRequest) request: IntakeRequest;
}
/** `paused`: it takes no job, what runs goes on. `draining`: the same, and the end of the last attempt is recorded. */
export const setAgentIntake = toScheduler('set_agent_intake', SetAgentIntake, Agent);

export class AgentSettings {
  /** Jobs at a time; default 4. A higher number counts from the agent's next start. */
  @Optional() @Int(1, LIMITS.agentSlotsMax) slots?: number;
  /** For targets: at most 20 names, each with a text. */
  @Optional() @Json(4096) labels?: JsonObject;
}
export class UpdateAgentSettings extends AgentRef {
  @Nested(() => AgentSettings) settings: AgentSettings;
}
export const updateAgentSettings = toScheduler('update_agent_settings', UpdateAgentSettings, Agent);
