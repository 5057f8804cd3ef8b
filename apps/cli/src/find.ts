import { existsSync, readFileSync } from 'node:fs';
import { type ImsClient, type Schemas } from '#client';
import { CliError } from './exit.js';

type App = Schemas['App'];
type Install = Schemas['Install'];
type Release = Schemas['Release'];

export const MANIFEST = 'vendor-cloud.yaml';

/** Things by what people call them: an id, or the name that they gave. */
export class Find {
  constructor(private readonly client: ImsClient) {}

  /** By id or name; without either the app of vendor-cloud.yaml here, or the only one that there is. */
  async app(ref: string | undefined): Promise<App> {
    if (ref?.startsWith('app_') === true)
      return this.client.get('/v1/apps/{app_id}', { params: { path: { app_id: ref } } });
    const apps = await all(this.client.list('/v1/apps', { params: { query: { limit: 200 } } }));
    const name = ref ?? appOfManifest();
    if (name !== undefined) return pick('app', name, apps, (app) => app.name, 'ims apps');
    const [only] = apps;
    if (only !== undefined && apps.length === 1) return only;
    throw new CliError('usage', apps.length === 0 ? 'there is no app yet' : 'which app?', [
      apps.length === 0 ? 'ims init, then ims apply' : `--app ${apps.map((app) => app.name).join(' | ')}`,
    ]);
  }

  async install(ref: string): Promise<Install> {
    if (ref.startsWith('ins_')) {
      return this.client.get('/v1/installs/{install_id}', { params: { path: { install_id: ref } } });
    }
    const installs = await all(this.client.list('/v1/installs', { params: { query: { limit: 200 } } }));
    const { id } = pick('install', ref, installs, (install) => install.name, 'ims installs');
    // Lists leave out what is large: the policy of the customer.
    return this.client.get('/v1/installs/{install_id}', { params: { path: { install_id: id } } });
  }

  /** By id, version, or `latest`. */
  async release(appId: string, ref: string | undefined): Promise<Release> {
    if (ref?.startsWith('rel_') === true) {
      return this.client.get('/v1/releases/{release_id}', { params: { path: { release_id: ref } } });
    }
    const releases = await all(
      this.client.list('/v1/apps/{app_id}/releases', { params: { path: { app_id: appId }, query: { limit: 200 } } }),
    );
    const [newest] = releases;
    if (newest === undefined)
      throw new CliError('notFound', 'this app has no release', ['ims build, then ims release 1.0.0']);
    return ref === undefined || ref === 'latest'
      ? newest
      : pick('release', ref, releases, (release) => release.version, 'ims releases');
  }

  /** The jobs that an id stands for: its own, those of a deployment, or the one of a build. */
  async jobs(ref: string): Promise<Schemas['Job'][]> {
    if (ref.startsWith('dep_')) {
      return all(this.client.list('/v1/jobs', { params: { query: { deployment_id: ref, limit: 200 } } }));
    }
    return [await this.job(ref)];
  }

  async job(ref: string): Promise<Schemas['Job']> {
    const id = ref.startsWith('bld_')
      ? (await this.client.get('/v1/builds/{build_id}', { params: { path: { build_id: ref } } })).job_id
      : ref;
    if (!id.startsWith('job_')) {
      throw new CliError('usage', `${ref} is no id of a job, build or deployment`, ['ims jobs']);
    }
    return this.client.get('/v1/jobs/{job_id}', { params: { path: { job_id: id } } });
  }
}

export async function all<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = [];
  for await (const row of rows) found.push(row);
  return found;
}

/** So many rows; says on the way out whether there were more. */
export async function* first<T>(rows: AsyncIterable<T>, limit: number, onMore: () => void): AsyncGenerator<T> {
  let count = 0;
  for await (const row of rows) {
    if (count++ >= limit) {
      onMore();
      return;
    }
    yield row;
  }
}

function appOfManifest(): string | undefined {
  if (!existsSync(MANIFEST)) return undefined;
  return /^app:\s*["']?([a-z0-9-]+)/m.exec(readFileSync(MANIFEST, 'utf8'))?.[1];
}

function pick<T>(kind: string, name: string, rows: readonly T[], nameOf: (row: T) => string, list: string): T {
  const found = rows.find((row) => nameOf(row) === name);
  if (found !== undefined) return found;
  const near = nearest(name, rows.map(nameOf));
  throw new CliError('notFound', `there is no ${kind} ${name}`, [
    ...(near === undefined ? [] : [`Did you mean ${near}?`]),
    `${list}   lists them`,
  ]);
}

/** The closest of the names, if it is close enough to be a slip of the hand. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  const [best] = names
    .map((each) => ({ each, away: distance(name, each) }))
    .filter(({ each, away }) => away <= (each.length < 4 ? 1 : Math.max(2, Math.floor(each.length / 3))))
    .sort((a, b) => a.away - b.away);
  return best?.each;
}

/** Levenshtein: single characters changed, added or left out. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(change, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
