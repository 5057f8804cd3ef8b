import { ATTEMPT_STATUSES, ERROR_CODES, ERRORS, HOLD_CODES, JOB_KINDS, type Hold, type JobStatus } from '#contracts';
import fc from 'fast-check';
import { buildMachine, deploymentMachine, settleDeployment, buildStatusOf, type DeploymentJob } from './deployment.js';
import { attemptMachine, decideJob, isCustomerHold, jobMachine, type JobEvent, type JobState } from './job.js';
import { defineMachine } from './machine.js';
import { isSilent, presenceMachine } from './presence.js';
import { judgeRenewal, selfFenceAt } from './leases.js';
import { afterFailure } from './retry.js';

describe('a machine', () => {
  const good = { name: 't', initial: ['a'], finals: ['c'], from: { a: { go: 'b' }, b: { go: 'c' }, c: {} } } as const;

  it.each([
    ['b cannot be reached', { ...good, from: { a: { go: 'c' }, b: { go: 'c' }, c: {} } }],
    ['c is final and has exits', { ...good, from: { ...good.from, c: { go: 'a' } } }],
    ['b never ends', { ...good, from: { a: { go: 'b', end: 'c' }, b: {}, c: {} } }],
    ['d is not declared', { ...good, from: { ...good.from, b: { go: 'd', end: 'c' } } }],
  ])('with a fault does not load: %s', (fault, table) => {
    expect(() => defineMachine<string, string>(table as never)).toThrow(fault);
    expect(() => defineMachine(good)).not.toThrow();
  });

  it('of each kind has the states of the wire', () => {
    expect(jobMachine.finals).toEqual(['succeeded', 'failed', 'cancelled', 'skipped']);
    expect(attemptMachine.next('running', 'lost')).toBe('lost');
    expect(attemptMachine.finals.toSorted()).toEqual(ATTEMPT_STATUSES.filter((one) => one !== 'running').toSorted());
    expect(deploymentMachine.next('succeeded', 'cancel')).toBeUndefined();
    expect(presenceMachine.next('revoked', 'seen')).toBeUndefined();
    expect(presenceMachine.next('revoked', 'enrol')).toBe('offline');
    expect(buildStatusOf('cancelling')).toBe('running');
    expect(buildMachine.finals.toSorted()).toEqual(['cancelled', 'failed', 'succeeded']);
  });

  it('of a build makes the moves that its job makes', () => {
    for (const [from, moves] of Object.entries(jobMachine.from) as [JobStatus, Record<string, JobStatus>][]) {
      for (const to of Object.values(moves)) {
        const [before, after] = [buildStatusOf(from), buildStatusOf(to)];
        if (before !== after) expect(Object.values(buildMachine.from[before])).toContain(after);
      }
    }
  });
});

const codes = fc.constantFrom(...ERROR_CODES, 'a_code_of_a_newer_agent');
const fault = fc.option(fc.record({ code: codes, detail: fc.string() }), { nil: undefined });
const attempt = fc.integer({ min: 0, max: 6 });
const hold: fc.Arbitrary<Hold> = fc.record(
  {
    code: fc.constantFrom(...HOLD_CODES),
    detail: fc.string({ maxLength: 40 }),
    until: fc.nat(3_000_000).map((ms) => new Date(ms).toISOString()),
  },
  { requiredKeys: ['code', 'detail'] },
);
const event: fc.Arbitrary<JobEvent> = fc.oneof(
  fc.constant<JobEvent>({ type: 'dependencies_succeeded' }),
  fc.record({
    type: fc.constant('dependency_failed' as const),
    fault: fc.record({ code: codes, detail: fc.string() }),
  }),
  { weight: 4, arbitrary: fc.constant<JobEvent>({ type: 'claim' }) },
  {
    weight: 4,
    arbitrary: fc.record(
      {
        type: fc.constant('result' as const),
        attempt,
        outcome: fc.constantFrom('succeeded' as const, 'failed' as const, 'cancelled' as const),
        fault: fault.filter((value) => value !== undefined),
      },
      { requiredKeys: ['type', 'attempt', 'outcome'] },
    ),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      type: fc.constant('result' as const),
      attempt,
      outcome: fc.constant('deferred' as const),
      hold: hold.filter(({ code }) => code !== 'token_tampered'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant('hold' as const), hold }) },
  fc.constant<JobEvent>({ type: 'resume' }),
  fc.constant<JobEvent>({ type: 'approved' }),
  fc.constant<JobEvent>({ type: 'rejected', fault: { code: 'plan_rejected', detail: 'not on a Friday' } }),
  { weight: 2, arbitrary: fc.record({ type: fc.constant('lift' as const), by: fc.constantFrom('time', 'report') }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant('lease_ended' as const), attempt }) },
  fc.record({ type: fc.constant('cancel' as const), force: fc.boolean(), reason: fc.string() }),
  fc.record({ type: fc.constant('claim' as const), barred: fc.constant('the agent takes no jobs') }),
  fc.constant<JobEvent>({ type: 'replace', by: 'job_2' }),
  fc.constant<JobEvent>({ type: 'skip', reason: 'not needed' }),
  fc.constant<JobEvent>({ type: 'hasten' }),
  fc.constant<JobEvent>({ type: 'expire' }),
);
const start: fc.Arbitrary<JobState> = fc.record({
  kind: fc.constantFrom(...JOB_KINDS),
  status: fc.constantFrom('blocked' as const, 'queued' as const),
  attempt: fc.constant(0),
  failures: fc.constant(0),
  notBefore: fc.constantFrom(0, 50_000),
  expiresAt: fc.constantFrom(undefined, 80_000),
});

describe('a job', () => {
  it('answers every event, leaves no final state, and its fence only grows', () => {
    fc.assert(
      fc.property(start, fc.array(fc.tuple(event, fc.nat(100_000)), { maxLength: 60 }), (first, events) => {
        let state = first;
        let now = 0;
        let open = 0;
        for (const [happened, later] of events) {
          now += later;
          const decision = decideJob(state, happened, now);
          if ('refusal' in decision) {
            expect(['job_not_claimable', 'stale_attempt', 'held_by_customer', 'conflict']).toContain(decision.refusal);
            continue;
          }
          const { next } = decision;
          if (happened.type === 'claim') {
            expect(state.hold).toBeUndefined();
            expect(happened.barred).toBeUndefined();
            expect(state.notBefore).toBeLessThanOrEqual(now);
            // A job that has not begun in time never begins.
            if (state.attempt === 0) expect(state.expiresAt ?? Infinity).toBeGreaterThan(now);
          }
          if (happened.type === 'expire') expect(state.attempt).toBe(0);
          expect(next.waived === true).toBe(happened.type === 'skip');
          // Who may lift what: a person a tampered token, the customer (or its time) its own, a yes what waits for it; an end
          // lifts all.
          const over = next.status === 'cancelling' || jobMachine.isFinal(next.status);
          if (over) expect(next.hold).toBeUndefined();
          if (state.hold && !next.hold && !over) {
            const byVendor = state.hold.code === 'awaiting_approval' ? 'approved' : 'resume';
            expect(happened.type).toBe(isCustomerHold(state.hold) ? 'lift' : byVendor);
          }
          expect(next.failures - state.failures).toBeLessThanOrEqual(
            happened.type === 'result' && happened.outcome === 'failed' ? 1 : 0,
          );
          expect(jobMachine.isFinal(state.status)).toBe(false);
          expect(decision.next.attempt).toBeGreaterThanOrEqual(state.attempt);
          const of = (type: string): number => decision.effects.filter((effect) => effect.type === type).length;
          // One attempt is open exactly while the job runs: none is forgotten, none is started beside another.
          open += of('start_attempt') - of('end_attempt');
          expect(open).toBe(decision.next.status === 'running' || decision.next.status === 'cancelling' ? 1 : 0);
          expect(decision.next.attempt - state.attempt).toBe(of('start_attempt'));
          // Whoever waits for the job is told once; whoever may take it is told each time.
          expect(of('ended')).toBe(jobMachine.isFinal(decision.next.status) ? 1 : 0);
          expect(of('offer')).toBe(next.status === 'queued' && !next.hold ? 1 : 0);
          state = decision.next;
        }
      }),
      { numRuns: 2000 },
    );
  });

  const running: JobState = { kind: 'apply', status: 'running', attempt: 2, failures: 0, notBefore: 0 };
  const statusAfter = (state: JobState, happened: JobEvent): string => {
    const decision = decideJob(state, happened, 1000);
    return 'refusal' in decision ? decision.refusal : decision.next.status;
  };

  it('counts a result that raced with a cancel as what happened', () => {
    const cancelling = { ...running, status: 'cancelling' } as const;
    expect(statusAfter(cancelling, { type: 'result', attempt: 2, outcome: 'succeeded' })).toBe('succeeded');
    const failed = { type: 'result', attempt: 2, outcome: 'failed' } as const;
    expect(statusAfter(cancelling, { ...failed, fault: { code: 'apply_failed', detail: '' } })).toBe('failed');
    expect(statusAfter(cancelling, { ...failed, fault: { code: 'registry_unavailable', detail: '' } })).toBe(
      'cancelled',
    );
    expect(statusAfter(cancelling, { type: 'lease_ended', attempt: 2 })).toBe('cancelled');
  });

  it('refuses what an earlier attempt says', () => {
    expect(statusAfter(running, { type: 'result', attempt: 1, outcome: 'succeeded' })).toBe('stale_attempt');
    expect(statusAfter({ ...running, status: 'queued' }, { type: 'result', attempt: 2, outcome: 'succeeded' })).toBe(
      'stale_attempt',
    );
    expect(statusAfter(running, { type: 'lease_ended', attempt: 1 })).toBe('stale_attempt');
    expect(statusAfter(running, { type: 'claim' })).toBe('job_not_claimable');
    expect(statusAfter({ ...running, status: 'queued', notBefore: 1001 }, { type: 'claim' })).toBe('job_not_claimable');
  });

  describe('that is held', () => {
    const tampered: Hold = { code: 'token_tampered', detail: 'tok_1 was presented twice' };
    const paused: Hold = { code: 'customer_paused', detail: 'audit week' };
    const queued = { ...running, status: 'queued' } as const;
    const after = (state: JobState, ...events: JobEvent[]): JobState =>
      events.reduce((before, happened) => {
        const decision = decideJob(before, happened, 1_000);
        if ('refusal' in decision) throw new Error(`${happened.type}: ${decision.refusal} ${decision.detail}`);
        return decision.next;
      }, state);
    const stopped = after(running, { type: 'hold', hold: tampered });

    it('by a tampered token is stopped where it runs, and goes back to the queue however the attempt ends', () => {
      const decision = decideJob(running, { type: 'hold', hold: tampered }, 0);
      expect(decision).toMatchObject({
        next: { status: 'running', hold: tampered },
        effects: [{ type: 'stop_agent', attempt: 2, reason: tampered.detail }],
      });
      const failed = (code: string): JobEvent => ({
        type: 'result',
        attempt: 2,
        outcome: 'failed',
        fault: { code, detail: '' },
      });
      const ends: JobEvent[] = [
        { type: 'result', attempt: 2, outcome: 'cancelled' },
        { type: 'result', attempt: 2, outcome: 'deferred', hold: paused },
        { type: 'lease_ended', attempt: 2 },
        failed('registry_unavailable'),
        failed('pull_token_refused'),
      ];
      for (const end of ends) {
        const back = after(stopped, end);
        expect([end, back.status, back.hold]).toEqual([end, 'queued', tampered]);
        expect(statusAfter(back, { type: 'claim' })).toBe('job_not_claimable');
      }
      expect(after(stopped, failed('registry_unavailable')).notBefore).toBeGreaterThan(1_000);
      expect(after(stopped, failed('pull_token_refused')).failures).toBe(0);
      expect(statusAfter(stopped, failed('apply_failed'))).toBe('failed');
      expect(statusAfter(stopped, { type: 'result', attempt: 2, outcome: 'succeeded' })).toBe('succeeded');
    });

    it('is offered again by the person that resumes it, not before the attempt has ended, after its back-off', () => {
      expect(statusAfter(stopped, { type: 'resume' })).toBe('conflict');
      const back = after(stopped, { type: 'lease_ended', attempt: 2 });
      expect(decideJob({ ...back, notBefore: 1_500 }, { type: 'resume' }, 1_000)).toMatchObject({
        next: { status: 'queued', hold: undefined },
        effects: [{ type: 'offer', afterMs: 500 }],
      });
      const blocked = after({ ...queued, status: 'blocked' }, { type: 'hold', hold: tampered });
      expect(decideJob(blocked, { type: 'dependencies_succeeded' }, 0)).toMatchObject({ effects: [] });
      expect(decideJob(blocked, { type: 'resume' }, 0)).toMatchObject({ next: { status: 'blocked' }, effects: [] });
      expect(statusAfter(queued, { type: 'resume' })).toBe('conflict');
    });

    it('by the customer waits for the customer alone, or for its time', () => {
      const deferred = (why: Hold): JobEvent => ({ type: 'result', attempt: 2, outcome: 'deferred', hold: why });
      const back = after(running, deferred(paused));
      expect(back).toMatchObject({ status: 'queued', failures: 0, hold: paused });
      expect(statusAfter(back, { type: 'resume' })).toBe('held_by_customer');
      expect(statusAfter(back, { type: 'lift', by: 'time' })).toBe('conflict');
      expect(statusAfter(back, { type: 'lift', by: 'report' })).toBe('queued');
      const timed = after(running, deferred({ ...paused, until: new Date(5_000).toISOString() }));
      expect('refusal' in decideJob(timed, { type: 'lift', by: 'time' }, 4_999)).toBe(true);
      expect('refusal' in decideJob(timed, { type: 'lift', by: 'time' }, 5_000)).toBe(false);
      // A time that is over makes no circle of taking and giving back.
      const past = after(running, deferred({ ...paused, until: new Date(0).toISOString() }));
      expect(past.hold?.until).toBe(new Date(2_000).toISOString());
      // The graver hold takes the place of the lesser, and a cancel of both.
      expect(after(back, { type: 'hold', hold: tampered }).hold).toEqual(tampered);
      const cancel: JobEvent = { type: 'cancel', force: false, reason: '' };
      expect(after(back, cancel)).toMatchObject({ status: 'cancelled', hold: undefined });
      expect(after(stopped, cancel, deferred(paused))).toMatchObject({ status: 'cancelled', hold: undefined });
      expect(statusAfter(queued, { type: 'hold', hold: paused })).toBe('conflict');
    });
  });

  it('is tried again three times with growing back-off, only for errors that may pass', () => {
    const waits = [0, 1, 2, 3].map((failures) => afterFailure('build', failures, 'registry_unavailable'));
    expect(waits).toEqual([
      { retry: true, afterMs: 2_000 },
      { retry: true, afterMs: 8_000 },
      { retry: true, afterMs: 32_000 },
      { retry: false },
    ]);
    for (const code of ERROR_CODES) {
      expect(afterFailure('sync', 0, code).retry).toBe(ERRORS[code].retry === 'retry');
    }
    expect(afterFailure('sync', 0, 'unheard_of').retry).toBe(false);
    expect(afterFailure('sync', 0, 'constructor').retry).toBe(false);
  });
});

/** A random deployment played to its end: each round settles, then one open job gets some end. */
describe('a deployment', () => {
  const shape = fc.array(fc.array(fc.nat(), { maxLength: 3 }), { minLength: 1, maxLength: 15 });
  /** Of some jobs a failure is allowed. */
  const lenient = (id: string): boolean => Number(id.slice(1)) % 4 === 3;
  const ends = fc.array(fc.constantFrom<JobStatus>('succeeded', 'succeeded', 'failed', 'cancelled', 'skipped'), {
    minLength: 15,
    maxLength: 15,
  });

  it('always ends, runs nothing before its dependencies, and skips only behind what did not succeed', () => {
    fc.assert(
      fc.property(shape, ends, fc.array(fc.nat(), { minLength: 15, maxLength: 15 }), (rows, outcome, picks) => {
        const jobs = rows.map((parents, i): DeploymentJob => ({
          id: `j${i}`,
          label: `apply of c${i}`,
          status: 'blocked',
          allowFailure: lenient(`j${i}`),
          dependsOn: i === 0 ? [] : [...new Set(parents.map((n) => `j${n % i}`))],
        }));
        const status = new Map<string, JobStatus>(jobs.map(({ id }) => [id, 'blocked']));
        const waived = new Set<string>();
        const now = (): DeploymentJob[] =>
          jobs.map((job) => ({ ...job, status: status.get(job.id) ?? 'blocked', waived: waived.has(job.id) }));
        const good = (id: string): boolean =>
          status.get(id) === 'succeeded' || waived.has(id) || (status.get(id) === 'failed' && lenient(id));
        for (let round = 0; ; round++) {
          const settled = settleDeployment('running', now());
          const touched = [...settled.unblock, ...settled.skip.map(({ id }) => id)];
          expect(new Set(touched).size).toBe(touched.length);
          settled.unblock.forEach((id) => status.set(id, 'queued'));
          settled.skip.forEach(({ id, fault: why }) => {
            status.set(id, 'skipped');
            expect(why.code).toBe('dependency_failed');
          });
          for (const job of now()) {
            if (job.status === 'queued') expect(job.dependsOn.every(good)).toBe(true);
            if (job.status === 'skipped' && !job.waived) expect(job.dependsOn.every(good)).toBe(false);
          }
          const open = now().filter((job) => job.status === 'queued');
          expect(settled.end === undefined).toBe(open.length > 0);
          if (settled.end) {
            const all = [...status].flatMap(([id, is]) => (is === 'failed' && lenient(id) ? [] : [is]));
            const expected = all.includes('failed') ? 'failed' : all.includes('cancelled') ? 'cancelled' : 'succeeded';
            expect(settled.end.status).toBe(expected);
            break;
          }
          const pick = open[(picks[round] ?? 0) % open.length];
          status.set(pick!.id, outcome[round] ?? 'succeeded');
          // A person leaves it out.
          if (status.get(pick!.id) === 'skipped') waived.add(pick!.id);
        }
      }),
    );
  });

  it('names the root cause, not the job in between', () => {
    const jobs: DeploymentJob[] = [
      {
        id: 'j1',
        label: 'apply of db',
        status: 'failed',
        dependsOn: [],
        fault: { code: 'apply_failed', detail: 'no disk' },
      },
      { id: 'j2', label: 'apply of api', status: 'blocked', dependsOn: ['j1'] },
      { id: 'j3', label: 'apply of web', status: 'blocked', dependsOn: ['j2'] },
    ];
    const settled = settleDeployment('running', jobs);
    expect(settled.skip.map(({ fault: why }) => why.detail)).toEqual([
      'apply of db (j1) failed',
      'apply of db (j1) failed',
    ]);
    expect(settled.end).toEqual({
      status: 'failed',
      fault: { code: 'apply_failed', detail: 'apply of db failed: no disk' },
    });
  });
});

describe('leases and presence', () => {
  const lease = { attempt: 3, agentId: 'agt_1', sessionId: 's1', until: 100, cancelling: false };
  const claim = { attempt: 3, agentId: 'agt_1', sessionId: 's1' };

  it('renew for their holder alone, and not after their end', () => {
    expect(judgeRenewal(lease, claim, 99)).toBe('renewed');
    expect(judgeRenewal({ ...lease, cancelling: true }, claim, 99)).toBe('stop_cancelled');
    expect(judgeRenewal(lease, claim, 100)).toBe('stale');
    expect(judgeRenewal(undefined, claim, 0)).toBe('stale');
    for (const other of [{ attempt: 2 }, { agentId: 'agt_2' }, { sessionId: 's2' }]) {
      expect(judgeRenewal(lease, { ...claim, ...other }, 0)).toBe('stale');
    }
  });

  it('the holder stops before the next attempt can start, however long the message took', () => {
    fc.assert(
      fc.property(fc.nat(1e6), fc.nat(60_000), fc.integer({ min: 1, max: 12_000 }), (askedAt, travel, margin) => {
        const grantedAt = askedAt + travel;
        expect(selfFenceAt(askedAt, 12_000, margin)).toBeLessThan(grantedAt + 12_000);
      }),
    );
  });

  it('call nobody gone who could not have been heard', () => {
    expect(isSilent(0, 0, 12_001, 12_000)).toBe(true);
    expect(isSilent(5_000, 0, 12_001, 12_000)).toBe(false);
    expect(isSilent(undefined, 11_000, 12_001, 12_000)).toBe(false);
    expect(isSilent(undefined, 0, 12_001, 12_000)).toBe(true);
  });
});
