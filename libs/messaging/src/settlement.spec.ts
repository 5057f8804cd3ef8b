import fc from 'fast-check';
import { ERROR_CODES, ERRORS, ImsError } from '#contracts';
import { MAX_DELIVERIES, reject, RETRY_DELAYS, retryAfter, settleOutcome, settleThrown } from './settlement.js';

const coded = (code: string): Error => Object.assign(new Error('connect failed'), { code });

describe('settlement of what a handler returned', () => {
  test('nothing is done, retry and reject are as they say', () => {
    expect(settleOutcome(undefined, 1)).toEqual({ kind: 'ack' });
    expect(settleOutcome(retryAfter(700), 3)).toEqual({ kind: 'nak', afterMs: 700 });
    expect(settleOutcome(reject('stale_attempt', 'attempt 2 took over'), 1)).toEqual({
      kind: 'dead',
      code: 'stale_attempt',
      cause: 'attempt 2 took over',
    });
  });

  test('a retry without end becomes a dead letter', () => {
    expect(settleOutcome(retryAfter(1), MAX_DELIVERIES - 1)).toMatchObject({ kind: 'nak' });
    expect(settleOutcome(retryAfter(1), MAX_DELIVERIES)).toMatchObject({ kind: 'dead', code: 'internal' });
  });
});

describe('settlement of what a handler threw', () => {
  test.each(ERROR_CODES)('%s follows its retry class', (code) => {
    const { retry } = ERRORS[code];
    const hopeless = retry === 'fix' || retry === 'human';
    expect(settleThrown(new ImsError(code, 'x'), 1).kind).toBe(hopeless ? 'dead' : 'nak');
  });

  test('an unknown error is retried, then a dead letter with its cause', () => {
    expect(settleThrown(new TypeError('x is undefined'), 1)).toMatchObject({ kind: 'nak' });
    expect(settleThrown(new TypeError('x is undefined'), MAX_DELIVERIES)).toEqual({
      kind: 'dead',
      code: 'internal',
      cause: 'TypeError: x is undefined',
    });
  });

  test.each([
    ['a service that is away', new ImsError('unavailable', 'telemetry')],
    ['a refused connection', coded('ECONNREFUSED')],
    ['a fetch that lost its connection', new TypeError('fetch failed', { cause: coded('ECONNRESET') })],
  ])('%s is never the message’s fault', (_, thrown) => {
    expect(settleThrown(thrown, 10 * MAX_DELIVERIES).kind).toBe('nak');
  });

  test('a broken rule of the database is the message’s fault in the end', () => {
    expect(settleThrown(coded('23505'), MAX_DELIVERIES).kind).toBe('dead');
  });

  test('the delay grows, has jitter, and stays below its maximum', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: MAX_DELIVERIES - 1 }), (deliveries) => {
        const settled = settleThrown(new Error('x'), deliveries);
        if (settled.kind !== 'nak') throw new Error('not retried');
        expect(settled.afterMs).toBeGreaterThan(0);
        expect(settled.afterMs).toBeLessThanOrEqual(
          Math.min(RETRY_DELAYS.maxMs, RETRY_DELAYS.baseMs * 2 ** deliveries),
        );
      }),
    );
  });
});
