import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Queue, Worker } from 'bullmq';
import { Logger, makeWorkerUtils, run as runGraphile } from 'graphile-worker';
import { Pool } from 'pg';
import { PgBoss } from 'pg-boss';
import { freePort, type PostgresServer } from '#stack';
import { type Contestant, type Start } from './contestant.js';

interface Payload {
  readonly key: string;
}

/**
 * pg-boss with its notify mode. Serial: an install is a queue of its own with one worker. In batches: one queue for all,
 * fetched and completed fifty at a time, which no longer keeps the jobs of an install apart.
 */
export const pgBoss =
  (postgres: PostgresServer, batches: boolean): Start =>
  async (installs, started): Promise<Contestant> => {
    const connectionString = await postgres.createDatabase(`bench_pg_boss_${batches ? 'batches' : 'serial'}`);
    const boss = new PgBoss({ connectionString, max: 10, useListenNotify: true });
    boss.on('error', () => undefined);
    await boss.start();
    const queues = batches ? ['bench'] : Array.from({ length: installs }, (_, n) => `bench-${n}`);
    for (const queue of queues) {
      await boss.createQueue(queue, { notify: true });
      const how = batches ? { batchSize: 50, localConcurrency: 4 } : { batchSize: 1 };
      await boss.work<Payload>(queue, { ...how, pollingIntervalSeconds: 0.5 }, async (jobs) => {
        for (const { data } of jobs) started(data.key);
        await Promise.resolve();
      });
    }
    const looking = new Pool({ connectionString, max: 1 });
    looking.on('error', () => undefined);
    return {
      name: batches ? 'pg-boss in batches' : 'pg-boss',
      enqueue: async (install) => {
        const key = randomUUID();
        await boss.send(queues[install % queues.length] ?? '', { key });
        return key;
      },
      open: () => count(looking, "SELECT count(*) FROM pgboss.job WHERE name LIKE 'bench%' AND state < 'completed'"),
      stop: async () => {
        await looking.end();
        await boss.stop({ graceful: false });
      },
    };
  };

/** graphile-worker with its performance preset; an install is a named queue. */
export const graphileWorker =
  (postgres: PostgresServer): Start =>
  async (_installs, started): Promise<Contestant> => {
    const connectionString = await postgres.createDatabase('bench_graphile');
    const looking = new Pool({ connectionString, max: 1 });
    looking.on('error', () => undefined);
    const utils = await makeWorkerUtils({ connectionString });
    await utils.migrate();
    const runner = await runGraphile({
      connectionString,
      maxPoolSize: 12,
      concurrency: 24,
      pollInterval: 500,
      noHandleSignals: true,
      taskList: {
        bench: async (payload) => {
          started((payload as Payload).key);
          await Promise.resolve();
        },
      },
      preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0, localQueue: { size: 200 } } },
      logger: new Logger(() => () => undefined),
    });
    return {
      name: 'graphile-worker',
      enqueue: async (install) => {
        const key = randomUUID();
        await utils.addJob('bench', { key }, { queueName: `install-${install}` });
        return key;
      },
      // A completed job is deleted.
      open: () => count(looking, 'SELECT count(*) FROM graphile_worker._private_jobs'),
      stop: async () => {
        await runner.stop().catch(() => undefined);
        await utils.release();
        await looking.end();
      },
    };
  };

/** BullMQ on a Redis that flushes each write before it answers; an install is a queue with one worker. */
export const bullMq: Start = async (installs, started): Promise<Contestant> => {
  const dir = mkdtempSync(join(tmpdir(), 'bench-redis-'));
  const port = await freePort();
  const redis = spawn(
    'redis-server',
    ['--port', String(port), '--dir', dir, '--appendonly', 'yes', '--appendfsync', 'always', '--save', ''],
    { stdio: 'ignore' },
  );
  const connection = { host: '127.0.0.1', port, maxRetriesPerRequest: null };
  const queues = Array.from({ length: installs }, (_, n) => new Queue<Payload>(`install-${n}`, { connection }));
  const workers = queues.map(({ name }) => {
    const worker = new Worker<Payload>(
      name,
      async ({ data }) => {
        started(data.key);
        await Promise.resolve();
      },
      { connection, concurrency: 1 },
    );
    worker.on('error', () => undefined);
    return worker;
  });
  await Promise.all(workers.map((worker) => worker.waitUntilReady()));
  return {
    name: 'BullMQ',
    enqueue: async (install) => {
      const key = randomUUID();
      await queues[install % installs]?.add('bench', { key });
      return key;
    },
    open: async () => {
      const counts = await Promise.all(
        queues.map((queue) => queue.getJobCountByTypes('waiting', 'active', 'prioritized')),
      );
      return counts.reduce((sum, n) => sum + n, 0);
    },
    stop: async () => {
      await Promise.all(workers.map((worker) => worker.close(true)));
      await Promise.all(queues.map((queue) => queue.close()));
      redis.kill('SIGTERM');
      await new Promise((resolve) => redis.once('exit', resolve));
      rmSync(dir, { recursive: true, force: true });
    },
  };
};

async function count(pool: Pool, sql: string): Promise<number> {
  const { rows } = await pool.query<{ count: string }>(sql);
  return Number(rows[0]?.count ?? 0);
}
