import { type LogLine } from '#contracts';

/** What a reader of a log gets, in order. */
export type LogItem =
  | { readonly kind: 'lines'; readonly lines: readonly LogLine[] }
  /** Nothing new for a while: keeps proxies from cutting the connection, and shows when the client has gone. */
  | { readonly kind: 'heartbeat' }
  /** The job has ended and every line of it was given. */
  | { readonly kind: 'end'; readonly status: string }
  /** This replica is about to stop; the client goes on at another one. */
  | { readonly kind: 'moved' };

export const LOG_TYPES = ['application/x-ndjson', 'text/plain', 'text/event-stream'] as const;
export type LogType = (typeof LOG_TYPES)[number];

const positionOf = (line: LogLine): string => `${line.attempt}.${line.seq}`;

/** Milliseconds after which a cut client comes back; sooner when it was asked to move. */
const RETRY_MS = 2_000;
const MOVE_MS = 250;

const eachLine = (lines: readonly LogLine[], write: (line: LogLine) => string): string => lines.map(write).join('');

const FORMATS: Record<LogType, (item: LogItem) => string> = {
  // An empty line says nothing to a reader of NDJSON; it only comes while following.
  'application/x-ndjson': (item) => {
    if (item.kind === 'lines') return eachLine(item.lines, (line) => `${JSON.stringify(line)}\n`);
    return item.kind === 'heartbeat' ? '\n' : '';
  },
  'text/plain': (item) =>
    item.kind === 'lines' ? eachLine(item.lines, ({ at, step, text }) => `${at} ${step || '-'} ${text}\n`) : '',
  'text/event-stream': (item) => {
    switch (item.kind) {
      case 'lines':
        return eachLine(item.lines, (line) => `id: ${positionOf(line)}\ndata: ${JSON.stringify(line)}\n\n`);
      case 'heartbeat':
        return ': heartbeat\n\n';
      case 'end':
        return `event: end\ndata: ${JSON.stringify({ status: item.status })}\n\n`;
      case 'moved':
        return `retry: ${MOVE_MS}\n\n`;
    }
  },
};

/** A log as text of one media type, chunk by chunk: what was sent is forgotten. */
export async function* format(type: LogType, items: AsyncIterable<LogItem>): AsyncGenerator<string> {
  if (type === 'text/event-stream') yield `retry: ${RETRY_MS}\n\n`;
  for await (const item of items) {
    const text = FORMATS[type](item);
    if (text !== '') yield text;
  }
}
