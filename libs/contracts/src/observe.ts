import { ListInVendor, Page, PageQuery, VendorScope } from './catalogue.js';
import { Flag, IdOf, Int, Json, ListOf, Nested, OneOf, Optional, Text, Time, type JsonObject } from './fields.js';
import { type AgentId, type EventId, type InstallId, type JobId } from './ids.js';
import { Event } from './jobs.js';
import { LIMITS } from './limits.js';
import { LOG_LEVELS, LogLine, type LogLevelName } from './log-lines.js';
import { call } from './message.js';

/** What telemetry finds in what it keeps: log lines, the course of an install, its agent's vitals, a job's trace. */
const toTelemetry = { version: 1, from: ['gateway'], servedBy: 'telemetry', timeoutMs: 10_000 } as const;

/** Which lines are wanted. All of what is given has to hold. */
export class LogFilter extends PageQuery {
  /** Is in the line, in upper or lower case. */
  @Optional() @Text(1, 200) q?: string;
  /** `q` is a regular expression of JavaScript. */
  @Optional() @Flag() regex?: boolean;
  /** This level or a graver one. */
  @Optional() @OneOf(LOG_LEVELS) level?: LogLevelName;
  @Optional() @Text(1, 40) step?: string;
  /** Times of the lines, by the agent's clock. */
  @Optional() @Time() since?: string;
  @Optional() @Time() until?: string;
}
export class SearchLogs extends LogFilter {
  @IdOf('agent') agent_id: AgentId;
  @Optional() @IdOf('job') job_id?: JobId;
}
export class LogHit extends LogLine {
  @IdOf('job') job_id: JobId;
}
export class LogHitPage extends Page {
  @ListOf(() => LogHit, LIMITS.pageMax) data: LogHit[];
  /** Looked at for this page. A page ends after some seconds: with a cursor it goes on, whether or not it has lines. */
  @Int(0, Number.MAX_SAFE_INTEGER) searched_lines: number;
}
export const searchLogs = call({
  ...toTelemetry,
  name: 'telemetry.search',
  subject: 'ims.v1.svc.telemetry.search',
  body: SearchLogs,
  reply: LogHitPage,
});

export const LOG_DAYS_CHOICES = [7, 30, 90, 400] as const;
/** How long a vendor's logs are kept. Holds for attempts that begin after the change. */
export class Retention {
  /** 7, 30, 90 or 400. */
  @Int(1, 3650) log_days: number;
}
export class SetRetention extends VendorScope {
  @Nested(() => Retention) retention: Retention;
  /** The ETag that the change was made on. */
  @Text(1, 100) if_match: string;
}
/** What a vendor's logs take. `stored_bytes` is what is left of `bytes` when packed. */
export class LogUsage {
  @Int(0, Number.MAX_SAFE_INTEGER) attempts: number;
  @Int(0, Number.MAX_SAFE_INTEGER) lines: number;
  @Int(0, Number.MAX_SAFE_INTEGER) bytes: number;
  @Int(0, Number.MAX_SAFE_INTEGER) stored_bytes: number;
  @Optional() @Time() oldest_at?: string;
}
const retentionCall = {
  ...toTelemetry,
  reply: Retention,
} as const;
export class OwnRetention extends VendorScope {}
export const getRetention = call({
  ...retentionCall,
  name: 'telemetry.retention',
  subject: 'ims.v1.svc.telemetry.retention',
  body: OwnRetention,
});
export const setRetention = call({
  ...retentionCall,
  name: 'telemetry.set-retention',
  subject: 'ims.v1.svc.telemetry.set_retention',
  body: SetRetention,
});
export const getLogUsage = call({
  ...toTelemetry,
  name: 'telemetry.usage',
  subject: 'ims.v1.svc.telemetry.usage',
  body: OwnRetention,
  reply: LogUsage,
});

export const HISTORY_KINDS = ['install', 'deployment', 'job', 'plan', 'agent', 'token', 'other'] as const;
/** One thing that happened to an install, as it is read; the fact itself, with its hash, is in `event`. */
export class HistoryEntry {
  @IdOf('event') id: EventId;
  @Time() at: string;
  @OneOf(HISTORY_KINDS) kind: (typeof HISTORY_KINDS)[number];
  /** One sentence. */
  @Text(1, 300) title: string;
  @Nested(() => Event) event: Event;
}
export class ListTimeline extends ListInVendor {
  @IdOf('install') install_id: InstallId;
  @Optional() @OneOf(HISTORY_KINDS) kind?: (typeof HISTORY_KINDS)[number];
  @Optional() @Time() since?: string;
  @Optional() @Time() until?: string;
}
export class HistoryPage extends Page {
  @ListOf(() => HistoryEntry, LIMITS.pageMax) data: HistoryEntry[];
  /** Where this page ends, also the last one: whoever comes back with it as `cursor` misses nothing. */
  @Text(1, 500) resume_cursor: string;
}
/** Oldest first, in the order in which telemetry learned of it: nothing that comes later is in front of a cursor. */
export const listTimeline = call({
  ...toTelemetry,
  name: 'telemetry.timeline',
  subject: 'ims.v1.svc.telemetry.timeline',
  body: ListTimeline,
  reply: HistoryPage,
});

export class VitalsSeriesQuery {
  /** Default: an hour before `until`. */
  @Optional() @Time() since?: string;
  /** Default: now. */
  @Optional() @Time() until?: string;
  /** At most so many points; default 120. */
  @Optional() @Int(1, 1000) points?: number;
}
export class ReadVitalsSeries extends VitalsSeriesQuery {
  @IdOf('agent') agent_id: AgentId;
}
/** Vitals of a span of time, which begins at `at`. */
export class VitalsPoint {
  @Time() at: string;
  @Int(1, Number.MAX_SAFE_INTEGER) samples: number;
  @Int(0, 100_000) cpu_percent_mean: number;
  @Int(0, 100_000) cpu_percent_max: number;
  @Int(0, Number.MAX_SAFE_INTEGER) memory_bytes_max: number;
  @Int(0, Number.MAX_SAFE_INTEGER) disk_free_bytes_min: number;
  @Int(-1e12, 1e12) clock_skew_ms: number;
  @Int(0, 1000) jobs_running_max: number;
  /** The last one in the span. */
  @Text(1, 60) version: string;
}
/** Without a break of three reports. */
export class PresenceSpan {
  @Time() from: string;
  @Time() to: string;
  @Text(1, 60) version: string;
}
export class VitalsSeries {
  @Time() since: string;
  @Time() until: string;
  /** Length of a point's span. */
  @Int(1, 1e9) step_s: number;
  /** Spans without a report have no point. */
  @ListOf(() => VitalsPoint, 1001) points: VitalsPoint[];
  /** When the agent was there, and with which version; oldest first, the last 500. */
  @ListOf(() => PresenceSpan, 500) presence: PresenceSpan[];
}
export const readVitalsSeries = call({
  ...toTelemetry,
  name: 'telemetry.vitals-series',
  subject: 'ims.v1.svc.telemetry.vitals_series',
  body: ReadVitalsSeries,
  reply: VitalsSeries,
});

export const SPAN_STATUSES = ['running', 'ok', 'error'] as const;
/** Part of a trace, as OpenTelemetry has it. */
export class TraceSpan {
  @Text(16, 16) span_id: string;
  @Optional() @Text(16, 16) parent_span_id?: string;
  @Text(1, 120) name: string;
  @Time() started_at: string;
  @Optional() @Time() ended_at?: string;
  @OneOf(SPAN_STATUSES) status: (typeof SPAN_STATUSES)[number];
  @Json() attributes: JsonObject;
}
/** What was done for a job, from the request that asked for it to the last step of its agent. Parents first. */
export class JobTrace {
  @Text(32, 32) trace_id: string;
  @ListOf(() => TraceSpan, 5000) spans: TraceSpan[];
}
