import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { type AgentId, type DeploymentId, type JobId } from '#contracts';
import { Database } from '#persistence';
import { createLogger, Lifecycle, Metrics, sleep } from '#platform';
import { SchedulerConfig } from '../config.js';
import { Intake } from '../agents/intake.js';
import { Holds } from './holds.js';
import { Offers } from './offers.js';
import { Plans } from './plans.js';
import { lockJob, lockJobInDeployment } from './rows.js';
import { SCHEDULER, Transitions } from './transitions.js';

/** So much at most in one sweep; the next comes half a second later. */
const LOST_BATCH = 100;
const EXPIRED_BATCH = 100;

/**
 * What nobody sends a message for: leases that have ended, holds and times to begin that are over, agents that have run
 * dry, offers that got lost. Every replica sweeps; SKIP LOCKED keeps them out of each other's way, the fence decides.
 */
@Injectable()
export class Sweep implements OnApplicationBootstrap {
  private readonly logger = createLogger('sweep');
  private readonly stopping = new AbortController();
  private readonly lost;
  private readonly offered;

  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
    private readonly holds: Holds,
    private readonly plans: Plans,
    private readonly offers: Offers,
    private readonly intake: Intake,
    private readonly config: SchedulerConfig,
    private readonly lifecycle: Lifecycle,
    metrics: Metrics,
  ) {
    this.lost = metrics.counter({ name: 'ims_attempts_lost_total', help: 'Attempts whose lease ended.' });
    this.offered = metrics.counter({ name: 'ims_offers_repeated_total', help: 'Offers made by the sweep.' });
  }

  onApplicationBootstrap(): void {
    const loop = this.run();
    this.lifecycle.onDrain('stop-intake', 'sweep', () => {
      this.stopping.abort();
      return loop;
    });
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      try {
        await this.endLeases();
        await this.expire();
        await this.holds.liftDue();
        await this.plans.followVotes();
        await this.intake.drained();
        await this.repeatOffers();
      } catch (error) {
        this.logger.warn({ err: error }, 'sweep interrupted, the next one goes on');
      }
      await sleep(this.config.SWEEP_MS, signal);
    }
  }

  /** Attempts whose lease has ended by the database's clock are lost; their jobs are offered at once. */
  private async endLeases(): Promise<void> {
    const ended = await this.database.query<{ job_id: JobId }>(
      'SELECT job_id FROM leases WHERE until <= clock_timestamp() ORDER BY until LIMIT $1',
      [LOST_BATCH],
    );
    for (const { job_id } of ended) {
      const done = await this.endLease(job_id);
      if (!done) continue;
      this.lost.inc();
      this.logger.warn({ job: job_id, ...done }, 'an attempt was lost');
    }
  }

  private endLease(id: JobId): Promise<{ attempt: number; agent: AgentId } | undefined> {
    return this.transitions.run(async (change) => {
      const { tx } = change;
      const [head] = await tx.query<{ deployment_id: DeploymentId | null }>(
        'SELECT deployment_id FROM jobs WHERE id = $1',
        [id],
      );
      // Somebody else is at work there: the next sweep looks again.
      if (head?.deployment_id) {
        const free = await tx.query('SELECT 1 FROM deployments WHERE id = $1 FOR UPDATE SKIP LOCKED', [
          head.deployment_id,
        ]);
        if (free.length === 0) return undefined;
      }
      const free = await tx.query('SELECT 1 FROM jobs WHERE id = $1 FOR UPDATE SKIP LOCKED', [id]);
      const job = free.length > 0 ? await lockJob(tx, id) : undefined;
      if (!job) return undefined;
      // Locked, since a renewal does not lock the job: it either came before, or finds the lease gone.
      const [lease] = await tx.query<{ attempt: number; until: Date }>(
        'SELECT attempt, until FROM leases WHERE job_id = $1 AND until <= clock_timestamp() FOR UPDATE',
        [id],
      );
      if (!lease) return undefined;
      const event = { type: 'lease_ended', attempt: lease.attempt } as const;
      // With the fact: who looks for effects of a lost attempt after its lease has to know when that ended.
      const data = { lease_until: lease.until.toISOString() };
      const decision = this.transitions.apply(change, job, event, { actor: SCHEDULER, data });
      return 'refusal' in decision ? undefined : { attempt: lease.attempt, agent: job.agent_id };
    });
  }

  /** Jobs whose time to begin is over fail; what waits for them is skipped. */
  private async expire(): Promise<void> {
    const due = await this.database.query<{ id: JobId }>(
      `SELECT id FROM jobs WHERE expires_at <= now() AND attempt = 0 AND status IN ('blocked', 'queued') LIMIT $1`,
      [EXPIRED_BATCH],
    );
    for (const { id } of due) {
      await this.transitions.run(async (change) => {
        const job = await lockJobInDeployment(change.tx, id);
        if (job) this.transitions.apply(change, job, { type: 'expire' }, { actor: SCHEDULER });
      });
    }
  }

  private async repeatOffers(): Promise<void> {
    const count = await this.offers.repeat();
    if (count > 0) this.offered.inc(count);
  }
}
