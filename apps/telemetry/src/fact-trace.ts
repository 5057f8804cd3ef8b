import { type Attempt, type Event, type Job, type JobTrace } from '#contracts';
import { traceOfJob } from '#domain';

const ENDED = ['succeeded', 'failed', 'cancelled', 'skipped'] as const;
/** Types of facts with which an attempt ends, and how it did. */
const ATTEMPT_ENDS: Readonly<Record<string, Attempt['status']>> = {
  'job.succeeded': 'succeeded',
  'job.failed': 'failed',
  'job.retrying': 'failed',
  'job.cancelled': 'cancelled',
  'job.deferred': 'deferred',
  'job.lost': 'lost',
};

export const isEndOfJob = ({ type }: Event): boolean => ENDED.some((status) => type === `job.${status}`);

/**
 * The trace of a job as its facts tell it, with the ids that the gateway gives too: the job, its waits, its attempts.
 * Steps are no facts and are missing here. Undefined without the fact of its creation.
 */
export function traceOfFacts(facts: readonly Event[], traceId: string | undefined): JobTrace | undefined {
  const created = facts.find(({ type }) => type === 'job.created');
  if (created?.job_id === undefined) return undefined;
  const { kind, component } = created.data;
  const end = facts.findLast(isEndOfJob);
  const job = {
    id: created.job_id,
    kind,
    status: end?.type.slice('job.'.length) ?? 'running',
    component: { name: typeof component === 'string' ? component : '' },
    created_at: created.at,
    ...(end === undefined ? {} : { finished_at: end.at }),
    ...(traceId === undefined ? {} : { trace_id: traceId }),
    ...(created.install_id === undefined ? {} : { install_id: created.install_id }),
    ...(created.deployment_id === undefined ? {} : { deployment_id: created.deployment_id }),
  } as unknown as Job;
  const granted = facts.filter(({ type }) => type === 'job.granted');
  return traceOfJob(
    job,
    granted.map((grant) => attemptOf(grant, facts)),
  );
}

function attemptOf(granted: Event, facts: readonly Event[]): Attempt {
  const number = Number(granted.data['attempt'] ?? 1);
  const end = facts.find(
    ({ type, data, seq }) => type in ATTEMPT_ENDS && data['attempt'] === number && seq > granted.seq,
  );
  return {
    number,
    status: ATTEMPT_ENDS[end?.type ?? ''] ?? 'running',
    agent_id: granted.agent_id ?? '',
    granted_at: granted.at,
    ...(end === undefined ? {} : { ended_at: end.at }),
    steps: [],
  };
}
