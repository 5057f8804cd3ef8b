import 'reflect-metadata';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startPlatform } from '../../deploy/local/platform.js';
import { enrolScripted } from '../e2e/scripted-agent.js';
import { fuzz } from './run.js';

const USAGE = `usage: npm run test:fuzz -- [--inputs N] [--seed N]
Sends inputs drawn from /openapi.json to every route of an installation of its own, and broken payloads to every subject
that an agent may use. Ends with 1 when something answers 5xx, ends, or tells of another vendor.

  --inputs N   so many (default 100000); one in five goes to the agents' subjects
  --seed N     default 1; the same seed draws the same inputs`;

const { values: flags } = parseArgs({
  options: {
    inputs: { type: 'string', default: '100000' },
    seed: { type: 'string', default: '1' },
    help: { type: 'boolean' },
  },
});
if (flags.help === true) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
const inputs = Number(flags.inputs);
const payloads = Math.floor(inputs / 5);
const dir = mkdtempSync(join(tmpdir(), 'vendor-cloud-fuzz-'));
// PostgreSQL runs as a user of its own, who has to reach its data.
chmodSync(dir, 0o755);
const unlimited = { RATE_REQUESTS: '1000000000', RATE_EXPENSIVE: '1000000000', RATE_ENROLMENTS: '1000000000' };
const platform = await startPlatform({ dir, gateway: unlimited });
const begun = performance.now();
let good = false;
try {
  const report = await fuzz(platform, {
    seed: Number(flags.seed),
    requests: inputs - payloads,
    payloads,
    enrol: (rest, install) => enrolScripted({ platform, rest }, install),
    tell: (done) => process.stderr.write(`${done} requests\n`),
  });
  const statuses = [...report.statuses].sort(([a], [b]) => a - b).map(([status, count]) => `${status} ${count}`);
  for (const fault of report.faults) process.stdout.write(`✗ ${fault}\n`);
  good = report.faults.length === 0;
  const seconds = ((performance.now() - begun) / 1000).toFixed(0);
  process.stdout.write(
    `${good ? '✓' : '✗'} seed ${flags.seed}: ${report.requests} requests, ${report.payloads} payloads, ${seconds} s\n` +
      `    ${statuses.join(', ')}\n`,
  );
} finally {
  await platform.stop();
  if (good) rmSync(dir, { recursive: true, force: true });
  else process.stdout.write(`    logs are in ${join(dir, 'logs')}\n`);
}
process.exit(good ? 0 : 1);
