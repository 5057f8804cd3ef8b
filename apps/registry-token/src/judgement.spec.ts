import fc from 'fast-check';
import { LIMITS } from '#contracts';
import { accessLifeMs, judge, type Presentation, type TokenState } from './judgement.js';

const now = new Date('2026-01-01T00:00:00Z');
const at = (ms: number): Date => new Date(now.getTime() + ms);
const secret = Buffer.alloc(32, 1);
const state = (more: Partial<TokenState> = {}): TokenState => ({
  status: 'issued',
  agent_key: 'UAGENT',
  secret_hash: secret,
  expires_at: at(1),
  redeemed_at: null,
  redeem_request: null,
  ...more,
});
const used = state({ status: 'redeemed', redeemed_at: at(-1), redeem_request: 'request-1' });
const agent: Presentation = { purpose: 'redeem', by: { key: 'UAGENT', requestId: 'request-1' }, hash: secret };
const bearer: Presentation = { ...agent, by: 'bearer' };
const thief: Presentation = { ...agent, by: { key: 'UTHIEF', requestId: 'request-1' } };
const wrong = Buffer.alloc(32, 2);

describe('judge', () => {
  it.each([
    ['its agent', state(), agent, 'burn'],
    ['a bearer', state(), bearer, 'burn'],
    ['a login', state(), { ...bearer, purpose: 'look' }, 'open'],
    ['its agent whose answer was lost', used, agent, 'repeat'],
  ] as const)('lets %s', (_who, token, presentation, kind) => {
    expect(judge(token, presentation, now)).toEqual({ kind });
  });

  it.each([
    ['a wrong secret', state(), { ...agent, hash: wrong }, 'wrong_secret', true],
    ['no secret', state(), { ...agent, hash: Buffer.alloc(0) }, 'wrong_secret', true],
    ['another key', state(), thief, 'other_key', true],
    ['another key with the request of the winner', used, thief, 'other_key', true],
    ['another request of its agent', used, { ...agent, by: { key: 'UAGENT', requestId: 'request-2' } }, 'used', true],
    ['a bearer after it was used', used, bearer, 'used', true],
    ['a login after it was used', used, { ...bearer, purpose: 'look' }, 'used', true],
    ['a repetition that is late', { ...used, redeemed_at: at(-LIMITS.redeemRetryMs) }, agent, 'used', true],
    ['its agent when it is over', state({ expires_at: now }), agent, 'expired', false],
    ['its agent when it was ended', state({ status: 'revoked' }), agent, 'revoked', false],
    ['a bearer when it is over', state({ status: 'expired' }), bearer, 'expired', true],
    ['a bearer when it was ended', state({ status: 'revoked' }), bearer, 'revoked', true],
  ] as const)('refuses %s', (_who, token, presentation, reason, tampering) => {
    expect(judge(token, presentation, now)).toEqual({ kind: 'refuse', reason, tampering });
  });

  it('gives nothing without the secret, and nothing but a lost answer to anybody once it is not open', () => {
    const states = fc.record({
      status: fc.constantFrom('issued', 'redeemed', 'expired', 'revoked'),
      expires_at: fc.integer({ min: -9, max: 9 }).map(at),
      redeemed_at: fc.option(fc.integer({ min: -20_000, max: 0 }).map(at)),
      redeem_request: fc.constantFrom(null, 'request-1', 'request-2'),
    });
    const by = fc.constantFrom(agent.by, bearer.by, thief.by);
    const purpose = fc.constantFrom('redeem', 'look');
    fc.assert(
      fc.property(states, by, purpose, fc.constantFrom(secret, wrong), (some, who, what, hash) => {
        const token = state(some);
        const { kind } = judge(token, { by: who, purpose: what, hash }, now);
        const open = token.status === 'issued' && token.expires_at > now;
        if (hash === wrong || who === thief.by) expect(kind).toBe('refuse');
        else if (open) expect(kind).toBe(what === 'look' ? 'open' : 'burn');
        else expect(kind === 'refuse' || (kind === 'repeat' && who === agent.by && what === 'redeem')).toBe(true);
      }),
    );
  });
});

it('gives a small artifact a minute, a large one its time, and none more than the longest', () => {
  expect([0, 2_000, 120_000_000, 1e12, null].map(accessLifeMs)).toEqual([
    LIMITS.registryTokenMinMs,
    LIMITS.registryTokenMinMs + 1,
    LIMITS.registryTokenMinMs + 60_000,
    LIMITS.registryTokenMs,
    LIMITS.registryTokenMs,
  ]);
});
