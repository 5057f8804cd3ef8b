import { spawn, type ChildProcess } from 'node:child_process';

/**
 * Servers run in process groups of their own, so that Ctrl-C reaches only their owner, which stops them in order. But
 * an owner that is killed with SIGKILL cannot stop anything. A keeper does: a shell (1 MB; no Node start-up) that holds
 * the read end of a pipe from the owner. The kernel closes the pipe however the owner ends, and the keeper then ends
 * every group that was not reported as gone. PID files alone would leave servers running until somebody starts again.
 */
const KEEPER = `
trap '' INT TERM HUP
groups=''
while read -r op pid sig; do
  kept=''
  for g in $groups; do [ "\${g%:*}" = "$pid" ] || kept="$kept $g"; done
  groups=$kept
  [ "$op" = + ] && groups="$groups $pid:$sig"
done
for g in $groups; do kill -s "\${g#*:}" -- "-\${g%:*}" 2>/dev/null; done
n=0
while [ $n -lt 50 ]; do
  alive=''
  for g in $groups; do kill -s 0 -- "-\${g%:*}" 2>/dev/null && alive=1; done
  [ -z "$alive" ] && exit 0
  n=$((n + 1)); sleep 0.1
done
for g in $groups; do kill -s KILL -- "-\${g%:*}" 2>/dev/null; done
`;

/**
 * Ends one group when another process (not the starter) is gone, and removes a directory. Gone includes a zombie: in a
 * container whose first process does not reap orphans it stays one for ever.
 */
const WATCHER = `
trap '' INT TERM HUP
runs() {
  kill -s 0 "$1" 2>/dev/null || return 1
  stat=''
  [ -r "/proc/$1/stat" ] && read -r stat < "/proc/$1/stat"
  case $stat in *') Z '*) return 1 ;; esac
}
while runs "$1" && runs "$2"; do sleep 0.5; done
kill -s "$3" -- "-$2" 2>/dev/null
n=0
while [ $n -lt 50 ] && runs "$2"; do n=$((n + 1)); sleep 0.1; done
kill -s KILL -- "-$2" 2>/dev/null
[ -z "$4" ] || rm -rf -- "$4"
`;

let keeper: ChildProcess | undefined;
const kept = new Set<number>();

function tell(line: string): void {
  if (keeper === undefined) {
    keeper = spawn('/bin/sh', ['-c', KEEPER], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
    // A keeper that died (out of memory, say) costs the protection, not the servers.
    keeper.on('error', () => undefined).stdin?.on('error', () => undefined);
    keeper.unref();
    (keeper.stdin as unknown as { unref(): void }).unref();
  }
  keeper.stdin?.write(`${line}\n`);
}

/** From now on the group ends with this process, by `signal` and, 5 s later, by SIGKILL. */
export function keepGroup(pid: number, signal: NodeJS.Signals): void {
  kept.add(pid);
  tell(`+ ${pid} ${signal.replace('SIG', '')}`);
}

/** The group is gone: its number may be given to others. The keeper leaves with the last one. */
export function forgetGroup(pid: number): void {
  if (!kept.delete(pid)) return;
  tell(`- ${pid}`);
  if (kept.size > 0) return;
  keeper?.stdin?.end();
  keeper = undefined;
}

/** The group outlives this process and ends when `owner` does (checked twice a second); `directory` is then removed. */
export function keepGroupWith(owner: number, pid: number, signal: NodeJS.Signals, directory = ''): void {
  const args = ['-c', WATCHER, 'watcher', String(owner), String(pid), signal.replace('SIG', ''), directory];
  spawn('/bin/sh', args, { detached: true, stdio: 'ignore' }).unref();
}
