import { Injectable } from '@nestjs/common';
import {
  Attempt,
  AttemptPage,
  cancelJob,
  getJob,
  Hold,
  holdJob,
  ImsError,
  Job,
  JobComponent,
  JobPage,
  LIMITS,
  listAttempts,
  listJobs,
  resumeHeldJob,
  skipJob,
  unlockJob,
  Step,
  type AgentId,
  type AttemptStatus,
  type CancelJob,
  type HoldJob,
  type JobId,
  type JobReason,
  type JobKind,
  type JobRef,
  type JsonObject,
  type ListJobs,
  type ResumeHeldJob,
  type VendorId,
} from '#contracts';
import { waitingReason, type Fault, type Presence as PresenceState } from '#domain';
import { Serves } from '#messaging';
import { Database, storableText } from '#persistence';
import { Presence } from '../agents/presence.js';
import { found, page, position } from '../catalogue/lists.js';
import { caller, iso, isoOrNull, problem, wire } from '../wire.js';
import { Cancel } from './cancel.js';
import { Holds } from './holds.js';
import { type StoredIntake } from './bars.js';
import { Locks } from './locks.js';
import { labelOf, lockJobInDeployment, unscoped, type JobRow } from './rows.js';
import { Transitions } from './transitions.js';

interface JobView extends Omit<JobRow, 'now'> {
  readonly presence: PresenceState;
  readonly last_seen_at: Date | null;
  readonly running: number;
  readonly blockers: { id: JobId; kind: JobKind; component_name: string }[] | null;
  readonly waits_until: Date | null;
  readonly slots: number | null;
  readonly intake: StoredIntake | null;
  readonly lock_holder: JobId | null;
}
const SELECT_JOBS = `
  SELECT j.*, g.presence, g.last_seen_at, g.slots, g.intake,
    CASE j.status WHEN 'queued' THEN (SELECT k.job_id FROM locks k WHERE k.key = j.lock AND k.job_id <> j.id) END
      AS lock_holder,
    CASE WHEN j.not_before > now() THEN j.not_before END AS waits_until,
    CASE j.status WHEN 'queued' THEN (SELECT count(*) FROM leases l WHERE l.agent_id = j.agent_id) ELSE 0 END AS running,
    CASE j.status WHEN 'blocked' THEN (
      SELECT json_agg(json_build_object('id', p.id, 'kind', p.kind, 'component_name', p.component_name) ORDER BY p.id)
      FROM jobs p WHERE p.id = ANY(j.depends_on) AND p.finished_at IS NULL) END AS blockers
  FROM jobs j JOIN agents g ON g.id = j.agent_id`;

interface AttemptRow {
  readonly number: number;
  readonly status: AttemptStatus;
  readonly agent_id: AgentId;
  readonly granted_at: Date;
  readonly ended_at: Date | null;
  readonly error: Fault | null;
  readonly steps: StepRow[] | null;
}
interface StepRow {
  readonly name: string;
  readonly status: Step['status'];
  readonly started_at: string;
  readonly duration_ms: number | null;
  readonly tool_ms: number | null;
  readonly detail: JsonObject | null;
}

/** Jobs as people read them, with the reason why each unfinished one does not go on; their cancelling and holding. */
@Injectable()
export class Jobs {
  constructor(
    private readonly database: Database,
    private readonly presence: Presence,
    private readonly cancelling: Cancel,
    private readonly holds: Holds,
    private readonly locks: Locks,
    private readonly transitions: Transitions,
  ) {}

  @Serves(getJob)
  async getJob({ vendor_id, job_id }: JobRef): Promise<Job> {
    return this.read(vendor_id, job_id);
  }

  @Serves(listJobs)
  async listJobs(query: ListJobs): Promise<JobPage> {
    const { before, take, limit } = position(query);
    const rows = await this.database.query<JobView>(
      `${SELECT_JOBS} WHERE j.vendor_id = $1 AND ($2::text IS NULL OR j.deployment_id = $2)
         AND ($3::text IS NULL OR j.install_id = $3) AND ($4::text IS NULL OR j.status = $4)
         AND ($5::text IS NULL OR j.id < $5) ORDER BY j.id DESC LIMIT $6`,
      [
        query.vendor_id,
        query.deployment_id ?? null,
        query.install_id ?? null,
        query.status ?? null,
        before ?? null,
        take,
      ],
    );
    return page(JobPage, rows, limit, (row) => this.view(row));
  }

  /** The newest attempts first; at most the page's limit of them, since retries are few. */
  @Serves(listAttempts)
  async listAttempts({ vendor_id, job_id }: JobRef): Promise<AttemptPage> {
    await this.read(vendor_id, job_id);
    const rows = await this.database.query<AttemptRow>(
      `SELECT a.*, (
         SELECT json_agg(to_json(s) ORDER BY s.started_at, s.name) FROM (
           SELECT name, status, started_at, duration_ms, tool_ms, detail FROM steps
           WHERE job_id = a.job_id AND attempt = a.number LIMIT 1000) s) AS steps
       FROM attempts a WHERE job_id = $1 ORDER BY number DESC LIMIT $2`,
      [job_id, LIMITS.pageMax],
    );
    return wire(AttemptPage, { data: rows.map(viewAttempt) });
  }

  @Serves(cancelJob)
  async cancelJob({ vendor_id, job_id, cancel }: CancelJob): Promise<Job> {
    await this.cancelling.job(vendor_id, job_id, cancel);
    return this.read(vendor_id, job_id);
  }

  @Serves(holdJob)
  async holdJob({ vendor_id, job_id, hold }: HoldJob): Promise<Job> {
    await this.holds.hold(vendor_id, job_id, hold);
    return this.read(vendor_id, job_id);
  }

  @Serves(resumeHeldJob)
  async resumeHeldJob(request: ResumeHeldJob): Promise<Job> {
    await this.holds.resume(request);
    return this.read(request.vendor_id, request.job_id);
  }

  @Serves(unlockJob)
  async unlockJob(request: JobReason): Promise<Job> {
    await this.locks.unlock(request);
    return this.read(request.vendor_id, request.job_id);
  }

  /** A person leaves the job out, and what depends on it goes on. Throws `conflict` for one that has begun or ended. */
  @Serves(skipJob)
  async skipJob({ vendor_id, job_id, request }: JobReason): Promise<Job> {
    const reason = storableText(request.reason ?? 'left out by the vendor');
    await this.transitions.run(async (change) => {
      const job = await lockJobInDeployment(change.tx, job_id);
      if (job?.vendor_id !== vendor_id) throw new ImsError('not_found', `there is no job ${job_id}`);
      if (job.waived) return;
      const decision = this.transitions.apply(change, job, { type: 'skip', reason }, { actor: caller() });
      if ('refusal' in decision) throw new ImsError(decision.refusal, `${job_id}: ${decision.detail}`);
    });
    return this.read(vendor_id, job_id);
  }

  private async read(vendor_id: VendorId, job_id: JobId): Promise<Job> {
    const [row] = await this.database.query<JobView>(`${SELECT_JOBS} WHERE j.id = $1 AND j.vendor_id = $2`, [
      job_id,
      vendor_id,
    ]);
    return this.view(found(row, `job ${job_id}`));
  }

  private view(row: JobView): Job {
    const seen = isoOrNull(this.presence.lastSeen(row.agent_id, row.last_seen_at));
    return wire(Job, {
      id: row.id,
      kind: row.kind,
      status: row.status,
      attempt: row.attempt,
      agent_id: row.agent_id,
      install_id: row.install_id,
      deployment_id: row.deployment_id,
      build_id: row.build_id,
      component: wire(JobComponent, { id: row.component_id, name: row.component_name, kind: row.component_kind }),
      depends_on: row.depends_on,
      key: row.key,
      priority: row.priority,
      ...(row.allow_failure ? { allow_failure: true } : {}),
      not_before: isoOrNull(row.waits_until),
      expires_at: isoOrNull(row.expires_at),
      singleton: row.singleton && unscoped(row.singleton),
      lock: row.lock && unscoped(row.lock),
      waiting_reason: waitingReason({
        status: row.status,
        attempt: row.attempt,
        blockedBy: (row.blockers ?? []).map((job) => `${labelOf(job)} (${job.id})`),
        agent: { id: row.agent_id, presence: row.presence, ...(seen === null ? {} : { lastSeenAt: seen }) },
        running: row.running,
        slots: row.slots ?? LIMITS.agentSlots,
        ...(row.intake ? { intake: row.intake } : {}),
        ...(row.lock_holder && row.lock ? { lock: { name: unscoped(row.lock), holder: row.lock_holder } } : {}),
        offers: row.offers,
        ...(row.waits_until ? { notBefore: iso(row.waits_until) } : {}),
        ...(row.hold ? { hold: row.hold } : {}),
      }),
      hold: row.hold && wire(Hold, row.hold),
      error: problem(row.error),
      result: row.result,
      trace_id: row.traceparent?.split('-')[1],
      created_at: iso(row.created_at),
      started_at: isoOrNull(row.started_at),
      finished_at: isoOrNull(row.finished_at),
    });
  }
}

const viewAttempt = (row: AttemptRow): Attempt =>
  wire(Attempt, {
    number: row.number,
    status: row.status,
    agent_id: row.agent_id,
    granted_at: iso(row.granted_at),
    ended_at: isoOrNull(row.ended_at),
    error: problem(row.error),
    steps: (row.steps ?? []).map((step) => wire(Step, { ...step, started_at: iso(new Date(step.started_at)) })),
  });
