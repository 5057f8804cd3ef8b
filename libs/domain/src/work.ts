import { ImsError, LIMITS, type FieldError, type NewWorkJob } from '#contracts';
import { findCycle } from './graph.js';

/** A job that is there already, which new ones may depend on. */
export interface PresentJob {
  readonly key: string;
}

/**
 * Checks a graph of jobs before any of them is made. Throws `invalid_request` that names every key that is there twice,
 * is its own dependency or is not there, and every time that cannot be; `dependency_cycle` with the path.
 */
export function checkWork(jobs: readonly NewWorkJob[], present: readonly PresentJob[], now: number): void {
  const faults: FieldError[] = [];
  const fault = (at: number, field: string, message: string): void =>
    void faults.push({ pointer: `/jobs/${at}/${field}`, message });
  if (jobs.length === 0) faults.push({ pointer: '/jobs', message: 'must name at least one job' });
  const seen = new Set(present.map(({ key }) => key));
  const known = new Set([...seen, ...jobs.map(({ key }) => key)]);
  const singletons = new Set<string>();
  for (const [at, job] of jobs.entries()) {
    if (seen.has(job.key)) fault(at, 'key', `${job.key} is there twice`);
    seen.add(job.key);
    for (const [i, parent] of (job.depends_on ?? []).entries()) {
      if (parent === job.key) fault(at, `depends_on/${i}`, 'is the job itself');
      else if (!known.has(parent)) fault(at, `depends_on/${i}`, `there is no job ${parent}`);
    }
    if (job.not_before !== undefined && job.delay_seconds !== undefined) {
      fault(at, 'delay_seconds', 'is not for a job with not_before');
    }
    const from = beginOf(job, now);
    if (from > now + LIMITS.delaySecondsMax * 1000) fault(at, 'not_before', 'is too far ahead');
    if (job.expires_at !== undefined && Date.parse(job.expires_at) <= from) {
      fault(at, 'expires_at', 'is over before the job may begin');
    }
    if (job.singleton !== undefined && singletons.has(job.singleton)) {
      fault(at, 'singleton', `${job.singleton} is there twice: one would take the place of the other`);
    }
    if (job.singleton !== undefined) singletons.add(job.singleton);
  }
  if (faults.length > 0) {
    const detail = faults.map(({ pointer, message }) => `${pointer} ${message}`).join('; ');
    throw new ImsError('invalid_request', detail.slice(0, 4000), faults.slice(0, 100));
  }
  const cycle = findCycle(new Map(jobs.map(({ key, depends_on }) => [key, depends_on ?? []])));
  if (cycle) throw new ImsError('dependency_cycle', cycle.join(' -> '));
}

/** When the job may begin, in milliseconds of the clock of `now`; `now` itself when nothing delays it. */
export function beginOf(job: Pick<NewWorkJob, 'not_before' | 'delay_seconds'>, now: number): number {
  if (job.not_before !== undefined) return Math.max(now, Date.parse(job.not_before));
  return now + (job.delay_seconds ?? 0) * 1000;
}

/** A job of a deployment that has ended, as far as another try is concerned. */
export interface EndedJob {
  readonly id: string;
  readonly dependsOn: readonly string[];
  readonly succeeded: boolean;
  /** A person has left it out. */
  readonly waived: boolean;
}
export interface RetryPlan {
  /** To be made again. */
  readonly again: readonly string[];
  /** Left out, now or before; what depends on them runs. */
  readonly skipped: readonly string[];
}

/**
 * Which jobs of an ended deployment are made again: those that have not succeeded and were not left out, and with
 * `from` that job and all that depends on it, directly or not, whatever became of them. Throws `invalid_request` for a job that is not of the
 * deployment or is both, `conflict` when nothing is left to do.
 */
export function planRetry(jobs: readonly EndedJob[], from: string | undefined, skip: readonly string[]): RetryPlan {
  const ids = new Set(jobs.map(({ id }) => id));
  const unknown = [...(from === undefined ? [] : [from]), ...skip].filter((id) => !ids.has(id));
  if (unknown.length > 0) throw new ImsError('invalid_request', `not in this deployment: ${unknown.join(', ')}`);
  if (from !== undefined && skip.includes(from))
    throw new ImsError('invalid_request', `${from} is both left out and wanted`);
  const below = new Set<string>();
  const visit = (id: string): void => {
    if (below.has(id)) return;
    below.add(id);
    for (const job of jobs) if (job.dependsOn.includes(id)) visit(job.id);
  };
  if (from !== undefined) visit(from);
  const out = ({ id, waived }: EndedJob): boolean => skip.includes(id) || (waived && !below.has(id));
  const open = jobs.filter(({ id, succeeded }) => !succeeded || below.has(id));
  const again = open.filter((job) => !out(job)).map(({ id }) => id);
  if (again.length === 0)
    throw new ImsError('conflict', 'nothing is left to do: every job has succeeded or is left out');
  return { again, skipped: open.filter(out).map(({ id }) => id) };
}
