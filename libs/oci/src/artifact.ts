import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { ImsError } from '#contracts';
import {
  blobsOf,
  describe,
  encodeManifest,
  isIndex,
  MEDIA_TYPE,
  parseManifest,
  sortedAnnotations,
  type Descriptor,
  type FetchedManifest,
  type ImageManifest,
} from './descriptor.js';
import { fileBlob } from './layout.js';
import { type ArtifactAddress } from './referrers.js';
import { type Call } from './session.js';

/**
 * The form of each kind of artifact that is one file in one layer. Where a public tool has a form, it is that one, so
 * that users can read our artifacts without us: OpenTofu takes modules as `oci://`, Flux manifests, Helm charts.
 */
export const ARTIFACT_FORM = {
  terraformModule: {
    artifactType: 'application/vnd.opentofu.modulepkg',
    configMediaType: MEDIA_TYPE.empty,
    layerMediaType: 'archive/zip',
  },
  kubernetesManifests: {
    artifactType: undefined,
    configMediaType: 'application/vnd.cncf.flux.config.v1+json',
    layerMediaType: 'application/vnd.cncf.flux.content.v1.tar+gzip',
  },
  helmChart: {
    artifactType: undefined,
    configMediaType: 'application/vnd.cncf.helm.config.v1+json',
    layerMediaType: 'application/vnd.cncf.helm.chart.content.v1.tar+gzip',
  },
  job: {
    artifactType: 'application/vnd.ims.job-artifact.v1',
    configMediaType: MEDIA_TYPE.empty,
    layerMediaType: 'application/vnd.ims.job-spec.v1+json',
  },
} as const;

/** One layer to push: bytes in memory, or a file that must not change meanwhile. */
export type LayerInput = (
  { readonly bytes: Buffer; readonly file?: undefined } | { readonly file: string; readonly bytes?: undefined }
) & {
  readonly mediaType: string;
  readonly annotations?: Readonly<Record<string, string>> | undefined;
};

export interface ArtifactInput {
  readonly artifactType?: string | undefined;
  /** Default: the empty configuration `{}`. */
  readonly config?: { readonly mediaType: string; readonly bytes: Buffer } | undefined;
  readonly layers: readonly LayerInput[];
  readonly annotations?: Readonly<Record<string, string>> | undefined;
  readonly subject?: Descriptor | undefined;
}

const EMPTY_CONFIG = Buffer.from('{}');

/**
 * Pushes an artifact of blobs and one manifest. The manifest holds nothing but what is given (no time, no tool name)
 * in a fixed order, so the same content has the same digest wherever and whenever it is pushed.
 */
export async function pushArtifact(
  job: ArtifactInput & ArtifactAddress & Call & { readonly tag?: string | undefined },
): Promise<Descriptor> {
  const { client, repository, signal, tag } = job;
  const manifest = await uploadArtifact(job, job, { signal });
  await client.putManifest(repository, manifest, { signal, tag });
  return manifest.descriptor;
}

/** Pushes the blobs of an artifact and makes its manifest, which the caller stores. */
export async function uploadArtifact(to: ArtifactAddress, input: ArtifactInput, call: Call): Promise<FetchedManifest> {
  const config = input.config ?? { mediaType: MEDIA_TYPE.empty, bytes: EMPTY_CONFIG };
  if (input.artifactType === undefined && config.mediaType === MEDIA_TYPE.empty) {
    throw new ImsError('invalid_request', 'an artifact needs an artifactType or a configuration of its own type');
  }
  const upload = async (layer: LayerInput): Promise<Descriptor> => {
    const plain = layer.bytes
      ? describe(layer.mediaType, layer.bytes)
      : await describeFile(layer.mediaType, layer.file);
    const open = layer.bytes
      ? () => Readable.from([layer.bytes], { objectMode: false })
      : () => fileBlob(layer.file, plain);
    await to.client.uploadBlob(to.repository, plain, open, call);
    return layer.annotations ? { ...plain, annotations: sortedAnnotations(layer.annotations) } : plain;
  };
  const layers: Descriptor[] = [];
  for (const layer of input.layers) layers.push(await upload(layer));
  const content: ImageManifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    ...(input.artifactType === undefined ? {} : { artifactType: input.artifactType }),
    config: await upload(config),
    layers,
    ...(input.subject ? { subject: pointer(input.subject) } : {}),
    ...(input.annotations ? { annotations: sortedAnnotations(input.annotations) } : {}),
  };
  return parseManifest(MEDIA_TYPE.manifest, encodeManifest(content));
}

/**
 * Brings the one layer of a media type of an artifact into a file. The file appears whole or not at all; what was there
 * is replaced. `source_invalid` when the artifact has no such layer or several; `digest_mismatch` when it is larger
 * than `maxBytes` (default 1 GiB).
 */
export async function pullLayer(
  job: ArtifactAddress &
    Call & { readonly digest: string; readonly mediaType: string; readonly file: string; readonly maxBytes?: number },
): Promise<Descriptor> {
  const { client, repository, digest, signal } = job;
  const { content } = await client.getManifest(repository, digest, { signal });
  const layers = isIndex(content) ? [] : content.layers.filter((layer) => layer.mediaType === job.mediaType);
  const [layer] = layers;
  if (layer === undefined || layers.length > 1) {
    throw new ImsError(
      'source_invalid',
      `${repository}@${digest} has ${layers.length} layers of type ${job.mediaType}`,
    );
  }
  const limit = job.maxBytes ?? 2 ** 30;
  if (layer.size > limit) {
    throw new ImsError('digest_mismatch', `layer ${layer.digest} has ${layer.size} bytes, the limit is ${limit}`);
  }
  await mkdir(path.dirname(job.file), { recursive: true });
  const partial = `${job.file}.${randomUUID()}.partial`;
  try {
    await pipeline(
      client.getBlob(repository, layer, { signal }),
      createWriteStream(partial, { flags: 'wx', mode: 0o600 }),
    );
    await rename(partial, job.file);
  } finally {
    await rm(partial, { force: true });
  }
  return layer;
}

/** Bytes of an artifact as it is in a registry: its manifests, an index's children too, and each blob once. */
export async function sizeOfArtifact({
  client,
  repository,
  digest,
  signal,
}: ArtifactAddress & Call & { readonly digest: string }): Promise<number> {
  const sizes = new Map<string, number>();
  const visit = async (manifest: string): Promise<void> => {
    if (sizes.has(manifest)) return;
    const { content, descriptor } = await client.getManifest(repository, manifest, { signal });
    sizes.set(manifest, descriptor.size);
    if (isIndex(content)) for (const child of content.manifests) await visit(child.digest);
    else for (const blob of blobsOf(content)) sizes.set(blob.digest, blob.size);
  };
  await visit(digest);
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

async function describeFile(mediaType: string, file: string): Promise<Descriptor> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of createReadStream(file, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    size += chunk.length;
  }
  return { mediaType, digest: `sha256:${hash.digest('hex')}`, size };
}

/** A descriptor with nothing but what identifies the content. */
function pointer({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}
