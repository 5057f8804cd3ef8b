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
import { Database, GroupCommit, type Tx } from '#persistence';
import { runInContext, type RequestContext } from '#platform';
import { Presence } from '../agents/presence.js';
import { found } from '../catalogue/lists.js';
import { SchedulerConfig } from '../config.js';
import { wire } from '../wire.js';
import { lockJobs, type JobRow } from './rows.js';
import { barFor } from './bars.js';
import { type Change } from './change.js';
import { factsOf, Statements, type JobFacts } from './statements.js';
import { GROUPS, Transitions } from './transitions.js';

/** A process that asks for a job. */
interface Asking {
  readonly job_id: JobId;
  readonly agent: AgentId;
  readonly session_id: string;
  readonly context: RequestContext;
}
interface Granted {
  readonly job: JobRow;
  readonly facts: JobFacts;
  readonly attempt: number;
  readonly issuedAt: Date;
  /** The session has it already. */
  readonly again?: true;
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

  private readonly groups = new GroupCommit<Asking, Granted | ImsError>((claims) => this.commit(claims), GROUPS);

  /**
   * Grants the job to exactly one of all that ask. The same session asking again gets the same grant and a new lease:
   * its reply was lost. Throws `job_not_claimable` for everything else, also for a job of another agent.
   */
  @Serves(claimJob)
  async claim({ job_id, session_id }: Claim, context: MessageContext): Promise<Grant> {
    const agent = callerOf(context);
    this.presence.heard(agent);
    const granted = await this.groups.add({ job_id, agent, session_id, context });
    if (granted instanceof ImsError) throw granted;
    return this.grant(granted);
  }

  /** A new process of the agent takes its attempt up from the journal. Throws `stale_attempt` when the fence has fallen. */
  @Serves(resumeJob)
  async resume({ job_id, attempt, session_id }: Resume, context: MessageContext): Promise<Grant> {
    const agent = callerOf(context);
    this.presence.heard(agent);
    const granted = await this.transitions.run(async (change) => {
      const [job] = await lockJobs(change.tx, [job_id]);
      if (job?.agent_id !== agent) throw new ImsError('stale_attempt', `there is no job ${job_id} for ${agent}`);
      const facts = found((await factsOf(change.tx, [job_id])).get(job_id), `job ${job_id}`);
      if (facts.lease?.attempt !== attempt || facts.lease.unlocking) {
        throw new ImsError('stale_attempt', `attempt ${attempt} of ${job_id} is over; the job is ${job.status}`);
      }
      await this.hold(change.tx, [{ job_id, session_id }]);
      if (facts.lease.session_id !== session_id) {
        this.transitions.fact(change, job, 'job.resumed', `agent:${agent}`, { attempt, session_id });
      }
      return { job, facts, attempt, issuedAt: job.now };
    });
    return this.grant(granted);
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
         AND l.until > clock_timestamp() AND NOT l.unlocking
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

  /**
   * The claims that wait share one transaction. Facts are read after the jobs are locked, not joined to them: a row that
   * is joined to a locked one is as old as the statement.
   */
  private commit(claims: readonly Asking[]): Promise<(Granted | ImsError)[]> {
    return this.transitions.run(async (change) => {
      const ids = [...new Set(claims.map(({ job_id }) => job_id))];
      const jobs = new Map((await lockJobs(change.tx, ids)).map((job) => [job.id, job]));
      const facts = await factsOf(change.tx, ids);
      const answers = claims.map((claim) =>
        runInContext(claim.context, () => this.decide(change, claim, jobs.get(claim.job_id), facts.get(claim.job_id))),
      );
      const again = claims.filter((_claim, i) => (answers[i] as Partial<Granted>).again);
      await this.hold(change.tx, again);
      return answers;
    });
  }

  private decide(
    change: Change,
    { job_id, agent, session_id }: Asking,
    job: JobRow | undefined,
    facts: JobFacts | undefined,
  ): Granted | ImsError {
    if (job?.agent_id !== agent || !facts) {
      return new ImsError('job_not_claimable', `there is no job ${job_id} for ${agent}`);
    }
    const { lease } = facts;
    // A held job gives no grant, not even one whose reply was lost: the attempt ends with its lease.
    if (lease?.session_id === session_id && !lease.unlocking && !job.hold) {
      return { job, facts, attempt: lease.attempt, issuedAt: lease.granted_at, again: true };
    }
    if (facts.presence === 'revoked' || facts.agent_key === null) {
      return new ImsError('agent_revoked', `${agent} was revoked`);
    }
    const cause = { actor: `agent:${agent}`, sessionId: session_id };
    const barred = barFor(job, facts.intake, change.holderOf(job) ?? facts.lock_holder);
    const decision = this.transitions.apply(change, job, { type: 'claim', barred }, cause);
    if ('refusal' in decision) {
      // Offered again as soon as what bars it is gone, and not only when this offer is old.
      if (barred !== undefined) change.takeBack(job);
      return new ImsError(decision.refusal, decision.detail);
    }
    return { job, facts, attempt: decision.next.attempt, issuedAt: job.now };
  }

  private async hold(tx: Tx, held: readonly Pick<Asking, 'job_id' | 'session_id'>[]): Promise<void> {
    if (held.length === 0) return;
    await tx.query(
      `UPDATE leases l SET session_id = r.session_id, until = clock_timestamp() + $3 * interval '1 millisecond'
         FROM unnest($1::text[], $2::text[]) AS r (job_id, session_id) WHERE l.job_id = r.job_id`,
      [held.map(({ job_id }) => job_id), held.map(({ session_id }) => session_id), this.config.LEASE_MS],
    );
  }

  private grant({ job, facts, attempt, issuedAt }: Granted): Grant {
    const statement = this.statements.sign(job, facts, attempt, issuedAt);
    return wire(Grant, { attempt, lease_ms: this.config.LEASE_MS, statement, traceparent: job.traceparent });
  }
}

function orderFor({ job_id, attempt }: HeldAttempt, row: RenewedRow | undefined): StopOrder[] {
  if (!row) {
    return [wire(StopOrder, { job_id, attempt, code: 'stale_attempt', force: false, reason: 'the lease is over' })];
  }
  const { cancelling, force, reason } = row;
  return cancelling ? [wire(StopOrder, { job_id, attempt, code: 'cancelled', force, reason })] : [];
}
