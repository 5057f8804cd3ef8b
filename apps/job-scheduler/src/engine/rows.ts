import {
  type AgentId,
  type AppId,
  type BuildId,
  type ComponentId,
  type ComponentKind,
  type DeploymentId,
  type DeploymentKind,
  type DeploymentStatus,
  type Hold,
  type InstallId,
  type JobId,
  type JobKind,
  type JobStatus,
  type JsonObject,
  type ReleaseId,
  type VendorId,
} from '#contracts';
import { type Fault, type JobState } from '#domain';
import { type Tx } from '#persistence';

/** A row of `jobs`, read with `now`, the database's clock at that moment. */
export interface JobRow {
  readonly id: JobId;
  readonly vendor_id: VendorId;
  readonly app_id: AppId;
  readonly kind: JobKind;
  readonly status: JobStatus;
  readonly attempt: number;
  readonly failures: number;
  readonly agent_id: AgentId;
  readonly install_id: InstallId | null;
  readonly deployment_id: DeploymentId | null;
  readonly build_id: BuildId | null;
  readonly release_id: ReleaseId | null;
  readonly component_id: ComponentId;
  readonly component_name: string;
  readonly component_kind: ComponentKind;
  readonly depends_on: JobId[];
  readonly key: string | null;
  readonly priority: number;
  readonly expires_at: Date | null;
  readonly allow_failure: boolean;
  readonly waived: boolean;
  readonly singleton: string | null;
  readonly lock: string | null;
  readonly offers: number;
  readonly not_before: Date | null;
  readonly hold: Hold | null;
  readonly error: Fault | null;
  readonly result: JsonObject | null;
  readonly traceparent: string | null;
  readonly created_at: Date;
  readonly started_at: Date | null;
  readonly finished_at: Date | null;
  readonly now: Date;
}

/** A job that is to be made. */
export interface NewJob {
  readonly id: JobId;
  readonly vendor_id: VendorId;
  readonly app_id: AppId;
  readonly kind: JobKind;
  readonly status: 'blocked' | 'queued' | 'skipped';
  readonly agent_id: AgentId;
  readonly install_id?: InstallId;
  readonly deployment_id?: DeploymentId;
  readonly build_id?: BuildId;
  readonly release_id?: ReleaseId;
  readonly component_id: ComponentId;
  readonly component_name: string;
  readonly component_kind: ComponentKind;
  readonly depends_on: readonly JobId[];
  readonly key?: string;
  readonly priority?: number;
  readonly not_before?: string;
  readonly expires_at?: string;
  readonly allow_failure?: boolean;
  /** With `skipped` only: a person has left it out, for this reason. */
  readonly error?: Fault;
  /** As people name it; counted within the install, or else the vendor. */
  readonly singleton?: string;
  readonly lock?: string;
}

export interface DeploymentRow {
  readonly id: DeploymentId;
  readonly vendor_id: VendorId;
  readonly install_id: InstallId;
  readonly release_id: ReleaseId | null;
  readonly kind: DeploymentKind;
  readonly rollback: boolean;
  readonly status: DeploymentStatus;
}

export const stateOf = (job: JobRow): JobState => ({
  kind: job.kind,
  status: job.status,
  attempt: job.attempt,
  failures: job.failures,
  notBefore: job.not_before?.getTime() ?? 0,
  expiresAt: job.expires_at?.getTime(),
  waived: job.waived,
  hold: job.hold ?? undefined,
});

/** For people: `apply of web`. */
export const labelOf = (job: { kind: JobKind; component_name: string }): string =>
  `${job.kind} of ${job.component_name}`;

/** Apply and destroy of one component never run at the same time, whoever asked for them. */
export const componentLock = (name: string): string => `component:${name}`;
/** Locks and singletons count within an install, or else the vendor; people see them without that. */
export const scoped = (job: { vendor_id: VendorId; install_id?: InstallId | null }, name: string): string =>
  `${job.install_id ?? job.vendor_id}/${name}`;
export const unscoped = (key: string): string => key.slice(key.indexOf('/') + 1);

/** Jobs, locked by themselves: enough for what changes nothing but the job (claim, resume). In the order of their ids. */
export function lockJobs(tx: Tx, ids: readonly JobId[]): Promise<JobRow[]> {
  return tx.query<JobRow>(
    'SELECT j.*, clock_timestamp() AS now FROM jobs j WHERE j.id = ANY($1) ORDER BY j.id FOR UPDATE',
    [ids],
  );
}
export async function lockJob(tx: Tx, id: JobId): Promise<JobRow | undefined> {
  const [job] = await lockJobs(tx, [id]);
  return job;
}

/**
 * Jobs, locked after their deployments: for everything that may end them. Whoever takes both takes them in this order,
 * so two results of one deployment wait for each other instead of ending in a deadlock.
 */
export async function lockJobsInDeployments(tx: Tx, ids: readonly JobId[]): Promise<JobRow[]> {
  await tx.query(
    `SELECT 1 FROM deployments WHERE id IN (SELECT deployment_id FROM jobs WHERE id = ANY($1)) ORDER BY id FOR UPDATE`,
    [ids],
  );
  return lockJobs(tx, ids);
}
export async function lockJobInDeployment(tx: Tx, id: JobId): Promise<JobRow | undefined> {
  const [job] = await lockJobsInDeployments(tx, [id]);
  return job;
}

export function lockDeployments(tx: Tx, ids: readonly DeploymentId[]): Promise<DeploymentRow[]> {
  return tx.query<DeploymentRow>(
    `SELECT id, vendor_id, install_id, release_id, kind, rollback, status FROM deployments
     WHERE id = ANY($1) ORDER BY id FOR UPDATE`,
    [ids],
  );
}
export async function lockDeployment(tx: Tx, id: DeploymentId): Promise<DeploymentRow | undefined> {
  const [deployment] = await lockDeployments(tx, [id]);
  return deployment;
}
