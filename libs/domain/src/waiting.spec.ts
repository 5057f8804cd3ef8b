import { JOB_STATUSES, parse, WAITING_REASONS, WaitingReason } from '#contracts';
import fc from 'fast-check';
import { jobMachine } from './job.js';
import { waitingReason, type WaitingFacts } from './waiting.js';

const facts: fc.Arbitrary<WaitingFacts> = fc.record(
  {
    status: fc.constantFrom(...JOB_STATUSES),
    attempt: fc.nat(9),
    blockedBy: fc.array(fc.string({ minLength: 60, maxLength: 60 }), { maxLength: 100 }),
    agent: fc.record({
      id: fc.constant('agt_1'),
      presence: fc.constantFrom('never_enrolled' as const, 'online' as const, 'offline' as const, 'revoked' as const),
    }),
    running: fc.nat(6),
    slots: fc.constant(4),
    offers: fc.nat(9),
    notBefore: fc.constant('2026-01-01T00:00:00Z'),
  },
  { requiredKeys: ['status', 'attempt', 'blockedBy', 'agent', 'running', 'slots', 'offers'] },
);

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
      { numRuns: 1000 },
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
    expect(waitingReason({ ...online, running: 3 })?.detail).toBe('offered 1 time to agt_1');
  });
});
