import { Injectable } from '@nestjs/common';
import {
  ImsError,
  LIMITS,
  readVitalsSeries,
  type PresenceSpan,
  type ReadVitalsSeries,
  type VitalsPoint,
  type VitalsSeries,
} from '#contracts';
import { Serves } from '#messaging';
import { Database } from '#persistence';

const HOUR_MS = 3_600_000;
const POINTS = 120;
/** Three reports: one may be lost, and one late. */
const ABSENT_MS = 3 * LIMITS.vitalsMs;
const SPANS = 500;

/** Vitals as charts want them: so many points, whatever the span of time. */
@Injectable()
export class VitalsCharts {
  constructor(private readonly database: Database) {}

  @Serves(readVitalsSeries)
  async read({ agent_id, since, until, points = POINTS }: ReadVitalsSeries): Promise<VitalsSeries> {
    const untilMs = until === undefined ? (await this.database.now()).getTime() : Date.parse(until);
    const sinceMs = since === undefined ? untilMs - HOUR_MS : Date.parse(since);
    if (sinceMs >= untilMs) {
      throw new ImsError('invalid_request', '/since must be before until', [
        { pointer: '/since', message: 'must be before until' },
      ]);
    }
    const stepS = Math.max(LIMITS.vitalsMs / 1000, Math.ceil((untilMs - sinceMs) / 1000 / points));
    const span = [agent_id, new Date(sinceMs).toISOString(), new Date(untilMs).toISOString()];
    const [rows, presence] = await Promise.all([
      this.database.query<Omit<VitalsPoint, 'at'> & { at: Date }>(SERIES, [...span, stepS]),
      this.database.query<{ from: Date; to: Date; version: string }>(PRESENCE, [...span, ABSENT_MS / 1000]),
    ]);
    return {
      since: span[1] ?? '',
      until: span[2] ?? '',
      step_s: stepS,
      points: rows.map((row) => ({ ...row, at: row.at.toISOString() })),
      presence: presence
        .map(({ from, to, version }): PresenceSpan => ({ from: from.toISOString(), to: to.toISOString(), version }))
        .reverse(),
    };
  }
}

const number = (field: string): string => `(vitals->>'${field}')::float8`;

const SERIES = `
  SELECT date_bin(make_interval(secs => $4::float8), at, $2::timestamptz) AS at,
         count(*)::float8 AS samples,
         round(avg(${number('cpu_percent')})) AS cpu_percent_mean,
         max(${number('cpu_percent')}) AS cpu_percent_max,
         max(${number('memory_bytes')}) AS memory_bytes_max,
         min(${number('disk_free_bytes')}) AS disk_free_bytes_min,
         round(avg(${number('clock_skew_ms')})) AS clock_skew_ms,
         max(${number('jobs_running')}) AS jobs_running_max,
         (array_agg(vitals->>'version' ORDER BY at DESC))[1] AS version
    FROM vitals WHERE agent_id = $1 AND at >= $2 AND at <= $3
   GROUP BY 1 ORDER BY 1`;

const PRESENCE = `
  WITH reports AS (
    SELECT at, vitals->>'version' AS version,
           lag(at) OVER w AS before, lag(vitals->>'version') OVER w AS version_before
      FROM vitals WHERE agent_id = $1 AND at >= $2 AND at <= $3 WINDOW w AS (ORDER BY at)),
  spans AS (
    SELECT at, version,
           count(*) FILTER (WHERE before IS NULL OR at - before > make_interval(secs => $4::float8)
                                  OR version IS DISTINCT FROM version_before) OVER (ORDER BY at) AS span
      FROM reports)
  SELECT min(at) AS "from", max(at) AS "to", version FROM spans GROUP BY span, version
   ORDER BY 1 DESC LIMIT ${SPANS}`;
