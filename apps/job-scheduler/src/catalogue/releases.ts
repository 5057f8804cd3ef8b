import { Injectable } from '@nestjs/common';
import {
  Artifact,
  createRelease,
  getRelease,
  ImsError,
  listReleases,
  MarkedBad,
  markRelease,
  newId,
  Release,
  ReleaseComponent,
  ReleasePage,
  type AppId,
  type BuildId,
  type CreateRelease,
  type ListInApp,
  type MarkRelease,
  type ReleaseId,
  type ReleaseRef,
} from '#contracts';
import { checkGraph, checkReferences, checkVersion, graphComponent, rolloutReason } from '#domain';
import { Serves } from '#messaging';
import { Database, type Query, type Tx } from '#persistence';
import { caller, checkStorable, iso, json, wire } from '../wire.js';
import { findApp } from './apps.js';
import { ReleaseRow, type AppRow, type BuiltComponent, type Stored, type StoredSpec } from './entities.js';
import { found, insert, newest, page, position, unlessTaken } from './lists.js';

/** Releases: an artifact digest and a spec for each component of an app, fixed for ever. */
@Injectable()
export class Releases {
  constructor(private readonly database: Database) {}

  /**
   * Takes the chosen, else the newest successful build of each component. Throws `nothing_built`, `unknown_component`,
   * `unknown_reference` or `dependency_cycle`; a release that exists can be deployed as far as its vendor can know.
   */
  @Serves(createRelease)
  async createRelease({ vendor_id, app_id, release }: CreateRelease): Promise<Release> {
    checkStorable(release);
    checkVersion(release.version, '/version');
    if (release.rollback_floor !== undefined) checkVersion(release.rollback_floor, '/rollback_floor');
    const { version, required = false, rollback_floor = null, builds: chosen = [] } = release;
    const row = { id: newId('release'), vendor_id, app_id, version, required, rollback_floor, bad: null } as ReleaseRow;
    const write = this.database.transaction(async ({ manager, query, record }) => {
      const app = await findApp(manager, vendor_id, app_id);
      if (chosen.length > 0) await this.checkChosen(query, app_id, chosen);
      const built = await query<BuiltComponent>(
        `SELECT c.id AS component_id, c.name, c.spec, b.id AS build_id, b.spec AS build_spec, b.artifact,
                b.source_commit, b."references"
         FROM components c LEFT JOIN LATERAL (
           SELECT * FROM builds WHERE component_id = c.id AND artifact IS NOT NULL
           ORDER BY id = ANY($2) DESC, id DESC LIMIT 1
         ) b ON true
         WHERE c.app_id = $1 ORDER BY c.name`,
        [app_id, chosen],
      );
      row.components = assemble(built);
      row.inputs = app.inputs;
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
          ...(required ? { required } : {}),
          ...(rollback_floor === null ? {} : { rollback_floor }),
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

  /**
   * Marked bad, a release is deployed nowhere any more: channels go back to what was promoted before it, and rollouts of
   * it stop. Nothing that runs is touched. Marking twice keeps the first reason.
   */
  @Serves(markRelease)
  async markRelease({ vendor_id, release_id, bad }: MarkRelease): Promise<Release> {
    if (bad) checkStorable(bad);
    const row = await this.database.transaction(async (tx) => {
      const locked = await tx.manager.findOne(ReleaseRow, {
        where: { id: release_id, vendor_id },
        lock: { mode: 'pessimistic_write' },
      });
      const release = found(locked, `release ${release_id}`);
      if ((release.bad !== null) === (bad !== undefined)) return release;
      const mark = bad ? { reason: bad.reason, at: iso(new Date()) } : null;
      await tx.query('UPDATE releases SET bad = $2 WHERE id = $1', [release_id, json(mark)]);
      if (bad) await withdraw(tx, release_id, bad.reason);
      await tx.record({
        chainOf: vendor_id,
        type: bad ? 'release.marked_bad' : 'release.marked_good',
        vendor_id,
        actor: caller(),
        data: { app_id: release.app_id, release_id, version: release.version, ...(bad ? { reason: bad.reason } : {}) },
      });
      return { ...release, bad: mark };
    });
    return viewRelease(row);
  }

  private async checkChosen(query: Query, app_id: AppId, chosen: readonly BuildId[]): Promise<void> {
    const known = await query<{ id: BuildId; component_name: string; built: boolean }>(
      'SELECT id, component_name, artifact IS NOT NULL AS built FROM builds WHERE app_id = $1 AND id = ANY($2)',
      [app_id, chosen],
    );
    const faults = chosen.flatMap((id, i) => {
      const build = known.find((one) => one.id === id);
      const twin = known.find((one) => one.component_name === build?.component_name && one.id !== id);
      const message = !build
        ? 'is no build of this app'
        : !build.built
          ? 'has not succeeded'
          : twin && `is of ${build.component_name}, of which ${twin.id} is given too`;
      return message ? [{ pointer: `/builds/${i}`, message }] : [];
    });
    if (faults.length === 0) return;
    const detail = faults.map(({ pointer, message }) => `${pointer} ${message}`).join('; ');
    throw new ImsError('invalid_request', detail, faults);
  }
}

async function withdraw(tx: Tx, release_id: ReleaseId, reason: string): Promise<void> {
  await tx.query(
    `UPDATE channels c SET release_id = (
       SELECT p.release_id FROM promotions p JOIN releases r ON r.id = p.release_id
       WHERE p.channel_id = c.id AND r.bad IS NULL ORDER BY p.seq DESC LIMIT 1)
     WHERE release_id = $1`,
    [release_id],
  );
  await tx.query(
    `UPDATE rollouts SET status = 'stopped', reason = $2 WHERE release_id = $1 AND status IN ('running', 'paused')`,
    [release_id, json(rolloutReason({ code: 'stopped', detail: `the release was marked bad: ${reason}` }))],
  );
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

/** What an image gives to others; other kinds say so when they are applied. */
const IMAGE_OUTPUTS = new Set(['image', 'repository', 'digest']);

function checkRelease(app: AppRow, components: readonly Stored<ReleaseComponent>[]): void {
  const names = {
    components: new Set(components.map(({ name }) => name)),
    inputs: new Map(app.inputs.map(({ name, type }) => [name, type])),
    outputs: new Map(components.flatMap(({ name, kind }) => (kind.endsWith('-image') ? [[name, IMAGE_OUTPUTS]] : []))),
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
    ...(row.inputs && row.inputs.length > 0 ? { inputs: row.inputs } : {}),
    required: row.required ? true : null,
    rollback_floor: row.rollback_floor,
    bad: row.bad && wire(MarkedBad, row.bad),
    created_at: iso(row.created_at),
  });
