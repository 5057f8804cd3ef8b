import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import { ImsError } from '#contracts';
import {
  isDigest,
  registrySource,
  RegistryClient,
  type ArtifactAddress,
  type ArtifactSource,
  type Credential,
} from '#oci';

export interface ImageName {
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

export const describeImage = ({ host, repository, reference }: ImageName): string =>
  `${host}/${repository}${isDigest(reference) ? '@' : ':'}${reference}`;

/** As docker and its relatives keep logins: `{"auths": {"registry.example.com": {"auth": base64("user:password")}}}`. */
interface AuthFile {
  readonly auths?: Readonly<Record<string, { readonly auth?: string }>>;
}

/** Registries of others, which images are copied from; with the logins of this host, each for its own registry alone. */
export class OutsideRegistries {
  constructor(
    private readonly ca?: string,
    private readonly authFile?: string,
  ) {}

  /** The digest that the name stands for now; `external_image_unavailable` when there is none. */
  async digestOf(image: ImageName, signal: AbortSignal): Promise<string> {
    const found = await asked(image, async () => {
      const { client, repository } = this.addressOf(image);
      return client.headManifest(repository, image.reference, { signal });
    });
    if (!found) throw new ImsError('external_image_unavailable', `${describeImage(image)} is not there`);
    return found.digest;
  }

  /** The source of a copy whose faults are the image's, while those of the target stay our registry's. */
  source(image: ImageName): ArtifactSource {
    const source = registrySource(this.addressOf(image));
    return {
      ...source,
      manifest: (digest, signal) => asked(image, () => source.manifest(digest, signal)),
      openBlob: async (blob, signal) => {
        const bytes = await asked(image, async () => source.openBlob(blob, signal));
        return Readable.from(faultsNamed(image, bytes), { objectMode: false });
      },
    };
  }

  /** Where an image of that host name is really served, and what docker.io puts before short names. */
  private addressOf({ host, repository }: ImageName): ArtifactAddress {
    const isHub = host === 'docker.io' || host === 'index.docker.io';
    const name = isHub ? 'registry-1.docker.io' : host;
    // Plain HTTP reaches this machine only; everything else is HTTPS.
    const scheme = /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/.test(name) ? 'http' : 'https';
    const { ca } = this;
    const credential = this.loginOf(isHub ? ['docker.io', 'index.docker.io', 'https://index.docker.io/v1/'] : [host]);
    const client = new RegistryClient({
      baseUrl: `${scheme}://${name}`,
      ...(ca === undefined ? {} : { ca }),
      ...(credential === undefined ? {} : { credential }),
    });
    return { client, repository: isHub && !repository.includes('/') ? `library/${repository}` : repository };
  }

  /** Read at each use: logins of clouds are renewed in the file every few hours. */
  private loginOf(names: readonly string[]): Credential | undefined {
    if (this.authFile === undefined) return undefined;
    const { auths = {} } = JSON.parse(readFileSync(this.authFile, 'utf8')) as AuthFile;
    const auth = names.map((name) => auths[name] ?? auths[`https://${name}`]).find((each) => each !== undefined)?.auth;
    if (auth === undefined) return undefined;
    const [username = '', ...password] = Buffer.from(auth, 'base64').toString('utf8').split(':');
    return { kind: 'basic', username, password: password.join(':') };
  }
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
  return new ImsError('external_image_unavailable', `${describeImage(image)}: ${error.detail}`, [], { cause: error });
}
