import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { it } from '@jest/globals';
import { Client } from 'pg';
import {
  type App,
  type Build,
  type Component,
  type Install,
  type NewApp,
  type NewComponent,
  type Release,
  type VendorAccount,
} from '#contracts';
import { connectNats, createNkey, nkeyFromSeed, userJwt } from '#messaging';
import { freePort, type RunningService } from '#stack';
import { until } from '../../deploy/drills/play.js';
import { startBuildAgent, startCustomer, type Customer } from '../../deploy/local/agents.js';
import { startPlatform, type Platform } from '../../deploy/local/platform.js';
import { gitRepositoryOf } from '../../deploy/local/product.js';
import { RestClient, RestProblem } from '../../deploy/local/rest.js';
import { buildAll, enrolmentToken, vendorOf, type Teller } from '../../deploy/local/shop.js';

export { until };

/** How often a wait looks again. */
const LOOK_MS = 40;
export const QUIET: Teller = { step: () => undefined, end: () => undefined };
/** A cold start of everything on two busy cores. */
export const START_MS = 300_000;
/** The longest chapter takes 15 s on a quiet machine. */
const CHAPTER_MS = 240_000;

/** The whole IMS, a vendor with its build agent, and customers; every process is the real one, from `dist`. */
export interface World {
  readonly platform: Platform;
  readonly rest: RestClient;
  readonly account: VendorAccount;
  readonly buildAgent: RunningService;
  /** Every payload that went over NATS so far, requests and replies too. */
  readonly heard: readonly Buffer[];
  /** Enrols and starts the agent of an install. The cluster pulls from the registry of the first one only. */
  customer(install: Install): Promise<Customer>;
  stop(): Promise<void>;
}

/** Reads again what was answered with `unavailable`, as that answer says: PostgreSQL, say, is just being restarted. */
class PatientRest extends RestClient {
  override async request<T>(
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
  ): Promise<T> {
    const end = performance.now() + 60_000;
    for (;;) {
      try {
        return await super.request<T>(method, path, body, headers);
      } catch (error) {
        const again = method === 'GET' && error instanceof RestProblem && error.code === 'unavailable';
        if (!again || performance.now() > end) throw error;
        await delay(LOOK_MS);
      }
    }
  }
}

/** Starts it in a folder of its own below the system's temporary one; E2E_KEEP=1 leaves the folder there. */
export async function startWorld(vendor = 'acme'): Promise<World> {
  const dir = mkdtempSync(join(tmpdir(), 'vendor-cloud-e2e-'));
  // PostgreSQL runs as a user of its own, who has to reach its data.
  chmodSync(dir, 0o755);
  const running: { stop(): Promise<void> }[] = [];
  const stop = async (): Promise<void> => {
    for (const each of running.splice(0).reverse()) await each.stop();
    if (process.env['E2E_KEEP'] !== undefined) return;
    unmountBelow(dir);
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    const platform = await startPlatform({ dir });
    running.push(platform);
    const { heard, close } = await eavesdrop(platform);
    running.push({ stop: close });
    const { account } = await vendorOf(platform, vendor);
    const rest = new PatientRest(platform.gatewayUrl, account.api_key);
    const buildAgent = await startBuildAgent(platform, () => Promise.resolve(account.build_agent));
    running.push(buildAgent);
    let customers = 0;
    const customer = async (install: Install): Promise<Customer> => {
      const ports = customers++ === 0 ? undefined : { registry: await freePort(), agent: await freePort() };
      const started = await startCustomer(platform, install.name, () => enrolmentToken(rest, install), ports);
      running.push(started);
      return started;
    };
    return { platform, rest, account, buildAgent, heard, customer, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** A container build that was cut or failed may leave its working container mounted. */
function unmountBelow(dir: string): void {
  if (process.platform !== 'linux') return;
  const mounts = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((path) => path.startsWith(`${dir}/`));
  if (mounts.length > 0) execFileSync('umount', mounts.reverse());
}

/** NATS credentials that may do everything in the product's account; nobody but its operator can make such. */
export function almighty({ nats }: Platform): { jwt: string; seed: string } {
  const { seed, publicKey: user } = createNkey('user');
  const jwt = userJwt({
    name: 'eavesdropper',
    user,
    signer: nkeyFromSeed(nats.keys.accountSeed),
    account: nats.keys.account,
    permissions: { publish: ['>'], subscribe: ['>'] },
  });
  return { jwt, seed };
}

async function eavesdrop(platform: Platform): Promise<{ heard: Buffer[]; close: () => Promise<void> }> {
  const connection = await connectNats({
    servers: [platform.nats.url],
    name: 'eavesdropper',
    inboxPrefix: '_INBOX.eavesdropper',
    credentials: almighty(platform),
    caFile: platform.caFile,
  });
  const heard: Buffer[] = [];
  connection.subscribe('>', { callback: (_, message) => void heard.push(Buffer.from(message.data)) });
  await connection.flush();
  return { heard, close: () => connection.close() };
}

/** Tests that build on one another: after the first that fails the others fail at once and name it. */
export function chapters(): (title: string, run: () => Promise<void> | void) => void {
  let broken: string | undefined;
  return (title, run) => {
    it(
      title,
      async () => {
        if (broken !== undefined) throw new Error(`not tried, since this failed before: ${broken}`);
        broken = title;
        await run();
        broken = undefined;
      },
      CHAPTER_MS,
    );
  };
}

/** Files committed to a git repository of the vendor's; again with other files for the next commit. */
export function commit({ platform }: World, name: string, files: Readonly<Record<string, string>>): string {
  const source = join(platform.dir, 'sources', name);
  rmSync(source, { recursive: true, force: true });
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(source, path)), { recursive: true });
    writeFileSync(join(source, path), text);
  }
  return gitRepositoryOf(source, join(platform.dir, 'repositories', name)).url;
}

/** An app with its components. */
export async function declare(rest: RestClient, app: NewApp, components: readonly NewComponent[]): Promise<App> {
  const made = await rest.post<App>('/v1/apps', app);
  for (const component of components) await rest.post(`/v1/apps/${made.id}/components`, component);
  return made;
}

/** Replaces fields of a component's spec, as a person with an editor would: read, change, write with If-Match. */
export async function change(rest: RestClient, id: string, fields: Partial<NewComponent>): Promise<Component> {
  const { body, headers } = await ask(rest, 'GET', `/v1/components/${id}`);
  const { id: _id, app_id: _app, created_at: _at, name: _name, ...spec } = body as unknown as Component;
  const etag = headers.get('etag') ?? '';
  return rest.request<Component>('PUT', `/v1/components/${id}`, { ...spec, ...fields }, { 'if-match': etag });
}

export async function release(rest: RestClient, app: App, version: string): Promise<Release> {
  return rest.post<Release>(`/v1/apps/${app.id}/releases`, { version });
}

/** Builds all components; a build that fails is a failure of the test. */
export async function buildWell(rest: RestClient, app: App): Promise<Build[]> {
  const { builds } = await buildAll(rest, app, QUIET);
  const bad = builds.filter(({ status }) => status !== 'succeeded');
  if (bad.length > 0) throw new Error(bad.map((build) => `${build.component_name}: ${build.error?.detail}`).join('\n'));
  return builds;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Empty when the answer is no JSON object. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** One request as it is, without anything that a client would do about the answer. */
export async function ask(
  rest: { readonly baseUrl: string; readonly apiKey?: string },
  method: string,
  path: string,
  body?: object,
  more: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const response = await fetch(`${rest.baseUrl}${path}`, {
    method,
    headers: {
      ...(rest.apiKey === undefined ? {} : { authorization: `Bearer ${rest.apiKey}` }),
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...more,
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const json = /^application\/(problem\+)?json/.test(response.headers.get('content-type') ?? '');
  const parsed = json ? (JSON.parse(text) as Record<string, unknown>) : {};
  return { status: response.status, headers: response.headers, text, body: parsed };
}

/** Every file below a folder, as full paths. Files that go while it looks are left out. */
export function filesBelow(dir: string): string[] {
  return readdirSync(dir, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

export function readIfThere(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch {
    return Buffer.alloc(0);
  }
}

/** One statement on a connection of its own, as the owner of the database would look into it. */
export async function query<T extends object>(url: string, sql: string, params: unknown[] = []): Promise<T[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<T>(sql, params)).rows;
  } finally {
    await client.end();
  }
}
