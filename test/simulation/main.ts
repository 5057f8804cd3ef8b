import 'reflect-metadata';
import { parseArgs } from 'node:util';
import pc from 'picocolors';
import { drawReport } from '../../deploy/operations/history/draw.js';
import { simulate } from './simulate.js';

const USAGE = `usage: npm run simulate -- [--seed N] [--jobs N] [--world N]
The rules of the job engine, agents and a wire with faults in one process and virtual time, held against the promises.

  --seed N   the first seed (default 1)
  --jobs N   about so many jobs in all (default 100000)
  --world N  jobs of one world, each with a seed of its own (default 500)`;

const { values: flags } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    jobs: { type: 'string', default: '100000' },
    world: { type: 'string', default: '500' },
    help: { type: 'boolean' },
  },
});
if (flags.help === true) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
const [first, wanted, world] = [
  Number(flags.seed),
  Number(flags.jobs),
  Math.min(Number(flags.world), Number(flags.jobs)),
];
const began = performance.now();
const total = { jobs: 0, attempts: 0, lost: 0, faults: 0, virtualMs: 0, worlds: 0 };
const bad: number[] = [];
for (let seed = first; total.jobs < wanted; seed++) {
  const report = simulate({ seed, jobs: world });
  total.worlds += 1;
  for (const key of ['jobs', 'attempts', 'lost', 'faults', 'virtualMs'] as const) total[key] += report[key];
  if (report.stuck.length > 0 || report.reports.some(({ faults }) => faults.length > 0)) {
    bad.push(seed);
    process.stdout.write(`${pc.red('✗')} seed ${seed}\n${drawReport(report.reports)}`);
    for (const stuck of report.stuck.slice(0, 5)) process.stdout.write(`${pc.red('✗')} not ended: ${stuck}\n`);
    process.stdout.write(
      `    again: npm run simulate -- --seed ${seed} --jobs ${world}; keep it in test/simulation/seeds.ts\n`,
    );
    if (bad.length === 5) break;
  } else if (process.stderr.isTTY) {
    process.stderr.write(
      `\r\x1b[2Kseed ${seed}  ${total.jobs.toLocaleString('en')} of ${wanted.toLocaleString('en')} jobs`,
    );
  }
}
if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
const n = (value: number): string => value.toLocaleString('en');
const seconds = (performance.now() - began) / 1000;
process.stdout.write(
  `${n(total.jobs)} jobs in ${n(total.worlds)} worlds, ${n(total.attempts)} attempts (${n(total.lost)} lost), ${n(total.faults)} faults beside lost and doubled messages, ` +
    `${n(Math.round(total.virtualMs / 3_600_000))} h in ${seconds.toFixed(1)} s: ${bad.length === 0 ? pc.green('0 lost, 0 doubled') : pc.red(`counterexamples in seeds ${bad.join(', ')}`)}\n`,
);
process.exit(bad.length === 0 ? 0 : 1);
