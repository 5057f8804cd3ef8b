import { Injectable } from '@nestjs/common';
import {
  ImsError,
  newId,
  retryDeployment,
  retryJob,
  type BuildId,
  type Deployment,
  type DeploymentId,
  type Job,
  type JobId,
  type JobReason,
  type RetryDeployment,
} from '#contracts';
import { deploymentMachine, jobMachine, planRetry } from '#domain';
import { Serves } from '#messaging';
import { storableText, type Tx } from '#persistence';
import { found } from '../catalogue/lists.js';
import { Jobs } from '../engine/jobs.js';
import { lockDeployment, lockJob, unscoped, type DeploymentRow, type JobRow, type NewJob } from '../engine/rows.js';
import { type Change } from '../engine/change.js';
import { Transitions } from '../engine/transitions.js';
import { caller } from '../wire.js';
import { checkMove, Deployments } from './deployments.js';

/**
 * What a person does about something that failed. What has ended stays as it ended: another try is a deployment (or a
 * build) of its own, which says what it is the retry of.
 */
@Injectable()
export class Retries {
  constructor(
    private readonly transitions: Transitions,
    private readonly deployments: Deployments,
    private readonly jobs: Jobs,
  ) {}

  /**
   * A new deployment with the jobs that have not succeeded; with `from` also that job and what depends on it. The
   * values are those that the first try had. Throws `conflict` when the deployment has not ended, a later one has been
   * made, or nothing is left to do, and what the rules refuse the move for.
   */
  @Serves(retryDeployment)
  async retryDeployment({ vendor_id, deployment_id, retry }: RetryDeployment): Promise<Deployment> {
    const id = newId('deployment');
    const reason = retry.reason === undefined ? {} : { reason: storableText(retry.reason) };
    await this.transitions.run(async (change) => {
      const { tx } = change;
      await tx.query(
        `SELECT 1 FROM installs WHERE id = (SELECT install_id FROM deployments WHERE id = $1 AND vendor_id = $2) FOR UPDATE`,
        [deployment_id, vendor_id],
      );
      const locked = await lockDeployment(tx, deployment_id);
      const ended = found(locked?.vendor_id === vendor_id ? locked : undefined, `deployment ${deployment_id}`);
      await checkLast(tx, ended);
      await this.deployments.makeWay(change, ended.install_id, ended.kind);
      // A release that was marked bad since is not gone to by a retry either.
      if (ended.kind === 'deploy' && ended.release_id) {
        await checkMove(tx, ended.install_id, ended.release_id, ended.rollback);
      }
      const jobs = await tx.query<JobRow>('SELECT * FROM jobs WHERE deployment_id = $1 ORDER BY id', [deployment_id]);
      const plan = planRetry(
        jobs.map((job) => ({
          id: job.id,
          dependsOn: job.depends_on,
          succeeded: job.status === 'succeeded',
          waived: job.waived,
        })),
        retry.from,
        retry.skip ?? [],
      );
      await tx.query(
        `INSERT INTO deployments (id, vendor_id, install_id, release_id, kind, rollback, status, inputs, retry_of)
         SELECT $2, vendor_id, install_id, release_id, kind, rollback, 'running', inputs, id FROM deployments WHERE id = $1`,
        [deployment_id, id],
      );
      change.facts.push({
        chainOf: ended.install_id,
        type: 'deployment.created',
        vendor_id,
        install_id: ended.install_id,
        deployment_id: id,
        actor: caller(),
        data: {
          kind: ended.kind,
          release_id: ended.release_id,
          retry_of: deployment_id,
          jobs: plan.again.length,
          skipped: plan.skipped.length,
          ...reason,
        },
      });
      const fault = { code: 'job_skipped', detail: reason.reason ?? 'left out by the vendor' };
      await this.transitions.create(change, copies(jobs, id, plan.again, plan.skipped, fault), caller());
      // What waits for nothing but jobs that are left out begins now.
      change.unsettled.add(id);
    });
    return this.deployments.getDeployment({ vendor_id, deployment_id: id });
  }

  /**
   * A job that waits for its time begins at once; a build that has ended is made again as a new one, and its job is the
   * answer. Throws `conflict` for the rest: an ended job of a deployment is retried with that deployment.
   */
  @Serves(retryJob)
  async retryJob({ vendor_id, job_id, request }: JobReason): Promise<Job> {
    const data = request.reason === undefined ? {} : { reason: storableText(request.reason) };
    const id = await this.transitions.run(async (change) => {
      const job = await lockJob(change.tx, job_id);
      if (job?.vendor_id !== vendor_id) throw new ImsError('not_found', `there is no job ${job_id}`);
      if (jobMachine.isFinal(job.status)) return this.buildAgain(change, job);
      const decision = this.transitions.apply(change, job, { type: 'hasten' }, { actor: caller(), data });
      if ('refusal' in decision) throw new ImsError(decision.refusal, `${job_id}: ${decision.detail}`);
      return job_id;
    });
    return this.jobs.getJob({ vendor_id, job_id: id });
  }

  private async buildAgain(change: Change, job: JobRow): Promise<JobId> {
    const next = `POST /v1/deployments/${job.deployment_id ?? ''}/retry`;
    if (job.build_id === null)
      throw new ImsError('conflict', `${job.id} has ${job.status}; retry its deployment: ${next}`);
    const [id, build_id]: [JobId, BuildId] = [newId('job'), newId('build')];
    await change.tx.query(
      `INSERT INTO builds (id, vendor_id, app_id, component_id, component_name, job_id, spec)
       SELECT $2, vendor_id, app_id, component_id, component_name, $3, spec FROM builds WHERE id = $1`,
      [job.build_id, build_id, id],
    );
    await this.transitions.create(change, [{ ...copyOf(job, id), status: 'queued', build_id }], caller());
    return id;
  }
}

async function checkLast(tx: Tx, { id, install_id, kind, status }: DeploymentRow): Promise<void> {
  if (!deploymentMachine.isFinal(status)) throw new ImsError('conflict', `the deployment is ${status}`);
  if (kind === 'work') return;
  const [later] = await tx.query<{ id: DeploymentId; status: string }>(
    `SELECT id, status FROM deployments WHERE install_id = $2 AND kind <> 'work'
       AND created_at > (SELECT created_at FROM deployments WHERE id = $1) ORDER BY created_at DESC LIMIT 1`,
    [id, install_id],
  );
  if (later) throw new ImsError('conflict', `a later deployment of this install is ${later.status}: ${later.id}`);
}

/** The jobs as they are made again; an edge to a job that has succeeded is gone. */
function copies(
  jobs: readonly JobRow[],
  deployment_id: DeploymentId,
  again: readonly string[],
  skipped: readonly string[],
  fault: { code: string; detail: string },
): NewJob[] {
  const ids = new Map([...again, ...skipped].map((id) => [id, newId('job')]));
  return jobs.flatMap((job): NewJob[] => {
    const id = ids.get(job.id);
    if (id === undefined) return [];
    const depends_on = job.depends_on.flatMap((parent) => ids.get(parent) ?? []);
    const copy = { ...copyOf(job, id), deployment_id, depends_on };
    if (skipped.includes(job.id)) return [{ ...copy, status: 'skipped' as const, error: fault }];
    return [{ ...copy, status: depends_on.length === 0 ? ('queued' as const) : ('blocked' as const) }];
  });
}

/** Times that were set for the first try do not count for the next. */
function copyOf(job: JobRow, id: JobId): Omit<NewJob, 'status'> {
  const { vendor_id, app_id, kind, agent_id, component_id, component_name, component_kind } = job;
  return {
    ...{ id, vendor_id, app_id, kind, agent_id, component_id, component_name, component_kind },
    ...(job.install_id === null ? {} : { install_id: job.install_id }),
    ...(job.release_id === null ? {} : { release_id: job.release_id }),
    ...(job.key === null ? {} : { key: job.key }),
    ...(job.singleton === null ? {} : { singleton: unscoped(job.singleton) }),
    ...(job.lock === null ? {} : { lock: unscoped(job.lock) }),
    depends_on: [],
    priority: job.priority,
    allow_failure: job.allow_failure,
  };
}
