import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from './files.js';
import { supervise, type ProcessEnd } from './process.js';

export interface ServiceOptions {
  /** Name for messages and files; the app of that name is started. */
  readonly name: string;
  /** The app, when it is not called like the process: several agents are one app. */
  readonly app?: string;
  /** The script to run, when it is no app of this project. */
  readonly main?: string;
  readonly env: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  readonly logFile: string;
  /** Ready when this answers 200, usually `/readyz`; or when the log, since the start, matches `readyLog`. */
  readonly readyUrl?: string;
  readonly readyLog?: RegExp;
  readonly startMs?: number;
  /** From SIGTERM to SIGKILL. */
  readonly stopMs?: number;
}

export interface RunningService {
  readonly name: string;
  readonly pid: number | undefined;
  readonly logFile: string;
  stop(): Promise<void>;
  kill(): Promise<void>;
  restart(): Promise<void>;
  /** Starts it again after `stop` or `kill`. */
  start(): Promise<void>;
  ended(): Promise<ProcessEnd>;
  tail(lines?: number): string;
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2_000), redirect: 'manual' });
    await response.arrayBuffer();
    return response.status === 200;
  } catch {
    return false;
  }
}

/**
 * Starts a process of the product (`dist/apps/<app>/src/main.js`) and returns when it is ready. It sees only the
 * environment given here and PATH, as it would in its container. Throws with the end of its log when it fails.
 */
export async function startService(options: ServiceOptions): Promise<RunningService> {
  const { name, readyUrl, readyLog } = options;
  const main = options.main ?? join(PROJECT_ROOT, 'dist/apps', options.app ?? name, 'src/main.js');
  if (!existsSync(main)) throw new Error(`${main} is missing: build first (npm run build)`);
  const server = supervise(() => ({
    name,
    bin: process.execPath,
    args: ['--enable-source-maps', main, ...(options.args ?? [])],
    env: options.env,
    cwd: PROJECT_ROOT,
    logFile: options.logFile,
    pidFile: `${options.logFile}.pid.json`,
    ready: async (log) => (readyLog?.test(log) ?? false) || (readyUrl !== undefined && (await answers(readyUrl))),
    // A start takes 2 s; on a machine that runs much else it was seen to take 35.
    startMs: options.startMs ?? 90_000,
    stopMs: options.stopMs ?? 15_000,
  }));
  await server.start();
  return {
    name,
    get pid() {
      return server.pid;
    },
    logFile: server.logFile,
    start: server.start,
    stop: server.stop,
    kill: server.kill,
    restart: server.restart,
    ended: server.ended,
    tail: server.tail,
  };
}
