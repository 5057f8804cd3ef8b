import { createHash, randomBytes } from 'node:crypto';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newId, type Artifact, type ComponentKind, type JobStatement } from '#contracts';
import { attestArtifact, copyArtifact, createSigningKey, localSigner, pushArtifact } from '#oci';
import { HighWater } from '../src/high-water.js';
import { SyncHandler } from '../src/sync-handler.js';
import { Attempt } from './attempt.js';
import { APP, COMMIT, orderOf, publish, startWorld, type Claims, type Order, type World } from './world.js';

/**
 * The attacks of the TUF specification (https://theupdateframework.github.io/specification/latest/#goals-to-protect-against-specific-attacks),
 * by whoever holds the vendor's registry, the broker, or the IMS with its job key: but not the vendor's signing key,
 * which is on the build agent's host alone. Each says what the agent does about it.
 */
let world: World;
let sync: SyncHandler;
beforeAll(async () => {
  world = await startWorld();
  sync = new SyncHandler(world.identity, world.tokens, world.registry, world.config);
});
afterAll(() => world.stop());

let names = 0;
const newName = (): string => `target-${(names += 1)}`;
const MODULE = { 'main.tf': 'output "version" { value = "good" }\n' };
const vendorPlace = (name: string) => ({ client: world.vendor.client, repository: `acme/${APP}/${name}` });

const publishModule = (name: string, text = MODULE['main.tf'], claims: Claims = {}): Promise<Artifact> =>
  publish(
    world,
    { name, kind: 'terraform-module', source: { 'main.tf': text, 'name.txt': name } },
    vendorPlace(name),
    claims,
  );

/** Needs no program to be applied: for what is decided before. */
const publishImage = (name: string, text: string): Promise<Artifact> =>
  publish(world, { name, kind: 'external-image', source: { text } }, vendorPlace(name));

interface Job {
  readonly kind: 'sync' | 'apply' | 'destroy';
  readonly name: string;
  readonly artifact: Artifact;
  readonly component?: ComponentKind;
  readonly says?: Partial<JobStatement>;
}
function job({ kind, name, artifact, component = 'terraform-module', says = {} }: Job): Attempt {
  const order: Order = { kind, name, component, artifact };
  const { statement, envelope } = orderOf(world, order);
  const handler = kind === 'sync' ? sync : kind === 'apply' ? world.apply : world.destroy;
  return new Attempt(world.dir, handler, { statement: { ...statement, ...says }, envelope });
}
const image = (kind: Job['kind'], name: string, artifact: Artifact, says: Partial<JobStatement> = {}): Attempt =>
  job({ kind, name, artifact, component: 'external-image', says });
async function deploy(name: string, artifact: Artifact, says: Partial<JobStatement> = {}): Promise<void> {
  await image('sync', name, artifact, says).run();
  await image('apply', name, artifact, says).run();
}
const isHere = async (name: string, digest: string): Promise<boolean> =>
  (await world.registry.client.headManifest(`${APP}/${name}`, digest)) !== undefined;
const releaseOf = (version: string, created_at: string) => ({ release: { id: newId('release'), version, created_at } });

it('arbitrary software installation: what the vendor did not sign is neither copied nor run', async () => {
  const name = newName();
  const evil = await publishModule(name, MODULE['main.tf'], { key: createSigningKey().privateKeyPem });
  expect(await job({ kind: 'sync', name, artifact: evil }).failure()).toMatchObject({
    code: 'signature_untrusted',
    detail: expect.stringContaining('wrong key') as string,
  });
  expect(await isHere(name, evil.digest)).toBe(false);
  // Even put into the install's registry by somebody who got there, it is not run.
  await copyArtifact({
    from: { ...vendorPlace(name), digest: evil.digest },
    to: { client: world.registry.client, repository: `${APP}/${name}` },
  });
  const apply = job({ kind: 'apply', name, artifact: evil });
  expect(await apply.failure()).toMatchObject({ code: 'signature_untrusted' });
  expect(apply.commands).toEqual([]);
});

it('rollback: an older release is refused by its own code, also after a teardown, unless the signed job says rollback', async () => {
  const name = newName();
  const [old, now] = [await publishImage(name, 'one'), await publishImage(name, 'two')];
  const first = releaseOf('1.0.0', '2026-01-01T00:00:00.000Z');
  const second = releaseOf('2.0.0', '2026-02-01T00:00:00.000Z');
  await deploy(name, old, first);
  await deploy(name, now, second);
  expect(await image('apply', name, old, first).failure()).toMatchObject({
    code: 'release_downgraded',
    detail: expect.stringContaining('release 1.0.0 is older than 2.0.0') as string,
  });
  await image('destroy', name, now, second).run();
  expect(await image('apply', name, old, first).failure()).toMatchObject({ code: 'release_downgraded' });
  // No release at all is no way round it.
  expect(await image('apply', name, old).failure()).toMatchObject({ code: 'release_downgraded' });
  await image('apply', name, old, { ...first, rollback: true }).run();
});

it('replay: a job that was signed before the last one of its component is refused', async () => {
  const name = newName();
  const artifact = await publishImage(name, 'one');
  const earlier = new Date(Date.now() - 60_000).toISOString();
  await deploy(name, artifact);
  for (const kind of ['apply', 'destroy'] as const) {
    expect(await image(kind, name, artifact, { issued_at: earlier }).failure()).toMatchObject({
      code: 'statement_refused',
      detail: expect.stringContaining('before the last job') as string,
    });
  }
  expect(await world.store.read(name)).toMatchObject({ digest: artifact.digest });
});

it('fast-forward: a release from the far future blocks nothing for good, since a rollback can be said', async () => {
  const name = newName();
  const artifact = await publishImage(name, 'one');
  await deploy(name, artifact, releaseOf('99.0.0', '2099-01-01T00:00:00.000Z'));
  const next = releaseOf('1.0.1', '2026-03-01T00:00:00.000Z');
  expect(await image('apply', name, artifact, next).failure()).toMatchObject({ code: 'release_downgraded' });
  await image('apply', name, artifact, { ...next, rollback: true }).run();
});

it('what was done is remembered over a restart of the agent', async () => {
  const name = newName();
  const artifact = await publishImage(name, 'one');
  await deploy(name, artifact, releaseOf('2.0.0', '2026-02-01T00:00:00.000Z'));
  const { statement } = orderOf(world, { kind: 'apply', name, component: 'external-image', artifact });
  const again = new HighWater(world.stateDir);
  await expect(again.check({ ...statement, ...releaseOf('1.0.0', '2026-01-01T00:00:00.000Z') })).rejects.toMatchObject({
    code: 'release_downgraded',
  });
});

it('endless data: bytes beyond the signed size are not read, and nothing of it is stored as the artifact', async () => {
  const name = newName();
  const artifact = await publishModule(name);
  const { content } = await world.vendor.client.getManifest(`acme/${APP}/${name}`, artifact.digest);
  const layer = 'layers' in content ? content.layers[0]! : undefined;
  await rewriteBlob(layer!.digest, randomBytes(8 * 1024 * 1024));
  expect(await job({ kind: 'sync', name, artifact }).failure()).toMatchObject({ code: 'digest_mismatch' });
  expect(await isHere(name, artifact.digest)).toBe(false);
});

it('extraneous dependencies: an artifact with another layer than the signed one has another digest', async () => {
  const name = newName();
  const artifact = await publishModule(name);
  const { content } = await world.vendor.client.getManifest(`acme/${APP}/${name}`, artifact.digest);
  const more = Buffer.from(JSON.stringify({ ...content, annotations: { added: 'by somebody' } }));
  await rewriteBlob(artifact.digest, more);
  expect(await job({ kind: 'sync', name, artifact }).failure()).toMatchObject({ code: 'digest_mismatch' });
  expect(await isHere(name, artifact.digest)).toBe(false);
});

it('mix-and-match: a signed artifact of another component, app or commit is refused', async () => {
  const name = newName();
  for (const claims of [{ component: 'other' }, { app: 'other' }, { commit: 'd'.repeat(40) }]) {
    const artifact = await publishModule(name, `output "x" { value = "${Object.keys(claims).join('')}" }`, claims);
    expect(await job({ kind: 'sync', name, artifact }).failure()).toMatchObject({ code: 'provenance_refused' });
    expect(await isHere(name, artifact.digest)).toBe(false);
  }
});

it('wrong software installation: a signature over another digest does not carry over', async () => {
  const name = newName();
  const good = await publishModule(name);
  const evil = await pushArtifact({
    ...vendorPlace(name),
    artifactType: 'application/vnd.test',
    layers: [{ mediaType: 'text/plain', bytes: Buffer.from('evil') }],
  });
  expect(await job({ kind: 'sync', name, artifact: { ...good, digest: evil.digest } }).failure()).toMatchObject({
    code: 'signature_missing',
    detail: expect.stringMatching(/^missing referrer/) as string,
  });
  // The good one's statement, attached to the evil one.
  await attestArtifact({
    ...vendorPlace(name),
    digest: evil.digest,
    signer: localSigner(createSigningKey().privateKeyPem),
    provenance: {
      builderId: 'x',
      buildType: 'y',
      externalParameters: { component: name, app: APP, source_commit: COMMIT },
    },
  });
  expect(await job({ kind: 'sync', name, artifact: { ...good, digest: evil.digest } }).failure()).toMatchObject({
    code: 'signature_untrusted',
  });
  expect(await isHere(name, evil.digest)).toBe(false);
});

it('malicious mirror and indefinite freeze: a registry that withholds fails the job by name, never silently', async () => {
  const name = newName();
  const artifact = await publishImage(name, 'one');
  const withheld = { ...artifact, digest: `sha256:${'e'.repeat(64)}` };
  expect(await image('sync', name, withheld).failure()).toMatchObject({ code: 'signature_missing' });
  await world.vendor.registry.stop();
  try {
    expect(await image('sync', name, artifact).failure()).toMatchObject({ code: 'registry_unavailable' });
  } finally {
    await world.vendor.registry.restart();
  }
  expect(await isHere(name, artifact.digest)).toBe(false);
});

it('key compromise of the IMS: its job key and registry can make the agent run only what the vendor signed', async () => {
  // Everything but the signing key: a perfect job statement, a registry that serves the attacker's artifact.
  const name = newName();
  const evil = await publishModule(name, 'resource "terraform_data" "evil" {}', {
    key: createSigningKey().privateKeyPem,
  });
  const apply = job({ kind: 'apply', name, artifact: evil, says: releaseOf('9.9.9', new Date().toISOString()) });
  const { code } = await apply.failure();
  expect(code).toBe('signature_missing');
  expect(apply.commands).toEqual([]);
});

/** Somebody with access to the vendor registry's disk changes a blob or a manifest under its digest. */
async function rewriteBlob(digest: string, bytes: Buffer): Promise<void> {
  const hex = digest.slice('sha256:'.length);
  const file = join(world.dir, 'vendor', 'data', 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
  expect(
    createHash('sha256')
      .update(await readFile(file))
      .digest('hex'),
  ).toBe(hex);
  await writeFile(file, bytes);
  expect(await readdir(join(file, '..'))).toContain('data');
}
