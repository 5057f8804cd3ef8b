import { createHash } from 'node:crypto';
import { type Attempt, type Job, type JobTrace, type Step, type TraceSpan } from '#contracts';

/**
 * The trace of a job, from what PostgreSQL knows of it: spans that are kept by a process die with it, and a job outlives
 * any number of them. Ids follow from what they stand for, so asking again gives the same spans. A job that was made
 * before traces were kept gets a trace of its own.
 */
export function traceOfJob(job: Job, attempts: readonly Attempt[]): JobTrace {
  const trace_id = job.trace_id ?? idOf(32, job.id);
  const root: TraceSpan = {
    span_id: spanId(job.id),
    name: `${job.kind} ${job.component.name}`,
    started_at: job.created_at,
    ...(job.finished_at === undefined ? {} : { ended_at: job.finished_at }),
    status: job.finished_at === undefined ? 'running' : job.status === 'succeeded' ? 'ok' : 'error',
    attributes: {
      'ims.job': job.id,
      'ims.status': job.status,
      ...(job.install_id === undefined ? {} : { 'ims.install': job.install_id }),
      ...(job.deployment_id === undefined ? {} : { 'ims.deployment': job.deployment_id }),
      ...(job.error === undefined ? {} : { 'error.type': job.error.code }),
    },
  };
  const inOrder = [...attempts].sort((a, b) => a.number - b.number);
  const waits = inOrder.map((attempt, i) => waitBefore(job, inOrder[i - 1], attempt));
  return {
    trace_id,
    spans: [root, ...inOrder.flatMap((attempt, i) => [...(waits[i] ?? []), ...spansOf(job, attempt)])],
  };
}

/** The id of what a span stands for: 16 hex digits, never all zero. */
const spanId = (of: string): string => idOf(16, of);
const idOf = (digits: number, of: string): string => createHash('sha256').update(of).digest('hex').slice(0, digits);

function waitBefore(job: Job, before: Attempt | undefined, attempt: Attempt): TraceSpan[] {
  const started_at = before === undefined ? job.created_at : before.ended_at;
  if (started_at === undefined) return [];
  return [
    {
      span_id: spanId(`${job.id}.${attempt.number}.wait`),
      parent_span_id: spanId(job.id),
      name: 'wait',
      started_at,
      ended_at: attempt.granted_at,
      status: 'ok',
      attributes: {},
    },
  ];
}

function spansOf(job: Job, attempt: Attempt): TraceSpan[] {
  const id = `${job.id}.${attempt.number}`;
  const { ended_at, error } = attempt;
  return [
    {
      span_id: spanId(id),
      parent_span_id: spanId(job.id),
      name: `attempt ${attempt.number}`,
      started_at: attempt.granted_at,
      ...(ended_at === undefined ? {} : { ended_at }),
      status: attempt.status === 'running' ? 'running' : attempt.status === 'succeeded' ? 'ok' : 'error',
      attributes: {
        'ims.agent': attempt.agent_id,
        'ims.status': attempt.status,
        ...(error === undefined ? {} : { 'error.type': error.code }),
      },
    },
    ...attempt.steps.map((step) => stepSpan(id, step)),
  ];
}

function stepSpan(attemptId: string, { name, status, started_at, duration_ms, tool_ms }: Step): TraceSpan {
  const ended = duration_ms === undefined ? undefined : new Date(Date.parse(started_at) + duration_ms).toISOString();
  return {
    span_id: spanId(`${attemptId}.${name}`),
    parent_span_id: spanId(attemptId),
    name,
    started_at,
    ...(ended === undefined ? {} : { ended_at: ended }),
    status: status === 'started' ? 'running' : status === 'done' ? 'ok' : 'error',
    attributes: tool_ms === undefined ? {} : { 'ims.tool_ms': tool_ms },
  };
}
