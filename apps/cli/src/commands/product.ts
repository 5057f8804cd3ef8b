import { type ImsClient, type Schemas } from '#client';
import { changesBetween, inOrder, specOf, type Change } from '../changes.js';
import { CliError, codeOf } from '../exit.js';
import { all, first, Find } from '../find.js';
import { watchJobs } from '../live.js';
import { readManifest, type Manifest } from '../manifest.js';
import { deadlineOf, type Session } from '../session.js';
import { ago, duration, statusText } from '../terminal.js';
import { limitOf, type ListOptions, type WaitOptions } from './options.js';

type Component = Schemas['Component'];
type NewComponent = Schemas['NewComponent'];

export interface ApplyOptions {
  readonly file: string;
  readonly dryRun?: boolean;
  readonly yes?: boolean;
  readonly var?: Record<string, string>;
  readonly detailedExitcode?: boolean;
}
interface Difference {
  readonly name: string;
  readonly kind: 'create' | 'change';
  readonly changes: readonly Change[];
  readonly wanted: NewComponent;
  readonly existing?: Component;
}

/** Makes app and components as the file says. Shows the difference first; twice the same does nothing. */
export async function apply(session: Session, _args: [], options: ApplyOptions): Promise<number> {
  const { terminal, client } = session;
  const manifest = readManifest(options.file, options.var ?? {});
  const app = (await all(client.list('/v1/apps', { params: { query: { limit: 200 } } }))).find(
    ({ name }) => name === manifest.app,
  );
  const existing = app === undefined ? [] : await componentsOf(client, app.id);
  const differences = differencesOf(manifest, existing);
  const inputs =
    app === undefined ? [] : changesBetween({ inputs: app.inputs ?? [] }, { inputs: manifest.inputs ?? [] });
  const count = differences.length + (app === undefined ? 1 : 0);
  if (session.out.isForPeople) {
    tellDifferences(session, manifest, app === undefined, differences);
    const kept = existing.filter(({ name }) => !manifest.components.some((each) => each.name === name));
    for (const { name } of kept) terminal.tell(`  ${name} is not in the file; it stays as it is`);
    if (inputs.length > 0) {
      terminal.tell(
        `${terminal.errorColours.yellow('!')} the inputs differ; those of an app that exists cannot be changed yet`,
      );
    }
  } else {
    const rows = differences.map(({ name, kind, changes }) => ({ component: name, action: kind, changes }));
    await session.out.structured({ app: manifest.app, create_app: app === undefined, components: rows });
  }
  if (count === 0) {
    terminal.done(`${manifest.app} is as the file says: nothing to change`);
    return codeOf('ok');
  }
  if (options.dryRun === true) return options.detailedExitcode === true ? 2 : codeOf('ok');
  if (options.yes !== true && !(await terminal.confirm(`Make ${count} change${count === 1 ? '' : 's'}?`, true))) {
    terminal.tell('Nothing was changed.');
    return codeOf('failed');
  }
  const { id } =
    app ??
    (await client.post('/v1/apps', {
      body: { name: manifest.app, ...(manifest.inputs === undefined ? {} : { inputs: manifest.inputs }) },
    }));
  for (const difference of differences) await make(client, id, difference);
  terminal.done(`applied ${options.file}: ${count} change${count === 1 ? '' : 's'}`);
  terminal.hint('next:', 'ims build');
  return codeOf('ok');
}

function differencesOf({ components }: Manifest, existing: readonly Component[]): Difference[] {
  return inOrder(components).flatMap((wanted): Difference[] => {
    const known = existing.find(({ name }) => name === wanted.name);
    const changes = changesBetween(known === undefined ? {} : specOf(known), specOf(wanted));
    if (known === undefined) return [{ name: wanted.name, kind: 'create', changes, wanted }];
    return changes.length === 0 ? [] : [{ name: wanted.name, kind: 'change', changes, wanted, existing: known }];
  });
}

function tellDifferences(
  { terminal }: Session,
  manifest: Manifest,
  isNew: boolean,
  differences: readonly Difference[],
): void {
  const c = terminal.colours;
  if (isNew) terminal.data(`${c.green('+')} app ${c.bold(manifest.app)}`);
  for (const { name, kind, changes, wanted } of differences) {
    terminal.data(
      `${kind === 'create' ? c.green('+') : c.yellow('~')} component ${c.bold(name)} ${c.dim(`(${wanted.kind})`)}`,
    );
    for (const { path, before, after } of changes) {
      if (path === 'kind' && kind === 'create') continue;
      const from = before === undefined ? '' : `${c.red(JSON.stringify(before))} → `;
      const to = after === undefined ? c.dim('removed') : c.green(JSON.stringify(after));
      terminal.data(`    ${path}: ${from}${to}`);
    }
  }
}

async function make(client: ImsClient, appId: string, { wanted, existing }: Difference): Promise<void> {
  if (existing === undefined) {
    await client.post('/v1/apps/{app_id}/components', { params: { path: { app_id: appId } }, body: wanted });
    return;
  }
  const path = { component_id: existing.id };
  const { data, etag } = await client.read('/v1/components/{component_id}', { params: { path } });
  if (changesBetween(specOf(data), specOf(existing)).length > 0) {
    throw new CliError('conflict', `${existing.name} was changed by somebody else just now`, ['ims apply --dry-run']);
  }
  const { name: _name, ...body } = wanted;
  await client.put('/v1/components/{component_id}', { params: { path, header: { 'If-Match': etag } }, body });
}

const componentsOf = (client: ImsClient, appId: string): Promise<Component[]> =>
  all(client.list('/v1/apps/{app_id}/components', { params: { path: { app_id: appId }, query: { limit: 200 } } }));

export interface AppOptions {
  readonly app?: string;
}

/** Builds components and watches; with --no-wait answers the builds at once. */
export async function build(session: Session, [names]: [string[]], options: AppOptions & WaitOptions): Promise<number> {
  const { client, terminal } = session;
  const deadline = deadlineOf(options.timeout);
  const app = await new Find(client).app(options.app);
  const { data: builds } = await client.post('/v1/apps/{app_id}/builds', {
    params: { path: { app_id: app.id } },
    body: names.length === 0 ? {} : { components: names },
  });
  if (!options.wait) {
    await session.out.list(builds, BUILDS);
    return codeOf('ok');
  }
  session.leaveWith(['watch:', `ims builds --app ${app.name}`], ['cancel one:', 'ims cancel JOB']);
  const jobIds = builds.map(({ job_id }) => job_id);
  const code = await watchJobs(session, {
    title: `Building ${app.name}`,
    deadline,
    list: () => Promise.all(jobIds.map((job_id) => client.get('/v1/jobs/{job_id}', { params: { path: { job_id } } }))),
  });
  const made = await Promise.all(
    builds.map(({ id }) => client.get('/v1/builds/{build_id}', { params: { path: { build_id: id } } })),
  );
  await session.out.list(made, BUILDS);
  if (code === codeOf('ok')) terminal.hint('next:', 'ims release 1.0.0');
  return code;
}

const BUILDS = {
  name: ({ id }: Schemas['Build']) => id,
  empty: 'There are none: ims build',
  columns: [
    { head: 'build', value: ({ id }: Schemas['Build']) => id },
    { head: 'component', value: (row: Schemas['Build']) => row.component_name },
    {
      head: 'status',
      value: ({ status }: Schemas['Build'], c: Parameters<typeof statusText>[1]) => statusText(status, c),
    },
    { head: 'age', value: ({ created_at }: Schemas['Build']) => ago(created_at) },
    { head: 'job', wide: true, value: ({ job_id }: Schemas['Build']) => job_id },
    { head: 'commit', wide: true, value: (row: Schemas['Build']) => row.source_commit?.slice(0, 12) },
    {
      head: 'artifact',
      value: ({ artifact, error }: Schemas['Build']) =>
        artifact?.digest.slice(0, 19) ?? (error === undefined ? undefined : `${error.code}: ${error.detail}`),
    },
  ],
};

export async function builds(session: Session, _args: [], options: AppOptions & ListOptions): Promise<number> {
  const app = await new Find(session.client).app(options.app);
  const limit = limitOf(options.limit);
  const rows = session.client.list('/v1/apps/{app_id}/builds', {
    params: { path: { app_id: app.id }, query: { limit: Math.min(limit, 200) } },
  });
  await session.out.list(first(rows, limit, tellMore(session, limit)), BUILDS);
  return codeOf('ok');
}

export const tellMore = (session: Session, limit: number) => (): void => {
  session.terminal.tell(
    session.terminal.errorColours.dim(`… the newest ${limit}; --limit N for more, --limit all for all`),
  );
};

const RELEASE_COLUMNS = [
  { head: 'release', value: ({ id }: Schemas['Release']) => id },
  { head: 'version', value: ({ version }: Schemas['Release']) => version },
  { head: 'age', value: ({ created_at }: Schemas['Release']) => ago(created_at) },
  { head: 'components', value: ({ components }: Schemas['Release']) => components.map(({ name }) => name).join(', ') },
];
const RELEASES = {
  name: ({ id }: Schemas['Release']) => id,
  empty: 'There are none: ims release 1.0.0',
  columns: RELEASE_COLUMNS,
};

/** Makes a release of the newest successful builds. The same version again answers `already_exists`. */
export async function release(session: Session, [version]: [string], options: AppOptions): Promise<number> {
  const app = await new Find(session.client).app(options.app);
  const made = await session.client.post('/v1/apps/{app_id}/releases', {
    params: { path: { app_id: app.id } },
    body: { version },
  });
  await session.out.one(made, RELEASES);
  session.terminal.done(`released ${app.name} ${version}`);
  session.terminal.hint('next:', 'ims install NAME   or   ims deploy INSTALL');
  return codeOf('ok');
}

export async function releases(
  session: Session,
  [ref]: [string | undefined],
  options: AppOptions & ListOptions,
): Promise<number> {
  const find = new Find(session.client);
  const app = await find.app(options.app);
  if (ref !== undefined) {
    const { components, ...found } = await find.release(app.id, ref);
    const { colours, data } = {
      colours: session.terminal.colours,
      data: (text: string) => session.terminal.data(text),
    };
    if (!session.out.isForPeople) await session.out.one({ ...found, components }, RELEASES);
    else {
      data(`${colours.bold(`${app.name} ${found.version}`)}  ${colours.dim(`${found.id}, ${ago(found.created_at)}`)}`);
      await session.out.list(components, {
        name: ({ name }) => name,
        columns: [
          { head: 'component', value: ({ name }) => name },
          { head: 'kind', value: ({ kind }) => kind },
          { head: 'commit', value: ({ source_commit }) => source_commit.slice(0, 12) },
          { head: 'digest', value: ({ artifact }) => artifact.digest },
        ],
      });
    }
    return codeOf('ok');
  }
  const limit = limitOf(options.limit);
  const rows = session.client.list('/v1/apps/{app_id}/releases', {
    params: { path: { app_id: app.id }, query: { limit: Math.min(limit, 200) } },
  });
  await session.out.list(first(rows, limit, tellMore(session, limit)), RELEASES);
  return codeOf('ok');
}

export async function apps(session: Session, [ref]: [string | undefined], options: ListOptions): Promise<number> {
  const { client } = session;
  if (ref !== undefined) {
    const app = await new Find(client).app(ref);
    await session.out.list(await componentsOf(client, app.id), {
      name: ({ id }) => id,
      empty: `${app.name} has no components: ims apply`,
      columns: [
        { head: 'component', value: ({ name }) => name },
        { head: 'kind', value: ({ kind }) => kind },
        { head: 'id', wide: true, value: ({ id }) => id },
        { head: 'needs', value: ({ depends_on: needs }) => needs?.join(', ') },
        {
          head: 'source',
          value: ({ source, image }) => (source === undefined ? image : `${source.url} ${source.directory ?? ''}`),
        },
      ],
    });
    return codeOf('ok');
  }
  const limit = limitOf(options.limit);
  await session.out.list(
    first(
      client.list('/v1/apps', { params: { query: { limit: Math.min(limit, 200) } } }),
      limit,
      tellMore(session, limit),
    ),
    {
      name: ({ id }) => id,
      empty: 'There are none: ims init, then ims apply',
      columns: [
        { head: 'app', value: ({ name }) => name },
        { head: 'id', value: ({ id }) => id },
        { head: 'age', value: ({ created_at }) => ago(created_at) },
        {
          head: 'inputs',
          value: ({ inputs }) =>
            inputs?.map(({ name, required }) => `${name}${required === true ? '*' : ''}`).join(', '),
        },
      ],
    },
  );
  return codeOf('ok');
}

/** How long a job took, for tables. */
export const took = ({
  started_at: from,
  finished_at: to,
}: {
  started_at?: string;
  finished_at?: string;
}): string | undefined =>
  from === undefined ? undefined : duration((to === undefined ? Date.now() : Date.parse(to)) - Date.parse(from));
