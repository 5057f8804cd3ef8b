import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { newId } from '#contracts';
import { API_KEY_PATTERN, mintApiKey, readApiKey, sameSecret, sha256 } from './api-key.js';

describe('API keys', () => {
  it('are read back as they were made, and only the hash of the secret is needed', () => {
    const id = newId('key');
    const { text, secretHash } = mintApiKey(id);
    expect(text).toMatch(API_KEY_PATTERN);
    const read = readApiKey(text);
    expect(read?.id).toBe(id);
    expect(sameSecret(secretHash, read?.secret ?? '')).toBe(true);
    expect(sameSecret(secretHash, `${read?.secret}x`)).toBe(false);
    expect(secretHash).toEqual(sha256(read?.secret ?? ''));
  });

  it('are never made twice, and use the whole alphabet', () => {
    const keys = Array.from({ length: 500 }, () => mintApiKey(newId('key')).text);
    expect(new Set(keys).size).toBe(500);
    expect(new Set(keys.map((key) => key.slice(35, 67)).join('')).size).toBe(62);
  });

  it('are known to be damaged when one character is another, without asking the database', () => {
    const { text } = mintApiKey(newId('key'));
    fc.assert(
      fc.property(fc.nat(text.length - 1), fc.constantFrom(...'0aZ_ '), (at, character) => {
        const damaged = text.slice(0, at) + character + text.slice(at + 1);
        return damaged === text || readApiKey(damaged) === undefined;
      }),
    );
    for (const other of ['', text.slice(1), text.slice(0, -1), `${text}0`, text.toUpperCase()]) {
      expect(readApiKey(other)).toBeUndefined();
    }
  });
});
