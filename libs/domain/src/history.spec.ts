import { Event, hashEvent, type JsonObject, type WaitingReason } from '#contracts';
import fc from 'fast-check';
import { checkHistory } from './history-rules.js';
import { type Effect, type History, type JobAttempt, type RuleName } from './history.js';

type Bare = Omit<Event, 'hash' | 'prev_hash' | 'seq'>;
type Mutable<T> = { -readonly [K in keyof T]: T[K] };
interface Draft {
  jobs: Mutable<History['jobs'][number]>[];
  attempts: Mutable<JobAttempt>[];
  facts: Bare[];
  effects: Mutable<Effect>[];
  deployments: Mutable<History['deployments'][number]>[];
  accepted: string[];
}
const CHAIN = 'job-scheduler:ins_1';
const LIMITS = { skewMs: 5, cancelMs: 11_000 };
const iso = (ms: number): string => new Date(1_700_000_000_000 + ms).toISOString();

function chained(facts: readonly Bare[]): Event[] {
  let prev = '';
  return facts.map((fact, i) => {
    const own = { ...fact, seq: i + 1 };
    const event = Object.assign(new Event(), own, { prev_hash: prev, hash: hashEvent(prev, own) });
    prev = event.hash;
    return event;
  });
}
const historyOf = (draft: Draft): History => ({ ...draft, events: chained(draft.facts), partialChains: false });
const factOf = (type: string, job: string, at: number, data: JsonObject = {}): Bare => ({
  id: `evt_${type}_${job}_${at}`,
  chain: CHAIN,
  type,
  at: iso(at),
  vendor_id: 'ven_1',
  deployment_id: 'dep_1',
  job_id: job,
  actor: 'service:job-scheduler',
  data,
});

const END = ['succeeded', 'succeeded', 'succeeded', 'failed', 'cancelled', 'stopped', 'open'] as const;
interface Shape {
  readonly parents: readonly number[];
  readonly before: readonly ('lost' | 'retrying' | 'deferred')[];
  readonly end: (typeof END)[number];
}
const shapes: fc.Arbitrary<Shape[]> = fc.array(
  fc.record({
    parents: fc.array(fc.nat(), { maxLength: 2 }),
    before: fc.array(fc.constantFrom('lost' as const, 'retrying' as const, 'deferred' as const), { maxLength: 3 }),
    end: fc.constantFrom(...END),
  }),
  { minLength: 1, maxLength: 8 },
);

/** A history as the engine would have written it: one job after the other, each with its attempts and two steps. */
function good(all: readonly Shape[]): Draft {
  const draft: Draft = { jobs: [], attempts: [], facts: [], effects: [], deployments: [], accepted: ['dep_1'] };
  const reason = { code: 'awaiting_claim', detail: '', unblock: '' } as WaitingReason;
  let now = 0;
  const fact = (type: string, job: string, data: JsonObject = {}): void =>
    void draft.facts.push(factOf(type, job, (now += 10), data));
  all.forEach((_, i) => {
    fact('job.created', `job_${i}`);
  });
  all.forEach(({ parents, before, end }, i) => {
    const id = `job_${i}`;
    const depends_on = i === 0 ? [] : [...new Set(parents.map((n) => `job_${n % i}`))];
    const job = {
      id,
      kind: 'apply',
      status: 'queued',
      attempt: 0,
      depends_on,
      deployment_id: 'dep_1',
    } as unknown as Draft['jobs'][number];
    draft.jobs.push(job);
    const statuses = depends_on.map((parent) => draft.jobs.find((each) => each.id === parent)?.status);
    if (statuses.includes('queued') || statuses.includes('blocked')) {
      Object.assign(job, { status: 'blocked', waiting_reason: reason });
      return;
    }
    if (statuses.some((status) => status !== 'succeeded')) {
      job.status = 'skipped';
      fact('job.skipped', id, { attempt: 0 });
      return;
    }
    const ends = [...before, ...(end === 'open' ? [] : [end])];
    for (const [n, ended] of ends.entries()) {
      const attempt = n + 1;
      job.attempt = attempt;
      fact('job.granted', id, { attempt });
      const granted_at = iso(now);
      const see = (step: string, phase: Effect['phase']): void =>
        void draft.effects.push({ witness: 'test', job_id: id, attempt, step, phase, at: iso((now += 10)) });
      see('one', 'began');
      see('one', 'done');
      see('two', 'began');
      if (ended === 'succeeded') see('two', 'done');
      const lease_until = iso(now + 5);
      if (ended === 'stopped') fact('job.cancelling', id, { attempt });
      const type = ended === 'stopped' ? 'cancelled' : ended;
      fact(`job.${type}`, id, { attempt, ...(ended === 'lost' ? { lease_until } : {}) });
      const status = ended === 'retrying' ? 'failed' : ended === 'stopped' ? 'cancelled' : ended;
      draft.attempts.push({
        job_id: id,
        number: attempt,
        status: status,
        agent_id: 'agt_1',
        granted_at,
        ended_at: iso(now),
      });
      if (n === ends.length - 1 && end !== 'open') job.status = status as typeof job.status;
    }
    if (end === 'open') Object.assign(job, { waiting_reason: reason });
  });
  const open = draft.jobs.some(({ waiting_reason }) => waiting_reason);
  draft.deployments = [{ id: 'dep_1', status: open ? 'running' : 'succeeded' }];
  return draft;
}

const brokenRules = (history: History): RuleName[] =>
  checkHistory(history, LIMITS)
    .filter(({ faults }) => faults.length > 0)
    .map(({ rule }) => rule);

it('finds nothing in what the engine writes', () => {
  fc.assert(
    fc.property(shapes, (all) => {
      const draft = good(all);
      expect(checkHistory(historyOf(draft), LIMITS).flatMap(({ faults }) => faults)).toEqual([]);
      // One deployment of many in its chain: gaps are no fault then.
      const some = chained(draft.facts).filter((_, i) => i % 3 !== 1);
      const [chain] = checkHistory({ ...historyOf(draft), events: some, partialChains: true }, LIMITS).slice(-1);
      expect(chain?.faults).toEqual([]);
    }),
    { numRuns: 100 },
  );
});

it('knows what lets go on, and what has ended without an attempt', () => {
  const job = (id: string, status: string, more: object = {}) =>
    ({
      id,
      kind: 'noop',
      status,
      attempt: 0,
      depends_on: [],
      deployment_id: 'dep_1',
      ...more,
    }) as Draft['jobs'][number];
  const parents = ['left_out', 'skipped', 'may_fail', 'late'];
  const child = job('child', 'succeeded', { attempt: 1, depends_on: parents });
  const draft: Draft = {
    jobs: [
      job('left_out', 'skipped'),
      job('skipped', 'skipped'),
      job('may_fail', 'failed', { attempt: 1, allow_failure: true }),
      job('late', 'failed', { allow_failure: true }),
      job('replaced', 'cancelled'),
      child,
    ],
    attempts: [],
    facts: [
      factOf('job.created', 'left_out', 1, { status: 'skipped', code: 'job_skipped' }),
      ...['skipped', 'may_fail', 'late', 'replaced', 'child'].map((id) =>
        factOf('job.created', id, 2, { status: 'queued' }),
      ),
      factOf('job.skipped', 'skipped', 3, { attempt: 0, code: 'job_skipped' }),
      factOf('job.granted', 'may_fail', 4, { attempt: 1 }),
      factOf('job.failed', 'may_fail', 5, { attempt: 1 }),
      factOf('job.expired', 'late', 6, { attempt: 0 }),
      factOf('job.replaced', 'replaced', 7, { attempt: 0 }),
      factOf('job.granted', 'child', 8, { attempt: 1 }),
      factOf('job.succeeded', 'child', 9, { attempt: 1 }),
    ],
    effects: [],
    deployments: [{ id: 'dep_1', status: 'succeeded' }],
    accepted: [],
  };
  expect(checkHistory(historyOf(draft), LIMITS).flatMap(({ faults }) => faults)).toEqual([]);
  for (const each of draft.jobs) delete each.allow_failure;
  expect(brokenRules(historyOf(draft))).toEqual(['order']);
  draft.facts[6] = factOf('job.skipped', 'skipped', 3, { attempt: 0, code: 'dependency_failed' });
  const [order] = checkHistory(historyOf(draft), LIMITS).filter(({ rule }) => rule === 'order');
  expect(order?.faults).toHaveLength(3);
});

const pick = <T>(list: readonly T[], n: number): T | undefined =>
  list.length === 0 ? undefined : list[n % list.length];
const after = (draft: Draft): number =>
  Math.max(...draft.facts.map(({ at }) => Date.parse(at)), ...draft.effects.map(({ at }) => Date.parse(at))) -
  1_700_000_000_000;
const ended = (draft: Draft, n: number) =>
  pick(
    draft.jobs.filter(({ attempt, status }) => attempt > 0 && status !== 'queued'),
    n,
  );

/** Each plants one fault; false where this history has no place for it. */
const FAULTS: Readonly<Record<string, [RuleName, (draft: Draft, n: number) => unknown]>> = {
  'a job is gone': ['ended_or_waiting', (d, n) => d.jobs.splice(n % d.jobs.length, 1)],
  'what was accepted was never made': ['ended_or_waiting', (d) => d.accepted.push('job_lost')],
  'a job waits without a reason': [
    'ended_or_waiting',
    (d, n) => {
      const job = pick(
        d.jobs.filter(({ waiting_reason }) => waiting_reason),
        n,
      );
      return job && delete job.waiting_reason;
    },
  ],
  'a job is another than its facts say': [
    'ended_or_waiting',
    (d, n) => {
      const job = pick(
        d.jobs.filter(({ status }) => status === 'succeeded' || status === 'skipped'),
        n,
      );
      return job && (job.status = 'failed');
    },
  ],
  'a job is blocked by what has ended': [
    'ended_or_waiting',
    (d, n) => {
      const job = pick(
        d.jobs.filter(({ status }) => status === 'skipped'),
        n,
      );
      return job && Object.assign(job, { status: 'blocked', waiting_reason: { code: 'blocked_by_job' } });
    },
  ],
  'a job is made twice': ['ended_or_waiting', (d) => d.facts.push({ ...d.facts[0]!, at: iso(after(d)) })],
  'a deployment ends too early': [
    'ended_or_waiting',
    (d) => d.deployments[0]?.status === 'running' && (d.deployments[0].status = 'succeeded'),
  ],
  'a deployment never ends': [
    'ended_or_waiting',
    (d) => d.deployments[0]?.status === 'succeeded' && (d.deployments[0].status = 'running'),
  ],
  'an attempt goes on after its lease': [
    'one_at_a_time',
    (d, n) => {
      const lost = pick(
        d.facts.filter(({ type }) => type === 'job.lost'),
        n,
      );
      const at = lost && new Date(Date.parse(lost.data['lease_until'] as string) + 6).toISOString();
      const late =
        lost && d.effects.findLast(({ job_id, attempt }) => job_id === lost.job_id && attempt === lost.data['attempt']);
      return late && at !== undefined && d.effects.push({ ...late, step: 'three', phase: 'began', at });
    },
  ],
  'an attempt goes on after its result': [
    'one_at_a_time',
    (d, n) => {
      const row = pick(d.attempts, n);
      return (
        row &&
        d.effects.push({
          witness: 'test',
          job_id: row.job_id,
          attempt: row.number,
          step: 'x',
          phase: 'began',
          at: iso(Date.parse(row.ended_at!) - 1_700_000_000_000 + 6),
        })
      );
    },
  ],
  'an old attempt goes on beside the new one': [
    'one_at_a_time',
    (d, n) => {
      const row = pick(
        d.attempts.filter(({ number }) => number > 1),
        n,
      );
      const effect = row && d.effects.find(({ job_id, attempt }) => job_id === row.job_id && attempt === row.number);
      return (
        row &&
        effect &&
        d.effects.push({
          ...effect,
          attempt: row.number - 1,
          step: 'x',
          at: iso(Date.parse(effect.at) - 1_700_000_000_000 + 1),
        })
      );
    },
  ],
  'an effect comes before its grant': [
    'one_at_a_time',
    (d, n) => {
      const row = pick(d.attempts, n);
      return (
        row &&
        d.effects.push({
          witness: 'test',
          job_id: row.job_id,
          attempt: row.number,
          step: 'x',
          phase: 'done',
          at: iso(Date.parse(row.granted_at) - 1_700_000_000_000 - 6),
        })
      );
    },
  ],
  'an attempt that was never granted has effects': [
    'one_at_a_time',
    (d, n) =>
      d.effects.push({
        witness: 'test',
        job_id: d.jobs[n % d.jobs.length]!.id,
        attempt: 99,
        step: 'x',
        phase: 'began',
        at: iso(after(d)),
      }),
  ],
  'two attempts run at a time': [
    'one_at_a_time',
    (d, n) => {
      const row = pick(
        d.attempts.filter(({ number }) => number > 1),
        n,
      );
      const before = row && d.attempts.find(({ job_id, number }) => job_id === row.job_id && number === row.number - 1);
      return before && delete before.ended_at;
    },
  ],
  'an attempt is granted twice': [
    'fences',
    (d, n) => {
      const grant = pick(
        d.facts.filter(({ type }) => type === 'job.granted'),
        n,
      );
      return grant && d.facts.splice(d.facts.indexOf(grant), 0, { ...grant });
    },
  ],
  'a number is left out': [
    'fences',
    (d, n) => {
      const grant = pick(
        d.facts.filter(({ type }) => type === 'job.granted'),
        n,
      );
      return grant && (grant.data = { attempt: Number(grant.data['attempt']) + 1 });
    },
  ],
  'an earlier attempt ends the job': [
    'fences',
    (d, n) => {
      const job = pick(
        d.jobs.filter(({ attempt, status }) => attempt > 1 && status === 'succeeded'),
        n,
      );
      const end = job && d.facts.find(({ type, job_id }) => type === 'job.succeeded' && job_id === job.id);
      return end && (end.data = { attempt: 1 });
    },
  ],
  'a job ends twice': [
    'fences',
    (d, n) =>
      ended(d, n) &&
      d.facts.push(factOf('job.succeeded', ended(d, n)!.id, after(d), { attempt: ended(d, n)!.attempt })),
  ],
  'a job is granted after its end': [
    'fences',
    (d, n) =>
      ended(d, n) &&
      d.facts.push(factOf('job.granted', ended(d, n)!.id, after(d), { attempt: ended(d, n)!.attempt + 1 })),
  ],
  'a job succeeds twice': [
    'fences',
    (d, n) => {
      const row = pick(
        d.attempts.filter(({ status, number }) => status === 'succeeded' && number > 1),
        n,
      );
      const before = row && d.attempts.find(({ job_id, number }) => job_id === row.job_id && number === row.number - 1);
      return before && (before.status = 'succeeded');
    },
  ],
  'a step is done twice': [
    'once',
    (d, n) => {
      const done = pick(
        d.effects.filter(({ phase }) => phase === 'done'),
        n,
      );
      return done && d.effects.push({ ...done, at: new Date(Date.parse(done.at) + 1).toISOString() });
    },
  ],
  'a step that was done is begun again': [
    'once',
    (d, n) => {
      const done = pick(
        d.effects.filter(({ phase }) => phase === 'done'),
        n,
      );
      return done && d.effects.push({ ...done, phase: 'began', at: new Date(Date.parse(done.at) + 1).toISOString() });
    },
  ],
  'a job succeeds with a step that was never done': [
    'once',
    (d, n) => {
      const job = pick(
        d.jobs.filter(({ status }) => status === 'succeeded'),
        n,
      );
      const at =
        job &&
        d.effects.findIndex(
          ({ job_id, attempt, step, phase }) =>
            job_id === job.id && attempt === job.attempt && step === 'two' && phase === 'done',
        );
      return at !== undefined && at >= 0 && d.effects.splice(at, 1);
    },
  ],
  'a cancelled job is granted again': [
    'cancel',
    (d, n) => {
      const job = pick(
        d.jobs.filter(({ status }) => status === 'cancelled'),
        n,
      );
      return job && d.facts.push(factOf('job.granted', job.id, after(d), { attempt: job.attempt + 1 }));
    },
  ],
  'a job is granted after its deployment was cancelled': [
    'cancel',
    (d, n) => {
      const grant = pick(
        d.facts.filter(({ type }) => type === 'job.granted'),
        n,
      );
      return (
        grant &&
        d.facts.splice(d.facts.indexOf(grant), 0, {
          ...factOf('deployment.cancelling', '', 0),
          job_id: undefined,
          at: grant.at,
        } as unknown as Bare)
      );
    },
  ],
  'a step is begun long after the cancel': [
    'cancel',
    (d, n) => {
      const word = pick(
        d.facts.filter(({ type }) => type === 'job.cancelling'),
        n,
      );
      return (
        word &&
        d.effects.push({
          witness: 'test',
          job_id: word.job_id!,
          attempt: Number(word.data['attempt']),
          step: 'x',
          phase: 'began',
          at: new Date(Date.parse(word.at) + 11_006).toISOString(),
        })
      );
    },
  ],
  'a job is granted before what it depends on': [
    'order',
    (d, n) => {
      const job = pick(
        d.jobs.filter(({ depends_on, attempt }) => depends_on.length > 0 && attempt > 0),
        n,
      );
      const end =
        job && d.facts.findIndex(({ type, job_id }) => type === 'job.succeeded' && job_id === job.depends_on[0]);
      return end !== undefined && end >= 0 && d.facts.push(...d.facts.splice(end, 1));
    },
  ],
};
const ALTERED: Readonly<Record<string, (events: Event[], n: number) => unknown>> = {
  'a fact is changed': (events, n) => Object.assign(events[n % events.length]!, { actor: 'agent:agt_2' }),
  'a fact is dropped': (events, n) => events.length > 1 && events.splice(n % (events.length - 1), 1),
  'two facts change places': (events, n) => {
    const at = n % (events.length - 1 || 1);
    const [one, other] = [events[at], events[at + 1]];
    if (!one || !other) return false;
    [one.seq, other.seq] = [other.seq, one.seq];
    return true;
  },
  'a fact is put in twice': (events, n) => events.push({ ...events[n % events.length]! }),
};

describe('finds where', () => {
  it.each(Object.entries(FAULTS))('%s', (_, [rule, plant]) => {
    let planted = 0;
    fc.assert(
      fc.property(shapes, fc.nat(), (all, n) => {
        const draft = good(all);
        const done = plant(draft, n);
        if (done === false || done === undefined) return;
        planted += 1;
        expect(brokenRules(historyOf(draft))).toContain(rule);
      }),
      { numRuns: 80 },
    );
    expect(planted).toBeGreaterThan(5);
  });

  it.each(Object.entries(ALTERED))('%s', (_, alter) => {
    fc.assert(
      fc.property(shapes, fc.nat(), (all, n) => {
        const history = historyOf(good(all));
        const events = [...history.events];
        if (alter(events, n) === false) return;
        expect(brokenRules({ ...history, events })).toContain('chain');
      }),
      { numRuns: 100 },
    );
  });
});
