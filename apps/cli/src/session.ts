import { ImsClient } from '#client';
import { Contexts, VERSION, type Target } from './config.js';
import { CliError } from './exit.js';
import { Output, formatOf } from './output.js';
import { durationMs, Terminal } from './terminal.js';

export interface GlobalOptions {
  readonly url?: string;
  readonly context?: string;
  readonly output?: string;
  readonly color: boolean;
  readonly prompt: boolean;
}

/** What a command works with. Made anew for each run; the target is looked up when it is first needed. */
export class Session {
  readonly terminal: Terminal;
  readonly out: Output;
  readonly contexts = new Contexts();
  /** Aborted by Ctrl-C. */
  readonly interrupted = new AbortController();
  /** How to go on after Ctrl-C: what is told, and commands. */
  private leaving: readonly (readonly [what: string, command: string])[] = [];
  private made: ImsClient | undefined;
  private found: Target | undefined;

  constructor(readonly options: GlobalOptions) {
    this.terminal = new Terminal(options);
    this.out = new Output(this.terminal, formatOf(options.output));
  }

  get target(): Target {
    return (this.found ??= this.contexts.target(this.options));
  }

  get client(): ImsClient {
    return (this.made ??= this.clientFor(this.target.url, this.target.apiKey));
  }

  clientFor(url: string, apiKey: string | undefined): ImsClient {
    return new ImsClient({
      baseUrl: url,
      headers: { 'user-agent': `ims/${VERSION}` },
      ...(apiKey === undefined ? {} : { apiKey }),
    });
  }

  /** From now on Ctrl-C only leaves: the work goes on, and these commands find it again. */
  leaveWith(...commands: (readonly [what: string, command: string])[]): void {
    this.leaving = commands;
  }
  tellHowToGoOn(): void {
    if (this.leaving.length === 0) return;
    this.terminal.tell(`\nThe work goes on without this terminal.`);
    for (const [what, command] of this.leaving) this.terminal.hint(what, command);
  }
}

/** The deadline of `--timeout`, on the clock of `performance.now()`. */
export function deadlineOf(timeout: string | undefined): number {
  if (timeout === undefined) return Infinity;
  const ms = durationMs(timeout);
  if (ms === undefined) throw new CliError('usage', `--timeout ${timeout}: give a time like 90s, 10m or 2h`);
  return performance.now() + ms;
}
