import fc from 'fast-check';
import { WEEKDAYS, isTimeZone, windowAt, type WeeklyWindow } from './windows.js';

const at = (text: string): number => Date.parse(text);
const iso = (instant: number): string => new Date(instant).toISOString();
const HOUR = 3_600_000;
/** Half-hour shifts, day skips, shifts at midnight, north and south, and none. */
const ZONES = [
  'UTC',
  'Europe/Berlin',
  'America/New_York',
  'America/Santiago',
  'Africa/Cairo',
  'Australia/Lord_Howe',
  'Asia/Kathmandu',
  'Pacific/Apia',
];

const opens = (window: Partial<WeeklyWindow>, now: string): string => {
  const whole = { from: '22:00', to: '23:00', time_zone: 'Europe/Berlin', ...window };
  const state = windowAt([whole], at(now));
  return state.open ? `open until ${iso(state.until)}` : `opens at ${iso(state.opensAt)}`;
};

it.each([
  // 2026-03-29 01:00Z: Berlin goes from 02:00 to 03:00. 2026-10-25 01:00Z: from 03:00 back to 02:00.
  ['on a plain day', {}, '2026-06-01T12:00:00Z', 'opens at 2026-06-01T20:00:00.000Z'],
  ['inside', {}, '2026-06-01T20:30:00Z', 'open until 2026-06-01T21:00:00.000Z'],
  ['its end is not in it', {}, '2026-06-01T21:00:00Z', 'opens at 2026-06-02T20:00:00.000Z'],
  ['on its days only', { days: ['sun'] as const }, '2026-06-01T12:00:00Z', 'opens at 2026-06-07T20:00:00.000Z'],
  ['past midnight', { to: '02:00' }, '2026-06-01T23:30:00Z', 'open until 2026-06-02T00:00:00.000Z'],
  [
    'past midnight, of the day on which it opened',
    { days: ['mon'] as const, to: '02:00' },
    '2026-06-02T22:00:00Z',
    'opens at 2026-06-08T20:00:00.000Z',
  ],
  ['to the end of the day', { to: '24:00' }, '2026-06-01T21:30:00Z', 'open until 2026-06-01T22:00:00.000Z'],
  [
    'starts in skipped time',
    { from: '02:30', to: '04:00' },
    '2026-03-28T12:00:00Z',
    'opens at 2026-03-29T01:00:00.000Z',
  ],
  [
    'ends in skipped time',
    { from: '01:00', to: '02:30' },
    '2026-03-29T00:30:00Z',
    'open until 2026-03-29T01:00:00.000Z',
  ],
  [
    'all in skipped time: right after it, as long as ever',
    { from: '02:10', to: '02:50' },
    '2026-03-29T01:10:00Z',
    'open until 2026-03-29T01:40:00.000Z',
  ],
  [
    'starts in doubled time',
    { from: '02:30', to: '04:00' },
    '2026-10-24T12:00:00Z',
    'opens at 2026-10-25T00:30:00.000Z',
  ],
  [
    'ends in doubled time',
    { from: '01:00', to: '02:30' },
    '2026-10-25T00:00:00Z',
    'open until 2026-10-25T00:30:00.000Z',
  ],
  ['over doubled time', { from: '01:00', to: '04:00' }, '2026-10-25T02:30:00Z', 'open until 2026-10-25T03:00:00.000Z'],
])('%s', (_, window, now, expected) => expect(opens(window, now)).toBe(expected));

it('takes windows that follow each other as one, and none as always open', () => {
  const zone = { time_zone: 'UTC' };
  const night = [
    { ...zone, from: '22:00', to: '24:00' },
    { ...zone, from: '00:00', to: '03:00' },
  ];
  expect(windowAt(night, at('2026-06-01T22:30:00Z'))).toEqual({ open: true, until: at('2026-06-02T03:00:00Z') });
  expect(windowAt([], 0)).toEqual({ open: true, until: Infinity });
});

it('knows which zones there are', () => {
  expect([...ZONES, 'Mars/Olympus', ''].filter((zone) => !isTimeZone(zone))).toEqual(['Mars/Olympus', '']);
});

const time = fc
  .tuple(fc.integer({ min: 0, max: 23 }), fc.integer({ min: 0, max: 59 }))
  .map((parts) => parts.map((part) => String(part).padStart(2, '0')).join(':'));
const oneWindow = fc
  .record({
    days: fc.uniqueArray(fc.constantFrom(...WEEKDAYS), { minLength: 1 }),
    from: time,
    to: time,
    time_zone: fc.constantFrom(...ZONES),
  })
  .filter(({ from, to }) => from !== to);
/** Near changes of the clocks in 2026 (and Apia's lost day of 2011), where the rules can go wrong. */
const moment = fc.oneof(
  fc.integer({ min: at('2026-01-01T00:00:00Z'), max: at('2027-01-01T00:00:00Z') }),
  fc
    .tuple(
      fc.constantFrom(
        '2026-03-29T01:00:00Z',
        '2026-10-25T01:00:00Z',
        '2026-03-08T07:00:00Z',
        '2026-11-01T06:00:00Z',
        '2026-04-04T15:00:00Z',
        '2026-10-03T15:30:00Z',
        '2026-09-06T04:00:00Z',
        '2026-04-24T22:00:00Z',
        '2011-12-30T10:00:00Z',
      ),
      fc.integer({ min: -30 * HOUR, max: 30 * HOUR }),
    )
    .map(([change, near]) => at(change) + near),
);

it('says when it opens: open then, closed a moment before, and within eight days', () => {
  fc.assert(
    fc.property(fc.array(oneWindow, { minLength: 1, maxLength: 3 }), moment, (windows, now) => {
      const state = windowAt(windows, now);
      if (state.open) {
        expect(state.until).toBeGreaterThan(now);
        expect(windowAt(windows, state.until - 1).open).toBe(true);
        if (state.until - now < 8 * 24 * HOUR) expect(windowAt(windows, state.until).open).toBe(false);
      } else {
        expect(state.opensAt).toBeGreaterThan(now);
        expect(state.opensAt - now).toBeLessThanOrEqual(8 * 24 * HOUR);
        expect(windowAt(windows, state.opensAt).open).toBe(true);
        expect(windowAt(windows, state.opensAt - 1).open).toBe(false);
      }
    }),
    { numRuns: 500 },
  );
});

it('is as long as it says, but for the hour that a change of the clocks takes or gives', () => {
  fc.assert(
    fc.property(oneWindow, moment, (window, now) => {
      const first = windowAt([window], now);
      const opened = first.open ? first.until : first.opensAt;
      const next = windowAt([window], opened);
      const from = next.open ? opened : next.opensAt;
      const state = windowAt([window], from);
      const minutes = (text: string): number => Number(text.slice(0, 2)) * 60 + Number(text.slice(3));
      const nominal = ((minutes(window.to) - minutes(window.from) + 24 * 60) % (24 * 60)) * 60_000;
      const lasts = state.open ? state.until - from : 0;
      // Apia lost a whole day; a window that lay over it had that much less.
      const shift = window.time_zone === 'Pacific/Apia' ? 24 * HOUR : HOUR;
      expect(Math.abs(lasts - nominal)).toBeLessThanOrEqual(shift);
      expect(lasts).toBeGreaterThan(0);
    }),
    { numRuns: 500 },
  );
});
