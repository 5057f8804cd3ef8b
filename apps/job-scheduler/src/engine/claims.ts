import { Injectable } from '@nestjs/common';
import {
  claimJob,
  Grant,
  ImsError,
  Renewed,
  renewLeases,
  resumeJob,
  StopOrder,
  type AgentId,
  type Claim,
  type HeldAttempt,
  type JobId,
  type Renew,
  type Resume,
} from '#contracts';
import { Serves, type MessageContext } from '#messaging';
import { Database, type Tx } from '#persistence';
import { Presence } from '../agents/presence.js';
import { found } from '../catalogue/lists.js';
import { SchedulerConfig } from '../config.js';
import { wire } from '../wire.js';
import { lockJob, type JobRow } from './rows.js';
import { Statements } from './statements.js';
import { Transitions } from './transitions.js';

interface LeaseRow {
  readonly attempt: number;
  readonly session_id: string;
  readonly granted_at: Date;
}
interface RenewedRow {
  readonly job_id: JobId;
  readonly attempt: number;
  readonly cancelling: boolean;
  readonly force: boolean;
  readonly reason: string;
}

/** The agent that asks: proven by NATS, since it may publish under its own id only. */
export const callerOf = (context: MessageContext): AgentId => {
  const agent = context.parts['agent'];
  if (agent === undefined) throw new Error('this contract has no {agent} in its subject');
  return agent;
};

/** What an agent process holds: taking a job, keeping it, taking it up again after a restart. */
@Injectable()
export class Claims {
  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
    private readonly statements: Statements,
    private readonly presence: Presence,
    private readonly config: SchedulerConfig,
  ) {}

  /**
   * Grants the job to exactly one of all that ask. The same session asking again gets the same grant and a new lease:
   * its reply was lost. Throws `job_not_claimable` for everything else, also for a job of another agent.
   */
  @Serves(claimJob)
  async claim({ job_id, session_id }: Claim, context: MessageContext): Promise<Grant> {
    const agent = callerOf(context);
    this.presence.heard(agent);
    return this.transitions.run(async (change) => {
      const job = await this.lockOwn(change.tx, job_id, agent, 'job_not_claimable');
      const { lease, presence } = await this.heldBy(change.tx, job);
      // A held job gives no grant, not even one whose reply was lost: the attempt ends with its lease.
      if (lease && lease.session_id === session_id && !job.hold) {
        await this.hold(change.tx, job, session_id);
        return this.grant(change.tx, job, lease.attempt, lease.granted_at);
      }
      if (presence === 'revoked') throw new ImsError('agent_revoked', `${agent} was revoked`);
      const cause = { actor: `agent:${agent}`, sessionId: session_id };
      const decision = await this.transitions.apply(change, job, { type: 'claim' }, cause);
      if ('refusal' in decision) throw new ImsError(decision.refusal, decision.detail);
      return this.grant(change.tx, job, decision.next.attempt, job.now);
    });
  }

  /** A new process of the agent takes its attempt up from the journal. Throws `stale_attempt` when the fence has fallen. */
  @Serves(resumeJob)
  async resume({ job_id, attempt, session_id }: Resume, context: MessageContext): Promise<Grant> {
    const agent = callerOf(context);
    this.presence.heard(agent);
    return this.transitions.run(async (change) => {
      const job = await this.lockOwn(change.tx, job_id, agent, 'stale_attempt');
      const { lease } = await this.heldBy(change.tx, job);
      if (!lease || lease.attempt !== attempt) {
        throw new ImsError('stale_attempt', `attempt ${attempt} of ${job_id} is over; the job is ${job.status}`);
      }
      await this.hold(change.tx, job, session_id);
      if (lease.session_id !== session_id) {
        this.transitions.fact(change, job, 'job.resumed', `agent:${agent}`, { attempt, session_id });
      }
      return this.grant(change.tx, job, attempt, job.now);
    });
  }

  /**
   * One UPDATE for all leases of the process. What it did not touch is held by nobody of this name any more: stale.
   * The rule is `judgeRenewal` of the domain; a test holds the two against each other.
   */
  @Serves(renewLeases)
  async renew({ session_id, leases }: Renew, context: MessageContext): Promise<Renewed> {
    const agent = callerOf(context);
    this.presence.heard(agent);
    const renewed = await this.database.query<RenewedRow>(
      `UPDATE leases l SET until = clock_timestamp() + $5 * interval '1 millisecond'
       FROM unnest($1::text[], $2::int[]) AS held (job_id, attempt)
       WHERE l.job_id = held.job_id AND l.attempt = held.attempt AND l.agent_id = $3 AND l.session_id = $4
         AND l.until > clock_timestamp()
       RETURNING l.job_id, l.attempt, l.cancelling, l.force, l.reason`,
      [
        leases.map(({ job_id }) => job_id),
        leases.map(({ attempt }) => attempt),
        agent,
        session_id,
        this.config.LEASE_MS,
      ],
    );
    const stop = leases.flatMap((held) => {
      const same = ({ job_id, attempt }: RenewedRow): boolean => job_id === held.job_id && attempt === held.attempt;
      return orderFor(held, renewed.find(same));
    });
    return wire(Renewed, { lease_ms: this.config.LEASE_MS, stop });
  }

  private async lockOwn(
    tx: Tx,
    id: JobId,
    agent: AgentId,
    code: 'job_not_claimable' | 'stale_attempt',
  ): Promise<JobRow> {
    const job = await lockJob(tx, id);
    if (job?.agent_id !== agent) throw new ImsError(code, `there is no job ${id} for ${agent}`);
    return job;
  }

  /**
   * The lease of the running attempt, ended or not: until the sweep has taken it, nobody else has the job. Read after
   * the job is locked, not joined to it: a row that is joined to a locked one is as old as the statement.
   */
  private async heldBy(tx: Tx, job: JobRow): Promise<{ lease: LeaseRow | undefined; presence: string }> {
    const [row] = await tx.query<{ presence: string; attempt: number | null; session_id: string; granted_at: Date }>(
      `SELECT g.presence, l.attempt, l.session_id, a.granted_at
       FROM agents g LEFT JOIN leases l ON l.job_id = $1
         LEFT JOIN attempts a ON a.job_id = l.job_id AND a.number = l.attempt
       WHERE g.id = $2`,
      [job.id, job.agent_id],
    );
    const { presence, attempt, session_id, granted_at } = found(row, `agent ${job.agent_id}`);
    return { presence, lease: attempt === null ? undefined : { attempt, session_id, granted_at } };
  }

  private async hold(tx: Tx, job: JobRow, sessionId: string): Promise<void> {
    await tx.query(
      `UPDATE leases SET session_id = $2, until = clock_timestamp() + $3 * interval '1 millisecond' WHERE job_id = $1`,
      [job.id, sessionId, this.config.LEASE_MS],
    );
  }

  private async grant(tx: Tx, job: JobRow, attempt: number, issuedAt: Date): Promise<Grant> {
    const statement = await this.statements.sign(tx, job, attempt, issuedAt);
    return wire(Grant, { attempt, lease_ms: this.config.LEASE_MS, statement });
  }
}

function orderFor({ job_id, attempt }: HeldAttempt, row: RenewedRow | undefined): StopOrder[] {
  if (!row) {
    return [wire(StopOrder, { job_id, attempt, code: 'stale_attempt', force: false, reason: 'the lease is over' })];
  }
  const { cancelling, force, reason } = row;
  return cancelling ? [wire(StopOrder, { job_id, attempt, code: 'cancelled', force, reason })] : [];
}
