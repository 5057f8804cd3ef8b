import fc from 'fast-check';
import { type LogText } from '#contracts';
import { assemble, GAP_WAIT_MS, parsePosition, START, type LogChunk, type Position } from './log-assembly.js';

const lineOf = (attempt: number, seq: number): LogText => ({
  at: '2026-01-01T00:00:00.000Z',
  level: 'info',
  step: 'apply',
  text: `line ${attempt}.${seq}`,
});

const chunk = (attempt: number, first: number, last: number, ageMs = 0): LogChunk => ({
  attempt,
  first_seq: first,
  last_seq: last,
  lines: Array.from({ length: last - first + 1 }, (_, i) => lineOf(attempt, first + i)),
  age_ms: ageMs,
  hash: `${attempt}.${last}`,
  prev: first === 1 ? null : `${attempt}.${first - 1}`,
});

const stored = (chunks: readonly LogChunk[]): LogChunk[] =>
  [...chunks].sort((a, b) => a.attempt - b.attempt || a.first_seq - b.first_seq || a.last_seq - b.last_seq);

const ALL = { maxLines: 100_000, maxBytes: Infinity };

describe('assemble', () => {
  it('gives each line once and in order, however the frames were cut, repeated and delivered', () => {
    const frames = fc
      .array(fc.tuple(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 40 })), { maxLength: 30 })
      .map((pairs) => pairs.map(([a, b]) => chunk(1, Math.min(a, b), Math.max(a, b))));
    fc.assert(
      fc.property(frames, fc.integer({ min: 1, max: 7 }), (extra, pageSize) => {
        // Whatever the extra frames are, these cover everything.
        const chunks = stored([...extra, chunk(1, 1, 20), chunk(1, 21, 40)]);
        const seen: string[] = [];
        let position: Position = START;
        for (;;) {
          const page = assemble(chunks, position, { maxLines: pageSize, maxBytes: Infinity });
          seen.push(...page.lines.map(({ text }) => text));
          position = page.position;
          if (!page.cut) break;
        }
        expect(seen).toEqual(Array.from({ length: 40 }, (_, i) => `line 1.${i + 1}`));
      }),
    );
  });

  it('holds back what lies behind a fresh gap', () => {
    const { lines, position, held } = assemble([chunk(1, 1, 3), chunk(1, 6, 8)], START, ALL);
    expect(lines.map(({ seq }) => seq)).toEqual([1, 2, 3]);
    expect(position).toEqual({ attempt: 1, seq: 3 });
    expect(held).toBe(true);
    expect(assemble([chunk(1, 1, 3), chunk(1, 4, 5), chunk(1, 6, 8)], START, ALL).held).toBe(false);
    // An end without lines of its own, before all that it ends.
    expect(assemble([chunk(1, 6, 5)], START, ALL).held).toBe(true);
  });

  it('says how many lines an old gap has lost, and goes on', () => {
    const { lines } = assemble([chunk(1, 1, 3), chunk(1, 6, 7, GAP_WAIT_MS)], START, ALL);
    expect(lines.map(({ seq, text }) => [seq, text])).toEqual([
      [1, 'line 1.1'],
      [2, 'line 1.2'],
      [3, 'line 1.3'],
      [5, '2 lines are missing here'],
      [6, 'line 1.6'],
      [7, 'line 1.7'],
    ]);
  });

  it('numbers each attempt from 1 and never goes back to an earlier one', () => {
    const chunks = [chunk(1, 1, 2), chunk(2, 1, 2)];
    expect(assemble(chunks, { attempt: 1, seq: 1 }, ALL).lines.map(({ text }) => text)).toEqual([
      'line 1.2',
      'line 2.1',
      'line 2.2',
    ]);
  });

  it('gives at least one line however small the bound is, and tells that there are more', () => {
    const { lines, cut } = assemble([chunk(1, 1, 3)], START, { maxLines: 10, maxBytes: 1 });
    expect([lines.length, cut]).toEqual([1, true]);
  });
});

describe('the chain of frames', () => {
  it('tells a frame that does not follow from the one before it, and nothing else', () => {
    const frames = [chunk(1, 1, 2), chunk(1, 3, 4), chunk(1, 5, 6), chunk(2, 1, 1)];
    expect(assemble(frames, START, ALL).broken).toBe(0);
    const changed = frames.map((frame, i) => (i === 1 ? { ...frame, hash: 'another' } : frame));
    expect(assemble(changed, START, ALL).broken).toBe(1);
    // Of an agent that does not say; of frames that overlap; of a gap.
    expect(assemble([chunk(1, 1, 2), { ...chunk(1, 3, 4), prev: null }], START, ALL).broken).toBe(0);
    expect(assemble([chunk(1, 1, 4), chunk(1, 3, 5)], START, ALL).broken).toBe(0);
  });
});

describe('parsePosition', () => {
  it.each(['', '1', '1.', '.1', '1.2.3', '-1.2', '1.2x'])('refuses %j and names the field', (text) => {
    expect(() => parsePosition(text)).toThrow('/after');
  });
});
