import { CliError } from '../exit.js';

export interface ListOptions {
  readonly limit?: string;
}
export interface WaitOptions {
  /** False with `--no-wait`. */
  readonly wait: boolean;
  readonly timeout?: string;
}

/** How many rows are shown; tables of a screen or two by default, since nobody reads 10,000. */
export function limitOf(text: string | undefined): number {
  if (text === undefined) return 50;
  if (text === 'all') return Infinity;
  if (/^\d{1,7}$/.test(text) && Number(text) > 0) return Number(text);
  throw new CliError('usage', `--limit ${text}: give a number, or all`);
}
