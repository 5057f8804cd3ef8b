import { Readable } from 'node:stream';
import { ImsError, type JsonObject } from '#contracts';
import {
  copyFrom,
  isDigest,
  registrySource,
  RegistryClient,
  type ArtifactAddress,
  type ArtifactSource,
  type Descriptor,
} from '#oci';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';

interface ImageName {
  readonly host: string;
  readonly repository: string;
  /** Digest or tag. */
  readonly reference: string;
}

/** `host[:port]/repository@sha256:…` or `…:tag`. The host is never guessed: a short name means another thing elsewhere. */
export function parseImage(text: string): ImageName {
  const [name = '', digest] = text.split('@', 2);
  const slash = name.indexOf('/');
  const host = name.slice(0, slash);
  const path = name.slice(slash + 1);
  const colon = path.lastIndexOf(':');
  const repository = colon > 0 ? path.slice(0, colon) : path;
  const tag = colon > 0 ? path.slice(colon + 1) : 'latest';
  const valid =
    slash > 0 && /[.:]|^localhost$/.test(host) && repository !== '' && (digest === undefined || isDigest(digest));
  if (!valid)
    throw new ImsError('external_image_unavailable', `${text} is not host/repository@sha256:… or host/repository:tag`);
  return { host, repository, reference: digest ?? tag };
}

/** Where an image of that host name is really served, and what docker.io puts before short names. */
function sourceOf({ host, repository }: ImageName, ca: string | undefined): ArtifactAddress {
  const isHub = host === 'docker.io' || host === 'index.docker.io';
  const name = isHub ? 'registry-1.docker.io' : host;
  // Plain HTTP reaches this machine only; everything else is HTTPS.
  const scheme = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/.test(name) ? 'http' : 'https';
  const client = new RegistryClient({ baseUrl: `${scheme}://${name}`, ...(ca === undefined ? {} : { ca }) });
  return { client, repository: isHub && !repository.includes('/') ? `library/${repository}` : repository };
}

/** A copy of an image that others host, by digest, index and all: what they delete or replace later is of no effect. */
export class ExternalImage implements KindBuilder {
  constructor(private readonly ca?: string) {}

  async build({ step }: BuildContext): Promise<JsonObject> {
    const image = imageOf(step.statement.spec.image);
    const found = await asked(image, async () => {
      const { client, repository } = sourceOf(image, this.ca);
      return client.headManifest(repository, image.reference, { signal: step.signal });
    });
    if (!found) throw new ImsError('external_image_unavailable', `${describe(image)} is not there`);
    step.log('info', `${describe(image)} is ${found.digest}`);
    return { digest: found.digest };
  }

  async push({ step }: BuildContext, target: PushTarget): Promise<Descriptor> {
    const image = imageOf(step.statement.spec.image);
    const digest = step.outputOf('build')?.['digest'];
    if (typeof digest !== 'string') throw new ImsError('agent_error', 'the build step left no digest');
    const options = { referrers: false, signal: step.signal };
    const copied = await copyFrom(outside(image, sourceOf(image, this.ca)), digest, target, options);
    step.log('info', `${copied.blobsCopied} blobs pushed`);
    return { digest: copied.digest, mediaType: copied.mediaType, size: copied.size };
  }
}

function imageOf(text: string | undefined): ImageName {
  if (text === undefined) throw new ImsError('source_invalid', 'the component names no image');
  return parseImage(text);
}

/** The source of a copy whose faults are the image's, while those of the target stay our registry's. */
function outside(image: ImageName, from: ArtifactAddress): ArtifactSource {
  const source = registrySource(from);
  return {
    ...source,
    manifest: (digest, signal) => asked(image, () => source.manifest(digest, signal)),
    openBlob: async (blob, signal) => {
      const bytes = await asked(image, async () => source.openBlob(blob, signal));
      return Readable.from(faultsNamed(image, bytes), { objectMode: false });
    },
  };
}

async function* faultsNamed(image: ImageName, bytes: Readable): AsyncGenerator<Buffer> {
  try {
    yield* bytes as AsyncIterable<Buffer>;
  } catch (error) {
    throw named(image, error);
  }
}

async function asked<T>(image: ImageName, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw named(image, error);
  }
}

/** Bytes that are not those of the digest stay `digest_mismatch`: a human has to look at that. */
function named(image: ImageName, error: unknown): unknown {
  if (!(error instanceof ImsError) || !/^(registry_|artifact_missing|invalid_request)/.test(error.code)) return error;
  return new ImsError('external_image_unavailable', `${describe(image)}: ${error.detail}`, [], { cause: error });
}

const describe = ({ host, repository, reference }: ImageName): string =>
  `${host}/${repository}${isDigest(reference) ? '@' : ':'}${reference}`;
