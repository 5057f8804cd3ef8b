import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { createHash } from 'node:crypto';
import { ImsError } from '#contracts';
import { copyFrom, type ArtifactSource, type CopyOptions, type CopyResult, type CopyTarget } from './copy.js';
import {
  digestOf,
  hexOf,
  isIndex,
  isRecord,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  parseManifest,
  type Descriptor,
} from './descriptor.js';

/**
 * Pushes an image from an OCI image layout directory (`oci-layout`, `index.json`, `blobs/sha256/…`), as builders write
 * it. `reference` picks the entry of index.json by its `org.opencontainers.image.ref.name`; without it there must be
 * exactly one. Digests are those of the layout, and every byte is checked against them. `source_invalid` when the
 * directory is not a whole layout.
 */
export async function pushOciLayout(
  job: CopyOptions & CopyTarget & { readonly layoutDir: string; readonly reference?: string | undefined },
): Promise<CopyResult> {
  const { layoutDir } = job;
  const version = json(await readSmall(path.join(layoutDir, 'oci-layout')));
  if (!isRecord(version) || version['imageLayoutVersion'] !== '1.0.0')
    throw invalid('oci-layout is not of version 1.0.0');
  const index = parseManifest(MEDIA_TYPE.index, await readSmall(path.join(layoutDir, 'index.json'))).content;
  const entries = isIndex(index) ? index.manifests : [];
  const named = entries.filter(
    (entry) =>
      job.reference === undefined || entry.annotations?.['org.opencontainers.image.ref.name'] === job.reference,
  );
  const [root] = named;
  if (root === undefined || named.length > 1) throw invalid(`index.json has ${named.length} entries to choose from`);
  const known = new Map<string, Descriptor>();
  const source = layoutSource(layoutDir, known);
  known.set(root.digest, root);
  return copyFrom(source, root.digest, job, { ...job, referrers: false });
}

/** `known` maps digest to descriptor: a layout keeps bytes without a media type, which the parent's pointer has. */
function layoutSource(layoutDir: string, known: Map<string, Descriptor>): ArtifactSource {
  const file = (digest: string): string => path.join(layoutDir, 'blobs', 'sha256', hexOf(digest));
  return {
    name: path.basename(layoutDir),
    manifest: async (digest) => {
      const bytes = await readSmall(file(digest));
      const mediaType = known.get(digest)?.mediaType;
      if (mediaType === undefined || digestOf(bytes) !== digest) throw invalid(`blob ${digest} is damaged`);
      const fetched = parseManifest(mediaType, bytes);
      if (isIndex(fetched.content)) for (const child of fetched.content.manifests) known.set(child.digest, child);
      return fetched;
    },
    openBlob: (blob) => fileBlob(file(blob.digest), blob),
  };
}

/**
 * A file as the source of an upload, checked as it flows: when size or digest are not those of the descriptor (the file
 * has changed under us), the stream fails with `digest_mismatch` before its last chunk.
 */
export function fileBlob(file: string, blob: Descriptor): Readable {
  return Readable.from(fileChunks(file, blob), { objectMode: false, highWaterMark: 256 * 1024 });
}

async function* fileChunks(file: string, blob: Descriptor): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  let length = 0;
  let held: Buffer | undefined;
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 256 * 1024 }) as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > blob.size) break;
      hash.update(chunk);
      if (held !== undefined) yield held;
      held = chunk;
    }
  } catch (error) {
    throw invalid(`${path.basename(file)} cannot be read`, error);
  }
  if (length !== blob.size || `sha256:${hash.digest('hex')}` !== blob.digest) {
    throw new ImsError('digest_mismatch', `file ${path.basename(file)} is not ${blob.digest} of ${blob.size} bytes`);
  }
  if (held !== undefined) yield held;
}

async function readSmall(file: string): Promise<Buffer> {
  try {
    const handle = await open(file, 'r');
    try {
      const { size } = await handle.stat();
      if (size > MAX_MANIFEST_BYTES) throw invalid(`${path.basename(file)} has ${size} bytes`);
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof ImsError) throw error;
    throw invalid(`${path.basename(file)} cannot be read`, error);
  }
}

function json(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch {
    return undefined;
  }
}

function invalid(why: string, cause?: unknown): ImsError {
  return new ImsError('source_invalid', `OCI layout: ${why}`, [], cause === undefined ? {} : { cause });
}
