import {
  LIMITS,
  type AgentId,
  type DeploymentId,
  type Hold,
  type JobId,
  type JobKind,
  type JobStatus,
  type JsonObject,
} from '#contracts';
import {
  decideJob,
  deploymentMachine,
  factOf,
  jobMachine,
  judgeRenewal,
  planDeploy,
  settleDeployment,
  waitingReason,
  type Fault,
  type GraphComponent,
  type JobEvent,
  type JobState,
  type Lease,
} from '#domain';
import { type Clock } from './clock.js';

/** The rules that the model plays by: the product's own. A test may break one, to see that it is found. */
export const RULES = { decideJob, judgeRenewal, settleDeployment, waitingReason };
export type Rules = typeof RULES;

export interface ModelJob {
  readonly id: JobId;
  readonly deployment: DeploymentId;
  readonly agent: AgentId;
  readonly label: string;
  readonly dependsOn: readonly JobId[];
  state: JobState;
  fault?: Fault;
  offers: number;
  /** Null: to be made when the back-off is over. */
  offeredAt: number | null;
}
export interface ModelAttempt {
  readonly job: JobId;
  readonly number: number;
  readonly grantedAt: number;
  status: string;
  endedAt?: number;
}
export interface Fact {
  readonly type: string;
  readonly at: number;
  readonly job?: JobId;
  readonly deployment: DeploymentId;
  readonly data: JsonObject;
}
interface ModelLease extends Lease {
  readonly until: number;
}

export type Renewal = 'renewed' | 'cancelled' | 'stale';

/**
 * PostgreSQL and any number of scheduler replicas: each call is one transaction, whole or not at all. What is lost
 * before or after it is the transport's doing.
 */
export class ModelScheduler {
  readonly jobs = new Map<JobId, ModelJob>();
  readonly deployments = new Map<DeploymentId, { status: string; jobs: ModelJob[] }>();
  readonly attempts = new Map<JobId, ModelAttempt[]>();
  readonly facts: Fact[] = [];
  private readonly leases = new Map<JobId, ModelLease>();
  private readonly queued = new Set<ModelJob>();

  constructor(
    private readonly clock: Clock,
    private readonly rules: Rules,
    /** Offers and orders leave with the commit, and may be lost. */
    private readonly out: {
      offer(agent: AgentId, job: JobId): void;
      stop(agent: AgentId, job: JobId, attempt: number): void;
    },
  ) {}

  deploy(id: DeploymentId, agent: AgentId, components: readonly GraphComponent[]): void {
    const planned = planDeploy(components);
    const idOf = (key: string): JobId => `job_${id}_${key.replace(':', '_')}` as JobId;
    const jobs = planned.map((plan): ModelJob => {
      const status: JobStatus = plan.dependsOn.length > 0 ? 'blocked' : 'queued';
      const kind: JobKind = plan.kind;
      const state: JobState = { kind, status, attempt: 0, failures: 0, notBefore: 0 };
      const dependsOn = plan.dependsOn.map(idOf);
      return {
        id: idOf(plan.key),
        deployment: id,
        agent,
        label: plan.key,
        dependsOn,
        state,
        offers: 0,
        offeredAt: null,
      };
    });
    this.deployments.set(id, { status: 'running', jobs });
    for (const job of jobs) {
      this.jobs.set(job.id, job);
      this.attempts.set(job.id, []);
      this.fact('job.created', job, { status: job.state.status });
      if (job.state.status !== 'queued') continue;
      this.queued.add(job);
      this.offer(job);
    }
  }

  /** The attempt that is granted; undefined when it is not. The same session gets the same answer again. */
  claim(agent: AgentId, session: string, id: JobId): number | undefined {
    const job = this.jobs.get(id);
    if (job?.agent !== agent) return undefined;
    const lease = this.leases.get(id);
    if (lease && lease.sessionId === session && !job.state.hold) {
      this.leases.set(id, { ...lease, until: this.clock.now + LIMITS.leaseMs });
      return lease.attempt;
    }
    const done = this.apply(job, { type: 'claim' }, { session });
    return done ? job.state.attempt : undefined;
  }

  resume(agent: AgentId, session: string, id: JobId, attempt: number): boolean {
    const lease = this.leases.get(id);
    if (!lease || lease.attempt !== attempt || lease.agentId !== agent) return false;
    this.leases.set(id, { ...lease, sessionId: session, until: this.clock.now + LIMITS.leaseMs });
    return true;
  }

  renew(agent: AgentId, session: string, id: JobId, attempt: number): Renewal {
    const lease = this.leases.get(id);
    const verdict = this.rules.judgeRenewal(lease, { attempt, agentId: agent, sessionId: session }, this.clock.now);
    if (verdict === 'stale' || !lease) return 'stale';
    this.leases.set(id, { ...lease, until: this.clock.now + LIMITS.leaseMs });
    return verdict === 'stop_cancelled' ? 'cancelled' : 'renewed';
  }

  /** Whether the result counts, now or before: the receipt. */
  result(
    agent: AgentId,
    id: JobId,
    attempt: number,
    said: { outcome: 'succeeded' | 'failed' | 'cancelled' | 'deferred'; code?: string },
  ): boolean {
    const job = this.jobs.get(id);
    const known = this.attempts.get(id)?.find(({ number }) => number === attempt);
    if (job?.agent !== agent || !known) return false;
    if (known.status !== 'running') return known.status !== 'lost';
    const hold: Hold = {
      code: 'customer_paused',
      detail: 'paused',
      until: new Date(this.clock.now + 3_000).toISOString(),
    };
    const fault = said.code === undefined ? {} : { fault: { code: said.code, detail: '' } };
    const event: JobEvent =
      said.outcome === 'deferred'
        ? { type: 'result', attempt, outcome: 'deferred', hold }
        : { type: 'result', attempt, outcome: said.outcome, ...fault };
    return this.apply(job, event, {});
  }

  cancel(id: DeploymentId): void {
    const deployment = this.deployments.get(id);
    if (deployment?.status !== 'running') return;
    deployment.status = deploymentMachine.next('running', 'cancel') ?? 'running';
    this.facts.push({ type: 'deployment.cancelling', at: this.clock.now, deployment: id, data: {} });
    for (const job of deployment.jobs) {
      if (!jobMachine.isFinal(job.state.status))
        this.apply(job, { type: 'cancel', force: false, reason: 'no longer wanted' }, {});
    }
  }

  cancelJob(id: JobId): void {
    const job = this.jobs.get(id);
    if (job) this.apply(job, { type: 'cancel', force: false, reason: 'no longer wanted' }, {});
  }

  /** Leases that have ended, holds that are over, offers that are due or that nobody has claimed. */
  sweep(): void {
    const { now } = this.clock;
    for (const [id, lease] of this.leases) {
      const job = this.jobs.get(id);
      if (job && lease.until <= now)
        this.apply(job, { type: 'lease_ended', attempt: lease.attempt }, { lease_until: lease.until });
    }
    for (const job of this.queued) {
      if (job.state.hold?.until !== undefined && Date.parse(job.state.hold.until) <= now)
        this.apply(job, { type: 'lift', by: 'time' }, {});
      const due = job.offeredAt === null ? job.state.notBefore <= now : now - job.offeredAt > LIMITS.reofferMs;
      if (due && !job.state.hold && job.state.status === 'queued') this.offer(job);
    }
  }

  reasonOf(job: ModelJob): ReturnType<typeof waitingReason> {
    const blockedBy = job.dependsOn.filter((id) => !jobMachine.isFinal(this.jobs.get(id)?.state.status ?? 'blocked'));
    return this.rules.waitingReason({
      status: job.state.status,
      attempt: job.state.attempt,
      blockedBy,
      agent: { id: job.agent, presence: 'online' },
      running: 0,
      slots: LIMITS.agentSlots,
      offers: job.offers,
      ...(job.state.hold ? { hold: job.state.hold } : {}),
    });
  }

  private offer(job: ModelJob): void {
    job.offers += 1;
    job.offeredAt = this.clock.now;
    this.out.offer(job.agent, job.id);
  }

  private apply(job: ModelJob, event: JobEvent, data: { session?: string; lease_until?: number }): boolean {
    const { now } = this.clock;
    const before = job.state;
    const decision = this.rules.decideJob(before, event, now);
    if ('refusal' in decision) return false;
    job.state = decision.next;
    if (job.state.status === 'queued') {
      this.queued.add(job);
      job.offeredAt = null;
    } else this.queued.delete(job);
    for (const effect of decision.effects) {
      switch (effect.type) {
        case 'offer':
          if (effect.afterMs === 0) this.offer(job);
          break;
        case 'start_attempt':
          this.attempts.get(job.id)?.push({ job: job.id, number: effect.attempt, grantedAt: now, status: 'running' });
          this.leases.set(job.id, {
            attempt: effect.attempt,
            agentId: job.agent,
            sessionId: data.session ?? '',
            until: now + LIMITS.leaseMs,
            cancelling: false,
          });
          break;
        case 'end_attempt': {
          const attempt = this.attempts.get(job.id)?.find(({ number }) => number === effect.attempt);
          if (attempt) Object.assign(attempt, { status: effect.status, endedAt: now });
          this.leases.delete(job.id);
          break;
        }
        case 'stop_agent': {
          const lease = this.leases.get(job.id);
          if (lease) this.leases.set(job.id, { ...lease, cancelling: true });
          this.out.stop(job.agent, job.id, effect.attempt);
          break;
        }
        case 'ended':
          if (effect.fault) job.fault = effect.fault;
      }
    }
    const lease = data.lease_until === undefined ? {} : { lease_until: data.lease_until };
    this.fact(factOf(event, before.status, job.state.status), job, {
      attempt: job.state.attempt,
      status: job.state.status,
      ...lease,
    });
    if (jobMachine.isFinal(job.state.status)) this.settle(job.deployment);
    return true;
  }

  private settle(id: DeploymentId): void {
    const deployment = this.deployments.get(id);
    if (!deployment || deploymentMachine.isFinal(deployment.status as 'running')) return;
    const jobs = deployment.jobs.map(({ id: job, label, state: { status }, dependsOn, fault }) => ({
      id: job,
      label,
      status,
      dependsOn,
      ...(fault ? { fault } : {}),
    }));
    const settled = this.rules.settleDeployment(deployment.status as 'running', jobs);
    for (const each of settled.unblock) this.follow(each, { type: 'dependencies_succeeded' });
    for (const { id: each, fault } of settled.skip) this.follow(each, { type: 'dependency_failed', fault });
    if (settled.end) deployment.status = settled.end.status;
  }
  private follow(id: string, event: JobEvent): void {
    const job = this.jobs.get(id);
    if (job) this.apply(job, event, {});
  }

  private fact(type: string, job: ModelJob, data: JsonObject): void {
    this.facts.push({ type, at: this.clock.now, job: job.id, deployment: job.deployment, data });
  }
}
