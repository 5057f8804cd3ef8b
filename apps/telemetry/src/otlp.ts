import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { type AgentId, type JobTrace, type LogFrame, type Vitals } from '#contracts';
import { backoffMs, createLogger, Lifecycle, Metrics, sleep } from '#platform';
import { TelemetryConfig } from './config.js';
import { logRecords, otlpRequest, otlpSpans, vitalsMetrics, type OtlpSignal } from './otlp-form.js';

const SIGNALS: readonly OtlpSignal[] = ['logs', 'metrics', 'traces'];
/** Of each signal, for a collector that is away. More is counted and left out: the truth is in PostgreSQL. */
const WAITING_MAX = 50_000;
const BATCH = 1_000;
const EVERY_MS = 1_000;
const TIMEOUT_MS = 10_000;
/** The drain gives the phase `flush` four seconds. */
const LAST_TIMEOUT_MS = 2_000;
const RETRY = { baseMs: 500, maxMs: 30_000 };

/**
 * Sends logs, vitals and traces on to a collector of the vendor's or the customer's, when one is configured. It never
 * holds up what is stored here: batches go from a bounded queue, and are tried again while the collector is away.
 */
@Injectable()
export class OtlpForward implements OnApplicationBootstrap {
  private readonly logger = createLogger('otlp');
  private readonly waiting: Record<OtlpSignal, object[]> = { logs: [], metrics: [], traces: [] };
  private readonly stopping = new AbortController();

  constructor(
    private readonly config: TelemetryConfig,
    private readonly lifecycle: Lifecycle,
    private readonly metrics: Metrics,
  ) {}

  /** A collector is configured. */
  get on(): boolean {
    return this.config.OTLP_ENDPOINT !== undefined;
  }

  onApplicationBootstrap(): void {
    if (!this.on) return;
    const loops = SIGNALS.map((signal) => this.run(signal));
    this.lifecycle.onDrain('flush', 'otlp', async () => {
      this.stopping.abort();
      await Promise.all(loops);
    });
  }

  logs(frame: LogFrame, agentId: AgentId, traceId: string | undefined): void {
    if (this.on) this.add('logs', logRecords(frame, agentId, traceId));
  }
  vitals(vitals: Vitals, agentId: AgentId): void {
    if (this.on) this.add('metrics', vitalsMetrics(vitals, agentId));
  }
  trace(trace: JobTrace | undefined): void {
    if (this.on && trace !== undefined) this.add('traces', otlpSpans(trace));
  }

  private add(signal: OtlpSignal, items: readonly object[]): void {
    const room = Math.max(0, WAITING_MAX - this.waiting[signal].length);
    this.waiting[signal].push(...items.slice(0, room));
    this.drop(signal, items.length - Math.min(room, items.length));
  }

  private drop(signal: OtlpSignal, count: number): void {
    this.metrics
      .counter({
        name: 'ims_otlp_dropped_total',
        help: 'Log records, metrics and spans that were not forwarded.',
        labels: ['signal'],
      })
      .inc({ signal }, count);
  }

  /** Until the service ends; then what waits is tried once more. */
  private async run(signal: OtlpSignal): Promise<void> {
    const waiting = this.waiting[signal];
    for (let failures = 0; ;) {
      const last = this.stopping.signal.aborted;
      const batch = waiting.slice(0, last ? undefined : BATCH);
      const verdict = batch.length === 0 ? 'sent' : await this.send(signal, batch, last);
      if (verdict !== 'later') waiting.splice(0, batch.length);
      if (verdict === 'never' || (last && verdict === 'later')) this.drop(signal, batch.length);
      if (last) return;
      failures = verdict === 'later' ? failures + 1 : 0;
      if (failures > 0) await sleep(backoffMs(failures, RETRY), this.stopping.signal);
      else if (waiting.length < BATCH) await sleep(EVERY_MS, this.stopping.signal);
    }
  }

  /** `later`: the collector is away or busy. `never`: it does not want this. */
  private async send(signal: OtlpSignal, batch: readonly object[], last: boolean): Promise<'sent' | 'later' | 'never'> {
    const { OTLP_ENDPOINT: endpoint = '', OTLP_AUTHORIZATION: authorization } = this.config;
    try {
      const response = await fetch(`${endpoint.replace(/\/$/, '')}/v1/${signal}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...(authorization === undefined ? {} : { authorization }) },
        body: JSON.stringify(otlpRequest(signal, batch)),
        signal: AbortSignal.timeout(last ? LAST_TIMEOUT_MS : TIMEOUT_MS),
      });
      await response.body?.cancel();
      if (response.ok) return 'sent';
      this.logger.warn({ signal, status: response.status }, 'the collector refuses');
      return response.status === 429 || response.status >= 500 ? 'later' : 'never';
    } catch (error) {
      this.logger.warn({ err: error, signal, waiting: this.waiting[signal].length }, 'the collector does not answer');
      return 'later';
    }
  }
}
