import { createHash } from 'node:crypto';
import {
  Artifact,
  COMPONENT_KINDS,
  ComponentSpec,
  VendoredImage,
  InputDeclaration,
  Page,
  Problem,
  ListInVendor,
  VendorScope,
  toScheduler,
  type ComponentKind,
} from './catalogue.js';
import { Envelope } from './envelope.js';
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
  sortedJson,
  type Class,
  type JsonObject,
} from './fields.js';
import {
  type AgentId,
  type BuildId,
  type ComponentId,
  type DeploymentId,
  type EventId,
  type InstallId,
  type JobId,
  type ReleaseId,
  type VendorId,
} from './ids.js';
import { CancelRequest } from './installs.js';
import { LIMITS } from './limits.js';
import { call, signal, streamMessage, type AgentKind, type Call } from './message.js';

/** `observe`: a drift probe, which changes nothing. `noop` goes the whole way through the agent and does nothing. */
export const JOB_KINDS = ['build', 'sync', 'apply', 'destroy', 'observe', 'noop'] as const;
export type JobKind = (typeof JOB_KINDS)[number];
/** `blocked`: a dependency is not finished. `queued`: offered, or waiting for the agent. The last four are final. */
export const JOB_STATUSES = [
  'blocked',
  'queued',
  'running',
  'cancelling',
  'succeeded',
  'failed',
  'cancelled',
  'skipped',
] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];
/** `deferred`: the agent gave the job back because its customer's policy does not let it go on now. */
export const ATTEMPT_STATUSES = ['running', 'succeeded', 'failed', 'cancelled', 'deferred', 'lost'] as const;
export type AttemptStatus = (typeof ATTEMPT_STATUSES)[number];

export const WAITING_REASONS = [
  'blocked_by_job',
  'scheduled',
  'lock_held',
  'agent_paused',
  'agent_never_enrolled',
  'agent_offline',
  'agent_revoked',
  'agent_busy',
  'retry_delayed',
  'awaiting_claim',
  'token_tampered',
  'awaiting_approval',
  'customer_paused',
  'customer_window',
  'awaiting_customer_approval',
  'running',
  'cancelling',
] as const;
/** Why a job that is not finished does not go on, and what would unblock it. */
export class WaitingReason {
  @OneOf(WAITING_REASONS) code: (typeof WAITING_REASONS)[number];
  @Text(0, 500) detail: string;
  @Text(0, 500) unblock: string;
}
export const HOLD_CODES = [
  'token_tampered',
  'awaiting_approval',
  'customer_paused',
  'customer_window',
  'awaiting_customer_approval',
] as const satisfies readonly (typeof WAITING_REASONS)[number][];
/**
 * What keeps a job from being offered. `token_tampered` is lifted by a person at the vendor (`resume_job`),
 * `awaiting_approval` by the vendor's yes to the plan; the customer's by the customer alone: at `until`, or when the agent says that its policy or its approvals changed.
 */
export class Hold {
  @OneOf(HOLD_CODES) code: (typeof HOLD_CODES)[number];
  @Text(0, 500) detail: string;
  @Optional() @Time() until?: string;
  /** awaiting_approval, awaiting_customer_approval: the plan that is asked about. */
  @Optional() @Digest() plan_digest?: string;
}
export class JobComponent {
  @IdOf('component') id: ComponentId;
  @Text(1, 40) name: string;
  @OneOf(COMPONENT_KINDS) kind: ComponentKind;
}
export class Job {
  @IdOf('job') id: JobId;
  @OneOf(JOB_KINDS) kind: JobKind;
  @OneOf(JOB_STATUSES) status: JobStatus;
  /** Number of the latest attempt; 0 before the first. It is the fence: only this attempt's messages count. */
  @Int(0, 1_000_000) attempt: number;
  @IdOf('agent') agent_id: AgentId;
  @Optional() @IdOf('install') install_id?: InstallId;
  @Optional() @IdOf('deployment') deployment_id?: DeploymentId;
  @Optional() @IdOf('build') build_id?: BuildId;
  @Nested(() => JobComponent) component: JobComponent;
  @TextList(LIMITS.jobsPerGraph, 40) depends_on: JobId[];
  /** Its name in a graph that was asked for. */
  @Optional() @Text(1, 40) key?: string;
  @Int(-LIMITS.priorityMax, LIMITS.priorityMax) priority: number;
  @Optional() @Flag() allow_failure?: boolean;
  @Optional() @Time() not_before?: string;
  @Optional() @Time() expires_at?: string;
  @Optional() @Text(1, 60) singleton?: string;
  @Optional() @Text(1, 80) lock?: string;
  @Optional() @Nested(() => WaitingReason) waiting_reason?: WaitingReason;
  @Optional() @Nested(() => Hold) hold?: Hold;
  @Optional() @Nested(() => Problem) error?: Problem;
  @Optional() @Json() result?: JsonObject;
  /** The trace from the request that asked for the job to its last step; see `/v1/jobs/{job_id}/trace`. */
  @Optional() @Text(32, 32) trace_id?: string;
  @Time() created_at: string;
  @Optional() @Time() started_at?: string;
  @Optional() @Time() finished_at?: string;
}
export const STEP_STATUSES = ['started', 'done', 'failed'] as const;
export class Step {
  @Text(1, 40) name: string;
  @OneOf(STEP_STATUSES) status: (typeof STEP_STATUSES)[number];
  @Time() started_at: string;
  @Optional() @Int(0, 1e9) duration_ms?: number;
  /** Part of the duration spent in other programs (terraform, kubectl, buildah …). */
  @Optional() @Int(0, 1e9) tool_ms?: number;
  @Optional() @Json() detail?: JsonObject;
}
export class Attempt {
  @Int(1, 1_000_000) number: number;
  @OneOf(ATTEMPT_STATUSES) status: AttemptStatus;
  @IdOf('agent') agent_id: AgentId;
  @Time() granted_at: string;
  @Optional() @Time() ended_at?: string;
  @Optional() @Nested(() => Problem) error?: Problem;
  @ListOf(() => Step, 1000) steps: Step[];
}
/** A fact, append-only and hash-chained: `hash` covers the fact and the hash before it in the same chain. */
export class Event {
  @IdOf('event') id: EventId;
  /** `<service>:<install or vendor id>` */
  @Text(1, 120) chain: string;
  @Int(1, Number.MAX_SAFE_INTEGER) seq: number;
  @Text(0, 64) prev_hash: string;
  @Text(64, 64) hash: string;
  /** `job.queued`, `job.granted`, `agent.enrolled`, `token.redeemed` … */
  @Text(1, 60) type: string;
  @Time() at: string;
  @IdOf('vendor') vendor_id: VendorId;
  @Optional() @IdOf('install') install_id?: InstallId;
  @Optional() @IdOf('deployment') deployment_id?: DeploymentId;
  @Optional() @IdOf('job') job_id?: JobId;
  @Optional() @IdOf('agent') agent_id?: AgentId;
  /** Who caused it: `key:<id>`, `agent:<id>`, `service:<name>`. */
  @Text(1, 80) actor: string;
  @Json() data: JsonObject;
}

/**
 * The hash of a fact: SHA-256 over the hash before it and the fact's own text, fields in this order. Anybody who has
 * the exported facts can check the chain; a changed, dropped or reordered fact breaks it.
 */
export function hashEvent(prevHash: string, event: Omit<Event, 'hash' | 'prev_hash'>): string {
  const { id, chain, seq, type, at, vendor_id, install_id, deployment_id, job_id, agent_id, actor, data } = event;
  const own = [
    id,
    chain,
    seq,
    type,
    at,
    vendor_id,
    install_id,
    deployment_id,
    job_id,
    agent_id,
    actor,
    sortedJson(data),
  ];
  return createHash('sha256')
    .update(prevHash)
    .update(JSON.stringify(own.map((value) => value ?? null)))
    .digest('hex');
}

export class JobRef extends VendorScope {
  @IdOf('job') job_id: JobId;
}
export class ListJobs extends ListInVendor {
  @Optional() @IdOf('deployment') deployment_id?: DeploymentId;
  @Optional() @IdOf('install') install_id?: InstallId;
  @Optional() @OneOf(JOB_STATUSES) status?: JobStatus;
}
export class JobPage extends Page {
  @ListOf(() => Job, LIMITS.pageMax) data: Job[];
}
export class AttemptPage extends Page {
  @ListOf(() => Attempt, LIMITS.pageMax) data: Attempt[];
}
export class CancelJob extends JobRef {
  @Nested(() => CancelRequest) cancel: CancelRequest;
}
export const getJob = toScheduler('get_job', JobRef, Job);
export const listJobs = toScheduler('list_jobs', ListJobs, JobPage);
export const listAttempts = toScheduler('list_attempts', JobRef, AttemptPage);
export const cancelJob = toScheduler('cancel_job', CancelJob, Job);

// ---- the agent's protocol: offer -> claim -> renew -> steps -> result -> receipt (design, section 3)

/** The release that a job belongs to: its age decides what a downgrade is. */
export class StatementRelease {
  @IdOf('release') id: ReleaseId;
  @Text(1, 40) version: string;
  @Time() created_at: string;
}
/** What a job is to do, signed by the scheduler, so that nobody who only has the broker can make an agent act. */
export class JobStatement {
  @IdOf('job') job_id: JobId;
  @Int(1, 1_000_000) attempt: number;
  @OneOf(JOB_KINDS) kind: JobKind;
  @IdOf('vendor') vendor_id: VendorId;
  @IdOf('agent') agent_id: AgentId;
  /** The agent's public key: registry-token accepts requests about this job from its holder only. */
  @Text(56, 56) agent_key: string;
  @Optional() @IdOf('install') install_id?: InstallId;
  @Optional() @IdOf('deployment') deployment_id?: DeploymentId;
  @Optional() @IdOf('build') build_id?: BuildId;
  /** For templates. */
  @Optional() @Text(1, 40) install_name?: string;
  @Text(1, 40) app_name: string;
  @Nested(() => JobComponent) component: JobComponent;
  @Nested(() => ComponentSpec) spec: ComponentSpec;
  /** build: where to push. sync, apply, destroy: what to take. */
  @Text(1, 200) repository: string;
  @Optional() @Nested(() => Artifact) artifact?: Artifact;
  /** sync, apply, destroy. An agent refuses one that is older than what it has applied, unless `rollback` says so. */
  @Optional() @Nested(() => StatementRelease) release?: StatementRelease;
  /** A person asked for an older release. */
  @Optional() @Flag() rollback?: boolean;
  /** What the provenance of the artifact must name as its source commit. */
  @Optional() @Text(1, 100) source_commit?: string;
  /** Values of the install's inputs, for templates. */
  @Optional() @Json() inputs?: JsonObject;
  /** Inputs that the customer gives on the agent's host; their values are in no message. */
  @Optional() @ListOf(() => InputDeclaration, 100) customer_inputs?: InputDeclaration[];
  @Time() issued_at: string;
  @Time() expires_at: string;
}

export class JobOffer {
  @IdOf('job') job_id: JobId;
  @OneOf(JOB_KINDS) kind: JobKind;
}
/** Something is ready for this agent. Carries no work: that comes with the grant. */
export const jobOffer = streamMessage({
  name: 'job.offer',
  version: 1,
  stream: 'JOBS',
  subject: 'ims.v1.jobs.{shard}.{agent}.{job}.offer',
  body: JobOffer,
  from: ['job-scheduler'],
  consumers: [],
});

const BOTH: readonly AgentKind[] = ['build', 'install'];
/** A request of an agent. The agent id in the subject is proven by NATS; the body cannot name another. */
const rpc = <B extends object, R extends object>(method: string, body: Class<B>, reply: Class<R>): Call<B, R> =>
  call({
    name: `agent.${method}`,
    version: 1,
    subject: `ims.v1.rpc.{agent}.${method}`,
    body,
    reply,
    from: BOTH,
    servedBy: 'job-scheduler',
    timeoutMs: 5_000,
  });

export class Hello {
  /** Made anew at each start of the agent process: tells a restart from a second process with the same identity. */
  @Text(8, 60) session_id: string;
  @Text(1, 60) version: string;
  /** `LIMITS.agentProtocol` of the agent; absent: 1. */
  @Optional() @Int(0, 1000) protocol?: number;
}
export class Welcome {
  @Text(1, 8000) nats_jwt: string;
  @Time() nats_jwt_expires_at: string;
  @Int(1, 1000) slots: number;
  @TextList(10, 100) job_keys: string[];
  /** New job keys, each vouched for (`JobKeyVoucher`) by an older one: an agent takes no key on the services' word alone. */
  @Optional() @ListOf(() => Envelope, 10) job_key_vouchers?: Envelope[];
  @TextList(20, 2000) vendor_keys: string[];
  @Time() server_time: string;
}
/** What an older job key says of a newer one (payload type `jobKey`). */
export class JobKeyVoucher {
  @Text(56, 56) public_key: string;
  @Time() issued_at: string;
}
/**
 * What an agent says whose JWT has ended while it was off (payload type `agentRenewal`), over HTTPS, signed with the key
 * that it was enrolled with: it needs no person to come back.
 */
export class AgentRenewal {
  @IdOf('agent') agent_id: AgentId;
  @Time() at: string;
  @Text(1, 60) version: string;
  /** As in `Hello`. */
  @Optional() @Int(0, 1000) protocol?: number;
}
/** At each start, and again before the JWT ends: a fresh JWT and the settings. Also makes the agent's consumer if it is gone. */
export const agentHello = rpc('hello', Hello, Welcome);

export class Claim {
  @IdOf('job') job_id: JobId;
  @Text(8, 60) session_id: string;
}
export class Grant {
  @Int(1, 1_000_000) attempt: number;
  /** From the moment the claim was sent, on the agent's monotonic clock. */
  @Int(1, 3_600_000) lease_ms: number;
  @Nested(() => Envelope) statement: Envelope;
  /** W3C trace context in which the job was asked for: the agent’s work belongs to that trace. */
  @Optional() @Text(55, 55) traceparent?: string;
}
/** Takes a job. No side effect before the grant. The same session asking again gets the same grant (its reply was lost). */
export const claimJob = rpc('claim', Claim, Grant);

export class HeldAttempt {
  @IdOf('job') job_id: JobId;
  @Int(1, 1_000_000) attempt: number;
}
export class Resume extends HeldAttempt {
  @Text(8, 60) session_id: string;
}
/** After a restart: go on with an attempt from the journal, if its fence still stands; `stale_attempt` otherwise. */
export const resumeJob = rpc('resume', Resume, Grant);

export class Renew {
  @Text(8, 60) session_id: string;
  @ListOf(() => HeldAttempt, 1000) leases: HeldAttempt[];
}
export class StopOrder extends HeldAttempt {
  /** `stale_attempt`: stop, report nothing. `cancelled`: stop, then report `cancelled`. */
  @OneOf(['stale_attempt', 'cancelled']) code: 'stale_attempt' | 'cancelled';
  @Flag() force: boolean;
  @Text(0, 500) reason: string;
}
export class Renewed {
  @Int(1, 3_600_000) lease_ms: number;
  @ListOf(() => StopOrder, 1000) stop: StopOrder[];
}
/**
 * One message renews all leases of an agent: every lease that is not in `stop` as `stale_attempt`. One that is to be
 * cancelled is renewed too, so that the tool has its time to give locks back.
 */
export const renewLeases = rpc('renew', Renew, Renewed);

export class StepReport extends HeldAttempt {
  @Text(8, 60) session_id: string;
  /** In the order they happened; what happened within a moment comes in one message. */
  @ListOf(() => Step, 1000) steps: Step[];
}
export const jobStep = streamMessage({
  name: 'job.step',
  version: 1,
  stream: 'EVENTS',
  subject: 'ims.v1.events.{agent}.{job}.step',
  body: StepReport,
  from: BOTH,
  consumers: ['job-scheduler'],
});

/** `deferred`: not now, says the customer's policy; the job is queued again and held as `hold` says. */
export const OUTCOMES = ['succeeded', 'failed', 'cancelled', 'deferred'] as const;
export class JobResult extends HeldAttempt {
  @Text(8, 60) session_id: string;
  @OneOf(OUTCOMES) outcome: (typeof OUTCOMES)[number];
  @Optional() @Nested(() => Problem) error?: Problem;
  /** The last steps, which no message of their own has reported. */
  @Optional() @ListOf(() => Step, 1000) steps?: Step[];
  /** With `deferred` only. */
  @Optional() @Nested(() => Hold) hold?: Hold;
  /** build: BuildOutcome. sync: SyncOutcome. apply, destroy: ApplyOutcome. observe: ObserveOutcome. */
  @Json(256 * 1024) result: JsonObject;
}
export class BuildOutcome {
  @Nested(() => Artifact) artifact: Artifact;
  @Text(1, 100) source_commit: string;
  /** Components whose outputs the source itself names in templates (manifests, say): dependencies too. */
  @Optional() @TextList(LIMITS.componentsPerApp, 40) references?: string[];
  /** Images of others that came with the artifact. */
  @Optional() @ListOf(() => VendoredImage, 200) images?: VendoredImage[];
}
export class SyncOutcome {
  @Digest() digest: string;
  @Int(0, Number.MAX_SAFE_INTEGER) bytes_copied: number;
  @Int(0, 1_000_000) blobs_copied: number;
  @Int(0, 1_000_000) blobs_skipped: number;
  /** Milliseconds in which bytes moved between the registries; the rest of the job is ours. */
  @Optional() @Int(0, 1e9) transfer_ms?: number;
}
export class ApplyOutcome {
  /** False: the plan was empty and nothing was touched. */
  @Flag() changed: boolean;
  @Int(0, 1_000_000) created: number;
  @Int(0, 1_000_000) updated: number;
  @Int(0, 1_000_000) deleted: number;
  /** Outputs that are not sensitive. */
  @Json() outputs: JsonObject;
  @TextList(100, 100) sensitive_outputs: string[];
}
export const jobResult = streamMessage({
  name: 'job.result',
  version: 1,
  stream: 'EVENTS',
  subject: 'ims.v1.events.{agent}.{job}.result',
  body: JobResult,
  from: BOTH,
  consumers: ['job-scheduler'],
});

export class Receipt extends HeldAttempt {
  /** False: the result was refused (`code` says why); the agent drops it all the same. */
  @Flag() accepted: boolean;
  @Optional() @Text(1, 60) code?: string;
}
/** The result is in PostgreSQL: only now may the agent forget the attempt. Lost: the agent sends the result again. */
export const jobReceipt = signal({
  name: 'job.receipt',
  version: 1,
  subject: 'ims.v1.control.{agent}.{job}.receipt',
  body: Receipt,
  from: ['job-scheduler'],
  to: BOTH,
});
/** Stop at once. Lost: the next renewal says it again. */
export const jobCancel = signal({
  name: 'job.cancel',
  version: 1,
  subject: 'ims.v1.control.{agent}.{job}.cancel',
  body: StopOrder,
  from: ['job-scheduler'],
  to: BOTH,
});

/** The customer's policy as the agent applies it: for both sides to see, changed on the agent's host only. */
export class CustomerPolicyReport {
  @Text(8, 60) session_id: string;
  /** The policy in force; in `pending` what waits for the customer's approval, in `record` where its record stands. */
  @Json() policy: JsonObject;
}
export class CustomerPolicyReceipt {
  /** Jobs of this agent whose customer hold was lifted and that are offered again; the agent checks each anew. */
  @Int(0, 1_000_000) lifted: number;
}
/** At each start, and after each change of the policy file, a pause or an approval. */
export const reportPolicy = rpc('policy', CustomerPolicyReport, CustomerPolicyReceipt);

export const renewAgent = toScheduler('renew_agent', Envelope, Welcome);

export class Beat {
  @Text(8, 60) session_id: string;
  @Int(0, 1000) running: number;
}
/** Sign of life of an idle or busy agent; costs no database query. */
export const agentBeat = signal({
  name: 'agent.beat',
  version: 1,
  subject: 'ims.v1.beat.{agent}',
  body: Beat,
  from: BOTH,
  to: ['job-scheduler'],
});
