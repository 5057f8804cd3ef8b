import { Inject, Injectable } from '@nestjs/common';
import { type FastifyReply } from 'fastify';
import { type Counter } from 'prom-client';
import {
  RateLimiterMemory,
  RateLimiterPostgres,
  RateLimiterRes,
  type RateLimiterAbstract,
} from 'rate-limiter-flexible';
import { ImsError, LIMITS } from '#contracts';
import { Database } from '#persistence';
import { Metrics } from '#platform';
import { GatewayConfig } from '../config.js';

/** `requests`: everything; `expensive`: what reads a lot; `sign_in`: sign-ins and wrong keys; `enrolment`: of agents. */
export type Bucket = 'requests' | 'expensive' | 'sign_in' | 'enrolment';
/** A bucket, and whose: a key's id, or an address. */
export type Taken = readonly [bucket: Bucket, holder: string];

const WINDOW_S = LIMITS.rateWindowMs / 1000;

/**
 * How often one caller may call, in buckets that do not drain one another. What every request needs is counted in this
 * replica's memory, where counting costs nothing (so N replicas allow N times as much); what a stranger may try is
 * rare and counted in PostgreSQL for all replicas together, or in memory while PostgreSQL is away.
 */
@Injectable()
export class RateLimits {
  private readonly limiters: Readonly<Record<Bucket, RateLimiterAbstract>>;
  private readonly refusals: Counter<'bucket'>;

  constructor(database: Database, metrics: Metrics, @Inject(GatewayConfig) config: GatewayConfig) {
    const alone = (keyPrefix: Bucket, points: number): RateLimiterMemory =>
      new RateLimiterMemory({ keyPrefix, points, duration: WINDOW_S });
    const together = (keyPrefix: Bucket, points: number): RateLimiterPostgres =>
      new RateLimiterPostgres({
        keyPrefix,
        points,
        duration: WINDOW_S,
        storeClient: {
          query: async ({ text, values }: { text: string; values: unknown[] }) => {
            const rows = await database.query(text, values);
            return { rows, rowCount: rows.length };
          },
        },
        storeType: 'client',
        tableName: 'rate_limits',
        tableCreated: true,
        // Who is over the limit costs no statement any more.
        inMemoryBlockOnConsumed: points + 1,
        insuranceLimiter: alone(keyPrefix, points),
      });
    this.limiters = {
      requests: alone('requests', config.RATE_REQUESTS),
      expensive: alone('expensive', config.RATE_EXPENSIVE),
      sign_in: together('sign_in', config.RATE_SIGN_INS),
      enrolment: together('enrolment', config.RATE_ENROLMENTS),
    };
    this.refusals = metrics.counter({
      name: 'ims_gateway_rate_limited_total',
      help: 'Requests that were refused because their caller had called too often.',
      labels: ['bucket'],
    });
  }

  /**
   * Takes one from each bucket and tells in the answer's headers (draft-ietf-httpapi-ratelimit-headers) what is left.
   * Throws `rate_limited` at the first that is empty, with `Retry-After`.
   */
  async take(reply: FastifyReply, takes: readonly Taken[]): Promise<void> {
    const policy = takes.map(([name]) => this.policy(name)).join(', ');
    const left: string[] = [];
    for (const [bucket, holder] of takes) {
      const limiter = this.limiters[bucket];
      let isOver = false;
      const result = await limiter.consume(holder).catch((refused: unknown) => {
        if (!(refused instanceof RateLimiterRes)) throw refused;
        isOver = true;
        return refused;
      });
      const seconds = Math.max(1, Math.ceil(result.msBeforeNext / 1000));
      left.push(`"${bucket}";r=${result.remainingPoints};t=${seconds}`);
      reply.header('ratelimit-policy', policy);
      reply.header('ratelimit', left.join(', '));
      if (isOver) {
        this.refusals.inc({ bucket });
        reply.header('retry-after', String(seconds));
        const detail = `the limit of \`${bucket}\` is ${limiter.points} in ${WINDOW_S} s; try again in ${seconds} s`;
        throw new ImsError('rate_limited', detail);
      }
    }
  }

  private policy(bucket: Bucket): string {
    return `"${bucket}";q=${this.limiters[bucket].points};w=${WINDOW_S}`;
  }
}
