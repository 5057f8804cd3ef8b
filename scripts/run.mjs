#!/usr/bin/env node
/**
 * The one entry of every npm script. Runs on any Node from 18 on with nothing installed: brings the Node that the
 * project asks for, the packages of the lock file and a fresh build, then runs the command.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NODE_VERSION = '24.21.0';
const NODE_FLOOR = [22, 18];
const BIN = join(ROOT, 'node_modules', '.bin');
const say = (text) => process.stderr.write(`\x1b[2m· ${text}\x1b[0m\n`);
const fail = (text) => {
  process.stderr.write(`${text}\n`);
  process.exit(1);
};

/** Node's packages on npm carry the official binaries, so npm alone is enough to bring the version that we need. */
function ensureNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > NODE_FLOOR[0] || (major === NODE_FLOOR[0] && minor >= NODE_FLOOR[1])) return;
  const home = join(ROOT, '.cache', 'node', NODE_VERSION);
  const node = join(home, 'node_modules', 'node', 'bin', 'node');
  if (!existsSync(node)) {
    say(`Node ${process.versions.node} is too old: installing Node ${NODE_VERSION} into .cache/node (once)`);
    mkdirSync(home, { recursive: true });
    const done = spawnSync(
      'npm',
      ['install', '--prefix', home, '--no-save', '--no-audit', '--no-fund', '--loglevel=error', `node@${NODE_VERSION}`],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    if (done.status !== 0 || !existsSync(node))
      fail(`Could not install Node ${NODE_VERSION} with npm. Install Node >= ${NODE_FLOOR.join('.')} and try again.`);
  }
  const again = spawn(node, process.argv.slice(1), {
    stdio: 'inherit',
    env: { ...process.env, PATH: `${dirname(node)}:${process.env.PATH}` },
  });
  return forward(again);
}

/** Waits for a child and ends as it ended; Ctrl-C reaches the child through the terminal, a kill is passed on. */
function forward(child) {
  process.on('SIGINT', () => {});
  process.on('SIGTERM', () => child.kill('SIGTERM'));
  return new Promise(() => {
    child.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)));
  });
}

/** `npm ci` when the lock file is not the one that node_modules was made from. */
function ensurePackages() {
  const lock = createHash('sha256')
    .update(readFileSync(join(ROOT, 'package-lock.json')))
    .digest('hex');
  const stamp = join(ROOT, 'node_modules', '.lock-digest');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  say('installing npm packages (npm ci)');
  const done = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (done.status !== 0) fail('npm ci failed; its message is above.');
  writeFileSync(stamp, lock);
}

/** Runs one tool of ours and stops everything when it fails. */
function must(title, command, args, env = {}) {
  const started = Date.now();
  const done = spawnSync(command, args, { cwd: ROOT, stdio: 'inherit', env: { ...process.env, ...env } });
  if (done.status !== 0) fail(`✗ ${title} failed: ${[command.replace(`${BIN}/`, ''), ...args].join(' ')}`);
  say(`${title} ok (${((Date.now() - started) / 1000).toFixed(1)} s)`);
}

/** JavaScript for every room, without type check (that is `check`): 0.5 s for the whole tree. */
function build() {
  for (const path of [
    'libs',
    'deploy',
    'test',
    ...readdirIfThere(join(ROOT, 'dist/apps')).map((app) => `apps/${app}`),
  ]) {
    if (path !== PAGE) rmSync(join(ROOT, 'dist', path), { recursive: true, force: true });
  }
  const done = spawnSync(
    join(BIN, 'swc'),
    [
      'apps',
      'libs',
      'deploy',
      'test',
      '-d',
      'dist',
      '--config-file',
      '.swcrc',
      '--ignore',
      `**/*.spec.ts,${PAGE}/**`,
      '--quiet',
    ],
    { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] },
  );
  if (done.status !== 0) fail('The build failed; its message is above.');
  buildPage();
}

const PAGE = 'apps/dashboard';

/** The web page, when its sources are not those that it was built from: 3 s. */
function buildPage() {
  const digest = createHash('sha256');
  for (const room of [PAGE, 'libs/client/src']) {
    for (const name of readdirSync(join(ROOT, room), { recursive: true }).sort()) {
      const file = join(ROOT, room, name);
      if (statSync(file).isFile()) digest.update(`${room}/${name}\n`).update(readFileSync(file));
    }
  }
  const sources = digest.update(readFileSync(join(ROOT, 'package-lock.json'))).digest('hex');
  const stamp = join(ROOT, 'dist', PAGE, '.sources');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === sources) return;
  const done = spawnSync(join(BIN, 'vite'), ['build', '--config', `${PAGE}/vite.config.ts`, '--logLevel', 'warn'], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  if (done.status !== 0) fail('The web page could not be built; the message is above.');
  writeFileSync(stamp, sources);
}

const readdirIfThere = (dir) => (existsSync(dir) ? readdirSync(dir) : []);

/** One piece of the gate; what it prints is shown when it fails. */
function piece({ title, command, args }) {
  const started = Date.now();
  return new Promise((resolve) => {
    const chunks = [];
    const child = spawn(command, args, { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => chunks.push(chunk));
    child.on('close', (code) => {
      if (code === 0) say(`${title} ok (${((Date.now() - started) / 1000).toFixed(1)} s)`);
      else {
        process.stderr.write(Buffer.concat(chunks));
        process.stderr.write(`✗ ${title} failed: ${[command.replace(`${BIN}/`, ''), ...args].join(' ')}\n`);
      }
      resolve(code === 0);
    });
  });
}

/** The gate: what must hold before anything lands. Two pieces at a time, the longest first: all of them only compute. */
async function check() {
  const rooms = ['apps', 'libs', 'deploy', 'test'];
  const cached = ['--cache', '--cache-location', '.cache/eslint', '--max-warnings', '0'];
  const pieces = [
    { title: 'lint', command: join(BIN, 'eslint'), args: [...cached, ...rooms] },
    { title: 'types', command: join(BIN, 'tsc'), args: ['--noEmit', '-p', '.'] },
    { title: 'types of the web page', command: join(BIN, 'tsc'), args: ['--noEmit', '-p', PAGE] },
    { title: 'format', command: join(BIN, 'prettier'), args: ['--check', '--log-level', 'warn', '.'] },
    { title: 'import table', command: join(BIN, 'depcruise'), args: ['--config', '.dependency-cruiser.cjs', ...rooms] },
    { title: 'dead code', command: join(BIN, 'knip'), args: [] },
    { title: 'generated docs', command: process.execPath, args: ['scripts/docs.mjs', '--check'] },
  ];
  let good = true;
  const lane = async () => {
    for (let next = pieces.shift(); next; next = pieces.shift()) good = (await piece(next)) && good;
  };
  await Promise.all([lane(), lane()]);
  if (!good) process.exit(1);
}

/** One run of jest: what became of each test file. */
async function jest(args) {
  const report = join(ROOT, '.cache', `jest-${process.pid}-${(jestRuns += 1)}.json`);
  rmSync(report, { force: true });
  const bin = join(ROOT, 'node_modules/jest/bin/jest.js');
  const node = ['--experimental-vm-modules', '--disable-warning=ExperimentalWarning'];
  const child = spawn(process.execPath, [...node, bin, '--json', `--outputFile=${report}`, ...args], {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { LOG_LEVEL: 'error', ...process.env, NODE_ENV: 'test' },
  });
  await new Promise((resolve) => child.on('exit', resolve));
  if (!existsSync(report)) fail('jest did not run.');
  const { testResults } = JSON.parse(readFileSync(report, 'utf8'));
  rmSync(report);
  return new Map(
    testResults.map(({ name, status, assertionResults }) => {
      const count = (...statuses) => assertionResults.filter((each) => statuses.includes(each.status)).length;
      const failed = count('failed');
      return [
        name,
        {
          passed: count('passed'),
          // A file that could not be loaded has no tests to fail.
          failed: status === 'failed' ? Math.max(1, failed) : failed,
          skipped: count('pending', 'todo', 'skipped', 'disabled'),
          tests: assertionResults,
        },
      ];
    }),
  );
}
let jestRuns = 0;

/**
 * The tests that start the whole product kill processes and wait for leases: two of them at a time, with no others
 * beside them, or they would test the machine. The others wait for their servers a third of the time.
 */
const ALL_TESTS = [
  ['--maxWorkers=3', '--testPathIgnorePatterns', '/test/e2e/'],
  ['--maxWorkers=2', '/test/e2e/'],
];
/** When more files than this fail, it is not for want of quiet. */
const MOST_AGAIN = 10;

/** A line for each test, with a bar as long as it took. */
function draw(results) {
  const tests = [...results.values()].flatMap((each) => each.tests);
  const longest = Math.max(1, ...tests.map(({ duration }) => duration ?? 0));
  for (const { status, ancestorTitles, title, duration } of tests) {
    const bar = '█'.repeat(Math.max(1, Math.round((30 * (duration ?? 0)) / longest))).padEnd(30);
    const seconds = ((duration ?? 0) / 1000).toFixed(1).padStart(6);
    console.log(`${status === 'passed' ? '✓' : '✗'} ${bar} ${seconds} s  ${[...ancestorTitles, title].join(': ')}`);
  }
}

const failedOf = (results) => [...results].filter(([, { failed }]) => failed > 0).map(([file]) => file);

function end(results) {
  const sum = (key) => [...results.values()].reduce((total, each) => total + each[key], 0);
  const skipped = sum('skipped');
  console.log(`${sum('passed')} passed, ${sum('failed')} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`);
  process.exit(results.size > 0 && sum('failed') === 0 ? 0 : 1);
}

/**
 * Everything. Hundreds of tests here start, kill and restart real servers, and a machine that pauses for seconds should
 * not look like a fault of the code: a file that fails is run once more, alone and in quiet, and the output says so.
 */
async function runAllTests() {
  const results = new Map();
  for (const phase of ALL_TESTS) for (const [file, result] of await jest(phase)) results.set(file, result);
  const again = failedOf(results);
  if (again.length <= MOST_AGAIN) {
    const quiet = [];
    for (const file of again) {
      say(`once more, alone: ${relative(ROOT, file)}`);
      const alone = (await jest(['--runInBand', '--runTestsByPath', file])).get(file);
      if (!alone) continue;
      results.set(file, alone);
      if (alone.failed === 0) quiet.push(relative(ROOT, file));
    }
    if (quiet.length > 0) console.log(`passed when run alone: ${quiet.join(', ')}`);
  }
  const failed = failedOf(results);
  if (failed.length > 0) console.log(`failed: ${failed.map((file) => relative(ROOT, file)).join(', ')}`);
  end(results);
}

/** What runs from `dist` must not lose it. */
async function demoIsUp() {
  try {
    const { gateway } = JSON.parse(readFileSync(join(ROOT, '.demo', 'ports.json'), 'utf8'));
    return (await fetch(`http://127.0.0.1:${gateway}/readyz`)).ok;
  } catch {
    return false;
  }
}

/** A program of ours, from a fresh build. */
function ownProgram(main, args) {
  build();
  const node = ['--enable-source-maps', join(ROOT, 'dist', main), ...args];
  return forward(spawn(process.execPath, node, { cwd: ROOT, stdio: 'inherit' }));
}

/** A command of deploy/operations. Not built anew: the demo may be running from what is there. */
function operation(name, args) {
  const main = join(ROOT, 'dist/deploy/operations', `${name}.js`);
  if (!existsSync(main)) build();
  return forward(spawn(process.execPath, [main, ...args], { cwd: ROOT, stdio: 'inherit' }));
}

const COMMANDS = {
  build,
  check: () => (build(), check()),
  demo: (args) => (
    build(),
    forward(
      spawn(process.execPath, ['--enable-source-maps', 'dist/deploy/local/demo.js', ...args], {
        cwd: ROOT,
        stdio: 'inherit',
      }),
    )
  ),
  /** The races of pull tokens in full: 10,000 redemptions of 500 tokens, as often as `--seeds` says. */
  'test:races': async (args) => {
    build();
    process.env.RACE_TOKENS = '500';
    process.env.RACE_SEEDS = args[0] === '--seeds' ? args[1] : '1';
    const results = await jest(['--runInBand', 'test/races']);
    draw(results);
    end(results);
  },
  /** A log of 100,000 lines (`--lines N`) while everything that carries it is killed in turn. */
  'test:logs': async (args) => {
    build();
    process.env.LONG_LOG_LINES = args[0] === '--lines' ? args[1] : '100000';
    await runTests(['--runInBand', 'test/e2e/faults', '-t', 'a long log']);
  },
  /** Jobs over dozens of agents while everything is killed, paused and cut off; then the checker. */
  'test:faults': (args) => ownProgram('test/faults/main.js', args),
  /** Inputs drawn from the OpenAPI document, and broken payloads, against an installation of its own. */
  'test:fuzz': (args) => ownProgram('test/fuzz/main.js', args),
  /** The rules of the job engine in virtual time, with faults. */
  simulate: (args) => ownProgram('test/simulation/main.js', args),
  /** A benchmark of test/bench by its name. */
  bench: ([name, ...args]) => ownProgram(`test/bench/${name}.js`, args),
  'verify-events': (args) => operation('verify-events', args),
  'check-history': (args) => operation('check-history', args),
  keys: (args) => (
    build(),
    forward(spawn(process.execPath, ['dist/deploy/nats/main.js', ...args], { cwd: ROOT, stdio: 'inherit' }))
  ),
  drill: async (args) => {
    const main = join(ROOT, 'dist/deploy/drills/main.js');
    if (!existsSync(main) || !(await demoIsUp())) build();
    return forward(spawn(process.execPath, ['--enable-source-maps', main, ...args], { cwd: ROOT, stdio: 'inherit' }));
  },
  docs: (args) => (build(), must('generated docs', process.execPath, ['scripts/docs.mjs', ...args])),
  test: async (args) => {
    build();
    if (args.length > 0) return end(await jest(args));
    await check();
    await runAllTests();
  },
};

const [name = '', ...args] = process.argv.slice(2);
const command = COMMANDS[name];
if (!command) fail(`usage: node scripts/run.mjs <${Object.keys(COMMANDS).join(' | ')}>`);
await ensureNode();
mkdirSync(join(ROOT, '.cache'), { recursive: true });
ensurePackages();
await command(args);
