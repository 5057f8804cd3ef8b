import { Controller, StreamableFile } from '@nestjs/common';
import {
  AttemptPage,
  cancelJob,
  CancelRequest,
  DEAD_STATUSES,
  DeadLetter,
  DeadLetterPage,
  EventPage,
  Flag,
  getDeadLetter,
  getJob,
  decidePlanOfJob,
  etagOf,
  getPlan,
  ImsError,
  IdOf,
  Job,
  JOB_STATUSES,
  JobPage,
  JobPlan,
  PlanNote,
  listAttempts,
  listDeadLetters,
  listHistory,
  listJobs,
  listLocks,
  LockPage,
  LogLine,
  OneOf,
  Optional,
  PageQuery,
  ReasonRequest,
  resumeHeldJob,
  ResumeRequest,
  retryJob,
  settleDeadLetter,
  skipJob,
  Text,
  unlockJob,
  type DeploymentId,
  type InstallId,
  type JobStatus,
} from '#contracts';
import { Bus } from '#messaging';
import { type Ask } from './edge/ask.js';
import { listsEtag, negotiate } from './edge/read-request.js';
import { Route } from './edge/route.js';
import { LOG_TYPES } from './live/log-formats.js';
import { isFinal, JobLogs } from './live/job-logs.js';
import { Wakeups } from './live/wakeups.js';

export class JobsQuery extends PageQuery {
  @Optional() @IdOf('deployment') deployment_id?: DeploymentId;
  @Optional() @IdOf('install') install_id?: InstallId;
  @Optional() @OneOf(JOB_STATUSES) status?: JobStatus;
}
export class DeadLettersQuery extends PageQuery {
  @Optional() @OneOf(DEAD_STATUSES) status?: (typeof DEAD_STATUSES)[number];
}
export class LocksQuery extends PageQuery {
  @Optional() @IdOf('install') install_id?: InstallId;
}
export class LogQuery {
  /** Go on after this line. */
  @Optional() @Text(3, 40) after?: string;
  /** Stay until the job has ended. SSE always does. */
  @Optional() @Flag() follow?: boolean;
}

@Controller()
export class JobsController {
  constructor(
    private readonly bus: Bus,
    private readonly wakeups: Wakeups,
    private readonly logs: JobLogs,
  ) {}

  private job(ask: Ask): Promise<Job> {
    return this.bus.call(getJob, { vendor_id: ask.vendorId, job_id: ask.id('job') });
  }

  @Route({
    method: 'GET',
    path: '/v1/jobs',
    summary: 'Jobs, newest first.',
    access: 'vendor',
    query: JobsQuery,
    reply: JobPage,
    status: 200,
  })
  listJobs(ask: Ask<object, JobsQuery>): Promise<JobPage> {
    return this.bus.call(listJobs, { vendor_id: ask.vendorId, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/jobs/{job_id}',
    summary: 'A job, and why it waits; with `Prefer: wait=N` when it has ended.',
    access: 'vendor',
    reply: Job,
    status: 200,
    etag: true,
    waits: true,
  })
  getJob(ask: Ask): Promise<Job> {
    return this.wakeups.waitFor({ job: ask.id('job') }, ask, () => this.job(ask), isFinal);
  }

  @Route({
    method: 'GET',
    path: '/v1/jobs/{job_id}/attempts',
    summary: 'Attempts of a job with their steps.',
    access: 'vendor',
    reply: AttemptPage,
    status: 200,
  })
  listAttempts(ask: Ask): Promise<AttemptPage> {
    return this.bus.call(listAttempts, { vendor_id: ask.vendorId, job_id: ask.id('job') });
  }

  @Route({
    method: 'GET',
    path: '/v1/jobs/{job_id}/plan',
    summary: 'What the latest attempt of a job would do, or has done; sensitive values are hidden.',
    access: 'vendor',
    reply: JobPlan,
    status: 200,
    etag: true,
  })
  getJobPlan(ask: Ask): Promise<JobPlan> {
    return this.bus.call(getPlan, { vendor_id: ask.vendorId, job_id: ask.id('job') });
  }

  @Route({
    method: 'POST',
    path: '/v1/jobs/{job_id}/plan/approve',
    summary: 'Say yes to the plan that a job waits with. If-Match: the ETag of the plan that was read.',
    access: 'vendor',
    body: PlanNote,
    reply: JobPlan,
    status: 200,
    ifMatch: true,
  })
  approvePlan(ask: Ask<PlanNote>): Promise<JobPlan> {
    return this.decidePlan(ask, 'approved');
  }

  @Route({
    method: 'POST',
    path: '/v1/jobs/{job_id}/plan/reject',
    summary: 'Say no to the plan that a job waits with: the job fails. If-Match: the ETag of the plan that was read.',
    access: 'vendor',
    body: PlanNote,
    reply: JobPlan,
    status: 200,
    ifMatch: true,
  })
  rejectPlan(ask: Ask<PlanNote>): Promise<JobPlan> {
    return this.decidePlan(ask, 'rejected');
  }

  private async decidePlan(ask: Ask<PlanNote>, decision: 'approved' | 'rejected'): Promise<JobPlan> {
    const ref = { vendor_id: ask.vendorId, job_id: ask.id('job') };
    const plan = await this.bus.call(getPlan, ref);
    if (!listsEtag(ask.ifMatch, etagOf(plan))) throw new ImsError('precondition_failed', 'this is another plan by now');
    return this.bus.call(decidePlanOfJob, { ...ref, ...ask.body, digest: plan.digest, decision });
  }

  @Route({
    method: 'GET',
    path: '/v1/jobs/{job_id}/events',
    summary: 'History of a job.',
    access: 'vendor',
    query: PageQuery,
    reply: EventPage,
    status: 200,
  })
  async listJobEvents(ask: Ask<object, PageQuery>): Promise<EventPage> {
    const { id } = await this.job(ask);
    return this.bus.call(listHistory, { vendor_id: ask.vendorId, job_id: id, ...ask.query });
  }

  @Route({
    method: 'POST',
    path: '/v1/jobs/{job_id}/cancel',
    summary: 'Cancel a job. A running one ends when its agent has proven that its processes are gone.',
    access: 'vendor',
    needs: 'ship',
    body: CancelRequest,
    reply: Job,
    status: 202,
    location: ({ id }) => `/v1/jobs/${id}`,
  })
  cancelJob(ask: Ask<CancelRequest>): Promise<Job> {
    return this.bus.call(cancelJob, { vendor_id: ask.vendorId, job_id: ask.id('job'), cancel: ask.body });
  }

  @Route({
    method: 'POST',
    path: '/v1/jobs/{job_id}/resume',
    summary: 'Let a job go on that is held because a token of it was tampered with. Its customer’s holds stay.',
    access: 'vendor',
    body: ResumeRequest,
    reply: Job,
    status: 202,
    location: ({ id }) => `/v1/jobs/${id}`,
  })
  resumeJob(ask: Ask<ResumeRequest>): Promise<Job> {
    return this.bus.call(resumeHeldJob, { vendor_id: ask.vendorId, job_id: ask.id('job'), resume: ask.body });
  }

  @Route({
    method: 'POST',
    path: '/v1/jobs/{job_id}/retry',
    summary: 'Do not wait for the time of a delayed job; of a build that has ended, make a new one. Answers what runs.',
    access: 'vendor',
    needs: 'ship',
    body: ReasonRequest,
    reply: Job,
    status: 202,
    location: ({ id }) => `/v1/jobs/${id}`,
  })
  retryJob(ask: Ask<ReasonRequest>): Promise<Job> {
    return this.bus.call(retryJob, { vendor_id: ask.vendorId, job_id: ask.id('job'), request: ask.body });
  }

  @Route({
    method: 'POST',
    path: '/v1/jobs/{job_id}/skip',
    summary: 'Leave out a job that has not begun. What depends on it goes on as if it had succeeded.',
    access: 'vendor',
    body: ReasonRequest,
    reply: Job,
    status: 202,
    location: ({ id }) => `/v1/jobs/${id}`,
  })
  skipJob(ask: Ask<ReasonRequest>): Promise<Job> {
    return this.bus.call(skipJob, { vendor_id: ask.vendorId, job_id: ask.id('job'), request: ask.body });
  }

  @Route({
    method: 'POST',
    path: '/v1/jobs/{job_id}/unlock',
    summary: 'Take its lock away from a running job. Its attempt ends with its lease, then the lock is free.',
    access: 'vendor',
    body: ReasonRequest,
    reply: Job,
    status: 202,
    location: ({ id }) => `/v1/jobs/${id}`,
  })
  unlockJob(ask: Ask<ReasonRequest>): Promise<Job> {
    return this.bus.call(unlockJob, { vendor_id: ask.vendorId, job_id: ask.id('job'), request: ask.body });
  }

  @Route({
    method: 'GET',
    path: '/v1/locks',
    summary: 'Locks that running jobs hold, their leases, and how many jobs wait for each.',
    access: 'vendor',
    query: LocksQuery,
    reply: LockPage,
    status: 200,
  })
  listLocks(ask: Ask<object, LocksQuery>): Promise<LockPage> {
    return this.bus.call(listLocks, { vendor_id: ask.vendorId, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/dead-letters',
    summary: 'Messages of agents that no service could take, and why, newest first.',
    access: 'vendor',
    query: DeadLettersQuery,
    reply: DeadLetterPage,
    status: 200,
  })
  listDeadLetters(ask: Ask<object, DeadLettersQuery>): Promise<DeadLetterPage> {
    return this.bus.call(listDeadLetters, { vendor_id: ask.vendorId, ...ask.query });
  }

  @Route({
    method: 'GET',
    path: '/v1/dead-letters/{dead_id}',
    summary: 'A message that no service could take, with its content.',
    access: 'vendor',
    reply: DeadLetter,
    status: 200,
    etag: true,
  })
  getDeadLetter(ask: Ask): Promise<DeadLetter> {
    return this.bus.call(getDeadLetter, { vendor_id: ask.vendorId, dead_id: ask.id('dead') });
  }

  @Route({
    method: 'POST',
    path: '/v1/dead-letters/{dead_id}/redrive',
    summary: 'Send a message again to where it came from, once.',
    access: 'vendor',
    body: ReasonRequest,
    reply: DeadLetter,
    status: 202,
    location: ({ id }) => `/v1/dead-letters/${id}`,
  })
  redriveDeadLetter(ask: Ask<ReasonRequest>): Promise<DeadLetter> {
    return this.settle(ask, 'redrive');
  }

  @Route({
    method: 'POST',
    path: '/v1/dead-letters/{dead_id}/discard',
    summary: 'Put a message away that nobody needs.',
    access: 'vendor',
    body: ReasonRequest,
    reply: DeadLetter,
    status: 200,
  })
  discardDeadLetter(ask: Ask<ReasonRequest>): Promise<DeadLetter> {
    return this.settle(ask, 'discard');
  }

  private settle(ask: Ask<ReasonRequest>, how: 'redrive' | 'discard'): Promise<DeadLetter> {
    const body = { vendor_id: ask.vendorId, dead_id: ask.id('dead'), how, request: ask.body };
    return this.bus.call(settleDeadLetter, body);
  }

  @Route({
    method: 'GET',
    path: '/v1/jobs/{job_id}/logs',
    summary: 'The log of a job: whole as NDJSON or text, or live as server-sent events that resume by their ids.',
    access: 'vendor',
    query: LogQuery,
    reply: LogLine,
    status: 200,
    produces: LOG_TYPES,
  })
  async readJobLogs(ask: Ask<object, LogQuery>): Promise<StreamableFile> {
    const type = negotiate(ask.header('accept'), LOG_TYPES);
    // A reconnecting EventSource sends the id of the last event, and repeats the URL with its old `after`.
    const after = ask.header('last-event-id') ?? ask.query.after;
    return this.logs.stream(await this.job(ask), {
      vendorId: ask.vendorId,
      type,
      after,
      gone: ask.gone,
      follow: ask.query.follow ?? false,
    });
  }
}
