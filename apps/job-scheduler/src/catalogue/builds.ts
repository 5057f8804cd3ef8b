import { Injectable } from '@nestjs/common';
import {
  Artifact,
  Build,
  BuildPage,
  createBuilds,
  getBuild,
  ImsError,
  listBuilds,
  newId,
  type AgentId,
  type AppId,
  type BuildId,
  type BuildRef,
  type ComponentId,
  type CreateBuilds,
  type JobId,
  type JobStatus,
  type ListInApp,
} from '#contracts';
import { buildStatusOf, type Fault } from '#domain';
import { Serves } from '#messaging';
import { Database } from '#persistence';
import { Transitions } from '../engine/transitions.js';
import { iso, isoOrNull, problem, wire } from '../wire.js';
import { findApp } from './apps.js';
import { ComponentRow, type Stored } from './entities.js';
import { found, page, position } from './lists.js';

interface BuildRow {
  readonly id: BuildId;
  readonly app_id: AppId;
  readonly component_id: ComponentId;
  readonly component_name: string;
  readonly job_id: JobId;
  readonly job_status: JobStatus;
  readonly source_commit: string | null;
  readonly artifact: Stored<Artifact> | null;
  readonly error: Fault | null;
  readonly created_at: Date;
  readonly finished_at: Date | null;
}
const SELECT_BUILDS = `
  SELECT b.id, b.app_id, b.component_id, b.component_name, b.job_id, b.source_commit, b.artifact, b.created_at,
         j.status AS job_status, j.error, j.finished_at
  FROM builds b JOIN jobs j ON j.id = b.job_id`;

/** Builds: what a build agent was asked to make of a component, and what came of it. A build's state is its job's. */
@Injectable()
export class Builds {
  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
  ) {}

  /** One build for each named component, or for all. All or none are made. */
  @Serves(createBuilds)
  async createBuilds({ vendor_id, app_id, builds }: CreateBuilds): Promise<BuildPage> {
    const ids = await this.transitions.run(async (change) => {
      const { manager } = change.tx;
      await findApp(manager, vendor_id, app_id);
      const components = await manager.find(ComponentRow, { where: { app_id }, order: { id: 'ASC' } });
      const chosen = choose(components, builds.components);
      const [agent] = await change.tx.query<{ id: AgentId }>(
        `SELECT id FROM agents WHERE vendor_id = $1 AND kind = 'build' ORDER BY id LIMIT 1`,
        [vendor_id],
      );
      const agent_id = found(agent, `build agent of ${vendor_id}`).id;
      const made = chosen.map((component) => ({ component, id: newId('build'), job_id: newId('job') }));
      await change.tx.query(
        `INSERT INTO builds (id, vendor_id, app_id, component_id, component_name, job_id, spec)
         SELECT b.id, $2, $3, b.component_id, b.component_name, b.job_id, b.spec
         FROM jsonb_to_recordset($1) AS b (id text, component_id text, component_name text, job_id text, spec jsonb)`,
        [JSON.stringify(made.map((build) => rowOf(build))), vendor_id, app_id],
      );
      await this.transitions.create(
        change,
        made.map(({ component, id, job_id }) => ({
          id: job_id,
          vendor_id,
          app_id,
          agent_id,
          kind: 'build',
          status: 'queued',
          build_id: id,
          component_id: component.id,
          component_name: component.name,
          component_kind: component.spec.kind,
          depends_on: [],
        })),
      );
      return made.map(({ id }) => id);
    });
    const rows = await this.database.query<BuildRow>(`${SELECT_BUILDS} WHERE b.id = ANY($1) ORDER BY b.id DESC`, [ids]);
    return page(BuildPage, rows, rows.length, viewBuild);
  }

  @Serves(listBuilds)
  async listBuilds(query: ListInApp): Promise<BuildPage> {
    const { vendor_id, app_id } = query;
    const { before, take, limit } = position(query);
    await this.database.transaction(({ manager }) => findApp(manager, vendor_id, app_id));
    const rows = await this.database.query<BuildRow>(
      `${SELECT_BUILDS} WHERE b.app_id = $1 AND ($2::text IS NULL OR b.id < $2) ORDER BY b.id DESC LIMIT $3`,
      [app_id, before ?? null, take],
    );
    return page(BuildPage, rows, limit, viewBuild);
  }

  @Serves(getBuild)
  async getBuild({ vendor_id, build_id }: BuildRef): Promise<Build> {
    const [row] = await this.database.query<BuildRow>(`${SELECT_BUILDS} WHERE b.id = $1 AND b.vendor_id = $2`, [
      build_id,
      vendor_id,
    ]);
    return viewBuild(found(row, `build ${build_id}`));
  }
}

function choose(components: readonly ComponentRow[], names: readonly string[] | undefined): readonly ComponentRow[] {
  if (components.length === 0) throw new ImsError('conflict', 'the app has no components');
  if (names === undefined) return components;
  const unknown = names.filter((name) => !components.some((component) => component.name === name));
  if (unknown.length > 0) throw new ImsError('unknown_component', `not in this app: ${unknown.join(', ')}`);
  const message = 'must name at least one component';
  if (names.length === 0) {
    throw new ImsError('invalid_request', `/components ${message}`, [{ pointer: '/components', message }]);
  }
  return components.filter(({ name }) => names.includes(name));
}

const rowOf = (build: { component: ComponentRow; id: BuildId; job_id: JobId }): object => ({
  id: build.id,
  component_id: build.component.id,
  component_name: build.component.name,
  job_id: build.job_id,
  spec: build.component.spec,
});

const viewBuild = (row: BuildRow): Build =>
  wire(Build, {
    id: row.id,
    app_id: row.app_id,
    component_id: row.component_id,
    component_name: row.component_name,
    job_id: row.job_id,
    status: buildStatusOf(row.job_status),
    source_commit: row.source_commit,
    artifact: row.artifact && wire(Artifact, row.artifact),
    error: problem(row.error),
    created_at: iso(row.created_at),
    finished_at: isoOrNull(row.finished_at),
  });
