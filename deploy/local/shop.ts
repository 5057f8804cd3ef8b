import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type App,
  type Build,
  type Component,
  type Deployment,
  type EnrolmentToken,
  type Install,
  type Job,
  type NewComponent,
  type Release,
  type VendorAccount,
} from '#contracts';
import { pushArtifact, RegistryClient } from '#oci';
import { keptSecret, PROJECT_ROOT } from '#stack';
import { type Platform, type PlatformAccess } from './platform.js';
import { gitRepositoryOf, readProduct, type Product } from './product.js';
import { followJobs, type JobHistory } from './progress.js';
import { RestClient } from './rest.js';

export const EXAMPLE = join(PROJECT_ROOT, 'examples', 'shop');

/** An image in the registry that stands for the outside world: what a public registry would hold. Same bytes, same digest. */
export async function publishUpstreamImage(platform: Platform): Promise<string> {
  const client = new RegistryClient({ baseUrl: platform.upstreamRegistry.url });
  const config = {
    architecture: 'amd64',
    os: 'linux',
    config: { Cmd: ['/cache'] },
    rootfs: { type: 'layers', diff_ids: [] },
  };
  const { digest } = await pushArtifact({
    client,
    repository: 'library/cache',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', bytes: Buffer.from(JSON.stringify(config)) },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', bytes: Buffer.alloc(1024) }],
  });
  return `${platform.upstreamRegistry.host}/library/cache@${digest}`;
}

/** The product of `examples/shop`, its sources committed to a git repository of the vendor's. */
export async function shopProduct(platform: Platform): Promise<Product & { commit: string }> {
  const repository = join(platform.dir, 'vendor-source', 'shop');
  mkdirSync(repository, { recursive: true });
  const { url, commit } = gitRepositoryOf(EXAMPLE, repository);
  const product = readProduct(join(EXAMPLE, 'vendor-cloud.yaml'), {
    SHOP_SOURCE: url,
    CACHE_IMAGE: await publishUpstreamImage(platform),
  });
  return { ...product, commit };
}

/** Signs the vendor up, once; later runs read the account, with its key, from the state folder. */
export async function vendorOf(
  platform: PlatformAccess,
  name: string,
): Promise<{ rest: RestClient; account: VendorAccount }> {
  const keys = join(platform.dir, 'keys');
  const file = join(keys, `vendor-${name}.json`);
  if (!existsSync(file)) {
    const operator = new RestClient(platform.gatewayUrl, platform.operatorKey);
    // The same key on a repeated call gives the same answer: a run that was cut between the two loses nothing.
    const idempotency = await keptSecret(join(keys, `sign-up-${name}`), () => crypto.randomUUID());
    const signUp = await operator.post<VendorAccount>('/v1/vendors', { name }, { 'idempotency-key': idempotency });
    writeFileSync(join(keys, `api-key-${name}`), signUp.api_key, { mode: 0o600 });
    writeFileSync(file, JSON.stringify(signUp), { mode: 0o600 });
  }
  const account = JSON.parse(readFileSync(file, 'utf8')) as VendorAccount;
  return { rest: new RestClient(platform.gatewayUrl, account.api_key), account };
}

/** Makes the app and its components as the product says, or changes the components that differ. */
export async function declareProduct(rest: RestClient, product: Product): Promise<App> {
  const app =
    (await rest.all<App>('/v1/apps')).find(({ name }) => name === product.app.name) ??
    (await rest.post<App>('/v1/apps', product.app));
  const existing = await rest.all<Component>(`/v1/apps/${app.id}/components`);
  for (const component of product.components) {
    const known = existing.find(({ name }) => name === component.name);
    if (!known) await rest.post(`/v1/apps/${app.id}/components`, component);
    else if (specText(known) !== specText(component)) await putComponent(rest, known.id, component);
  }
  return app;
}

const specText = (component: NewComponent): string => {
  const { name, kind, source, image, dockerfile, depends_on, values, run, namespace } = component;
  return JSON.stringify([name, kind, source, image, dockerfile, depends_on, values, run, namespace]);
};

async function putComponent(rest: RestClient, id: string, { name: _name, ...spec }: NewComponent): Promise<void> {
  const response = await fetch(`${rest.baseUrl}/v1/components/${id}`, {
    headers: { authorization: `Bearer ${rest.apiKey}` },
  });
  await rest.request('PUT', `/v1/components/${id}`, spec, { 'if-match': response.headers.get('etag') ?? '' });
}

export type Teller = Parameters<typeof followJobs>[2];

/** Builds every component and waits. */
export async function buildAll(
  rest: RestClient,
  app: App,
  tell: Teller,
): Promise<{ builds: Build[]; histories: JobHistory[] }> {
  const { data } = await rest.post<{ data: Build[] }>(`/v1/apps/${app.id}/builds`, {});
  const histories = await followJobs(
    rest,
    () => Promise.all(data.map(({ job_id }) => rest.get<Job>(`/v1/jobs/${job_id}`))),
    tell,
  );
  return { builds: await Promise.all(data.map(({ id }) => rest.get<Build>(`/v1/builds/${id}`))), histories };
}

/** The release that holds exactly these sources, if there is one. */
export async function releaseOf(
  rest: RestClient,
  app: App,
  product: Product,
  commit: string,
): Promise<Release | undefined> {
  const newest = (await rest.all<Release>(`/v1/apps/${app.id}/releases`))[0];
  const same =
    newest?.components.length === product.components.length &&
    newest.components.every((released) => {
      const wanted = product.components.find(({ name }) => name === released.name);
      return (
        wanted !== undefined &&
        specText(released) === specText(wanted) &&
        (!wanted.source || released.source_commit === commit)
      );
    });
  return same ? newest : undefined;
}

/** The customer's install of the app, made once. */
export async function installOf(
  rest: RestClient,
  app: App,
  name: string,
  inputs: Record<string, string | number>,
): Promise<Install> {
  const known = (await rest.all<Install>('/v1/installs')).find((install) => install.name === name);
  return known ?? rest.post<Install>('/v1/installs', { app_id: app.id, name, inputs });
}

export const enrolmentToken = (rest: RestClient, install: Install): Promise<EnrolmentToken> =>
  rest.post<EnrolmentToken>(`/v1/installs/${install.id}/enrolment-tokens`);

/** Deploys (or tears down) and waits for the end. */
export async function deploy(
  rest: RestClient,
  install: Install,
  what: { kind: 'deploy'; release_id: string } | { kind: 'teardown' },
  tell: Teller,
): Promise<{ deployment: Deployment; histories: JobHistory[] }> {
  const { id } = await rest.post<Deployment>(`/v1/installs/${install.id}/deployments`, what);
  const histories = await followJobs(rest, () => rest.all<Job>(`/v1/jobs?deployment_id=${id}`), tell);
  return { deployment: await rest.get<Deployment>(`/v1/deployments/${id}`, { prefer: 'wait=10' }), histories };
}
