import { CliError } from './exit.js';
import { cutTo, padTo, widthOf, type Colours, type Terminal } from './terminal.js';

export const FORMATS = ['table', 'wide', 'json', 'yaml', 'ndjson', 'name'] as const;
export type Format = (typeof FORMATS)[number];

export interface Column<T> {
  readonly head: string;
  readonly value: (row: T, colour: Colours) => string | undefined;
  /** Only with `-o wide`. */
  readonly wide?: boolean;
}
export interface View<T> {
  readonly columns: readonly Column<T>[];
  /** What `-o name` prints of a row: what other commands take. */
  readonly name: (row: T) => string;
  /** Told on stderr when there are none. */
  readonly empty?: string;
}

export function formatOf(text: string | undefined): Format {
  const format = FORMATS.find((each) => each === (text ?? 'table'));
  if (format === undefined) throw new CliError('usage', `-o ${text ?? ''}: the formats are ${FORMATS.join(', ')}`);
  return format;
}

/** Prints data: tables for people, the other formats whole and exact. */
export class Output {
  constructor(
    private readonly terminal: Terminal,
    readonly format: Format,
  ) {}

  get isForPeople(): boolean {
    return this.format === 'table' || this.format === 'wide';
  }

  /** A list. Rows that come one by one are shown one by one in `ndjson` and `name`. */
  async list<T>(rows: AsyncIterable<T> | readonly T[], view: View<T>): Promise<void> {
    if (this.format === 'ndjson' || this.format === 'name') {
      for await (const row of rows) {
        this.terminal.data(this.format === 'name' ? view.name(row) : JSON.stringify(row));
      }
      return;
    }
    const all: T[] = [];
    for await (const row of rows) all.push(row);
    if (!this.isForPeople) {
      await this.structured(all);
      return;
    }
    if (all.length === 0) this.terminal.tell(this.terminal.errorColours.dim(view.empty ?? 'There are none.'));
    else this.table(all, view);
  }

  /** One thing, with the fields of its columns below one another for people. */
  async one<T>(row: T, view: View<T>): Promise<void> {
    if (this.format === 'name') this.terminal.data(view.name(row));
    else if (this.format === 'ndjson') this.terminal.data(JSON.stringify(row));
    else if (!this.isForPeople) await this.structured(row);
    else {
      const { colours } = this.terminal;
      const cells = view.columns.map(({ head, value }) => [head, value(row, colours)] as const);
      const width = Math.max(...cells.map(([head]) => head.length));
      for (const [head, cell] of cells) {
        if (cell !== undefined && cell !== '') this.terminal.data(`${colours.dim(padTo(head, width))}  ${cell}`);
      }
    }
  }

  async structured(value: unknown): Promise<void> {
    if (this.format === 'yaml') {
      const { stringify } = await import('yaml');
      this.terminal.data(stringify(value));
    } else this.terminal.data(JSON.stringify(value, null, 2));
  }

  private table<T>(rows: readonly T[], view: View<T>): void {
    const { colours, dataWidth } = this.terminal;
    const columns = view.columns.filter(({ wide }) => wide !== true || this.format === 'wide');
    const cells = rows.map((row) => columns.map(({ value }) => value(row, colours) ?? '-'));
    const widths = columns.map(({ head }, i) => Math.max(head.length, ...cells.map((row) => widthOf(row[i] ?? ''))));
    const line = (row: readonly string[]): string => {
      const text = row.map((cell, i) => (i === row.length - 1 ? cell : padTo(cell, widths[i] ?? 0))).join('  ');
      if (dataWidth === undefined) return text;
      // Only the last column is cut, so that ids stay whole.
      const before = widths.slice(0, -1).reduce((sum, width) => sum + width + 2, 0);
      const last = cutTo(row.at(-1) ?? '', Math.max(8, dataWidth - before));
      return row.map((cell, i) => (i === row.length - 1 ? last : padTo(cell, widths[i] ?? 0))).join('  ');
    };
    this.terminal.data(colours.dim(line(columns.map(({ head }) => head.toUpperCase()))));
    for (const row of cells) this.terminal.data(line(row));
  }
}
