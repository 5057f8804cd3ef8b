import { Injectable } from '@nestjs/common';
import { ImsError, type CancelRequest, type DeploymentId, type JobId, type VendorId } from '#contracts';
import { deploymentMachine, jobMachine } from '#domain';
import { storableText } from '#persistence';
import { found } from '../catalogue/lists.js';
import { lockDeployment, lockJobInDeployment, type JobRow } from './rows.js';
import { type Change } from './change.js';
import { Transitions } from './transitions.js';
import { caller } from '../wire.js';

/** Stops what is wanted no more: at once where nothing runs, by the agent (which confirms) where something does. */
@Injectable()
export class Cancel {
  constructor(private readonly transitions: Transitions) {}

  /** Cancelling twice is no error; with `force` the second time makes the stop harder. A job that has ended: `conflict`. */
  async job(vendor_id: VendorId, job_id: JobId, request: CancelRequest): Promise<void> {
    await this.transitions.run(async (change) => {
      const job = await lockJobInDeployment(change.tx, job_id);
      if (job?.vendor_id !== vendor_id) throw new ImsError('not_found', `there is no job ${job_id}`);
      if (job.status === 'cancelled') return;
      this.apply(change, job, request);
    });
  }

  /** All jobs of the deployment that are not finished, in one transaction. */
  async deployment(vendor_id: VendorId, id: DeploymentId, request: CancelRequest): Promise<void> {
    await this.transitions.run(async (change) => {
      const { tx } = change;
      const locked = await lockDeployment(tx, id);
      const deployment = found(locked?.vendor_id === vendor_id ? locked : undefined, `deployment ${id}`);
      if (deployment.status === 'cancelled') return;
      const next = deploymentMachine.next(deployment.status, 'cancel');
      if (!next) throw new ImsError('conflict', `the deployment has ${deployment.status}`);
      await tx.query('UPDATE deployments SET status = $3 WHERE id = $1 AND status = $2', [id, deployment.status, next]);
      const jobs = await tx.query<JobRow>(
        'SELECT j.*, clock_timestamp() AS now FROM jobs j WHERE deployment_id = $1 ORDER BY id FOR UPDATE',
        [id],
      );
      change.facts.push({
        chainOf: deployment.install_id,
        type: 'deployment.cancelling',
        vendor_id,
        install_id: deployment.install_id,
        deployment_id: id,
        actor: caller(),
        data: { reason: reasonOf(request), force: request.force ?? false },
      });
      for (const job of jobs) if (!jobMachine.isFinal(job.status)) this.apply(change, job, request);
    });
  }

  private apply(change: Change, job: JobRow, request: CancelRequest): void {
    const event = { type: 'cancel', force: request.force ?? false, reason: reasonOf(request) } as const;
    const decision = this.transitions.apply(change, job, event, {
      actor: caller(),
      data: { reason: event.reason, force: event.force },
    });
    if ('refusal' in decision) throw new ImsError(decision.refusal, `${job.id}: ${decision.detail}`);
  }
}

const reasonOf = (request: CancelRequest): string => storableText(request.reason ?? 'cancelled by the vendor');
