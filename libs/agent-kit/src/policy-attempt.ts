import {
  ImsError,
  type Envelope,
  type Hold,
  type JobId,
  type JobResult,
  type JobStatement,
  type JsonObject,
} from '#contracts';
import {
  decidePlan,
  decidePolicy,
  isCustomerHold,
  type Change,
  type PlanAnswer,
  type PlanFacts,
  type PolicyDecision,
} from '#domain';
import { statementDigest } from './approvals.js';
import { type CustomerGate } from './policy-gate.js';

/** What a step found that the next one would do, before it does it. */
export interface ProposedPlan extends PlanFacts {
  /** For the customer's operator to read; it stays on this host. */
  readonly text: string;
  /** For both sides to see, sensitive values hidden. A plan without it is the customer's alone. */
  readonly changes?: readonly Change[];
}

/** Not a failure: the job is given back, to be offered again when `hold` is over. */
export class Deferral extends Error {
  override readonly name = 'Deferral';
  constructor(readonly hold: Hold) {
    super(hold.detail);
  }
}

const DAY_HOURS = 24;

/** What the customer lets one attempt do. Each word of it is on disk before what it announces happens. */
export class AttemptGate {
  private readonly ids: JsonObject;

  constructor(
    private readonly gate: CustomerGate,
    private readonly statement: JobStatement,
    private readonly envelope: Envelope,
  ) {
    const { job_id, attempt } = statement;
    this.ids = { job_id, attempt };
  }

  get attemptMs(): number | undefined {
    const minutes = this.gate.policy.limits?.attempt_minutes;
    return minutes === undefined ? undefined : minutes * 60_000;
  }
  get logBytes(): number | undefined {
    return this.gate.policy.limits?.log_bytes;
  }

  /**
   * Before the first step. Throws Deferral, or `policy_refused`. `resumed`: an earlier life of the agent was let
   * through, and work that has begun may finish. `plans`: whether the handler shows what it would do.
   */
  async begin({ resumed, plans }: { readonly resumed: boolean; readonly plans: boolean }): Promise<void> {
    const { component, kind, artifact, deployment_id: deployment, app_name: app } = this.statement;
    const facts = {
      kind,
      component: component.name,
      component_kind: component.kind,
      app,
      statement_digest: statementDigest(this.envelope),
      ...(artifact === undefined ? {} : { artifact_digest: artifact.digest }),
      ...(deployment === undefined ? {} : { deployment_id: deployment }),
    };
    if (resumed) {
      await this.note('job.resumed', facts);
      return;
    }
    const received = this.note('job.received', facts);
    await this.gate.refresh();
    await received;
    await this.carryOut(this.decide());
    const { approve = 'never', mode = 'normal' } = this.gate.policy;
    if (!plans && (kind === 'apply' || kind === 'destroy') && (approve !== 'never' || mode === 'read_only')) {
      const detail = `this agent cannot show what its ${kind} jobs would do, and the customer's policy asks for it`;
      await this.carryOut({ decision: 'refuse', code: 'policy_refused', detail });
    }
    await this.note('job.started', {});
  }

  /** Keeps the text for the operator. */
  async keepPlan(plan: ProposedPlan): Promise<void> {
    const { statement } = this;
    const head = [
      `plan       ${plan.digest}`,
      `job        ${statement.job_id}: ${this.what}`,
      `artifact   ${statement.artifact?.digest ?? '-'}`,
      `would      create ${plan.created}, change ${plan.updated}, delete ${plan.deleted}`,
    ];
    await this.gate.approvals.keepPlan(plan.digest, `${head.join('\n')}\n\n${plan.text}\n`);
  }

  /**
   * Before the plan is carried out. Throws Deferral, or `policy_refused`. `ask`: the vendor wants the customer's yes,
   * whatever the customer's own policy asks for.
   */
  async permit(plan: PlanFacts, ask = false): Promise<void> {
    await this.gate.refresh();
    const policy = ask ? { ...this.gate.policy, approve: 'always' as const } : this.gate.policy;
    const { approvers = [], limits } = this.gate.policy;
    const answer = await this.gate.approvals.answer(plan.digest, this.jobId, {
      approvers,
      hours: limits?.approval_hours ?? DAY_HOURS,
      now: this.gate.now(),
    });
    // Again, as planning may have taken its time: nothing of the product has been touched yet.
    const now = this.decide();
    const decision = now.decision === 'allow' ? decidePlan(policy, plan, answer) : now;
    if (decision.decision === 'defer' && decision.hold.code === 'awaiting_customer_approval') await this.ask(plan);
    await this.carryOut(decision, plan, answer);
  }

  /** The attempt is over, before that is said to the scheduler. */
  async ended(result: JobResult): Promise<void> {
    // Deferred and refused are on record since they were decided; not what the vendor puts off.
    if (result.outcome === 'deferred') {
      const { hold } = result;
      if (hold && !isCustomerHold(hold)) await this.note('job.deferred', { code: hold.code, detail: hold.detail });
      return;
    }
    const { code, detail = '' } = result.error ?? {};
    if (code !== 'policy_refused') {
      await this.note(`job.${result.outcome}`, code === undefined ? {} : { code, detail });
    }
    // A job that failed may be tried again with the same plan; a yes outlasts that, within its hours.
    if (result.outcome !== 'failed' || code === 'policy_refused') await this.gate.approvals.settle(this.jobId);
  }

  /** The attempt is another's now, or waits for the next start of this agent. */
  async left(how: 'dropped' | 'left'): Promise<void> {
    await this.note(how === 'dropped' ? 'job.lost' : 'job.interrupted', {});
  }

  private get jobId(): JobId {
    return this.statement.job_id;
  }
  private get what(): string {
    const { kind, component } = this.statement;
    return `${kind} of ${component.name} (${component.kind})`;
  }

  private decide(): PolicyDecision {
    const { kind, component } = this.statement;
    const facts = { kind, component: component.name, componentKind: component.kind };
    return decidePolicy(this.gate.policy, facts, this.gate.now());
  }

  private async ask({ digest, changed, created, updated, deleted }: PlanFacts): Promise<void> {
    await this.gate.approvals.ask({
      digest,
      changed,
      created,
      updated,
      deleted,
      job_id: this.jobId,
      attempt: this.statement.attempt,
      what: this.what,
      asked_at: this.gate.now().toISOString(),
    });
  }

  private async carryOut(decision: PolicyDecision, plan?: PlanFacts, answer?: PlanAnswer): Promise<void> {
    const about = plan === undefined ? {} : { plan_digest: plan.digest };
    const counts = plan === undefined ? {} : { created: plan.created, updated: plan.updated, deleted: plan.deleted };
    switch (decision.decision) {
      case 'allow':
        if (answer !== undefined) await this.note('plan.approved', { ...about, ...counts, by: answer.by });
        else if (plan !== undefined) await this.note('plan.permitted', { ...about, ...counts });
        return;
      case 'refuse':
        await this.note('job.refused', { ...about, ...counts, code: decision.code, detail: decision.detail });
        throw new ImsError(decision.code, decision.detail);
      case 'defer': {
        const hold = this.onServerClock(decision.hold);
        this.gate.noteDeferral(this.jobId);
        const { code, detail, until } = hold;
        await this.note('job.deferred', {
          ...about,
          ...counts,
          code,
          detail,
          ...(until === undefined ? {} : { until }),
        });
        throw new Deferral(hold);
      }
    }
  }

  /** The scheduler offers the job again by its own clock; this host's decides all the same. */
  private onServerClock(hold: Hold): Hold {
    const { skewMs } = this.gate;
    if (hold.until === undefined || Math.abs(skewMs) < 1_000) return hold;
    return { ...hold, until: new Date(Date.parse(hold.until) + skewMs).toISOString() };
  }

  private async note(type: string, data: JsonObject): Promise<void> {
    try {
      await this.gate.record.append(type, { ...this.ids, ...data });
    } catch (error) {
      // What cannot be put on record is not done.
      throw new ImsError('agent_error', 'the customer’s record cannot be written', [], { cause: error });
    }
  }
}
