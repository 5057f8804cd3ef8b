import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { checkHistory, type RuleReport } from '#domain';
import { linesOf } from '../../deploy/operations/history/read.js';
import { Random } from '../random.js';
import { gather, heldByAgents } from './evidence.js';
import { Ground } from './ground.js';
import { Storm } from './storm.js';
import { Work, type Standing } from './work.js';

export interface RunOptions {
  readonly seed: number;
  /** About so many jobs. */
  readonly jobs: number;
  readonly installs: number;
  readonly hosts: number;
  readonly components: number;
  readonly natsServers: 1 | 3;
  readonly pace: number;
  /** The storm ends after this time even when work is left; then all of it must end. */
  readonly stormMs: number;
  readonly onProgress?: (progress: Progress) => void;
}
export interface Progress extends Standing {
  readonly phase: 'start' | 'storm' | 'calm' | 'check';
  readonly seconds: number;
  readonly faults: number;
  readonly now: string;
}
export interface RunReport {
  readonly seed: number;
  readonly reports: readonly RuleReport[];
  /** What is wrong besides the history: processes that ended by themselves, work that did not end. */
  readonly troubles: readonly string[];
  readonly jobs: number;
  readonly attempts: number;
  readonly lost: number;
  readonly faults: ReadonlyMap<string, number>;
  readonly seconds: number;
  /** Where everything lies that the run left behind; empty when it is removed. */
  readonly kept: string;
}

/** The work must end so long after the last fault: leases, the longest back-off of a retry, and a slow machine. */
const CALM_MS = 180_000;
/** The agents' own disks are told by receipts, which are repeated. */
const RECEIPTS_MS = 20_000;

export const isGood = ({ reports, troubles }: RunReport): boolean =>
  troubles.length === 0 && reports.every(({ faults }) => faults.length === 0);

/** One seed: work through a storm, then the checker over everything that is left. */
export async function runSeed(options: RunOptions): Promise<RunReport> {
  const began = performance.now();
  const seconds = (): number => (performance.now() - began) / 1000;
  const ground = await Ground.open({
    seed: options.seed,
    natsServers: options.natsServers,
    hosts: options.hosts,
    pace: options.pace,
  });
  let good = false;
  try {
    const perWave = options.installs * options.components * 2;
    const waves = Math.max(1, Math.round(options.jobs / perWave));
    const work = new Work(ground, { installs: options.installs, components: options.components, waves });
    let standing: Standing = { total: 0, ended: 0, deployments: 0 };
    let phase: Progress['phase'] = 'start';
    let storm: Storm | undefined;
    const telling = setInterval(() => {
      void work.standing().then(
        (now) => (standing = now),
        () => undefined,
      );
      options.onProgress?.({
        ...standing,
        phase,
        seconds: seconds(),
        faults: storm?.struck ?? 0,
        now: storm?.now ?? '',
      });
    }, 1_000);
    const giveUp = new AbortController();
    try {
      await work.prepare();
      storm = new Storm(ground, new Random(options.seed));
      phase = 'storm';
      const raging = storm.rage();
      const working = work.run(giveUp.signal);
      await Promise.race([working, delay(options.stormMs)]);
      storm.stop();
      await raging;
      phase = 'calm';
      const late = setTimeout(() => giveUp.abort(), CALM_MS);
      await working;
      clearTimeout(late);
      const troubles = [...storm.deaths];
      if (giveUp.signal.aborted) troubles.push(`work was left ${CALM_MS / 1000} s after the last fault`);
      const end = performance.now() + RECEIPTS_MS;
      while (heldByAgents(ground).length > 0 && performance.now() < end) await delay(250);
      const held = heldByAgents(ground);
      if (held.length > 0) troubles.push(`agents still hold ${held.slice(0, 5).join(', ')} (${held.length})`);
      phase = 'check';
      storm.close();
      const history = await gather(ground, work);
      // One machine, one clock; what PostgreSQL rounds and how late `now()` is read is all that may differ.
      const reports = checkHistory(history, { skewMs: 20, cancelMs: 6_000 * options.pace });
      await pipeline(Readable.from(linesOf(history)), createWriteStream(join(ground.dir, 'history.ndjson')));
      const outcome = {
        seed: options.seed,
        reports,
        troubles,
        jobs: history.jobs.length,
        attempts: history.attempts.length,
        lost: history.attempts.filter(({ status }) => status === 'lost').length,
        faults: storm.counts,
        seconds: seconds(),
      };
      good = isGood({ ...outcome, kept: '' });
      return { ...outcome, kept: good ? '' : ground.dir };
    } finally {
      clearInterval(telling);
      giveUp.abort();
      storm?.stop();
      storm?.close();
    }
  } finally {
    await ground.close(!good);
  }
}
