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
  type DeploymentKind,
  type DeploymentRef,
  type DeploymentStatus,
  type InputDeclaration,
  type InstallId,
  type JsonObject,
  type ListInInstall,
  type NewDeployment,
  type ReleaseComponent,
  type ReleaseId,
  type RolloutId,
  type VendorId,
} from '#contracts';
import {
  declaredOnly,
  graphComponent,
  planDeploy,
  planTeardown,
  refuseMove,
  resolveInputs,
  type Fault,
  type PlannedJob,
  type ReleaseFacts,
  type ReleaseMove,
} from '#domain';
import { Serves } from '#messaging';
import { Database, type Query, type Tx } from '#persistence';
import { type Stored } from '../catalogue/entities.js';
import { found, page, position } from '../catalogue/lists.js';
import { Cancel } from '../engine/cancel.js';
import { type Change } from '../engine/change.js';
import { type JobRow } from '../engine/rows.js';
import { componentLock } from '../engine/rows.js';
import { Transitions } from '../engine/transitions.js';
import { caller, iso, isoOrNull, json, problem, wire } from '../wire.js';

interface DeploymentView {
  readonly id: DeploymentId;
  readonly install_id: InstallId;
  readonly release_id: ReleaseId | null;
  readonly kind: DeploymentKind;
  readonly rollback: boolean;
  readonly rollout_id: RolloutId | null;
  readonly retry_of: DeploymentId | null;
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

/** A deployment as it was asked for, by a person or by a rollout. */
type Wanted = NewDeployment & { readonly rollout_id?: RolloutId };
export interface LockedInstall {
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

  /** Makes the deployment of an install whose row the caller has locked. Throws like `createDeployment`. */
  async begin(
    change: Change,
    id: DeploymentId,
    install: LockedInstall,
    wanted: Wanted,
    actor = caller(),
  ): Promise<void> {
    const { tx } = change;
    const [busy] = await tx.query<{ id: DeploymentId; status: string }>(
      `SELECT id, status FROM deployments
       WHERE install_id = $1 AND status IN ('running', 'cancelling') AND kind <> 'work'`,
      [install.id],
    );
    if (busy) throw new ImsError('deployment_in_progress', `${busy.id} is ${busy.status}`);
    const deploy = wanted.kind === 'deploy';
    await this.makeWay(change, install.id, wanted.kind);
    const parts = deploy
      ? await partsOfRelease(tx, install, wanted.release_id ?? '')
      : await partsPresent(tx, install.id);
    const nodes = parts.map(({ component }) => graphComponent(component));
    const plan = deploy ? planDeploy(nodes) : planTeardown(nodes);
    const rollback = wanted.rollback === true;
    if (deploy) await checkMove(tx, install.id, wanted.release_id ?? '', rollback);
    const inputs = await inputsFor(tx, install.id, wanted.release_id);
    const { vendor_id, id: install_id } = install;
    await tx.query(
      `INSERT INTO deployments (id, vendor_id, install_id, release_id, kind, rollback, status, rollout_id, inputs)
       VALUES ($1, $2, $3, $4, $5, $6, 'running', $7, $8)`,
      [
        id,
        vendor_id,
        install_id,
        wanted.release_id ?? null,
        wanted.kind,
        rollback,
        wanted.rollout_id ?? null,
        json(inputs),
      ],
    );
    change.facts.push({
      chainOf: install_id,
      type: 'deployment.created',
      vendor_id,
      install_id,
      deployment_id: id,
      actor,
      data: {
        kind: wanted.kind,
        release_id: wanted.release_id ?? null,
        rollback,
        jobs: plan.length,
        ...(wanted.rollout_id === undefined ? {} : { rollout_id: wanted.rollout_id }),
      },
    });
    if (deploy) await showComponents(tx, install_id, parts);
    await this.createJobs(
      change,
      id,
      install,
      plan,
      new Map(parts.map((part) => [part.component.name, part])),
      wanted.priority,
    );
    // A teardown of nothing has ended before it began.
    if (plan.length === 0) change.unsettled.add(id);
  }

  /** Ends what may not run beside the deployment. Throws `conflict` when the install takes none of this kind any more. */
  async makeWay(change: Change, install_id: InstallId, kind: DeploymentKind): Promise<void> {
    const [gone] = await change.tx.query('SELECT 1 FROM installs WHERE id = $1 AND deprovisioned IS NOT NULL', [
      install_id,
    ]);
    if (gone && kind !== 'teardown') {
      throw new ImsError('conflict', `${install_id} is deprovisioned: only a teardown is left`);
    }
    if (kind !== 'work') await this.endProbes(change, install_id);
  }

  /** A probe is worth nothing beside a change, and must not keep the agent or a state lock from it. */
  private async endProbes(change: Change, install_id: InstallId): Promise<void> {
    const probes = await change.tx.query<JobRow>(
      `SELECT j.*, clock_timestamp() AS now FROM jobs j
       WHERE install_id = $1 AND kind = 'observe' AND finished_at IS NULL ORDER BY id FOR UPDATE`,
      [install_id],
    );
    for (const job of probes) {
      const event = { type: 'cancel', force: false, reason: 'a deployment begins' } as const;
      if (job.status !== 'cancelling') this.transitions.apply(change, job, event, { actor: caller() });
    }
  }

  private async createJobs(
    change: Change,
    deployment_id: DeploymentId,
    install: LockedInstall,
    plan: readonly PlannedJob[],
    parts: ReadonlyMap<string, Part>,
    priority: number | undefined,
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
        ...(kind === 'sync' ? {} : { lock: componentLock(name) }),
        priority: priority ?? 0,
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

/** Throws what the rules refuse the move for. */
export async function checkMove(
  tx: Tx,
  install_id: InstallId,
  release_id: ReleaseId,
  rollback: boolean,
): Promise<void> {
  const facts = (await moveFacts(tx.query, [install_id], release_id)).get(install_id);
  const refusal = facts && refuseMove({ ...facts, rollback });
  if (refusal) throw new ImsError(refusal.code, refusal.detail);
}

const MOVE_FACTS = 'r.id, r.version, r.created_at, r.required, r.rollback_floor, r.bad';
interface ReleaseFactsRow extends Omit<ReleaseFacts, 'created_at'> {
  readonly created_at: Date;
}
const factsOf = (row: ReleaseFactsRow): ReleaseFacts => ({ ...row, created_at: iso(row.created_at) });

/** All that the rules need to know of the way of some installs of one app to a release. */
export async function moveFacts(
  query: Query,
  installs: readonly InstallId[],
  release_id: ReleaseId,
): Promise<Map<InstallId, Omit<ReleaseMove, 'rollback'>>> {
  const releases = await query<ReleaseFactsRow>(
    `SELECT ${MOVE_FACTS} FROM releases r JOIN releases t ON t.app_id = r.app_id
     WHERE t.id = $1 AND (r.required OR r.id = t.id)`,
    [release_id],
  );
  const target = factsOf(
    found(
      releases.find(({ id }) => id === release_id),
      `release ${release_id}`,
    ),
  );
  const required = releases.filter((release) => release.required).map(factsOf);
  const had = await query<ReleaseFactsRow & { install_id: InstallId; installed: boolean }>(
    `SELECT DISTINCT ON (i.id, r.id) i.id AS install_id, r.id = i.release_id AS installed, ${MOVE_FACTS}
     FROM installs i JOIN deployments d ON d.install_id = i.id JOIN releases r ON r.id = d.release_id
     WHERE i.id = ANY($1)`,
    [installs],
  );
  return new Map(
    installs.map((id) => {
      const own = had.filter((release) => release.install_id === id);
      const installed = own.find((release) => release.installed);
      return [id, { target, required, had: own.map(factsOf), installed: installed && factsOf(installed) }];
    }),
  );
}

/**
 * The vendor's values for a deployment, fixed when it begins: those of the install that the release declares. A teardown
 * takes what the last deployment had: things are removed with the values that they were made with. Throws `missing_input`.
 */
async function inputsFor(tx: Tx, install_id: InstallId, release_id?: ReleaseId): Promise<JsonObject> {
  const [row] = await tx.query<{ inputs: JsonObject; last: JsonObject | null; declared: InputDeclaration[] | null }>(
    `SELECT i.inputs,
       (SELECT d.inputs FROM deployments d WHERE d.install_id = i.id AND d.inputs IS NOT NULL ORDER BY id DESC LIMIT 1) AS last,
       (SELECT coalesce(r.inputs, a.inputs) FROM releases r JOIN apps a ON a.id = r.app_id WHERE r.id = $2) AS declared
     FROM installs i WHERE i.id = $1`,
    [install_id, release_id ?? null],
  );
  const { inputs, last, declared } = found(row, `install ${install_id}`);
  return declared ? resolveInputs(declared, declaredOnly(declared, inputs), '/inputs') : (last ?? inputs);
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
    rollout_id: row.rollout_id,
    retry_of: row.retry_of,
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
