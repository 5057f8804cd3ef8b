import { createReadStream, existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Attempt, type Deployment, type Event, type Job, type Step } from '#contracts';
import { WHOLE_ATTEMPT, type Effect, type History, type JobAttempt } from '#domain';

/** A history while it is read together from several sources. */
export class Gathered {
  readonly accepted: string[] = [];
  readonly deployments: Deployment[] = [];
  readonly jobs: Job[] = [];
  readonly attempts: JobAttempt[] = [];
  readonly events: Event[] = [];
  readonly effects: Effect[] = [];
  partialChains = false;

  /** An attempt as the API shows it, with what it says of its steps. */
  attempt(job_id: string, attempt: Attempt): void {
    const { steps, ...row } = attempt;
    this.attempts.push({ job_id, ...row });
    for (const step of steps ?? []) this.effects.push(...effectsOfStep(job_id, attempt.number, step));
  }

  /** What agents and others saw of jobs that are not asked about is left out. */
  get history(): History {
    const known = new Set<string>([...this.jobs.map(({ id }) => id), ...this.accepted]);
    const mine = known.size === 0 ? this.effects : this.effects.filter(({ job_id }) => known.has(job_id));
    return { ...this, effects: mine };
  }
}

function effectsOfStep(job_id: string, attempt: number, step: Step): Effect[] {
  const of = (phase: Effect['phase'], at: string): Effect => ({
    witness: 'reported',
    job_id,
    attempt,
    step: step.name,
    phase,
    at,
  });
  const began = of('began', step.started_at);
  if (step.status === 'started') return [began];
  const end = new Date(Date.parse(step.started_at) + (step.duration_ms ?? 0)).toISOString();
  return [began, of(step.status, end)];
}

/** The lines of a file, one JSON object each. Throws an Error that names the line which is none. */
async function* objectsOf(file: string): AsyncGenerator<Record<string, unknown>> {
  let line = 0;
  for await (const text of createInterface({ input: createReadStream(file), crlfDelay: Infinity })) {
    line += 1;
    if (text.trim() === '') continue;
    try {
      yield JSON.parse(text) as Record<string, unknown>;
    } catch {
      throw new Error(`${file}:${line} is not JSON`);
    }
  }
}

/**
 * An exported history: NDJSON of `{"accepted"|"deployment"|"job"|"attempt"|"event"|"effect"|"partial_chains": …}`, and
 * of plain facts and entries of a customer's record as the API and `install-agent audit export` write them.
 */
export async function readFile(into: Gathered, file: string): Promise<void> {
  for await (const each of objectsOf(file)) {
    if ('accepted' in each) into.accepted.push(String(each['accepted']));
    else if ('deployment' in each && 'status' in (each['deployment'] as object))
      into.deployments.push(each['deployment'] as Deployment);
    else if ('job' in each) into.jobs.push(each['job'] as Job);
    else if ('attempt' in each && 'job_id' in (each['attempt'] as object)) {
      const { job_id, ...attempt } = each['attempt'] as Attempt & { job_id: string };
      into.attempt(job_id, attempt);
    } else if ('event' in each) into.events.push(each['event'] as Event);
    else if ('effect' in each) into.effects.push(each['effect'] as Effect);
    else if ('partial_chains' in each) into.partialChains = each['partial_chains'] === true;
    else if ('prev_hash' in each) into.events.push(each as unknown as Event);
    else if ('prev' in each) into.effects.push(...effectsOfRecord(each as unknown as Entry));
    else throw new Error(`${file} holds a line that is no part of a history: ${Object.keys(each).join(', ')}`);
  }
}

interface Entry {
  readonly at: string;
  readonly type: string;
  readonly data: { readonly job_id?: string; readonly attempt?: number };
}
const RECORDED: Readonly<Record<string, Effect['phase']>> = {
  'job.started': 'began',
  'job.resumed': 'began',
  'job.succeeded': 'done',
  'job.failed': 'failed',
  'job.cancelled': 'failed',
};
/** The customer's record speaks of whole attempts. */
function effectsOfRecord({ at, type, data: { job_id, attempt } }: Entry): Effect[] {
  const phase = RECORDED[type];
  if (phase === undefined || job_id === undefined || attempt === undefined) return [];
  return [{ witness: 'record', job_id, attempt, step: WHOLE_ATTEMPT, phase, at }];
}

interface JournalLine {
  readonly t: string;
  readonly name?: string;
  readonly at?: string;
  readonly durationMs?: number;
}
const JOURNAL = /^(job_\w+)\.(\d+)\.ndjson$/;

/** The disk of an agent: its journal (what has no receipt yet) and its customer's record. */
export async function readAgentState(into: Gathered, state: string): Promise<void> {
  const listed = (name: string): string[] => {
    const directory = join(state, name);
    return existsSync(directory) ? readdirSync(directory).map((file) => join(directory, file)) : [];
  };
  if (listed('journal').length + listed('record').length === 0)
    throw new Error(`${state} is no state directory of an agent`);
  for (const file of listed('record')
    .filter((name) => name.endsWith('.ndjson'))
    .sort()) {
    for await (const entry of objectsOf(file)) into.effects.push(...effectsOfRecord(entry as unknown as Entry));
  }
  for (const file of listed('journal')) {
    const [, job_id, attempt] = JOURNAL.exec(basename(file)) ?? [];
    if (job_id === undefined) continue;
    // The last line may be torn: the agent may have been killed while it wrote.
    const lines = readFileSync(file, 'utf8').split('\n').slice(0, -1);
    const began = new Map<string, string>();
    for (const line of lines) {
      const { t, name = '', at = '', durationMs = 0 } = JSON.parse(line) as JournalLine;
      const of = (phase: Effect['phase'], when: string): Effect => ({
        witness: 'journal',
        job_id,
        attempt: Number(attempt),
        step: name,
        phase,
        at: when,
      });
      if (t === 'step') {
        began.set(name, at);
        into.effects.push(of('began', at));
      } else if (t === 'done') {
        into.effects.push(of('done', new Date(Date.parse(began.get(name) ?? at) + durationMs).toISOString()));
      }
    }
  }
}

/** As much of the REST client as is needed. */
interface Rest {
  get<T>(path: string): Promise<T>;
  all<T>(path: string): Promise<T[]>;
}

/** A deployment with all its jobs, attempts and facts. */
export async function readDeployment(into: Gathered, rest: Rest, id: string): Promise<void> {
  into.accepted.push(id);
  // Facts first: what the resources say is then at least as new.
  into.events.push(...(await rest.all<Event>(`/v1/deployments/${id}/events?limit=200`)));
  into.partialChains = true;
  const jobs = await rest.all<Job>(`/v1/jobs?deployment_id=${id}&limit=200`);
  into.jobs.push(...jobs);
  into.deployments.push(await rest.get<Deployment>(`/v1/deployments/${id}`));
  for (const job of jobs) {
    const { data } = await rest.get<{ data: Attempt[] }>(`/v1/jobs/${job.id}/attempts`);
    for (const attempt of data) into.attempt(job.id, attempt);
  }
}

/** The same history as lines that `readFile` reads. */
export function* linesOf({
  accepted,
  deployments,
  jobs,
  attempts,
  events,
  effects,
  partialChains,
}: History): Generator<string> {
  const line = (value: object): string => `${JSON.stringify(value)}\n`;
  if (partialChains) yield line({ partial_chains: true });
  for (const each of accepted) yield line({ accepted: each });
  for (const deployment of deployments) yield line({ deployment });
  for (const job of jobs) yield line({ job });
  for (const attempt of attempts) yield line({ attempt: { ...attempt, steps: [] } });
  for (const event of events) yield line({ event });
  for (const effect of effects) yield line({ effect });
}
