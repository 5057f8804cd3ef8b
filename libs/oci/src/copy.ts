import { Readable } from 'node:stream';
import { ImsError } from '#contracts';
import {
  blobsOf,
  describe,
  encodeManifest,
  isIndex,
  type Descriptor,
  type FetchedManifest,
  type ImageIndex,
} from './descriptor.js';
import { listReferrers, putReferrer, type ArtifactAddress } from './referrers.js';

/**
 * Where a copy reads from: a repository, an OCI layout on disk, a download plan. Manifests and blobs must be checked
 * against their digest by the source.
 */
export interface ArtifactSource {
  /** As errors and logs name it. */
  readonly name: string;
  readonly manifest: (digest: string, signal?: AbortSignal) => Promise<FetchedManifest>;
  readonly openBlob: (blob: Descriptor, signal?: AbortSignal) => Readable | Promise<Readable>;
  readonly referrers?: (digest: string, signal?: AbortSignal) => Promise<readonly Descriptor[]>;
  /** Set when the source is a repository that a registry of this origin could mount from. */
  readonly mountable?: { readonly origin: string; readonly repository: string };
}

export interface CopyProgress {
  readonly blobsDone: number;
  readonly blobsTotal: number;
  readonly bytesDone: number;
  readonly bytesTotal: number;
}

export interface CopyOptions {
  /**
   * Keep only these children of an index, as `os/architecture` or `os/architecture/variant`. The result is another
   * index with another digest, to which the referrers of the whole do not belong. Default: the index stays whole.
   */
  readonly platforms?: readonly string[] | undefined;
  /** Blobs in flight; default 3, the best of 1, 3 and 8 on two cores. */
  readonly concurrency?: number | undefined;
  /** Copy what refers to the artifact (signatures) too; default true. */
  readonly referrers?: boolean | undefined;
  /** Refuse artifacts whose blobs are larger in all; default 64 GiB. */
  readonly maxBytes?: number | undefined;
  /** Called after each blob, and during large ones after each MiB. */
  readonly onProgress?: ((progress: CopyProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface CopyResult {
  /** What to deploy: the digest asked for, unless `platforms` made another index. */
  readonly digest: string;
  readonly mediaType: string;
  readonly size: number;
  /** Bytes of blobs and manifests that were sent; 0 when everything was there. */
  readonly bytesCopied: number;
  readonly blobsCopied: number;
  /** Blobs that were there, or were mounted from another repository of the same registry. */
  readonly blobsSkipped: number;
  /** Manifests that were stored, referrers included. */
  readonly manifests: number;
}

export interface CopyTarget extends ArtifactAddress {
  /** Also point this tag at the result. */
  readonly tag?: string | undefined;
}

const MAX_MANIFESTS = 256;
const MAX_DEPTH = 4;
const MAX_COPY_BYTES = 64 * 2 ** 30;
const PROGRESS_BYTES = 1024 * 1024;

/**
 * Copies one artifact by digest between repositories of any registries, with everything it consists of and what refers
 * to it. What is there is skipped, so a copy that was killed goes on where it was, and a second copy sends nothing.
 * Order: blobs, children, the artifact, its referrers; an artifact that can be seen is therefore whole. Memory does not
 * grow with the size: at most `concurrency` streams.
 */
export async function copyArtifact(
  job: CopyOptions & { readonly from: ArtifactAddress & { readonly digest: string }; readonly to: CopyTarget },
): Promise<CopyResult> {
  return copyFrom(registrySource(job.from), job.from.digest, job.to, job);
}

/** A repository as the source of a copy. */
export function registrySource(from: ArtifactAddress): ArtifactSource {
  const { client, repository } = from;
  return {
    name: `${client.baseUrl.host}/${repository}`,
    manifest: (digest, signal) => client.getManifest(repository, digest, { signal }),
    openBlob: (blob, signal) => client.getBlob(repository, blob, { signal }),
    referrers: (digest, signal) => listReferrers(from, digest, { signal }),
    mountable: { origin: client.baseUrl.origin, repository },
  };
}

const REMEMBERED_BLOBS = 64;
const REMEMBERED_BYTES = 64 * 1024;

/**
 * The same source, for one who reads an artifact to verify it and again to copy it: manifests, the list of referrers
 * and small blobs (at most 64 of 64 KiB) are read once. They are checked by digest, which never changes its meaning.
 */
export function remembering(source: ArtifactSource): ArtifactSource {
  const once = <T>(read: (digest: string, signal?: AbortSignal) => Promise<T>) => {
    const known = new Map<string, Promise<T>>();
    return (digest: string, signal?: AbortSignal): Promise<T> => {
      const reading = known.get(digest) ?? read(digest, signal);
      known.set(digest, reading);
      reading.catch(() => known.delete(digest));
      return reading;
    };
  };
  const blobs = new Map<string, Buffer>();
  return {
    ...source,
    manifest: once(source.manifest),
    ...(source.referrers === undefined ? {} : { referrers: once(source.referrers) }),
    openBlob: async (blob, signal) => {
      const known = blobs.get(blob.digest);
      if (known === undefined && blob.size > REMEMBERED_BYTES) return source.openBlob(blob, signal);
      const bytes = known ?? Buffer.concat(await (await source.openBlob(blob, signal)).toArray());
      if (blobs.size < REMEMBERED_BLOBS) blobs.set(blob.digest, bytes);
      return Readable.from([bytes], { objectMode: false });
    },
  };
}

/** `copyArtifact` from any source. */
export async function copyFrom(
  source: ArtifactSource,
  digest: string,
  to: CopyTarget,
  options: CopyOptions = {},
): Promise<CopyResult> {
  return new Copy(source, to, options).run(digest);
}

/** What has to move, found by reading manifests alone. */
interface Plan {
  readonly blobs: Map<string, Descriptor>;
  /** Children before their parents. */
  readonly manifests: FetchedManifest[];
}

class Copy {
  private readonly signal: AbortSignal | undefined;
  private bytesCopied = 0;
  private blobsCopied = 0;
  private blobsSkipped = 0;
  private manifestsStored = 0;
  private manifestsRead = 0;
  private bytesPlanned = 0;
  private progress: { -readonly [K in keyof CopyProgress]: CopyProgress[K] } = {
    blobsDone: 0,
    blobsTotal: 0,
    bytesDone: 0,
    bytesTotal: 0,
  };

  constructor(
    private readonly source: ArtifactSource,
    private readonly to: CopyTarget,
    private readonly options: CopyOptions,
  ) {
    this.signal = options.signal;
  }

  async run(digest: string): Promise<CopyResult> {
    const chosen = this.options.platforms ? await this.choose(digest, this.options.platforms) : undefined;
    const { client, repository, tag } = this.to;
    const call = { signal: this.signal };
    let manifest = chosen;
    let root = await client.headManifest(repository, chosen?.descriptor.digest ?? digest, call);
    if (root === undefined) {
      manifest ??= await this.read(digest);
      await this.moveTree(manifest);
      root = manifest.descriptor;
    }
    if (tag !== undefined && (await client.headManifest(repository, tag, call))?.digest !== root.digest) {
      manifest ??= await this.read(digest);
      await client.putManifest(repository, manifest, { ...call, tag });
    }
    // A filtered index is another artifact: what was said about the whole was not said about it.
    if (root.digest === digest) await this.moveReferrers(digest);
    const { bytesCopied, blobsCopied, blobsSkipped, manifestsStored } = this;
    return { ...root, bytesCopied, blobsCopied, blobsSkipped, manifests: manifestsStored };
  }

  /** An artifact that the target does not have: its blobs, its children and their referrers, then itself. */
  private async moveTree(root: FetchedManifest): Promise<void> {
    const plan: Plan = { blobs: new Map(), manifests: [] };
    await this.walk(root, plan, 0);
    await this.moveBlobs([...plan.blobs.values()]);
    for (const manifest of plan.manifests) {
      await this.to.client.putManifest(this.to.repository, manifest, { signal: this.signal });
      this.countManifest(manifest);
      if (manifest !== root) await this.moveReferrers(manifest.descriptor.digest);
    }
  }

  private async walk(manifest: FetchedManifest, plan: Plan, depth: number): Promise<void> {
    const { content } = manifest;
    if (depth > MAX_DEPTH) throw new ImsError('source_invalid', `${manifest.descriptor.digest} is nested too deep`);
    if (isIndex(content)) {
      for (const child of content.manifests) {
        if (plan.manifests.some(({ descriptor }) => descriptor.digest === child.digest)) continue;
        const there = await this.to.client.headManifest(this.to.repository, child.digest, { signal: this.signal });
        if (there === undefined) await this.walk(await this.read(child.digest), plan, depth + 1);
      }
    } else {
      for (const blob of blobsOf(content)) {
        if (plan.blobs.has(blob.digest)) continue;
        plan.blobs.set(blob.digest, blob);
        this.bytesPlanned += blob.size;
      }
      const limit = this.options.maxBytes ?? MAX_COPY_BYTES;
      if (this.bytesPlanned > limit) {
        throw new ImsError(
          'source_invalid',
          `the artifact has ${this.bytesPlanned} bytes or more, the limit is ${limit}`,
        );
      }
    }
    plan.manifests.push(manifest);
  }

  private async moveBlobs(blobs: readonly Descriptor[]): Promise<void> {
    this.progress.blobsTotal += blobs.length;
    this.progress.bytesTotal += blobs.reduce((sum, { size }) => sum + size, 0);
    await forEachAtOnce(this.options.concurrency ?? 3, blobs, this.signal, (blob, signal) =>
      this.moveBlob(blob, signal),
    );
  }

  private async moveBlob(blob: Descriptor, signal: AbortSignal): Promise<void> {
    const { client, repository } = this.to;
    const { mountable } = this.source;
    let flowed = 0;
    const outcome = await client.uploadBlob(
      repository,
      blob,
      async () => {
        this.progress.bytesDone -= flowed;
        flowed = 0;
        return this.counted(await this.source.openBlob(blob, signal), (bytes) => {
          flowed += bytes;
          return flowed < blob.size;
        });
      },
      { signal, mountFrom: mountable?.origin === client.baseUrl.origin ? mountable.repository : undefined },
    );
    if (outcome === 'uploaded') {
      this.blobsCopied += 1;
      this.bytesCopied += blob.size;
    } else {
      this.blobsSkipped += 1;
    }
    this.progress.blobsDone += 1;
    this.progress.bytesDone += blob.size - flowed;
    this.report();
  }

  /** The same bytes, reported as they flow. */
  private counted(stream: Readable, more: (bytes: number) => boolean): Readable {
    const chunks = async function* (this: Copy): AsyncGenerator<Buffer> {
      let unreported = 0;
      for await (const chunk of stream as AsyncIterable<Buffer>) {
        unreported += chunk.length;
        this.progress.bytesDone += chunk.length;
        if (more(chunk.length) && unreported >= PROGRESS_BYTES) {
          unreported = 0;
          this.report();
        }
        yield chunk;
      }
    };
    return Readable.from(chunks.call(this), { objectMode: false });
  }

  /** Referrers of one subject. Those that the target lists are whole: a referrer is listed after it is stored. */
  private async moveReferrers(subjectDigest: string): Promise<void> {
    if (this.source.referrers === undefined || this.options.referrers === false) return;
    const listed = await this.source.referrers(subjectDigest, this.signal);
    if (listed.length === 0) return;
    const there = new Set((await listReferrers(this.to, subjectDigest, { signal: this.signal })).map((r) => r.digest));
    for (const { digest } of listed.filter((referrer) => !there.has(referrer.digest))) {
      const referrer = await this.read(digest);
      // The fall-back list is a plain tag: what does not say itself that it refers to the subject does not.
      if (referrer.content.subject?.digest !== subjectDigest || isIndex(referrer.content)) continue;
      const plan: Plan = { blobs: new Map(), manifests: [] };
      await this.walk(referrer, plan, 0);
      await this.moveBlobs([...plan.blobs.values()]);
      await putReferrer(this.to, subjectDigest, referrer, { signal: this.signal });
      this.countManifest(referrer);
    }
  }

  /** The index with only the platforms asked for, or the artifact as it is when it is no index or keeps all. */
  private async choose(digest: string, platforms: readonly string[]): Promise<FetchedManifest> {
    const whole = await this.read(digest);
    const { content } = whole;
    if (!isIndex(content)) return whole;
    const kept = content.manifests.filter((child) => matches(child, platforms));
    for (const platform of platforms) {
      if (!kept.some((child) => matches(child, [platform]))) {
        throw new ImsError('artifact_missing', `${digest} has no image for ${platform}`);
      }
    }
    const keptDigests = new Set(kept.map((child) => child.digest));
    // BuildKit puts the attestations of a child beside it, on the platform unknown/unknown.
    const manifests = content.manifests.filter(
      (child) =>
        keptDigests.has(child.digest) || keptDigests.has(child.annotations?.['vnd.docker.reference.digest'] ?? ''),
    );
    if (manifests.length === content.manifests.length) return whole;
    const index: ImageIndex = {
      schemaVersion: 2,
      ...(content.mediaType === undefined ? {} : { mediaType: content.mediaType }),
      ...(content.artifactType === undefined ? {} : { artifactType: content.artifactType }),
      manifests,
      ...(content.annotations ? { annotations: content.annotations } : {}),
    };
    const bytes = encodeManifest(index);
    return { descriptor: describe(whole.descriptor.mediaType, bytes), bytes, content: index };
  }

  private async read(digest: string): Promise<FetchedManifest> {
    this.manifestsRead += 1;
    if (this.manifestsRead > MAX_MANIFESTS) {
      throw new ImsError('source_invalid', `the artifact has more than ${MAX_MANIFESTS} manifests`);
    }
    return this.source.manifest(digest, this.signal);
  }

  private countManifest(manifest: FetchedManifest): void {
    this.manifestsStored += 1;
    this.bytesCopied += manifest.bytes.length;
  }

  private report(): void {
    this.options.onProgress?.({ ...this.progress });
  }
}

function matches({ platform }: Descriptor, wanted: readonly string[]): boolean {
  if (platform === undefined) return false;
  const name = `${platform.os}/${platform.architecture}`;
  return wanted.some((want) => want === name || want === `${name}/${platform.variant ?? ''}`);
}

/** Runs `work` on all items, so many at once. The first failure stops the others and is what rejects. */
async function forEachAtOnce<T>(
  limit: number,
  items: readonly T[],
  signal: AbortSignal | undefined,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  const queue = items.values();
  let failure: { readonly error: unknown } | undefined;
  const worker = async (): Promise<void> => {
    for (const item of queue) {
      if (failure) return;
      try {
        await work(item, either);
      } catch (error) {
        failure ??= { error };
        stop.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Math.min(limit, items.length)) }, worker));
  if (failure) throw failure.error;
}
