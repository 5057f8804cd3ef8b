import { isFinal, type LogLine, type Schemas } from '#client';
import { CliError, codeOf } from '../exit.js';
import { first, Find } from '../find.js';
import { type Session } from '../session.js';
import { ago, padTo, statusText, type Colours } from '../terminal.js';
import { limitOf, type ListOptions } from './options.js';
import { tellMore, took } from './product.js';

type Job = Schemas['Job'];

const JOBS = {
  name: ({ id }: Job) => id,
  columns: [
    { head: 'job', value: ({ id }: Job) => id },
    { head: 'kind', value: ({ kind }: Job) => kind },
    { head: 'component', value: ({ component }: Job) => component.name },
    { head: 'status', value: ({ status }: Job, c: Colours) => statusText(status, c) },
    { head: 'attempt', wide: true, value: ({ attempt }: Job) => String(attempt) },
    { head: 'agent', wide: true, value: ({ agent_id }: Job) => agent_id },
    { head: 'deployment', wide: true, value: ({ deployment_id }: Job) => deployment_id },
    { head: 'age', value: ({ created_at }: Job) => ago(created_at) },
    { head: 'took', value: took },
    {
      head: 'why',
      value: ({ error, waiting_reason: why, status }: Job) =>
        error !== undefined
          ? `${error.code}: ${error.detail}`
          : why === undefined || status === 'running'
            ? undefined
            : `${why.code.replaceAll('_', ' ')}: ${why.detail}`,
    },
  ],
};

const STATUSES = ['blocked', 'queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled', 'skipped'] as const;

export async function jobs(
  session: Session,
  [ref]: [string | undefined],
  options: ListOptions & { readonly install?: string; readonly deployment?: string; readonly status?: string },
): Promise<number> {
  const { client, out } = session;
  const find = new Find(client);
  if (ref !== undefined) {
    const found = await find.jobs(ref);
    const [only] = found;
    if (only === undefined || ref.startsWith('dep_')) await out.list(found, JOBS);
    else {
      await out.one(only, JOBS);
      if (out.isForPeople) await attempts(session, only);
    }
    return codeOf('ok');
  }
  const status = STATUSES.find((each) => each === options.status);
  if (options.status !== undefined && status === undefined) {
    throw new CliError('usage', `--status ${options.status}: there are ${STATUSES.join(', ')}`);
  }
  const limit = limitOf(options.limit);
  const query = {
    limit: Math.min(limit, 200),
    ...(status === undefined ? {} : { status }),
    ...(options.deployment === undefined ? {} : { deployment_id: options.deployment }),
    ...(options.install === undefined ? {} : { install_id: (await find.install(options.install)).id }),
  };
  await out.list(first(client.list('/v1/jobs', { params: { query } }), limit, tellMore(session, limit)), {
    ...JOBS,
    empty: 'There are none.',
  });
  return codeOf('ok');
}

/** The attempts of a job with the steps of each and how long they took. */
async function attempts({ client, out, terminal }: Session, { id }: Job): Promise<void> {
  const { data } = await client.get('/v1/jobs/{job_id}/attempts', { params: { path: { job_id: id } } });
  for (const { number, status, steps, error } of data) {
    terminal.data(
      `\nattempt ${number}  ${statusText(status, terminal.colours)}${error === undefined ? '' : `  ${error.code}: ${error.detail}`}`,
    );
    await out.list(steps, {
      name: ({ name }) => name,
      empty: 'no step was begun',
      columns: [
        { head: 'step', value: ({ name }) => name },
        {
          head: 'status',
          value: (step, c) =>
            statusText(step.status === 'done' ? 'succeeded' : step.status === 'failed' ? 'failed' : 'running', c),
        },
        { head: 'took', value: ({ duration_ms: ms }) => (ms === undefined ? undefined : `${ms} ms`) },
        { head: 'of it tools', value: ({ tool_ms: ms }) => (ms === undefined ? undefined : `${ms} ms`) },
      ],
    });
  }
}

/** The log of a job; of all jobs of a deployment one after the other, each line with its component. */
export async function logs(
  session: Session,
  [ref]: [string],
  { follow, after, timestamps }: { readonly follow?: boolean; readonly after?: string; readonly timestamps?: boolean },
): Promise<number> {
  const { client, terminal } = session;
  const { signal } = session.interrupted;
  const found = (await new Find(client).jobs(ref)).sort((a, b) => (a.id < b.id ? -1 : 1));
  const width = Math.max(0, ...found.map(({ component }) => component.name.length));
  let failed = false;
  for (const job of found) {
    const c = terminal.colours;
    const head = found.length > 1 ? `${c.cyan(padTo(job.component.name, width))} ` : '';
    const print = (line: LogLine): void => {
      if (!session.out.isForPeople) terminal.data(JSON.stringify({ job_id: job.id, ...line }));
      else {
        const time = timestamps === true ? `${c.dim(line.at)} ` : '';
        const text =
          line.level === 'error' ? c.red(line.text) : line.level === 'warn' ? c.yellow(line.text) : line.text;
        terminal.data(`${head}${time}${c.dim(padTo(line.step || '-', 8))} ${text}`);
      }
    };
    const reading = { signal, ...(after === undefined ? {} : { after }) };
    if (follow === true) {
      session.leaveWith(['follow it again:', `ims logs -f ${ref}`], ['cancel it:', `ims cancel ${ref}`]);
      for await (const news of client.followLogs(job.id, reading)) {
        if (news.kind === 'line') print(news.line);
        else if (news.kind === 'reconnecting') terminal.tell(terminal.errorColours.dim(`… ${news.reason}; going on`));
        else failed ||= news.status !== 'succeeded';
      }
    } else for await (const line of client.readLogs(job.id, reading)) print(line);
  }
  return failed ? codeOf('failed') : codeOf('ok');
}

interface Reason {
  readonly reason?: string;
  readonly force?: boolean;
}

/** Asks for the end of a job, or of all jobs of a deployment. */
export async function cancel(session: Session, [ref]: [string], { reason, force }: Reason): Promise<number> {
  const { client, terminal } = session;
  const body = { ...(reason === undefined ? {} : { reason }), ...(force === true ? { force } : {}) };
  if (ref.startsWith('dep_')) {
    await client.post('/v1/deployments/{deployment_id}/cancel', { params: { path: { deployment_id: ref } }, body });
  } else {
    const { id } = await new Find(client).job(ref);
    await client.post('/v1/jobs/{job_id}/cancel', { params: { path: { job_id: id } }, body });
  }
  terminal.done(`asked for the end of ${ref}; it is over when its agent has proven that the processes are gone`);
  terminal.hint('watch it:', `ims watch ${ref}`);
  return codeOf('ok');
}

/** Lets a job go on that is held because a token of it was tampered with. */
export async function resume(session: Session, [ref]: [string], { reason }: Reason): Promise<number> {
  const { id } = await new Find(session.client).job(ref);
  const body = reason === undefined ? {} : { reason };
  await session.client.post('/v1/jobs/{job_id}/resume', { params: { path: { job_id: id } }, body });
  session.terminal.done(`${id} may go on`);
  return codeOf('ok');
}

/**
 * Begins again what has failed: the deployment of a deployment or job, or the build of a build job. With `from` or `skip`
 * only what has not succeeded, by the values of the first try.
 */
export async function retry(
  session: Session,
  [ref]: [string],
  { from, skip, reason }: { readonly from?: string; readonly skip?: readonly string[]; readonly reason?: string },
): Promise<number> {
  const { client, terminal } = session;
  const job = ref.startsWith('dep_') ? undefined : await new Find(client).job(ref);
  if (job !== undefined && !isFinal(job))
    throw new CliError('conflict', `${job.id} is ${job.status}: there is nothing to retry`, [`ims watch ${job.id}`]);
  if (job?.build_id !== undefined) {
    const { app_id } = await client.get('/v1/builds/{build_id}', { params: { path: { build_id: job.build_id } } });
    const { data } = await client.post('/v1/apps/{app_id}/builds', {
      params: { path: { app_id } },
      body: { components: [job.component.name] },
    });
    terminal.done(`building ${job.component.name} again`);
    for (const { id, job_id } of data) terminal.data(session.out.format === 'name' ? id : job_id);
    return codeOf('ok');
  }
  const id = job?.deployment_id ?? ref;
  const { install_id, kind, release_id, rollback } = await client.get('/v1/deployments/{deployment_id}', {
    params: { path: { deployment_id: id } },
  });
  if (kind === 'work' || from !== undefined || skip !== undefined) {
    const again = await client.post('/v1/deployments/{deployment_id}/retry', {
      params: { path: { deployment_id: id } },
      body: {
        ...(from === undefined ? {} : { from }),
        ...(skip === undefined ? {} : { skip: [...skip] }),
        ...(reason === undefined ? {} : { reason }),
      },
    });
    terminal.data(again.id);
    terminal.hint('watch it:', `ims watch ${again.id}`);
    return codeOf('ok');
  }
  const made = await client.post('/v1/installs/{install_id}/deployments', {
    params: { path: { install_id } },
    body: {
      kind,
      ...(release_id === undefined || kind === 'teardown' ? {} : { release_id }),
      ...(rollback === true ? { rollback } : {}),
    },
  });
  terminal.data(made.id);
  terminal.hint('watch it:', `ims watch ${made.id}`);
  return codeOf('ok');
}
