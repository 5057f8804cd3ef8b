import { ImsError, type JsonObject } from '#contracts';
import { copyArtifact, isDigest, RegistryClient, type Descriptor } from '#oci';
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

/** Plain HTTP reaches this machine only; everything else is HTTPS. */
const baseUrlOf = (host: string): string =>
  /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?$/.test(host) ? `http://${host}` : `https://${host}`;

/** A copy of an image that others host, by digest, index and all: what they delete or replace later is of no effect. */
export class ExternalImage implements KindBuilder {
  async build({ step }: BuildContext): Promise<JsonObject> {
    const image = this.imageOf(step.statement.spec.image);
    const found = await this.asked(image, () =>
      this.clientOf(image).headManifest(image.repository, image.reference, { signal: step.signal }),
    );
    if (!found) throw new ImsError('external_image_unavailable', `${describe(image)} is not there`);
    step.log('info', `${describe(image)} is ${found.digest}`);
    return { digest: found.digest };
  }

  async push({ step }: BuildContext, target: PushTarget): Promise<Descriptor> {
    const image = this.imageOf(step.statement.spec.image);
    const digest = step.outputOf('build')?.['digest'];
    if (typeof digest !== 'string') throw new ImsError('agent_error', 'the build step left no digest');
    const copied = await this.asked(image, () =>
      copyArtifact({
        from: { client: this.clientOf(image), repository: image.repository, digest },
        to: target,
        referrers: false,
        signal: step.signal,
      }),
    );
    step.log('info', `copied ${copied.bytesCopied} bytes`);
    return { digest: copied.digest, mediaType: copied.mediaType, size: copied.size };
  }

  private imageOf(text: string | undefined): ImageName {
    if (text === undefined) throw new ImsError('source_invalid', 'the component names no image');
    return parseImage(text);
  }

  private clientOf({ host }: ImageName): RegistryClient {
    return new RegistryClient({ baseUrl: baseUrlOf(host) });
  }

  /** What the outside registry does wrong is a failure of the image, not of our registry. */
  private async asked<T>(image: ImageName, call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      if (!(error instanceof ImsError) || !/^(registry_|artifact_missing)/.test(error.code)) throw error;
      throw new ImsError('external_image_unavailable', `${describe(image)}: ${error.detail}`, [], { cause: error });
    }
  }
}

const describe = ({ host, repository, reference }: ImageName): string =>
  `${host}/${repository}${isDigest(reference) ? '@' : ':'}${reference}`;
