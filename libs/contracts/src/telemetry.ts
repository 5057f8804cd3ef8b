import { ListInVendor, Page, PageQuery } from './catalogue.js';
import { Flag, IdOf, Int, ListOf, OneOf, Optional, Text, Time } from './fields.js';
import { type AgentId, type DeploymentId, type InstallId, type JobId } from './ids.js';
import { Event } from './jobs.js';
import { LIMITS } from './limits.js';
import { call, signal, streamMessage } from './message.js';

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error'] as const;
export class LogText {
  @Time() at: string;
  @OneOf(LOG_LEVELS) level: (typeof LOG_LEVELS)[number];
  @Text(0, 40) step: string;
  @Text(0, LIMITS.logLineBytes) text: string;
}
/** Consecutive lines of one attempt; `first_seq` numbers the first, from 1. Sent again unchanged after a crash. */
export class LogFrame {
  @IdOf('job') job_id: JobId;
  @Int(1, 1_000_000) attempt: number;
  @Int(1, Number.MAX_SAFE_INTEGER) first_seq: number;
  @ListOf(() => LogText, LIMITS.logFrameLines) lines: LogText[];
  /** True on the last frame of the attempt. */
  @Flag() last: boolean;
}
export const logFrame = streamMessage({
  name: 'log.frame',
  version: 1,
  stream: 'LOGS',
  subject: 'ims.v1.logs.{agent}.{job}',
  body: LogFrame,
  from: ['build', 'install'],
  consumers: ['telemetry'],
});

export class Vitals {
  @Time() at: string;
  @Text(1, 60) version: string;
  @Int(0, 1e9) uptime_s: number;
  @Int(0, 100_000) cpu_percent: number;
  @Int(0, Number.MAX_SAFE_INTEGER) memory_bytes: number;
  @Int(0, Number.MAX_SAFE_INTEGER) disk_free_bytes: number;
  @Int(-1e12, 1e12) clock_skew_ms: number;
  @Int(0, 1000) jobs_running: number;
}
export const agentVitals = streamMessage({
  name: 'agent.vitals',
  version: 1,
  stream: 'EVENTS',
  subject: 'ims.v1.events.{agent}._.vitals',
  body: Vitals,
  from: ['build', 'install'],
  consumers: ['telemetry'],
});

/** Each fact that a service records, published from its outbox. `{scope}`: install id, or `_`. */
export const factRecorded = streamMessage({
  name: 'fact.recorded',
  version: 1,
  stream: 'FACTS',
  subject: 'ims.v1.facts.{vendor}.{scope}.recorded',
  body: Event,
  from: ['job-scheduler', 'registry-token'],
  consumers: ['telemetry'],
});

export class LogLine extends LogText {
  @Int(1, 1_000_000) attempt: number;
  @Int(1, Number.MAX_SAFE_INTEGER) seq: number;
}
export class ReadLogs {
  @IdOf('job') job_id: JobId;
  /** The job's agent: lines that another agent sent under this job id are not shown. */
  @IdOf('agent') agent_id: AgentId;
  /** Position after which to go on: `<attempt>.<seq>`, the SSE id. */
  @Optional() @Text(3, 40) after?: string;
  @Optional() @Int(1, 5000) limit?: number;
}
export class LogPage {
  @ListOf(() => LogLine, 5000) data: LogLine[];
  /** Position of the last line given; the same as `after` when there was none. */
  @Optional() @Text(3, 40) position?: string;
  /** More lines are already there. */
  @Flag() more: boolean;
  /** The highest attempt whose last frame is stored: a reader that has its lines has them all. Absent: none yet. */
  @Optional() @Int(1, 1_000_000) ended_attempt?: number;
}
export class ListHistory extends ListInVendor {
  @Optional() @IdOf('install') install_id?: InstallId;
  @Optional() @IdOf('deployment') deployment_id?: DeploymentId;
  @Optional() @IdOf('job') job_id?: JobId;
}
export class EventPage extends Page {
  @ListOf(() => Event, LIMITS.pageMax) data: Event[];
}
export class ListVitals extends PageQuery {
  @IdOf('agent') agent_id: AgentId;
}
export class VitalsPage extends Page {
  @ListOf(() => Vitals, LIMITS.pageMax) data: Vitals[];
}
const toTelemetry = { version: 1, from: ['gateway'], servedBy: 'telemetry', timeoutMs: 10_000 } as const;
export const readLogs = call({
  ...toTelemetry,
  name: 'telemetry.logs',
  subject: 'ims.v1.svc.telemetry.logs',
  body: ReadLogs,
  reply: LogPage,
});
export const listHistory = call({
  ...toTelemetry,
  name: 'telemetry.history',
  subject: 'ims.v1.svc.telemetry.history',
  body: ListHistory,
  reply: EventPage,
});
export const listVitals = call({
  ...toTelemetry,
  name: 'telemetry.vitals',
  subject: 'ims.v1.svc.telemetry.vitals',
  body: ListVitals,
  reply: VitalsPage,
});

export class LogsAppended {
  @IdOf('job') job_id: JobId;
  /** `<attempt>.<seq>` of the last line that is now in PostgreSQL. */
  @Text(3, 40) position: string;
}
/** Wakes the readers that tail a job; they then read by position, so a lost wake-up only delays. */
export const logsAppended = signal({
  name: 'logs.appended',
  version: 1,
  subject: 'ims.v1.tail.{job}',
  body: LogsAppended,
  from: ['telemetry'],
  to: ['gateway'],
});
/** Wakes the readers that wait for a deployment or a job to end. */
export class JobChanged {
  @IdOf('job') job_id: JobId;
  @Optional() @IdOf('deployment') deployment_id?: DeploymentId;
  @Text(1, 20) status: string;
}
export const jobChanged = signal({
  name: 'job.changed',
  version: 1,
  subject: 'ims.v1.changed.{job}',
  body: JobChanged,
  from: ['job-scheduler'],
  to: ['gateway'],
});
