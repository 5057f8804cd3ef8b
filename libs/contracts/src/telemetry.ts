import { ListInVendor, Page, PageQuery } from './catalogue.js';
import { IdOf, Int, ListOf, Optional, Text, Time } from './fields.js';
import { type AgentId, type DeploymentId, type InstallId, type JobId } from './ids.js';
import { Event } from './jobs.js';
import { LIMITS } from './limits.js';
import { LogFrame, LogPage, readLogFrame, readLogPage, ReadLogs } from './log-lines.js';
import { call, signal, streamMessage } from './message.js';

export const logFrame = streamMessage({
  name: 'log.frame',
  version: 1,
  stream: 'LOGS',
  subject: 'ims.v1.logs.{agent}.{job}',
  body: LogFrame,
  from: ['build', 'install'],
  consumers: ['telemetry'],
  read: readLogFrame,
  // Lines are numbered, and put in order when they are read.
  unordered: true,
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
  consumers: ['telemetry', 'gateway'],
});

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
  readReply: readLogPage,
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
