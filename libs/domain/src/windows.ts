/**
 * Weekly windows of local time: when a customer lets its product be changed. A window belongs to the day on which it
 * opens; one whose end is not after its start runs past midnight. Clocks that are put forward or back are counted in:
 * a local time that comes twice counts when it comes first, one that is skipped counts as the moment of the skip.
 */

export const WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'] as const;
export type Weekday = (typeof WEEKDAYS)[number];

export interface WeeklyWindow {
  /** Days on which it opens; absent: each day. */
  readonly days?: readonly Weekday[];
  /** `HH:MM`, 00:00 to 23:59. */
  readonly from: string;
  /** `HH:MM`, to 24:00. */
  readonly to: string;
  /** IANA name: `Europe/Berlin`, `UTC`. */
  readonly time_zone: string;
}

/**
 * Milliseconds since 1970. `until`: when the last of the windows that follow each other without a gap closes, as far as
 * the next eight days tell.
 */
export type WindowState =
  { readonly open: true; readonly until: number } | { readonly open: false; readonly opensAt: number };

interface Span {
  readonly from: number;
  readonly to: number;
}

const MINUTE_MS = 60_000;
const DAY_MS = 24 * 60 * MINUTE_MS;
/** Long enough for a weekly window that has closed just now, and for a zone that skips a whole day (Apia in 2011). */
const DAYS_AHEAD = 9;

const formats = new Map<string, Intl.DateTimeFormat>();

/** Whether the platform knows the zone. */
export function isTimeZone(name: string): boolean {
  try {
    formatOf(name);
    return true;
  } catch {
    return false;
  }
}

/** Whether one of the windows is open, and until when or when the next opens. Without windows it is always open. */
export function windowAt(windows: readonly WeeklyWindow[], now: number): WindowState {
  if (windows.length === 0) return { open: true, until: Infinity };
  const spans = windows.flatMap((window) => spansOf(window, now));
  const isOpen = spans.some(({ from, to }) => from <= now && now < to);
  if (!isOpen) return { open: false, opensAt: Math.min(...spans.map(({ from }) => from).filter((from) => from > now)) };
  let until = now;
  for (let more: Span | undefined; ; until = more.to) {
    const at = until;
    more = spans.find(({ from, to }) => from <= at && at < to);
    if (more === undefined) return { open: true, until };
  }
}

/** The times in which a window is open around a moment: from the day before yesterday to nine days ahead. */
function spansOf(window: WeeklyWindow, now: number): Span[] {
  const { days = WEEKDAYS, time_zone: zone } = window;
  const from = minutesOf(window.from);
  const to = minutesOf(window.to);
  const lasts = (to > from ? to - from : to - from + 24 * 60) * MINUTE_MS;
  const today = Math.floor(localOf(now, zone) / DAY_MS);
  const spans: Span[] = [];
  for (let day = today - 2; day <= today + DAYS_AHEAD; day++) {
    // The first of January 1970 was a Thursday.
    const weekday = WEEKDAYS[(((day + 4) % 7) + 7) % 7];
    if (weekday === undefined || !days.includes(weekday)) continue;
    const opens = day * DAY_MS + from * MINUTE_MS;
    const start = instantOf(opens, zone);
    const end = instantOf(opens + lasts, zone);
    // Wholly within skipped time: it comes right after the skip, as long as ever, so that no week is without it.
    spans.push({ from: start, to: end > start ? end : start + lasts });
  }
  return spans;
}

function minutesOf(time: string): number {
  const [hours, minutes] = time.split(':').map(Number);
  return (hours ?? 0) * 60 + (minutes ?? 0);
}

/** What the clocks of a zone show, as if it were UTC. */
function localOf(instant: number, zone: string): number {
  const parts: Partial<Record<Intl.DateTimeFormatPartTypes, number>> = {};
  for (const { type, value } of formatOf(zone).formatToParts(instant)) parts[type] = Number(value);
  const { year = 0, month = 1, day = 1, hour = 0, minute = 0, second = 0 } = parts;
  return Date.UTC(year, month - 1, day, hour, minute, second) + (((instant % 1000) + 1000) % 1000);
}

/** The first moment at which the clocks of the zone show this local time or, where it is skipped, a later one. */
function instantOf(local: number, zone: string): number {
  const offsetAt = (instant: number): number => localOf(instant, zone) - instant;
  const before = local - offsetAt(local - DAY_MS);
  const after = local - offsetAt(local + DAY_MS);
  const exact = [before, after].filter((instant) => localOf(instant, zone) === local);
  if (exact.length > 0) return Math.min(...exact);
  // Skipped: the clocks jump somewhere between the two readings of it.
  let low = Math.min(before, after);
  let high = Math.max(before, after);
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (localOf(middle, zone) < local) low = middle;
    else high = middle;
  }
  return high;
}

function formatOf(zone: string): Intl.DateTimeFormat {
  let format = formats.get(zone);
  if (format === undefined) {
    // Making one costs 50 times as much as using it.
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      calendar: 'gregory',
      numberingSystem: 'latn',
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
    formats.set(zone, format);
  }
  return format;
}
