import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { closeSync, mkdirSync, openSync, readFileSync, readSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { forgetGroup, keepGroup, keepGroupWith } from './keeper.js';

const run = promisify(execFile);
/** How often a wait looks again. Servers here need 20 to 100 ms to be ready. */
const POLL_MS = 15;

export interface ProcessSpec {
  /** For messages: `nats-server`, `gateway`. */
  readonly name: string;
  readonly bin: string;
  readonly args: readonly string[];
  /** The whole environment but PATH: servers read theirs too (PG*, REGISTRY_*), and must not be steered by ours. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly uid?: number;
  readonly gid?: number;
  /** stderr, and stdout too unless it has a file of its own. Appended to. */
  readonly logFile: string;
  readonly stdoutFile?: string;
  /** Names the process that serves this directory, so that a later start finds what an earlier one left behind. */
  readonly pidFile: string;
  /** Runs before each start, when it is certain that nobody else serves this directory. */
  readonly prepare?: () => Promise<void>;
  /** Asked every few milliseconds with what this process has logged so far. */
  readonly ready: (log: string) => boolean | Promise<boolean>;
  readonly startMs?: number;
  readonly stopSignal?: NodeJS.Signals;
  /** SIGKILL comes this long after the stop signal. */
  readonly stopMs?: number;
  /** The server ends with that process, not with this one (a server that several test processes share). */
  readonly endsWith?: { readonly pid: number; readonly remove: string };
}

export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** One server, through any number of lives. */
export interface Supervised {
  /** Undefined while it is not running. */
  readonly pid: number | undefined;
  readonly logFile: string;
  /** Resolves when it is ready. Throws, with the last lines of its log, when it ends or takes too long instead. */
  start(): Promise<void>;
  /** Asks it to stop, waits, and kills it when it does not. Nothing happens when it is not running. */
  stop(): Promise<void>;
  /** SIGKILL, as a power cut would; returns when it is gone. */
  kill(): Promise<void>;
  restart(): Promise<void>;
  /** Resolves at the end of the present life, wanted or not. */
  ended(): Promise<ProcessEnd>;
  /** The last lines of its log. */
  tail(lines?: number): string;
}

/** A server could not be started. `log` is the end of what it said. */
export class StartError extends Error {
  override readonly name = 'StartError';
  constructor(
    message: string,
    readonly log: string,
  ) {
    super(log === '' ? message : `${message}\n${log}`);
  }
}

/**
 * When a process started, as the system counts it; undefined when it does not run (or is a zombie). With the pid it
 * identifies a process: a pid alone may have been given to another since.
 */
export async function processBirth(pid: number): Promise<string | undefined> {
  if (process.platform === 'linux') {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return fields[0] === 'Z' ? undefined : fields[19];
    } catch {
      return undefined;
    }
  }
  return run('ps', ['-o', 'lstart=', '-p', String(pid)]).then(
    ({ stdout }) => stdout.trim() || undefined,
    () => undefined,
  );
}

/** The arguments of a process as one text; empty when it does not run. Small images have no `ps`, hence /proc. */
export async function commandLine(pid: number): Promise<string> {
  if (process.platform === 'linux') {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
    } catch {
      return '';
    }
  }
  return run('ps', ['-o', 'args=', '-p', String(pid)]).then(
    ({ stdout }) => stdout,
    () => '',
  );
}

export interface ProcessMark {
  readonly pid: number;
  readonly birth: string | undefined;
}

export const markOf = async (pid: number): Promise<ProcessMark> => ({ pid, birth: await processBirth(pid) });
export const isAlive = async (mark: ProcessMark): Promise<boolean> =>
  mark.birth !== undefined && (await processBirth(mark.pid)) === mark.birth;

/** Signals a process group; false when there is none. */
function signalGroup(pid: number, signal: NodeJS.Signals): boolean {
  try {
    process.kill(-pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Resolves true as soon as the condition holds, false when the time is up. */
export async function waitUntil(condition: () => boolean | Promise<boolean>, limitMs: number): Promise<boolean> {
  const end = performance.now() + limitMs;
  for (;;) {
    if (await condition()) return true;
    if (performance.now() > end) return false;
    await delay(POLL_MS);
  }
}

/** Stops a process that an earlier owner left behind; refuses when that owner is alive and still uses it. */
async function clearLeftover(spec: ProcessSpec): Promise<void> {
  let left: { server: ProcessMark; owner: ProcessMark };
  try {
    left = JSON.parse(readFileSync(spec.pidFile, 'utf8')) as typeof left;
  } catch {
    return;
  }
  if (await isAlive(left.server)) {
    if (await isAlive(left.owner)) {
      throw new StartError(`${spec.name} is already run by process ${left.owner.pid} (${spec.pidFile})`, '');
    }
    signalGroup(left.server.pid, spec.stopSignal ?? 'SIGTERM');
    const gone = async (): Promise<boolean> => !(await isAlive(left.server));
    if (!(await waitUntil(gone, spec.stopMs ?? 10_000))) {
      signalGroup(left.server.pid, 'SIGKILL');
      await waitUntil(gone, 5_000);
    }
  }
  rmSync(spec.pidFile, { force: true });
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

function readFrom(file: string, offset: number): string {
  const length = sizeOf(file) - offset;
  if (length <= 0) return '';
  const fd = openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(length);
    return bytes.toString('utf8', 0, readSync(fd, bytes, 0, length, offset));
  } finally {
    closeSync(fd);
  }
}

function lastLines(file: string, lines: number): string {
  const text = readFrom(file, Math.max(0, sizeOf(file) - 64 * 1024));
  return text.trimEnd().split('\n').slice(-lines).join('\n');
}

interface Life {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly ended: Promise<ProcessEnd>;
  end: ProcessEnd | undefined;
}

/** Output goes to files, not to pipes: a server survives an owner that is gone, and its log is whole. */
async function spawnServer(spec: ProcessSpec): Promise<Life> {
  mkdirSync(dirname(spec.logFile), { recursive: true });
  const log = openSync(spec.logFile, 'a', 0o600);
  const stdout = spec.stdoutFile === undefined ? log : openSync(spec.stdoutFile, 'a', 0o600);
  const child = spawn(spec.bin, spec.args, {
    detached: true,
    stdio: ['ignore', stdout, log],
    env: { PATH: process.env['PATH'] ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC', ...spec.env },
    cwd: spec.cwd,
    ...(spec.uid === undefined ? {} : { uid: spec.uid, gid: spec.gid }),
  });
  for (const fd of new Set([log, stdout])) closeSync(fd);
  const spawned = new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', reject);
  });
  // Registered before anything is awaited: the shorter the time in which a killed owner leaves it behind, the better.
  const { pid } = child;
  const signal = spec.stopSignal ?? 'SIGTERM';
  if (pid !== undefined) {
    if (spec.endsWith === undefined) keepGroup(pid, signal);
    else keepGroupWith(spec.endsWith.pid, pid, signal, spec.endsWith.remove);
  }
  const ended = new Promise<ProcessEnd>((resolve) => {
    child.once('exit', (code, by) => resolve({ code, signal: by }));
  });
  await spawned.catch((error: unknown) => {
    throw new StartError(`${spec.name} could not be started: ${String(error)}`, '');
  });
  if (pid === undefined) throw new StartError(`${spec.name} could not be started`, '');
  if (spec.endsWith !== undefined) child.unref();
  const life: Life = { child, pid, ended, end: undefined };
  void ended.then((end) => {
    life.end = end;
    // What the leader left in its group has nobody to report to. Now, not later: the number may be another's by then.
    signalGroup(pid, 'SIGKILL');
    forgetGroup(pid);
  });
  const owner = await markOf(spec.endsWith?.pid ?? process.pid);
  writeFileSync(spec.pidFile, JSON.stringify({ server: await markOf(pid), owner }), { mode: 0o600 });
  return life;
}

/** A server process, not yet started. `specOf` is asked at every start, so a restart may have other arguments. */
export function supervise(specOf: () => ProcessSpec): Supervised {
  let life: Life | undefined;
  const { logFile } = specOf();

  async function start(): Promise<void> {
    if (life !== undefined && life.end === undefined) return;
    const spec = specOf();
    await clearLeftover(spec);
    await spec.prepare?.();
    const offset = sizeOf(spec.logFile);
    const now = await spawnServer(spec);
    life = now;
    const startMs = spec.startMs ?? 15_000;
    const decided = await waitUntil(
      async () => now.end !== undefined || (await spec.ready(readFrom(spec.logFile, offset))),
      startMs,
    );
    if (decided && now.end === undefined) return;
    const how = now.end === undefined ? `was not ready after ${startMs} ms` : `ended at once (${describe(now.end)})`;
    await stop('SIGKILL');
    throw new StartError(`${spec.name} ${how}; its log, ${spec.logFile}, ends with`, tailFrom(spec.logFile, offset));
  }

  async function stop(signal?: NodeJS.Signals): Promise<void> {
    const now = life;
    if (now === undefined) return;
    const spec = specOf();
    if (now.end === undefined) {
      signalGroup(now.pid, signal ?? spec.stopSignal ?? 'SIGTERM');
      const timer = setTimeout(() => signalGroup(now.pid, 'SIGKILL'), spec.stopMs ?? 10_000);
      await now.ended;
      clearTimeout(timer);
    }
    rmSync(spec.pidFile, { force: true });
    life = undefined;
  }

  return {
    get pid() {
      return life?.end === undefined ? life?.pid : undefined;
    },
    logFile,
    start,
    stop: () => stop(),
    kill: () => stop('SIGKILL'),
    restart: async () => {
      await stop();
      await start();
    },
    ended: () => life?.ended ?? Promise.resolve({ code: null, signal: null }),
    tail: (lines = 20) => lastLines(logFile, lines),
  };
}

const describe = ({ code, signal }: ProcessEnd): string =>
  signal === null ? `exit code ${code ?? '?'}` : `signal ${signal}`;

const tailFrom = (file: string, offset: number): string =>
  readFrom(file, offset).trimEnd().split('\n').slice(-20).join('\n');
