import fc from 'fast-check';
import { LineSplitter, LINE_CHARS_MAX } from './lines.js';
import { Redactor, SECRET_CHARS_MIN } from './redactor.js';

const secret = fc.string({ minLength: SECRET_CHARS_MIN, maxLength: 40, unit: 'binary' });
/** Longer than any secret that a random text could hold by chance. */
const strong = fc.stringMatching(/^[A-Za-z0-9+/=_!"\\<>&-]{12,40}$/);
const noise = fc.string({ maxLength: 60 });

/** What an encoder makes of a text that holds the secret. */
const disguise: Record<string, (text: string) => string> = {
  plain: (text) => text,
  json: (text) => JSON.stringify({ value: text }),
  'json in json': (text) => JSON.stringify(JSON.stringify({ value: text })),
  base64: (text) => Buffer.from(text).toString('base64'),
  base64url: (text) => Buffer.from(text).toString('base64url'),
  url: (text) => `https://host/?q=${encodeURIComponent(text)}`,
};

describe('a registered secret', () => {
  it.each(Object.keys(disguise))('is in no output, %s, wherever it stands', (name) => {
    fc.assert(
      fc.property(strong, noise, noise, (value, before, after) => {
        const redactor = new Redactor();
        redactor.add(value);
        const shown = redactor.redact(disguise[name]!(before + value + after));
        expect(shown).toContain('***');
        expect(shown).not.toContain(value);
        // Nor can it be had back from what is left.
        const back = Buffer.from(shown, name === 'base64url' ? 'base64url' : 'base64').toString();
        expect(back).not.toContain(value);
      }),
      { numRuns: 300 },
    );
  });

  it('is found in the output of a program whatever the chunks are', () => {
    fc.assert(
      fc.property(strong, noise, fc.array(fc.nat({ max: 200 }), { maxLength: 8 }), (value, around, cuts) => {
        const redactor = new Redactor();
        redactor.add(value);
        const bytes = Buffer.from(`${around}\n${around.replaceAll('\n', ' ')}${value}${around}\nend`);
        const out: string[] = [];
        const splitter = new LineSplitter((line, cut) => out.push(redactor.redact(line, cut)));
        const places = [0, ...cuts.map((cut) => cut % bytes.length).sort((a, b) => a - b), bytes.length];
        places.slice(1).forEach((to, i) => splitter.write(bytes.subarray(places[i], to)));
        splitter.end();
        expect(out.join('\n')).not.toContain(value);
        expect(out.at(-1)).toBe('end');
      }),
    );
  });

  it('that overlaps another one leaves nothing of either', () => {
    const redactor = new Redactor();
    redactor.add('abcd1234');
    redactor.add('1234efgh');
    expect(redactor.redact('<abcd1234efgh>')).toBe('<***>');
    expect(redactor.redact('abcd1234abcd1234')).toBe('******');
  });

  it('of several lines is found line by line', () => {
    const redactor = new Redactor();
    redactor.add('-----BEGIN KEY-----\nMIIabcdef\nMIIghijkl\n-----END KEY-----');
    expect(redactor.redact('x MIIghijkl y')).toBe('x *** y');
  });

  it('whose end was cut off leaves no beginning', () => {
    const redactor = new Redactor();
    redactor.add('swordfish-42');
    expect(redactor.redact('the word is swordfi', true)).toBe('the word is ***');
    expect(redactor.redact('the word is swordfi')).toBe('the word is swordfi');
  });

  it('never makes anything of a text without it', () => {
    fc.assert(
      fc.property(secret, noise, (value, text) => {
        const redactor = new Redactor();
        redactor.add(value);
        if (!redactor.redact(text).includes('***')) expect(redactor.redact(text)).toBe(text);
      }),
    );
    const redactor = new Redactor();
    redactor.add('on');
    expect(redactor.redact('on and on')).toBe('on and on');
  });
});

describe('lines', () => {
  const split = (...chunks: (string | Buffer)[]): [string, boolean][] => {
    const out: [string, boolean][] = [];
    const splitter = new LineSplitter((line, cut) => out.push([line, cut]));
    chunks.forEach((chunk) => splitter.write(Buffer.from(chunk)));
    splitter.end();
    return out;
  };
  it('keep characters that a chunk border cuts', () => {
    const bytes = Buffer.from('grün\n');
    expect(split(bytes.subarray(0, 3), bytes.subarray(3))).toEqual([['grün', false]]);
  });
  it('end with \\n or \\r\\n, and of a redrawn line the last state counts', () => {
    expect(split('a\r\nb\n\n10%\r20%\r100%\nlast').map(([line]) => line)).toEqual(['a', 'b', '', '100%', 'last']);
  });
  it('that are too long are cut and say so', () => {
    const [[line, cut], next] = split(`${'x'.repeat(LINE_CHARS_MAX)}yyy`, 'zzz\nnext') as [[string, boolean], unknown];
    expect([line.length, cut]).toEqual([LINE_CHARS_MAX, true]);
    expect(next).toEqual(['next', false]);
  });
});
