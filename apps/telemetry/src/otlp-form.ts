import { type AgentId, type JobTrace, type LogFrame, type LogText, type Vitals } from '#contracts';

/** Numbers of OpenTelemetry's log data model. */
const SEVERITY: Record<LogText['level'], number> = { debug: 5, info: 9, warn: 13, error: 17 };
const STATUS_ERROR = 2;
const KIND_INTERNAL = 1;

export type OtlpSignal = 'logs' | 'metrics' | 'traces';

/** OTLP's JSON has 64-bit numbers as texts. */
const attributes = (of: Readonly<Record<string, unknown>>): object[] =>
  Object.entries(of).map(([key, value]) => ({
    key,
    value: typeof value === 'number' ? { intValue: String(Math.round(value)) } : { stringValue: String(value) },
  }));
const nanos = (at: string): string => `${Date.parse(at) || 0}000000`;

/** The lines of a frame as log records; with the trace of their job. */
export const logRecords = (frame: LogFrame, agentId: AgentId, traceId: string | undefined): object[] =>
  frame.lines.map(({ at, level, step, text }, i) => ({
    timeUnixNano: nanos(at),
    severityNumber: SEVERITY[level],
    severityText: level.toUpperCase(),
    body: { stringValue: text },
    attributes: attributes({
      'ims.agent': agentId,
      'ims.job': frame.job_id,
      'ims.attempt': frame.attempt,
      'ims.step': step,
      'ims.seq': frame.first_seq + i,
    }),
    ...(traceId === undefined ? {} : { traceId }),
  }));

export function vitalsMetrics(vitals: Vitals, agentId: AgentId): object[] {
  const of = attributes({ 'ims.agent': agentId, 'ims.version': vitals.version });
  const gauge = (name: string, unit: string, value: number): object => ({
    name: `ims.agent.${name}`,
    unit,
    gauge: { dataPoints: [{ timeUnixNano: nanos(vitals.at), asInt: String(value), attributes: of }] },
  });
  return [
    gauge('cpu', '%', vitals.cpu_percent),
    gauge('memory', 'By', vitals.memory_bytes),
    gauge('disk.free', 'By', vitals.disk_free_bytes),
    gauge('clock.skew', 'ms', vitals.clock_skew_ms),
    gauge('jobs.running', '{job}', vitals.jobs_running),
  ];
}

export const otlpSpans = ({ trace_id, spans }: JobTrace): object[] =>
  spans.map((span) => ({
    traceId: trace_id,
    spanId: span.span_id,
    ...(span.parent_span_id === undefined ? {} : { parentSpanId: span.parent_span_id }),
    name: span.name,
    kind: KIND_INTERNAL,
    startTimeUnixNano: nanos(span.started_at),
    endTimeUnixNano: nanos(span.ended_at ?? span.started_at),
    attributes: attributes(span.attributes),
    status: span.status === 'error' ? { code: STATUS_ERROR } : {},
  }));

const SCOPE = { name: 'vendor-cloud' };
const RESOURCE = { attributes: attributes({ 'service.name': 'vendor-cloud' }) };

/** One request of OTLP over HTTP. */
export function otlpRequest(signal: OtlpSignal, items: readonly object[]): object {
  switch (signal) {
    case 'logs':
      return { resourceLogs: [{ resource: RESOURCE, scopeLogs: [{ scope: SCOPE, logRecords: items }] }] };
    case 'metrics':
      return { resourceMetrics: [{ resource: RESOURCE, scopeMetrics: [{ scope: SCOPE, metrics: items }] }] };
    case 'traces':
      return { resourceSpans: [{ resource: RESOURCE, scopeSpans: [{ scope: SCOPE, spans: items }] }] };
  }
}
