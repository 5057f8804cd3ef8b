import { type DeploymentStatus, type JobStatus, type BUILD_STATUSES } from '#contracts';
import { jobMachine, type Fault } from './job.js';
import { defineMachine } from './machine.js';

export const deploymentMachine = defineMachine<DeploymentStatus, 'cancel' | 'succeeded' | 'failed' | 'cancelled'>({
  name: 'deployment',
  initial: ['running'],
  finals: ['succeeded', 'failed', 'cancelled'],
  from: {
    running: { cancel: 'cancelling', succeeded: 'succeeded', failed: 'failed', cancelled: 'cancelled' },
    cancelling: { cancel: 'cancelling', succeeded: 'succeeded', failed: 'failed', cancelled: 'cancelled' },
    succeeded: {},
    failed: {},
    cancelled: {},
  },
});

type BuildStatus = (typeof BUILD_STATUSES)[number];
/** What the life of its job makes of a build. `repeated`: the attempt was lost or failed, and another follows. */
export const buildMachine = defineMachine<BuildStatus, 'begun' | 'repeated' | 'succeeded' | 'failed' | 'cancelled'>({
  name: 'build',
  initial: ['queued'],
  finals: ['succeeded', 'failed', 'cancelled'],
  from: {
    queued: { begun: 'running', failed: 'failed', cancelled: 'cancelled' },
    running: { repeated: 'queued', succeeded: 'succeeded', failed: 'failed', cancelled: 'cancelled' },
    succeeded: {},
    failed: {},
    cancelled: {},
  },
});

/** A build is not stored apart: it is what its job is. A test holds the moves of the two machines against each other. */
export function buildStatusOf(job: JobStatus): BuildStatus {
  switch (job) {
    case 'blocked':
    case 'queued':
      return 'queued';
    case 'running':
    case 'cancelling':
      return 'running';
    case 'skipped':
      return 'cancelled';
    case 'succeeded':
    case 'failed':
    case 'cancelled':
      return job;
  }
}

export interface DeploymentJob {
  readonly id: string;
  /** For people: `apply of web`. */
  readonly label: string;
  readonly status: JobStatus;
  readonly dependsOn: readonly string[];
  readonly fault?: Fault;
  /** Its failure is no failure of the deployment: what depends on it goes on. */
  readonly allowFailure?: boolean;
  /** A person has skipped it: the same. */
  readonly waived?: boolean;
}
export interface Settlement {
  /** Jobs whose dependencies have all succeeded: to be queued and offered. */
  readonly unblock: readonly string[];
  /** Jobs that can never run, directly or not, and why. */
  readonly skip: readonly { readonly id: string; readonly fault: Fault }[];
  /** The deployment's end, when no job is left. */
  readonly end?: { readonly status: 'succeeded' | 'failed' | 'cancelled'; readonly fault?: Fault };
}

/**
 * What the state of a deployment's jobs asks for. Branches that do not depend on what failed go on. The caller holds
 * the deployment's lock and writes the answer in one transaction.
 */
export function settleDeployment(status: DeploymentStatus, jobs: readonly DeploymentJob[]): Settlement {
  const byId = new Map(jobs.map((job) => [job.id, job]));
  const skipped = new Map<string, Fault>();
  const unblock: string[] = [];
  const seen = new Set<string>();
  const visit = (job: DeploymentJob): void => {
    if (job.status !== 'blocked' || seen.has(job.id)) return;
    seen.add(job.id);
    const parents = job.dependsOn.map((id) => byId.get(id)).filter((parent) => parent !== undefined);
    parents.forEach(visit);
    const bad = parents.find((parent) => skipped.has(parent.id) || isBad(parent));
    if (bad) {
      // The root cause is named, not the job in between that was skipped for the same reason.
      skipped.set(job.id, skipped.get(bad.id) ?? inherited(bad) ?? because(bad));
    } else if (parents.every((parent) => jobMachine.isFinal(parent.status))) {
      unblock.push(job.id);
    }
  };
  jobs.forEach(visit);
  const skip = [...skipped].map(([id, fault]) => ({ id, fault }));
  const open = jobs.filter((job) => !jobMachine.isFinal(job.status) && !skipped.has(job.id));
  return open.length > 0 ? { unblock, skip } : { unblock, skip, end: endOf(status, jobs) };
}

/** Ended, and not so that what depends on it may run. */
const isBad = ({ status, allowFailure, waived }: DeploymentJob): boolean =>
  jobMachine.isFinal(status) &&
  status !== 'succeeded' &&
  waived !== true &&
  !(allowFailure === true && status === 'failed');
const inherited = (job: DeploymentJob): Fault | undefined => (job.status === 'skipped' ? job.fault : undefined);
const because = (job: DeploymentJob): Fault => ({
  code: 'dependency_failed',
  detail: `${job.label} (${job.id}) ${job.status === 'cancelled' ? 'was cancelled' : 'failed'}`,
});

function endOf(status: DeploymentStatus, jobs: readonly DeploymentJob[]): NonNullable<Settlement['end']> {
  const counts = ({ status, allowFailure }: DeploymentJob): boolean => status === 'failed' && allowFailure !== true;
  const failed = jobs.find(counts);
  const cancelled = jobs.find((job) => job.status === 'cancelled');
  if (cancelled && (status === 'cancelling' || !failed)) {
    return { status: 'cancelled', fault: { code: 'cancelled', detail: cancelled.fault?.detail ?? '' } };
  }
  if (!failed) return { status: 'succeeded' };
  const others = jobs.filter(counts).length - 1;
  const more = others > 0 ? ` (and ${others} more)` : '';
  const detail = `${failed.label} failed: ${failed.fault?.detail ?? ''}${more}`.slice(0, 4000);
  return { status: 'failed', fault: { code: failed.fault?.code ?? 'agent_error', detail } };
}
