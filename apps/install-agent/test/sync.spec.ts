import { randomUUID } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ImsError, type Artifact, type ComponentKind } from '#contracts';
import {
  copyArtifact,
  createRegistryCertificate,
  createRegistryTokenSigner,
  createSigningKey,
  pushArtifact,
  RegistryClient,
  type Credential,
} from '#oci';
import { SyncHandler } from '../src/sync-handler.js';
import { Attempt } from './attempt.js';
import { APP, orderOf, publish, startWorld, type Claims, type Source, type World } from './world.js';

let world: World;
let sync: SyncHandler;
beforeAll(async () => {
  world = await startWorld();
  sync = new SyncHandler(world.identity, world.tokens, world.registry, world.config);
});
afterAll(() => world.stop());

const MANIFEST = { 'a.yaml': 'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n' };
let names = 0;
const newName = (): string => `component-${(names += 1)}`;

function inVendor(name: string, source: Source = MANIFEST, claims: Claims = {}): Promise<Artifact> {
  const component = { name, kind: 'kubernetes-manifests' as const, source: { ...source, [`${name}.txt`]: name } };
  return publish(world, component, { client: world.vendor.client, repository: `acme/${APP}/${name}` }, claims);
}
const attempt = (name: string, artifact: Artifact, component: ComponentKind = 'kubernetes-manifests'): Attempt =>
  new Attempt(world.dir, sync, orderOf(world, { kind: 'sync', name, component, artifact }));
const isHere = async (name: string, digest: string): Promise<boolean> =>
  (await world.registry.client.headManifest(`${APP}/${name}`, digest)) !== undefined;

describe('sync', () => {
  it('fetches with one token, and the second time fetches nothing and asks for none', async () => {
    const name = newName();
    const artifact = await inVendor(name);
    const first = attempt(name, artifact);
    const before = world.vendor.issued.length;
    expect(await first.run()).toMatchObject({ digest: artifact.digest, blobs_skipped: expect.any(Number) as number });
    expect(Number(first.outputs['fetch']?.['bytes_copied'])).toBeGreaterThan(0);
    expect(world.vendor.issued.length).toBe(before + 1);
    const token = world.vendor.issued.at(-1) ?? '';
    expect(world.vendor.redeemed).toContain(token);
    expect(JSON.stringify([first.outputs, first.log])).not.toContain(token.split('.')[1]);

    const again = attempt(name, artifact);
    expect(await again.run()).toEqual({ digest: artifact.digest, bytes_copied: 0, blobs_copied: 0, blobs_skipped: 0 });
    expect(world.vendor.issued.length).toBe(before + 1);
  });

  it('asks for a new token after a crash in the middle', async () => {
    const name = newName();
    const artifact = await inVendor(name);
    const before = world.vendor.redeemed.length;
    // Cut when the first token is burnt: whatever was fetched with it is fetched again, or is there.
    const cut = await attempt(name, artifact).crashIn('fetch', () => world.vendor.redeemed.length > before);
    expect(await cut.run()).toMatchObject({ digest: artifact.digest });
    expect(world.vendor.issued.length).toBe(before + 2);
    expect(await isHere(name, artifact.digest)).toBe(true);
  });

  it('brings the signature when only the artifact is there', async () => {
    const name = newName();
    const artifact = await inVendor(name);
    await copyArtifact({
      from: { client: world.vendor.client, repository: `acme/${APP}/${name}`, digest: artifact.digest },
      to: { client: world.registry.client, repository: `${APP}/${name}` },
      referrers: false,
    });
    const result = await attempt(name, artifact).run();
    expect(Number(result['bytes_copied'])).toBeGreaterThan(0);
    expect(await attempt(name, artifact).run()).toMatchObject({ bytes_copied: 0 });
  });

  const other = createSigningKey().privateKeyPem;
  const refused: [string, Claims, string, RegExp][] = [
    ["another vendor's key", { key: other }, 'signature_untrusted', /wrong key/],
    [
      'another builder',
      { builder: 'https://vendor-cloud.dev/build-agent/ven_other' },
      'provenance_refused',
      /^builder/,
    ],
    ['another component', { component: 'other' }, 'provenance_refused', /component/],
    ['another app', { app: 'other' }, 'provenance_refused', /app/],
    ['another commit', { commit: 'd'.repeat(40) }, 'provenance_refused', /source_commit/],
    ['a parameter that it does not know', { parameters: { sandbox: 'off' } }, 'provenance_refused', /sandbox/],
    ['another kind of build', { kind: 'helm-chart' }, 'provenance_refused', /build of type/],
  ];
  it.each(refused)('refuses %s, and copies nothing', async (_, claims, code, why) => {
    const name = newName();
    const artifact = await inVendor(name, MANIFEST, claims);
    const failure = await attempt(name, artifact).failure();
    expect(failure).toMatchObject({ code, detail: expect.stringMatching(why) as string });
    expect(await isHere(name, artifact.digest)).toBe(false);
  });

  it('refuses an artifact without a signature, and a signed one under the digest of another', async () => {
    const name = newName();
    const signed = await inVendor(name);
    const { digest } = await pushArtifact({
      client: world.vendor.client,
      repository: `acme/${APP}/${name}`,
      artifactType: 'application/vnd.test',
      layers: [{ mediaType: 'text/plain', bytes: Buffer.from('evil') }],
    });
    const failure = await attempt(name, { ...signed, digest }).failure();
    expect(failure).toMatchObject({ code: 'signature_missing', detail: expect.stringMatching(/^missing/) as string });
    expect(await isHere(name, digest)).toBe(false);
  });
});

describe('before a byte is used', () => {
  it('apply checks what is in the install registry again', async () => {
    const name = newName();
    // In the install's registry, but by another key: somebody got past the agent.
    const artifact = await publish(
      world,
      { name, kind: 'kubernetes-manifests', source: MANIFEST },
      { client: world.registry.client, repository: `${APP}/${name}` },
      { key: createSigningKey().privateKeyPem },
    );
    const order = orderOf(world, { kind: 'apply', name, component: 'kubernetes-manifests', artifact });
    const applied = new Attempt(world.dir, world.apply, order);
    expect(await applied.failure()).toMatchObject({ code: 'signature_untrusted' });
    expect(applied.commands).toEqual([]);
    expect(world.kube.requests()).toEqual([]);
  });

  it('apply refuses bytes that were swapped on the disk of the registry', async () => {
    const name = newName();
    const artifact = await publish(world, {
      name,
      kind: 'kubernetes-manifests',
      // Blobs are shared by content: this one is not anybody else's.
      source: { ...MANIFEST, 'own.txt': name },
    });
    const { content } = await world.registry.client.getManifest(`${APP}/${name}`, artifact.digest);
    const hex = ('layers' in content ? content.layers[0]?.digest : undefined)?.slice('sha256:'.length) ?? '';
    const blobs = join(world.dir, 'registry/data/docker/registry/v2/blobs/sha256');
    const file = join(blobs, hex.slice(0, 2), hex, 'data');
    const bytes = await readFile(file);
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    await writeFile(file, bytes);
    const order = orderOf(world, { kind: 'apply', name, component: 'kubernetes-manifests', artifact });
    const applied = new Attempt(world.dir, world.apply, order);
    expect(await applied.failure()).toMatchObject({ code: 'digest_mismatch' });
    expect(applied.commands).toEqual([]);
  });
});

describe('the registry of the install', () => {
  const clientWith = (credential?: Credential): RegistryClient =>
    new RegistryClient({
      baseUrl: world.registryServer.url,
      attempts: 1,
      ...(credential ? { credential } : {}),
    });
  const push = async (client: RegistryClient): Promise<string> => {
    const layers = [{ mediaType: 'text/plain', bytes: Buffer.from(randomUUID()) }];
    const job = { client, repository: `${APP}/pushed`, artifactType: 'application/vnd.test', layers };
    return pushArtifact(job).then(
      () => 'pushed',
      (error: unknown) => ImsError.of(error).code,
    );
  };
  const node = async (): Promise<Credential> => ({
    kind: 'basic',
    username: 'node',
    password: await readFile(join(world.stateDir, 'node-pull-secret'), 'utf8'),
  });

  it('takes pushes of the agent', async () => {
    expect(await push(world.registry.client)).toBe('pushed');
  });

  it('takes no pushes of anybody else', async () => {
    expect(await push(clientWith())).toBe('registry_denied');
    expect(await push(clientWith(await node()))).toBe('registry_denied');
    // The vendor's registry-token signs JWTs that its own registry takes; and one that calls itself the agent.
    const { signer } = world.vendor;
    const made = await createRegistryCertificate('install-agent');
    const impostor = createRegistryTokenSigner({
      privateKeyPem: made.privateKeyPem,
      certificatePem: made.certificatePem,
      issuer: 'install-agent',
      service: 'install-registry',
    });
    for (const each of [signer, impostor]) {
      const token = (access: Parameters<typeof each.sign>[0]['access']): Promise<string> =>
        each.sign({ subject: 'install-agent', access, lifeSeconds: 60 });
      expect(await push(clientWith({ kind: 'bearer', token }))).toBe('registry_denied');
    }
  });

  it('lets nodes pull, and nobody without their secret', async () => {
    const name = newName();
    const { digest } = await publish(world, { name, kind: 'container-image', source: { layer: name } });
    const pull = (client: RegistryClient): Promise<string> =>
      client.getManifest(`${APP}/${name}`, digest).then(
        ({ descriptor }) => descriptor.digest,
        (error: unknown) => ImsError.of(error).code,
      );
    expect(await pull(clientWith(await node()))).toBe(digest);
    expect(await pull(clientWith())).toBe('registry_denied');
    expect(await pull(clientWith({ kind: 'basic', username: 'node', password: 'guess' }))).toBe('registry_denied');
  });

  it('gives a log-in without a scope a token without rights, and push rights to nobody', async () => {
    const { password } = (await node()) as { password: string };
    const ask = async (query: string): Promise<{ access: { actions: string[] }[] }> => {
      const authorization = `Basic ${Buffer.from(`node:${password}`).toString('base64')}`;
      const response = await fetch(`${world.realmUrl}?${query}`, { headers: { authorization } });
      const { token } = (await response.json()) as { token: string };
      return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as never;
    };
    expect((await ask('service=install-registry')).access).toEqual([]);
    const greedy = await ask('scope=repository:shop/web:pull,push,delete,*&scope=registry:catalog:*');
    expect(greedy.access).toEqual([{ type: 'repository', name: 'shop/web', actions: ['pull'] }]);
    expect((await fetch(world.realmUrl, { method: 'POST' })).status).toBe(404);
    expect((await fetch(world.realmUrl)).status).toBe(401);
  });
});
