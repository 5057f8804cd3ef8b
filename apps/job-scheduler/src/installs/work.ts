import { Injectable } from '@nestjs/common';
import {
  createWork,
  extendWork,
  ImsError,
  LIMITS,
  newId,
  type AgentId,
  type AppId,
  type ComponentId,
  type ComponentKind,
  type CreateWork,
  type Deployment,
  type DeploymentId,
  type ExtendWork,
  type InstallId,
  type JobId,
  type NewWorkJob,
  type ReleaseId,
  type VendorId,
} from '#contracts';
import { beginOf, checkWork, deploymentMachine } from '#domain';
import { Serves } from '#messaging';
import { type Tx } from '#persistence';
import { found } from '../catalogue/lists.js';
import { lockDeployment, type NewJob } from '../engine/rows.js';
import { type Change } from '../engine/change.js';
import { Transitions } from '../engine/transitions.js';
import { caller, checkStorable } from '../wire.js';
import { Deployments } from './deployments.js';

interface WorkInstall {
  readonly id: InstallId;
  readonly vendor_id: VendorId;
  readonly app_id: AppId;
  readonly agent_id: AgentId;
  readonly gone: boolean;
  /** The clock that times of jobs are measured with. */
  readonly now: Date;
}
interface Part {
  readonly name: string;
  readonly component_id: ComponentId;
  readonly kind: ComponentKind;
  readonly release_id: ReleaseId | null;
}
interface PresentJob {
  readonly id: JobId;
  readonly key: string;
}

/** Graphs of jobs that a person asks for, beside the deployments of the install. */
@Injectable()
export class Work {
  constructor(
    private readonly transitions: Transitions,
    private readonly deployments: Deployments,
  ) {}

  /**
   * Makes the graph with all its jobs, or nothing. Throws what `checkWork` refuses, `unknown_component`, `not_found`.
   */
  @Serves(createWork)
  async createWork({ vendor_id, install_id, work }: CreateWork): Promise<Deployment> {
    checkStorable(work);
    const deployment_id = newId('deployment');
    await this.transitions.run(async (change) => {
      const install = await lockInstall(change.tx, vendor_id, install_id);
      await change.tx.query(
        `INSERT INTO deployments (id, vendor_id, install_id, kind, status) VALUES ($1, $2, $3, 'work', 'running')`,
        [deployment_id, vendor_id, install_id],
      );
      change.facts.push({
        chainOf: install_id,
        type: 'deployment.created',
        vendor_id,
        install_id,
        deployment_id,
        actor: caller(),
        data: { kind: 'work', jobs: work.jobs.length },
      });
      await this.add(change, install, deployment_id, work.jobs, []);
    });
    return this.deployments.getDeployment({ vendor_id, deployment_id });
  }

  /**
   * Adds jobs to a graph that is not finished. One that depends on a job which has failed already ends at once. Throws
   * `conflict` when the graph has ended or is being cancelled.
   */
  @Serves(extendWork)
  async extendWork({ vendor_id, deployment_id, work }: ExtendWork): Promise<Deployment> {
    checkStorable(work);
    await this.transitions.run(async (change) => {
      const { tx } = change;
      const [head] = await tx.query<{ install_id: InstallId }>(
        'SELECT install_id FROM deployments WHERE id = $1 AND vendor_id = $2',
        [deployment_id, vendor_id],
      );
      const install = await lockInstall(tx, vendor_id, found(head, `deployment ${deployment_id}`).install_id);
      const deployment = found(await lockDeployment(tx, deployment_id), `deployment ${deployment_id}`);
      if (deployment.kind !== 'work') throw new ImsError('conflict', `the jobs of a ${deployment.kind} are its own`);
      if (deploymentMachine.isFinal(deployment.status) || deployment.status === 'cancelling') {
        throw new ImsError('conflict', `the graph is ${deployment.status}`);
      }
      const present = await tx.query<PresentJob>('SELECT id, key FROM jobs WHERE deployment_id = $1', [deployment_id]);
      await this.add(change, install, deployment_id, work.jobs, present);
    });
    return this.deployments.getDeployment({ vendor_id, deployment_id });
  }

  private async add(
    change: Change,
    install: WorkInstall,
    deployment_id: DeploymentId,
    jobs: readonly NewWorkJob[],
    present: readonly PresentJob[],
  ): Promise<void> {
    const now = install.now.getTime();
    checkWork(jobs, present, now);
    if (jobs.length + present.length > LIMITS.jobsPerGraph) {
      throw new ImsError('invalid_request', `a graph has at most ${LIMITS.jobsPerGraph} jobs`);
    }
    const parts = await partsOf(change.tx, install, jobs);
    const ids = new Map<string, JobId>([
      ...present.map(({ key, id }) => [key, id] as const),
      ...jobs.map(({ key }) => [key, newId('job')] as const),
    ]);
    const idOf = (key: string): JobId => found(ids.get(key), `job ${key}`);
    const made = jobs.map((job): NewJob => {
      const part = found(parts.get(job.component), `component ${job.component}`);
      const from = beginOf(job, now);
      const parents = [...new Set(job.depends_on ?? [])];
      return {
        id: idOf(job.key),
        vendor_id: install.vendor_id,
        app_id: install.app_id,
        kind: job.kind,
        status: parents.length === 0 ? 'queued' : 'blocked',
        agent_id: install.agent_id,
        install_id: install.id,
        deployment_id,
        ...(job.kind === 'sync' && part.release_id !== null ? { release_id: part.release_id } : {}),
        component_id: part.component_id,
        component_name: part.name,
        component_kind: part.kind,
        depends_on: parents.map(idOf),
        key: job.key,
        priority: job.priority ?? 0,
        allow_failure: job.allow_failure ?? false,
        ...(from > now ? { not_before: new Date(from).toISOString() } : {}),
        ...(job.expires_at === undefined ? {} : { expires_at: job.expires_at }),
        ...(job.singleton === undefined ? {} : { singleton: job.singleton }),
        // What takes the place of what waits does not run beside what has begun.
        ...lockOf(job),
      };
    });
    await this.transitions.create(change, made, caller());
    // A parent of a new job may have ended already.
    if (present.length > 0) change.unsettled.add(deployment_id);
  }
}

function lockOf({ lock, singleton }: NewWorkJob): { lock?: string } {
  if (lock !== undefined) return { lock };
  return singleton === undefined ? {} : { lock: `singleton:${singleton}` };
}

/** Locked, so that two graphs with the same singletons are made one after the other. Throws `conflict`, `not_found`. */
async function lockInstall(tx: Tx, vendor_id: VendorId, install_id: InstallId): Promise<WorkInstall> {
  const [install] = await tx.query<WorkInstall>(
    `SELECT id, vendor_id, app_id, agent_id, deprovisioned IS NOT NULL AS gone, clock_timestamp() AS now FROM installs
     WHERE id = $1 AND vendor_id = $2 FOR UPDATE`,
    [install_id, vendor_id],
  );
  if (install?.gone === true) throw new ImsError('conflict', `${install_id} is deprovisioned`);
  return found(install, `install ${install_id}`);
}

/** The components that the jobs name, by name: as the app has them, with the release that the install has of them. */
async function partsOf(tx: Tx, install: WorkInstall, jobs: readonly NewWorkJob[]): Promise<Map<string, Part>> {
  const parts = await tx.query<Part>(
    `SELECT c.name, c.id AS component_id, c.spec->>'kind' AS kind, i.release_id
     FROM components c LEFT JOIN install_components i
       ON i.install_id = $2 AND i.name = c.name AND i.status IN ('deployed', 'failed')
     WHERE c.app_id = $1 AND c.name = ANY($3)`,
    [install.app_id, install.id, jobs.map(({ component }) => component)],
  );
  const byName = new Map(parts.map((part) => [part.name, part]));
  const errors = jobs.flatMap(({ kind, component }, at) => {
    const part = byName.get(component);
    const pointer = `/jobs/${at}/component`;
    if (!part) return [{ pointer, message: `${component} is no component of this app` }];
    return kind === 'sync' && part.release_id === null
      ? [{ pointer, message: `${component} is not deployed here` }]
      : [];
  });
  if (errors.length > 0) {
    const detail = errors.map(({ pointer, message }) => `${pointer} ${message}`).join('; ');
    throw new ImsError('unknown_component', detail.slice(0, 4000), errors.slice(0, 100));
  }
  return byName;
}
