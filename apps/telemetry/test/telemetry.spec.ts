import 'reflect-metadata';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import {
  agentVitals,
  hashEvent,
  inboxPrefix,
  factRecorded,
  listHistory,
  listVitals,
  logFrame,
  logsAppended,
  newId,
  readLogs,
  type AgentId,
  type Event,
  type JobId,
  type LogLine,
} from '#contracts';
import { Bus, connectNats } from '#messaging';
import { Database } from '#persistence';
import { freshDatabase, startNats, type FreshDatabase, type NatsServer } from '#stack';
import { TelemetryConfig } from '../src/config.js';
import { startTelemetry } from '../src/telemetry.module.js';
import { AgentVitals } from '../src/vitals.js';

/** Waits until the condition holds; the test's own time limit ends a wait in vain. */
async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

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

  const start = async (): Promise<NestFastifyApplication> => {
    const creds = await nats.serviceCreds('telemetry');
    const config = Object.assign(new TelemetryConfig(), {
      DATABASE_URL: await fresh.provisionService('telemetry'),
      NATS_URLS: [nats.url],
      NATS_JWT: creds.jwt,
      NATS_SEED: creds.seed,
      HTTP_HOST: '127.0.0.1',
      HTTP_PORT: 0,
      VITALS_DAYS: 7,
    });
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
        lines: texts.map((text) => ({ at: new Date().toISOString(), level: 'info', step: 'apply', text })),
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
      const prev = facts.at(-1)?.hash ?? '';
      const fact = {
        id: newId('event'),
        chain: `job-scheduler:${install}`,
        seq,
        type: 'job.granted',
        at: new Date().toISOString(),
        vendor_id: vendor,
        install_id: install,
        job_id: job,
        actor: 'service:job-scheduler',
        data: { seq },
      };
      facts.push({ ...fact, prev_hash: prev, hash: hashEvent(prev, fact) });
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
});
