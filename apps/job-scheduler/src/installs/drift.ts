import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import {
  ComponentState,
  ComponentStatePage,
  ImsError,
  JobPage,
  listComponentStates,
  listObservations,
  newId,
  Observation,
  ObservationPage,
  observeInstall,
  PlanSummary,
  type ComponentId,
  type ComponentKind,
  type Health,
  type InstallId,
  type InstallRef,
  type JobId,
  type ListObservations,
  type ObservePolicy,
  type ReleaseId,
} from '#contracts';
import { nextRun } from '#domain';
import { Serves } from '#messaging';
import { Database } from '#persistence';
import { createLogger, Lifecycle, sleep } from '#platform';
import { type Stored } from '../catalogue/entities.js';
import { found, page, position } from '../catalogue/lists.js';
import { SchedulerConfig } from '../config.js';
import { type Change } from '../engine/change.js';
import { Jobs } from '../engine/jobs.js';
import { SCHEDULER, Transitions } from '../engine/transitions.js';
import { iso, isoOrNull, wire } from '../wire.js';
import { Deployments, type LockedInstall } from './deployments.js';

/** Deployments that change the install: nothing can be compared beside them. */
const CHANGING = `status IN ('running', 'cancelling') AND kind <> 'work'`;
/** So many installs at most in one turn of one replica. */
const BATCH = 50;

interface PresentRow {
  readonly name: string;
  readonly component_id: ComponentId;
  readonly kind: ComponentKind;
  readonly release_id: ReleaseId;
  /** The probe that is on already. */
  readonly probe: JobId | null;
}
interface StateRow extends Pick<ComponentState, 'name' | 'kind' | 'status'> {
  readonly digest: string | null;
  readonly outputs: ComponentState['outputs'] | null;
  readonly sensitive_outputs: string[] | null;
  readonly updated_at: Date;
  readonly health: Health | null;
  readonly reasons: string[] | null;
  readonly drifted: boolean | null;
  readonly difference: Stored<PlanSummary> | null;
  readonly observed_at: Date | null;
}
interface ObservationRow {
  readonly job_id: JobId;
  readonly component: string;
  readonly health: Health;
  readonly reasons: string[];
  readonly drifted: boolean;
  readonly difference: Stored<PlanSummary> | null;
  readonly at: Date;
}

/** Drift: probes by a time table and on demand, what they found, and the deployments that take a difference back. */
@Injectable()
export class Drift implements OnApplicationBootstrap {
  private readonly logger = createLogger('drift');
  private readonly stopping = new AbortController();

  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
    private readonly deployments: Deployments,
    private readonly jobs: Jobs,
    private readonly config: SchedulerConfig,
    private readonly lifecycle: Lifecycle,
  ) {}

  onApplicationBootstrap(): void {
    const loop = this.run();
    this.lifecycle.onDrain('stop-intake', 'drift', () => {
      this.stopping.abort();
      return loop;
    });
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    while (!signal.aborted) {
      try {
        await this.probeDue();
        await this.fixDue();
      } catch (error) {
        this.logger.warn({ err: error }, 'drift is not looked for, the next turn goes on');
      }
      await sleep(this.config.SWEEP_MS * 2, signal);
    }
  }

  /** Throws `deployment_in_progress`: what changes cannot be compared. */
  @Serves(observeInstall)
  async observeInstall({ vendor_id, install_id }: InstallRef): Promise<JobPage> {
    const ids = await this.transitions.run(async (change) => {
      const [install] = await change.tx.query<LockedInstall>(
        'SELECT id, vendor_id, app_id, agent_id FROM installs WHERE id = $1 AND vendor_id = $2 FOR UPDATE',
        [install_id, vendor_id],
      );
      return this.probe(change, found(install, `install ${install_id}`));
    });
    const data = await Promise.all(ids.map((job_id) => this.jobs.getJob({ vendor_id, job_id })));
    return Object.assign(new JobPage(), { data });
  }

  @Serves(listComponentStates)
  async listComponentStates({ vendor_id, install_id }: InstallRef): Promise<ComponentStatePage> {
    const [install] = await this.database.query('SELECT 1 FROM installs WHERE id = $1 AND vendor_id = $2', [
      install_id,
      vendor_id,
    ]);
    found(install, `install ${install_id}`);
    const rows = await this.database.query<StateRow>(
      'SELECT * FROM install_components WHERE install_id = $1 ORDER BY name',
      [install_id],
    );
    return Object.assign(new ComponentStatePage(), { data: rows.map(viewState) });
  }

  @Serves(listObservations)
  async listObservations(query: ListObservations): Promise<ObservationPage> {
    const { vendor_id, install_id, component } = query;
    const { before, take, limit } = position(query);
    await this.listComponentStates({ vendor_id, install_id });
    const rows = await this.database.query<ObservationRow & { id: string }>(
      `SELECT o.*, o.job_id AS id FROM observations o WHERE install_id = $1 AND ($2::text IS NULL OR job_id < $2)
         AND ($4::text IS NULL OR component = $4) ORDER BY job_id DESC LIMIT $3`,
      [install_id, before ?? null, take, component ?? null],
    );
    return page(ObservationPage, rows, limit, viewObservation);
  }

  /** A job for each component that is there. The caller holds the install's lock. */
  private async probe(change: Change, install: LockedInstall): Promise<JobId[]> {
    const { tx } = change;
    const [busy] = await tx.query<{ id: string }>(`SELECT id FROM deployments WHERE install_id = $1 AND ${CHANGING}`, [
      install.id,
    ]);
    if (busy) throw new ImsError('deployment_in_progress', `${busy.id} is not finished`);
    const present = await tx.query<PresentRow>(
      `SELECT c.name, c.component_id, c.kind, c.release_id,
         (SELECT id FROM jobs j WHERE j.install_id = c.install_id AND j.kind = 'observe' AND j.finished_at IS NULL
            AND j.component_name = c.name LIMIT 1) AS probe
       FROM install_components c WHERE c.install_id = $1 AND c.status IN ('deployed', 'failed') ORDER BY c.name`,
      [install.id],
    );
    const fresh = present
      .filter(({ probe }) => probe === null)
      .map(({ name, component_id, kind, release_id }) => ({
        id: newId('job'),
        vendor_id: install.vendor_id,
        app_id: install.app_id,
        kind: 'observe' as const,
        status: 'queued' as const,
        agent_id: install.agent_id,
        install_id: install.id,
        release_id,
        component_id,
        component_name: name,
        component_kind: kind,
        depends_on: [],
      }));
    if (fresh.length > 0) await this.transitions.create(change, fresh);
    return [...present.flatMap(({ probe }) => (probe === null ? [] : [probe])), ...fresh.map(({ id }) => id)];
  }

  /** Installs whose time has come. One that is being changed is looked at the next time. */
  private async probeDue(): Promise<void> {
    const due = await this.database.query<{ id: InstallId }>(
      'SELECT id FROM installs WHERE observe_at <= now() ORDER BY observe_at LIMIT $1',
      [BATCH],
    );
    for (const { id } of due) {
      await this.transitions.run(async (change) => {
        const [install] = await change.tx.query<LockedInstall & { observe: ObservePolicy | null; now: Date }>(
          `SELECT id, vendor_id, app_id, agent_id, observe, clock_timestamp() AS now FROM installs
           WHERE id = $1 AND observe_at <= now() FOR UPDATE SKIP LOCKED`,
          [id],
        );
        if (!install) return;
        const next = install.observe ? nextRun(install.observe, install.now) : undefined;
        await change.tx.query('UPDATE installs SET observe_at = $2 WHERE id = $1', [id, next ?? null]);
        const [busy] = await change.tx.query(`SELECT 1 FROM deployments WHERE install_id = $1 AND ${CHANGING}`, [id]);
        if (!busy) await this.probe(change, install);
      });
    }
  }

  /** Differences that an install's policy has taken back: a deployment of the release that is there, once for each. */
  private async fixDue(): Promise<void> {
    const due = await this.database.query<{ id: InstallId }>(
      `SELECT DISTINCT i.id FROM install_components c JOIN installs i ON i.id = c.install_id
       WHERE ${FIXABLE} LIMIT $1`,
      [BATCH],
    );
    for (const { id } of due) await this.fix(id);
  }

  private async fix(id: InstallId): Promise<void> {
    await this.transitions.run(async (change) => {
      const { tx } = change;
      const [install] = await tx.query<LockedInstall & { release_id: ReleaseId; rollback: boolean | null }>(
        `SELECT id, vendor_id, app_id, agent_id, release_id,
           (SELECT rollback FROM deployments d WHERE d.install_id = i.id AND d.release_id = i.release_id
            ORDER BY id DESC LIMIT 1) AS rollback
         FROM installs i WHERE id = $1 FOR UPDATE SKIP LOCKED`,
        [id],
      );
      const drifted = install
        ? await tx.query<{ name: string }>(
            `UPDATE install_components c SET fix_digest = c.difference->>'digest' FROM installs i
             WHERE i.id = c.install_id AND i.id = $1 AND ${FIXABLE} RETURNING c.name`,
            [id],
          )
        : [];
      if (!install || drifted.length === 0) return;
      change.facts.push({
        chainOf: id,
        type: 'install.drift_fix',
        vendor_id: install.vendor_id,
        install_id: id,
        actor: SCHEDULER,
        data: { components: drifted.map(({ name }) => name) },
      });
      // Where a person went back to this release, that word stands.
      const { release_id, rollback } = install;
      const wanted = { kind: 'deploy' as const, release_id, rollback: rollback === true };
      await this.deployments.begin(change, newId('deployment'), install, wanted, SCHEDULER);
    });
  }
}

const FIXABLE = `(i.observe->>'fix')::boolean AND i.release_id IS NOT NULL AND c.drifted
  AND c.difference IS NOT NULL AND c.fix_digest IS DISTINCT FROM c.difference->>'digest'
  AND NOT EXISTS (SELECT 1 FROM deployments d WHERE d.install_id = i.id AND ${CHANGING})
  AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.install_id = i.id AND j.kind = 'observe' AND j.finished_at IS NULL)`;

const viewState = (row: StateRow): ComponentState =>
  wire(ComponentState, {
    name: row.name,
    kind: row.kind,
    status: row.status,
    digest: row.digest,
    outputs: row.outputs,
    sensitive_outputs: row.sensitive_outputs,
    updated_at: iso(row.updated_at),
    health: row.health,
    reasons: row.reasons,
    drifted: row.drifted,
    difference: row.difference && wire(PlanSummary, row.difference),
    observed_at: isoOrNull(row.observed_at),
  });

const viewObservation = (row: ObservationRow): Observation =>
  wire(Observation, {
    job_id: row.job_id,
    component: row.component,
    health: row.health,
    reasons: row.reasons,
    drifted: row.drifted,
    difference: row.difference && wire(PlanSummary, row.difference),
    at: iso(row.at),
  });
