import { createInterface } from 'node:readline/promises';
import { stripVTControlCharacters } from 'node:util';
import colors from 'picocolors';
import { inCi, wantsColour } from './config.js';

type Paint = (text: string) => string;
export type Colours = ReturnType<typeof colors.createColors>;

const SYMBOLS: Readonly<Record<string, string>> = {
  succeeded: '✓',
  online: '●',
  deployed: '✓',
  redeemed: '✓',
  failed: '✗',
  revoked: '✗',
  tampered: '✗',
  running: '●',
  cancelling: '◐',
  cancelled: '⊘',
  skipped: '⊘',
  offline: '○',
  queued: '○',
  blocked: '○',
};

/** The streams of the process: data goes to stdout, everything told about it to stderr. */
export class Terminal {
  readonly colours: Colours;
  readonly errorColours: Colours;
  /** A person watches: progress may be redrawn, and questions asked. */
  readonly isLive = process.stderr.isTTY && !inCi();
  readonly canAsk: boolean;

  constructor(options: { readonly color: boolean; readonly prompt: boolean }) {
    this.colours = colors.createColors(options.color && wantsColour(process.stdout.isTTY));
    this.errorColours = colors.createColors(options.color && wantsColour(process.stderr.isTTY));
    this.canAsk = options.prompt && process.stdin.isTTY && this.isLive;
  }

  get width(): number {
    return process.stderr.columns ?? 100;
  }
  /** Width of a table; undefined when it goes into a pipe, where nothing is cut. */
  get dataWidth(): number | undefined {
    return process.stdout.isTTY ? process.stdout.columns : undefined;
  }

  data(text: string): void {
    process.stdout.write(text.endsWith('\n') ? text : `${text}\n`);
  }
  tell(text = ''): void {
    process.stderr.write(`${text}\n`);
  }
  /** Something done. */
  done(text: string): void {
    this.tell(`${this.errorColours.green('✓')} ${text}`);
  }
  /** What to type next. */
  hint(what: string, command: string): void {
    this.tell(`  ${this.errorColours.dim(what)} ${this.errorColours.cyan(command)}`);
  }

  /** A yes; without somebody to ask, the answer that the caller names. */
  async confirm(question: string, unasked: boolean): Promise<boolean> {
    if (!this.canAsk) return unasked;
    return /^y(es)?$/i.test((await this.ask(`${question} [y/N] `)).trim());
  }
  async ask(question: string): Promise<string> {
    const lines = createInterface({ input: process.stdin, output: process.stderr });
    try {
      return await lines.question(this.errorColours.bold(question));
    } finally {
      lines.close();
    }
  }
}

/** All of standard input, e.g. a key that must not be an argument. */
export async function readStdin(): Promise<string> {
  let text = '';
  process.stdin.setEncoding('utf8');
  for await (const chunk of process.stdin) text += String(chunk);
  return text.trim();
}

/** Columns that a text takes; colours take none. */
export const widthOf = (text: string): number => [...stripVTControlCharacters(text)].length;
export const padTo = (text: string, width: number): string => text + ' '.repeat(Math.max(0, width - widthOf(text)));
/** The text in so many columns; what is longer ends in …, its colours closed. */
export function cutTo(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  const plain = stripVTControlCharacters(text);
  const cut = `${[...plain].slice(0, Math.max(0, width - 1)).join('')}…`;
  const [open] = /^(?:\x1b\[[\d;]*m)+/.exec(text) ?? [''];
  return open === '' ? cut : `${open}${cut}\x1b[0m`;
}

export function statusText(status: string, colour: Colours): string {
  return `${paintOf(status, colour)(SYMBOLS[status] ?? '·')} ${status}`;
}
export function symbolOf(status: string, colour: Colours): string {
  return paintOf(status, colour)(SYMBOLS[status] ?? '·');
}
function paintOf(status: string, colour: Colours): Paint {
  if (['succeeded', 'online', 'deployed', 'redeemed'].includes(status)) return colour.green;
  if (['failed', 'revoked', 'tampered'].includes(status)) return colour.red;
  if (['running', 'cancelling', 'issued'].includes(status)) return colour.cyan;
  if (['offline', 'queued', 'blocked', 'never_enrolled'].includes(status)) return colour.yellow;
  return colour.dim;
}

/** `850 ms`, `12.3 s`, `4 m 05 s`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  if (ms < 3_600_000)
    return `${Math.floor(ms / 60_000)} m ${String(Math.floor((ms % 60_000) / 1000)).padStart(2, '0')} s`;
  return `${Math.floor(ms / 3_600_000)} h ${String(Math.floor((ms % 3_600_000) / 60_000)).padStart(2, '0')} m`;
}
/** `just now`, `12 s ago`, `3 h ago`, `in 5 m`. */
export function ago(time: string | undefined, now = Date.now()): string {
  if (time === undefined) return '-';
  const ms = now - Date.parse(time);
  const size = Math.abs(ms);
  const units: readonly [number, string][] = [
    [86_400_000, 'd'],
    [3_600_000, 'h'],
    [60_000, 'm'],
    [1000, 's'],
  ];
  const [unit, name] = units.find(([each]) => size >= each) ?? [1000, 's'];
  const text = `${Math.floor(size / unit)} ${name}`;
  if (size < 1000) return 'just now';
  return ms < 0 ? `in ${text}` : `${text} ago`;
}
/** Milliseconds of `90s`, `10m`, `2h` or plain seconds; undefined when it is none of these. */
export function durationMs(text: string): number | undefined {
  const [, number, unit = 's'] = /^(\d{1,6})(ms|s|m|h)?$/.exec(text) ?? [];
  if (number === undefined) return undefined;
  return Number(number) * { ms: 1, s: 1000, m: 60_000, h: 3_600_000 }[unit as 'ms' | 's' | 'm' | 'h'];
}
