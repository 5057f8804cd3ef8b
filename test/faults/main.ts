import 'reflect-metadata';
import { parseArgs } from 'node:util';
import pc from 'picocolors';
import { drawReport } from '../../deploy/operations/history/draw.js';
import { isGood, runSeed, type Progress, type RunReport } from './run.js';

const USAGE = `usage: npm run test:faults -- [--seed N] [--seeds N] [--jobs N] [--nats 1|3] [--storm-seconds N]
Jobs over dozens of agents while schedulers, NATS, PostgreSQL and agents are killed, paused, stopped and cut off.
Then everything that is left (tables, agents' disks, effects in the world) is held against the promises.

  --seed N           the first seed (default 1); the same seed draws the same faults
  --seeds N          so many seeds, one after the other (default 1); odd ones on one NATS server, even ones on three
  --jobs N           about so many jobs a seed (default 300)
  --agents N         agents (default 24), on four hosts
  --nats 1|3         always one server, or always a cluster of three
  --pace N           1 (default): half of the product's lease; 2 on a busy machine
  --storm-seconds N  the storm ends then, if the work has not ended before (default 60)`;

const { values: flags } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    seeds: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '300' },
    agents: { type: 'string', default: '24' },
    nats: { type: 'string' },
    pace: { type: 'string', default: '1' },
    'storm-seconds': { type: 'string', default: '60' },
    help: { type: 'boolean' },
  },
});
if (flags.help === true) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}

const tty = process.stderr.isTTY;
let lastTold = -Infinity;
function tell(seed: number, { phase, seconds, total, ended, faults, now }: Progress): void {
  // On a terminal one line that is written over; in a log a line now and then.
  if (!tty && seconds - lastTold < 5) return;
  lastTold = seconds;
  const text = `seed ${seed}  ${phase.padEnd(5)} ${seconds.toFixed(0).padStart(3)} s  jobs ${ended}/${total}  faults ${faults}${now === '' ? '' : `  (${now})`}`;
  process.stderr.write(tty ? `\r\x1b[2K${text.slice(0, (process.stderr.columns ?? 100) - 1)}` : `${text}\n`);
}

function draw(report: RunReport): void {
  const { seed, jobs, attempts, lost, faults, seconds, troubles, kept } = report;
  const good = isGood(report);
  const kinds = [...faults].sort(([a], [b]) => a.localeCompare(b)).map(([kind, count]) => `${kind} ${count}`);
  if (tty) process.stderr.write('\r\x1b[2K');
  process.stdout.write(
    `${good ? pc.green('✓') : pc.red('✗')} seed ${seed}: ${jobs} jobs, ${attempts} attempts (${lost} lost), ${seconds.toFixed(0)} s\n`,
  );
  process.stdout.write(pc.dim(`    ${kinds.join(', ')}\n`));
  if (good) return;
  process.stdout.write(drawReport(report.reports));
  for (const trouble of troubles) process.stdout.write(`${pc.red('✗')} ${trouble}\n`);
  process.stdout.write(`    everything is in ${kept}; again: npm run test:faults -- --seed ${seed}\n`);
}

const first = Number(flags.seed);
const bad: number[] = [];
const all: RunReport[] = [];
for (let seed = first; seed < first + Number(flags.seeds); seed++) {
  lastTold = -Infinity;
  const natsServers = flags.nats === '1' ? 1 : flags.nats === '3' ? 3 : seed % 2 === 1 ? 1 : 3;
  const report = await runSeed({
    seed,
    jobs: Number(flags.jobs),
    installs: Number(flags.agents),
    hosts: 4,
    components: 4,
    natsServers,
    pace: Number(flags.pace),
    stormMs: Number(flags['storm-seconds']) * 1000,
    onProgress: (progress) => tell(seed, progress),
  });
  all.push(report);
  draw(report);
  if (!isGood(report)) bad.push(seed);
}
const sum = (of: (report: RunReport) => number): string =>
  all.reduce((total, each) => total + of(each), 0).toLocaleString('en');
const faults = sum((report) => [...report.faults.values()].reduce((a, b) => a + b, 0));
process.stdout.write(
  `\n${all.length} seeds, ${sum(({ jobs }) => jobs)} jobs, ${sum(({ attempts }) => attempts)} attempts, ${faults} faults: ` +
    (bad.length === 0 ? pc.green('0 lost, 0 doubled\n') : pc.red(`counterexamples in seeds ${bad.join(', ')}\n`)),
);
process.exit(bad.length === 0 ? 0 : 1);
