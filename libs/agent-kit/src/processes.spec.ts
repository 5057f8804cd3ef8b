import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ImsError } from '#contracts';
import { findMembers, startOf, bootId } from './proc.js';
import { Processes, killLeftovers, MARK_VARIABLE, type Command, type GroupMark } from './processes.js';
import { LeaseFile } from './workspace.js';
import { waitFor } from '../test/wait.js';

let home: string;
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'agent-processes-'));
});
afterEach(async () => {
  await rm(home, { recursive: true, force: true });
});

const lines: string[] = [];
beforeEach(() => lines.splice(0));
const command = (script: string, more: Partial<Command> = {}): Command => ({
  command: 'sh',
  args: ['-c', script],
  cwd: home,
  timeoutMs: 20_000,
  signal: new AbortController().signal,
  onLine: (stream, line) => lines.push(`${stream}: ${line}`),
  ...more,
});
const alive = (pid: number): boolean => startOf(pid) !== undefined;
/** Ignores SIGINT and SIGTERM, and so do its children; one of them leaves for a session of its own. */
const STUBBORN = `
trap '' INT TERM
sleep 300 & echo "child $!"
setsid sleep 301 & echo "runaway $!"
(trap '' INT; while :; do sleep 302; done) & echo "fork $!"
while :; do sleep 303; done`;

describe('a command', () => {
  it('answers exit code, output and time, with an environment of its own', async () => {
    const processes = new Processes({ home, path: process.env['PATH']! });
    process.env['AGENT_SECRET_FOR_TEST'] = 'leak';
    const script = 'echo out; echo err >&2; printf tail; env | sort | cut -d= -f1 | tr "\\n" " " >&2; exit 7';
    const result = await processes.run(command(script, { env: { GIVEN: '1' } }));
    delete process.env['AGENT_SECRET_FOR_TEST'];
    expect(result).toMatchObject({ exitCode: 7 });
    expect(result.durationMs).toBeGreaterThan(0);
    expect(lines).toContain('stdout: out');
    expect(lines).toContain('stdout: tail');
    expect(lines.join(' ')).not.toContain('SECRET');
    expect(lines.find((line) => line.includes('GIVEN'))).toContain('GIVEN HOME');
    expect(processes.running).toBe(0);
  });

  it('is given its input and answers its output whole', async () => {
    const processes = new Processes({ home });
    const big = 'x'.repeat(300_000);
    const result = await processes.run(command('cat; echo noise >&2', { stdin: big, maxOutputBytes: 400_000 }));
    expect(result.stdout).toBe(big);
    expect(lines).toEqual(['stderr: noise']);
    const tooMuch = processes.run(command('cat', { stdin: big, maxOutputBytes: 1000 }));
    await expect(tooMuch).rejects.toMatchObject({ code: 'agent_error' });
  });

  it('says which signal ended it', async () => {
    const result = await new Processes({ home }).run(command('kill -TERM $$'));
    expect(result).toMatchObject({ exitCode: 143, signal: 'SIGTERM' });
  });

  it('that is not installed is tool_missing by name', async () => {
    const run = new Processes({ home, path: home }).run(command('true', { command: 'no-such-tool' }));
    await expect(run).rejects.toThrow(/^tool_missing: the program no-such-tool /);
  });

  it('takes what it left in its group with it', async () => {
    const result = await new Processes({ home }).run(command('sleep 300 & echo "child $!"'));
    expect(result.exitCode).toBe(0);
    const child = Number(/child (\d+)/.exec(lines.join('\n'))![1]);
    expect(alive(child)).toBe(false);
    expect(result.durationMs).toBeLessThan(5_000);
  });

  it('reports its group for the journal, with what tells it from a later process of the same number', async () => {
    const seen: GroupMark[] = [];
    const ended: GroupMark[] = [];
    await new Processes({ home, onStart: (m) => seen.push(m), onEnd: (m) => ended.push(m) }).run(command('true'));
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatchObject({ boot: bootId() });
    expect(Number(seen[0]!.started)).toBeGreaterThan(0);
    expect(ended).toEqual(seen);
  });
});

describe('a cancel', () => {
  it('gives SIGINT first, with the default action for the command', async () => {
    const abort = new AbortController();
    const run = new Processes({ home }).run(
      command('trap "echo unlocked; exit 3" INT; echo ready; while :; do sleep 0.05; done', { signal: abort.signal }),
    );
    await waitFor(() => lines.includes('stdout: ready'));
    abort.abort(new ImsError('cancelled', 'asked by a test'));
    await expect(run).rejects.toMatchObject({ code: 'cancelled', detail: 'asked by a test' });
    expect(lines).toContain('stdout: unlocked');
  });

  it('ends with proof even when everything ignores it and one child runs away', async () => {
    const abort = new AbortController();
    const processes = new Processes({ home, cancelSigtermMs: 150, cancelSigkillMs: 400 });
    const from = performance.now();
    const run = processes.run(command(STUBBORN, { signal: abort.signal }));
    await waitFor(() => lines.length === 3);
    const pids = lines.map((line) => Number(/(\d+)$/.exec(line)![1]));
    expect(pids.every(alive)).toBe(true);
    abort.abort();
    await expect(run).rejects.toMatchObject({ code: 'cancelled' });
    expect(pids.filter(alive)).toEqual([]);
    // 400 ms to SIGKILL and far below a second for the rest: with the product's 9 s that is below 11 s.
    expect(performance.now() - from).toBeLessThan(5_000);
  });

  it('by force does not ask first', async () => {
    const processes = new Processes({ home });
    const run = processes.run(command(STUBBORN));
    await waitFor(() => lines.length === 3);
    const pids = lines.map((line) => Number(/(\d+)$/.exec(line)![1]));
    const from = performance.now();
    processes.killNow();
    await expect(run).rejects.toMatchObject({ code: 'cancelled' });
    expect(pids.filter(alive)).toEqual([]);
    expect(performance.now() - from).toBeLessThan(2_000);
  });

  it('after a time-out says so', async () => {
    const processes = new Processes({ home, cancelSigtermMs: 50, cancelSigkillMs: 100 });
    const run = processes.run(command('trap "" INT; sleep 300', { timeoutMs: 100 }));
    await expect(run).rejects.toMatchObject({ code: 'timed_out' });
  });
});

describe('without the agent', () => {
  it('the lease file ends the group, though nobody in this process does anything', async () => {
    const leaseFile = join(home, 'lease');
    await new LeaseFile(leaseFile).write(700);
    const processes = new Processes({ home, leaseFile });
    await expect(processes.run(command(STUBBORN))).rejects.toMatchObject({ code: 'lease_expired' });
    // What ran away from the group is found by the attempt's mark when the attempt ends.
    await processes.dispose();
    expect(lines.map((line) => Number(/(\d+)$/.exec(line)![1])).filter(alive)).toEqual([]);
    // A program that somebody kills (the system, out of memory) is a failed program.
    await new LeaseFile(leaseFile).write(60_000);
    const killed = await new Processes({ home, leaseFile }).run(command('kill -KILL $$'));
    expect(killed).toMatchObject({ exitCode: 137, signal: 'SIGKILL' });
  });

  it('leftovers of an earlier life are killed, and a recycled number is not', async () => {
    const mark = 'a1b2c3d4e5f60718293a4b5c';
    const start = (seconds: string): number => {
      const env = { PATH: process.env['PATH']!, [MARK_VARIABLE]: mark };
      return spawn('sleep', [seconds], { detached: true, stdio: 'ignore', env }).pid!;
    };
    const ours = start('310');
    const runaway = start('311');
    const stranger = spawn('sleep', ['312'], { detached: true, stdio: 'ignore' }).pid!;
    await waitFor(() => findMembers({ variable: `${MARK_VARIABLE}=${mark}` }).length === 2);
    const base = { boot: bootId(), mark };
    await killLeftovers([
      { ...base, pgid: ours, started: startOf(ours)! },
      { ...base, mark: 'other', pgid: stranger, started: '1' },
      { ...base, mark: 'other', pgid: stranger, started: startOf(stranger)!, boot: 'before the last boot' },
    ]);
    expect([ours, runaway, stranger].map(alive)).toEqual([false, false, true]);
    process.kill(stranger, 'SIGKILL');
  });

  it('kill -9 of the agent ends the group at once', async () => {
    const script = join(home, 'agent.mjs');
    const room = new URL('../../../dist/libs/agent-kit/src/processes.js', import.meta.url).href;
    await writeFile(
      script,
      `import { Processes } from ${JSON.stringify(room)};
       await new Processes({ home: ${JSON.stringify(home)} }).run({ command: 'sh', cwd: ${JSON.stringify(home)},
         args: ['-c', ${JSON.stringify(STUBBORN.replaceAll('setsid ', ''))} ], timeoutMs: 60000,
         signal: new AbortController().signal, onLine: (_, line) => console.log(line) });`,
    );
    const agent = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
    let out = '';
    agent.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    await waitFor(() => out.split('\n').length > 3);
    const pids = out.match(/\d+/g)!.map(Number);
    expect(pids.every(alive)).toBe(true);
    agent.kill('SIGKILL');
    const from = performance.now();
    await waitFor(() => !pids.some(alive));
    expect(performance.now() - from).toBeLessThan(1_000);
    await readFile(script);
  });
});
