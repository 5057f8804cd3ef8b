import {
  type Cluster,
  conditions,
  makePod,
  type Pod,
  type PodSpec,
  type PodStatus,
  type PodTemplate,
} from './cluster.js';
import { type Condition, type KubeObject, randomSuffix, timestamp } from './objects.js';

interface JobSpec {
  parallelism: number;
  completions: number;
  backoffLimit: number;
  activeDeadlineSeconds?: number;
  ttlSecondsAfterFinished?: number;
  suspend?: boolean;
  template: PodTemplate;
}

interface JobStatus {
  startTime?: string;
  completionTime?: string;
  active?: number;
  ready?: number;
  succeeded?: number;
  failed?: number;
  conditions?: Condition[];
}

type Job = KubeObject<JobSpec, JobStatus>;

const KEY = 'jobs.batch';

/** Starts a job's pods, counts how they end, and closes the job. CronJobs are stored only: nothing follows the clock. */
export function runJobs(cluster: Cluster): void {
  for (const job of cluster.list<JobSpec, JobStatus>(KEY)) {
    if (job.spec === undefined || job.metadata.deletionTimestamp !== undefined) continue;
    const ended = job.status?.conditions?.find(({ type, status }) => isEnd(type) && status === 'True');
    if (ended === undefined) runJob(cluster, job, job.spec);
    else expire(cluster, job, job.spec, ended);
  }
}

const isEnd = (type: string): boolean => type === 'Complete' || type === 'Failed';

function expire(cluster: Cluster, job: Job, spec: JobSpec, ended: Condition): void {
  if (spec.ttlSecondsAfterFinished === undefined) return;
  const end = Date.parse(ended.lastTransitionTime ?? '') + spec.ttlSecondsAfterFinished * 1_000;
  if (Date.now() >= end) cluster.remove(KEY, job);
  else cluster.wakeAt(end);
}

function runJob(cluster: Cluster, job: Job, spec: JobSpec): void {
  const pods = cluster.owned<PodSpec, PodStatus>('pods', job);
  const succeeded = pods.filter((pod) => pod.status?.phase === 'Succeeded').length;
  const failed = pods.filter((pod) => pod.status?.phase === 'Failed').length;
  const active = pods.filter((pod) => pod.status?.phase !== 'Succeeded' && pod.status?.phase !== 'Failed');
  const startTime = job.status?.startTime ?? new Date().toISOString();
  const counts = { startTime, succeeded, failed };
  const close = (ends: Condition[], extra: JobStatus = {}): void => {
    for (const pod of active) cluster.remove('pods', pod);
    const all = conditions(job.status?.conditions, ends);
    cluster.setStatus(KEY, job, { ...counts, ...extra, active: 0, ready: 0, conditions: all });
  };

  if (succeeded >= spec.completions) {
    const reason = 'CompletionsReached';
    close([yes('SuccessCriteriaMet', reason), yes('Complete', reason)], { completionTime: timestamp() });
    return;
  }
  const failure = failureOf(cluster, spec, failed, startTime);
  if (failure !== undefined) {
    close([yes('FailureTarget', failure.reason, failure.message), yes('Failed', failure.reason, failure.message)]);
    return;
  }
  if (spec.suspend === true) {
    close([yes('Suspended', 'JobSuspended')]);
    return;
  }
  const wanted = Math.min(spec.parallelism, spec.completions - succeeded);
  for (let i = active.length; i < wanted; i += 1) cluster.put('pods', jobPod(job, spec));
  const ready = active.filter((pod) => pod.status?.phase === 'Running').length;
  cluster.setStatus(KEY, job, { ...counts, active: Math.max(active.length, wanted), ready });
}

const yes = (type: string, reason: string, message?: string): Condition => ({
  type,
  status: 'True',
  reason,
  ...(message === undefined ? {} : { message }),
});

function failureOf(
  cluster: Cluster,
  spec: JobSpec,
  failed: number,
  startTime: string,
): { reason: string; message: string } | undefined {
  if (failed > spec.backoffLimit) {
    return { reason: 'BackoffLimitExceeded', message: 'Job has reached the specified backoff limit' };
  }
  if (spec.activeDeadlineSeconds === undefined) return undefined;
  const deadline = Date.parse(startTime) + spec.activeDeadlineSeconds * 1_000;
  if (Date.now() >= deadline) {
    return { reason: 'DeadlineExceeded', message: 'Job was active longer than specified deadline' };
  }
  cluster.wakeAt(deadline);
  return undefined;
}

/** `ims.test/fail` may sit on the job itself: a template is often out of a test's reach. */
function jobPod(job: Job, spec: JobSpec): Pod {
  const pod = makePod(job, spec.template, `${job.metadata.name}-${randomSuffix()}`);
  const fail = job.metadata.annotations?.['ims.test/fail'];
  if (fail === undefined) return pod;
  return { ...pod, metadata: { ...pod.metadata, annotations: { ...pod.metadata.annotations, 'ims.test/fail': fail } } };
}
