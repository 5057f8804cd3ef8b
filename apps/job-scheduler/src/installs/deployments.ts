import { Injectable } from '@nestjs/common';
import {
  cancelDeployment,
  createDeployment,
  Deployment,
  DeploymentJobCounts,
  DeploymentPage,
  getDeployment,
  ImsError,
  listDeployments,
  newId,
  type AgentId,
  type AppId,
  type CancelDeployment,
  type CreateDeployment,
  type DeploymentId,
  type DeploymentRef,
  type DeploymentStatus,
  type InstallId,
  type ListInInstall,
  type NewDeployment,
  type ReleaseComponent,
  type ReleaseId,
  type VendorId,
} from '#contracts';
import { graphComponent, planDeploy, planTeardown, type Fault, type PlannedJob } from '#domain';
import { Serves } from '#messaging';
import { Database, type Tx } from '#persistence';
import { type Stored } from '../catalogue/entities.js';
import { found, page, position } from '../catalogue/lists.js';
import { Cancel } from '../engine/cancel.js';
import { type Change } from '../engine/change.js';
import { Transitions } from '../engine/transitions.js';
import { caller, iso, isoOrNull, problem, wire } from '../wire.js';

interface DeploymentView {
  readonly id: DeploymentId;
  readonly install_id: InstallId;
  readonly release_id: ReleaseId | null;
  readonly kind: 'deploy' | 'teardown';
  readonly rollback: boolean;
  readonly status: DeploymentStatus;
  readonly error: Fault | null;
  readonly created_at: Date;
  readonly finished_at: Date | null;
  readonly total: number;
  readonly succeeded: number;
  readonly failed: number;
  readonly unfinished: number;
}
const SELECT_DEPLOYMENTS = `
  SELECT d.*, c.* FROM deployments d, LATERAL (
    SELECT count(*) AS total, count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
      count(*) FILTER (WHERE status IN ('failed', 'cancelled', 'skipped')) AS failed,
      count(*) FILTER (WHERE finished_at IS NULL) AS unfinished
    FROM jobs WHERE deployment_id = d.id) c`;

interface LockedInstall {
  readonly id: InstallId;
  readonly vendor_id: VendorId;
  readonly app_id: AppId;
  readonly agent_id: AgentId;
}
/** A component and the release that says how it is made or removed. */
interface Part {
  readonly component: Stored<ReleaseComponent>;
  readonly release_id: ReleaseId;
}

/** Deployments: a graph of jobs that takes an install to a release, or to nothing. One at a time for an install. */
@Injectable()
export class Deployments {
  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
    private readonly cancelling: Cancel,
  ) {}

  /**
   * Makes the deployment with all its jobs, or nothing. The same release again gives the same graph: its agent finds
   * nothing to do. Throws `deployment_in_progress`, `not_found`, `invalid_request`, and what the graph is refused for.
   */
  @Serves(createDeployment)
  async createDeployment({ vendor_id, install_id, deployment }: CreateDeployment): Promise<Deployment> {
    checkRequest(deployment);
    const id = newId('deployment');
    await this.transitions.run(async (change) => {
      const { tx } = change;
      // The lock lets one of several callers in; the others find its deployment. The index would refuse them too.
      const [install] = await tx.query<LockedInstall>(
        'SELECT id, vendor_id, app_id, agent_id FROM installs WHERE id = $1 AND vendor_id = $2 FOR UPDATE',
        [install_id, vendor_id],
      );
      await this.begin(change, id, found(install, `install ${install_id}`), deployment);
    });
    return this.getDeployment({ vendor_id, deployment_id: id });
  }

  @Serves(listDeployments)
  async listDeployments(query: ListInInstall): Promise<DeploymentPage> {
    const { vendor_id, install_id } = query;
    const { before, take, limit } = position(query);
    const [install] = await this.database.query('SELECT 1 FROM installs WHERE id = $1 AND vendor_id = $2', [
      install_id,
      vendor_id,
    ]);
    found(install, `install ${install_id}`);
    const rows = await this.database.query<DeploymentView>(
      `${SELECT_DEPLOYMENTS} WHERE d.install_id = $1 AND ($2::text IS NULL OR d.id < $2) ORDER BY d.id DESC LIMIT $3`,
      [install_id, before ?? null, take],
    );
    return page(DeploymentPage, rows, limit, viewDeployment);
  }

  @Serves(getDeployment)
  async getDeployment({ vendor_id, deployment_id }: DeploymentRef): Promise<Deployment> {
    const [row] = await this.database.query<DeploymentView>(
      `${SELECT_DEPLOYMENTS} WHERE d.id = $1 AND d.vendor_id = $2`,
      [deployment_id, vendor_id],
    );
    return viewDeployment(found(row, `deployment ${deployment_id}`));
  }

  @Serves(cancelDeployment)
  async cancelDeployment({ vendor_id, deployment_id, cancel }: CancelDeployment): Promise<Deployment> {
    await this.cancelling.deployment(vendor_id, deployment_id, cancel);
    return this.getDeployment({ vendor_id, deployment_id });
  }

  private async begin(change: Change, id: DeploymentId, install: LockedInstall, wanted: NewDeployment): Promise<void> {
    const { tx } = change;
    const [busy] = await tx.query<{ id: DeploymentId; status: string }>(
      `SELECT id, status FROM deployments WHERE install_id = $1 AND status IN ('running', 'cancelling')`,
      [install.id],
    );
    if (busy) throw new ImsError('deployment_in_progress', `${busy.id} is ${busy.status}`);
    const deploy = wanted.kind === 'deploy';
    const parts = deploy
      ? await partsOfRelease(tx, install, wanted.release_id ?? '')
      : await partsPresent(tx, install.id);
    const nodes = parts.map(({ component }) => graphComponent(component));
    const plan = deploy ? planDeploy(nodes) : planTeardown(nodes);
    const rollback = wanted.rollback === true;
    if (deploy && !rollback) await refuseDowngrade(tx, install.id, wanted.release_id ?? '');
    const { vendor_id, id: install_id } = install;
    await tx.query(
      `INSERT INTO deployments (id, vendor_id, install_id, release_id, kind, rollback, status)
       VALUES ($1, $2, $3, $4, $5, $6, 'running')`,
      [id, vendor_id, install_id, wanted.release_id ?? null, wanted.kind, rollback],
    );
    change.facts.push({
      chainOf: install_id,
      type: 'deployment.created',
      vendor_id,
      install_id,
      deployment_id: id,
      actor: caller(),
      data: { kind: wanted.kind, release_id: wanted.release_id ?? null, rollback, jobs: plan.length },
    });
    if (deploy) await showComponents(tx, install_id, parts);
    await this.createJobs(change, id, install, plan, new Map(parts.map((part) => [part.component.name, part])));
    // A teardown of nothing has ended before it began.
    if (plan.length === 0) change.unsettled.add(id);
  }

  private async createJobs(
    change: Change,
    deployment_id: DeploymentId,
    install: LockedInstall,
    plan: readonly PlannedJob[],
    parts: ReadonlyMap<string, Part>,
  ): Promise<void> {
    const ids = new Map(plan.map(({ key }) => [key, newId('job')]));
    const idOf = (key: string) => found(ids.get(key), `job ${key}`);
    const jobs = plan.map(({ key, component: name, kind, dependsOn }) => {
      const { component, release_id } = found(parts.get(name), `component ${name}`);
      return {
        id: idOf(key),
        vendor_id: install.vendor_id,
        app_id: install.app_id,
        kind,
        status: dependsOn.length === 0 ? ('queued' as const) : ('blocked' as const),
        agent_id: install.agent_id,
        install_id: install.id,
        deployment_id,
        release_id,
        component_id: component.component_id,
        component_name: name,
        component_kind: component.kind,
        depends_on: dependsOn.map(idOf),
      };
    });
    await this.transitions.create(change, jobs);
  }
}

function checkRequest({ kind, release_id }: NewDeployment): void {
  const message =
    kind === 'deploy' && release_id === undefined
      ? 'is needed to deploy'
      : kind === 'teardown' && release_id !== undefined
        ? 'is not for a teardown, which removes what is there'
        : undefined;
  if (message) throw new ImsError('invalid_request', `/release_id ${message}`, [{ pointer: '/release_id', message }]);
}

async function partsOfRelease(tx: Tx, install: LockedInstall, release_id: ReleaseId): Promise<Part[]> {
  const [release] = await tx.query<{ app_id: AppId; components: Stored<ReleaseComponent>[] }>(
    'SELECT app_id, components FROM releases WHERE id = $1 AND vendor_id = $2',
    [release_id, install.vendor_id],
  );
  const { app_id, components } = found(release, `release ${release_id}`);
  if (app_id !== install.app_id) {
    const message = 'is a release of another app';
    throw new ImsError('invalid_request', `/release_id ${message}`, [{ pointer: '/release_id', message }]);
  }
  return components.map((component) => ({ component, release_id }));
}

/**
 * Going back is for people to say: agents refuse it too, so a replayed or forged job cannot bring an old fault back.
 * What counts is what was ever begun here, also before a teardown.
 */
async function refuseDowngrade(tx: Tx, install_id: InstallId, release_id: string): Promise<void> {
  const [newer] = await tx.query<{ id: ReleaseId; version: string }>(
    `SELECT r.id, r.version FROM deployments d JOIN releases r ON r.id = d.release_id
      WHERE d.install_id = $1 AND r.created_at > (SELECT created_at FROM releases WHERE id = $2)
      ORDER BY r.created_at DESC LIMIT 1`,
    [install_id, release_id],
  );
  if (newer) throw new ImsError('release_downgraded', `this install has had ${newer.version} (${newer.id})`);
}

/** What is there, or may be there, each as the release that it was last applied from describes it. */
async function partsPresent(tx: Tx, install_id: InstallId): Promise<Part[]> {
  return tx.query<{ component: Stored<ReleaseComponent>; release_id: ReleaseId }>(
    `SELECT r.id AS release_id, c AS component
     FROM install_components i JOIN releases r ON r.id = i.release_id, jsonb_array_elements(r.components) c
     WHERE i.install_id = $1 AND i.status IN ('deployed', 'failed') AND c->>'name' = i.name ORDER BY i.name`,
    [install_id],
  );
}

/** Components that were never applied are shown as absent from the start. */
async function showComponents(tx: Tx, install_id: InstallId, parts: readonly Part[]): Promise<void> {
  await tx.query(
    `INSERT INTO install_components (install_id, name, component_id, kind, status, release_id)
     SELECT $1, name, component_id, kind, 'absent', release_id
     FROM jsonb_to_recordset($2) AS c (name text, component_id text, kind text, release_id text)
     ON CONFLICT DO NOTHING`,
    [
      install_id,
      JSON.stringify(
        parts.map(({ component: { name, component_id, kind }, release_id }) => ({
          name,
          component_id,
          kind,
          release_id,
        })),
      ),
    ],
  );
}

const viewDeployment = (row: DeploymentView): Deployment =>
  wire(Deployment, {
    id: row.id,
    install_id: row.install_id,
    release_id: row.release_id,
    kind: row.kind,
    ...(row.rollback ? { rollback: true } : {}),
    status: row.status,
    jobs: wire(DeploymentJobCounts, {
      total: row.total,
      succeeded: row.succeeded,
      failed: row.failed,
      unfinished: row.unfinished,
    }),
    error: problem(row.error),
    created_at: iso(row.created_at),
    finished_at: isoOrNull(row.finished_at),
  });
