import { createParser, type EventSourceMessage } from 'eventsource-parser';
import { ApiError, type Schemas } from './problem.js';
import { pause, type Transport } from './transport.js';

export type LogLine = Schemas['LogLine'];
export interface LogReading {
  /** Go on after this line, `<attempt>.<seq>`. */
  readonly after?: string;
  readonly signal?: AbortSignal;
}
/** What a follower of a log is told, in order. */
export type LogNews =
  | { readonly kind: 'line'; readonly line: LogLine; readonly position: string }
  /** The connection was lost and is made again; nothing will be missing or come twice. */
  | { readonly kind: 'reconnecting'; readonly reason: string }
  /** The job has ended with this status, and every line of it was given. */
  | { readonly kind: 'end'; readonly status: string };

const pathOf = (jobId: string): string => `/v1/jobs/${encodeURIComponent(jobId)}/logs`;

/** The lines that are there now, to their end. */
export async function* readLogs(
  transport: Transport,
  jobId: string,
  { after, signal }: LogReading = {},
): AsyncGenerator<LogLine> {
  const query = after === undefined ? '' : `?after=${encodeURIComponent(after)}`;
  const response = await open(transport, pathOf(jobId) + query, { accept: 'application/x-ndjson' }, signal);
  let rest = '';
  for await (const text of texts(response)) {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) if (line !== '') yield JSON.parse(line) as LogLine;
  }
  if (rest !== '') yield JSON.parse(rest) as LogLine;
}

/** How often in a row a follower finds nobody, at most 4 s apart, before it gives up: about 2 minutes. */
const MAX_FAILURES = 30;

/**
 * The lines that are there and those that come, until the job has ended. Outlives restarts of the servers: goes on
 * after the last line by `Last-Event-ID`. Throws ApiError for an answer that will not change by asking again.
 */
export async function* followLogs(
  transport: Transport,
  jobId: string,
  { after, signal }: LogReading = {},
): AsyncGenerator<LogNews> {
  let position = after;
  let retryMs = 2_000;
  for (let failures = 0; ;) {
    let reason = 'the server closed the stream';
    try {
      const headers = {
        accept: 'text/event-stream',
        ...(position === undefined ? {} : { 'last-event-id': position }),
      };
      const response = await open(transport, pathOf(jobId), headers, signal);
      for await (const event of events(response, (ms) => (retryMs = ms))) {
        failures = 0;
        if (event.event === 'end') {
          yield { kind: 'end', status: (JSON.parse(event.data) as { status: string }).status };
          return;
        }
        position = event.id ?? position;
        yield { kind: 'line', line: JSON.parse(event.data) as LogLine, position: position ?? '' };
      }
    } catch (error) {
      if (signal?.aborted === true) throw error;
      const passing = !(error instanceof ApiError) || error.status === 0 || error.status >= 500 || error.status === 429;
      if (!passing || ++failures > MAX_FAILURES) throw error;
      reason = error instanceof Error ? error.message : String(error);
    }
    yield { kind: 'reconnecting', reason };
    await pause(retryMs, signal);
  }
}

async function open(
  transport: Transport,
  path: string,
  headers: Record<string, string>,
  signal: AbortSignal | undefined,
): Promise<Response> {
  const response = await transport.request('GET', path, { headers, ...(signal === undefined ? {} : { signal }) });
  if (!response.ok) throw await ApiError.of(response);
  return response;
}

/** The body as text, chunk by chunk; the connection is closed when the reader stops early. */
async function* texts(response: Response): AsyncGenerator<string> {
  if (response.body === null) return;
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

async function* events(response: Response, onRetry: (ms: number) => void): AsyncGenerator<EventSourceMessage> {
  const ready: EventSourceMessage[] = [];
  const parser = createParser({ onEvent: (event) => ready.push(event), onRetry });
  for await (const text of texts(response)) {
    parser.feed(text);
    yield* ready.splice(0);
  }
}
