import { createHash } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { startRegistry, type RegistryServer } from '#stack';
import {
  clientOf,
  codeOf,
  inOwnFolder,
  randomBlob,
  temporaryDirectory,
  troublesomeProxy,
  type Proxy,
} from '../test/harness.js';
import {
  attestArtifact,
  copyArtifact,
  createSigningKey,
  describeBytes,
  encodeManifest,
  fallbackTag,
  listReferrers,
  localSigner,
  MEDIA_TYPE,
  pushOciLayout,
  remembering,
  verifyArtifact,
  type Descriptor,
  type FetchedManifest,
  type ImageIndex,
  type ImageManifest,
  type RegistryClient,
} from './index.js';

const MIB = 1024 * 1024;
const key = createSigningKey();
const provenance = { buildType: 'https://example.test/build', externalParameters: {}, builderId: 'agt_1' };

let from: RegistryServer;
let to: RegistryServer;
/** Before the source and before the target, to count and to break. */
let source: Proxy;
let target: Proxy;
let sourceClient: RegistryClient;
let targetClient: RegistryClient;

beforeAll(async () => {
  [from, to] = await Promise.all([
    inOwnFolder((dir) => startRegistry({ dir })),
    inOwnFolder((dir) => startRegistry({ dir })),
  ]);
  [source, target] = await Promise.all([troublesomeProxy(from.url), troublesomeProxy(to.url)]);
  sourceClient = clientOf(source.url);
  targetClient = clientOf(target.url);
});
afterEach(() => {
  for (const proxy of [source, target]) {
    proxy.trouble = () => undefined;
    proxy.requests.length = 0;
    proxy.bytesIn = 0;
  }
});
afterAll(async () => {
  sourceClient.close();
  targetClient.close();
  await Promise.all([source.close(), target.close()]);
  await Promise.all([from.stop(), to.stop()]);
});

async function putImage(repository: string, sizes: readonly number[], platform?: string): Promise<Descriptor> {
  const layers: Descriptor[] = [];
  for (const size of sizes) {
    const { descriptor, bytes } = randomBlob(size);
    await sourceClient.uploadBlob(repository, descriptor, () => Readable.from([bytes], { objectMode: false }));
    layers.push(descriptor);
  }
  const [config, ...rest] = layers;
  const descriptor = await put(repository, {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    config: config!,
    layers: rest,
  });
  const [os = '', architecture = ''] = platform?.split('/') ?? [];
  return platform === undefined ? descriptor : { ...descriptor, platform: { os, architecture } };
}

async function put(
  repository: string,
  content: Parameters<typeof encodeManifest>[0],
  tag?: string,
): Promise<Descriptor> {
  const bytes = encodeManifest(content);
  const descriptor = describeBytes(content.mediaType!, bytes);
  await sourceClient.putManifest(repository, { descriptor, bytes }, { tag });
  return descriptor;
}

const putIndex = (repository: string, manifests: readonly Descriptor[], more: Partial<ImageIndex> = {}) =>
  put(repository, { schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests, ...more });

const sign = (repository: string, digest: string) =>
  attestArtifact({ client: sourceClient, repository, digest, signer: localSigner(key.privateKeyPem), provenance });

const copy = (repository: string, digest: string, more: Partial<Parameters<typeof copyArtifact>[0]> = {}) =>
  copyArtifact({
    from: { client: sourceClient, repository, digest },
    to: { client: targetClient, repository: `install/${repository}` },
    ...more,
  });

it('an image arrives whole with its signature, and a second copy moves nothing', async () => {
  const image = await putImage('app/api', [500, 40_000, 3 * MIB]);
  await sign('app/api', image.digest);
  target.bytesIn = 0;
  const seen: number[] = [];
  const result = await copy('app/api', image.digest, { onProgress: ({ bytesDone }) => seen.push(bytesDone) });
  expect(result).toMatchObject({ ...image, blobsSkipped: 0, manifests: 2 });
  expect(result.bytesCopied).toBeGreaterThan(3 * MIB);
  // Each byte once: blobs, two manifests, and the list of the fall-back tag.
  expect(target.bytesIn - result.bytesCopied).toBeLessThan(1_000);
  expect(seen.at(-1)).toBeGreaterThan(3 * MIB);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));

  const statement = await verifyArtifact({
    client: targetClient,
    repository: 'install/app/api',
    digest: image.digest,
    publicKeyPem: key.publicKeyPem,
    expect: { builderId: 'agt_1' },
  });
  expect(statement.subject[0]?.name).toBe('app/api');

  target.bytesIn = 0;
  target.requests.length = 0;
  const again = await copy('app/api', image.digest);
  expect(again).toMatchObject({ ...image, bytesCopied: 0, blobsCopied: 0, manifests: 0 });
  expect(target.bytesIn).toBe(0);
  expect(target.requests.some((line) => /^(PUT|POST|PATCH)/.test(line))).toBe(false);
});

it('a signature that was added later follows on the next copy', async () => {
  const image = await putImage('app/late', [10, 20]);
  await copy('app/late', image.digest);
  await sign('app/late', image.digest);
  expect(await copy('app/late', image.digest)).toMatchObject({ manifests: 1 });
  expect(await listReferrers({ client: targetClient, repository: 'install/app/late' }, image.digest)).toHaveLength(1);
});

it('an index keeps all platforms, nested indexes and the signatures of its children', async () => {
  const amd = await putImage('app/multi', [11, 22], 'linux/amd64');
  const arm = await putImage('app/multi', [33, 44], 'linux/arm64');
  const inner = await putIndex('app/multi', [amd, arm]);
  const outer = await putIndex('app/multi', [inner], { artifactType: 'application/vnd.example' });
  await sign('app/multi', amd.digest);
  const result = await copy('app/multi', outer.digest, {
    to: { client: targetClient, repository: 'install/app/multi', tag: 'v1' },
  });
  expect(result).toMatchObject({ digest: outer.digest, blobsCopied: 6, manifests: 5 });
  expect(await targetClient.headManifest('install/app/multi', 'v1')).toMatchObject({ digest: outer.digest });
  expect(await listReferrers({ client: targetClient, repository: 'install/app/multi' }, amd.digest)).toHaveLength(1);
});

it('an index can be cut down to platforms, with the attestations that belong to them', async () => {
  const amd = await putImage('app/cut', [11, 22], 'linux/amd64');
  const arm = await putImage('app/cut', [33, 44], 'linux/arm64');
  const attestation = await putImage('app/cut', [55, 66], 'unknown/unknown');
  const annotated = { ...attestation, annotations: { 'vnd.docker.reference.digest': amd.digest } };
  const index = await putIndex('app/cut', [amd, arm, annotated]);
  const first = await copy('app/cut', index.digest, { platforms: ['linux/amd64'] });
  const second = await copy('app/cut', index.digest, { platforms: ['linux/amd64'] });
  expect(first.digest).not.toBe(index.digest);
  expect(second).toMatchObject({ digest: first.digest, bytesCopied: 0 });
  const { content } = await targetClient.getManifest('install/app/cut', first.digest);
  expect((content as ImageIndex).manifests).toEqual([amd, annotated]);
  expect((await copy('app/cut', index.digest, { platforms: ['linux/amd64', 'linux/arm64'] })).digest).not.toBe(
    first.digest,
  );
  expect(await codeOf(copy('app/cut', index.digest, { platforms: ['plan9/mips'] }))).toBe('artifact_missing');
});

it('within one registry blobs are mounted, not sent', async () => {
  const image = await putImage('app/mount', [1_000, 200_000]);
  source.bytesIn = 0;
  const address = { client: sourceClient, repository: 'app/mounted' };
  const result = await copyArtifact({
    from: { client: sourceClient, repository: 'app/mount', digest: image.digest },
    to: address,
  });
  expect(result).toMatchObject({ blobsCopied: 0, blobsSkipped: 2, manifests: 1 });
  expect(source.bytesIn).toBeLessThan(2_000);
});

it('a false blob stops the copy, and the target never shows the artifact', async () => {
  const image = await putImage('app/false', [1_000, 300_000]);
  source.trouble = ({ method, url }) => (method === 'GET' && url?.includes('/blobs/') ? { flipBit: true } : undefined);
  expect(await codeOf(copy('app/false', image.digest))).toBe('digest_mismatch');
  expect(await targetClient.headManifest('install/app/false', image.digest)).toBeUndefined();
  expect(await targetClient.listTags('install/app/false').catch(() => [])).toEqual([]);
});

it('goes on through broken connections on both sides', async () => {
  const image = await putImage('app/flaky', [1_000, 2 * MIB, 2 * MIB]);
  let reads = 0;
  let writes = 0;
  source.trouble = ({ method, url }) =>
    method === 'GET' && url?.includes('/blobs/') && (reads += 1) % 2 === 1
      ? { cutResponseAfterBytes: 700_000 }
      : undefined;
  target.trouble = ({ method, url }) =>
    method === 'PUT' && url?.includes('/blobs/') && (writes += 1) === 2 ? { cutRequestAfterBytes: 900_000 } : undefined;
  expect(await copy('app/flaky', image.digest)).toMatchObject({ digest: image.digest, blobsCopied: 3 });
});

it('a copy that was stopped goes on with what is missing', async () => {
  const image = await putImage('app/stopped', [1_000, 400_000, 500_000, 600_000]);
  const stop = new AbortController();
  const first = copy('app/stopped', image.digest, {
    concurrency: 1,
    signal: stop.signal,
    onProgress: ({ blobsDone }) => {
      if (blobsDone === 3) stop.abort();
    },
  });
  expect(await codeOf(first)).toBe('cancelled');
  expect(await copy('app/stopped', image.digest)).toMatchObject({ blobsCopied: 1, blobsSkipped: 3 });
});

it('refuses what is larger than allowed before it sends a byte', async () => {
  const image = await putImage('app/large', [1_000, 2_000]);
  expect(await codeOf(copy('app/large', image.digest, { maxBytes: 2_999 }))).toBe('source_invalid');
  expect(target.bytesIn).toBe(0);
});

it('holds a bounded part of a large blob', async () => {
  const size = 32 * MIB;
  const part = randomBlob(MIB).bytes;
  const parts = Array.from({ length: 32 }, () => part);
  const hash = createHash('sha256');
  for (const one of parts) hash.update(one);
  const layer = { mediaType: 'application/octet-stream', digest: `sha256:${hash.digest('hex')}`, size };
  await sourceClient.uploadBlob('app/stream', layer, () => Readable.from(parts, { objectMode: false }));
  const small = await putImage('app/stream', [10]);
  const { content } = await sourceClient.getManifest('app/stream', small.digest);
  const image = await put('app/stream', { ...(content as ImageManifest), layers: [layer] });
  [source.bytesOut, target.bytesIn] = [0, 0];
  let held = 0;
  const result = await copy('app/stream', image.digest, {
    onProgress: () => {
      held = Math.max(held, source.bytesOut - target.bytesIn);
    },
  });
  expect(result.bytesCopied).toBeGreaterThan(size);
  expect(source.bytesOut).toBeGreaterThan(size);
  // What has left the source and has not reached the target is in our buffers or the kernel's (a few MiB a socket).
  expect(held).toBeLessThan(12 * MIB);
});

it('writers of one fall-back list do not lose one another', async () => {
  const image = await putImage('app/many', [10, 20]);
  const signers = Array.from({ length: 5 }, () => localSigner(createSigningKey().privateKeyPem));
  const address = { client: sourceClient, repository: 'app/many' };
  await Promise.all(signers.map((signer) => attestArtifact({ ...address, digest: image.digest, signer, provenance })));
  expect(await listReferrers(address, image.digest)).toHaveLength(5);
});

it('uses the referrers API where there is one, and writes no fall-back tag there', async () => {
  const image = await putImage('app/api2', [10, 20]);
  await sign('app/api2', image.digest);
  const [signature] = await listReferrers({ client: sourceClient, repository: 'app/api2' }, image.digest);
  // A target with the API, as far as a client can see: it lists referrers and confirms subjects.
  let listed: Descriptor[] = [];
  target.trouble = ({ method, url }) => {
    if (method === 'GET' && url?.includes('/referrers/')) {
      const body = encodeManifest({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: listed }).toString();
      return { answer: 200, body, headers: { 'content-type': MEDIA_TYPE.index } };
    }
    if (method === 'PUT' && url?.endsWith(signature!.digest)) {
      listed = [signature!];
      return { answer: 201, headers: { 'oci-subject': image.digest } };
    }
    return undefined;
  };
  const fresh = clientOf(target.url);
  const repository = 'install/app/api2';
  const job = {
    from: { client: sourceClient, repository: 'app/api2', digest: image.digest },
    to: { client: fresh, repository },
  };
  expect(await copyArtifact(job)).toMatchObject({ manifests: 2 });
  expect(await copyArtifact(job)).toMatchObject({ manifests: 0, bytesCopied: 0 });
  expect(await fresh.headManifest(repository, fallbackTag(image.digest))).toBeUndefined();
  fresh.close();
});

describe('an OCI layout', () => {
  async function layout(tamper = false): Promise<{ dir: string; root: Descriptor }> {
    const dir = await temporaryDirectory();
    await mkdir(path.join(dir, 'blobs/sha256'), { recursive: true });
    const store = async (mediaType: string, bytes: Buffer): Promise<Descriptor> => {
      const descriptor = describeBytes(mediaType, bytes);
      await writeFile(path.join(dir, 'blobs/sha256', descriptor.digest.slice(7)), bytes);
      return descriptor;
    };
    const config = await store('application/vnd.oci.image.config.v1+json', Buffer.from('{}'));
    const layer = await store('application/vnd.oci.image.layer.v1.tar', randomBlob(100_000).bytes);
    const manifest = { schemaVersion: 2, mediaType: MEDIA_TYPE.manifest, config, layers: [layer] } as const;
    const root = await store(MEDIA_TYPE.manifest, encodeManifest(manifest));
    if (tamper) await writeFile(path.join(dir, 'blobs/sha256', layer.digest.slice(7)), randomBlob(100_000).bytes);
    await writeFile(path.join(dir, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    const named = { ...root, annotations: { 'org.opencontainers.image.ref.name': 'latest' } };
    await writeFile(path.join(dir, 'index.json'), encodeManifest({ schemaVersion: 2, manifests: [named] }));
    return { dir, root };
  }

  it('is pushed under its own digest', async () => {
    const { dir, root } = await layout();
    const job = { client: targetClient, repository: 'app/layout', layoutDir: dir, reference: 'latest', tag: 'built' };
    expect(await pushOciLayout(job)).toMatchObject({ digest: root.digest, blobsCopied: 2 });
    expect(await pushOciLayout(job)).toMatchObject({ digest: root.digest, bytesCopied: 0 });
    expect(await codeOf(pushOciLayout({ ...job, reference: 'other' }))).toBe('source_invalid');
    await rm(dir, { recursive: true });
  });

  it('is refused when a blob is not what its name says', async () => {
    const { dir } = await layout(true);
    expect(await codeOf(pushOciLayout({ client: targetClient, repository: 'app/bad', layoutDir: dir }))).toBe(
      'digest_mismatch',
    );
    await rm(dir, { recursive: true });
  });
});

it('reads once what is asked for twice, and what failed again', async () => {
  const reads: string[] = [];
  let down = true;
  const blob = { mediaType: 'text/plain', digest: `sha256:${'a'.repeat(64)}`, size: 5 };
  const source = remembering({
    name: 'source',
    manifest: (digest) => {
      reads.push(digest);
      return down ? Promise.reject(new Error('down')) : Promise.resolve({} as FetchedManifest);
    },
    openBlob: ({ digest }) => {
      reads.push(digest);
      return Readable.from([Buffer.from('hello')]);
    },
  });
  await expect(source.manifest('m')).rejects.toThrow('down');
  down = false;
  await source.manifest('m');
  await source.manifest('m');
  for (let i = 0; i < 2; i++) {
    expect(Buffer.concat(await (await source.openBlob(blob)).toArray()).toString()).toBe('hello');
  }
  expect(reads).toEqual(['m', 'm', blob.digest]);
});
