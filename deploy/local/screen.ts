import Table from 'cli-table3';
import colors from 'picocolors';

const started = performance.now();
const seconds = (ms: number): string => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
const out = (line: string): void => {
  process.stdout.write(`${line}\n`);
};

/** What the demo shows: plain lines in the order of events, and one table. Colour follows NO_COLOR and the terminal. */
export const screen = {
  seconds,
  title: (text: string): void => out(`\n${colors.bold(text)}`),
  done: (text: string): void =>
    out(`  ${colors.green('✓')} ${text} ${colors.dim(`(${seconds(performance.now() - started)})`)}`),
  step: (text: string): void => out(`    ${colors.dim(text)}`),
  failed: (text: string): void => out(`  ${colors.red('✗')} ${text}`),
  note: (text: string): void => out(`  ${text}`),
  command: (text: string): void => out(`    ${colors.cyan(text)}`),
  table: (head: string[], rows: string[][]): void => {
    const table = new Table({
      head: head.map((cell) => colors.bold(cell)),
      style: { head: [], border: [], compact: true },
      chars: {
        top: '',
        'top-mid': '',
        'top-left': '',
        'top-right': '',
        bottom: '',
        'bottom-mid': '',
        'bottom-left': '',
        'bottom-right': '',
        left: '  ',
        'left-mid': '',
        mid: '',
        'mid-mid': '',
        right: '',
        'right-mid': '',
        middle: '  ',
      },
    });
    table.push(...rows);
    out(table.toString());
  },
};
