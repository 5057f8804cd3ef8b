import { Injectable } from '@nestjs/common';
import {
  ImsError,
  jobCancel,
  JobChanged,
  jobChanged,
  JobOffer,
  jobOffer,
  revokeJobTokens,
  RevokeJobTokens,
  shardOf,
  StopOrder,
  type DeploymentId,
  type JobId,
  type JobStatus,
  type JsonObject,
} from '#contracts';
import {
  decideJob,
  deploymentMachine,
  isCustomerHold,
  jobMachine,
  settleDeployment,
  type JobDecision,
  type JobEffect,
  type JobEvent,
  type JobState,
} from '#domain';
import { Bus } from '#messaging';
import { Database, type NewEvent, type Tx } from '#persistence';
import { createLogger } from '#platform';
import { SchedulerConfig } from '../config.js';
import { json, wire } from '../wire.js';
import { storeFailure, storeOutcome, type Outcome } from './outcomes.js';
import { labelOf, lockDeployment, stateOf, type JobRow, type NewJob } from './rows.js';

export const SCHEDULER = 'service:job-scheduler';

/** One transaction of the engine. What has to come last in it is collected here and done when the work returns. */
export interface Change {
  readonly tx: Tx;
  /** Facts to record. */
  readonly facts: NewEvent[];
  /** Deployments (locked by the caller) in which a job has ended: what waited for it is looked at, once each. */
  readonly unsettled: Set<DeploymentId>;
}

/** Who or what caused an event, and what comes with it. */
export interface Cause {
  readonly actor: string;
  /** claim: the agent process that asks. */
  readonly sessionId?: string;
  /** result: what the attempt left behind, and its text for the resource. */
  readonly outcome?: Outcome;
  readonly result?: JsonObject;
  /** More for the fact. */
  readonly data?: JsonObject;
}

/**
 * The one place where a job changes: asks the rules, writes the new state behind its fence, and does what the rules
 * ask for (attempt, lease, offer, stop order, component, deployment) in the same transaction.
 */
@Injectable()
export class Transitions {
  private readonly logger = createLogger('engine');

  constructor(
    private readonly database: Database,
    private readonly bus: Bus,
    private readonly config: SchedulerConfig,
  ) {}

  /** Runs the work in one transaction; then settles deployments and records facts, last of all (chain locks). */
  async run<T>(work: (change: Change) => Promise<T>): Promise<T> {
    return this.database.transaction(async (tx) => {
      const change: Change = { tx, facts: [], unsettled: new Set() };
      const value = await work(change);
      for (const id of change.unsettled) await this.settle(change, id);
      // Chains in one order, so that two transactions that write the same two never wait for each other.
      const inOrder = change.facts.toSorted((a, b) => (a.chainOf < b.chainOf ? -1 : a.chainOf > b.chainOf ? 1 : 0));
      for (const fact of inOrder) await tx.record(fact);
      return value;
    });
  }

  /** Makes jobs; those that are queued are offered. */
  async create(change: Change, jobs: readonly NewJob[]): Promise<void> {
    await change.tx.query(
      `INSERT INTO jobs (id, vendor_id, app_id, kind, status, agent_id, install_id, deployment_id, build_id, release_id,
         component_id, component_name, component_kind, depends_on, offers, offered_at)
       SELECT j.id, vendor_id, app_id, kind, status, agent_id, install_id, deployment_id, build_id, release_id,
         component_id, component_name, component_kind, depends_on,
         CASE status WHEN 'queued' THEN 1 ELSE 0 END, CASE status WHEN 'queued' THEN now() END
       FROM jsonb_to_recordset($1) AS j (id text, vendor_id text, app_id text, kind text, status text, agent_id text,
         install_id text, deployment_id text, build_id text, release_id text, component_id text, component_name text,
         component_kind text, depends_on text[])`,
      [JSON.stringify(jobs)],
    );
    for (const job of jobs) {
      if (job.status === 'queued') this.publishOffer(change.tx, { ...job, attempt: 0, offers: 1 });
      this.fact(change, job, 'job.created', SCHEDULER, {
        kind: job.kind,
        status: job.status,
        component: job.component_name,
      });
      this.announce(change.tx, job.id, job.deployment_id, job.status);
    }
  }

  /**
   * What follows from an event for a job whose row the caller has locked (and before it the deployment's, when the
   * event may end the job). A refusal changes nothing.
   */
  async apply(change: Change, job: JobRow, event: JobEvent, cause: Cause): Promise<JobDecision> {
    const decision = decideJob(stateOf(job), event, job.now.getTime());
    if ('refusal' in decision) return decision;
    const { next, effects } = decision;
    const offers = await this.writeState(change.tx, job, next, effects, cause);
    const after: JobRow = { ...job, ...next, offers, not_before: null, hold: next.hold ?? null };
    for (const effect of effects) await this.perform(change, after, effect, cause);
    const type = factOf(event, job, next.status);
    const fault = effects.find((effect) => effect.type === 'end_attempt' || effect.type === 'ended')?.fault;
    this.fact(change, job, type, cause.actor, {
      attempt: next.attempt,
      status: next.status,
      ...(fault ? { code: fault.code, detail: fault.detail.slice(0, 1000) } : {}),
      ...holdData(event, job),
      ...(cause.sessionId === undefined ? {} : { session_id: cause.sessionId }),
      ...cause.data,
    });
    if (next.status !== job.status) this.announce(change.tx, job.id, job.deployment_id ?? undefined, next.status);
    return decision;
  }

  /** Publishes an offer that the caller has counted. The id names attempt and offer: each is delivered once. */
  publishOffer(tx: Tx, job: Pick<JobRow, 'id' | 'kind' | 'agent_id' | 'attempt' | 'offers'>): void {
    const parts = { shard: shardOf(job.agent_id), agent: job.agent_id, job: job.id };
    tx.publish(
      jobOffer,
      parts,
      wire(JobOffer, { job_id: job.id, kind: job.kind }),
      `${job.id}.${job.attempt}.${job.offers}`,
    );
  }

  fact(
    change: Change,
    about: Pick<NewJob, 'id' | 'vendor_id' | 'agent_id'> & {
      readonly install_id?: NewJob['install_id'] | null;
      readonly deployment_id?: NewJob['deployment_id'] | null;
    },
    type: string,
    actor: string,
    data: JsonObject,
  ): void {
    change.facts.push({
      chainOf: about.install_id ?? about.vendor_id,
      type,
      vendor_id: about.vendor_id,
      install_id: about.install_id ?? undefined,
      deployment_id: about.deployment_id ?? undefined,
      job_id: about.id,
      agent_id: about.agent_id,
      actor,
      data,
    });
  }

  /** The new state, behind the fence. The row is locked, so a fence that does not hold is a fault of ours. */
  private async writeState(
    tx: Tx,
    job: JobRow,
    next: JobState,
    effects: readonly JobEffect[],
    cause: Cause,
  ): Promise<number> {
    const offered = effects.some((effect) => effect.type === 'offer' && effect.afterMs === 0);
    const ended = effects.find((effect) => effect.type === 'ended');
    const delayed = next.notBefore > job.now.getTime();
    const [row] = await tx.query<{ offers: number }>(
      `UPDATE jobs SET status = $4, attempt = $5, failures = $6,
         not_before = $7::timestamptz,
         -- Counted anew for each attempt, and on over a hold: attempt and number are the offer's identity.
         offers = CASE WHEN $3 = 'running' AND $4 = 'queued' THEN 0 ELSE offers END + $8::boolean::int,
         offered_at = CASE WHEN $8 THEN now() WHEN $4 = 'queued' THEN NULL ELSE offered_at END,
         hold = $12::jsonb, hold_until = $13::timestamptz,
         hold_serial = CASE WHEN $14
           THEN (SELECT policy_serial FROM attempts WHERE job_id = $1 AND number = $2) END,
         started_at = CASE WHEN $4 = 'running' THEN coalesce(started_at, now()) ELSE started_at END,
         finished_at = CASE WHEN $9 THEN now() ELSE finished_at END,
         error = CASE WHEN $9 THEN $10::jsonb ELSE error END,
         result = CASE WHEN $9 THEN $11::jsonb ELSE result END
       WHERE id = $1 AND attempt = $2 AND status = $3 RETURNING offers`,
      [
        job.id,
        job.attempt,
        job.status,
        next.status,
        next.attempt,
        next.failures,
        delayed ? new Date(next.notBefore) : null,
        offered,
        ended !== undefined,
        json(ended?.fault),
        json(next.status === 'succeeded' ? cause.result : undefined),
        json(next.hold),
        next.hold?.until ?? null,
        next.hold !== undefined && isCustomerHold(next.hold),
      ],
    );
    if (!row) throw new ImsError('internal', `the fence of ${job.id} did not hold`);
    return row.offers;
  }

  private async perform(change: Change, job: JobRow, effect: JobEffect, cause: Cause): Promise<void> {
    const { tx } = change;
    switch (effect.type) {
      case 'offer':
        // A later one is made by the sweep when its time has come.
        if (effect.afterMs === 0) this.publishOffer(tx, job);
        return;
      case 'start_attempt':
        await tx.query(
          `WITH attempt AS (
             INSERT INTO attempts (job_id, number, agent_id, session_id, status, granted_at, policy_serial)
             SELECT $1, $2, $3, $4, 'running', $6, policy_serial FROM agents WHERE id = $3)
           INSERT INTO leases (job_id, attempt, agent_id, session_id, until)
           VALUES ($1, $2, $3, $4, clock_timestamp() + $5 * interval '1 millisecond')`,
          [job.id, effect.attempt, job.agent_id, cause.sessionId ?? '', this.config.LEASE_MS, job.now],
        );
        return;
      case 'end_attempt':
        await tx.query(
          `WITH lease AS (DELETE FROM leases WHERE job_id = $1)
           UPDATE attempts SET status = $3, error = $4, ended_at = now()
           WHERE job_id = $1 AND number = $2 AND status = 'running'`,
          [job.id, effect.attempt, effect.status, json(effect.fault)],
        );
        this.revokeTokens(tx, job, effect.attempt);
        return;
      case 'stop_agent': {
        const { attempt, force, reason } = effect;
        await tx.query(
          'UPDATE leases SET cancelling = true, force = force OR $3, reason = $4 WHERE job_id = $1 AND attempt = $2',
          [job.id, attempt, force, reason],
        );
        const order = wire(StopOrder, { job_id: job.id, attempt, code: 'cancelled', force, reason });
        tx.afterCommit(() => {
          this.bus.signal(jobCancel, { agent: job.agent_id, job: job.id }, order);
        });
        return;
      }
      case 'ended':
        if (cause.outcome && job.status === 'succeeded') await storeOutcome(tx, job, cause.outcome);
        else await storeFailure(tx, job);
        if (job.deployment_id) change.unsettled.add(job.deployment_id);
    }
  }

  /** Unblocks, skips and ends, as far as the jobs of the deployment allow. The caller holds its lock. */
  private async settle(change: Change, id: DeploymentId): Promise<void> {
    const { tx } = change;
    const deployment = await lockDeployment(tx, id);
    if (!deployment || deploymentMachine.isFinal(deployment.status)) return;
    const jobs = await tx.query<JobRow>(
      'SELECT j.*, clock_timestamp() AS now FROM jobs j WHERE deployment_id = $1 ORDER BY id',
      [id],
    );
    const settled = settleDeployment(
      deployment.status,
      jobs.map((job) => ({
        id: job.id,
        label: labelOf(job),
        status: job.status,
        dependsOn: job.depends_on,
        ...(job.error ? { fault: job.error } : {}),
      })),
    );
    const byId = new Map<string, JobRow>(jobs.map((job) => [job.id, job]));
    for (const jobId of settled.unblock) {
      const job = byId.get(jobId);
      if (job) await this.apply(change, job, { type: 'dependencies_succeeded' }, { actor: SCHEDULER });
    }
    for (const { id: jobId, fault } of settled.skip) {
      const job = byId.get(jobId);
      if (job) await this.apply(change, job, { type: 'dependency_failed', fault }, { actor: SCHEDULER });
    }
    const { end } = settled;
    if (!end || !deploymentMachine.next(deployment.status, end.status)) return;
    await tx.query(
      `UPDATE deployments SET status = $3, error = $4, finished_at = now() WHERE id = $1 AND status = $2`,
      [id, deployment.status, end.status, json(end.fault)],
    );
    if (end.status === 'succeeded') {
      await tx.query('UPDATE installs SET release_id = $2 WHERE id = $1', [
        deployment.install_id,
        deployment.kind === 'deploy' ? deployment.release_id : null,
      ]);
    }
    change.facts.push({
      chainOf: deployment.install_id,
      type: `deployment.${end.status}`,
      vendor_id: deployment.vendor_id,
      install_id: deployment.install_id,
      deployment_id: id,
      actor: SCHEDULER,
      data: end.fault ? { code: end.fault.code, detail: end.fault.detail.slice(0, 1000) } : {},
    });
  }

  private announce(tx: Tx, job_id: JobId, deployment_id: DeploymentId | undefined, status: JobStatus): void {
    const body = wire(JobChanged, { job_id, deployment_id, status });
    tx.afterCommit(() => {
      this.bus.signal(jobChanged, { job: job_id }, body);
    });
  }

  /**
   * What registry-token gives for the statement of an attempt that is over, also one that succeeded: nothing. Best
   * effort: a token ends by itself in minutes, the statement in an hour.
   */
  private revokeTokens(tx: Tx, { id, vendor_id, kind }: JobRow, attempt: number): void {
    if (kind !== 'sync' && kind !== 'build') return;
    tx.afterCommit(() => {
      const over = wire(RevokeJobTokens, { vendor_id, job_id: id, attempt });
      this.bus.call(revokeJobTokens, over).catch((error: unknown) => {
        this.logger.debug({ err: error, job: id }, 'the rights of an attempt that is over are left to expire');
      });
    });
  }
}

/** The name of what happened. */
function factOf(event: JobEvent, before: JobRow, status: JobStatus): string {
  switch (event.type) {
    case 'claim':
      return 'job.granted';
    case 'dependencies_succeeded':
      return 'job.offered';
    case 'lease_ended':
      return before.status === 'cancelling' ? 'job.cancelled' : 'job.lost';
    case 'result':
      if (event.outcome === 'deferred' && status === 'queued') return 'job.deferred';
      return jobMachine.isFinal(status) ? `job.${status}` : 'job.retrying';
    case 'hold':
      return 'job.held';
    case 'resume':
    case 'lift':
      return 'job.hold_lifted';
    case 'cancel':
    case 'dependency_failed':
      return `job.${status}`;
  }
}

/** What a fact says of a hold: which came, or which was lifted and by what. */
function holdData(event: JobEvent, before: JobRow): JsonObject {
  if (event.type === 'hold') return { code: event.hold.code, detail: event.hold.detail };
  if (event.type === 'resume') return { code: before.hold?.code ?? null, by: 'vendor' };
  if (event.type === 'lift') return { code: before.hold?.code ?? null, by: event.by };
  if (event.type !== 'result' || event.outcome !== 'deferred') return {};
  return { hold: JSON.parse(JSON.stringify(event.hold)) as JsonObject };
}
