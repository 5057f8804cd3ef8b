import { Injectable } from '@nestjs/common';
import {
  Artifact,
  createRelease,
  getRelease,
  ImsError,
  listReleases,
  newId,
  Release,
  ReleaseComponent,
  ReleasePage,
  type CreateRelease,
  type ListInApp,
  type ReleaseRef,
} from '#contracts';
import { checkGraph, checkReferences, graphComponent } from '#domain';
import { Serves } from '#messaging';
import { Database } from '#persistence';
import { caller, checkStorable, iso, wire } from '../wire.js';
import { findApp } from './apps.js';
import { ReleaseRow, type AppRow, type BuiltComponent, type Stored, type StoredSpec } from './entities.js';
import { found, insert, newest, page, position, unlessTaken } from './lists.js';

/** Releases: an artifact digest and a spec for each component of an app, fixed for ever. */
@Injectable()
export class Releases {
  constructor(private readonly database: Database) {}

  /**
   * Takes the newest successful build of each component. Throws `nothing_built`, `unknown_component`,
   * `unknown_reference` or `dependency_cycle`; a release that exists can be deployed as far as its vendor can know.
   */
  @Serves(createRelease)
  async createRelease({ vendor_id, app_id, release }: CreateRelease): Promise<Release> {
    checkStorable(release);
    const row = { id: newId('release'), vendor_id, app_id, version: release.version } as ReleaseRow;
    const write = this.database.transaction(async ({ manager, query, record }) => {
      const app = await findApp(manager, vendor_id, app_id);
      const built = await query<BuiltComponent>(
        `SELECT c.id AS component_id, c.name, c.spec, b.id AS build_id, b.spec AS build_spec, b.artifact,
                b.source_commit, b."references"
         FROM components c LEFT JOIN LATERAL (
           SELECT * FROM builds WHERE component_id = c.id AND artifact IS NOT NULL ORDER BY id DESC LIMIT 1
         ) b ON true
         WHERE c.app_id = $1 ORDER BY c.name`,
        [app_id],
      );
      row.components = assemble(built);
      checkRelease(app, row.components);
      await insert(manager, ReleaseRow, row);
      await record({
        chainOf: vendor_id,
        type: 'release.created',
        vendor_id,
        actor: caller(),
        data: {
          app_id,
          release_id: row.id,
          version: row.version,
          digests: Object.fromEntries(row.components.map(({ name, artifact }) => [name, artifact.digest])),
        },
      });
    });
    await unlessTaken(`release ${release.version}`, write);
    return viewRelease(row);
  }

  @Serves(listReleases)
  async listReleases(query: ListInApp): Promise<ReleasePage> {
    const { vendor_id, app_id } = query;
    const at = position(query);
    const rows = await this.database.transaction(async ({ manager }) => {
      await findApp(manager, vendor_id, app_id);
      return newest(manager, ReleaseRow, { vendor_id, app_id }, at);
    });
    return page(ReleasePage, rows, at.limit, viewRelease);
  }

  @Serves(getRelease)
  async getRelease({ vendor_id, release_id }: ReleaseRef): Promise<Release> {
    const row = await this.database.transaction(({ manager }) =>
      manager.findOneBy(ReleaseRow, { id: release_id, vendor_id }),
    );
    return viewRelease(found(row, `release ${release_id}`));
  }
}

function assemble(components: readonly BuiltComponent[]): Stored<ReleaseComponent>[] {
  if (components.length === 0) throw new ImsError('nothing_built', 'the app has no components');
  const missing = components.filter(({ build_id }) => build_id === null).map(({ name }) => name);
  if (missing.length > 0) throw new ImsError('nothing_built', `no successful build of ${missing.join(', ')}`);
  return components.map(({ component_id, name, spec, build_id, build_spec, artifact, source_commit, references }) => ({
    ...deployedSpec(spec, build_spec ?? spec),
    component_id,
    name,
    build_id: build_id ?? '',
    artifact: wire(Artifact, found(artifact, `artifact of ${name}`)),
    source_commit: source_commit ?? '',
    ...(references && references.length > 0 ? { references } : {}),
  }));
}

/** How it is deployed is what the component says now; what it was made from is what it said when it was built. */
function deployedSpec(now: StoredSpec, built: StoredSpec): StoredSpec {
  const { source: _source, image: _image, dockerfile: _dockerfile, ...deploy } = now;
  const { source, image, dockerfile } = built;
  return {
    ...deploy,
    ...(source === undefined ? {} : { source }),
    ...(image === undefined ? {} : { image }),
    ...(dockerfile === undefined ? {} : { dockerfile }),
  };
}

function checkRelease(app: AppRow, components: readonly Stored<ReleaseComponent>[]): void {
  const names = {
    components: new Set(components.map(({ name }) => name)),
    inputs: new Set(app.inputs.map(({ name }) => name)),
  };
  for (const { name, values, run } of components) {
    checkReferences({ values: values ?? {}, run: run ?? {} }, names, `/components/${name}`);
  }
  checkGraph(components.map(graphComponent));
}

const viewRelease = (row: ReleaseRow): Release =>
  wire(Release, {
    id: row.id,
    app_id: row.app_id,
    version: row.version,
    components: row.components.map((component) => wire(ReleaseComponent, component)),
    created_at: iso(row.created_at),
  });
