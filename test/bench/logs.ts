import 'reflect-metadata';
import { chmodSync, createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pg from 'pg';
import {
  ImsError,
  inboxPrefix,
  LIMITS,
  logFrame,
  logsAppended,
  newId,
  type AgentId,
  type Job,
  type JobId,
  type LogFrame,
} from '#contracts';
import { Bus, connectNats } from '#messaging';
import { startNats, startPostgres, type NatsServer, type PostgresServer } from '#stack';
import { LogShipper } from '#agent-kit';
import { Lifecycle, Metrics, ServiceHealth, sleep } from '#platform';
import { JobLogs } from '../../apps/gateway/src/live/job-logs.js';
import { Wakeups } from '../../apps/gateway/src/live/wakeups.js';
import { TelemetryConfig } from '../../apps/telemetry/src/config.js';
import { startTelemetry } from '../../apps/telemetry/src/telemetry.module.js';
import { median } from './median.js';

const { values: flags } = parseArgs({
  options: {
    lines: { type: 'string', default: '300000' },
    rounds: { type: 'string', default: '3' },
    jobs: { type: 'string', default: '8' },
    rate: { type: 'string', default: '10000' },
    seconds: { type: 'string', default: '10' },
    readers: { type: 'string', default: '3' },
  },
});
const LINES = Number(flags.lines);
const ROUNDS = Number(flags.rounds);
const JOBS = Number(flags.jobs);
const RATE = Number(flags.rate);
const SECONDS = Number(flags.seconds);
const READERS = Number(flags.readers);
const AGENT: AgentId = newId('agent');

const quantile = (values: readonly number[], q: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * q))] ?? 0;

/** What tools print: a time, a resource, a number that differs. 90 characters. */
const textOf = (n: number): string =>
  `module.service_${n % 40}.aws_instance.node[${n % 7}]: Still creating... [${n % 600}s elapsed] id=i-${(n * 2654435761).toString(16).slice(0, 9)}`;

function framesOf(jobId: JobId, from: number, lines: number): LogFrame[] {
  const frames: LogFrame[] = [];
  for (let at = 0; at < lines; at += LIMITS.logFrameLines) {
    const count = Math.min(LIMITS.logFrameLines, lines - at);
    frames.push({
      job_id: jobId,
      attempt: 1,
      first_seq: at + 1,
      lines: Array.from({ length: count }, (_, i) => ({
        at: new Date().toISOString(),
        level: 'info',
        step: 'apply',
        text: textOf(from + at + i),
      })),
      last: at + count >= lines,
    });
  }
  return frames;
}

/** As agents do: until JetStream has it. */
async function publish(agent: Bus, frame: LogFrame, id: string): Promise<void> {
  for (;;) {
    try {
      await agent.publish(logFrame, { agent: AGENT, job: frame.job_id }, frame, id);
      return;
    } catch (error) {
      if (ImsError.of(error).code !== 'unavailable') throw error;
      await sleep(200);
    }
  }
}

interface Ground {
  readonly nats: NatsServer;
  readonly postgres: PostgresServer;
  readonly url: string;
  readonly sql: pg.Client;
  readonly admin: pg.Client;
  readonly agent: Bus;
  readonly gateway: Bus;
  readonly config: TelemetryConfig;
}

/** Lines a second from the stream into PostgreSQL, queryable: all frames wait in JetStream when telemetry starts. */
async function ingest({ sql, agent, config }: Ground): Promise<number> {
  const jobs = Array.from({ length: JOBS }, () => newId('job'));
  const perJob = Math.floor(LINES / JOBS);
  const frames = jobs.flatMap((job, i) => framesOf(job, i * perJob, perJob));
  for (let at = 0; at < frames.length; at += 64) {
    const some = frames.slice(at, at + 64);
    const ids = some.map((frame) => `${frame.job_id}.${frame.first_seq}`);
    await Promise.all(some.map((frame, i) => publish(agent, frame, ids[i] ?? '')));
  }
  const stored = async (): Promise<number> => {
    const { rows } = await sql.query<{ lines: string }>(
      'SELECT coalesce(sum(lines), 0) AS lines FROM log_attempts WHERE job_id = ANY($1)',
      [jobs],
    );
    return Number(rows[0]?.lines ?? 0);
  };
  const telemetry = await startTelemetry(config, { ownsProcess: false });
  let began = 0;
  let first = 0;
  for (let lines = 0; lines < perJob * JOBS; lines = await stored()) {
    if (lines > 0 && began === 0) {
      began = performance.now();
      first = lines;
    }
    await sleep(20);
  }
  const rate = (perJob * JOBS - first) / ((performance.now() - began) / 1000);
  await telemetry.close();
  return rate;
}

/** COPY of the same lines, a row each, from a file at the server, into a table that can be read by position. */
async function copy({ admin }: Ground, dir: string, indexed: boolean): Promise<number> {
  const file = join(dir, 'lines.tsv');
  const out = createWriteStream(file);
  const jobs = Array.from({ length: JOBS }, () => newId('job'));
  const perJob = Math.floor(LINES / JOBS);
  for (const [i, job] of jobs.entries()) {
    for (let seq = 1; seq <= perJob; seq++) {
      const row = [job, AGENT, 1, seq, new Date().toISOString(), 'info', 'apply', textOf(i * perJob + seq)].join('\t');
      if (!out.write(`${row}\n`)) await once(out, 'drain');
    }
  }
  out.end();
  await once(out, 'finish');
  chmodSync(file, 0o644);
  await admin.query(`DROP TABLE IF EXISTS bench_lines;
    CREATE TABLE bench_lines (job_id text, agent_id text, attempt integer, seq bigint, at timestamptz, level text, step text, text text
      ${indexed ? ', PRIMARY KEY (job_id, agent_id, attempt, seq)' : ''})`);
  await admin.query('CHECKPOINT');
  const began = performance.now();
  await admin.query(`COPY bench_lines FROM '${file}'`);
  const rate = (perJob * JOBS) / ((performance.now() - began) / 1000);
  await admin.query('DROP TABLE bench_lines');
  return rate;
}

/** Milliseconds from a line at the agent's mouth to a tailing reader's server-sent event. */
async function tail({ agent, gateway, config }: Ground, dir: string): Promise<number[]> {
  const telemetry = await startTelemetry(config, { ownsProcess: false });
  const jobId = newId('job');
  const job = { id: jobId, agent_id: AGENT, status: 'running', attempt: 1 } as Job;
  const wakeups = new Wakeups(new Lifecycle(new ServiceHealth()), new Metrics());
  gateway.onSignal(logsAppended, {}, (body) => wakeups.onLogsAppended(body));
  await gateway.connection.flush();
  const logs = new JobLogs(gateway, wakeups);
  const late: number[] = [];
  const gone = new AbortController();
  const total = RATE * SECONDS;
  const readers = Array.from({ length: READERS }, async () => {
    const stream = await logs.stream(job, {
      vendorId: newId('vendor'),
      type: 'text/event-stream',
      after: undefined,
      follow: true,
      gone: gone.signal,
    });
    let seen = 0;
    let held = '';
    for await (const chunk of stream.getStream()) {
      held += String(chunk);
      const events = held.split('\n\n');
      held = events.pop() ?? '';
      const now = Date.now();
      for (const event of events) {
        const at = /"at":"([^"]+)"/.exec(event)?.[1];
        if (at === undefined) continue;
        late.push(now - Date.parse(at));
        seen += 1;
      }
      if (seen >= total) return;
    }
  });
  const shipper = await LogShipper.open({ directory: join(dir, 'spool'), agentId: AGENT });
  shipper.start(agent);
  const log = shipper.of(jobId, 1);
  const began = performance.now();
  for (let sent = 0; sent < total;) {
    const due = Math.min(total, Math.floor(((performance.now() - began) / 1000) * RATE));
    for (; sent < due; sent++) log.write('info', 'apply', textOf(sent));
    await sleep(5);
  }
  log.end();
  await Promise.all(readers);
  gone.abort();
  await shipper.stop(1_000);
  await telemetry.close();
  return late;
}

const dir = mkdtempSync(join(tmpdir(), 'bench-logs-'));
chmodSync(dir, 0o755);
const postgres = await startPostgres({ dir: join(dir, 'postgres') });
const nats = await startNats({ dir: join(dir, 'nats') });
try {
  const url = await postgres.provisionService('telemetry');
  const creds = await nats.serviceCreds('telemetry');
  const config = Object.assign(new TelemetryConfig(), {
    DATABASE_URL: url,
    NATS_URLS: [nats.url],
    NATS_JWT: creds.jwt,
    NATS_SEED: creds.seed,
    HTTP_HOST: '127.0.0.1',
    HTTP_PORT: 0,
    VITALS_DAYS: 7,
    LOG_DAYS: 30,
  });
  const connect = async (name: string, credentials: { jwt: string; seed: string }): Promise<Bus> =>
    new Bus(await connectNats({ servers: [nats.url], name, inboxPrefix: inboxPrefix(name), credentials }));
  // Makes the tables, the streams and the consumer.
  await (await startTelemetry(config, { ownsProcess: false })).close();
  const [sql, admin] = [url, postgres.adminUrl()].map((connectionString) => new pg.Client({ connectionString }));
  if (sql === undefined || admin === undefined) throw new Error('no clients');
  // The server is stopped under them when a round fails, which must not hide why it did.
  for (const client of [sql, admin]) client.on('error', () => undefined);
  await Promise.all([sql.connect(), admin.connect()]);
  const ground: Ground = {
    nats,
    postgres,
    url,
    sql,
    admin,
    config,
    agent: await connect(AGENT, await nats.agentCreds('install', AGENT)),
    gateway: await connect('gateway', await nats.serviceCreds('gateway')),
  };
  console.log(
    `${availableParallelism()} cores, Node ${process.versions.node}, PostgreSQL and NATS here, both synced; ` +
      `${LINES} lines of ${JOBS} jobs, ${textOf(123_456).length} characters each, ${ROUNDS} rounds`,
  );
  const rates: Record<'ours' | 'copied' | 'heap', number[]> = { ours: [], copied: [], heap: [] };
  for (let round = 1; round <= ROUNDS; round++) {
    rates.copied.push(await copy(ground, dir, true));
    rates.heap.push(await copy(ground, dir, false));
    rates.ours.push(await ingest(ground));
    const of = (name: keyof typeof rates): string => (rates[name].at(-1) ?? 0).toFixed(0);
    console.log(
      `round ${round}: ${of('ours')} lines/s stored, COPY ${of('copied')} rows/s, without index ${of('heap')}`,
    );
  }
  const [ours, copied, heap] = [median(rates.ours), median(rates.copied), median(rates.heap)];
  console.log(
    `median: ${ours.toFixed(0)} lines/s: ${((100 * ours) / copied).toFixed(0)} % of COPY into an indexed table (goal 60 %), ` +
      `${((100 * ours) / heap).toFixed(0)} % of COPY into a bare one`,
  );
  const late = await tail(ground, dir);
  const p99 = quantile(late, 0.99);
  console.log(
    `tail: ${READERS} readers, ${RATE} lines/s for ${SECONDS} s: line to event p50 ${quantile(late, 0.5)} ms, ` +
      `p99 ${p99} ms (goal 250 ms), max ${quantile(late, 1)} ms`,
  );
  for (const bus of [ground.agent, ground.gateway]) await bus.connection.close();
  await Promise.all([sql.end(), admin.end()]);
  process.exitCode = ours >= 0.6 * copied && p99 <= 250 ? 0 : 1;
} finally {
  await Promise.all([postgres.stop(), nats.stop()]);
  rmSync(dir, { recursive: true, force: true });
}
