import { existsSync, writeFileSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import { ApiError } from '#client';
import { operatorKey, VERSION } from '../config.js';
import { CliError, codeOf } from '../exit.js';
import { MANIFEST } from '../find.js';
import { type Session } from '../session.js';
import { ago, readStdin } from '../terminal.js';

const contextOf = (session: Session, url: string): string => session.options.context ?? new URL(url).hostname;

/** Keeps where Vendor Cloud is and an API key, after both have been tried. */
export async function login(session: Session, _args: [], { keyFile }: { keyFile?: string }): Promise<number> {
  const { terminal, contexts, options } = session;
  const url = options.url ?? (terminal.canAsk ? (await terminal.ask('URL of Vendor Cloud: ')).trim() : '');
  if (url === '') throw new CliError('usage', 'which Vendor Cloud?', ['ims login --url https://…']);
  const key = await secret(session, keyFile, 'API key: ');
  const vendor = await session.clientFor(url, key).get('/v1/vendor');
  const name = contextOf(session, url);
  contexts.save(name, url.replace(/\/+$/, ''), key);
  terminal.done(`signed in as ${vendor.name} at ${url} (context ${name})`);
  terminal.hint('next:', 'ims init   or   ims apps');
  return codeOf('ok');
}

/** A secret never comes as an argument: others see those. */
async function secret({ terminal }: Session, file: string | undefined, question: string): Promise<string> {
  const { readFileSync } = await import('node:fs');
  if (file !== undefined && file !== '-') return readFileSync(file, 'utf8').trim();
  if (!process.stdin.isTTY) return readStdin();
  if (terminal.canAsk) return (await terminal.ask(question)).trim();
  throw new CliError('usage', 'the API key comes by standard input or --key-file', ['ims login --url … < key-file']);
}

/** For the operator of an IMS: signs up a vendor, keeps its key as a context, and says how its build agent begins. */
export async function signup(session: Session, [name]: [string]): Promise<number> {
  const { terminal, contexts } = session;
  const key = operatorKey();
  if (key === undefined) {
    throw new CliError('denied', 'signing up a vendor needs the operator’s key', [
      'IMS_OPERATOR_KEY=$(cat operator-key) ims signup NAME --url https://…',
    ]);
  }
  const { url } = session.target;
  const account = await session.clientFor(url, key).post('/v1/vendors', { body: { name } });
  contexts.save(session.options.context ?? name, url, account.api_key);
  await session.out.one(account, {
    name: ({ vendor }) => vendor.id,
    columns: [
      { head: 'vendor', value: ({ vendor }) => `${vendor.name} (${vendor.id})` },
      { head: 'registry', value: ({ registry }) => `${registry.url}/${registry.namespace}` },
      { head: 'build agent', value: ({ build_agent }) => build_agent.agent_id },
      { head: 'its token ends', value: ({ build_agent }) => ago(build_agent.expires_at) },
      { head: 'on its host, run', value: ({ build_agent }) => build_agent.command },
    ],
  });
  terminal.done(`signed up ${name}; its API key is in ${contexts.keyFile(session.options.context ?? name)}`);
  return codeOf('ok');
}

export async function whoami(session: Session): Promise<number> {
  const vendor = await session.client.get('/v1/vendor');
  const { url, source } = session.target;
  await session.out.one(
    { ...vendor, url, key_from: source },
    {
      name: ({ name }) => name,
      columns: [
        { head: 'vendor', value: ({ name, id }) => `${name} (${id})` },
        { head: 'at', value: (row) => row.url },
        { head: 'key from', value: (row) => row.key_from },
      ],
    },
  );
  return codeOf('ok');
}

export async function contextList(session: Session): Promise<number> {
  const { current, contexts } = session.contexts.read();
  const rows = Object.entries(contexts).map(([name, { url }]) => ({ name, url, current: name === current }));
  await session.out.list(rows, {
    name: ({ name }) => name,
    empty: 'There are none: ims login --url https://…',
    columns: [
      { head: '', value: (row, colour) => (row.current ? colour.green('●') : ' ') },
      { head: 'name', value: ({ name }) => name },
      { head: 'url', value: ({ url }) => url },
    ],
  });
  return codeOf('ok');
}
export function contextUse(session: Session, [name]: [string]): Promise<number> {
  session.contexts.use(name);
  session.terminal.done(`context ${name}`);
  return Promise.resolve(codeOf('ok'));
}
export function contextRemove(session: Session, [name]: [string]): Promise<number> {
  session.contexts.remove(name);
  session.terminal.done(`removed context ${name} and its key`);
  return Promise.resolve(codeOf('ok'));
}

/** Writes a vendor-cloud.yaml to begin with. */
export function init(session: Session, _args: [], { app, force }: { app?: string; force?: boolean }): Promise<number> {
  const { terminal } = session;
  if (existsSync(MANIFEST) && force !== true) {
    throw new CliError('conflict', `there is a ${MANIFEST} already`, [
      `ims apply --dry-run      shows what it would change`,
    ]);
  }
  const name = app ?? nameFrom(basename(resolve('.')));
  writeFileSync(MANIFEST, starter(name, resolve('.')));
  terminal.done(`wrote ${MANIFEST} for the app ${name}`);
  terminal.hint('describe its components there, then:', 'ims apply');
  return Promise.resolve(codeOf('ok'));
}

const nameFrom = (text: string): string =>
  text
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 40) || 'app';

const starter = (
  app: string,
  dir: string,
): string => `# What ${app} consists of. \`ims apply\` makes it so; \`ims schema\` prints all that may be here.
app: ${app}

# Values that each customer's install gives.
inputs:
  - name: region
    type: string
    required: true

# Built from their sources by your build agent, provisioned in the order that their references make.
components:
  - name: database
    kind: terraform-module
    source: { url: "${dir}", directory: database }
    values:
      region: "{{ install.inputs.region }}"

  # - name: web
  #   kind: container-image
  #   source: { url: "${dir}", directory: web }
  #
  # - name: storefront
  #   kind: kubernetes-manifests       # may name {{ components.web.outputs.image }}
  #   source: { url: "${dir}", directory: storefront }
`;

export async function schema(session: Session): Promise<number> {
  const { MANIFEST_SCHEMA } = await import('../manifest-schema.js');
  session.terminal.data(JSON.stringify(MANIFEST_SCHEMA, null, 2));
  return codeOf('ok');
}

export async function version(session: Session): Promise<number> {
  const rows = [{ name: 'ims', version: VERSION }];
  const server = await serverVersion(session).catch(() => undefined);
  if (server !== undefined) rows.push({ name: 'server', version: server });
  await session.out.list(rows, {
    name: (row) => row.version,
    columns: [
      { head: 'program', value: ({ name }) => name },
      { head: 'version', value: (row) => row.version },
    ],
  });
  return codeOf('ok');
}

async function serverVersion(session: Session): Promise<string> {
  const client = session.clientFor(session.target.url, undefined);
  const document = (await client.get('/openapi.json')) as { info?: { version?: string } };
  return document.info?.version ?? 'unknown';
}

interface Check {
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'failed';
  readonly detail: string;
  readonly next?: string;
}
const MAX_SKEW_MS = 30_000;

/** Looks at everything between here and a running job, and names what is wrong with what mends it. */
export async function doctor(session: Session): Promise<number> {
  const checks: Check[] = [];
  const add = (name: string, state: Check['state'], detail: string, next?: string): void => {
    checks.push({ name, state, detail, ...(next === undefined ? {} : { next }) });
  };
  const faults = session.contexts.faults();
  add('keys', faults.length > 0 ? 'failed' : 'ok', faults[0] ?? `in ${session.contexts.dir}, readable by you alone`);
  try {
    const { url, source, apiKey } = session.target;
    add('target', 'ok', `${url} (key: ${source})`);
    const plain = url.startsWith('http:') && !/^http:\/\/(localhost|127\.|\[::1\])/.test(url);
    if (plain) add('transport', 'warning', 'the key travels without TLS', 'use https://');
    const began = Date.now();
    const response = await session.clientFor(url, undefined).transport.request('GET', '/');
    const skew = Date.parse(response.headers.get('date') ?? '') - began;
    add('answers', response.ok ? 'ok' : 'failed', `${response.status} in ${Date.now() - began} ms`);
    if (Math.abs(skew) > MAX_SKEW_MS)
      add('clock', 'warning', `differs by ${Math.round(skew / 1000)} s`, 'set it by NTP');
    else add('clock', 'ok', 'agrees with the server');
    add('server', 'ok', `API ${await serverVersion(session)}, ims ${VERSION}`);
    if (apiKey === undefined) add('key', 'failed', 'there is none', 'ims login --url … or IMS_API_KEY');
    else await signedInChecks(session, add);
  } catch (error) {
    const { code, detail, next } =
      error instanceof ApiError ? error : { code: 'failed', detail: String(error), next: '' };
    add(
      'reachable',
      'failed',
      error instanceof CliError ? error.message : `${code}: ${detail}`,
      next === '' ? undefined : next,
    );
  }
  await session.out.list(checks, {
    name: ({ name }) => name,
    columns: [
      { head: '', value: ({ state }, c) => ({ ok: c.green('✓'), warning: c.yellow('!'), failed: c.red('✗') })[state] },
      { head: 'check', value: ({ name }) => name },
      { head: 'found', value: ({ detail, next }, c) => (next === undefined ? detail : `${detail}  ${c.cyan(next)}`) },
    ],
  });
  return checks.some(({ state }) => state === 'failed') ? codeOf('failed') : codeOf('ok');
}

async function signedInChecks(
  { client }: Session,
  add: (name: string, state: Check['state'], detail: string, next?: string) => void,
): Promise<void> {
  const vendor = await client.get('/v1/vendor');
  add('key', 'ok', `of vendor ${vendor.name}`);
  let builders = 0;
  let away = 0;
  let never = 0;
  for await (const { kind, presence } of client.list('/v1/agents', { params: { query: { limit: 200 } } })) {
    if (kind === 'build' && presence === 'online') builders++;
    else if (kind === 'install' && presence === 'offline') away++;
    else if (kind === 'install' && presence === 'never_enrolled') never++;
  }
  add(
    'build agent',
    builders > 0 ? 'ok' : 'failed',
    builders > 0 ? `${builders} online` : 'none is online: nothing can be built',
    builders > 0 ? undefined : 'ims agents, then start it on its host',
  );
  if (away + never > 0) add('install agents', 'warning', `${away} offline, ${never} never enrolled`, 'ims agents');
  else add('install agents', 'ok', 'none is missing');
}

/** Any call of the API as it is: `ims api GET /v1/jobs`, `ims api POST /v1/apps -d '{"name":"x"}'`. */
export async function api(
  session: Session,
  [method, path]: [string, string],
  { data, header = [] }: { data?: string; header?: string[] },
): Promise<number> {
  const { readFileSync } = await import('node:fs');
  const body = data === '-' ? await readStdin() : data?.startsWith('@') === true ? readFileSync(data.slice(1)) : data;
  const headers = new Headers(body === undefined ? {} : { 'content-type': 'application/json' });
  for (const line of header) {
    const [name = '', value = ''] = line.split(/:\s*/, 2);
    headers.set(name, value);
  }
  const where = path.startsWith('/') ? path : `/v1/${path}`;
  const response = await session.client.transport.request(method.toUpperCase(), where, {
    headers,
    signal: session.interrupted.signal,
    ...(body === undefined ? {} : { body }),
  });
  if (!response.ok) throw await ApiError.of(response);
  const type = response.headers.get('content-type') ?? '';
  if (type.includes('/json') && session.out.format !== 'ndjson') await session.out.structured(await response.json());
  else if (response.body !== null) for await (const chunk of response.body) process.stdout.write(chunk as Uint8Array);
  return codeOf('ok');
}
