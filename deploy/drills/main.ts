import 'reflect-metadata';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { PROJECT_ROOT } from '#stack';
import { startBuildAgent } from '../local/agents.js';
import { startPlatform } from '../local/platform.js';
import { screen } from '../local/screen.js';
import { vendorOf } from '../local/shop.js';
import { accessTo, openGround, type Ground } from './ground.js';
import { DRILLS, playDrill } from './index.js';
import { type Findings } from './play.js';

const USAGE = `usage: npm run drill -- ${[...Object.keys(DRILLS), 'all'].join(' | ')} [--dir DIR]
Plays an attack and lists what the attacker got and what was refused, and by what. Exit code 0: all as it must be.
It is played on the demo when that is up, where it makes apps and installs named drill-…, and on an installation of
its own otherwise, which it takes down again.
  --dir    where the demo is (default .demo)`;
const WORDS = { got: 'GOT', refused: 'refused', then: 'then' } as const;

function draw({ drill, had, lines }: Findings): void {
  screen.title(`${drill}: the attacker has ${had}`);
  const odd = (expected: boolean): string => (expected ? '' : 'NOT AS IT MUST BE');
  screen.table(
    ['it tries to', 'and', 'by or worth', ''],
    lines.map(({ what, end, by, expected }) => [what, WORDS[end], by, odd(expected)]),
  );
}

/** The demo, or an installation of our own in a temporary folder. */
async function groundOf(dir: string, stoppers: (() => Promise<void> | void)[]): Promise<Ground> {
  const demo = await accessTo(dir);
  if (demo) {
    screen.done(`on the demo in ${dir}`);
    return openGround(demo);
  }
  const own = mkdtempSync(join(tmpdir(), 'vendor-cloud-drill-'));
  stoppers.push(() => rmSync(own, { recursive: true, force: true }));
  // PostgreSQL runs as a user of its own, who has to reach its data.
  chmodSync(own, 0o755);
  const platform = await startPlatform({ dir: own, onStep: (what) => screen.step(what) });
  stoppers.push(() => platform.stop());
  const { account } = await vendorOf(platform, 'acme');
  const buildAgent = await startBuildAgent(platform, () => Promise.resolve(account.build_agent));
  stoppers.push(() => buildAgent.stop());
  screen.done('on an installation of its own');
  return openGround(platform);
}

async function main(): Promise<number> {
  const { values: flags, positionals } = parseArgs({
    allowPositionals: true,
    options: { dir: { type: 'string' }, help: { type: 'boolean' } },
  });
  const asked = positionals[0] === 'all' ? Object.keys(DRILLS) : positionals;
  if (flags.help === true || asked.length === 0 || asked.some((name) => !Object.hasOwn(DRILLS, name))) {
    process.stderr.write(`${USAGE}\n`);
    return flags.help === true ? 0 : 2;
  }
  const stoppers: (() => Promise<void> | void)[] = [];
  const interrupted = new Promise<number>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve(130));
  });
  const run = async (): Promise<number> => {
    const ground = await groundOf(flags.dir ?? join(PROJECT_ROOT, '.demo'), stoppers);
    stoppers.push(() => ground.stop());
    const all: Findings[] = [];
    for (const name of asked) {
      screen.title(name);
      all.push(await playDrill(name, ground, ({ what, end, by }) => screen.step(`${what}: ${WORDS[end]}, ${by}`)));
    }
    all.forEach(draw);
    return all.every(({ lines }) => lines.every(({ expected }) => expected)) ? 0 : 1;
  };
  try {
    return await Promise.race([run(), interrupted]);
  } catch (error) {
    screen.failed(error instanceof Error ? error.message : String(error));
    return 1;
  } finally {
    for (const stop of stoppers.reverse()) await stop();
  }
}

process.exit(await main());
