import { hashEvent, type Event, type JobStatus } from '#contracts';
import {
  type Effect,
  type History,
  type HistoryFault,
  type HistoryLimits,
  type JobStory,
  type RuleName,
  type RuleReport,
} from './history.js';
import { jobMachine } from './job.js';

interface Case {
  readonly history: History;
  readonly stories: ReadonlyMap<string, JobStory>;
  readonly limits: HistoryLimits;
  readonly fault: (text: string, ...ids: string[]) => void;
}
interface Rule {
  readonly rule: RuleName;
  readonly title: string;
  /** Tells the faults; answers how many things were looked at. */
  readonly check: (given: Case) => number;
}

/** The facts that end a job. */
const ENDS: ReadonlyMap<string, JobStatus> = new Map([
  ...jobMachine.finals.map((status) => [`job.${status}`, status] as const),
  ['job.expired', 'failed'],
  ['job.replaced', 'cancelled'],
]);
/** How the job has ended by this fact. What a retry leaves out has ended when it is made. */
const endBy = ({ type, data }: Event): JobStatus | undefined =>
  ENDS.get(type) ?? (type === 'job.created' && data['status'] === 'skipped' ? 'skipped' : undefined);
/** The facts that end an attempt: each names it. `job.cancelled` and `job.failed` do when the job ran. */
const ATTEMPT_ENDS = new Set([
  'job.lost',
  'job.deferred',
  'job.retrying',
  'job.succeeded',
  'job.failed',
  'job.cancelled',
]);

const time = (at: string): number => Date.parse(at);
const attemptIn = ({ data }: Event): number | undefined => {
  const { attempt } = data;
  return typeof attempt === 'number' ? attempt : undefined;
};
const grantsOf = (story: JobStory): Event[] => story.facts.filter(({ type }) => type === 'job.granted');

/** Every job that was accepted is there, and has ended (as its facts say) or says what it waits for. */
function endedOrWaiting({ history, stories, fault }: Case): number {
  const present = new Set([...history.jobs, ...history.deployments].map(({ id }) => id as string));
  for (const id of history.accepted) if (!present.has(id)) fault(`${id} was accepted and is not there`, id);
  const open = new Map<string, string>();
  const withFacts = history.events.length > 0;
  for (const { id, job, facts } of stories.values()) {
    if (!job) {
      fault(`${id} is spoken of and is not there`, id);
      continue;
    }
    const over = jobMachine.isFinal(job.status);
    if (!over && job.deployment_id !== undefined) open.set(job.deployment_id, id);
    if (!over && !job.waiting_reason) fault(`${id} is ${job.status} and says no reason`, id);
    if (job.status === 'blocked') {
      const parents = job.depends_on.map((parent) => stories.get(parent)?.job?.status);
      if (parents.every((status) => status !== undefined && jobMachine.isFinal(status))) {
        fault(`${id} is blocked, and everything it waits for has ended`, id, ...job.depends_on);
      }
    }
    if (!withFacts) continue;
    const created = facts.filter(({ type }) => type === 'job.created').length;
    if (created !== 1) fault(`${id} was made ${created} times by its facts`, id);
    const said = facts.findLast((fact) => endBy(fact) !== undefined);
    if (over && (!said || endBy(said) !== job.status)) {
      fault(`${id} is ${job.status}, its last fact of an end is ${said?.type ?? 'none'}`, id);
    }
    if (!over && said) fault(`${id} is ${job.status} after ${said.type}`, id, said.id);
  }
  for (const { id, status } of history.deployments) {
    const ended = status !== 'running' && status !== 'cancelling';
    const left = open.get(id);
    if (ended && left !== undefined) fault(`${id} has ${status}, and its job ${left} has not ended`, id, left);
    if (!ended && left === undefined) fault(`${id} is ${status}, and every job of it has ended`, id);
  }
  return history.jobs.length + history.deployments.length;
}

/** Grant and end of each attempt that is known, by its facts or by the resource; the end is that of the lease where it was lost. */
function lifeOf(story: JobStory, number: number): { from: number; to: number } | undefined {
  const granted = grantsOf(story).find((fact) => attemptIn(fact) === number);
  const row = story.attempts.find((attempt) => attempt.number === number);
  const from = granted ? time(granted.at) : row && time(row.granted_at);
  if (from === undefined) return undefined;
  const ended = story.facts.find((fact) => ATTEMPT_ENDS.has(fact.type) && attemptIn(fact) === number);
  const lease = ended?.data['lease_until'];
  if (ended && typeof lease === 'string') return { from, to: time(lease) };
  const to = ended ? time(ended.at) : row?.ended_at === undefined ? Infinity : time(row.ended_at);
  return { from: Math.min(from, row ? time(row.granted_at) : from), to };
}

/**
 * Effects of an attempt lie between its grant and its end, and none comes after the first of a later attempt. The
 * second needs no tolerance: it is one agent's clock.
 */
function oneAtATime({ stories, limits: { skewMs }, fault }: Case): number {
  let checked = 0;
  for (const story of stories.values()) {
    const { id, effects, attempts } = story;
    const lives = new Map<number, ReturnType<typeof lifeOf>>();
    let highest: Effect | undefined;
    for (const effect of effects) {
      // That somebody noted an end is no effect: a fenced agent does so after its lease.
      if (effect.phase === 'failed' || (effect.step === WHOLE_ATTEMPT && effect.phase === 'done')) continue;
      checked += 1;
      const { attempt, step, at } = effect;
      if (!lives.has(attempt)) lives.set(attempt, lifeOf(story, attempt));
      const life = lives.get(attempt);
      const what = `${id} attempt ${attempt} step ${step} (${effect.witness}) ${effect.phase} at ${at}`;
      if (!life) fault(`${what}, and was never granted`, id);
      else if (time(at) < life.from - skewMs) fault(`${what}, before its grant at ${iso(life.from)}`, id);
      else if (time(at) > life.to + skewMs)
        fault(`${what}, ${time(at) - life.to} ms after the end of its lease or result`, id);
      if (highest && attempt < highest.attempt)
        fault(`${what}, after attempt ${highest.attempt} had begun at ${highest.at}`, id);
      if (!highest || attempt > highest.attempt) highest = effect;
    }
    for (const [i, attempt] of attempts.entries()) {
      checked += 1;
      const next = attempts[i + 1];
      if (next && attempt.ended_at === undefined)
        fault(`${id} attempts ${attempt.number} and ${next.number} run at a time`, id);
      // Both are the database's clock; an end is written with the time its transaction began.
      else if (next && time(attempt.ended_at ?? '') > time(next.granted_at)) {
        fault(`${id} attempt ${next.number} was granted before attempt ${attempt.number} had ended`, id);
      }
    }
  }
  return checked;
}

/** Attempts are numbered 1, 2, 3 …; only the latest one says anything, and nothing is granted after the end. */
function fences({ stories, history, fault }: Case): number {
  let checked = 0;
  for (const { id, job, facts, attempts } of stories.values()) {
    let latest = 0;
    let running = false;
    let end: Event | undefined;
    for (const fact of facts) {
      const attempt = attemptIn(fact);
      checked += 1;
      if (fact.type === 'job.granted') {
        if (attempt !== latest + 1)
          fault(`${id}: attempt ${attempt ?? '?'} was granted after attempt ${latest}`, id, fact.id);
        if (running) fault(`${id}: attempt ${attempt ?? '?'} was granted while attempt ${latest} ran`, id, fact.id);
        if (end) fault(`${id}: attempt ${attempt ?? '?'} was granted after ${end.type}`, id, fact.id, end.id);
        latest = Math.max(latest, attempt ?? 0);
        running = true;
      } else if (ATTEMPT_ENDS.has(fact.type)) {
        if (attempt !== undefined && attempt !== latest)
          fault(`${id}: ${fact.type} of attempt ${attempt}, the latest is ${latest}`, id, fact.id);
        const needsRun = fact.type !== 'job.failed' && fact.type !== 'job.cancelled';
        if (!running && needsRun) fault(`${id}: ${fact.type}, and no attempt ran`, id, fact.id);
        running = false;
      }
      if (endBy(fact) !== undefined) {
        if (end) fault(`${id} ended twice: ${end.type}, then ${fact.type}`, id, end.id, fact.id);
        end = fact;
      }
    }
    const numbers = attempts.map(({ number }) => number);
    if (new Set(numbers).size !== numbers.length)
      fault(`${id} has two attempts of one number: ${numbers.join(', ')}`, id);
    // Facts are read before the resource: a job that goes on meanwhile may be ahead of them.
    const differs = job && (jobMachine.isFinal(job.status) ? job.attempt !== latest : job.attempt < latest);
    if (history.events.length > 0 && differs) {
      fault(`${id} is at attempt ${job.attempt}, its facts at ${latest}`, id);
    }
    if (job?.status === 'succeeded' && attempts.length > 0 && attempts.at(-1)?.status !== 'succeeded') {
      fault(`${id} succeeded, its last attempt is ${attempts.at(-1)?.status ?? 'none'}`, id);
    }
    const good = attempts.filter(({ status }) => status === 'succeeded');
    if (good.length > 1) fault(`${id} succeeded ${good.length} times`, id);
  }
  return checked;
}

/** Within an attempt a step is done once, also over a crash of the agent; what succeeded was done, and is not begun again. */
function once({ stories, fault }: Case): number {
  let checked = 0;
  for (const { id, job, effects } of stories.values()) {
    const done = new Map<string, Effect>();
    const open = new Map<string, Effect>();
    for (const effect of effects) {
      const key = `${effect.witness} ${effect.attempt} ${effect.step}`;
      const what = `${id} attempt ${effect.attempt} step ${effect.step} (${effect.witness})`;
      const before = done.get(key);
      if (before) fault(`${what} ${effect.phase} at ${effect.at}, done before at ${before.at}`, id);
      if (effect.phase === 'began') open.set(key, effect);
      else open.delete(key);
      if (effect.phase === 'done') {
        checked += 1;
        if (!before) done.set(key, effect);
      }
    }
    if (job?.status !== 'succeeded') continue;
    for (const effect of open.values()) {
      if (effect.attempt !== job.attempt) continue;
      fault(
        `${id} succeeded by attempt ${effect.attempt}, whose step ${effect.step} (${effect.witness}) was begun and never done`,
        id,
      );
    }
  }
  return checked;
}

/** After a cancel nothing is granted, what runs is told to stop, and the job ends. */
function cancel({ history, stories, limits: { skewMs, cancelMs }, fault }: Case): number {
  const cancelledAt = new Map<string, Event>();
  for (const event of history.events) {
    if (event.type === 'deployment.cancelling' && event.deployment_id !== undefined)
      cancelledAt.set(event.deployment_id, event);
  }
  let checked = 0;
  for (const story of stories.values()) {
    const { id, job, facts, effects } = story;
    const asked = facts.find(({ type }) => type === 'job.cancelling' || type === 'job.cancelled');
    const all = job?.deployment_id === undefined ? undefined : cancelledAt.get(job.deployment_id);
    for (const word of [asked, all]) {
      if (!word) continue;
      checked += 1;
      for (const grant of grantsOf(story)) {
        if (grant.chain === word.chain && grant.seq > word.seq) {
          fault(`${id}: attempt ${attemptIn(grant) ?? '?'} was granted after ${word.type}`, id, word.id, grant.id);
        }
      }
      const late = effects.find(({ phase, at }) => phase === 'began' && time(at) > time(word.at) + cancelMs + skewMs);
      if (late) {
        fault(
          `${id} attempt ${late.attempt} began step ${late.step} ${time(late.at) - time(word.at)} ms after ${word.type}`,
          id,
          word.id,
        );
      }
    }
    if (asked?.type === 'job.cancelling' && job?.status === 'queued') {
      fault(`${id} was being cancelled and is queued again`, id, asked.id);
    }
  }
  return checked;
}

/**
 * The fact by which a job let go on what depends on it: it succeeded, a person left it out, or it may fail and did (also
 * by its time to begin).
 */
function clearedBy({ job, facts }: JobStory): Event | undefined {
  return facts.find((fact) => {
    const end = endBy(fact);
    if (end === 'skipped') return fact.data['code'] === 'job_skipped';
    return end === 'succeeded' || (end === 'failed' && job?.allow_failure === true);
  });
}

/** A job is granted only when everything it depends on has let it go on. */
function order({ stories, fault }: Case): number {
  let checked = 0;
  for (const story of stories.values()) {
    const [first] = grantsOf(story);
    if (!first || !story.job) continue;
    for (const parent of story.job.depends_on) {
      const before = stories.get(parent);
      if (!before || before.facts.length === 0) continue;
      checked += 1;
      const good = clearedBy(before);
      if (!good || (good.chain === first.chain && good.seq > first.seq)) {
        fault(
          `${story.id} was granted before ${parent}, which it depends on, had succeeded`,
          story.id,
          parent,
          first.id,
        );
      }
    }
  }
  return checked;
}

/** Each fact has the hash of its text, and follows the one before it. */
function chain({ history, fault }: Case): number {
  const chains = new Map<string, Event[]>();
  for (const event of history.events) {
    const events = chains.get(event.chain);
    if (events) events.push(event);
    else chains.set(event.chain, [event]);
  }
  for (const [name, events] of chains) {
    events.sort((a, b) => a.seq - b.seq);
    let last = { seq: 0, hash: '', id: '' };
    for (const event of events) {
      const where = `${name} fact ${event.seq} (${event.type})`;
      if (hashEvent(event.prev_hash, event) !== event.hash)
        fault(`${where} was changed: its hash is not that of its text`, event.id);
      if (event.seq === last.seq) fault(`${where} is there twice`, event.id, last.id);
      else if (event.seq === last.seq + 1) {
        if (event.prev_hash !== last.hash) fault(`${where} does not follow fact ${last.seq}`, event.id);
      } else if (!history.partialChains) fault(`${name} has no fact ${last.seq + 1}`, event.id);
      last = event;
    }
  }
  return history.events.length;
}

/** The step of witnesses that speak of attempts only. */
export const WHOLE_ATTEMPT = '*';
const iso = (ms: number): string => new Date(ms).toISOString();

const RULES: readonly Rule[] = [
  { rule: 'ended_or_waiting', title: 'each accepted job has ended, or says what it waits for', check: endedOrWaiting },
  {
    rule: 'one_at_a_time',
    title: 'one attempt at a time had effects, within its grant and its lease',
    check: oneAtATime,
  },
  { rule: 'fences', title: 'fences only grow, and only the latest attempt counted', check: fences },
  { rule: 'once', title: 'no step was done twice, and what succeeded was done', check: once },
  { rule: 'cancel', title: 'nothing was granted or begun after a cancel', check: cancel },
  { rule: 'order', title: 'nothing was granted before what it depends on', check: order },
  { rule: 'chain', title: 'the chain of facts is whole', check: chain },
];

/** Holds a history against every rule of the engine. Never throws for what the history says: that is a fault of it. */
export function checkHistory(history: History, limits: HistoryLimits): RuleReport[] {
  const stories = storiesOf(history);
  return RULES.map(({ rule, title, check }) => {
    const faults: HistoryFault[] = [];
    const fault = (text: string, ...ids: string[]): void => void faults.push({ text, ids });
    const checked = check({ history, stories, limits, fault });
    return { rule, title, checked, faults };
  });
}

function storiesOf(history: History): ReadonlyMap<string, JobStory> {
  const stories = new Map<
    string,
    { -readonly [K in keyof JobStory]: JobStory[K] extends readonly (infer T)[] ? T[] : JobStory[K] }
  >();
  const of = (id: string) => {
    let story = stories.get(id);
    if (!story) stories.set(id, (story = { id, job: undefined, facts: [], attempts: [], effects: [] }));
    return story;
  };
  for (const job of history.jobs) of(job.id).job = job;
  for (const attempt of history.attempts) of(attempt.job_id).attempts.push(attempt);
  for (const effect of history.effects) of(effect.job_id).effects.push(effect);
  for (const event of history.events)
    if (event.job_id !== undefined && event.type.startsWith('job.')) of(event.job_id).facts.push(event);
  for (const story of stories.values()) {
    story.facts.sort((a, b) => a.seq - b.seq);
    story.attempts.sort((a, b) => a.number - b.number);
    story.effects.sort((a, b) => Date.parse(a.at) - Date.parse(b.at));
  }
  return stories;
}
