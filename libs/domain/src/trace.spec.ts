import { type Attempt, type Job } from '#contracts';
import { traceOfJob } from './index.js';

const job = {
  id: 'job_01jz8q4m7xe2vaj3k5n9p0r008',
  kind: 'apply',
  status: 'succeeded',
  component: { id: 'cmp_01jz8q4m7xe2vaj3k5n9p0r003', name: 'web', kind: 'helm-chart' },
  trace_id: 'a'.repeat(32),
  created_at: '2026-01-01T00:00:00.000Z',
  finished_at: '2026-01-01T00:01:00.000Z',
} as Job;
const attempt = (number: number, status: Attempt['status'], from: number, to?: number): Attempt => ({
  number,
  status,
  agent_id: 'agt_01jz8q4m7xe2vaj3k5n9p0r009',
  granted_at: `2026-01-01T00:00:${from}.000Z`,
  ...(to === undefined ? {} : { ended_at: `2026-01-01T00:00:${to}.000Z` }),
  steps: [{ name: 'plan', status: 'done', started_at: `2026-01-01T00:00:${from}.000Z`, duration_ms: 1500 }],
});

it('is one tree: the job, its waits, its attempts, their steps; the same each time it is asked for', () => {
  // Newest first, as the attempts are listed.
  const attempts = [attempt(2, 'succeeded', 30, 50), attempt(1, 'lost', 10, 20)];
  const trace = traceOfJob(job, attempts);
  expect(trace).toEqual(traceOfJob(job, attempts));
  expect(trace.trace_id).toBe(job.trace_id);
  expect(trace.spans.map(({ name, status }) => [name, status])).toEqual([
    ['apply web', 'ok'],
    ['wait', 'ok'],
    ['attempt 1', 'error'],
    ['plan', 'ok'],
    ['wait', 'ok'],
    ['attempt 2', 'ok'],
    ['plan', 'ok'],
  ]);
  const seen = new Set<string>();
  for (const { span_id, parent_span_id } of trace.spans) {
    expect(span_id).toMatch(/^[0-9a-f]{16}$/);
    if (seen.size > 0) expect(seen).toContain(parent_span_id);
    seen.add(span_id);
  }
  expect(seen.size).toBe(7);
  const [, wait, , step] = trace.spans;
  expect([wait?.started_at, wait?.ended_at]).toEqual([job.created_at, '2026-01-01T00:00:10.000Z']);
  expect(step?.ended_at).toBe('2026-01-01T00:00:11.500Z');
});

it('has no end where nothing has ended, and an id also for a job that has none', () => {
  const { trace_id: _, finished_at: __, ...rest } = job;
  const trace = traceOfJob({ ...rest, status: 'running' }, [attempt(1, 'running', 10)]);
  expect(trace.trace_id).toMatch(/^[0-9a-f]{32}$/);
  expect(trace.spans.map(({ name, ended_at }) => [name, ended_at !== undefined])).toEqual([
    ['apply web', false],
    ['wait', true],
    ['attempt 1', false],
    ['plan', true],
  ]);
});
