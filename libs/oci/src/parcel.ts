import { ImsError } from '#contracts';
import {
  describe,
  encodeManifest,
  isIndex,
  MEDIA_TYPE,
  parseManifest,
  type Descriptor,
  type ImageIndex,
} from './descriptor.js';
import { type ArtifactAddress } from './referrers.js';
import { type Call } from './session.js';

/**
 * An artifact and the images that it names, as one index: whoever copies or signs the index has copied or signed all of
 * it, and no image can be exchanged, since the index knows each by digest.
 */
const PARCEL_TYPE = 'application/vnd.ims.parcel.v1';
/** JSON list of the names under which the artifact knows an image. */
const NAMES = 'dev.vendor-cloud.image-names';
const NAMES_MAX = 1_000;

export interface ParcelImage {
  readonly names: readonly string[];
  readonly image: Descriptor;
}

/** Stores the index; artifact and images are in the repository already. The same parts give the same digest. */
export async function pushParcel(
  job: ArtifactAddress & Call & { readonly artifact: Descriptor; readonly images: readonly ParcelImage[] },
): Promise<Descriptor> {
  const { client, repository, signal, artifact, images } = job;
  const byDigest = [...images].sort((one, other) => (one.image.digest < other.image.digest ? -1 : 1));
  const content: ImageIndex = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.index,
    artifactType: PARCEL_TYPE,
    manifests: [
      bare(artifact),
      ...byDigest.map(({ names, image }) => ({
        ...bare(image),
        annotations: { [NAMES]: JSON.stringify([...names].sort()) },
      })),
    ],
  };
  const bytes = encodeManifest(content);
  await client.putManifest(repository, parseManifest(MEDIA_TYPE.index, bytes), { signal });
  return describe(MEDIA_TYPE.index, bytes);
}
const bare = ({ mediaType, digest, size }: Descriptor): Descriptor => ({ mediaType, digest, size });

/** What a digest stands for: the artifact itself, and the digests of the images that came with it, by name. */
export async function openParcel(
  job: ArtifactAddress & Call & { readonly digest: string },
): Promise<{ readonly digest: string; readonly images: ReadonlyMap<string, string> }> {
  const { client, repository, digest, signal } = job;
  const { content } = await client.getManifest(repository, digest, { signal });
  if (!isIndex(content) || content.artifactType !== PARCEL_TYPE) return { digest, images: new Map() };
  const [artifact, ...rest] = content.manifests;
  if (artifact === undefined) throw new ImsError('source_invalid', `${repository}@${digest} is an empty parcel`);
  const images = rest.flatMap(({ digest: image, annotations = {} }) =>
    namesOf(annotations[NAMES]).map((name) => [name, image] as const),
  );
  return { digest: artifact.digest, images: new Map(images) };
}

function namesOf(text = '[]'): string[] {
  const names: unknown = JSON.parse(text);
  const valid = Array.isArray(names) && names.length <= NAMES_MAX && names.every((name) => typeof name === 'string');
  if (!valid) throw new ImsError('source_invalid', 'the names of an image in a parcel are not a list of texts');
  return names;
}
