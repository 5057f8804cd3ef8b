import { ImsError, LIMITS, type NewWorkJob } from '#contracts';
import fc from 'fast-check';
import { barOf, rankOf, toOffer, type Candidate } from './scheduling.js';
import { beginOf, checkWork, planRetry, type EndedJob } from './work.js';

const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return error instanceof ImsError ? `${error.code}: ${error.detail}` : String(error);
  }
  return 'nothing';
};
const REOFFER_MS = 10_000;

const candidates: fc.Arbitrary<Candidate[]> = fc
  .array(
    fc.record(
      {
        rank: fc.integer({ min: -1000, max: 1000 }),
        notBefore: fc.integer({ min: 0, max: 200 }),
        held: fc.boolean(),
        lock: fc.constantFrom('a', 'b', 'c'),
        offeredAt: fc.integer({ min: -20_000, max: 100 }),
      },
      { requiredKeys: ['rank', 'notBefore', 'held'] },
    ),
    { maxLength: 30 },
  )
  .map((rows) => rows.map((row, i) => ({ ...row, id: `j${i}` })));

describe('what an agent is offered', () => {
  it('is the first of its queue, as many as it has room for, one for each lock', () => {
    fc.assert(
      fc.property(candidates, fc.nat(8), fc.nat(8), fc.subarray(['a', 'b', 'c']), (queue, slots, running, taken) => {
        const now = 100;
        const ids = toOffer({ slots, running, closed: false }, queue, new Set(taken), now, REOFFER_MS);
        const byId = new Map(queue.map((job) => [job.id, job]));
        const chosen = ids.map((id) => byId.get(id)!);
        const onItsWay = queue.filter(({ offeredAt }) => offeredAt !== undefined && offeredAt > now - REOFFER_MS);
        expect(ids.length).toBeLessThanOrEqual(Math.max(0, slots - running - onItsWay.length));
        const locks = [
          ...taken,
          ...onItsWay.flatMap(({ lock }) => lock ?? []),
          ...chosen.flatMap(({ lock }) => lock ?? []),
        ];
        const chosenLocks = chosen.flatMap(({ lock }) => lock ?? []);
        for (const lock of chosenLocks) expect(locks.filter((other) => other === lock)).toHaveLength(1);
        for (const job of chosen) expect(job.held || job.notBefore > now || onItsWay.includes(job)).toBe(false);
        // Who is left out for want of room comes behind all who are chosen.
        const left = queue.filter(
          (job) =>
            !job.held &&
            job.notBefore <= now &&
            !onItsWay.includes(job) &&
            job.lock === undefined &&
            !chosen.includes(job),
        );
        for (const job of left) for (const other of chosen) expect(other.rank).toBeLessThanOrEqual(job.rank);
        expect(toOffer({ slots, running, closed: true }, queue, new Set(taken), now, REOFFER_MS)).toEqual([]);
      }),
      { numRuns: 2000 },
    );
  });

  it('never starves: with any stream of more urgent jobs, each is offered in bounded time', () => {
    const span = 2 * LIMITS.priorityMax * LIMITS.priorityStepMs;
    // One slot, and a job of the highest priority each second, each running a second: the lowest one waits its turn.
    let queue: Candidate[] = [{ id: 'low', rank: rankOf(0, -LIMITS.priorityMax), notBefore: 0, held: false }];
    let at = 0;
    for (; queue.some(({ id }) => id === 'low') && at <= span + 2000; at += 1000) {
      queue.push({ id: `high-${at}`, rank: rankOf(at, LIMITS.priorityMax), notBefore: 0, held: false });
      const [next] = toOffer({ slots: 1, running: 0, closed: false }, queue, new Set(), at, REOFFER_MS);
      queue = queue.filter(({ id }) => id !== next);
    }
    expect(at).toBeGreaterThan(span - 2000);
    expect(at).toBeLessThanOrEqual(span + 2000);
  });

  it('is barred by a person before a lock', () => {
    const intake = { by: 'key:1', note: 'maintenance' };
    const lock = { name: 'component:db', holder: 'job_1' };
    expect(barOf({ intake, lock })).toBe('the agent takes no jobs: maintenance (key:1)');
    expect(barOf({ lock })).toBe('the lock component:db is held by job_1');
    expect(barOf({})).toBeUndefined();
  });
});

describe('a graph of jobs that is asked for', () => {
  const job = (key: string, more: Partial<NewWorkJob> = {}): NewWorkJob => ({
    key,
    kind: 'noop',
    component: 'db',
    ...more,
  });

  it.each<[string, NewWorkJob[], string]>([
    ['nothing', [], '/jobs must name'],
    ['a key twice', [job('a'), job('a')], '/jobs/1/key a is there twice'],
    ['a key that is there already', [job('old')], '/jobs/0/key old is there twice'],
    ['its own dependency', [job('a', { depends_on: ['a'] })], '/jobs/0/depends_on/0 is the job itself'],
    ['an unknown dependency', [job('a', { depends_on: ['x'] })], '/jobs/0/depends_on/0 there is no job x'],
    ['a circle', [job('a', { depends_on: ['b'] }), job('b', { depends_on: ['a'] })], 'dependency_cycle: a -> b -> a'],
    ['two delays', [job('a', { delay_seconds: 1, not_before: '2026-01-01T00:00:00Z' })], '/jobs/0/delay_seconds'],
    [
      'an end before the begin',
      [job('a', { delay_seconds: 60, expires_at: '1970-01-01T00:00:30Z' })],
      '/expires_at is over',
    ],
    ['a time that is years ahead', [job('a', { not_before: '2126-01-01T00:00:00Z' })], 'is too far ahead'],
    [
      'a singleton twice',
      [job('a', { singleton: 's' }), job('b', { singleton: 's' })],
      '/jobs/1/singleton s is there twice',
    ],
  ])('is refused for %s', (_, jobs, message) => {
    expect(codeOf(() => checkWork(jobs, [{ key: 'old' }], 0))).toContain(message);
  });

  it('may depend on what is there, and begins when it says', () => {
    checkWork([job('a', { depends_on: ['old'], delay_seconds: 5 })], [{ key: 'old' }], 0);
    expect(beginOf(job('a', { delay_seconds: 5 }), 1000)).toBe(6000);
    expect(beginOf(job('a', { not_before: '1970-01-01T00:00:00Z' }), 1000)).toBe(1000);
  });
});

describe('another try of what has ended', () => {
  const ended = fc
    .array(fc.tuple(fc.array(fc.nat(), { maxLength: 3 }), fc.constantFrom('succeeded', 'failed', 'waived')), {
      minLength: 1,
      maxLength: 15,
    })
    .map((rows) =>
      rows.map(([parents, end], i): EndedJob => ({
        id: `j${i}`,
        dependsOn: i === 0 ? [] : [...new Set(parents.map((n) => `j${n % i}`))],
        succeeded: end === 'succeeded',
        waived: end === 'waived',
      })),
    );

  it('makes all again that has not succeeded, with `from` what depends on that too, and nothing that is left out', () => {
    fc.assert(
      fc.property(
        ended,
        fc.option(fc.nat(14), { nil: undefined }),
        fc.array(fc.nat(14), { maxLength: 3 }),
        (jobs, at, skip) => {
          const from = at === undefined ? undefined : jobs[at % jobs.length]!.id;
          const out = skip.map((n) => jobs[n % jobs.length]!.id).filter((id) => id !== from);
          let plan;
          try {
            plan = planRetry(jobs, from, out);
          } catch (error) {
            expect(ImsError.of(error).code).toBe('conflict');
            expect(jobs.every(({ id, succeeded, waived }) => succeeded || waived || out.includes(id))).toBe(true);
            expect(from).toBeUndefined();
            return;
          }
          const { again, skipped } = plan;
          if (from !== undefined) expect(again).toContain(from);
          for (const job of jobs) {
            if (out.includes(job.id)) expect(again).not.toContain(job.id);
            else if (!job.succeeded && !job.waived) expect(again).toContain(job.id);
            if (skipped.includes(job.id)) expect(again).not.toContain(job.id);
          }
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('refuses what is not of the deployment', () => {
    const jobs = [{ id: 'a', dependsOn: [], succeeded: false, waived: false }];
    expect(codeOf(() => planRetry(jobs, 'x', []))).toBe('invalid_request: not in this deployment: x');
    expect(codeOf(() => planRetry(jobs, 'a', ['a']))).toContain('both left out and wanted');
  });
});
