import { Injectable } from '@nestjs/common';
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { createLogger } from './logger.js';

interface MetricOptions<L extends string> {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly L[];
}

/** The metrics of one service. Label values are from small closed sets: never an id, never a path with ids. */
@Injectable()
export class Metrics {
  readonly registry = new Registry();
  private readonly logger = createLogger('metrics');

  constructor() {
    collectDefaultMetrics({ register: this.registry });
  }

  /** Asking twice for the same name gives the same metric. */
  counter<L extends string = never>(options: MetricOptions<L>): Counter<L> {
    return this.once(options.name, () => new Counter<L>(this.config(options)));
  }

  /** `collect` runs when the metrics are read; what it throws is logged, and the others are given all the same. */
  gauge<L extends string = never>(
    options: MetricOptions<L> & { collect?: (gauge: Gauge<L>) => void | Promise<void> },
  ): Gauge<L> {
    return this.once(options.name, () => {
      const { collect } = options;
      if (collect === undefined) return new Gauge<L>(this.config(options));
      const gauge: Gauge<L> = new Gauge<L>({
        ...this.config(options),
        collect: async () => {
          try {
            await collect(gauge);
          } catch (error) {
            this.logger.warn({ err: error, metric: options.name }, 'a metric cannot be measured');
          }
        },
      });
      return gauge;
    });
  }

  /** `buckets` in the unit that the name ends with (seconds, bytes). */
  histogram<L extends string = never>(options: MetricOptions<L> & { buckets: readonly number[] }): Histogram<L> {
    return this.once(options.name, () => new Histogram<L>({ ...this.config(options), buckets: [...options.buckets] }));
  }

  private config<L extends string>({ name, help, labels = [] }: MetricOptions<L>) {
    return { name, help, labelNames: [...labels], registers: [this.registry] };
  }

  private once<M>(name: string, make: () => M): M {
    return (this.registry.getSingleMetric(name) as M | undefined) ?? make();
  }
}
