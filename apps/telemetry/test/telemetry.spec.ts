import 'reflect-metadata';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import {
  agentVitals,
  etagOf,
  getLogUsage,
  getRetention,
  inboxPrefix,
  factRecorded,
  listHistory,
  listTimeline,
  listVitals,
  logFrame,
  logsAppended,
  newId,
  readLogs,
  readVitalsSeries,
  searchLogs,
  setRetention,
  type AgentId,
  type Event,
  type JobId,
  type LogHitPage,
  type LogLine,
  type SearchLogs,
} from '#contracts';
import { Bus, connectNats } from '#messaging';
import { Database } from '#persistence';
import { newContext, runInContext } from '#platform';
import { freshDatabase, startNats, type FreshDatabase, type NatsServer } from '#stack';
import { type TelemetryConfig } from '../src/config.js';
import { LogRetention } from '../src/retention.js';
import { startTelemetry } from '../src/telemetry.module.js';
import { AgentVitals } from '../src/vitals.js';
import { configOf, nextFact, until } from './ground.js';

describe('telemetry over a real broker and a real database', () => {
  const dir = mkdtempSync(join(tmpdir(), 'telemetry-'));
  const agent = newId('agent');
  const stranger = newId('agent');
  let nats: NatsServer;
  let fresh: FreshDatabase;
  let app: NestFastifyApplication;
  let gateway: Bus;
  let scheduler: Bus;
  const agents = new Map<AgentId, Bus>();
  const buses: Bus[] = [];

  const start = async (more: Partial<TelemetryConfig> = {}): Promise<NestFastifyApplication> => {
    const config = Object.assign(await configOf(nats, fresh), more);
    return startTelemetry(config, { ownsProcess: false });
  };
  const connect = async (name: string, credentials: { jwt: string; seed: string }): Promise<Bus> => {
    const bus = new Bus(await connectNats({ servers: [nats.url], name, inboxPrefix: inboxPrefix(name), credentials }));
    buses.push(bus);
    return bus;
  };

  beforeAll(async () => {
    [nats, fresh] = await Promise.all([startNats({ dir }), freshDatabase()]);
    app = await start();
    gateway = await connect('gateway', await nats.serviceCreds('gateway'));
    scheduler = await connect('job_scheduler', await nats.serviceCreds('job-scheduler'));
    for (const id of [agent, stranger]) agents.set(id, await connect(id, await nats.agentCreds('install', id)));
  });
  afterAll(async () => {
    for (const bus of buses) await bus.connection.close();
    await app?.close();
    await nats?.stop();
    await fresh?.drop();
    rmSync(dir, { recursive: true, force: true });
  });

  const send = (job: JobId, first: number, texts: string[], { last = false, attempt = 1, by = agent, id = '' } = {}) =>
    agents.get(by)!.publish(
      logFrame,
      { agent: by, job },
      {
        job_id: job,
        attempt,
        first_seq: first,
        lines: texts.map((text) => ({ at: new Date().toISOString(), level: 'info' as const, step: 'apply', text })),
        last,
      },
      `${by}.${job}.${attempt}.${first}.${id}`,
    );
  const readAll = async (job: JobId): Promise<LogLine[]> => {
    const lines: LogLine[] = [];
    let after: string | undefined;
    for (;;) {
      const page = await gateway.call(readLogs, {
        job_id: job,
        agent_id: agent,
        limit: 3,
        ...(after ? { after } : {}),
      });
      lines.push(...page.data);
      after = page.position;
      if (!page.more) return lines;
    }
  };
  const ended = (job: JobId) =>
    until(async () => (await gateway.call(readLogs, { job_id: job, agent_id: agent })).ended_attempt);

  it('gives the exact log of a job whose frames came out of order, twice and cut differently', async () => {
    const job = newId('job');
    await send(job, 4, ['d', 'e']);
    await send(job, 1, ['a', 'b', 'c']);
    await send(job, 1, ['a', 'b', 'c'], { id: 'again' });
    await send(job, 2, ['b', 'c', 'd', 'e', 'f\u0000'], { id: 'recut' });
    await send(job, 7, ['g'], { last: true });
    await ended(job);
    const lines = await until(async () => {
      const all = await readAll(job);
      return all.length === 7 ? all : undefined;
    });
    expect(lines.map(({ seq, text }) => `${seq}${text}`)).toEqual(['1a', '2b', '3c', '4d', '5e', '6f\ufffd', '7g']);
  });

  it('does not show what another agent sent under the job, nor a frame whose body names another job', async () => {
    const job = newId('job');
    await send(job, 1, ['forged'], { by: stranger });
    await agents.get(agent)!.publish(
      logFrame,
      { agent, job: newId('job') },
      {
        job_id: job,
        attempt: 1,
        first_seq: 1,
        lines: [{ at: new Date().toISOString(), level: 'info', step: '', text: 'lost' }],
        last: false,
      },
      `other-${job}`,
    );
    await send(job, 1, ['own'], { last: true });
    await ended(job);
    expect((await readAll(job)).map(({ text }) => text)).toEqual(['own']);
  });

  it('wakes the readers of a job after its lines can be read', async () => {
    const job = newId('job');
    const read = new Promise<string[]>((resolve) => {
      const heard = gateway.onSignal(logsAppended, { job }, () => {
        heard.stop();
        resolve(readAll(job).then((lines) => lines.map(({ text }) => text)));
      });
    });
    await gateway.connection.flush();
    await send(job, 1, ['x'], { last: true });
    expect(await read).toEqual(['x']);
  });

  it('loses and doubles nothing when it is stopped and started while frames arrive', async () => {
    const job = newId('job');
    for (let seq = 1; seq <= 20; seq += 1) await send(job, seq, [`l${seq}`]);
    await app.close();
    for (let seq = 21; seq <= 40; seq += 1) await send(job, seq, [`l${seq}`], { last: seq === 40 });
    app = await start();
    await ended(job);
    const lines = await until(async () => {
      const all = await readAll(job);
      return all.length >= 40 ? all : undefined;
    });
    expect(lines.map(({ text }) => text)).toEqual(Array.from({ length: 40 }, (_, i) => `l${i + 1}`));
  });

  it('keeps facts once, in pages that skip nothing, and refuses one that does not match its hash', async () => {
    const vendor = newId('vendor');
    const install = newId('install');
    const job = newId('job');
    const facts: Event[] = [];
    for (let seq = 1; seq <= 5; seq += 1) {
      const about = { vendor_id: vendor, install_id: install, job_id: job };
      facts.push(nextFact(facts.at(-1), { type: 'job.granted', ...about, data: { seq } }));
    }
    const forged: Event = { ...facts[0]!, id: newId('event'), seq: 6, data: { seq: 6 } };
    for (const [index, fact] of [...facts, ...facts, forged].entries()) {
      await scheduler.publish(factRecorded, { vendor, scope: install }, fact, `${fact.id}.${index}`);
    }
    const list = async (query: { install_id?: string; job_id?: string; vendor_id?: string }): Promise<number[]> => {
      const seqs: number[] = [];
      let cursor: string | undefined;
      do {
        const page = await gateway.call(listHistory, {
          vendor_id: vendor,
          limit: 2,
          ...query,
          ...(cursor ? { cursor } : {}),
        });
        seqs.push(...page.data.map(({ seq }) => seq));
        cursor = page.next_cursor;
      } while (cursor);
      return seqs;
    };
    await until(async () => ((await list({ job_id: job })).length === 5 ? true : undefined));
    expect(await list({ job_id: job })).toEqual([1, 2, 3, 4, 5]);
    expect(await list({ install_id: install })).toEqual([5, 4, 3, 2, 1]);
    expect(await list({ install_id: install, vendor_id: newId('vendor') })).toEqual([]);
  });

  it('keeps vitals, newest first, and deletes old ones', async () => {
    const vitalsAt = (at: string) =>
      agents.get(agent)!.publish(
        agentVitals,
        { agent },
        {
          at,
          version: '1.0.0',
          uptime_s: 1,
          cpu_percent: 5,
          memory_bytes: 1,
          disk_free_bytes: 1,
          clock_skew_ms: 0,
          jobs_running: 0,
        },
        `${agent}.${at}`,
      );
    const recent = new Date(Date.now() - 1000).toISOString();
    const now = new Date().toISOString();
    for (const at of ['2020-01-01T00:00:00.000Z', recent, now]) await vitalsAt(at);
    const times = async () => (await gateway.call(listVitals, { agent_id: agent })).data.map(({ at }) => at);
    await until(async () => ((await times()).length === 3 ? true : undefined));
    expect((await times()).slice(0, 2)).toEqual([now, recent]);
    await app.get(AgentVitals).sweep();
    expect(await times()).toEqual([now, recent]);
    expect(await app.get(Database).query('SELECT 1 FROM vitals')).toHaveLength(2);
  });

  describe('search', () => {
    const found = async (query: Partial<SearchLogs>): Promise<string[]> => {
      const hits: string[] = [];
      let cursor: string | undefined;
      do {
        const page: LogHitPage = await gateway.call(searchLogs, {
          agent_id: agent,
          limit: 2,
          ...query,
          ...(cursor ? { cursor } : {}),
        });
        hits.push(...page.data.map(({ attempt, seq, text }) => `${attempt}.${seq} ${text}`));
        cursor = page.next_cursor;
      } while (cursor);
      return hits;
    };

    it('finds by text, expression, level and step, each line once, across frames that repeat and attempts', async () => {
      const job = newId('job');
      await send(job, 1, ['Alpha one', 'beta', 'alpha two']);
      await send(job, 2, ['beta', 'alpha two', 'ALPHA three'], { id: 'recut' });
      await until(async () => ((await found({ job_id: job })).length === 4 ? true : undefined));
      await send(job, 1, ['alpha of the second'], { attempt: 2, last: true });
      await send(newId('job'), 1, ['alpha of a stranger'], { by: stranger, last: true });
      await until(async () => ((await found({ job_id: job })).length === 5 ? true : undefined));
      const all = ['2.1 alpha of the second', '1.1 Alpha one', '1.3 alpha two', '1.4 ALPHA three'];
      expect(await found({ job_id: job, q: 'alpha' })).toEqual(all);
      expect(await found({ job_id: job, q: '^alpha t', regex: true })).toEqual(['1.3 alpha two', '1.4 ALPHA three']);
      expect((await found({ q: 'alpha' })).filter((hit) => hit.includes('stranger'))).toEqual([]);
      expect(await found({ job_id: job, level: 'warn' })).toEqual([]);
      expect(await found({ job_id: job, step: 'plan' })).toEqual([]);
      expect(await found({ job_id: job, until: '2020-01-01T00:00:00.000Z' })).toEqual([]);
    });

    it('stops an expression that would take for ever, and names what is none', async () => {
      const job = newId('job');
      await send(job, 1, [`${'a'.repeat(40)}b`], { last: true });
      await ended(job);
      const ask = (q: string) => gateway.call(searchLogs, { agent_id: agent, job_id: job, q, regex: true });
      await expect(ask('^(a+)+$')).rejects.toThrow('/q takes too long');
      await expect(ask('(')).rejects.toThrow('/q is not a regular expression');
    });
  });

  it('keeps logs as long as the vendor says, drops them by the day, and tells what they take', async () => {
    const vendor = newId('vendor');
    const event = nextFact(undefined, { type: 'agent.enrolled', vendor_id: vendor, agent_id: agent, data: {} });
    await scheduler.publish(factRecorded, { vendor, scope: '_' }, event, event.id);
    const database = app.get(Database);
    await until(async () => (await database.query('SELECT 1 FROM agents WHERE agent_id = $1', [agent]))[0]);
    expect(await gateway.call(getRetention, { vendor_id: vendor })).toEqual({ log_days: 30 });
    const set = (log_days: number, before: number) =>
      gateway.call(setRetention, {
        vendor_id: vendor,
        retention: { log_days },
        if_match: etagOf({ log_days: before }),
      });
    await expect(set(8, 30)).rejects.toThrow('/log_days must be one of');
    await expect(set(7, 90)).rejects.toMatchObject({ code: 'precondition_failed' });
    expect(await set(7, 30)).toEqual({ log_days: 7 });

    const job = newId('job');
    await send(job, 1, ['short-lived'], { last: true });
    await ended(job);
    const usage = await gateway.call(getLogUsage, { vendor_id: vendor });
    expect(usage.lines).toBeGreaterThan(0);
    expect(usage.stored_bytes).toBeGreaterThan(0);
    const partitions = async () =>
      (
        await database.query<{ name: string }>(
          "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'log_chunks'::regclass",
        )
      )
        .map(({ name }) => name)
        .filter((name) => name.startsWith('log_chunks_k7_'));
    const [fresh7] = await partitions();
    expect(await partitions()).toHaveLength(1);
    // As if it had been stored nine days ago.
    await database.query(`ALTER TABLE log_chunks DETACH PARTITION ${fresh7}`);
    await database.query(`UPDATE ${fresh7} SET day = day - 9`);
    await database.query('UPDATE log_attempts SET day = day - 9 WHERE keep_days = 7');
    await database.query(`ALTER TABLE ${fresh7} RENAME TO log_chunks_k7_old`);
    const [old] = await database.query<{ name: string; day: string }>(
      "SELECT 'log_chunks_k7_' || to_char(current_date - 9, 'YYYYMMDD') AS name, (current_date - 9)::text AS day",
    );
    await database.query(`ALTER TABLE log_chunks_k7_old RENAME TO ${old!.name}`);
    await database.query(
      `ALTER TABLE log_chunks ATTACH PARTITION ${old!.name} FOR VALUES FROM (7, '${old!.day}') TO (7, date '${old!.day}' + 1)`,
    );
    expect((await readAll(job)).map(({ text }) => text)).toEqual(['short-lived']);
    await app.get(LogRetention).sweep();
    expect(await partitions()).toEqual([]);
    expect(await readAll(job)).toEqual([]);
    // An attempt whose logs are gone begins anew when it writes again.
    await send(job, 2, ['late'], { last: true });
    await until(async () => ((await found7(job)) ? true : undefined));
  });
  const found7 = async (job: JobId) =>
    (await gateway.call(searchLogs, { agent_id: agent, job_id: job })).data.some(({ text }) => text === 'late');

  it('tells the course of an install in the order of arrival, and goes on where a reader left', async () => {
    const vendor = newId('vendor');
    const install = newId('install');
    let last: Event | undefined;
    const record = async (type: string, data: Event['data']) => {
      last = nextFact(last, { type, vendor_id: vendor, install_id: install, data });
      await scheduler.publish(factRecorded, { vendor, scope: install }, last, last.id);
    };
    const read = (more: { cursor?: string; kind?: 'job' } = {}) =>
      gateway.call(listTimeline, { vendor_id: vendor, install_id: install, ...more });
    await record('install.created', {});
    await record('job.created', { component: 'web', kind: 'apply', status: 'queued' });
    const first = await until(async () => {
      const page = await read();
      return page.data.length === 2 ? page : undefined;
    });
    expect(first.data.map(({ kind, title }) => [kind, title])).toEqual([
      ['install', 'install created'],
      ['job', 'job created: web, apply, queued'],
    ]);
    expect(first.next_cursor).toBeUndefined();
    await record('job.succeeded', { attempt: 1 });
    const rest = await until(async () => {
      const page = await read({ cursor: first.resume_cursor });
      return page.data.length > 0 ? page : undefined;
    });
    expect(rest.data.map(({ title }) => title)).toEqual(['job succeeded: attempt 1']);
    expect((await read({ kind: 'job' })).data).toHaveLength(2);
    expect((await gateway.call(listTimeline, { vendor_id: newId('vendor'), install_id: install })).data).toEqual([]);
  });

  it('gives vitals as points of a chart, and when the agent was there', async () => {
    const database = app.get(Database);
    const one = newId('agent');
    // An hour of reports each 15 s, an absence of ten minutes in it, an update at its end.
    await database.query(
      `INSERT INTO vitals (agent_id, at, vitals)
       SELECT $1, t, jsonb_build_object('cpu_percent', 10, 'memory_bytes', 100, 'disk_free_bytes', 1000,
                'clock_skew_ms', 5, 'jobs_running', 1, 'version', CASE WHEN t < '2026-01-01T00:50Z' THEN '1' ELSE '2' END)
         FROM generate_series('2026-01-01T00:00Z'::timestamptz, '2026-01-01T00:59:45Z', '15 s') t
        WHERE t < '2026-01-01T00:20Z' OR t >= '2026-01-01T00:30Z'`,
      [one],
    );
    const series = await gateway.call(readVitalsSeries, {
      agent_id: one,
      since: '2026-01-01T00:00:00.000Z',
      until: '2026-01-01T01:00:00.000Z',
      points: 12,
    });
    expect(series.step_s).toBe(300);
    expect(series.points).toHaveLength(10);
    expect(series.points[0]).toEqual({
      at: '2026-01-01T00:00:00.000Z',
      samples: 20,
      cpu_percent_mean: 10,
      cpu_percent_max: 10,
      memory_bytes_max: 100,
      disk_free_bytes_min: 1000,
      clock_skew_ms: 5,
      jobs_running_max: 1,
      version: '1',
    });
    expect(series.presence.map(({ from, to, version }) => [from.slice(11, 19), to.slice(11, 19), version])).toEqual([
      ['00:00:00', '00:19:45', '1'],
      ['00:30:00', '00:49:45', '1'],
      ['00:50:00', '00:59:45', '2'],
    ]);
  });

  it('forwards lines, vitals and the trace of a job to a collector, also one that is busy at first', async () => {
    type Otlp = Record<string, { resource: object }[]>;
    const received: { path: string; body: Otlp; authorization: string | undefined }[] = [];
    let busy = 2;
    const collector = createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        response.statusCode = busy-- > 0 ? 503 : 200;
        if (response.statusCode === 200) {
          const body = JSON.parse(Buffer.concat(chunks).toString()) as Otlp;
          received.push({ path: request.url ?? '', body, authorization: request.headers.authorization });
        }
        response.end('{}');
      });
    });
    await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
    await app.close();
    app = await start({
      OTLP_ENDPOINT: `http://127.0.0.1:${(collector.address() as AddressInfo).port}`,
      OTLP_AUTHORIZATION: 'Bearer of-the-collector',
    });
    const vendor = newId('vendor');
    const job = newId('job');
    const traceparent = `00-${'ab'.repeat(16)}-${'cd'.repeat(8)}-01`;
    await runInContext(newContext(undefined, traceparent), async () => {
      await send(job, 1, ['seen by the collector'], { last: true });
      let before: Event | undefined;
      for (const [type, data] of [
        ['job.created', { kind: 'apply', component: 'web', status: 'queued' }],
        ['job.granted', { attempt: 1 }],
        ['job.succeeded', { attempt: 1 }],
      ] as const) {
        before = nextFact(before, { type, vendor_id: vendor, job_id: job, data });
        await scheduler.publish(factRecorded, { vendor, scope: '_' }, before, before.id);
      }
    });
    const at = new Date().toISOString();
    const vitals = { at, version: '1.0.0', uptime_s: 1, cpu_percent: 7, memory_bytes: 1, disk_free_bytes: 1 };
    await agents
      .get(agent)!
      .publish(agentVitals, { agent }, { ...vitals, clock_skew_ms: 0, jobs_running: 0 }, `${agent}.${at}`);
    const all = (path: string) => JSON.stringify(received.filter((one) => one.path === path).map(({ body }) => body));
    await until(() =>
      Promise.resolve(
        ['/v1/logs', '/v1/metrics', '/v1/traces'].every((path) => received.some((one) => one.path === path)) ||
          undefined,
      ),
    );
    expect(all('/v1/logs')).toContain('"body":{"stringValue":"seen by the collector"}');
    expect(all('/v1/logs')).toContain(`"traceId":"${'ab'.repeat(16)}"`);
    expect(all('/v1/metrics')).toContain('"name":"ims.agent.cpu"');
    expect(all('/v1/metrics')).toContain('"asInt":"7"');
    for (const name of ['apply web', 'wait', 'attempt 1']) expect(all('/v1/traces')).toContain(`"name":"${name}"`);
    expect(all('/v1/traces')).toContain(`"traceId":"${'ab'.repeat(16)}"`);
    expect(new Set(received.map(({ authorization }) => authorization))).toEqual(new Set(['Bearer of-the-collector']));
    collector.close();
    collector.closeAllConnections();
  });
});
