import { type Schemas } from '#client';
import { codeOf } from '../exit.js';
import { first, Find } from '../find.js';
import { type Session } from '../session.js';
import { ago, statusText, type Colours } from '../terminal.js';
import { limitOf, type ListOptions } from './options.js';
import { tellMore } from './product.js';

type Agent = Schemas['Agent'];
type DeadLetter = Schemas['DeadLetter'];

interface Reason {
  readonly reason?: string;
}
const bodyOf = ({ reason }: Reason): { reason?: string } => (reason === undefined ? {} : { reason });
interface Note {
  readonly note?: string;
}
const asked = (id: string, { note }: Note) => ({
  params: { path: { agent_id: id } },
  body: note === undefined ? {} : { note },
});

/** Lets an agent take no jobs; what runs goes on. */
export async function pauseAgent(session: Session, [id]: [string], note: Note): Promise<number> {
  tell(session, await session.client.post('/v1/agents/{agent_id}/pause', asked(id, note)), 'takes no jobs now');
  session.terminal.hint('let it take jobs again:', `ims resume-agent ${id}`);
  return codeOf('ok');
}

export async function resumeAgent(session: Session, [id]: [string], note: Note): Promise<number> {
  tell(session, await session.client.post('/v1/agents/{agent_id}/resume', asked(id, note)), 'takes jobs again');
  return codeOf('ok');
}

/** The same as a pause, and it is recorded when the last job has ended. */
export async function drainAgent(session: Session, [id]: [string], note: Note): Promise<number> {
  const agent = await session.client.post('/v1/agents/{agent_id}/drain', asked(id, note));
  tell(session, agent, `takes no jobs; ${agent.running} still run`);
  session.terminal.hint('see when it has run dry:', `ims agents ${id} -o json`);
  return codeOf('ok');
}

const tell = ({ terminal }: Session, { id }: Agent, what: string): void => {
  terminal.done(`${id} ${what}`);
};

/** Who holds which lock, and how many wait for it. */
export async function locks(
  session: Session,
  _args: [],
  options: ListOptions & { readonly install?: string },
): Promise<number> {
  const { client, out } = session;
  const limit = limitOf(options.limit);
  const query = {
    limit: Math.min(limit, 200),
    ...(options.install === undefined ? {} : { install_id: (await new Find(client).install(options.install)).id }),
  };
  await out.list(first(client.list('/v1/locks', { params: { query } }), limit, tellMore(session, limit)), {
    name: ({ job_id }) => job_id,
    empty: 'Nothing is locked.',
    columns: [
      { head: 'lock', value: ({ name }) => name },
      { head: 'held by', value: ({ job_id }) => job_id },
      { head: 'since', value: ({ taken_at }) => ago(taken_at) },
      { head: 'wait for it', value: ({ waiting }) => String(waiting) },
      { head: 'install', value: ({ install_id }) => install_id },
      { head: 'agent', wide: true, value: ({ agent_id }) => agent_id },
    ],
  });
  return codeOf('ok');
}

/** Takes the lock of a running job away; it is free when the lease of the attempt is over. */
export async function unlock(session: Session, [ref]: [string], reason: Reason): Promise<number> {
  const { id } = await new Find(session.client).job(ref);
  await session.client.post('/v1/jobs/{job_id}/unlock', { params: { path: { job_id: id } }, body: bodyOf(reason) });
  session.terminal.done(`the attempt of ${id} is not renewed any more; its lock is free when its lease is over`);
  session.terminal.hint('see who has it:', 'ims locks');
  return codeOf('ok');
}

/** Leaves out a job that has not begun; what depends on it goes on. */
export async function skip(session: Session, [ref]: [string], reason: Reason): Promise<number> {
  const { id } = await new Find(session.client).job(ref);
  await session.client.post('/v1/jobs/{job_id}/skip', { params: { path: { job_id: id } }, body: bodyOf(reason) });
  session.terminal.done(`${id} is left out`);
  return codeOf('ok');
}

const DEAD_LETTERS = {
  name: ({ id }: DeadLetter) => id,
  empty: 'There are none.',
  columns: [
    { head: 'message', value: ({ id }: DeadLetter) => id },
    { head: 'status', value: ({ status }: DeadLetter, c: Colours) => statusText(status, c) },
    { head: 'of', value: ({ contract }: DeadLetter) => contract },
    { head: 'job', value: ({ job_id }: DeadLetter) => job_id },
    { head: 'age', value: ({ at }: DeadLetter) => ago(at) },
    { head: 'why', value: ({ code, cause }: DeadLetter) => `${code}: ${cause}` },
  ],
};

/** Messages that no service could take. */
export async function deadLetters(session: Session, [id]: [string | undefined], options: ListOptions): Promise<number> {
  const { client, out } = session;
  if (id !== undefined) {
    await out.one(await client.get('/v1/dead-letters/{dead_id}', { params: { path: { dead_id: id } } }), DEAD_LETTERS);
    return codeOf('ok');
  }
  const limit = limitOf(options.limit);
  const rows = client.list('/v1/dead-letters', { params: { query: { limit: Math.min(limit, 200) } } });
  await out.list(first(rows, limit, tellMore(session, limit)), DEAD_LETTERS);
  return codeOf('ok');
}

/** Sends a message again to where it came from, once. */
export async function redrive(session: Session, [id]: [string], reason: Reason): Promise<number> {
  const path = { dead_id: id };
  await session.client.post('/v1/dead-letters/{dead_id}/redrive', { params: { path }, body: bodyOf(reason) });
  session.terminal.done(`${id} is sent again`);
  return codeOf('ok');
}
