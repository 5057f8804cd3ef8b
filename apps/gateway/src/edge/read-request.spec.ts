import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { ImsError, PageQuery } from '#contracts';
import { LogQuery } from '../jobs.controller.js';
import { listsEtag, negotiate, parseBody, parseQuery, preferredWaitMs } from './read-request.js';

const pointersOf = (work: () => unknown): string[] => {
  try {
    work();
    return [];
  } catch (error) {
    return ImsError.of(error).errors.map(({ pointer }) => pointer);
  }
};

describe('reading a request', () => {
  it('converts numbers and flags of the query by their declared types, and nothing else', () => {
    expect({ ...parseQuery(PageQuery, { limit: '7', cursor: '12' }) }).toEqual({ limit: 7, cursor: '12' });
    expect({ ...parseQuery(LogQuery, { follow: 'true', after: '1.2' }) }).toEqual({ follow: true, after: '1.2' });
    for (const limit of ['1e2', ' 7', '0x10', '7.5', '', 'NaN', '99999999999999999999']) {
      expect(pointersOf(() => parseQuery(PageQuery, { limit }))).toEqual(['/limit']);
    }
    for (const follow of ['yes', '1', 'TRUE', '']) {
      expect(pointersOf(() => parseQuery(LogQuery, { follow }))).toEqual(['/follow']);
    }
  });

  it('names what does not belong, escaped as a JSON Pointer', () => {
    expect(pointersOf(() => parseQuery(undefined, { 'a/b~c': '1' }))).toEqual(['/a~1b~0c']);
    expect(pointersOf(() => parseBody(undefined, { a: 1, b: 2 }))).toEqual(['/a', '/b']);
    expect(pointersOf(() => parseBody(undefined, [1]))).toEqual(['']);
    expect(parseBody(undefined, {})).toEqual({});
    expect(pointersOf(() => parseQuery(PageQuery, { limit: ['1', '2'] }))).toEqual(['/limit']);
    expect(pointersOf(() => parseQuery(PageQuery, { cursor: 'a\0b' }))).toEqual(['/cursor']);
  });

  it('survives any query string', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.oneof(fc.string(), fc.array(fc.string()))), (query) => {
        try {
          parseQuery(PageQuery, query);
        } catch (error) {
          expect(error).toBeInstanceOf(ImsError);
        }
      }),
    );
  });

  it('reads Prefer: wait within its bounds', () => {
    expect(preferredWaitMs(undefined)).toBe(0);
    expect(preferredWaitMs('wait=30')).toBe(30_000);
    expect(preferredWaitMs('respond-async, WAIT = "5" ; x=1')).toBe(5_000);
    expect(preferredWaitMs('wait=3600')).toBe(60_000);
    for (const none of ['wait=-1', 'wait=soon', 'await=5', 'wait', 'wait=5s']) expect(preferredWaitMs(none)).toBe(0);
  });

  it('finds an entity tag in a list', () => {
    expect(listsEtag('"a", W/"b"', 'b')).toBe(true);
    expect(listsEtag('*', 'b')).toBe(true);
    expect(listsEtag('"bb"', 'b')).toBe(false);
    expect(listsEtag('b', 'b')).toBe(false);
  });

  it('chooses a media type by quality, then specificity, then the order of the offer', () => {
    const offered = ['application/x-ndjson', 'text/plain', 'text/event-stream'] as const;
    const choose = (accept?: string) => negotiate(accept, offered);
    expect(choose()).toBe('application/x-ndjson');
    expect(choose('*/*')).toBe('application/x-ndjson');
    expect(choose('text/event-stream')).toBe('text/event-stream');
    expect(choose('text/*')).toBe('text/plain');
    expect(choose('text/*;q=0.5, text/event-stream')).toBe('text/event-stream');
    expect(choose('application/x-ndjson;q=0, */*;q=0.1')).toBe('text/plain');
    expect(choose('image/png')).toBe('application/x-ndjson');
    expect(choose('application/json, text/plain;q=0.2')).toBe('text/plain');
  });
});
