import { LIMITS, agentVitals, type Vitals } from '#contracts';
import { type Bus } from '#messaging';
import { createLogger } from '#platform';

export interface VitalsOptions {
  readonly bus: Bus;
  readonly agentId: string;
  readonly sessionId: string;
  readonly version: string;
  readonly everyMs?: number;
  readonly skewMs: () => number;
  readonly running: () => number;
  readonly diskFreeBytes: () => Promise<number>;
}

const logger = createLogger('vitals');

/** How this agent process is, every few seconds. A lost one is not sent again: the next one is newer. */
export class VitalsReporter {
  private timer: NodeJS.Timeout | undefined;
  private cpu = process.cpuUsage();
  private since = performance.now();

  constructor(private readonly options: VitalsOptions) {}

  start(): void {
    void this.report();
    this.timer = setInterval(() => void this.report(), this.options.everyMs ?? LIMITS.vitalsMs);
  }
  stop(): void {
    clearInterval(this.timer);
  }

  private async report(): Promise<void> {
    const { bus, agentId, sessionId } = this.options;
    try {
      const vitals = await this.measure();
      await bus.publish(agentVitals, { agent: agentId }, vitals, `${sessionId}.${vitals.at}`);
    } catch (error) {
      logger.debug({ err: error }, 'vitals were not sent');
    }
  }

  private async measure(): Promise<Vitals> {
    const { version, skewMs, running, diskFreeBytes } = this.options;
    const used = process.cpuUsage(this.cpu);
    const elapsedMs = performance.now() - this.since;
    this.cpu = process.cpuUsage();
    this.since = performance.now();
    return {
      at: new Date().toISOString(),
      version,
      uptime_s: Math.floor(process.uptime()),
      cpu_percent: Math.round((used.user + used.system) / 10 / Math.max(elapsedMs, 1)),
      memory_bytes: process.memoryUsage.rss(),
      disk_free_bytes: await diskFreeBytes(),
      clock_skew_ms: Math.round(skewMs()),
      jobs_running: running(),
    };
  }
}
