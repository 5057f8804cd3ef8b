import { Injectable } from '@nestjs/common';
import { jobOffer, JobOffer, LIMITS, shardOf, type AgentId, type JobId, type JobKind } from '#contracts';
import { Database, type Tx } from '#persistence';
import { SchedulerConfig } from '../config.js';
import { wire } from '../wire.js';

/** Agents whose queues are looked at in one sweep; the next comes half a second later. */
const AGENTS = 200;
interface Offered {
  readonly id: JobId;
  readonly kind: JobKind;
  readonly agent_id: AgentId;
  readonly attempt: number;
  readonly offers: number;
}

/**
 * What may go now, of a queue `j`: not held, its time has come, and it is not on its way already. `$2`: milliseconds for
 * which an offer is on its way.
 */
const READY = `j.status = 'queued' AND j.hold IS NULL AND coalesce(j.not_before, now()) <= now()
  AND (j.expires_at IS NULL OR j.attempt > 0 OR j.expires_at > now())
  AND (j.offered_at IS NULL OR j.offered_at < now() - $2 * interval '1 millisecond')`;

/**
 * The rule is `toOffer` of the domain; a test holds the two against each other. A job whose lock is another's, or that
 * comes behind one of its own queue with the same lock, waits.
 */
const MAKE = `
  WITH room AS (
    SELECT a.id, coalesce(a.slots, $3) - (SELECT count(*) FROM leases l WHERE l.agent_id = a.id)
      - (SELECT count(*) FROM jobs o WHERE o.agent_id = a.id AND o.status = 'queued'
           AND o.offered_at >= now() - $2 * interval '1 millisecond') AS free
    FROM agents a WHERE a.id = ANY($1) AND a.intake IS NULL AND a.presence <> 'revoked'),
  due AS (
    SELECT due.id FROM room CROSS JOIN LATERAL (
      SELECT j.id FROM jobs j WHERE j.agent_id = room.id AND ${READY}
        AND (j.lock IS NULL OR NOT EXISTS (SELECT 1 FROM locks k WHERE k.key = j.lock AND k.job_id <> j.id)
          AND NOT EXISTS (
            SELECT 1 FROM jobs o WHERE o.lock = j.lock AND o.status = 'queued' AND o.agent_id = j.agent_id AND o.id <> j.id
              AND o.hold IS NULL AND coalesce(o.not_before, now()) <= now()
              AND ((o.rank, o.id) < (j.rank, j.id) OR o.offered_at >= now() - $2 * interval '1 millisecond')))
      ORDER BY j.rank, j.id LIMIT greatest(room.free, 0) FOR UPDATE SKIP LOCKED) due)
  UPDATE jobs j SET offers = offers + 1, offered_at = now() FROM due WHERE j.id = due.id
  RETURNING j.id, j.kind, j.agent_id, j.attempt, j.offers`;

/**
 * Decides what each agent is offered: the first of its queue, as many as it has free slots. So the order of the queue
 * is kept here and not in a stream, and a job that comes late with a high priority is next.
 */
@Injectable()
export class Offers {
  constructor(
    private readonly database: Database,
    private readonly config: SchedulerConfig,
  ) {}

  /**
   * Offers what these agents have room for. Two transactions that cannot see each other (one makes room, one a job) may
   * both offer nothing; the sweep does then. Answers how many offers were made.
   */
  async make(tx: Tx, agents: readonly AgentId[]): Promise<number> {
    const due = await tx.query<Offered>(MAKE, [agents, this.config.REOFFER_MS, LIMITS.agentSlots]);
    for (const job of due) {
      const parts = { shard: shardOf(job.agent_id), agent: job.agent_id, job: job.id };
      // The id names attempt and offer: each is delivered once.
      const id = `${job.id}.${job.attempt}.${job.offers}`;
      tx.publish(jobOffer, parts, wire(JobOffer, { job_id: job.id, kind: job.kind }), id);
    }
    return due.length;
  }

  /**
   * The same for every agent that is there and has something in its queue that nobody has claimed: JetStream may have
   * lost the offer, or its time has come. For an agent that is away they would pile up in its stream.
   */
  async repeat(): Promise<number> {
    const agents = await this.database.query<{ id: AgentId }>(
      `SELECT a.id FROM agents a WHERE a.presence = 'online' AND a.intake IS NULL
         AND EXISTS (SELECT 1 FROM jobs j WHERE j.agent_id = a.id AND ${READY})
         AND (SELECT count(*) FROM leases l WHERE l.agent_id = a.id) < coalesce(a.slots, $1) LIMIT $3`,
      [LIMITS.agentSlots, this.config.REOFFER_MS, AGENTS],
    );
    if (agents.length === 0) return 0;
    const ids = agents.map(({ id }) => id);
    return this.database.transaction((tx) => this.make(tx, ids));
  }
}
