import { Injectable } from '@nestjs/common';
import {
  jobCancel,
  JobChanged,
  jobChanged,
  LIMITS,
  revokeJobTokens,
  RevokeJobTokens,
  StopOrder,
  type DeploymentId,
  type JobId,
  type JobStatus,
  type JsonObject,
} from '#contracts';
import {
  decideJob,
  deploymentMachine,
  factOf,
  settleDeployment,
  type JobDecision,
  type JobEffect,
  type JobEvent,
  type Settlement,
} from '#domain';
import { Bus } from '#messaging';
import { Database, type Tx } from '#persistence';
import { createLogger, currentContext, newContext } from '#platform';
import { SchedulerConfig } from '../config.js';
import { wire } from '../wire.js';
import { Change } from './change.js';
import { type Outcome } from './outcomes.js';
import { Offers } from './offers.js';
import {
  labelOf,
  lockDeployments,
  lockJobInDeployment,
  scoped,
  stateOf,
  type DeploymentRow,
  type JobRow,
  type NewJob,
} from './rows.js';

export const SCHEDULER = 'service:job-scheduler';

/** Two, so that PostgreSQL works on one group while the next is being made; more only wait for one another's chains. */
export const GROUPS = { groups: 2, items: 128 };

/** A deployment that ends by this change. `whole`: with nothing left out. */
interface Over {
  readonly deployment: DeploymentRow;
  readonly end: NonNullable<Settlement['end']>;
  readonly whole: boolean;
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
    private readonly offers: Offers,
    private readonly config: SchedulerConfig,
  ) {}

  /** Runs the work in one transaction; then settles deployments, writes, offers, and records facts, last of all (chain locks). */
  async run<T>(work: (change: Change) => Promise<T>): Promise<T> {
    return this.database.transaction(async (tx) => {
      const change = new Change(tx);
      const value = await work(change);
      await this.settle(change);
      await change.write(this.config.LEASE_MS);
      if (change.agents.size > 0) await this.offers.make(tx, [...change.agents]);
      // Chains in one order, so that two transactions that write the same two never wait for each other.
      await tx.recordAll(change.facts.toSorted((a, b) => (a.chainOf < b.chainOf ? -1 : a.chainOf > b.chainOf ? 1 : 0)));
      return value;
    });
  }

  /**
   * Makes jobs; those that are queued are offered, and those that wait under the same singleton give way. `actor`: who
   * asked for them.
   */
  async create(change: Change, jobs: readonly NewJob[], actor = SCHEDULER): Promise<void> {
    await this.replace(change, jobs, actor);
    await change.tx.query(
      `INSERT INTO jobs (id, vendor_id, app_id, kind, status, agent_id, install_id, deployment_id, build_id, release_id,
         component_id, component_name, component_kind, depends_on, key, priority, rank, not_before, expires_at,
         allow_failure, waived, error, finished_at, singleton, lock, traceparent)
       SELECT j.id, vendor_id, app_id, kind, status, agent_id, install_id, deployment_id, build_id, release_id,
         component_id, component_name, component_kind, depends_on, key, coalesce(priority, 0),
         now() - coalesce(priority, 0) * $2 * interval '1 millisecond', not_before, expires_at,
         coalesce(allow_failure, false), status = 'skipped', error, CASE status WHEN 'skipped' THEN now() END,
         singleton, lock, $3
       FROM jsonb_to_recordset($1) AS j (id text, vendor_id text, app_id text, kind text, status text, agent_id text,
         install_id text, deployment_id text, build_id text, release_id text, component_id text, component_name text,
         component_kind text, depends_on text[], key text, priority integer, not_before timestamptz,
         expires_at timestamptz, allow_failure boolean, error jsonb, singleton text, lock text)`,
      [JSON.stringify(jobs.map(rowOf)), LIMITS.priorityStepMs, (currentContext() ?? newContext()).traceparent],
    );
    for (const job of jobs) {
      if (job.status === 'queued') change.agents.add(job.agent_id);
      this.fact(change, job, 'job.created', actor, {
        kind: job.kind,
        status: job.status,
        component: job.component_name,
        ...(job.error ? { code: job.error.code, detail: job.error.detail } : {}),
      });
      this.announce(change.tx, job.id, job.deployment_id, job.status);
    }
  }

  /** What waits under the same singletons ends; what has begun goes on. */
  private async replace(change: Change, jobs: readonly NewJob[], actor: string): Promise<void> {
    const keys = new Map(
      jobs.flatMap((job) => (job.singleton === undefined ? [] : [[scoped(job, job.singleton), job.id] as const])),
    );
    if (keys.size === 0) return;
    const waiting = await change.tx.query<{ id: JobId }>(
      `SELECT id FROM jobs WHERE singleton = ANY($1) AND attempt = 0 AND status IN ('blocked', 'queued') ORDER BY id`,
      [[...keys.keys()]],
    );
    for (const { id } of waiting) {
      const job = await lockJobInDeployment(change.tx, id);
      const by = keys.get(job?.singleton ?? '');
      if (job && by !== undefined) this.apply(change, job, { type: 'replace', by }, { actor });
    }
    // Of one singleton only one waits: the index is not told that the others are going.
    await change.write(this.config.LEASE_MS);
  }

  /**
   * What follows from an event for a job whose row the caller has locked (and before it the deployment's, when the
   * event may end the job). A refusal changes nothing.
   */
  apply(change: Change, row: JobRow, event: JobEvent, cause: Cause): JobDecision {
    const job = change.current(row);
    const decision = decideJob(stateOf(job), event, job.now.getTime());
    if ('refusal' in decision) return decision;
    const { next, effects } = decision;
    const ended = effects.find((effect) => effect.type === 'ended');
    const after = change.put(job, next, {
      ended: ended && (ended.fault ?? 'well'),
      result: next.status === 'succeeded' ? cause.result : undefined,
    });
    for (const effect of effects) this.perform(change, after, effect, cause);
    const type = factOf(event, job.status, next.status);
    const fault = effects.find((effect) => effect.type === 'end_attempt' || effect.type === 'ended')?.fault;
    this.fact(change, job, type, cause.actor, {
      attempt: next.attempt,
      status: next.status,
      ...(fault ? { code: fault.code, detail: fault.detail.slice(0, 1000) } : {}),
      ...holdData(event, job),
      ...(cause.sessionId === undefined ? {} : { session_id: cause.sessionId }),
      ...cause.data,
    });
    if (next.status !== job.status) {
      this.announce(change.tx, job.id, job.deployment_id ?? undefined, next.status);
    }
    return decision;
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

  private perform(change: Change, job: JobRow, effect: JobEffect, cause: Cause): void {
    const { tx } = change;
    switch (effect.type) {
      case 'offer':
        // A later one is made by the sweep when its time has come.
        if (effect.afterMs === 0) change.agents.add(job.agent_id);
        return;
      case 'start_attempt':
        change.grant(job, effect.attempt, cause.sessionId ?? '');
        return;
      case 'end_attempt':
        change.endAttempt(job, effect.attempt, effect.status, effect.fault);
        // There is room for another, and perhaps a lock.
        change.agents.add(job.agent_id);
        this.revokeTokens(tx, job, effect.attempt);
        return;
      case 'stop_agent': {
        const { attempt, force, reason } = effect;
        change.stop(job, attempt, force, reason);
        const order = wire(StopOrder, { job_id: job.id, attempt, code: 'cancelled', force, reason });
        tx.afterCommit(() => {
          this.bus.signal(jobCancel, { agent: job.agent_id, job: job.id }, order);
        });
        return;
      }
      case 'ended':
        change.leave(job, job.status === 'succeeded' ? cause.outcome : undefined);
        if (job.deployment_id) change.unsettled.add(job.deployment_id);
    }
  }

  /** Unblocks, skips and ends, as far as the jobs of the deployments allow. The caller holds their locks. */
  private async settle(change: Change): Promise<void> {
    const { tx } = change;
    if (change.unsettled.size === 0) return;
    const deployments = await lockDeployments(tx, [...change.unsettled]);
    const jobs = await tx.query<JobRow>(
      'SELECT j.*, clock_timestamp() AS now FROM jobs j WHERE deployment_id = ANY($1) ORDER BY id',
      [deployments.map(({ id }) => id)],
    );
    const over: Over[] = [];
    for (const deployment of deployments) {
      if (deploymentMachine.isFinal(deployment.status)) continue;
      const own = jobs.filter((job) => job.deployment_id === deployment.id);
      const end = this.settleOne(change, deployment, own);
      // With something left out, the install is not what the release says.
      const whole = deployment.kind !== 'work' && own.every((job) => change.current(job).status === 'succeeded');
      if (end && deploymentMachine.next(deployment.status, end.status)) over.push({ deployment, end, whole });
    }
    if (over.length > 0) await this.endDeployments(change, over);
  }

  private settleOne(change: Change, { status }: DeploymentRow, rows: readonly JobRow[]): Settlement['end'] {
    const byId = new Map<string, JobRow>(rows.map((row) => [row.id, row]));
    const settled = settleDeployment(
      status,
      rows.map((row) => {
        const job = change.current(row);
        return {
          id: job.id,
          label: labelOf(job),
          status: job.status,
          dependsOn: job.depends_on,
          allowFailure: job.allow_failure,
          waived: job.waived,
          ...(job.error ? { fault: job.error } : {}),
        };
      }),
    );
    for (const jobId of settled.unblock) {
      const job = byId.get(jobId);
      if (job) this.apply(change, job, { type: 'dependencies_succeeded' }, { actor: SCHEDULER });
    }
    for (const { id: jobId, fault } of settled.skip) {
      const job = byId.get(jobId);
      if (job) this.apply(change, job, { type: 'dependency_failed', fault }, { actor: SCHEDULER });
    }
    return settled.end;
  }

  private async endDeployments(change: Change, over: readonly Over[]): Promise<void> {
    await change.tx.query(
      `WITH r AS MATERIALIZED (
         SELECT * FROM jsonb_to_recordset($1)
           AS r (id text, was text, status text, error jsonb, install_id text, release_id text, whole boolean)),
       install AS (
         UPDATE installs i SET release_id = r.release_id FROM r WHERE i.id = r.install_id AND r.status = 'succeeded' AND r.whole)
       UPDATE deployments d SET status = r.status, error = r.error, finished_at = now() FROM r
       WHERE d.id = r.id AND d.status = r.was`,
      [
        JSON.stringify(
          over.map(({ deployment: { id, status, install_id, kind, release_id }, end, whole }) => ({
            id,
            was: status,
            status: end.status,
            error: end.fault,
            install_id,
            release_id: kind === 'deploy' ? release_id : null,
            whole,
          })),
        ),
      ],
    );
    for (const { deployment, end } of over) {
      change.facts.push({
        chainOf: deployment.install_id,
        type: `deployment.${end.status}`,
        vendor_id: deployment.vendor_id,
        install_id: deployment.install_id,
        deployment_id: deployment.id,
        actor: SCHEDULER,
        data: end.fault ? { code: end.fault.code, detail: end.fault.detail.slice(0, 1000) } : {},
      });
    }
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

/** A job as the INSERT reads it. */
const rowOf = (job: NewJob): object => ({
  ...job,
  singleton: job.singleton === undefined ? null : scoped(job, job.singleton),
  lock: job.lock === undefined ? null : scoped(job, job.lock),
});

/** What a fact says of a hold: which came, or which was lifted and by what. */
function holdData(event: JobEvent, before: JobRow): JsonObject {
  if (event.type === 'hold') return { code: event.hold.code, detail: event.hold.detail };
  if (event.type === 'resume') return { code: before.hold?.code ?? null, by: 'vendor' };
  if (event.type === 'approved') return { code: before.hold?.code ?? null, by: 'approval' };
  if (event.type === 'lift') return { code: before.hold?.code ?? null, by: event.by };
  if (event.type !== 'result' || event.outcome !== 'deferred') return {};
  return { hold: JSON.parse(JSON.stringify(event.hold)) as JsonObject };
}
