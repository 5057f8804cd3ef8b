import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Artifact, type Install, type Job } from '#contracts';
import { builderIdOf, buildTypeOf } from '#domain';
import {
  attestArtifact,
  createSigningKey,
  encodeManifest,
  fallbackTag,
  localSigner,
  MEDIA_TYPE,
  parseManifest,
  pushArtifact,
  RegistryClient,
} from '#oci';
import { startRegistry } from '#stack';
import { deploy } from '../local/shop.js';
import { QUIET, type Ground } from './ground.js';
import { found, Refused, type Play } from './play.js';

/** The file of a blob or manifest in a registry's storage, whose bytes somebody with the disk can change. */
class StoredBlob {
  private readonly file: string;
  private readonly original: Buffer;

  constructor(storage: string, digest: string) {
    const hex = digest.slice('sha256:'.length);
    this.file = join(storage, 'docker/registry/v2/blobs/sha256', hex.slice(0, 2), hex, 'data');
    this.original = readFileSync(this.file);
  }
  /** Of the same length, so that only the bytes can tell. */
  alter(): void {
    const bytes = Buffer.from(this.original);
    const at = bytes.length - 1;
    bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
    writeFileSync(this.file, bytes);
  }
  replace(bytes: Buffer): void {
    writeFileSync(this.file, bytes);
  }
  restore(): void {
    writeFileSync(this.file, this.original);
  }
}

/** A registry of the attacker's over a storage of others: without a login, so that he can push what he likes. */
async function openRegistryOver(dir: string, storage: string) {
  mkdirSync(dir, { recursive: true });
  rmSync(join(dir, 'data'), { force: true });
  symlinkSync(storage, join(dir, 'data'));
  const registry = await startRegistry({ dir });
  const client = new RegistryClient({ baseUrl: registry.url });
  return {
    client,
    stop: async () => {
      client.close();
      await registry.stop();
    },
  };
}

/** The only signature of an artifact becomes one by the attacker's key that says all that the vendor's says. */
async function swapSignature(client: RegistryClient, ground: Ground, app: string, artifact: Artifact): Promise<void> {
  const { repository, digest } = artifact;
  const empty = { schemaVersion: 2 as const, mediaType: MEDIA_TYPE.index, manifests: [] };
  await client.putManifest(repository, parseManifest(MEDIA_TYPE.index, encodeManifest(empty)), {
    tag: fallbackTag(digest),
  });
  await attestArtifact({
    client,
    repository,
    digest,
    signer: localSigner(createSigningKey().privateKeyPem),
    provenance: {
      builderId: builderIdOf(ground.account.vendor.id),
      buildType: buildTypeOf('external-image'),
      externalParameters: { app, component: repository.split('/').at(-1) },
    },
  });
}

export async function registryTampered(ground: Ground, play: Play): Promise<void> {
  const { rest, platform } = ground;
  const image = async (name: string) => ({ name, kind: 'external-image', image: await ground.image(name) }) as const;
  const { app, release } = await ground.product('depot', [
    await image('blob'),
    await image('manifest'),
    await image('signature'),
    await image('tagged'),
    {
      name: 'module',
      kind: 'terraform-module',
      source: { url: ground.source('depot', { 'main.tf': 'resource "terraform_data" "thing" { input = "depot" }\n' }) },
    },
  ]);
  const artifactOf = (name: string): Artifact => {
    const component = release.components.find((each) => each.name === name);
    if (!component) throw new Error(`the release has no ${name}`);
    return component.artifact;
  };
  const storage = join(platform.dir, 'vendor-registry', 'data');
  const open = await openRegistryOver(join(platform.dir, 'drills', 'registry'), storage);
  const { install, customer } = await ground.site(app, 'depot');
  const jobs = async (): Promise<Job[]> =>
    (await deploy(rest, install, { kind: 'deploy', release_id: release.id }, QUIET)).histories.map(({ job }) => job);
  const end = (list: readonly Job[], kind: Job['kind'], name: string): Job => {
    const job = list.find((each) => each.kind === kind && each.component.name === name);
    if (!job) throw new Error(`no ${kind} of ${name}`);
    return job;
  };
  /** The code with which a job was refused; passes when it succeeded. */
  const outcomeOf = ({ status, error }: Job): Promise<void> =>
    status === 'succeeded' ? Promise.resolve() : Promise.reject(new Refused(error?.code ?? status));
  const nothingApplied = async (names: readonly string[], list: readonly Job[]): Promise<void> => {
    const { components } = await rest.get<Install>(`/v1/installs/${install.id}`);
    const there = components.filter(({ name, status }) => names.includes(name) && status === 'deployed');
    const ran = names.map((name) => end(list, 'apply', name)).filter(({ status }) => status !== 'skipped');
    if (there.length + ran.length === 0) throw new Refused('its apply is skipped');
  };
  try {
    const { content } = await open.client.getManifest(artifactOf('blob').repository, artifactOf('blob').digest);
    const layer = 'layers' in content ? content.layers[0] : undefined;
    if (!layer) throw new Error('the image has no layer');
    const blob = new StoredBlob(storage, layer.digest);
    const manifest = new StoredBlob(storage, artifactOf('manifest').digest);
    blob.alter();
    manifest.replace(Buffer.from(JSON.stringify({ ...content, annotations: { added: 'by the attacker' } })));
    await swapSignature(open.client, ground, app.name, artifactOf('signature'));
    const tagged = artifactOf('tagged');
    const evil = await pushArtifact({
      client: open.client,
      repository: tagged.repository,
      artifactType: 'application/vnd.drill',
      layers: [{ mediaType: 'text/plain', bytes: Buffer.from('evil') }],
      tag: release.version,
    });

    const first = await jobs();
    await play.refused('alter a layer in the vendor’s registry', 'digest_mismatch', () =>
      outcomeOf(end(first, 'sync', 'blob')),
    );
    await play.refused('replace a manifest there', 'digest_mismatch', () => outcomeOf(end(first, 'sync', 'manifest')));
    await play.refused('swap the signature for one by another key, which says the same', 'signature_untrusted', () =>
      outcomeOf(end(first, 'sync', 'signature')),
    );
    await play.refused('have any of these applied', 'its apply is skipped', () =>
      nothingApplied(['blob', 'manifest', 'signature'], first),
    );
    await play.refused(
      'put an artifact of its own under the release’s tag',
      'jobs name digests, never tags',
      async () => {
        await outcomeOf(end(first, 'sync', 'tagged'));
        const { result } = end(first, 'sync', 'tagged');
        if (result?.['digest'] === tagged.digest && evil.digest !== tagged.digest)
          throw new Refused('jobs name digests, never tags');
      },
    );

    const own = join(platform.dir, `install-registry-${install.name}`, 'data');
    const module = artifactOf('module');
    const stored = await open.client.getManifest(module.repository, module.digest);
    const zip = 'layers' in stored.content ? stored.content.layers[0] : undefined;
    if (!zip) throw new Error('the module has no layer');
    const local = new StoredBlob(own, zip.digest);
    const stateFile = join(customer.state, 'components', 'module', 'state.json');
    const before = readFileSync(stateFile, 'utf8');
    local.alter();
    const second = await jobs();
    await play.refused('alter the module in the install’s own registry, after it was checked', 'digest_mismatch', () =>
      outcomeOf(end(second, 'apply', 'module')),
    );
    await play.refused('have terraform run with it', 'no step after fetch', async () => {
      const { data } = await rest.get<{ data: { steps: { name: string; status: string }[] }[] }>(
        `/v1/jobs/${end(second, 'apply', 'module').id}/attempts`,
      );
      const ran = data.flatMap(({ steps }) => steps).filter(({ name }) => name !== 'fetch');
      if (ran.length === 0 && readFileSync(stateFile, 'utf8') === before) throw new Refused('no step after fetch');
    });
    await play.got('keep a release from being deployed', 'a delay: each failed job names digest and registry', () =>
      found([...first, ...second].some(({ status }) => status === 'failed')),
    );
    blob.restore();
    manifest.restore();
    local.restore();
    await play.then('the storage comes back from a backup, but for the signature', 'all else is deployed', async () => {
      const third = await jobs();
      for (const name of ['blob', 'manifest', 'tagged', 'module']) await outcomeOf(end(third, 'apply', name));
      const { code } = end(third, 'sync', 'signature').error ?? {};
      if (code !== 'signature_untrusted') throw new Refused(code ?? 'the swapped signature passed');
    });
  } finally {
    await open.stop();
  }
}
