import { Injectable } from '@nestjs/common';
import {
  jobReceipt,
  jobResult,
  jobStep,
  Receipt,
  type AgentId,
  type JobId,
  type JobResult,
  type Step,
  type StepReport,
} from '#contracts';
import { Bus, Consumes, reject, type MessageContext, type Outcome } from '#messaging';
import { Database, GroupCommit, storableJson, type Tx } from '#persistence';
import { runInContext, type RequestContext } from '#platform';
import { wire } from '../wire.js';
import { callerOf } from './claims.js';
import { readResult } from './outcomes.js';
import { type Change } from './change.js';
import { lockJobsInDeployments, type JobRow } from './rows.js';
import { expectedOf, factsOf, type JobFacts } from './statements.js';
import { GROUPS, Transitions } from './transitions.js';

/** What agents say of their attempts: steps as they go, the result at the end, each at least once. */
@Injectable()
export class Results {
  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
    private readonly bus: Bus,
  ) {}

  private readonly endings = new GroupCommit<Said<JobResult>, Outcome>((said) => this.end(said), GROUPS);
  private readonly reports = new GroupCommit<Said<StepReport>, Outcome>((said) => this.keep(said), GROUPS);

  /**
   * Ends the attempt, once. The agent gets a receipt each time: accepted when this attempt's result is in PostgreSQL
   * (also by an earlier delivery), refused with `stale_attempt` when the attempt was lost before.
   */
  @Consumes(jobResult)
  result(body: JobResult, context: MessageContext): Promise<Outcome> {
    return this.endings.add({ body, agent: callerOf(context), context });
  }

  /** Keeps steps as the journal of the agent has them. */
  @Consumes(jobStep)
  step(body: StepReport, context: MessageContext): Promise<Outcome> {
    return this.reports.add({ body, agent: callerOf(context), context });
  }

  /** The results that wait share one transaction. */
  private end(said: readonly Said<JobResult>[]): Promise<Outcome[]> {
    return this.transitions.run(async (change) => {
      const ids = [...new Set(said.map(({ body }) => body.job_id))];
      const jobs = new Map((await lockJobsInDeployments(change.tx, ids)).map((job) => [job.id, job]));
      const facts = await factsOf(change.tx, ids);
      const attempts = await attemptsOf(change.tx, said);
      const granted = said.filter(({ body, agent }) => attempts.get(keyOf(body))?.agent_id === agent);
      await storeSteps(change.tx, granted);
      return said.map((one) => {
        const job = jobs.get(one.body.job_id);
        const fact = facts.get(one.body.job_id);
        const known = attempts.get(keyOf(one.body));
        const { job_id, attempt } = one.body;
        if (job?.agent_id !== one.agent || !fact) return reject('not_found', `${one.agent} has no job ${job_id}`);
        if (!known) return reject('stale_attempt', `attempt ${attempt} of ${job_id} was never granted`);
        runInContext(one.context, () => {
          this.endOne(change, one, job, fact, known);
        });
        return undefined;
      });
    });
  }

  private endOne(
    change: Change,
    { body, agent }: Said<JobResult>,
    job: JobRow,
    facts: JobFacts,
    known: AttemptRow,
  ): void {
    const { job_id, attempt } = body;
    const receipt = (accepted: boolean): void => {
      const text = wire(Receipt, { job_id, attempt, accepted, code: accepted ? null : 'stale_attempt' });
      change.tx.afterCommit(() => {
        this.bus.signal(jobReceipt, { agent, job: job_id }, text);
      });
    };
    if (known.status === 'running') {
      const { event, outcome, result } = readResult(job, body, expectedOf(job, facts));
      const cause = { actor: `agent:${agent}`, result, ...(outcome ? { outcome } : {}) };
      const decision = this.transitions.apply(change, job, event, cause);
      if (!('refusal' in decision)) {
        known.status = body.outcome;
        receipt(true);
        return;
      }
    } else if (known.status !== 'lost') {
      receipt(true);
      return;
    }
    this.transitions.fact(change, job, 'job.refused', `agent:${agent}`, {
      attempt,
      latest: job.attempt,
      code: 'stale_attempt',
      outcome: body.outcome,
    });
    receipt(false);
  }

  /** The reports that wait share one statement. */
  private async keep(said: readonly Said<StepReport>[]): Promise<Outcome[]> {
    const attempts = await attemptsOf(this.database, said);
    const granted = said.filter(({ body, agent }) => attempts.get(keyOf(body))?.agent_id === agent);
    await storeSteps(this.database, granted);
    return said.map((one) => {
      const { job_id, attempt } = one.body;
      return granted.includes(one)
        ? undefined
        : reject('not_found', `${one.agent} has no attempt ${attempt} of ${job_id}`);
    });
  }
}

/** What an agent says of an attempt. */
interface Said<T extends { readonly job_id: JobId; readonly attempt: number }> {
  readonly body: T;
  readonly agent: AgentId;
  readonly context: RequestContext;
}
interface AttemptRow {
  readonly job_id: JobId;
  readonly attempt: number;
  readonly agent_id: AgentId;
  status: string;
}
type Reported = Said<{ readonly job_id: JobId; readonly attempt: number; readonly steps?: readonly Step[] }>;
const keyOf = ({ job_id, attempt }: { readonly job_id: JobId; readonly attempt: number }): string =>
  `${job_id}.${attempt}`;

async function attemptsOf(on: Pick<Tx, 'query'>, said: readonly Reported[]): Promise<Map<string, AttemptRow>> {
  const rows = await on.query<AttemptRow>(
    `SELECT a.job_id, a.number AS attempt, a.agent_id, a.status
     FROM unnest($1::text[], $2::int[]) AS r (job_id, number) JOIN attempts a USING (job_id, number)`,
    [said.map(({ body }) => body.job_id), said.map(({ body }) => body.attempt)],
  );
  return new Map(rows.map((row) => [keyOf(row), row]));
}

/** Late and repeated reports never turn a finished step back. */
async function storeSteps(on: Pick<Tx, 'query'>, said: readonly Reported[]): Promise<void> {
  // One INSERT cannot touch a row twice: the last word on a step is the one that counts.
  const last = new Map(
    said.flatMap(({ body }) =>
      (body.steps ?? []).map((step) => [
        `${keyOf(body)}.${step.name}`,
        storableJson({ ...step, job_id: body.job_id, attempt: body.attempt }),
      ]),
    ),
  );
  if (last.size === 0) return;
  // In one order, since two groups may speak of the same steps.
  const rows = [...last].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row);
  await on.query(
    `INSERT INTO steps AS s (job_id, attempt, name, status, started_at, duration_ms, tool_ms, detail)
     SELECT job_id, attempt, name, status, started_at, duration_ms, tool_ms, detail
       FROM jsonb_to_recordset($1) AS r (job_id text, attempt integer, name text, status text, started_at timestamptz,
         duration_ms integer, tool_ms integer, detail jsonb)
     ON CONFLICT (job_id, attempt, name) DO UPDATE SET status = EXCLUDED.status, started_at = EXCLUDED.started_at,
       duration_ms = EXCLUDED.duration_ms, tool_ms = EXCLUDED.tool_ms, detail = EXCLUDED.detail
     WHERE s.status <> 'done' AND NOT (s.status = 'failed' AND EXCLUDED.status = 'started'
       AND EXCLUDED.started_at <= s.started_at)`,
    [JSON.stringify(rows)],
  );
}
