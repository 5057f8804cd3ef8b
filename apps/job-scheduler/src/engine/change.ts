import {
  ImsError,
  type AgentId,
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
  /** Agents that have something to take, or room for it: their queues are looked at, once each. */
  readonly agents = new Set<AgentId>();
  private readonly drafts = new Map<JobId, Draft>();
  /** Jobs as they were written, when something had to be written before the end. */
  private readonly written = new Map<JobId, JobRow>();
  private readonly granted: object[] = [];
  private readonly over: object[] = [];
  private readonly stops: object[] = [];
  /** Locks that this change gives out. */
  private readonly locks = new Map<string, JobId>();
  private readonly takenBack: JobId[] = [];
  private readonly outcomes: StoredOutcome[] = [];

  constructor(readonly tx: Tx) {}

  /** The job as this change has it by now; the row that was read when it is untouched. */
  current(job: JobRow): JobRow {
    return this.drafts.get(job.id)?.row ?? this.written.get(job.id) ?? job;
  }

  /** Who gets the lock that the job needs by this change. */
  holderOf({ lock }: JobRow): JobId | undefined {
    return lock === null ? undefined : this.locks.get(lock);
  }

  /** Its offer is of no use now: it may be made again at any time. */
  takeBack(job: JobRow): void {
    this.takenBack.push(job.id);
  }

  /** The next state of a job whose row is locked. */
  put(
    job: JobRow,
    next: JobState,
    how: {
      readonly ended?: Fault | 'well' | undefined;
      readonly result?: JsonObject | undefined;
    },
  ): JobRow {
    const draft = this.drafts.get(job.id) ?? {
      row: job,
      was: { attempt: job.attempt, status: job.status },
      deferredByCustomer: false,
    };
    this.drafts.set(job.id, draft);
    // Counted anew for each attempt, and on over a hold: attempt and number are the offer's identity.
    const counted = job.status === 'running' && next.status === 'queued' ? 0 : job.offers;
    draft.row = {
      ...job,
      ...next,
      offers: counted,
      waived: next.waived ?? false,
      not_before: next.notBefore > job.now.getTime() ? new Date(next.notBefore) : null,
      hold: next.hold ?? null,
    };
    draft.deferredByCustomer = next.hold !== undefined && isCustomerHold(next.hold);
    if (how.ended !== undefined) {
      draft.ended = { fault: how.ended === 'well' ? undefined : how.ended, result: how.result };
      draft.row = { ...draft.row, error: draft.ended.fault ?? null };
    }
    return draft.row;
  }

  /** A new attempt, its lease, and the lock that it needs. */
  grant(job: JobRow, attempt: number, session_id: string): void {
    if (job.lock !== null) this.locks.set(job.lock, job.id);
    this.granted.push({
      job_id: job.id,
      number: attempt,
      agent_id: job.agent_id,
      session_id,
      granted_at: job.now,
      lock: job.lock,
      vendor_id: job.vendor_id,
      install_id: job.install_id,
    });
  }

  /** The attempt is over, with its lease and its lock. */
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

  /** Writes all of it that is not written yet. Each row is behind its fence; the rows are locked, so one that does not hold is a fault of ours. */
  async write(leaseMs: number): Promise<void> {
    const { tx } = this;
    await this.writeJobs();
    if (this.over.length > 0) {
      await tx.query(
        `WITH r AS MATERIALIZED (
           SELECT * FROM jsonb_to_recordset($1) AS r (job_id text, number integer, status text, error jsonb)),
         lease AS (DELETE FROM leases l USING r WHERE l.job_id = r.job_id),
         lock AS (DELETE FROM locks k USING r WHERE k.job_id = r.job_id)
         UPDATE attempts a SET status = r.status, error = r.error, ended_at = now() FROM r
         WHERE a.job_id = r.job_id AND a.number = r.number AND a.status = 'running'`,
        [JSON.stringify(this.over)],
      );
    }
    if (this.granted.length > 0) {
      const [{ locked } = { locked: 0 }] = await tx.query<{ locked: number }>(
        `WITH r AS MATERIALIZED (
           SELECT * FROM jsonb_to_recordset($1) AS r (job_id text, number integer, agent_id text, session_id text,
             granted_at timestamptz, lock text, vendor_id text, install_id text)),
         attempt AS (
           INSERT INTO attempts (job_id, number, agent_id, session_id, status, granted_at, policy_serial)
           SELECT job_id, number, agent_id, session_id, 'running', granted_at, policy_serial
             FROM r JOIN agents a ON a.id = r.agent_id),
         lease AS (
           INSERT INTO leases (job_id, attempt, agent_id, session_id, until)
           SELECT job_id, number, agent_id, session_id, clock_timestamp() + $2 * interval '1 millisecond' FROM r),
         lock AS (
           INSERT INTO locks (key, vendor_id, install_id, job_id, attempt, agent_id)
           SELECT lock, vendor_id, install_id, job_id, number, agent_id FROM r WHERE lock IS NOT NULL ORDER BY lock
           ON CONFLICT (key) DO NOTHING RETURNING key)
         SELECT count(*) AS locked FROM lock`,
        [JSON.stringify(this.granted), leaseMs],
      );
      // Another transaction was first, in this very moment: all of it is undone and looked at again, one by one.
      if (locked !== this.locks.size) throw new Error('a lock was taken while it was given out');
    }
    if (this.stops.length > 0) {
      await tx.query(
        `UPDATE leases l SET cancelling = true, force = l.force OR r.force, reason = r.reason
           FROM jsonb_to_recordset($1) AS r (job_id text, attempt integer, force boolean, reason text)
          WHERE l.job_id = r.job_id AND l.attempt = r.attempt`,
        [JSON.stringify(this.stops)],
      );
    }
    if (this.takenBack.length > 0) {
      await tx.query(`UPDATE jobs SET offered_at = NULL WHERE id = ANY($1) AND status = 'queued'`, [this.takenBack]);
    }
    this.facts.push(...(await storeOutcomes(tx, this.outcomes)));
    for (const done of [this.granted, this.over, this.stops, this.outcomes, this.takenBack]) done.length = 0;
  }

  private async writeJobs(): Promise<void> {
    if (this.drafts.size === 0) return;
    const rows = [...this.drafts.values()].map(({ row, was, deferredByCustomer, ended }) => ({
      id: row.id,
      was_attempt: was.attempt,
      was_status: was.status,
      status: row.status,
      attempt: row.attempt,
      failures: row.failures,
      not_before: row.not_before,
      offers: row.offers,
      waived: row.waived,
      hold: row.hold,
      hold_until: row.hold?.until,
      customers: deferredByCustomer,
      ended: ended !== undefined,
      error: ended?.fault,
      result: ended?.result,
    }));
    const written = await this.tx.query(
      `UPDATE jobs j SET status = r.status, attempt = r.attempt, failures = r.failures, not_before = r.not_before,
         offers = r.offers, waived = r.waived,
         offered_at = CASE WHEN r.status = 'queued' THEN NULL ELSE j.offered_at END,
         hold = r.hold, hold_until = r.hold_until,
         hold_serial = CASE WHEN r.customers
           THEN (SELECT policy_serial FROM attempts a WHERE a.job_id = j.id AND a.number = j.attempt) END,
         started_at = CASE WHEN r.status = 'running' THEN coalesce(j.started_at, now()) ELSE j.started_at END,
         finished_at = CASE WHEN r.ended THEN now() ELSE j.finished_at END,
         error = CASE WHEN r.ended THEN r.error ELSE j.error END,
         result = CASE WHEN r.ended THEN r.result ELSE j.result END
       FROM jsonb_to_recordset($1) AS r (id text, was_attempt integer, was_status text, status text, attempt integer,
         failures integer, not_before timestamptz, offers integer, waived boolean, hold jsonb, hold_until timestamptz,
         customers boolean, ended boolean, error jsonb, result jsonb)
       WHERE j.id = r.id AND j.attempt = r.was_attempt AND j.status = r.was_status RETURNING j.id`,
      [JSON.stringify(rows)],
    );
    const unfenced = rows.length - written.length;
    if (unfenced > 0) throw new ImsError('internal', `the fence of ${unfenced} of ${rows.length} jobs did not hold`);
    for (const [id, { row }] of this.drafts) this.written.set(id, row);
    this.drafts.clear();
  }
}
