import { ImsError } from '#contracts';
import { type RegistryClient } from './client.js';
import {
  describe,
  encodeManifest,
  hexOf,
  MEDIA_TYPE,
  type Descriptor,
  type FetchedManifest,
  type ImageIndex,
} from './descriptor.js';
import { type Call } from './session.js';

export interface ArtifactAddress {
  readonly client: RegistryClient;
  readonly repository: string;
}

/** A subject with more referrers than this is not honest; each one costs requests. */
const MAX_REFERRERS = 100;

/** The tag under which registries without the referrers API keep the list: `sha256-<hex>`. */
export function fallbackTag(digest: string): string {
  return `sha256-${hexOf(digest)}`;
}

/**
 * What refers to a digest (signatures, attestations), by the referrers API where the registry has it, else by the
 * fall-back tag. Filter on the manifests themselves, not on the list's `artifactType`: cosign writes the type of the
 * empty configuration there. `source_invalid` above 100.
 */
export async function listReferrers(
  from: ArtifactAddress,
  digest: string,
  call: Call = {},
): Promise<readonly Descriptor[]> {
  const listed =
    (await from.client.referrersByApi(from.repository, digest, call)) ?? (await readFallback(from, digest, call));
  if (listed.length > MAX_REFERRERS) {
    throw new ImsError('source_invalid', `${from.repository}@${digest} has more than ${MAX_REFERRERS} referrers`);
  }
  return listed;
}

/**
 * Stores a manifest that has a `subject`, and lists it with that subject: the registry does where it has the referrers
 * API, else the fall-back tag is written. `conflict` when writers in other processes keep taking the entry out.
 */
export async function putReferrer(
  to: ArtifactAddress,
  subjectDigest: string,
  referrer: FetchedManifest,
  call: Call = {},
): Promise<void> {
  const { indexed } = await to.client.putManifest(to.repository, referrer, call);
  if (!indexed) await addToFallback(to, subjectDigest, referrer, call);
}

async function readFallback(from: ArtifactAddress, digest: string, call: Call): Promise<readonly Descriptor[]> {
  try {
    const { content } = await from.client.getManifest(from.repository, fallbackTag(digest), call);
    return 'manifests' in content ? content.manifests : [];
  } catch (error) {
    if (error instanceof ImsError && error.code === 'artifact_missing') return [];
    throw error;
  }
}

/** The last writer of each list in this process. Registries have no compare-and-swap on tags. */
const writers = new Map<string, Promise<void>>();

/**
 * Read, add, write back. Writers of one list wait for one another within this process; a writer in another process can
 * still be overtaken, so the list is read once more afterwards and written again when the entry is gone.
 */
async function addToFallback(
  to: ArtifactAddress,
  subjectDigest: string,
  referrer: FetchedManifest,
  call: Call,
): Promise<void> {
  const key = `${to.client.baseUrl.origin} ${to.repository} ${subjectDigest}`;
  const before = writers.get(key) ?? Promise.resolve();
  const mine = before.then(() => writeFallback(to, subjectDigest, referrer, call));
  // What a later writer waits for must not fail it.
  const settled = mine.catch(() => undefined);
  writers.set(key, settled);
  try {
    await mine;
  } finally {
    if (writers.get(key) === settled) writers.delete(key);
  }
}

async function writeFallback(
  to: ArtifactAddress,
  subjectDigest: string,
  referrer: FetchedManifest,
  call: Call,
): Promise<void> {
  const { content, descriptor } = referrer;
  const entry: Descriptor = {
    ...descriptor,
    ...('config' in content ? { artifactType: content.artifactType ?? content.config.mediaType } : {}),
    ...(content.annotations ? { annotations: content.annotations } : {}),
  };
  for (let round = 0; round < 3; round += 1) {
    const listed = await readFallback(to, subjectDigest, call);
    if (listed.some(({ digest }) => digest === descriptor.digest)) return;
    const index: ImageIndex = { schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: [...listed, entry] };
    const bytes = encodeManifest(index);
    await to.client.putManifest(
      to.repository,
      { descriptor: describe(MEDIA_TYPE.index, bytes), bytes },
      { ...call, tag: fallbackTag(subjectDigest) },
    );
  }
  const listed = await readFallback(to, subjectDigest, call);
  if (!listed.some(({ digest }) => digest === descriptor.digest)) {
    throw new ImsError(
      'conflict',
      `the referrers of ${to.repository}@${subjectDigest} are written by somebody else too`,
    );
  }
}
