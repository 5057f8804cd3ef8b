import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type RunningService } from '#stack';
import { type Random } from '../random.js';
import { type Ground } from './ground.js';
import { type Link, type Weather } from './link.js';

/** Something that can be broken, by one fault at a time. */
interface Target {
  readonly name: string;
  /** Breaks it in a drawn way and says how; `mend` makes it whole again. */
  readonly strike: () => Promise<{ what: string; lastsMs: number; mend: () => Promise<void> }>;
  readonly weight: number;
}

/** So many faults at a time at most. */
const AT_A_TIME = 3;

/**
 * Faults drawn from a seed: which process is killed, paused or stopped, which way is cut, when, and for how long. The
 * seed decides the plan; what the plan meets depends on the machine, as in life.
 */
export class Storm {
  readonly counts = new Map<string, number>();
  private readonly broken = new Map<string, { what: string; done: Promise<void> }>();
  private readonly targets: readonly Target[];
  private readonly over = new AbortController();
  private readonly expected = new Set<string>();
  private closed = false;
  /** Processes that ended although nobody had struck them. */
  readonly deaths: string[] = [];

  constructor(
    ground: Ground,
    private readonly random: Random,
  ) {
    const { schedulers, hosts, links, nats } = ground;
    this.targets = [
      ...schedulers.map((service) => this.process(service, 3, 3_000)),
      ...hosts.map(({ service }) => this.process(service, 3, 7_000)),
      ...links.map((link): Target => ({
        name: link.name,
        weight: 12 / links.length,
        strike: () => {
          const weather: Weather = random.pick(['cut', 'hang', 'deaf', 'slow']);
          link.become(weather);
          const lastsMs = weather === 'deaf' ? random.int(200, 2_000) : random.int(300, 6_000);
          return Promise.resolve({ what: weather, lastsMs, mend: () => this.clear(link) });
        },
      })),
      ...nats.map((server, i): Target => ({
        name: nats.length === 1 ? 'nats' : `nats-${i}`,
        weight: 2 / nats.length,
        strike: async () => {
          const what = random.weighted([
            [4, 'kill'],
            [3, 'pause'],
            [nats.length === 1 ? 2 : 0, 'wipe'],
          ]);
          if (what === 'pause') return this.paused(() => server.pid, random.int(400, 4_000));
          await server.kill();
          if (what === 'wipe') rmSync(join(ground.dir, 'nats', 'jetstream'), { recursive: true, force: true });
          return { what, lastsMs: random.int(100, 2_000), mend: () => server.restart() };
        },
      })),
      {
        name: 'postgres',
        weight: 2,
        strike: async () => {
          const what = random.pick(['kill', 'restart', 'backends']);
          const mend = async (): Promise<void> => (what === 'kill' ? ground.postgres.restart() : undefined);
          if (what === 'kill') await ground.postgres.kill();
          else if (what === 'restart') await ground.postgres.restart();
          else {
            const text = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'job_scheduler' AND pid <> pg_backend_pid()`;
            await ground.sql(text).catch(() => undefined);
          }
          return { what, lastsMs: what === 'kill' ? random.int(50, 1_000) : 0, mend };
        },
      },
    ];
    for (const service of [...schedulers, ...hosts.map((host) => host.service)]) void this.watch(service);
  }

  get struck(): number {
    return [...this.counts.values()].reduce((sum, count) => sum + count, 0);
  }
  /** What is broken at this moment, for people. */
  get now(): string {
    return [...this.broken].map(([name, { what }]) => `${name} ${what}`).join(', ');
  }

  /** Strikes until `stop`; resolves when everything is whole again. */
  async rage(): Promise<void> {
    const { random } = this;
    while (!this.over.signal.aborted) {
      await delay(random.int(80, 700), undefined, { signal: this.over.signal }).catch(() => undefined);
      const whole = this.targets.filter(({ name }) => !this.broken.has(name));
      if (this.over.signal.aborted || this.broken.size >= AT_A_TIME || whole.length === 0) continue;
      // Drawn before the first await, so that the order of the draws does not depend on the machine.
      const target = random.weighted(whole.map((each) => [each.weight, each] as const));
      this.broken.set(target.name, { what: 'struck', done: this.strike(target) });
    }
    await Promise.all([...this.broken.values()].map(({ done }) => done));
  }

  stop(): void {
    this.over.abort();
  }

  /** From now on processes may end. */
  close(): void {
    this.closed = true;
  }

  private async strike(target: Target): Promise<void> {
    try {
      const { what, lastsMs, mend } = await target.strike();
      const kind = `${target.name.replace(/-\d+.*/, '')} ${what}`;
      this.counts.set(kind, (this.counts.get(kind) ?? 0) + 1);
      const mine = this.broken.get(target.name);
      if (mine) this.broken.set(target.name, { ...mine, what });
      await delay(lastsMs, undefined, { signal: this.over.signal }).catch(() => undefined);
      await mend();
    } finally {
      this.broken.delete(target.name);
    }
  }

  private process(service: RunningService, weight: number, longestMs: number): Target {
    const { random } = this;
    return {
      name: service.name,
      weight,
      strike: async () => {
        const what = random.pick(['kill', 'pause', 'stop'] as const);
        if (what === 'pause') return this.paused(() => service.pid, random.int(500, longestMs + 4_000));
        this.expected.add(service.name);
        await (what === 'kill' ? service.kill() : service.stop());
        const mend = async (): Promise<void> => {
          await service.start();
          this.expected.delete(service.name);
          void this.watch(service);
        };
        return { what, lastsMs: random.int(0, longestMs), mend };
      },
    };
  }

  private clear(link: Link): Promise<void> {
    link.become('fair');
    return Promise.resolve();
  }

  private paused(
    pid: () => number | undefined,
    lastsMs: number,
  ): { what: string; lastsMs: number; mend: () => Promise<void> } {
    const id = pid();
    if (id !== undefined) process.kill(id, 'SIGSTOP');
    const mend = (): Promise<void> => {
      if (id !== undefined && pid() === id) process.kill(id, 'SIGCONT');
      return Promise.resolve();
    };
    return { what: 'pause', lastsMs, mend };
  }

  private async watch(service: RunningService): Promise<void> {
    const { code, signal } = await service.ended();
    if (this.expected.has(service.name) || this.closed) return;
    this.deaths.push(`${service.name} ended by itself (${signal ?? `code ${code}`}):\n${service.tail(15)}`);
    await service.start().catch(() => undefined);
    void this.watch(service);
  }
}
