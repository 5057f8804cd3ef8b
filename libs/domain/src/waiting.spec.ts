import { HOLD_CODES, JOB_STATUSES, parse, WAITING_REASONS, WaitingReason } from '#contracts';
import fc from 'fast-check';
import { jobMachine } from './job.js';
import { waitingReason, type WaitingFacts } from './waiting.js';

const facts: fc.Arbitrary<WaitingFacts> = fc.record(
  {
    // Most reasons are those of a queued job whose agent is there: drawn evenly, 2,000 draws missed one now and then.
    status: fc.oneof(fc.constantFrom(...JOB_STATUSES), fc.constant('queued' as const)),
    attempt: fc.nat(9),
    blockedBy: fc.oneof(fc.constant([]), fc.array(fc.string({ minLength: 60, maxLength: 60 }), { maxLength: 100 })),
    agent: fc.record({
      id: fc.constant('agt_1'),
      presence: fc.oneof(
        fc.constantFrom('never_enrolled' as const, 'online' as const, 'offline' as const, 'revoked' as const),
        fc.constant('online' as const),
      ),
    }),
    running: fc.nat(6),
    slots: fc.constant(4),
    offers: fc.nat(9),
    notBefore: fc.constant('2026-01-01T00:00:00Z'),
    intake: fc.constant({ by: 'key:1', note: 'maintenance' }),
    lock: fc.constant({ name: 'component:db', holder: 'job_1' }),
    hold: fc.record(
      {
        code: fc.constantFrom(...HOLD_CODES),
        detail: fc.string({ minLength: 500, maxLength: 500 }),
        until: fc.constant('2026-01-01T00:00:00Z'),
        plan_digest: fc.constant(`sha256:${'0'.repeat(64)}`),
      },
      { requiredKeys: ['code', 'detail'] },
    ),
  },
  { requiredKeys: ['status', 'attempt', 'blockedBy', 'agent', 'running', 'slots', 'offers'] },
);

/** Queued, at an agent that is there and has room. */
const READY: WaitingFacts = {
  status: 'queued',
  attempt: 1,
  blockedBy: [],
  agent: { id: 'agt_1', presence: 'online' },
  running: 0,
  slots: 4,
  offers: 1,
};

describe('waiting reasons', () => {
  it('are there exactly for what is not finished, and fit the wire', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(facts, (given) => {
        const reason = waitingReason(given);
        expect(reason === undefined).toBe(jobMachine.isFinal(given.status));
        if (!reason) return;
        parse(WaitingReason, reason, 'strict');
        seen.add(reason.code);
      }),
      {
        numRuns: 2000,
        // Nothing in its way, or nothing but one thing: random draws missed these now and then.
        examples: [
          [{ ...READY, attempt: 0, offers: 0, notBefore: '2026-01-01T00:00:00Z' }],
          [READY],
          [{ ...READY, running: 4 }],
          [{ ...READY, lock: { name: 'component:db', holder: 'job_1' } }],
          [{ ...READY, intake: { by: 'key:1', note: 'maintenance' } }],
        ],
      },
    );
    expect([...seen].sort()).toEqual([...WAITING_REASONS].sort());
  });

  it('say what is away before what is behind it', () => {
    const queued: WaitingFacts = {
      status: 'queued',
      attempt: 1,
      blockedBy: [],
      agent: { id: 'agt_1', presence: 'offline', lastSeenAt: '2026-01-01T00:00:00Z' },
      running: 4,
      slots: 4,
      offers: 1,
    };
    expect(waitingReason(queued)?.detail).toBe('agt_1 was last seen at 2026-01-01T00:00:00Z');
    const online = { ...queued, agent: { id: 'agt_1', presence: 'online' as const } };
    expect(waitingReason(online)?.code).toBe('agent_busy');
    expect(waitingReason({ ...online, lock: { name: 'x', holder: 'job_9' } })?.unblock).toContain(
      '/v1/jobs/job_9/unlock',
    );
    const intake = { by: 'key:1', note: 'maintenance' };
    expect(waitingReason({ ...online, intake })?.unblock).toContain('/v1/agents/agt_1/resume');
    expect(waitingReason({ ...online, running: 3 })?.detail).toBe('offered 1 time to agt_1');
  });

  it('say who lifts a hold, and how', () => {
    const plan_digest = `sha256:${'1'.repeat(64)}`;
    const held: WaitingFacts = {
      status: 'queued',
      attempt: 1,
      blockedBy: [],
      agent: { id: 'agt_1', presence: 'online' },
      running: 0,
      slots: 4,
      offers: 0,
      hold: { code: 'awaiting_customer_approval', detail: 'deletes 2', plan_digest },
    };
    expect(waitingReason(held)).toMatchObject({
      code: 'awaiting_customer_approval',
      detail: 'deletes 2',
      unblock: expect.stringContaining(`install-agent approve ${plan_digest}`) as string,
    });
    const until = '2026-01-01T22:00:00.000Z';
    const timed = { ...held, hold: { code: 'customer_window' as const, detail: 'closed', until } };
    expect(waitingReason(timed)?.unblock).toContain(until);
    // Only the agent can say that the customer's hold is over; a tampered token is the vendor's business at once.
    const away = { id: 'agt_1', presence: 'offline' as const };
    expect(waitingReason({ ...held, agent: away })?.code).toBe('agent_offline');
    const tampered = { ...held, agent: away, hold: { code: 'token_tampered' as const, detail: 'tok_1' } };
    expect(waitingReason(tampered)?.unblock).toContain('/resume');
    expect(waitingReason({ ...tampered, status: 'running' })?.detail).toBe('tok_1; attempt 1 was told to stop');
    expect(waitingReason({ ...tampered, status: 'cancelling' })?.code).toBe('cancelling');
  });
});
