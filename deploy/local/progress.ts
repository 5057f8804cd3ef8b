import { type Attempt, type Deployment, type Job } from '#contracts';
import { type RestClient } from './rest.js';

const FINAL: readonly Job['status'][] = ['succeeded', 'failed', 'cancelled', 'skipped'];
/**
 * The demo looks this often, and only now and then into jobs that still run: what it asks for is work on the two cores
 * that the deployment runs on. A program would use `Prefer: wait=60` or the event stream.
 */
const LOOK_MS = 250;
const LOOK_INSIDE_EVERY = 4;

export interface JobHistory {
  readonly job: Job;
  readonly attempts: readonly Attempt[];
}

/** Follows jobs to their end and tells of each step once, as it ends. */
export async function followJobs(
  rest: RestClient,
  list: () => Promise<Job[]>,
  tell: { step(job: Job, step: Attempt['steps'][number]): void; end(job: Job, history: JobHistory): void },
): Promise<JobHistory[]> {
  const told = new Set<string>();
  const ended = new Map<string, JobHistory>();
  for (let look = 1; ; look++) {
    const jobs = await list();
    for (const job of jobs) {
      if (ended.has(job.id)) continue;
      if (!FINAL.includes(job.status) && (job.attempt === 0 || look % LOOK_INSIDE_EVERY > 0)) continue;
      const attempts = await rest.all<Attempt>(`/v1/jobs/${job.id}/attempts`);
      for (const attempt of attempts) {
        for (const step of attempt.steps) {
          const key = `${job.id}/${attempt.number}/${step.name}`;
          if (step.status === 'started' || told.has(key)) continue;
          told.add(key);
          tell.step(job, step);
        }
      }
      if (!FINAL.includes(job.status)) continue;
      const history = { job, attempts };
      ended.set(job.id, history);
      tell.end(job, history);
    }
    if (jobs.every((job) => ended.has(job.id))) return [...ended.values()];
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** Total length of the union of time spans, in milliseconds: two tools that run at the same time count once. */
function unionMs(spans: readonly { from: number; to: number }[]): number {
  let total = 0;
  let end = -Infinity;
  for (const { from, to } of [...spans].sort((a, b) => a.from - b.from)) {
    total += Math.max(0, to - Math.max(from, end));
    end = Math.max(end, to);
  }
  return total;
}

/** The spans in which a job's steps waited for other programs (terraform, kubectl, buildah …). */
function toolSpans(histories: readonly JobHistory[]): { from: number; to: number }[] {
  return histories.flatMap(({ attempts }) =>
    attempts.flatMap(({ steps }) =>
      steps
        .filter((step) => (step.tool_ms ?? 0) > 0)
        .map((step) => ({ from: Date.parse(step.started_at), to: Date.parse(step.started_at) + (step.tool_ms ?? 0) })),
    ),
  );
}

/** The spans in which bytes moved between registries. */
function transferSpans(histories: readonly JobHistory[]): { from: number; to: number }[] {
  return histories.flatMap(({ attempts }) =>
    attempts.flatMap(({ steps }) =>
      steps.flatMap(({ started_at: startedAt, duration_ms: durationMs = 0, detail }) => {
        const transferMs = Number(detail?.['transfer_ms'] ?? 0);
        const to = Date.parse(startedAt) + durationMs;
        return transferMs > 0 ? [{ from: to - transferMs, to }] : [];
      }),
    ),
  );
}

/** Where the time of a deployment that has ended went, in milliseconds; `restMs` is what orchestration took. */
export interface TimeShares {
  readonly wallMs: number;
  readonly toolMs: number;
  readonly transferMs: number;
  readonly restMs: number;
}

/** From the request that made the deployment to its end, as the API has both; tools and copying at one time count once. */
export function timeShares(deployment: Deployment, histories: readonly JobHistory[]): TimeShares {
  const { created_at: from, finished_at: to = from } = deployment;
  const wallMs = Date.parse(to) - Date.parse(from);
  const toolMs = unionMs(toolSpans(histories));
  const transferMs = unionMs([...toolSpans(histories), ...transferSpans(histories)]) - toolMs;
  return { wallMs, toolMs, transferMs, restMs: wallMs - toolMs - transferMs };
}

/** Milliseconds from the start of the first attempt of a job to the end of its last. */
export function jobMs({ job, attempts }: JobHistory): number {
  // Attempts are listed newest first.
  const first = attempts.at(-1);
  return first && job.finished_at ? Date.parse(job.finished_at) - Date.parse(first.granted_at) : 0;
}
