import { Cron } from 'croner';
import { ImsError } from '#contracts';
import { isTimeZone } from './windows.js';

/** A time table of five fields (minute, hour, day, month, weekday) by the clocks of a zone. */
export interface Schedule {
  readonly cron: string;
  readonly time_zone: string;
}

/** More often, an agent would be busy with nothing else. */
const SHORTEST_MS = 5 * 60_000;
/** So many runs are looked at for two that are too close. */
const RUNS_CHECKED = 50;

/** The table in force: `mode` keeps seconds and years out. */
const tableOf = ({ cron, time_zone }: Schedule): Cron =>
  new Cron(cron, { timezone: time_zone, mode: '5-part', paused: true });

/** The next run after a moment, over changes of the clocks; undefined when there is none any more. */
export function nextRun(schedule: Schedule, after: Date): Date | undefined {
  return tableOf(schedule).nextRun(after) ?? undefined;
}

/** Throws `invalid_request` for a zone or table that is none, or that runs more often than every five minutes. */
export function checkSchedule(schedule: Schedule, at: string): void {
  const refuse = (field: string, message: string): never => {
    const pointer = `${at}/${field}`;
    throw new ImsError('invalid_request', `${pointer} ${message}`, [{ pointer, message }]);
  };
  if (!isTimeZone(schedule.time_zone)) refuse('time_zone', 'must be an IANA time zone, as Europe/Berlin or UTC');
  let runs: Date[] = [];
  try {
    runs = tableOf(schedule).nextRuns(RUNS_CHECKED, new Date(0));
  } catch {
    refuse('cron', 'must be a schedule of five fields, as "30 3 * * *"');
  }
  if (runs.length === 0) refuse('cron', 'never runs');
  const close = runs.some((run, i) => i > 0 && run.getTime() - (runs[i - 1]?.getTime() ?? 0) < SHORTEST_MS);
  if (close) refuse('cron', 'runs more often than every five minutes');
}
