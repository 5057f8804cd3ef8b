import { Injectable } from '@nestjs/common';
import { jobReceipt, jobResult, jobStep, Receipt, type JobResult, type Step, type StepReport } from '#contracts';
import { Bus, Consumes, reject, type MessageContext, type Outcome } from '#messaging';
import { Database, storableJson, type Tx } from '#persistence';
import { wire } from '../wire.js';
import { callerOf } from './claims.js';
import { readResult } from './outcomes.js';
import { lockJobInDeployment } from './rows.js';
import { Statements } from './statements.js';
import { Transitions } from './transitions.js';

/** What agents say of their attempts: steps as they go, the result at the end, each at least once. */
@Injectable()
export class Results {
  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
    private readonly statements: Statements,
    private readonly bus: Bus,
  ) {}

  /**
   * Ends the attempt, once. The agent gets a receipt each time: accepted when this attempt's result is in PostgreSQL
   * (also by an earlier delivery), refused with `stale_attempt` when the attempt was lost before.
   */
  @Consumes(jobResult)
  async result(body: JobResult, context: MessageContext): Promise<Outcome> {
    const agent = callerOf(context);
    const { job_id, attempt } = body;
    return this.transitions.run(async (change) => {
      const { tx } = change;
      const receipt = (accepted: boolean): void => {
        const text = wire(Receipt, { job_id, attempt, accepted, code: accepted ? null : 'stale_attempt' });
        tx.afterCommit(() => {
          this.bus.signal(jobReceipt, { agent, job: job_id }, text);
        });
      };
      const job = await lockJobInDeployment(tx, job_id);
      if (job?.agent_id !== agent) return reject('not_found', `${agent} has no job ${job_id}`);
      const [known] = await tx.query<{ status: string }>(
        'SELECT status FROM attempts WHERE job_id = $1 AND number = $2',
        [job_id, attempt],
      );
      if (!known) return reject('stale_attempt', `attempt ${attempt} of ${job_id} was never granted`);
      await storeSteps(tx, job_id, attempt, body.steps ?? []);
      if (known.status === 'running') {
        const { event, outcome, result } = readResult(job, body, await this.statements.expected(tx, job));
        const cause = { actor: `agent:${agent}`, result, ...(outcome ? { outcome } : {}) };
        const decision = await this.transitions.apply(change, job, event, cause);
        if (!('refusal' in decision)) {
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
    });
  }

  /** Keeps steps as the journal of the agent has them. */
  @Consumes(jobStep)
  async step({ job_id, attempt, steps }: StepReport, context: MessageContext): Promise<Outcome> {
    const agent = callerOf(context);
    const [known] = await this.database.query(
      'SELECT 1 FROM attempts WHERE job_id = $1 AND number = $2 AND agent_id = $3',
      [job_id, attempt, agent],
    );
    if (!known) return reject('not_found', `${agent} has no attempt ${attempt} of ${job_id}`);
    await storeSteps(this.database, job_id, attempt, steps);
  }
}

/** Late and repeated reports never turn a finished step back. */
async function storeSteps(
  on: Pick<Tx, 'query'>,
  jobId: string,
  attempt: number,
  steps: readonly Step[],
): Promise<void> {
  if (steps.length === 0) return;
  // One INSERT cannot touch a row twice: the last word on a step is the one that counts.
  const last = new Map(steps.map((step) => [step.name, step]));
  await on.query(
    `INSERT INTO steps AS s (job_id, attempt, name, status, started_at, duration_ms, tool_ms, detail)
     SELECT $1, $2, name, status, started_at, duration_ms, tool_ms, detail
       FROM jsonb_to_recordset($3) AS r (name text, status text, started_at timestamptz, duration_ms integer,
         tool_ms integer, detail jsonb)
     ON CONFLICT (job_id, attempt, name) DO UPDATE SET status = EXCLUDED.status, started_at = EXCLUDED.started_at,
       duration_ms = EXCLUDED.duration_ms, tool_ms = EXCLUDED.tool_ms, detail = EXCLUDED.detail
     WHERE s.status <> 'done' AND NOT (s.status = 'failed' AND EXCLUDED.status = 'started'
       AND EXCLUDED.started_at <= s.started_at)`,
    [jobId, attempt, JSON.stringify([...last.values()].map((step) => storableJson({ ...step })))],
  );
}
