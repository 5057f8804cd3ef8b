import { EventEmitter } from 'node:events';
import { Injectable, type OnModuleInit } from '@nestjs/common';
import { JobChanged, jobChanged, LogsAppended, logsAppended } from '#contracts';
import { Hears } from '#messaging';
import { Lifecycle, Metrics } from '#platform';

/** What a reader waits for news of. */
export interface Topics {
  readonly job?: string;
  readonly deployment?: string;
  readonly logsOf?: string;
}
export type News = 'changed' | 'logs' | 'none' | 'draining' | 'gone';

/**
 * Signals are hints and may be lost (a NATS reconnect). A reader therefore looks once in this time without one; with
 * signals it looks at once.
 */
export const HEARTBEAT_MS = 15_000;

/** Hears the signals of the other services and wakes the requests that wait for them. */
@Injectable()
export class Wakeups implements OnModuleInit {
  private readonly emitter = new EventEmitter().setMaxListeners(0);
  private draining = false;

  constructor(
    private readonly lifecycle: Lifecycle,
    private readonly metrics: Metrics,
  ) {}

  onModuleInit(): void {
    this.metrics.gauge({
      name: 'ims_gateway_live_requests',
      help: 'Requests that wait for news: followed logs and `Prefer: wait`.',
      collect: (gauge) => {
        gauge.set(this.listeners);
      },
    });
    this.lifecycle.onDrain('stop-intake', 'waiting requests', () => {
      this.draining = true;
      this.emitter.emit('drain');
      return Promise.resolve();
    });
  }

  @Hears(jobChanged)
  onJobChanged(changed: JobChanged): void {
    this.emitter.emit(`job ${changed.job_id}`);
    if (changed.deployment_id !== undefined) this.emitter.emit(`deployment ${changed.deployment_id}`);
  }

  @Hears(logsAppended)
  onLogsAppended(appended: LogsAppended): void {
    this.emitter.emit(`logs ${appended.job_id}`);
  }

  /** Requests that listen now. */
  get listeners(): number {
    return this.emitter.listenerCount('drain');
  }

  /** Begins to listen. News between two calls of `next` is kept, so nothing is missed between a read and a wait. */
  listen(topics: Topics, gone: AbortSignal): Listener {
    return new Listener(this.emitter, topics, gone, () => this.draining);
  }

  /**
   * Reads until it is over, or the time that the caller wants to wait has passed, or the service drains: then answers
   * what there is. Reads again when a signal says so, not on a clock (but see HEARTBEAT_MS).
   */
  async waitFor<T>(
    topics: Topics,
    caller: { readonly waitMs: number; readonly gone: AbortSignal },
    read: () => Promise<T>,
    isOver: (value: T) => boolean,
  ): Promise<T> {
    if (caller.waitMs === 0) return read();
    const until = performance.now() + caller.waitMs;
    const listener = this.listen(topics, caller.gone);
    try {
      for (;;) {
        const value = await read();
        const leftMs = until - performance.now();
        if (isOver(value) || leftMs <= 0) return value;
        const news = await listener.next(Math.min(leftMs, HEARTBEAT_MS));
        if (news === 'draining' || news === 'gone') return value;
      }
    } finally {
      listener.stop();
    }
  }
}

/** The ear of one request. */
export class Listener {
  private readonly pending = new Set<News>();
  private wake: () => void = () => undefined;
  private readonly unhook: (() => void)[] = [];

  constructor(
    emitter: EventEmitter,
    topics: Topics,
    private readonly gone: AbortSignal,
    private readonly isDraining: () => boolean,
  ) {
    const hear = (event: string, news: News): void => {
      const tell = (): void => {
        this.pending.add(news);
        this.wake();
      };
      emitter.on(event, tell);
      this.unhook.push(() => emitter.off(event, tell));
    };
    // Whatever becomes of the request: a stream that was never read does not end by itself.
    gone.addEventListener(
      'abort',
      () => {
        this.stop();
      },
      { once: true },
    );
    hear('drain', 'draining');
    if (topics.job !== undefined) hear(`job ${topics.job}`, 'changed');
    if (topics.deployment !== undefined) hear(`deployment ${topics.deployment}`, 'changed');
    if (topics.logsOf !== undefined) hear(`logs ${topics.logsOf}`, 'logs');
  }

  /** The next news, the most urgent first; `none` after the time. */
  async next(withinMs: number): Promise<News> {
    if (this.gone.aborted) return 'gone';
    if (this.isDraining()) return 'draining';
    if (this.pending.size === 0) await this.pause(withinMs);
    if (this.gone.aborted) return 'gone';
    const news = (['draining', 'changed', 'logs'] as const).find((kind) => this.pending.has(kind));
    if (news === undefined) return 'none';
    this.pending.delete(news);
    return news;
  }

  /** Until news comes, the time has passed, or the client has gone. */
  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(timer);
        this.gone.removeEventListener('abort', end);
        this.wake = () => undefined;
        resolve();
      };
      const timer = setTimeout(end, ms);
      this.gone.addEventListener('abort', end, { once: true });
      this.wake = end;
    });
  }

  stop(): void {
    for (const off of this.unhook) off();
  }
}
