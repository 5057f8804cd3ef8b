import 'reflect-metadata';
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as tick } from 'node:timers/promises';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import { Identity, RegistryTokens, writePrivate } from '#agent-kit';
import {
  JobStatement,
  newId,
  PAYLOAD_TYPES,
  signEnvelope,
  type Artifact,
  type Enrolment,
  type Envelope,
  type JobKind,
} from '#contracts';
import { createNkey, nkeyFromSeed } from '#messaging';
import {
  createSigningKey,
  encodeManifest,
  listReferrers,
  localSigner,
  MEDIA_TYPE,
  parseManifest,
  pushArtifact,
  RegistryClient,
  type Descriptor,
} from '#oci';
import { loadConfig } from '#platform';
import {
  freePort,
  freshDatabase,
  startNats,
  startRegistry,
  type FakeEcr,
  type FreshDatabase,
  type NatsServer,
  type RegistryServer,
} from '#stack';
import { BuildAgentConfig } from '../../apps/build-agent/src/config.js';
import { BuildHandler, BuildHost } from '../../apps/build-agent/src/build-handler.js';
import { InstallAgentConfig } from '../../apps/install-agent/src/config.js';
import { InstallRegistry, makeRegistryKeys } from '../../apps/install-agent/src/install-registry.js';
import { SyncHandler } from '../../apps/install-agent/src/sync-handler.js';
import { Attempt } from '../../apps/install-agent/test/attempt.js';
import { RegistryTokenConfig } from '../../apps/registry-token/src/config.js';
import { startRegistryToken } from '../../apps/registry-token/src/registry-token.module.js';
import { startEcr } from '../../apps/registry-token/test/ecr.js';

/**
 * A vendor whose registry is ECR: the build agent's push, registry-token's plan and the install agent's copy into a
 * real registry. Of AWS there is the real SDK and a server that enforces the policies of `apps/registry-token/iam`.
 */
describe('a vendor with ECR', () => {
  const scheduler = nkeyFromSeed(createNkey('user').seed);
  const signing = createSigningKey();
  const vendor = newId('vendor');
  const install = newId('install');
  const imageSpec = (image: string) => ({ kind: 'external-image' as const, image });
  let dir: string;
  let ecr: FakeEcr;
  let nats: NatsServer;
  let database: FreshDatabase;
  let service: NestFastifyApplication;
  let serviceUrl: string;
  let outside: RegistryServer;
  let customer: RegistryServer;
  let realm: { close(): Promise<void> };
  let installRegistry: InstallRegistry;
  let builder: { identity: Identity; handler: BuildHandler };
  let installer: { identity: Identity; tokens: RegistryTokens; handler: SyncHandler };

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'ecr-'));
    const { ecr: fake, settings } = await startEcr();
    ecr = fake;
    [nats, database, outside] = await Promise.all([
      startNats({ dir: join(dir, 'nats') }),
      freshDatabase(),
      startRegistry({ dir: join(dir, 'outside') }),
    ]);
    const creds = await nats.serviceCreds('registry-token');
    const port = await freePort();
    serviceUrl = `http://127.0.0.1:${port}`;
    const config = loadConfig(RegistryTokenConfig, {
      DATABASE_URL: await database.provisionService('registry-token'),
      NATS_URLS: nats.url,
      NATS_JWT: creds.jwt,
      NATS_SEED: creds.seed,
      HTTP_PORT: String(port),
      JOB_KEYS: scheduler.publicKey,
      TOKEN_HASH_KEY: 'k'.repeat(32),
      VENDOR_REGISTRY_KIND: 'ecr',
      VENDOR_REGISTRY_URL: ecr.url,
      AWS_REGION: ecr.region,
      ECR_ACCOUNT_ID: ecr.account,
      ECR_SESSION_ROLE_ARN: settings.sessionRoleArn,
      AWS_ACCESS_KEY_ID: settings.credentials?.accessKeyId,
      AWS_SECRET_ACCESS_KEY: settings.credentials?.secretAccessKey,
      ECR_ENDPOINT: ecr.url,
      STS_ENDPOINT: ecr.url,
    });
    service = await startRegistryToken(config, { ownsProcess: false });
    const buildIdentity = await enrolled('build');
    const host = new BuildHost(
      loadConfig(BuildAgentConfig, {}),
      join(dir, 'build'),
      localSigner(signing.privateKeyPem),
    );
    builder = { identity: buildIdentity, handler: new BuildHandler(host, new RegistryTokens(buildIdentity)) };

    const stateDir = join(dir, 'install');
    await makeRegistryKeys(stateDir);
    const identity = await enrolled('install');
    const tokens = new RegistryTokens(identity);
    const customerPort = await freePort();
    installRegistry = await InstallRegistry.open(`http://127.0.0.1:${customerPort}`, stateDir);
    const served = await installRegistry.serve('127.0.0.1', 0);
    realm = served;
    customer = await startRegistry({
      dir: join(dir, 'customer'),
      port: customerPort,
      auth: {
        realm: `http://127.0.0.1:${served.port}/token`,
        service: 'install-registry',
        issuer: 'install-agent',
        certPem: readFileSync(join(stateDir, 'registry.crt'), 'utf8'),
      },
    });
    const installConfig = loadConfig(InstallAgentConfig, { INSTALL_REGISTRY_URL: customer.url });
    installer = { identity, tokens, handler: new SyncHandler(identity, tokens, installRegistry, installConfig) };
  });
  afterAll(async () => {
    await service?.close();
    await realm?.close();
    await Promise.all([customer?.stop(), outside?.stop(), nats?.stop(), ecr?.stop()]);
    await database?.drop();
    await rm(dir, { recursive: true, force: true });
  });

  /** An agent as it is after its enrolment. */
  async function enrolled(kind: 'build' | 'install'): Promise<Identity> {
    const stateDir = join(dir, kind);
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    const enrolment: Enrolment = {
      agent_id: newId('agent'),
      kind,
      vendor_id: vendor,
      ...(kind === 'install' ? { install_id: install } : {}),
      nats_urls: [nats.url],
      nats_jwt: 'jwt',
      nats_jwt_expires_at: new Date(Date.now() + 3_600_000).toISOString(),
      job_keys: [scheduler.publicKey],
      registry_token_url: serviceUrl,
      vendor_registry: { url: ecr.url, namespace: 'acme' },
      vendor_keys: [signing.publicKeyPem],
    };
    await writePrivate(join(stateDir, 'key.seed'), createNkey('user').seed);
    const stored = { server: serviceUrl, allow_plain_http: true, enrolment };
    await writePrivate(join(stateDir, 'identity.json'), JSON.stringify(stored));
    const identity = await Identity.load(stateDir);
    if (!identity) throw new Error('the identity was not loaded');
    return identity;
  }

  function order(
    kind: JobKind,
    agent: Identity,
    name: string,
    more: Partial<JobStatement> = {},
  ): { statement: JobStatement; envelope: Envelope } {
    const statement = Object.assign(new JobStatement(), {
      job_id: newId('job'),
      attempt: 1,
      kind,
      vendor_id: vendor,
      agent_id: agent.enrolment.agent_id,
      agent_key: agent.publicKey,
      ...(kind === 'build' ? { build_id: newId('build') } : { install_id: install }),
      app_name: 'shop',
      component: { id: newId('component'), name, kind: 'external-image' },
      spec: imageSpec('unused'),
      repository: `acme/shop/${name}`,
      issued_at: new Date().toISOString(),
      expires_at: new Date(Date.now() + 60_000).toISOString(),
      ...more,
    });
    return { statement, envelope: signEnvelope(PAYLOAD_TYPES.job, statement, scheduler) };
  }

  /** Builds an image of these layers, for two platforms, from a registry outside. */
  async function build(name: string, layerBytes: readonly number[]): Promise<Artifact> {
    const client = new RegistryClient({ baseUrl: outside.url });
    const children: Descriptor[] = [];
    for (const architecture of ['amd64', 'arm64']) {
      const config = Buffer.from(JSON.stringify({ os: 'linux', architecture }));
      const child = await pushArtifact({
        client,
        repository: `library/${name}`,
        config: { mediaType: 'application/vnd.oci.image.config.v1+json', bytes: config },
        layers: layerBytes.map((size) => ({
          mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
          bytes: randomBytes(size),
        })),
      });
      children.push({ ...child, platform: { os: 'linux', architecture } });
    }
    const bytes = encodeManifest({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: children });
    await client.putManifest(`library/${name}`, parseManifest(MEDIA_TYPE.index, bytes), { tag: 'v1' });
    const spec = imageSpec(`${outside.host}/library/${name}:v1`);
    const result = await new Attempt(dir, builder.handler, order('build', builder.identity, name, { spec })).run();
    return result['artifact'] as unknown as Artifact;
  }
  const sync = (name: string, artifact: Artifact): Attempt =>
    new Attempt(dir, installer.handler, order('sync', installer.identity, name, { artifact }));
  const callsOf = (from: number): string[] => ecr.calls.slice(from).map(({ call }) => call);

  it('gets an image from the build to the install’s registry, and no credential with it', async () => {
    const artifact = await build('web', [70_000, 200_000]);
    expect(ecr.repositories()).toEqual([
      { name: 'acme/shop/web', immutable: true, labels: { 'vendor-cloud:vendor': vendor } },
    ]);
    // The password of the build was that of a session in the agent's name.
    const asked = ecr.calls.filter(({ call }) => call === 'GetAuthorizationToken');
    expect(asked.length).toBeGreaterThan(0);
    for (const { by } of asked) {
      expect(by).toContain(`assumed-role/registry-token-session/${builder.identity.enrolment.agent_id}`);
    }

    const before = ecr.calls.length;
    const first = sync('web', artifact);
    expect(await first.run()).toMatchObject({ digest: artifact.digest, blobs_skipped: 0 });
    expect(Number(first.outputs['fetch']?.['bytes_copied'])).toBeGreaterThan(540_000);
    const calls = callsOf(before);
    expect(calls).toContain('BatchGetImage');
    expect(calls.some((call) => call.startsWith('GET /layers/'))).toBe(true);
    expect(calls.filter((call) => call.includes('/v2/') || /Token|Role/.test(call))).toEqual([]);
    const here = { client: installRegistry.client, repository: 'shop/web' };
    expect(await here.client.headManifest('shop/web', artifact.digest)).toBeDefined();
    expect(await listReferrers(here, artifact.digest)).toHaveLength(1);
    // URLs are secrets: none is in what the attempt wrote.
    expect(JSON.stringify([first.log, first.outputs])).not.toMatch(/X-Amz|Signature/);

    const again = ecr.calls.length;
    expect(await sync('web', artifact).run()).toMatchObject({ bytes_copied: 0, blobs_copied: 0 });
    expect(callsOf(again)).toEqual([]);
  });

  it('answers a repeated redemption with a plan of the same digest, and any other with a refusal', async () => {
    const artifact = await build('api', [1_000]);
    const { tokens } = installer;
    const { envelope } = order('sync', installer.identity, 'api', { artifact });
    const { token } = await tokens.requestPullToken(envelope);
    const [id = '', secret = ''] = token.split('.');
    const authorization = `Basic ${Buffer.from(`${id}:${secret}`).toString('base64')}`;
    // ECR has no token endpoint; who asks for one is told so, and burns nothing.
    const stock = await fetch(`${serviceUrl}/token?scope=repository:acme/shop/api:pull`, {
      headers: { authorization },
    });
    expect(stock.status).toBe(404);

    const first = await tokens.redeemPullToken(token, 'the-same-request');
    const second = await tokens.redeemPullToken(token, 'the-same-request');
    expect(first).toMatchObject({ kind: 'download_plan', plan: { digest: artifact.digest } });
    expect(second.plan?.digest).toBe(artifact.digest);
    expect(second.plan?.manifests).toEqual(first.plan?.manifests);
    expect(Date.parse(first.expires_at) - Date.now()).toBeGreaterThan(3_500_000);
    await expect(tokens.redeemPullToken(token, 'another-request')).rejects.toMatchObject({
      code: 'pull_token_refused',
    });
  });

  it('goes on with another plan when the URLs end before a large copy does', async () => {
    const artifact = await build(
      'large',
      Array.from({ length: 8 }, () => 1_000_000),
    );
    const before = ecr.calls.length;
    const layers = (): number => callsOf(before).filter((call) => call.startsWith('GET /layers/')).length;
    const plans = (): number => callsOf(before).filter((call) => call === 'ListImageReferrers').length;
    const copying = sync('large', artifact);
    const result = copying.run();
    // The signature and some layers were fetched; then two hours go by at once.
    let ended = false;
    void result.catch(() => undefined).finally(() => (ended = true));
    while (layers() < 5 && !ended) await tick();
    ecr.advance(2 * 3_600_000);
    expect(await result).toMatchObject({ digest: artifact.digest });
    expect(copying.log.join('\n')).toMatch(/the right to fetch ended after \d+ blobs; asking for another/);
    // An index and two children each time.
    expect(plans()).toBe(6);
    expect(await sync('large', artifact).run()).toMatchObject({ bytes_copied: 0 });
  });
});
