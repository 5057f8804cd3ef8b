import {
  ImsError,
  type AttemptStatus,
  type DeploymentId,
  type JobId,
  type JobStatus,
  type JsonObject,
} from '#contracts';
import { isCustomerHold, type Fault, type JobState } from '#domain';
import { type NewEvent, type Tx } from '#persistence';
import { storeOutcomes, type Outcome, type StoredOutcome } from './outcomes.js';
import { type JobRow } from './rows.js';

interface Draft {
  row: JobRow;
  readonly was: { readonly attempt: number; readonly status: JobStatus };
  offered: boolean;
  deferredByCustomer: boolean;
  ended?: { readonly fault: Fault | undefined; readonly result: JsonObject | undefined };
}

/**
 * One transaction of the engine. The caller locks rows and the rules decide; what follows is collected here and written
 * once, at the end, with one statement a table however many jobs it is about: a round trip to PostgreSQL costs about as
 * much as all the work of a transition, and group commits put many into one transaction.
 */
export class Change {
  /** Facts to record. */
  readonly facts: NewEvent[] = [];
  /** Deployments (locked by the caller) in which a job has ended: what waited for it is looked at, once each. */
  readonly unsettled = new Set<DeploymentId>();
  private readonly drafts = new Map<JobId, Draft>();
  private readonly granted: object[] = [];
  private readonly over: object[] = [];
  private readonly stops: object[] = [];
  private readonly outcomes: StoredOutcome[] = [];

  constructor(readonly tx: Tx) {}

  /** The job as this change has it by now; the row that was read when it is untouched. */
  current(job: JobRow): JobRow {
    return this.drafts.get(job.id)?.row ?? job;
  }

  /** The next state of a job whose row is locked; `offered`: an offer goes out now, and is counted. */
  put(
    job: JobRow,
    next: JobState,
    how: {
      readonly offered: boolean;
      readonly ended?: Fault | 'well' | undefined;
      readonly result?: JsonObject | undefined;
    },
  ): JobRow {
    const draft = this.drafts.get(job.id) ?? {
      row: job,
      was: { attempt: job.attempt, status: job.status },
      offered: false,
      deferredByCustomer: false,
    };
    this.drafts.set(job.id, draft);
    // Counted anew for each attempt, and on over a hold: attempt and number are the offer's identity.
    const counted = job.status === 'running' && next.status === 'queued' ? 0 : job.offers;
    draft.row = {
      ...job,
      ...next,
      offers: counted + (how.offered ? 1 : 0),
      not_before: next.notBefore > job.now.getTime() ? new Date(next.notBefore) : null,
      hold: next.hold ?? null,
    };
    draft.offered = how.offered;
    draft.deferredByCustomer = next.hold !== undefined && isCustomerHold(next.hold);
    if (how.ended !== undefined) {
      draft.ended = { fault: how.ended === 'well' ? undefined : how.ended, result: how.result };
      draft.row = { ...draft.row, error: draft.ended.fault ?? null };
    }
    return draft.row;
  }

  /** A new attempt and its lease. */
  grant(job: JobRow, attempt: number, session_id: string): void {
    this.granted.push({ job_id: job.id, number: attempt, agent_id: job.agent_id, session_id, granted_at: job.now });
  }

  /** The attempt is over, and its lease. */
  endAttempt(job: JobRow, attempt: number, status: AttemptStatus, error: Fault | undefined): void {
    this.over.push({ job_id: job.id, number: attempt, status, error });
  }

  /** The agent learns by the signal after the commit, or with its next renewal. */
  stop(job: JobRow, attempt: number, force: boolean, reason: string): void {
    this.stops.push({ job_id: job.id, attempt, force, reason });
  }

  /** What an attempt left behind in the install or the catalogue; no outcome: it did not succeed. */
  leave(job: JobRow, outcome?: Outcome): void {
    this.outcomes.push({ job, outcome });
  }

  /** Writes all of it. Each row is behind its fence; the rows are locked, so one that does not hold is a fault of ours. */
  async write(leaseMs: number): Promise<void> {
    const { tx } = this;
    await this.writeJobs();
    if (this.over.length > 0) {
      await tx.query(
        `WITH r AS MATERIALIZED (
           SELECT * FROM jsonb_to_recordset($1) AS r (job_id text, number integer, status text, error jsonb)),
         lease AS (DELETE FROM leases l USING r WHERE l.job_id = r.job_id)
         UPDATE attempts a SET status = r.status, error = r.error, ended_at = now() FROM r
         WHERE a.job_id = r.job_id AND a.number = r.number AND a.status = 'running'`,
        [JSON.stringify(this.over)],
      );
    }
    if (this.granted.length > 0) {
      await tx.query(
        `WITH r AS MATERIALIZED (
           SELECT * FROM jsonb_to_recordset($1)
             AS r (job_id text, number integer, agent_id text, session_id text, granted_at timestamptz)),
         attempt AS (
           INSERT INTO attempts (job_id, number, agent_id, session_id, status, granted_at, policy_serial)
           SELECT job_id, number, agent_id, session_id, 'running', granted_at, policy_serial
             FROM r JOIN agents a ON a.id = r.agent_id)
         INSERT INTO leases (job_id, attempt, agent_id, session_id, until)
         SELECT job_id, number, agent_id, session_id, clock_timestamp() + $2 * interval '1 millisecond' FROM r`,
        [JSON.stringify(this.granted), leaseMs],
      );
    }
    if (this.stops.length > 0) {
      await tx.query(
        `UPDATE leases l SET cancelling = true, force = l.force OR r.force, reason = r.reason
           FROM jsonb_to_recordset($1) AS r (job_id text, attempt integer, force boolean, reason text)
          WHERE l.job_id = r.job_id AND l.attempt = r.attempt`,
        [JSON.stringify(this.stops)],
      );
    }
    this.facts.push(...(await storeOutcomes(tx, this.outcomes)));
  }

  private async writeJobs(): Promise<void> {
    if (this.drafts.size === 0) return;
    const rows = [...this.drafts.values()].map(({ row, was, offered, deferredByCustomer, ended }) => ({
      id: row.id,
      was_attempt: was.attempt,
      was_status: was.status,
      status: row.status,
      attempt: row.attempt,
      failures: row.failures,
      not_before: row.not_before,
      offers: row.offers,
      offered,
      hold: row.hold,
      hold_until: row.hold?.until,
      customers: deferredByCustomer,
      ended: ended !== undefined,
      error: ended?.fault,
      result: ended?.result,
    }));
    const written = await this.tx.query(
      `UPDATE jobs j SET status = r.status, attempt = r.attempt, failures = r.failures, not_before = r.not_before,
         offers = r.offers,
         offered_at = CASE WHEN r.offered THEN now() WHEN r.status = 'queued' THEN NULL ELSE j.offered_at END,
         hold = r.hold, hold_until = r.hold_until,
         hold_serial = CASE WHEN r.customers
           THEN (SELECT policy_serial FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt) END,
         started_at = CASE WHEN r.status = 'running' THEN coalesce(j.started_at, now()) ELSE j.started_at END,
         finished_at = CASE WHEN r.ended THEN now() ELSE j.finished_at END,
         error = CASE WHEN r.ended THEN r.error ELSE j.error END,
         result = CASE WHEN r.ended THEN r.result ELSE j.result END
       FROM jsonb_to_recordset($1) AS r (id text, was_attempt integer, was_status text, status text, attempt integer,
         failures integer, not_before timestamptz, offers integer, offered boolean, hold jsonb, hold_until timestamptz,
         customers boolean, ended boolean, error jsonb, result jsonb)
       WHERE j.id = r.id AND j.attempt = r.was_attempt AND j.status = r.was_status RETURNING j.id`,
      [JSON.stringify(rows)],
    );
    if (written.length === rows.length) return;
    throw new ImsError('internal', `the fence of ${rows.length - written.length} of ${rows.length} jobs did not hold`);
  }
}
