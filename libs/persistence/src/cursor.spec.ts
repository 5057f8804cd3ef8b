import fc from 'fast-check';
import { ImsError } from '#contracts';
import { decodeCursor, limitOf, pageOf } from './cursor.js';

describe('pages', () => {
  it('walk a list of any length in any steps, each row once and in order', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 60 }), fc.integer({ min: 1, max: 20 }), (length, limit) => {
        const all = Array.from({ length }, (_, i) => ({ id: `id_${String(i).padStart(3, '0')}` }));
        const seen: string[] = [];
        let cursor: string | undefined;
        do {
          const after = decodeCursor(cursor, 1)?.[0];
          const rows = all.filter((row) => after === undefined || row.id > after).slice(0, limit + 1);
          const page = pageOf(rows, limit, (row) => [row.id]);
          expect(page.data.length).toBeLessThanOrEqual(limit);
          seen.push(...page.data.map((row) => row.id));
          cursor = page.next_cursor;
        } while (cursor !== undefined);
        expect(seen).toEqual(all.map((row) => row.id));
      }),
    );
  });

  it('have no next cursor on the last one', () => {
    expect(pageOf([{ id: 'a' }], 1, (row) => [row.id])).toEqual({ data: [{ id: 'a' }] });
    expect(limitOf({})).toBe(50);
  });

  it('refuse what is no cursor, naming the field', () => {
    const others = [
      '',
      'x',
      '!!!',
      Buffer.from('{"a":1}').toString('base64url'),
      Buffer.from('["a","b"]').toString('base64url'),
    ];
    for (const cursor of [
      ...others,
      Buffer.from('[1]').toString('base64url'),
      Buffer.from('["a\\u0000"]').toString('base64url'),
    ]) {
      const decode = (): unknown => decodeCursor(cursor, 1);
      expect(decode).toThrow(ImsError);
      try {
        decode();
      } catch (error) {
        expect((error as ImsError).toWire()).toMatchObject({
          code: 'invalid_request',
          errors: [{ pointer: '/cursor' }],
        });
      }
    }
  });
});
