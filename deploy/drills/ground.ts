import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  type App,
  type Deployment,
  type Install,
  type Job,
  type NewComponent,
  type Release,
  type VendorAccount,
} from '#contracts';
import { nkeyFromSeed } from '#messaging';
import { pushArtifact, RegistryClient } from '#oci';
import { freePort, IMS_DATABASE } from '#stack';
import { startCustomer, type Customer } from '../local/agents.js';
import { type PlatformAccess, type PortName } from '../local/platform.js';
import { gitRepositoryOf } from '../local/product.js';
import { type RestClient } from '../local/rest.js';
import { buildAll, deploy, enrolmentToken, vendorOf, type Teller } from '../local/shop.js';

export const QUIET: Teller = { step: () => undefined, end: () => undefined };
const VENDOR = 'acme';
/** An input of the installs: what is not secret, so that a search that finds nothing else finds this. */
export const OPEN_INPUT = 'eu-drill-1';

/** A customer's install with its own agent, a real process. */
export interface Site {
  readonly install: Install;
  readonly customer: Customer;
}
export interface Product {
  readonly app: App;
  readonly release: Release;
}

/**
 * What the drills are played on: an installation with its vendor. All of it is read from the installation's folder, so
 * it is the same whether this process has started it or a demo in another terminal.
 */
export interface Ground {
  readonly platform: PlatformAccess;
  readonly databaseUrl: string;
  readonly nats: { readonly url: string; readonly accountSeed: string; readonly account: string };
  readonly registryTokenUrl: string;
  readonly vendorRegistry: { readonly url: string; readonly service: string };
  readonly account: VendorAccount;
  readonly rest: RestClient;
  /** An app of this name with these components, built and released once. */
  product(name: string, components: readonly NewComponent[]): Promise<Product>;
  /** One secret output, one open output and one image: enough for most drills, made once. */
  vault(): Promise<Product>;
  install(app: App, name: string): Promise<Install>;
  /** An install with a real agent and its own registry; it runs until the drills are over. */
  site(app: App, name: string): Promise<Site>;
  /** The install of `vault` that several drills share. */
  vaultSite(): Promise<Site>;
  /** An image in the registry that stands for the outside world, with bytes that exist nowhere else. */
  image(label: string): Promise<string>;
  /** A git repository of the vendor's. */
  source(name: string, files: Readonly<Record<string, string>>): string;
  stop(): Promise<void>;
}

const VAULT_MODULE = `variable "region" { type = string }
# Made where it is applied: this value has never been anywhere but at the customer.
resource "terraform_data" "password" { input = uuid() }
output "password" {
  value     = terraform_data.password.output
  sensitive = true
}
output "host" { value = "vault.\${var.region}.internal" }
`;

/** The installation in a folder, when it is up. */
export async function accessTo(dir: string): Promise<PlatformAccess | undefined> {
  const file = join(dir, 'ports.json');
  if (!existsSync(file)) return undefined;
  const ports = JSON.parse(readFileSync(file, 'utf8')) as Record<PortName, number>;
  const gatewayUrl = `http://127.0.0.1:${ports.gateway}`;
  const up = await fetch(`${gatewayUrl}/readyz`, { signal: AbortSignal.timeout(2_000) }).then(
    (response) => response.ok,
    () => false,
  );
  if (!up) return undefined;
  const operatorKey = readFileSync(join(dir, 'keys', 'operator-key'), 'utf8').trim();
  return { dir, ports, gatewayUrl, caFile: join(dir, 'tls', 'ca.pem'), operatorKey };
}

/** The ground on an installation that is up and whose vendor has a build agent. */
export async function openGround(platform: PlatformAccess): Promise<Ground> {
  const { dir, ports } = platform;
  const { account, rest } = await vendorOf(platform, VENDOR);
  const text = (...path: string[]): string => readFileSync(join(dir, ...path), 'utf8').trim();
  const url = (port: PortName): string => `http://127.0.0.1:${ports[port]}`;
  const accountSeed = text('nats', 'keys', 'account.nk');
  // Nothing of an earlier drill on the same installation has this name.
  const run = randomBytes(3).toString('hex');
  const sites: Site[] = [];
  const stop = async (): Promise<void> => {
    for (const { customer, install } of sites.splice(0)) {
      await customer.stop();
      for (const what of ['install-agent', 'install-registry'])
        rmSync(join(dir, `${what}-${install.name}`), { recursive: true, force: true });
    }
    rmSync(join(dir, 'drills'), { recursive: true, force: true });
  };
  const once = <T>(make: () => Promise<T>): (() => Promise<T>) => {
    let made: Promise<T> | undefined;
    return () => (made ??= make());
  };

  const product = async (name: string, components: readonly NewComponent[]): Promise<Product> => {
    const inputs = [{ name: 'region', type: 'string', required: true }] as const;
    const app = await rest.post<App>('/v1/apps', { name: `${name}-${run}`, inputs });
    for (const component of components) await rest.post(`/v1/apps/${app.id}/components`, component);
    const { builds } = await buildAll(rest, app, QUIET);
    const failed = builds.find(({ status }) => status !== 'succeeded');
    if (failed) throw new Error(`${failed.component_name} could not be built: ${failed.error?.detail ?? ''}`);
    return { app, release: await rest.post<Release>(`/v1/apps/${app.id}/releases`, { version: '1.0.0' }) };
  };
  const install = (app: App, name: string): Promise<Install> =>
    rest.post<Install>('/v1/installs', { app_id: app.id, name: `${name}-${run}`, inputs: { region: OPEN_INPUT } });
  const site = async (app: App, name: string): Promise<Site> => {
    const made = await install(app, name);
    const own = { registry: await freePort(), agent: await freePort() };
    const customer = await startCustomer(platform, made.name, () => enrolmentToken(rest, made), own);
    sites.push({ install: made, customer });
    return { install: made, customer };
  };
  const image = async (label: string): Promise<string> => {
    const client = new RegistryClient({ baseUrl: url('upstreamRegistry') });
    const config = {
      architecture: 'amd64',
      os: 'linux',
      config: { Labels: { label, run } },
      rootfs: { type: 'layers', diff_ids: [] },
    };
    const { digest } = await pushArtifact({
      client,
      repository: `library/${label}`,
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', bytes: Buffer.from(JSON.stringify(config)) },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', bytes: Buffer.from(`${label} ${run}`) }],
    });
    client.close();
    return `127.0.0.1:${ports.upstreamRegistry}/library/${label}@${digest}`;
  };
  const source = (name: string, files: Readonly<Record<string, string>>): string => {
    const folder = join(dir, 'drills', 'sources', name);
    for (const [path, content] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, path)), { recursive: true });
      writeFileSync(join(folder, path), content);
    }
    return gitRepositoryOf(folder, join(dir, 'drills', 'repositories', name)).url;
  };
  const vault = once(async () =>
    product('drill', [
      {
        name: 'vault',
        kind: 'terraform-module',
        source: { url: source('vault', { 'main.tf': VAULT_MODULE }) },
        values: { region: '{{ install.inputs.region }}' },
      },
      { name: 'page', kind: 'external-image', image: await image('page') },
    ]),
  );
  return {
    platform,
    databaseUrl: `postgres://postgres:${text('postgres', 'admin-password')}@127.0.0.1:${ports.postgres}/${IMS_DATABASE}`,
    nats: { url: `tls://127.0.0.1:${ports.nats}`, accountSeed, account: nkeyFromSeed(accountSeed).publicKey },
    registryTokenUrl: url('registry-token'),
    vendorRegistry: { url: url('vendorRegistry'), service: 'vendor-registry' },
    account,
    rest,
    product,
    vault,
    install,
    site,
    vaultSite: once(async () => site((await vault()).app, 'drill')),
    image,
    source,
    stop,
  };
}

/** Deploys, and every job of it has succeeded when this resolves. */
export async function deployed({ rest }: Ground, { install }: Pick<Site, 'install'>, release: Release): Promise<void> {
  const { deployment, histories } = await deploy(rest, install, { kind: 'deploy', release_id: release.id }, QUIET);
  if (deployment.status === 'succeeded') return;
  const bad = histories.map(({ job }) => `${job.kind} ${job.component.name} ${job.status} ${job.error?.code ?? ''}`);
  throw new Error(`the deployment ${deployment.status}: ${bad.join(', ')}`);
}

/** Begins a deployment and answers its sync job of one component, which nobody has taken yet. */
export async function syncJob({ rest }: Ground, install: Install, release: Release, component: string): Promise<Job> {
  const what = { kind: 'deploy', release_id: release.id };
  const { id } = await rest.post<Deployment>(`/v1/installs/${install.id}/deployments`, what);
  const jobs = await rest.all<Job>(`/v1/jobs?deployment_id=${id}`);
  const found = jobs.find(({ kind, component: { name } }) => kind === 'sync' && name === component);
  if (!found) throw new Error(`the deployment has no sync of ${component}`);
  return found;
}

/** What a component of a site says of itself on the agent's host, secret outputs included. */
export const outputsAt = (state: string, component: string): Readonly<Record<string, string>> =>
  (
    JSON.parse(readFileSync(join(state, 'components', component, 'state.json'), 'utf8')) as {
      outputs: Record<string, string>;
    }
  ).outputs;
