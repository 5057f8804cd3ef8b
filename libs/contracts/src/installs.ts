import {
  ApprovalPolicy,
  EnrolmentTicket,
  EnrolmentVerifier,
  Page,
  Problem,
  ListInVendor,
  VendorScope,
  toScheduler,
} from './catalogue.js';
import {
  IdOf,
  Json,
  ListOf,
  Name,
  Nested,
  OneOf,
  Optional,
  Text,
  TextList,
  Time,
  Flag,
  Labels,
  type JsonObject,
  Digest,
  Int,
} from './fields.js';
import {
  type AgentId,
  type AppId,
  type ChannelId,
  type DeploymentId,
  type InstallId,
  type ReleaseId,
  type RolloutId,
  type TokenId,
  type VendorId,
} from './ids.js';
import { LIMITS } from './limits.js';
import { AGENT_KINDS, type AgentKind } from './message.js';

export const PRESENCES = ['never_enrolled', 'online', 'offline', 'revoked'] as const;

/** A person at the vendor lets the agent take no jobs. `drained`: nothing runs there any more. */
export class AgentIntake {
  @OneOf(['paused', 'draining', 'drained']) state: 'paused' | 'draining' | 'drained';
  @Text(1, 80) by: string;
  @Text(0, 300) note: string;
  @Time() since: string;
}
export class Agent {
  @IdOf('agent') id: AgentId;
  @OneOf(AGENT_KINDS) kind: AgentKind;
  @Optional() @IdOf('install') install_id?: InstallId;
  @OneOf(PRESENCES) presence: (typeof PRESENCES)[number];
  @Optional() @Time() last_seen_at?: string;
  @Optional() @Text(1, 60) version?: string;
  /** NATS public key (nkey) made on the agent's host. */
  @Optional() @Text(1, 100) public_key?: string;
  /** Jobs at a time. */
  @Int(1, LIMITS.agentSlotsMax) slots: number;
  @Int(0, 1_000_000) running: number;
  @Json() labels: JsonObject;
  /** Absent: it takes jobs. */
  @Optional() @Nested(() => AgentIntake) intake?: AgentIntake;
  /** What the customer allows, and what waits for its approval, as the agent reported it last. Not in lists. */
  @Optional() @Json() customer_policy?: JsonObject;
  @Time() created_at: string;
}

/** When drift is looked for, and what is done about it. */
export class ObservePolicy {
  /** Five fields, at least five minutes between two runs: `30 3 * * *`. */
  @Text(9, 100) cron: string;
  /** IANA name: `Europe/Berlin`, `UTC`. */
  @Text(1, 60) time_zone: string;
  /** A deployment of the release that is there takes a difference back, once for each difference; approvals count. */
  @Optional() @Flag() fix?: boolean;
}
/** What a vendor may change on an install. Inputs reach it with its next deployment. */
export class InstallSettings {
  @Optional() @Json() inputs?: JsonObject;
  /** By which rollouts choose their groups. */
  @Optional() @Labels() labels?: Record<string, string>;
  /** The channel whose releases it gets. */
  @Optional() @IdOf('channel') channel_id?: ChannelId;
  /** Instead of the app's. */
  @Optional() @Nested(() => ApprovalPolicy) approval?: ApprovalPolicy;
  @Optional() @Nested(() => ObservePolicy) observe?: ObservePolicy;
}
export class NewInstall extends InstallSettings {
  @IdOf('app') app_id: AppId;
  @Name() name: string;
}
export const COMPONENT_STATUSES = ['absent', 'deployed', 'failed', 'removed'] as const;
/** What one component of an install is now. Sensitive outputs never leave the install; their names are shown. */
export class InstallComponent {
  @Text(1, 40) name: string;
  @Text(1, 40) kind: string;
  @OneOf(COMPONENT_STATUSES) status: (typeof COMPONENT_STATUSES)[number];
  @Optional() @Digest() digest?: string;
  @Optional() @Json() outputs?: JsonObject;
  @Optional() @TextList(100, 100) sensitive_outputs?: string[];
  @Time() updated_at: string;
}
/** An install that is given up because its agent is gone. */
export class Deprovision {
  @Text(1, 500) reason: string;
  /** Also while the agent is online: what it has made stays. */
  @Optional() @Flag() force?: boolean;
}
export class Deprovisioned {
  @Time() at: string;
  /** `key:<id>` */
  @Text(1, 80) by: string;
  @Text(1, 500) reason: string;
  /** Components that may still be there. */
  @TextList(LIMITS.componentsPerApp, 40) leftovers: string[];
}
export class Install {
  @IdOf('install') id: InstallId;
  @IdOf('app') app_id: AppId;
  @Name() name: string;
  @Json() inputs: JsonObject;
  @Optional() @Labels() labels?: Record<string, string>;
  @Optional() @IdOf('channel') channel_id?: ChannelId;
  @Optional() @Nested(() => ApprovalPolicy) approval?: ApprovalPolicy;
  @Optional() @Nested(() => ObservePolicy) observe?: ObservePolicy;
  @IdOf('agent') agent_id: AgentId;
  /** The release that is fully deployed; absent before the first and after a teardown. */
  @Optional() @IdOf('release') release_id?: ReleaseId;
  @ListOf(() => InstallComponent, LIMITS.componentsPerApp) components: InstallComponent[];
  /** Set: given up with its agent gone. */
  @Optional() @Nested(() => Deprovisioned) deprovisioned?: Deprovisioned;
  /** As its agent reported it last. Not in lists. */
  @Optional() @Json() customer_policy?: JsonObject;
  @Time() created_at: string;
}

export const DEPLOYMENT_STATUSES = ['running', 'cancelling', 'succeeded', 'failed', 'cancelled'] as const;
export type DeploymentStatus = (typeof DEPLOYMENT_STATUSES)[number];
export class NewDeployment {
  @OneOf(['deploy', 'teardown']) kind: 'deploy' | 'teardown';
  /** Needed for `deploy`. */
  @Optional() @IdOf('release') release_id?: ReleaseId;
  /** Needed to go back to a release that is older than one this install has had. */
  @Optional() @Flag() rollback?: boolean;
  /** Of all its jobs, against other work of the same agent. */
  @Optional() @Int(-LIMITS.priorityMax, LIMITS.priorityMax) priority?: number;
}
/** `work`: jobs that a person asked for; it may run beside the others. */
export const DEPLOYMENT_KINDS = ['deploy', 'teardown', 'work'] as const;
export type DeploymentKind = (typeof DEPLOYMENT_KINDS)[number];
export class DeploymentJobCounts {
  @Int(0, 10_000) total: number;
  @Int(0, 10_000) succeeded: number;
  @Int(0, 10_000) failed: number;
  @Int(0, 10_000) unfinished: number;
}
export class Deployment {
  @IdOf('deployment') id: DeploymentId;
  @IdOf('install') install_id: InstallId;
  @Optional() @IdOf('release') release_id?: ReleaseId;
  @OneOf(DEPLOYMENT_KINDS) kind: DeploymentKind;
  @Optional() @Flag() rollback?: boolean;
  /** The rollout that made it. */
  @Optional() @IdOf('rollout') rollout_id?: RolloutId;
  /** It goes on where that one ended. */
  @Optional() @IdOf('deployment') retry_of?: DeploymentId;
  @OneOf(DEPLOYMENT_STATUSES) status: DeploymentStatus;
  @Nested(() => DeploymentJobCounts) jobs: DeploymentJobCounts;
  @Optional() @Nested(() => Problem) error?: Problem;
  @Time() created_at: string;
  @Optional() @Time() finished_at?: string;
}

export class CreateInstall extends VendorScope {
  @Nested(() => NewInstall) install: NewInstall;
}
export class InstallRef extends VendorScope {
  @IdOf('install') install_id: InstallId;
}
export class DeprovisionInstall extends InstallRef {
  @Nested(() => Deprovision) deprovision: Deprovision;
}
/** Replaces all settings. */
export class UpdateInstall extends InstallRef {
  @Nested(() => InstallSettings) settings: InstallSettings;
  /** `etagOf` the install that the change was made on. Not equal under the row lock: `precondition_failed`. */
  @Optional() @Text(1, 100) if_match?: string;
}
export class InstallPage extends Page {
  @ListOf(() => Install, LIMITS.pageMax) data: Install[];
}
export class ListInInstall extends ListInVendor {
  @IdOf('install') install_id: InstallId;
}
export class CreateDeployment extends InstallRef {
  @Nested(() => NewDeployment) deployment: NewDeployment;
}
export class DeploymentRef extends VendorScope {
  @IdOf('deployment') deployment_id: DeploymentId;
}
export class DeploymentPage extends Page {
  @ListOf(() => Deployment, LIMITS.pageMax) data: Deployment[];
}
export class AgentPage extends Page {
  @ListOf(() => Agent, LIMITS.pageMax) data: Agent[];
}
export class AgentRef extends VendorScope {
  @IdOf('agent') agent_id: AgentId;
}
/** Why a cancel was asked for; recorded. */
export class CancelRequest {
  @Optional() @Text(0, 500) reason?: string;
  /** Skip the polite signals: SIGKILL at once. */
  @Optional() @Flag() force?: boolean;
}
/** Why a person at the vendor lets a held job go on; recorded. */
export class ResumeRequest {
  @Optional() @Text(0, 500) reason?: string;
}
export class CancelDeployment extends DeploymentRef {
  @Nested(() => CancelRequest) cancel: CancelRequest;
}

export class CreateEnrolmentToken extends AgentRef {
  @Nested(() => EnrolmentVerifier) enrolment: EnrolmentVerifier;
}
abstract class AgentKeys {
  /** NATS user public key (nkey `U…`). */
  @Text(56, 56) public_key: string;
  /** Build agents: the public key (PEM) that their artifacts are signed with. The private half never leaves the host. */
  @Optional() @Text(1, 2000) signing_public_key?: string;
  @Text(1, 60) version: string;
}
/** The first contact of an agent, over HTTPS: a one-use token and the public half of a key made on its own host. */
export class EnrolRequest extends AgentKeys {
  @Text(20, 200) token: string;
}
/** The same from the gateway to the scheduler. Instead of the token: what it hashes to. */
export class EnrolAgent extends AgentKeys {
  @IdOf('token') token_id: TokenId;
  @Digest() proof: string;
}
export class VendorRegistry {
  @Text(1, 300) url: string;
  @Text(1, 60) namespace: string;
}
/** What an agent needs to work. It keeps this; nothing in it but the JWT is secret, and the JWT is useless without the key. */
export class Enrolment {
  @IdOf('agent') agent_id: AgentId;
  @OneOf(AGENT_KINDS) kind: AgentKind;
  @IdOf('vendor') vendor_id: VendorId;
  @Optional() @IdOf('install') install_id?: InstallId;
  @TextList(10, 300) nats_urls: string[];
  @Text(1, 8000) nats_jwt: string;
  @Time() nats_jwt_expires_at: string;
  /** Public keys (nkey form) whose signature makes a job statement valid. */
  @TextList(10, 100) job_keys: string[];
  /** Base URL of registry-token. */
  @Text(1, 300) registry_token_url: string;
  @Nested(() => VendorRegistry) vendor_registry: VendorRegistry;
  /** PEM public keys of the vendor's build agents; an install agent pins the first ones it is given. */
  @TextList(20, 2000) vendor_keys: string[];
}

export const createInstall = toScheduler('create_install', CreateInstall, Install);
export const updateInstall = toScheduler('update_install', UpdateInstall, Install);
export const deprovisionInstall = toScheduler('deprovision_install', DeprovisionInstall, Install);
export const listInstalls = toScheduler('list_installs', ListInVendor, InstallPage);
export const getInstall = toScheduler('get_install', InstallRef, Install);
export const createEnrolmentToken = toScheduler('create_enrolment_token', CreateEnrolmentToken, EnrolmentTicket);
export const enrolAgent = toScheduler('enrol_agent', EnrolAgent, Enrolment);
export const listAgents = toScheduler('list_agents', ListInVendor, AgentPage);
export const getAgent = toScheduler('get_agent', AgentRef, Agent);
export const revokeAgent = toScheduler('revoke_agent', AgentRef, Agent);
export const createDeployment = toScheduler('create_deployment', CreateDeployment, Deployment);
export const listDeployments = toScheduler('list_deployments', ListInInstall, DeploymentPage);
export const getDeployment = toScheduler('get_deployment', DeploymentRef, Deployment);
export const cancelDeployment = toScheduler('cancel_deployment', CancelDeployment, Deployment);
