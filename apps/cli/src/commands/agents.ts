import { type Schemas } from '#client';
import { CliError, codeOf } from '../exit.js';
import { first, Find } from '../find.js';
import { type Session } from '../session.js';
import { ago, statusText, type Colours } from '../terminal.js';
import { limitOf, type ListOptions } from './options.js';
import { tellMore } from './product.js';

type Agent = Schemas['Agent'];

const AGENTS = {
  name: ({ id }: Agent) => id,
  columns: [
    { head: 'agent', value: ({ id }: Agent) => id },
    { head: 'kind', value: ({ kind }: Agent) => kind },
    { head: 'presence', value: ({ presence }: Agent, c: Colours) => statusText(presence, c) },
    { head: 'seen', value: ({ last_seen_at }: Agent) => ago(last_seen_at) },
    { head: 'version', value: ({ version }: Agent) => version },
    { head: 'install', value: ({ install_id }: Agent) => install_id },
    { head: 'key', wide: true, value: ({ public_key }: Agent) => public_key },
  ],
};

export async function agents(session: Session, [id]: [string | undefined], options: ListOptions): Promise<number> {
  const { client, out } = session;
  if (id !== undefined) {
    await out.one(await client.get('/v1/agents/{agent_id}', { params: { path: { agent_id: id } } }), AGENTS);
    return codeOf('ok');
  }
  const limit = limitOf(options.limit);
  const rows = client.list('/v1/agents', { params: { query: { limit: Math.min(limit, 200) } } });
  await out.list(first(rows, limit, tellMore(session, limit)), AGENTS);
  return codeOf('ok');
}

/** Ends an agent's identity, on a live connection too. */
export async function revokeAgent(session: Session, [id]: [string]): Promise<number> {
  await session.client.post('/v1/agents/{agent_id}/revoke', { params: { path: { agent_id: id } } });
  session.terminal.done(`revoked ${id}`);
  session.terminal.hint('bring it back under a new key:', `ims enrol ${id}`);
  return codeOf('ok');
}

/** The one-time pull tokens of an install, and what became of each. */
export async function tokens(session: Session, [ref]: [string], options: ListOptions): Promise<number> {
  const { client, out } = session;
  const { id } = await new Find(client).install(ref);
  const limit = limitOf(options.limit);
  const rows = client.list('/v1/installs/{install_id}/pull-tokens', {
    params: { path: { install_id: id }, query: { limit: Math.min(limit, 200) } },
  });
  await out.list(first(rows, limit, tellMore(session, limit)), {
    name: (token) => token.id,
    empty: 'None was issued yet.',
    columns: [
      { head: 'token', value: (token) => token.id },
      {
        head: 'status',
        value: ({ status, tampered_at: tampered }, c) =>
          tampered === undefined ? statusText(status, c) : statusText('tampered', c),
      },
      { head: 'issued', value: ({ issued_at }) => ago(issued_at) },
      { head: 'job', value: ({ job_id }) => job_id },
      { head: 'repository', value: ({ repository }) => repository },
      { head: 'digest', wide: true, value: ({ digest }) => digest },
    ],
  });
  return codeOf('ok');
}

export async function revokeToken(session: Session, [id]: [string]): Promise<number> {
  await session.client.post('/v1/pull-tokens/{token_id}/revoke', { params: { path: { token_id: id } } });
  session.terminal.done(`revoked ${id}`);
  return codeOf('ok');
}

/** A link that opens the web page, signed in. */
export async function open(session: Session): Promise<number> {
  const { url, expires_at: ends } = await session.client.post('/v1/sign-in-links');
  session.terminal.data(url);
  session.terminal.tell(`It works once, and ends ${ago(ends)}.`);
  return codeOf('ok');
}

const ROLES = ['owner', 'engineer', 'ci', 'read_only'] as const;

export async function keys(session: Session, _args: [], options: ListOptions): Promise<number> {
  const limit = limitOf(options.limit);
  const rows = session.client.list('/v1/api-keys', { params: { query: { limit: Math.min(limit, 200) } } });
  await session.out.list(first(rows, limit, tellMore(session, limit)), {
    name: ({ id }) => id,
    columns: [
      { head: 'key', value: ({ id }) => id },
      { head: 'name', value: ({ name }) => name },
      { head: 'role', value: ({ role }) => role },
      {
        head: 'ends',
        value: ({ revoked_at: revoked, expires_at: ends }, c) =>
          revoked !== undefined ? c.red(`revoked ${ago(revoked)}`) : ends === undefined ? 'never' : ago(ends),
      },
      { head: 'used', value: ({ last_used_at: used }) => ago(used) },
      { head: 'made by', value: (row) => row.created_by },
    ],
  });
  return codeOf('ok');
}

export async function createKey(
  session: Session,
  [name]: [string],
  options: { readonly role: string; readonly expires?: string },
): Promise<number> {
  const role = ROLES.find((each) => each === options.role);
  if (role === undefined) throw new CliError('usage', `--role ${options.role}: there are ${ROLES.join(', ')}`);
  const ends = options.expires === undefined ? undefined : new Date(options.expires);
  if (ends !== undefined && Number.isNaN(ends.getTime())) {
    throw new CliError('usage', `--expires ${options.expires ?? ''} is no date: give one like 2027-01-31`);
  }
  const made = await session.client.post('/v1/api-keys', {
    body: { name, role, ...(ends === undefined ? {} : { expires_at: ends.toISOString() }) },
  });
  await session.out.one(made, {
    name: ({ api_key }) => api_key,
    columns: [
      { head: 'key', value: ({ id }) => id },
      { head: 'role', value: (row) => row.role },
      { head: 'ends', value: ({ expires_at }) => ago(expires_at) },
      { head: 'API key', value: ({ api_key }) => api_key },
    ],
  });
  session.terminal.tell('It is shown this once.');
  return codeOf('ok');
}

export async function revokeKey(session: Session, [id]: [string]): Promise<number> {
  await session.client.post('/v1/api-keys/{key_id}/revoke', { params: { path: { key_id: id } } });
  session.terminal.done(`revoked ${id}`);
  return codeOf('ok');
}

/** Who changed what, from where. */
export async function audit(
  session: Session,
  _args: [],
  options: ListOptions & { readonly actor?: string; readonly action?: string },
): Promise<number> {
  const limit = limitOf(options.limit);
  const query = {
    limit: Math.min(limit, 200),
    ...(options.actor === undefined ? {} : { actor: options.actor }),
    ...(options.action === undefined ? {} : { action: options.action }),
  };
  const rows = session.client.list('/v1/audit', { params: { query } });
  await session.out.list(first(rows, limit, tellMore(session, limit)), {
    name: ({ id }) => id,
    empty: 'Nothing was changed yet.',
    columns: [
      { head: 'when', value: ({ at }) => ago(at) },
      { head: 'who', value: ({ actor }) => actor },
      { head: 'what', value: ({ action }) => action },
      { head: 'outcome', value: ({ status, code }, c) => (code === undefined ? c.green(String(status)) : c.red(code)) },
      { head: 'from', value: ({ ip }) => ip },
      { head: 'path', value: ({ path }) => path },
    ],
  });
  return codeOf('ok');
}
