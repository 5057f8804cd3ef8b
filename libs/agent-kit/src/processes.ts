import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { accessSync, constants as fsConstants, mkdirSync, statSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { delimiter, isAbsolute, resolve } from 'node:path';
import { performance } from 'node:perf_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { ImsError, LIMITS } from '#contracts';
import { collect, type OutputStream } from './output.js';
import { bootId, findMembers, startOf, type Member } from './proc.js';

/**
 * The only door to other programs. Each command runs in a process group (and session) of its own, led by a keeper: a
 * shell that holds the read end of a pipe from this process. However this process ends (kill -9, out of memory), the
 * kernel closes the pipe, and the keeper kills the whole group at once; no PID file, no next start is needed for it.
 *
 * fd 3 is that pipe; the command does not get it. The keeper catches INT and TERM with a no-op (a caught signal is back
 * to its default in the command, an ignored one would stay ignored there), runs the command in the foreground (a
 * background command of a non-interactive shell has SIGINT ignored, and terraform would never unlock), and answers its
 * exit code. `$1` is a lease file or empty: the second watcher ends the group when the time in it (hundredths of a second
 * of /proc/uptime) has come, which holds also when this process is stopped (SIGSTOP, a frozen container) and cannot.
 * At the end the keeper waits for both watchers: as orphans they would be zombies of the group until PID 1 reaps them,
 * which some take 2 s for.
 */
const KEEPER = `
trap : INT TERM HUP QUIT
lease=$1
shift
{ trap '' INT TERM HUP QUIT; read -r x <&3; kill -s KILL -- -$$; } </dev/null >/dev/null 2>&1 &
pipe=$!
clock=
if [ -n "$lease" ]; then
  {
    trap '' INT TERM HUP QUIT
    trap 'kill -s KILL $!; wait $!; exit' USR1
    while :; do
      sleep 0.5 &
      wait $!
      end=
      read -r end <"$lease"
      [ -n "$end" ] && read -r up x </proc/uptime || continue
      [ "\${up%.*}\${up#*.}" -lt "$end" ] || kill -s KILL -- -$$
    done
  } </dev/null >/dev/null 2>&1 3<&- &
  clock=$!
fi
"$@" 3<&-
code=$?
exec >/dev/null 2>&1
kill -s KILL $pipe
[ -z "$clock" ] || kill -s USR1 $clock
wait
exit $code
`;

/** How often a group that should be gone is looked at; grows to MAX. */
const POLL_MS = 5;
const POLL_MAX_MS = 100;
export const MARK_VARIABLE = 'IMS_ATTEMPT_MARK';

export interface Command {
  /** Name on the PATH, or an absolute path. */
  readonly command: string;
  /** Visible to every user of the host: never a secret. */
  readonly args: readonly string[];
  readonly cwd: string;
  /** Added to PATH, HOME and LANG; nothing else of the agent's own environment is passed. */
  readonly env?: Readonly<Record<string, string>>;
  readonly stdin?: string | Uint8Array;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  /** `cut`: the line was longer than can be kept. */
  readonly onLine: (stream: OutputStream, line: string, cut: boolean) => void;
  /** When given, stdout is returned (and not given to onLine); more than this is an error. */
  readonly maxOutputBytes?: number;
}

export interface CommandResult {
  /** As a shell says it: 128 + n when a signal ended the command. */
  readonly exitCode: number;
  readonly signal?: NodeJS.Signals;
  readonly durationMs: number;
  readonly stdout?: string;
}

/** What identifies a process group after a crash: numbers are reused, start times (clock ticks since boot) tell. */
export interface GroupMark {
  readonly pgid: number;
  readonly started: string;
  readonly boot: string;
  /** Value of the variable that every process of the attempt has in its environment. */
  readonly mark: string;
}

export interface ProcessesOptions {
  /** HOME of the commands. */
  readonly home: string;
  /** File with the moment at which the groups must be gone; see LeaseFile. */
  readonly leaseFile?: string;
  readonly onStart?: (mark: GroupMark) => void;
  readonly onEnd?: (mark: GroupMark) => void;
  readonly cancelSigtermMs?: number;
  readonly cancelSigkillMs?: number;
  /** Default: the agent's own. */
  readonly path?: string;
}

interface Life {
  readonly pgid: number;
  /** Members seen so far; one that moves to a session of its own is still killed. */
  readonly seen: Map<number, string>;
  killing: boolean;
  signalled: boolean;
}

/** The commands of one attempt. */
export class Processes {
  private readonly lives = new Set<Life>();
  private readonly mark = randomBytes(12).toString('hex');
  private started = false;
  private readonly path: string;

  constructor(private readonly options: ProcessesOptions) {
    this.path = options.path ?? process.env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin';
  }

  get running(): number {
    return this.lives.size;
  }

  /**
   * Runs a command and resolves when its whole group is gone: that is the proof a cancel needs. What the command left
   * in its group is killed when it ends. An abort sends SIGINT, later SIGTERM, later SIGKILL, and throws the abort's
   * reason (an ImsError) or `cancelled`. Also throws `tool_missing`, `timed_out`, `lease_expired`, `agent_error` (too much
   * output).
   */
  async run(command: Command): Promise<CommandResult> {
    command.signal.throwIfAborted();
    const program = this.resolve(command.command, command.env?.['PATH'] ?? this.path);
    mkdirSync(command.cwd, { recursive: true });
    const startedAt = performance.now();
    this.started = true;
    const child = spawn('/bin/sh', ['-c', KEEPER, 'keeper', this.options.leaseFile ?? '', program, ...command.args], {
      detached: true,
      cwd: command.cwd,
      env: this.environment(command.env),
      stdio: [command.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe', 'pipe'],
    });
    const pgid = await started(child);
    const life: Life = { pgid, seen: new Map(), killing: false, signalled: false };
    this.lives.add(life);
    const mark: GroupMark = { pgid, started: startOf(pgid) ?? '', boot: bootId(), mark: this.mark };
    this.options.onStart?.(mark);
    const output = collect(child, command.onLine, command.maxOutputBytes);
    child.stdin?.end(command.stdin);
    const stop = this.stopper(life, command);
    try {
      const end = await ended(child);
      stop.clear();
      await this.untilGone(life);
      await output.closed();
      if (stop.cause() !== undefined && life.signalled) throw stop.cause() as Error;
      // Not our doing, and not the program's alone: only the lease file makes the keeper kill itself with its group.
      if (this.options.leaseFile !== undefined && end.signal === 'SIGKILL') {
        throw new ImsError('lease_expired', `${command.command} was ended with the lease`);
      }
      const result = resultOf(end, performance.now() - startedAt);
      if (command.maxOutputBytes === undefined) return result;
      return { ...result, stdout: output.text(command.command) };
    } finally {
      stop.clear();
      child.stdio[3]?.destroy();
      this.lives.delete(life);
      this.options.onEnd?.(mark);
    }
  }

  /** SIGKILL to everything that runs, and to what escaped from its group. Returns at once; `run` tells when it is gone. */
  killNow(): void {
    for (const life of this.lives) this.kill(life);
  }

  /** Kills what left its group and session (daemons); called when an attempt is over. */
  async dispose(): Promise<void> {
    // A search of /proc costs 13 ms; most attempts start nothing.
    if (!this.started) return;
    this.killNow();
    for (let wait = POLL_MS; ; wait = Math.min(wait * 2, POLL_MAX_MS)) {
      const left = findMembers({ variable: `${MARK_VARIABLE}=${this.mark}` });
      if (left.length === 0) return;
      for (const member of left) signal(member.pid, 'SIGKILL');
      await delay(wait);
    }
  }

  /** The ladder of a cancel or a time-out. */
  private stopper(life: Life, command: Command): { clear(): void; cause(): Error | undefined } {
    const timers: NodeJS.Timeout[] = [];
    let cause: Error | undefined;
    const begin = (why: Error): void => {
      if (cause !== undefined) return;
      cause = why;
      const after = (ms: number, act: () => void): void => void timers.push(setTimeout(act, ms));
      this.remember(life);
      life.signalled = true;
      signal(-life.pgid, 'SIGINT');
      after(this.options.cancelSigtermMs ?? LIMITS.cancelSigtermMs, () => {
        this.remember(life);
        signal(-life.pgid, 'SIGTERM');
      });
      after(this.options.cancelSigkillMs ?? LIMITS.cancelSigkillMs, () => this.kill(life));
    };
    const onAbort = (): void => {
      const reason: unknown = command.signal.reason;
      begin(reason instanceof ImsError ? reason : new ImsError('cancelled'));
    };
    const deadline = setTimeout(
      () => begin(new ImsError('timed_out', `${command.command} ran longer than ${command.timeoutMs} ms`)),
      Math.min(command.timeoutMs, 2 ** 31 - 1),
    );
    if (command.signal.aborted) onAbort();
    else command.signal.addEventListener('abort', onAbort, { once: true });
    return {
      clear: () => {
        command.signal.removeEventListener('abort', onAbort);
        clearTimeout(deadline);
        timers.forEach((timer) => clearTimeout(timer));
      },
      // killNow comes with an abort whose reason says why; without one it is a cancel all the same.
      cause: () => cause ?? (life.killing && life.signalled ? new ImsError('cancelled') : undefined),
    };
  }

  private kill(life: Life): void {
    life.killing = true;
    life.signalled = true;
    // The group first, in one call, then what the snapshot finds outside of it.
    const members = this.remember(life);
    signal(-life.pgid, 'SIGKILL');
    for (const member of members) if (member.pgrp !== life.pgid) signal(member.pid, 'SIGKILL');
  }

  private remember(life: Life): Member[] {
    const members = findMembers({ group: life.pgid, seen: life.seen });
    for (const member of members) life.seen.set(member.pid, member.started);
    return members;
  }

  /**
   * The command has ended: its group goes with it. Never resolves while one member (not a zombie) is there. A look at
   * all of /proc (4 ms, and more on a busy host) is only needed for a proof, or when zombies keep the group's number.
   */
  private async untilGone(life: Life): Promise<void> {
    for (let wait = 1; ; wait = Math.min(wait * 2, POLL_MAX_MS)) {
      const group = signal(-life.pgid, 'SIGKILL');
      if (!group && !life.signalled) return;
      if (life.signalled || wait > POLL_MS) {
        const left = this.remember(life);
        if (left.length === 0) return;
        for (const member of left) signal(member.pid, 'SIGKILL');
      }
      await delay(wait);
    }
  }

  private environment(given: Readonly<Record<string, string>> = {}): Record<string, string> {
    return {
      PATH: this.path,
      HOME: this.options.home,
      LANG: 'C.UTF-8',
      ...given,
      [MARK_VARIABLE]: this.mark,
    };
  }

  private resolve(command: string, path: string): string {
    const places = isAbsolute(command) ? [command] : path.split(delimiter).map((dir) => resolve(dir, command));
    const found = places.find(isProgram);
    if (found === undefined) {
      throw new ImsError('tool_missing', `the program ${command} is not installed at the agent (PATH ${path})`);
    }
    return found;
  }
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, fsConstants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

/**
 * Kills what an earlier life of the agent left running. A group whose leader is another process by now (other start
 * time, other boot) is not touched; what carries the attempt's mark in its environment is. Resolves when it is gone.
 */
export async function killLeftovers(marks: readonly GroupMark[]): Promise<number> {
  const ours = marks.filter((mark) => mark.boot === bootId());
  const killed = new Set<number>();
  for (let wait = POLL_MS; ; wait = Math.min(wait * 2, POLL_MAX_MS)) {
    let left = 0;
    for (const mark of ours) {
      const leader = startOf(mark.pgid);
      const members = [
        ...(leader !== undefined && leader === mark.started ? findMembers({ group: mark.pgid }) : []),
        ...findMembers({ variable: `${MARK_VARIABLE}=${mark.mark}` }),
      ];
      for (const member of members) {
        left += 1;
        killed.add(member.pid);
        signal(member.pid, 'SIGKILL');
      }
    }
    if (left === 0) return killed.size;
    await delay(wait);
  }
}

/** True when there was somebody to signal. */
function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

async function started(child: ChildProcess): Promise<number> {
  await new Promise<void>((done, fail) => {
    child.once('spawn', done);
    child.once('error', (error) =>
      fail(new ImsError('agent_error', `a program could not be started: ${error.message}`, [], { cause: error })),
    );
  });
  if (child.pid === undefined) throw new ImsError('agent_error', 'a program could not be started');
  return child.pid;
}

interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

function ended(child: ChildProcess): Promise<End> {
  return new Promise((done) => {
    if (child.exitCode !== null || child.signalCode !== null) done({ code: child.exitCode, signal: child.signalCode });
    else child.once('exit', (code, by) => done({ code, signal: by }));
  });
}

function resultOf(end: End, durationMs: number): CommandResult {
  const number = end.signal === null ? undefined : osConstants.signals[end.signal];
  const exitCode = end.code ?? 128 + (number ?? 0);
  const name = Object.entries(osConstants.signals).find(([, value]) => value === exitCode - 128)?.[0];
  return {
    exitCode,
    ...(exitCode > 128 && name !== undefined ? { signal: name as NodeJS.Signals } : {}),
    durationMs: Math.round(durationMs),
  };
}
