import { type ImsClient, type Schemas } from '#client';
import { CliError, codeOf } from '../exit.js';
import { all, first, Find } from '../find.js';
import { watchJobs } from '../live.js';
import { deadlineOf, type Session } from '../session.js';
import { ago, statusText, type Colours } from '../terminal.js';
import { limitOf, type ListOptions, type WaitOptions } from './options.js';
import { tellMore, took } from './product.js';

type Install = Schemas['Install'];
type Deployment = Schemas['Deployment'];

/** `key=value` pairs as inputs of the types that the app declares. */
function inputsOf(
  app: Schemas['App'],
  given: Readonly<Record<string, string>>,
): Record<string, string | number | boolean> {
  return Object.fromEntries(
    Object.entries(given).map(([name, text]): [string, string | number | boolean] => {
      const declared = app.inputs?.find((input) => input.name === name);
      if (declared === undefined) {
        const names = app.inputs?.map((input) => input.name).join(', ') ?? '';
        throw new CliError('usage', `${app.name} has no input ${name}`, [
          names === '' ? 'It has none.' : `It has: ${names}`,
        ]);
      }
      if (declared.type === 'number' && text.trim() !== '' && !Number.isNaN(Number(text))) return [name, Number(text)];
      if (declared.type === 'boolean' && (text === 'true' || text === 'false')) return [name, text === 'true'];
      if (declared.type === 'string') return [name, text];
      throw new CliError('usage', `--input ${name}=${text}: it is a ${declared.type}`);
    }),
  );
}

export async function install(
  session: Session,
  [name]: [string],
  options: { readonly app?: string; readonly input?: Record<string, string> },
): Promise<number> {
  const { client, terminal } = session;
  const app = await new Find(client).app(options.app);
  const made = await client.post('/v1/installs', {
    body: { app_id: app.id, name, inputs: inputsOf(app, options.input ?? {}) },
  });
  await session.out.one(made, INSTALL);
  terminal.done(`made the install ${name} of ${app.name}`);
  terminal.hint('a token for its agent:', `ims enrol ${name}`);
  return codeOf('ok');
}

/** A one-use enrolment token of an install's agent, or of an agent by its id. */
export async function enrol(session: Session, [ref]: [string]): Promise<number> {
  const { client, terminal } = session;
  const made = ref.startsWith('agt_')
    ? await client.post('/v1/agents/{agent_id}/enrolment-tokens', { params: { path: { agent_id: ref } } })
    : await client.post('/v1/installs/{install_id}/enrolment-tokens', {
        params: { path: { install_id: (await new Find(client).install(ref)).id } },
      });
  await session.out.one(made, {
    // So that `ims enrol X -o name | install-agent enrol …` hands on the token and nothing else.
    name: ({ token }) => token,
    columns: [
      { head: 'agent', value: ({ agent_id }) => agent_id },
      { head: 'token', value: ({ token }) => token },
      { head: 'ends', value: ({ expires_at }) => ago(expires_at) },
      { head: 'run', value: ({ command }) => command },
    ],
  });
  terminal.tell('It works once. Give it to whoever runs the agent, by a way that others do not see.');
  return codeOf('ok');
}

const INSTALL = {
  name: ({ id }: Install) => id,
  empty: 'There are none: ims install NAME',
  columns: [
    { head: 'install', value: ({ name }: Install) => name },
    { head: 'id', value: ({ id }: Install) => id },
    { head: 'release', value: ({ release_id }: Install) => release_id },
    {
      head: 'components',
      value: ({ components }: Install) => {
        const count = (status: string): number => components.filter((each) => each.status === status).length;
        const failed = count('failed');
        return `${count('deployed')} deployed${failed > 0 ? `, ${failed} failed` : ''}`;
      },
    },
    { head: 'age', value: ({ created_at }: Install) => ago(created_at) },
  ],
};

export async function installs(session: Session, [ref]: [string | undefined], options: ListOptions): Promise<number> {
  const { client, out, terminal } = session;
  if (ref === undefined) {
    const limit = limitOf(options.limit);
    const rows = client.list('/v1/installs', { params: { query: { limit: Math.min(limit, 200) } } });
    await out.list(first(rows, limit, tellMore(session, limit)), INSTALL);
    return codeOf('ok');
  }
  const found = await new Find(client).install(ref);
  await out.one(found, INSTALL);
  if (!out.isForPeople) return codeOf('ok');
  terminal.data('');
  await out.list(found.components, {
    name: ({ name }) => name,
    empty: `Nothing is deployed: ims deploy ${found.name}`,
    columns: [
      { head: 'component', value: ({ name }) => name },
      { head: 'kind', value: ({ kind }) => kind },
      { head: 'status', value: ({ status }, c) => statusText(status, c) },
      { head: 'changed', value: ({ updated_at }) => ago(updated_at) },
      {
        head: 'outputs',
        value: ({ outputs = {}, sensitive_outputs: hidden = [] }, c: Colours) =>
          [
            ...Object.entries(outputs).map(([key, value]) => `${key}=${String(value)}`),
            ...hidden.map((key) => `${key}=${c.dim('(sensitive)')}`),
          ].join(' '),
      },
    ],
  });
  return codeOf('ok');
}

export async function deploy(
  session: Session,
  [ref, version]: [string, string | undefined],
  options: WaitOptions & { readonly rollback?: boolean },
): Promise<number> {
  const find = new Find(session.client);
  const target = await find.install(ref);
  const release = await find.release(target.app_id, version);
  const body = {
    kind: 'deploy',
    release_id: release.id,
    ...(options.rollback === true ? { rollback: true } : {}),
  } as const;
  return start(session, target, body, `${target.name} to ${release.version}`, options);
}

/** Back to an older release: the one named, or the one before. */
export async function rollback(
  session: Session,
  [ref, version]: [string, string | undefined],
  options: WaitOptions,
): Promise<number> {
  const find = new Find(session.client);
  const target = await find.install(ref);
  const to = version ?? (await releaseBefore(session.client, target));
  const release = await find.release(target.app_id, to);
  const body = { kind: 'deploy', release_id: release.id, rollback: true } as const;
  return start(session, target, body, `${target.name} back to ${release.version}`, options);
}

/** The last release that was fully deployed before the present one. */
async function releaseBefore(client: ImsClient, { id, name, release_id: now }: Install): Promise<string> {
  const rows = client.list('/v1/installs/{install_id}/deployments', { params: { path: { install_id: id } } });
  for await (const { status, kind, release_id: release } of rows) {
    if (status === 'succeeded' && kind === 'deploy' && release !== undefined && release !== now) return release;
  }
  throw new CliError('notFound', `${name} has had no other release`, [
    'ims releases lists them: ims rollback INSTALL VERSION',
  ]);
}

export async function teardown(
  session: Session,
  [ref]: [string],
  options: WaitOptions & { readonly yes?: boolean },
): Promise<number> {
  const target = await new Find(session.client).install(ref);
  if (options.yes !== true) {
    const { terminal } = session;
    if (!terminal.canAsk)
      throw new CliError('usage', 'this removes everything that was provisioned there', ['add --yes']);
    const typed = await terminal.ask(`This removes all components of ${target.name}. Its name to go on: `);
    if (typed.trim() !== target.name) throw new CliError('failed', 'that was not its name: nothing was removed');
  }
  return start(session, target, { kind: 'teardown' }, `${target.name} to nothing`, options);
}

async function start(
  session: Session,
  { id, name }: Install,
  body: Schemas['NewDeployment'],
  what: string,
  options: WaitOptions,
): Promise<number> {
  const { client, out, terminal } = session;
  const deadline = deadlineOf(options.timeout);
  const deployment = await client.post('/v1/installs/{install_id}/deployments', {
    params: { path: { install_id: id } },
    body,
  });
  if (!options.wait) {
    await out.one(deployment, DEPLOYMENTS);
    terminal.hint('watch it:', `ims watch ${deployment.id}`);
    return codeOf('ok');
  }
  const code = await watchDeployment(session, deployment.id, `Taking ${what}`, deadline);
  const ended = await client.get('/v1/deployments/{deployment_id}', {
    params: { path: { deployment_id: deployment.id } },
  });
  await out.one(ended, DEPLOYMENTS);
  if (code === codeOf('ok')) terminal.hint('what it is now:', `ims installs ${name}`);
  return code;
}

async function watchDeployment(session: Session, id: string, title: string, deadline: number): Promise<number> {
  const { client } = session;
  session.leaveWith(['watch it again:', `ims watch ${id}`], ['cancel it:', `ims cancel ${id}`]);
  const code = await watchJobs(session, {
    title,
    deadline,
    list: () => all(client.list('/v1/jobs', { params: { query: { deployment_id: id, limit: 200 } } })),
  });
  if (code === codeOf('waitsForApproval')) {
    session.terminal.hint('go on watching:', `ims watch ${id}`);
    return code;
  }
  // The last job may be over a moment before its deployment is.
  const { status } = await client.waitForDeployment(id, { timeoutMs: 10_000 });
  return status === 'succeeded' ? codeOf('ok') : codeOf('failed');
}

/** Watches a deployment, a build or a job to its end. */
export async function watch(
  session: Session,
  [ref]: [string],
  { timeout }: { readonly timeout?: string },
): Promise<number> {
  const deadline = deadlineOf(timeout);
  if (ref.startsWith('dep_')) return watchDeployment(session, ref, ref, deadline);
  session.leaveWith(['watch it again:', `ims watch ${ref}`], ['cancel it:', `ims cancel ${ref}`]);
  return watchJobs(session, { title: ref, deadline, list: () => new Find(session.client).jobs(ref) });
}

const DEPLOYMENTS = {
  name: ({ id }: Deployment) => id,
  empty: 'There are none: ims deploy INSTALL',
  columns: [
    { head: 'deployment', value: ({ id }: Deployment) => id },
    { head: 'kind', value: ({ kind, rollback: back }: Deployment) => (back === true ? 'rollback' : kind) },
    { head: 'status', value: ({ status }: Deployment, c: Colours) => statusText(status, c) },
    { head: 'jobs', value: ({ jobs }: Deployment) => `${jobs.succeeded}/${jobs.total}` },
    { head: 'release', value: ({ release_id }: Deployment) => release_id },
    { head: 'age', value: ({ created_at }: Deployment) => ago(created_at) },
    {
      head: 'took',
      value: ({ created_at, finished_at }: Deployment) =>
        finished_at === undefined ? undefined : took({ started_at: created_at, finished_at }),
    },
    {
      head: 'error',
      value: ({ error }: Deployment) => (error === undefined ? undefined : `${error.code}: ${error.detail}`),
    },
  ],
};

export async function deployments(session: Session, [ref]: [string], options: ListOptions): Promise<number> {
  const { client, out } = session;
  if (ref.startsWith('dep_')) {
    await out.one(
      await client.get('/v1/deployments/{deployment_id}', { params: { path: { deployment_id: ref } } }),
      DEPLOYMENTS,
    );
    return codeOf('ok');
  }
  const { id } = await new Find(client).install(ref);
  const limit = limitOf(options.limit);
  const rows = client.list('/v1/installs/{install_id}/deployments', {
    params: { path: { install_id: id }, query: { limit: Math.min(limit, 200) } },
  });
  await out.list(first(rows, limit, tellMore(session, limit)), DEPLOYMENTS);
  return codeOf('ok');
}

/** What jobs would change, or have changed: deletions first. Of a job, a deployment, or an install's last deployment. */
export async function plan(
  session: Session,
  [ref]: [string],
  { detailedExitcode }: { readonly detailedExitcode?: boolean },
): Promise<number> {
  const { client, out, terminal } = session;
  const find = new Find(client);
  const jobs = await find.jobs(
    /^(job|dep|bld)_/.test(ref) ? ref : await lastDeployment(client, await find.install(ref)),
  );
  const plans: Schemas['JobPlan'][] = [];
  for (const { id, kind } of jobs) {
    if (kind !== 'apply' && kind !== 'destroy') continue;
    const found = await client
      .get('/v1/jobs/{job_id}/plan', { params: { path: { job_id: id } } })
      .catch((error: unknown) => {
        if (error instanceof Error && 'code' in error && error.code === 'not_found') return undefined;
        throw error;
      });
    if (found !== undefined) plans.push(found);
  }
  if (!out.isForPeople) await out.list(plans, { name: ({ digest }) => digest, columns: [] });
  else if (plans.length === 0) terminal.tell('Nothing is planned yet: an agent plans when it begins a job.');
  else for (const each of plans) tellPlan(session, each);
  const changed = plans.some((each) => each.changed);
  return detailedExitcode === true && changed ? 2 : codeOf('ok');
}

async function lastDeployment(client: ImsClient, { id, name }: Install): Promise<string> {
  const page = await client.get('/v1/installs/{install_id}/deployments', {
    params: { path: { install_id: id }, query: { limit: 1 } },
  });
  const [last] = page.data;
  if (last === undefined) throw new CliError('notFound', `${name} has no deployment`, [`ims deploy ${name}`]);
  return last.id;
}

function tellPlan({ terminal }: Session, plan: Schemas['JobPlan']): void {
  const c = terminal.colours;
  const counts = plan.changed ? `+${plan.created} ~${plan.updated} -${plan.deleted}` : 'no changes';
  terminal.data(`${c.bold(plan.component.name)} ${c.dim(`(${plan.component.kind}, ${plan.job_id})`)}  ${counts}`);
  for (const line of plan.changed ? plan.text.split('\n') : []) {
    const paint = /^(delete|replace)/.test(line)
      ? c.red
      : line.startsWith('create')
        ? c.green
        : line.startsWith('update')
          ? c.yellow
          : c.dim;
    terminal.data(`  ${paint(line)}`);
  }
  if (plan.omitted > 0) terminal.data(`  ${c.dim(`… and ${plan.omitted} more`)}`);
}

/** What happened, newest first: of an install, a deployment or a job. */
export async function history(session: Session, [ref]: [string], options: ListOptions): Promise<number> {
  const { client, out } = session;
  const limit = limitOf(options.limit);
  const query = { limit: Math.min(limit, 200) };
  const rows = ref.startsWith('dep_')
    ? client.list('/v1/deployments/{deployment_id}/events', { params: { path: { deployment_id: ref }, query } })
    : ref.startsWith('job_')
      ? client.list('/v1/jobs/{job_id}/events', { params: { path: { job_id: ref }, query } })
      : client.list('/v1/installs/{install_id}/events', {
          params: { path: { install_id: (await new Find(client).install(ref)).id }, query },
        });
  await out.list(first(rows, limit, tellMore(session, limit)), {
    name: ({ id }) => id,
    columns: [
      { head: 'when', value: ({ at }) => ago(at) },
      { head: 'what', value: ({ type }) => type },
      { head: 'by', value: ({ actor }) => actor },
      { head: 'hash', wide: true, value: ({ hash }) => hash.slice(0, 16) },
      {
        head: 'details',
        value: ({ data }) =>
          Object.entries(data)
            .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
            .join(' '),
      },
    ],
  });
  return codeOf('ok');
}
