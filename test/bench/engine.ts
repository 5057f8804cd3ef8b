import 'reflect-metadata';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startPostgres } from '#stack';
import { type Contestant, type Start } from './engine/contestant.js';
import { ours } from './engine/ours.js';
import { bullMq, graphileWorker, pgBoss } from './engine/peers.js';

const { values: flags } = parseArgs({
  options: {
    installs: { type: 'string', default: '100' },
    rounds: { type: 'string', default: '5' },
    /** Jobs a second of the latency part. */
    pace: { type: 'string', default: '40' },
    seconds: { type: 'string', default: '5' },
    /** Jobs for each install of the throughput part. */
    jobs: { type: 'string', default: '20' },
    replicas: { type: 'string', default: '1' },
    only: { type: 'string', default: 'ours,pg-boss,pg-boss-batches,graphile-worker,bullmq' },
  },
});
const INSTALLS = Number(flags.installs);
const ROUNDS = Number(flags.rounds);
const CALLERS = 32;

const sorted = (values: readonly number[]): number[] => [...values].sort((a, b) => a - b);
const at = (values: readonly number[], share: number): number =>
  sorted(values)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? NaN;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Figures {
  readonly p50: number[];
  readonly p99: number[];
  readonly rate: number[];
}

/** One contestant through its rounds; nobody else runs meanwhile. */
async function measure(start: Start): Promise<{ name: string } & Figures> {
  const startedAt = new Map<string, number>();
  const contestant = await start(INSTALLS, (key) => startedAt.set(key, performance.now()));
  const figures: Figures = { p50: [], p99: [], rate: [] };
  try {
    await latency(contestant, startedAt, 1);
    for (let round = 1; round <= ROUNDS; round++) {
      const waits = await latency(contestant, startedAt, Number(flags.seconds));
      figures.p50.push(at(waits, 0.5));
      figures.p99.push(at(waits, 0.99));
      figures.rate.push(await throughput(contestant));
      startedAt.clear();
      console.error(
        `${contestant.name} ${round}/${ROUNDS}: start p50 ${figures.p50.at(-1)?.toFixed(1)} ms, ` +
          `p99 ${figures.p99.at(-1)?.toFixed(1)} ms; ${figures.rate.at(-1)?.toFixed(0)} jobs/s`,
      );
    }
  } finally {
    await contestant.stop();
  }
  return { name: contestant.name, ...figures };
}

/** Enqueue to start, at an even pace, each job for the next install. Milliseconds. */
async function latency(contestant: Contestant, startedAt: Map<string, number>, seconds: number): Promise<number[]> {
  const everyMs = 1000 / Number(flags.pace);
  const began = performance.now();
  const jobs: Promise<{ key: string; at: number }>[] = [];
  for (let n = 0; n < seconds * Number(flags.pace); n++) {
    await pause(Math.max(0, began + n * everyMs - performance.now()));
    const at = performance.now();
    jobs.push(contestant.enqueue(n).then((key) => ({ key, at })));
  }
  const enqueued = await Promise.all(jobs);
  await drained(contestant);
  return enqueued.map(({ key, at }) => (startedAt.get(key) ?? NaN) - at).filter((ms) => !Number.isNaN(ms));
}

/** Jobs a second from the first enqueue to the last recorded completion, enqueued by so many callers. */
async function throughput(contestant: Contestant): Promise<number> {
  const total = INSTALLS * Number(flags.jobs);
  const began = performance.now();
  let next = 0;
  await Promise.all(
    Array.from({ length: CALLERS }, async () => {
      while (next < total) await contestant.enqueue(next++);
    }),
  );
  await drained(contestant);
  return total / ((performance.now() - began) / 1000);
}

async function drained(contestant: Contestant): Promise<void> {
  while ((await contestant.open()) > 0) await pause(10);
}

const dir = mkdtempSync(join(tmpdir(), 'bench-postgres-'));
chmodSync(dir, 0o755);
const postgres = await startPostgres({ dir: join(dir, 'postgres') });
try {
  const starts: Record<string, Start> = {
    ours: ours(postgres, Number(flags.replicas)),
    'pg-boss': pgBoss(postgres, false),
    'pg-boss-batches': pgBoss(postgres, true),
    'graphile-worker': graphileWorker(postgres),
    bullmq: bullMq,
  };
  console.error(
    `${availableParallelism()} cores, Node ${process.versions.node}; ${INSTALLS} installs with one job at a time each, ` +
      `medians of ${ROUNDS} rounds`,
  );
  const results = [];
  for (const name of flags.only.split(',')) {
    const start = starts[name];
    if (!start) throw new Error(`--only knows ${Object.keys(starts).join(', ')}`);
    results.push(await measure(start));
  }
  console.log(`${''.padEnd(26)}start p50      p99     jobs/s`);
  for (const { name, p50, p99, rate } of results) {
    const ms = (values: number[]): string => `${at(values, 0.5).toFixed(1)} ms`.padStart(9);
    console.log(`${name.padEnd(26)}${ms(p50)}${ms(p99)}${at(rate, 0.5).toFixed(0).padStart(11)}`);
  }
} finally {
  await postgres.stop();
  rmSync(dir, { recursive: true, force: true });
}
