import 'reflect-metadata';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Deployment, type Release } from '#contracts';
import { startBuildAgent, startCustomer } from '../../deploy/local/agents.js';
import { startPlatform } from '../../deploy/local/platform.js';
import { timeShares, type JobHistory, type TimeShares } from '../../deploy/local/progress.js';
import { screen } from '../../deploy/local/screen.js';
import {
  buildAll,
  declareProduct,
  deploy,
  enrolmentToken,
  installOf,
  shopProduct,
  vendorOf,
} from '../../deploy/local/shop.js';
import { median } from './median.js';

const { values: flags } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    goal: { type: 'string', default: '500' },
    timeline: { type: 'boolean', default: false },
  },
});
const ROUNDS = Number(flags.rounds);
const GOAL_MS = Number(flags.goal);
/** Three components of three kinds in two steps: the job needs the database's host and the web image. */
const COMPONENTS = ['database', 'web', 'migrate'];
const QUIET = { step: () => undefined, end: () => undefined };

interface Round extends TimeShares {
  readonly what: string;
}

/** When each job was granted, its steps began and it ended, in milliseconds from the request. */
function timeline({ created_at }: Deployment, histories: readonly JobHistory[]): void {
  const at = (time: string | null | undefined): number => Date.parse(time ?? '') - Date.parse(created_at);
  const rows = histories.map(({ job, attempts }) => [
    `${job.kind} ${job.component.name}`,
    String(at(attempts[0]?.granted_at)),
    (attempts[0]?.steps ?? [])
      .map(({ name, started_at, duration_ms, tool_ms }) => `${name} ${at(started_at)}+${duration_ms}(${tool_ms})`)
      .join('  '),
    String(at(job.finished_at)),
  ]);
  screen.table(['job', 'granted', 'step start+length(tool)', 'ended'], rows);
}

const dir = mkdtempSync(join(tmpdir(), 'vendor-cloud-bench-'));
// PostgreSQL runs as a user of its own, who has to reach its data.
chmodSync(dir, 0o755);
const running: { stop(): Promise<void> }[] = [];
try {
  const platform = await startPlatform({ dir });
  running.push(platform);
  const { rest, account } = await vendorOf(platform, 'acme');
  running.push(await startBuildAgent(platform, () => Promise.resolve(account.build_agent)));
  const shop = await shopProduct(platform);
  const components = shop.components.filter(({ name }) => COMPONENTS.includes(name));
  const app = await declareProduct(rest, { ...shop, components });
  const { builds } = await buildAll(rest, app, QUIET);
  const bad = builds.find(({ status }) => status !== 'succeeded');
  if (bad) throw new Error(`${bad.component_name} was not built: ${bad.error?.detail}`);
  const release = await rest.post<Release>(`/v1/apps/${app.id}/releases`, { version: '1.0.0' });
  const install = await installOf(rest, app, 'globex', { region: 'eu-central-1', replicas: 2 });
  running.push(await startCustomer(platform, 'globex', () => enrolmentToken(rest, install)));

  const rounds: Round[] = [];
  for (let round = 0; round <= ROUNDS; round += 1) {
    const from = await deploy(rest, install, { kind: 'deploy', release_id: release.id }, QUIET);
    rounds.push({ what: round === 0 ? 'first' : 'anew', ...timeShares(from.deployment, from.histories) });
    if (flags.timeline) timeline(from.deployment, from.histories);
    const same = await deploy(rest, install, { kind: 'deploy', release_id: release.id }, QUIET);
    rounds.push({ what: round === 0 ? 'first again' : 'again', ...timeShares(same.deployment, same.histories) });
    const { deployment } = await deploy(rest, install, { kind: 'teardown' }, QUIET);
    for (const { status } of [from.deployment, same.deployment, deployment])
      if (status !== 'succeeded') throw new Error(`a deployment ${status}`);
  }
  const row = ({ what, wallMs, toolMs, transferMs, restMs }: Round): string[] =>
    [what, wallMs, toolMs, transferMs, restMs].map((cell) => (typeof cell === 'number' ? `${cell} ms` : cell));
  screen.table(['deployment', 'in all', 'tools', 'copying', 'the rest'], rounds.map(row));
  const anew = median(rounds.filter(({ what }) => what === 'anew').map(({ restMs }) => restMs));
  const again = median(rounds.filter(({ what }) => what === 'again').map(({ restMs }) => restMs));
  console.log(`\nmedian beside tools and copying: anew ${anew} ms, the same again ${again} ms; goal ${GOAL_MS} ms`);
  if (anew > GOAL_MS) process.exitCode = 1;
} finally {
  for (const each of running.reverse()) await each.stop();
  rmSync(dir, { recursive: true, force: true });
}
