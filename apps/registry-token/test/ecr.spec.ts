import { createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { ImsError, LIMITS, newId } from '#contracts';
import { encodeManifest, MEDIA_TYPE, parseManifest, pushArtifact, type Descriptor, type RegistryClient } from '#oci';
import { ConfigError, loadConfig } from '#platform';
import { type FakeEcr } from '#stack';
import { RegistryTokenConfig } from '../src/config.js';
import { chooseRegistry } from '../src/registries/choose.js';
import { DistributionRegistry } from '../src/registries/distribution.js';
import { EcrRegistry, type EcrSettings } from '../src/registries/ecr.js';
import { startEcr } from './ecr.js';
import { clientOf } from './registry-conformance.js';

const REPOSITORY = 'acme/shop/web';
let ecr: FakeEcr;
let settings: EcrSettings;
let registry: EcrRegistry;
let client: RegistryClient;
beforeAll(async () => {
  ({ ecr, settings } = await startEcr());
  registry = new EcrRegistry(settings);
  await registry.ensureRepository(REPOSITORY, newId('vendor'));
  client = clientOf(await registry.pushAccess({ subject: 'agt_x', repository: REPOSITORY, lifeMs: 600_000 }));
});
afterAll(() => ecr?.stop());

const artifact = (text: string, subject?: Descriptor): Promise<Descriptor> =>
  pushArtifact({
    client,
    repository: REPOSITORY,
    artifactType: 'application/vnd.test',
    layers: [{ mediaType: 'text/plain', bytes: Buffer.from(text) }],
    ...(subject ? { subject } : {}),
  });
const pull = (digest: string, from = registry) =>
  from.pullAccess({ subject: 'tok_x', repository: REPOSITORY, digest, lifeMs: 60_000 });
const failureOf = async (work: Promise<unknown>): Promise<ImsError> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof ImsError) return error;
  throw new Error('it did not fail as it should', { cause: error });
};

describe('a download plan', () => {
  it('has all referrers, page by page, up to 100', async () => {
    const subject = await artifact('much talked about');
    for (let n = 0; n < 60; n += 1) await artifact(`referrer ${n}`, subject);
    const { plan } = await pull(subject.digest);
    expect(plan?.manifests).toHaveLength(61);
    // Each has a layer of its own; the empty configuration is one blob for all.
    expect(plan?.blobs).toHaveLength(62);
    for (let n = 60; n < 101; n += 1) await artifact(`referrer ${n}`, subject);
    expect(await failureOf(pull(subject.digest))).toMatchObject({
      code: 'source_invalid',
      detail: expect.stringContaining('more than 100 referrers') as string,
    });
  });

  it('has no more manifests than a copy reads', async () => {
    const children: Descriptor[] = [];
    for (let n = 0; n < LIMITS.planManifests; n += 1) children.push(await artifact(`child ${n}`));
    const indexOf = async (manifests: Descriptor[]): Promise<string> => {
      const content = { schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests } as const;
      const index = parseManifest(MEDIA_TYPE.index, encodeManifest(content));
      await client.putManifest(REPOSITORY, index);
      return index.descriptor.digest;
    };
    const { plan } = await pull(await indexOf(children.slice(1)));
    expect(plan?.manifests).toHaveLength(LIMITS.planManifests);
    expect(await failureOf(pull(await indexOf(children)))).toMatchObject({ code: 'source_invalid' });
  });
});

it('names a repository that ECR would not take, before a build has done its work in vain', async () => {
  expect(await failureOf(registry.ensureRepository('acme/shop/a--b', newId('vendor')))).toMatchObject({
    code: 'invalid_request',
    detail: expect.stringContaining('acme/shop/a--b') as string,
  });
});

describe('a failure of AWS', () => {
  it('is named by its code, and tells the agent’s side nothing of the account', async () => {
    const { digest } = await artifact('denied');
    const nobody = ecr.addUser('nobody', {
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Action: 's3:GetObject', Resource: '*' }],
    });
    const powerless = new EcrRegistry({ ...settings, credentials: nobody });
    const request = { subject: 'agt_x', repository: REPOSITORY, lifeMs: 60_000 };
    for (const work of [
      () => pull(digest, powerless),
      () => powerless.pushAccess(request),
      () => powerless.ensureRepository('acme/shop/other', newId('vendor')),
    ]) {
      const { code, detail } = await failureOf(work());
      expect(code).toBe('registry_denied');
      expect(detail).not.toMatch(/arn:|\d{12}|nobody/);
    }
  });

  it('is tried again when nothing answers, or something is broken', async () => {
    const closed = createServer();
    await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(closed.address() as AddressInfo).port}`;
    await new Promise((resolve) => closed.close(resolve));
    const lost = new EcrRegistry({ ...settings, ecrEndpoint: url, stsEndpoint: url });
    const { digest } = await artifact('lost');
    expect(await failureOf(pull(digest, lost))).toMatchObject({ code: 'registry_unavailable' });
    expect(
      await failureOf(lost.pushAccess({ subject: 'agt_x', repository: REPOSITORY, lifeMs: 60_000 })),
    ).toMatchObject({ code: 'registry_unavailable' });
  });

  it('is a connection on which nothing moves, too', async () => {
    const silent = createServer(() => undefined);
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const hung = new EcrRegistry({ ...settings, ecrEndpoint: url, stsEndpoint: url, idleTimeoutMs: 100 });
    expect(await failureOf(pull(`sha256:${'0'.repeat(64)}`, hung))).toMatchObject({ code: 'registry_unavailable' });
    silent.closeAllConnections();
    await new Promise((resolve) => silent.close(resolve));
  });

  it('says that there is no such repository', async () => {
    const request = { subject: 'tok_x', repository: 'acme/shop/none', digest: `sha256:${'0'.repeat(64)}`, lifeMs: 1 };
    expect(await failureOf(registry.pullAccess(request))).toMatchObject({ code: 'artifact_missing' });
  });
});

describe('the kind of registry', () => {
  const base = {
    DATABASE_URL: 'postgres://127.0.0.1/ims',
    NATS_URLS: 'nats://127.0.0.1',
    NATS_JWT: 'jwt',
    NATS_SEED: 'seed',
    JOB_KEYS: 'key',
    TOKEN_HASH_KEY: 'k'.repeat(32),
    VENDOR_REGISTRY_URL: 'https://123456789012.dkr.ecr.eu-central-1.amazonaws.com',
  };
  const choose = (more: Record<string, string>) =>
    chooseRegistry(loadConfig(RegistryTokenConfig, { ...base, ...more }));

  it('says at the start, all at once, what it lacks', () => {
    const faultsOf = (more: Record<string, string>): readonly string[] => {
      try {
        choose(more);
      } catch (error) {
        if (error instanceof ConfigError) return error.faults.map((fault) => fault.split(' ')[0] ?? '');
        throw error;
      }
      return [];
    };
    expect(faultsOf({})).toEqual(['REGISTRY_SIGNING_KEY', 'REGISTRY_CERT']);
    expect(faultsOf({ VENDOR_REGISTRY_KIND: 'ecr' })).toEqual(['AWS_REGION', 'ECR_ACCOUNT_ID', 'ECR_SESSION_ROLE_ARN']);
    expect(faultsOf({ VENDOR_REGISTRY_KIND: 'harbor' })).toEqual(['VENDOR_REGISTRY_KIND']);
  });

  it('is distribution without more, and ECR by its name', () => {
    expect(() => choose({ REGISTRY_SIGNING_KEY: 'no key', REGISTRY_CERT: 'no certificate' })).toThrow();
    const chosen = choose({
      VENDOR_REGISTRY_KIND: 'ecr',
      AWS_REGION: 'eu-central-1',
      ECR_ACCOUNT_ID: '123456789012',
      ECR_SESSION_ROLE_ARN: settings.sessionRoleArn,
    });
    expect(chosen).toBeInstanceOf(EcrRegistry);
    expect(chosen).not.toBeInstanceOf(DistributionRegistry);
  });
});
