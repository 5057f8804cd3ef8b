import { createHash } from 'node:crypto';
import { ImsError } from '#contracts';

/** Media types of the OCI image specification, and of Docker's own formats that came before it. */
export const MEDIA_TYPE = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  empty: 'application/vnd.oci.empty.v1+json',
} as const;

/** What a client says that it understands; without it a registry may answer in a format of 2015. */
export const MANIFEST_ACCEPT = [
  MEDIA_TYPE.manifest,
  MEDIA_TYPE.index,
  MEDIA_TYPE.dockerManifest,
  MEDIA_TYPE.dockerIndex,
].join(', ');

/** The specification lets a registry refuse larger manifests; nobody needs one. */
export const MAX_MANIFEST_BYTES = 4 * 1024 * 1024;
const MAX_ENTRIES = 1_000;
/** 1 TiB: a size above it is a mistake or an attack on whoever allocates by it. */
const MAX_BLOB_BYTES = 2 ** 40;

export interface Platform {
  readonly os: string;
  readonly architecture: string;
  readonly variant?: string;
}

/** A pointer to content: its media type, digest and exact size. Field names are those of the OCI specification. */
export interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: Platform;
}

export interface ImageManifest {
  readonly schemaVersion: 2;
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface ImageIndex {
  readonly schemaVersion: 2;
  readonly mediaType?: string;
  readonly artifactType?: string;
  readonly manifests: readonly Descriptor[];
  readonly subject?: Descriptor;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A manifest or index with the exact bytes that its digest is made of. */
export interface FetchedManifest {
  readonly descriptor: Descriptor;
  readonly bytes: Buffer;
  readonly content: ImageManifest | ImageIndex;
}

const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** True for `sha256:<64 hex digits>`, the one algorithm that this product uses. */
export function isDigest(text: string): boolean {
  return DIGEST.test(text);
}

/** The digest of bytes, `sha256:<hex>`. */
export function digestOf(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** The hex digits of a digest. Throws `invalid_request` when it is not one. */
export function hexOf(digest: string): string {
  if (!isDigest(digest)) throw new ImsError('invalid_request', `not a sha256 digest: ${digest.slice(0, 100)}`);
  return digest.slice('sha256:'.length);
}

export function describe(mediaType: string, bytes: Uint8Array): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

export function isIndex(content: ImageManifest | ImageIndex): content is ImageIndex {
  return 'manifests' in content;
}

function isIndexType(mediaType: string): boolean {
  return mediaType === MEDIA_TYPE.index || mediaType === MEDIA_TYPE.dockerIndex;
}

/** The bytes of a manifest or index. Keys stay in the order in which they were written, so equal input gives equal bytes. */
export function encodeManifest(content: ImageManifest | ImageIndex): Buffer {
  return Buffer.from(JSON.stringify(content));
}

/** Annotations in the order of their keys: the same set gives the same bytes whoever built the object. */
export function sortedAnnotations(annotations: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(annotations).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
}

/** The blobs that a manifest needs: its configuration and its layers. */
export function blobsOf(manifest: ImageManifest): readonly Descriptor[] {
  return [manifest.config, ...manifest.layers];
}

/**
 * Parses manifest bytes whose media type is known from outside (descriptor or Content-Type).
 * Throws `source_invalid` when they are not a well-formed manifest or index of that type. A body that names another
 * type than the outside is refused: the same bytes read as two things is how one digest comes to mean two artifacts
 * (CVE-2021-41190).
 */
export function parseManifest(mediaType: string, bytes: Buffer): FetchedManifest {
  const descriptor = describe(mediaType, bytes);
  const bad = (why: string): ImsError => new ImsError('source_invalid', `manifest ${descriptor.digest}: ${why}`);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw bad('is not JSON');
  }
  if (!isRecord(value)) throw bad('is not an object');
  if (value['schemaVersion'] !== 2) throw bad('schemaVersion is not 2');
  const named = value['mediaType'];
  if (named !== undefined && named !== mediaType) throw bad(`came as ${mediaType} but names another media type`);
  const wantsIndex = isIndexType(mediaType);
  if (!wantsIndex && mediaType !== MEDIA_TYPE.manifest && mediaType !== MEDIA_TYPE.dockerManifest) {
    throw bad(`has the unknown media type ${mediaType}`);
  }
  if (wantsIndex ? 'layers' in value || 'config' in value : 'manifests' in value) throw bad('is both index and image');
  const children = wantsIndex ? value['manifests'] : value['layers'];
  if (!Array.isArray(children)) throw bad(`has no ${wantsIndex ? 'manifests' : 'layers'}`);
  if (children.length > MAX_ENTRIES) throw bad(`has more than ${MAX_ENTRIES} entries`);
  const pointers: unknown[] = [...(children as unknown[])];
  if (!wantsIndex) pointers.push(value['config']);
  if (value['subject'] !== undefined) pointers.push(value['subject']);
  for (const pointer of pointers) {
    if (!isDescriptor(pointer)) throw bad('has a descriptor without a valid media type, digest or size');
  }
  return { descriptor, bytes, content: value as unknown as ImageManifest | ImageIndex };
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isDescriptor(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { mediaType, digest, size } = value;
  return (
    typeof mediaType === 'string' &&
    typeof digest === 'string' &&
    isDigest(digest) &&
    typeof size === 'number' &&
    Number.isSafeInteger(size) &&
    size >= 0 &&
    size <= MAX_BLOB_BYTES
  );
}
