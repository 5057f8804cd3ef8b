import 'reflect-metadata';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { cancelDeployment, createDeployment, type Deployment } from '#contracts';
import { Ground } from '../faults/ground.js';
import { Work } from '../faults/work.js';

const { values: flags } = parseArgs({
  options: {
    /** Each runs so many jobs at once as it has slots. */
    agents: { type: 'string', default: '25' },
    hosts: { type: 'string', default: '5' },
    rounds: { type: 'string', default: '2' },
  },
});
const SLOTS = 4;
const LOOK_MS = 20;
const LIMITS_MS = { signal: 1_000, gone: 11_000, offered: 15_000 };

/** What a stubborn job has told: its processes, and when it was asked to stop. */
interface Told {
  readonly job: string;
  readonly attempt: number;
  readonly pids: readonly number[];
  intAt?: number;
  goneAt?: number;
}

function readTold(ground: Ground): Map<string, Told> {
  const told = new Map<string, Told>();
  for (const file of readdirSync(ground.effects)) {
    for (const line of readFileSync(join(ground.effects, file), 'utf8').trim().split('\n')) {
      const [job = '', attempt = '', , word = '', at] = line.split(' ');
      const key = `${job}.${attempt}`;
      if (word.startsWith('pids:')) {
        told.set(key, { job, attempt: Number(attempt), pids: word.split(':').slice(1).map(Number) });
      }
      const known = told.get(key);
      if (word === 'int' && known) known.intAt ??= Number(at) * 1000;
    }
  }
  return told;
}

async function until(what: string, look: () => boolean | Promise<boolean>, limitMs = 120_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await look())) {
    if (performance.now() > end) throw new Error(`waited in vain for ${what}`);
    await delay(LOOK_MS);
  }
}

/** Every install deploys; resolves when all slots of all agents run a job that will not end by itself. */
async function fill(ground: Ground, work: Work): Promise<{ deployments: Deployment[]; running: Told[] }> {
  const before = new Set(readTold(ground).keys());
  const [release] = work.releases;
  if (!release) throw new Error('there is no release');
  const order = { kind: 'deploy' as const, release_id: release.id };
  const deployments = await Promise.all(
    work.installs.map(({ id }) =>
      ground.call(createDeployment, { vendor_id: work.vendorId, install_id: id, deployment: order }),
    ),
  );
  const fresh = (): Told[] => [...readTold(ground)].filter(([key]) => !before.has(key)).map(([, each]) => each);
  await until('all jobs to run', () => fresh().length >= work.installs.length * SLOTS);
  return { deployments, running: fresh() };
}

const isThere = (pid: number): boolean => existsSync(`/proc/${pid}`);

/** Looks until every process is gone, and notes when. */
async function watchEnd(running: readonly Told[]): Promise<void> {
  await until('all processes to end', () => {
    for (const each of running) if (each.goneAt === undefined && !each.pids.some(isThere)) each.goneAt = Date.now();
    return running.every(({ goneAt }) => goneAt !== undefined);
  });
}

function print(what: string, values: readonly number[], limitMs: number): boolean {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (part: number): number =>
    Math.round(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? NaN);
  const good = sorted.length > 0 && at(0.99) <= limitMs;
  const figures = `p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, most ${at(1)} ms`;
  process.stdout.write(
    `${good ? '✓' : '✗'} ${what.padEnd(44)} ${sorted.length} tries  ${figures}  (goal ${limitMs} ms)\n`,
  );
  return good;
}

const ground = await Ground.open({
  seed: 1,
  natsServers: 1,
  hosts: Number(flags.hosts),
  pace: 'product',
  work: 'stubborn',
});
let good = true;
try {
  const work = new Work(ground, { installs: Number(flags.agents), components: SLOTS, waves: 1 });
  await work.prepare();
  const signals: number[] = [];
  const ends: number[] = [];
  const proofs: number[] = [];
  for (let round = 0; round < Number(flags.rounds); round++) {
    const { deployments, running } = await fill(ground, work);
    const askedAt = new Map<string, number>();
    const rows = await ground.sql<{ id: string; deployment_id: string }>(
      'SELECT id, deployment_id FROM jobs WHERE deployment_id IS NOT NULL',
    );
    const deploymentOf = new Map(rows.map(({ id, deployment_id }) => [id, deployment_id]));
    const cancelling = deployments.map(async ({ id }) => {
      askedAt.set(id, Date.now());
      await ground.call(cancelDeployment, {
        vendor_id: work.vendorId,
        deployment_id: id,
        cancel: { reason: 'measured' },
      });
    });
    await Promise.all([watchEnd(running), ...cancelling]);
    const ids = running.map(({ job }) => job);
    await until('all jobs to be cancelled', async () => {
      const left = await ground.sql(`SELECT 1 FROM jobs WHERE id = ANY($1) AND status <> 'cancelled'`, [ids]);
      return left.length === 0;
    });
    const facts = await ground.sql<{ job_id: string; at: Date }>(
      `SELECT job_id, at FROM events WHERE job_id = ANY($1) AND type = 'job.cancelled'`,
      [ids],
    );
    const provenAt = new Map(facts.map(({ job_id, at }) => [job_id, at.getTime()]));
    const heard = readTold(ground);
    for (const each of running) {
      const from = askedAt.get(deploymentOf.get(each.job) ?? '') ?? NaN;
      signals.push((heard.get(`${each.job}.${each.attempt}`)?.intAt ?? NaN) - from);
      ends.push((each.goneAt ?? NaN) - from);
      proofs.push((provenAt.get(each.job) ?? NaN) - from);
    }
    await until('all deployments to end', async () => (await work.standing()).deployments === 0);
  }
  good = print('cancel to signal', signals, LIMITS_MS.signal) && good;
  good = print('cancel to every process gone', ends, LIMITS_MS.gone) && good;
  good = print('cancel to the proof in PostgreSQL', proofs, LIMITS_MS.gone) && good;

  const { running } = await fill(ground, work);
  const ids = running.map(({ job }) => job);
  const lostAt = Date.now();
  // Half of the hosts die, the others are only stopped: the keepers of their programs have to act.
  await Promise.all(
    ground.hosts.map(async ({ service }, i) => {
      if (i % 2 === 0) await service.kill();
      else if (service.pid !== undefined) process.kill(service.pid, 'SIGSTOP');
    }),
  );
  await watchEnd(running);
  type Lost = { job_id: string; at: Date; lease_until: string };
  let lost: Lost[] = [];
  await until('all attempts to be lost', async () => {
    const text = `SELECT job_id, at, data->>'lease_until' AS lease_until FROM events WHERE job_id = ANY($1) AND type = 'job.lost'`;
    lost = await ground.sql<Lost>(text, [ids]);
    return lost.length >= ids.length;
  });
  good =
    print(
      'agent lost to job offered again',
      lost.map(({ at }) => at.getTime() - lostAt),
      LIMITS_MS.offered,
    ) && good;
  const leases = new Map(lost.map(({ job_id, lease_until }) => [job_id, Date.parse(lease_until)]));
  const late = running.filter(({ job, goneAt }) => (goneAt ?? Infinity) > (leases.get(job) ?? 0) + LOOK_MS);
  process.stdout.write(
    `${late.length === 0 ? '✓' : '✗'} programs that outlived their lease: ${late.length} of ${running.length}\n`,
  );
  good = good && late.length === 0;
  for (const { service } of ground.hosts) if (service.pid !== undefined) process.kill(service.pid, 'SIGCONT');
} finally {
  await ground.close(false);
}
process.exit(good ? 0 : 1);
