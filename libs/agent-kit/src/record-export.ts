import { type Writable } from 'node:stream';
import { ImsError, type JsonValue } from '#contracts';
import { readRecord, type RecordEntry } from './record.js';

/** Entries that go into one OTLP request: a receiver takes 4 MiB, an entry has under 2 KiB. */
const BATCH = 500;
const TIMEOUT_MS = 10_000;

export interface ExportOptions {
  readonly directory: string;
  /** Entries from this time on. */
  readonly since?: Date;
  readonly format: 'ndjson' | 'otlp';
  /** Where to POST OTLP/JSON; a bare host gets OTLP's own path. Absent: to `out`, one request a line. */
  readonly endpoint?: URL;
  readonly out: Writable;
  /** Attributes of the resource: whose record it is. */
  readonly resource: Readonly<Record<string, string>>;
}

/** Writes or sends the record; answers how many entries. Throws `unavailable` when the endpoint does not take them. */
export async function exportRecord(options: ExportOptions): Promise<number> {
  const { directory, since, format, out } = options;
  let count = 0;
  let batch: RecordEntry[] = [];
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    const request = JSON.stringify(otlpOf(batch, options.resource));
    batch = [];
    if (options.endpoint === undefined) await write(out, `${request}\n`);
    else await post(options.endpoint, request);
  };
  for await (const { file, line, entry } of readRecord(directory)) {
    if (entry === undefined) throw new Error(`${file}:${line} is not an entry: run audit verify`);
    if (since !== undefined && Date.parse(entry.at) < since.getTime()) continue;
    count += 1;
    if (format === 'ndjson') await write(out, `${JSON.stringify(entry)}\n`);
    else if (batch.push(entry) === BATCH) await flush();
  }
  await flush();
  return count;
}

/** OTLP/JSON logs: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding. */
function otlpOf(entries: readonly RecordEntry[], resource: Readonly<Record<string, string>>): object {
  return {
    resourceLogs: [
      {
        resource: { attributes: attributesOf(resource) },
        scopeLogs: [{ scope: { name: 'vendor-cloud.record' }, logRecords: entries.map(logRecordOf) }],
      },
    ],
  };
}

function logRecordOf({ seq, at, type, data, prev, hash }: RecordEntry): object {
  const bad = /refused|failed|damaged|invalid|rejected/.test(type);
  return {
    // Nanoseconds are more than a number holds.
    timeUnixNano: `${Date.parse(at)}000000`,
    severityNumber: bad ? 13 : 9,
    severityText: bad ? 'WARN' : 'INFO',
    eventName: type,
    body: { stringValue: JSON.stringify(data) },
    attributes: attributesOf({
      'event.name': type,
      ...data,
      'record.seq': seq,
      'record.prev': prev,
      'record.hash': hash,
    }),
  };
}

function attributesOf(values: Readonly<Record<string, JsonValue>>): object[] {
  return Object.entries(values).map(([key, value]) => ({ key, value: valueOf(value) }));
}

function valueOf(value: JsonValue): object {
  if (typeof value === 'boolean') return { boolValue: value };
  // 64-bit integers are texts in protobuf's JSON.
  if (typeof value === 'number') return Number.isInteger(value) ? { intValue: String(value) } : { doubleValue: value };
  return { stringValue: typeof value === 'string' ? value : JSON.stringify(value) };
}

async function post(endpoint: URL, body: string): Promise<void> {
  const url = new URL(endpoint);
  if (url.pathname === '/') url.pathname = '/v1/logs';
  const where = `${url.host}${url.pathname}`;
  const request = { method: 'POST', body, headers: { 'content-type': 'application/json' } };
  const answer = await fetch(url, { ...request, signal: AbortSignal.timeout(TIMEOUT_MS) }).catch((error: unknown) => {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause.message : String(error);
    throw new ImsError('unavailable', `${where} does not answer: ${cause}`);
  });
  await answer.body?.cancel();
  if (!answer.ok) throw new ImsError('unavailable', `${where} answered ${answer.status}`);
}

function write(out: Writable, text: string): Promise<void> {
  return new Promise((resolve) => {
    if (out.write(text)) resolve();
    else out.once('drain', resolve);
  });
}
