import { Readable } from 'node:stream';
import { Controller, StreamableFile } from '@nestjs/common';
import {
  etagOf,
  getInstall,
  getJob,
  getLogUsage,
  getRetention,
  HISTORY_KINDS,
  HistoryEntry,
  HistoryPage,
  IdOf,
  ImsError,
  JobTrace,
  LIMITS,
  listAttempts,
  listTimeline,
  LogFilter,
  LogHitPage,
  LogUsage,
  OneOf,
  Optional,
  PageQuery,
  readVitalsSeries,
  Retention,
  searchLogs,
  setRetention,
  Time,
  VitalsSeries,
  VitalsSeriesQuery,
  type Install,
  type JobId,
} from '#contracts';
import { traceOfJob } from '#domain';
import { Bus } from '#messaging';
import { type Ask } from './edge/ask.js';
import { listsEtag } from './edge/read-request.js';
import { Route } from './edge/route.js';

export class InstallLogsQuery extends LogFilter {
  @Optional() @IdOf('job') job_id?: JobId;
}
export class HistoryFilter {
  @Optional() @OneOf(HISTORY_KINDS) kind?: (typeof HISTORY_KINDS)[number];
  @Optional() @Time() since?: string;
  @Optional() @Time() until?: string;
}
export class HistoryQuery extends PageQuery {
  @Optional() @OneOf(HISTORY_KINDS) kind?: (typeof HISTORY_KINDS)[number];
  @Optional() @Time() since?: string;
  @Optional() @Time() until?: string;
}

/** What is known of installs and jobs besides their state: searched logs, history, charts, and how long it is kept. */
@Controller()
export class ObserveController {
  constructor(private readonly bus: Bus) {}

  /** The install of the path: its vendor is checked by the scheduler before telemetry is asked about it. */
  private install(ask: Ask): Promise<Install> {
    return this.bus.call(getInstall, { vendor_id: ask.vendorId, install_id: ask.id('install') });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}/logs',
    summary: 'Lines of all jobs of an install, by text or expression, level, step and time; newest attempt first.',
    access: 'vendor',
    rate: 'expensive',
    query: InstallLogsQuery,
    reply: LogHitPage,
    status: 200,
  })
  async searchInstallLogs(ask: Ask<object, InstallLogsQuery>): Promise<LogHitPage> {
    const { agent_id } = await this.install(ask);
    return this.bus.call(searchLogs, { agent_id, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/jobs/{job_id}/logs/search',
    summary: 'Lines of a job, by text or expression, level, step and time; newest attempt first.',
    access: 'vendor',
    rate: 'expensive',
    query: LogFilter,
    reply: LogHitPage,
    status: 200,
  })
  async searchJobLogs(ask: Ask<object, LogFilter>): Promise<LogHitPage> {
    const { id, agent_id } = await this.bus.call(getJob, { vendor_id: ask.vendorId, job_id: ask.id('job') });
    return this.bus.call(searchLogs, { agent_id, job_id: id, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}/history',
    summary: 'What happened to an install, oldest first. `resume_cursor` goes on where this page ends, also later.',
    access: 'vendor',
    query: HistoryQuery,
    reply: HistoryPage,
    status: 200,
  })
  async readInstallHistory(ask: Ask<object, HistoryQuery>): Promise<HistoryPage> {
    const { id } = await this.install(ask);
    return this.bus.call(listTimeline, { vendor_id: ask.vendorId, install_id: id, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}/history/export',
    summary: 'The whole history of an install, one entry a line.',
    access: 'vendor',
    rate: 'expensive',
    query: HistoryFilter,
    reply: HistoryEntry,
    status: 200,
    produces: ['application/x-ndjson'],
  })
  async exportInstallHistory(ask: Ask<object, HistoryFilter>): Promise<StreamableFile> {
    const { id } = await this.install(ask);
    const read = (cursor?: string): Promise<HistoryPage> =>
      this.bus.call(listTimeline, {
        vendor_id: ask.vendorId,
        install_id: id,
        limit: LIMITS.pageMax,
        ...ask.query,
        ...(cursor === undefined ? {} : { cursor }),
      });
    // Read before it begins: what cannot be read is answered as an error. A failure later cuts the connection.
    const first = await read();
    async function* lines(): AsyncGenerator<string> {
      for (let page = first; ; page = await read(page.next_cursor)) {
        if (page.data.length > 0) yield page.data.map((entry) => `${JSON.stringify(entry)}\n`).join('');
        if (page.next_cursor === undefined || ask.gone.aborted) return;
      }
    }
    return new StreamableFile(Readable.from(lines(), { highWaterMark: 1 }), { type: 'application/x-ndjson' });
  }

  @Route({
    method: 'GET',
    path: '/v1/installs/{install_id}/vitals/series',
    summary: 'Vitals of the install’s agent for a chart, and when it was there with which version.',
    access: 'vendor',
    rate: 'expensive',
    query: VitalsSeriesQuery,
    reply: VitalsSeries,
    status: 200,
  })
  async readInstallVitalsSeries(ask: Ask<object, VitalsSeriesQuery>): Promise<VitalsSeries> {
    const { agent_id } = await this.install(ask);
    return this.bus.call(readVitalsSeries, { agent_id, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/jobs/{job_id}/trace',
    summary: 'What was done for a job, as one trace: the wait, each attempt, each step.',
    access: 'vendor',
    reply: JobTrace,
    status: 200,
  })
  async readJobTrace(ask: Ask): Promise<JobTrace> {
    const ref = { vendor_id: ask.vendorId, job_id: ask.id('job') };
    const job = await this.bus.call(getJob, ref);
    const { data: attempts } = await this.bus.call(listAttempts, ref);
    return traceOfJob(job, attempts);
  }

  @Route({
    method: 'GET',
    path: '/v1/retention',
    summary: 'How long logs are kept.',
    access: 'vendor',
    reply: Retention,
    status: 200,
    etag: true,
  })
  getRetention(ask: Ask): Promise<Retention> {
    return this.bus.call(getRetention, { vendor_id: ask.vendorId });
  }

  @Route({
    method: 'PUT',
    path: '/v1/retention',
    summary: 'Keep the logs of attempts that begin from now on for 7, 30, 90 or 400 days.',
    access: 'vendor',
    body: Retention,
    reply: Retention,
    status: 200,
    etag: true,
    ifMatch: true,
  })
  async setRetention(ask: Ask<Retention>): Promise<Retention> {
    const etag = etagOf(await this.getRetention(ask));
    if (!listsEtag(ask.ifMatch, etag)) throw new ImsError('precondition_failed');
    return this.bus.call(setRetention, { vendor_id: ask.vendorId, retention: ask.body, if_match: etag });
  }

  @Route({
    method: 'GET',
    path: '/v1/retention/usage',
    summary: 'What the logs take that are kept now.',
    access: 'vendor',
    reply: LogUsage,
    status: 200,
  })
  getLogUsage(ask: Ask): Promise<LogUsage> {
    return this.bus.call(getLogUsage, { vendor_id: ask.vendorId });
  }
}
