import {
  BatchGetImageCommand,
  GetDownloadUrlForLayerCommand,
  ListImageReferrersCommand,
  type ECRClient,
} from '@aws-sdk/client-ecr';
import { ImsError, LIMITS, type DownloadPlan } from '#contracts';
import { isIndex, MEDIA_TYPE, parseManifest, type FetchedManifest } from '#oci';
import { askAws } from './aws.js';

interface Wanted {
  readonly registryId: string;
  readonly repositoryName: string;
  readonly digest: string;
}

const ACCEPTED = [MEDIA_TYPE.manifest, MEDIA_TYPE.index, MEDIA_TYPE.dockerManifest, MEDIA_TYPE.dockerIndex];
/** BatchGetImage takes no more. */
const BATCH = 100;
const REFERRERS_PAGE = 50;
const MAX_REFERRERS = 100;
/** ECR allows thousands of these calls a second. An agent waits 10 s: 2,000 URLs at 50 ms a call take 3 s. */
const AT_ONCE = 32;
/** ECR documents no life of its URLs. One that does not say is promised for no longer than a registry token. */
const UNKNOWN_LIFE_MS = LIMITS.registryTokenMs;

/**
 * Everything that one digest consists of, and what refers to it or to its children. Every manifest is checked against
 * its digest here already. `artifact_missing` when something is not there, `source_invalid` when it is too large.
 * `expiresAt`: when the first URL ends.
 */
export async function planDownload(ecr: ECRClient, wanted: Wanted): Promise<{ plan: DownloadPlan; expiresAt: Date }> {
  const found = new Map<string, FetchedManifest>();
  let level: readonly string[] = [wanted.digest];
  while (level.length > 0) {
    const manifests = await fetchAll(ecr, wanted, level);
    for (const manifest of manifests) found.set(manifest.descriptor.digest, manifest);
    checkSize(wanted, found);
    const children = manifests.flatMap(({ content }) => (isIndex(content) ? content.manifests : []));
    level = [...new Set(children.map(({ digest }) => digest))].filter((digest) => !found.has(digest));
  }
  const subjects = [...found.keys()];
  const listed = await eachAtOnce(subjects, (digest) => referrersOf(ecr, wanted, digest));
  const referrers = [...new Set(listed.flat())].filter((digest) => !found.has(digest));
  for (const manifest of await fetchAll(ecr, wanted, referrers)) found.set(manifest.descriptor.digest, manifest);
  checkSize(wanted, found);

  const digests = new Set<string>();
  for (const { content } of found.values()) {
    if (isIndex(content)) continue;
    for (const { digest } of [content.config, ...content.layers]) digests.add(digest);
  }
  if (digests.size > LIMITS.planBlobs) throw tooLarge(wanted, `${digests.size} blobs`);
  const urls = await eachAtOnce([...digests], async (layerDigest) => {
    const { registryId, repositoryName } = wanted;
    const { downloadUrl } = await askAws(() =>
      ecr.send(new GetDownloadUrlForLayerCommand({ registryId, repositoryName, layerDigest })),
    );
    if (downloadUrl === undefined) throw new ImsError('artifact_missing', `${repositoryName}@${layerDigest}: no URL`);
    return { digest: layerDigest, url: downloadUrl };
  });
  const plan: DownloadPlan = {
    digest: wanted.digest,
    manifests: [...found.values()].map(({ descriptor: { digest, mediaType }, bytes }) => ({
      digest,
      media_type: mediaType,
      content_base64: bytes.toString('base64'),
    })),
    blobs: urls,
  };
  return { plan, expiresAt: new Date(Math.min(...urls.map(({ url }) => endOf(url, Date.now())))) };
}

async function fetchAll(ecr: ECRClient, wanted: Wanted, digests: readonly string[]): Promise<FetchedManifest[]> {
  const { registryId, repositoryName } = wanted;
  const fetched: FetchedManifest[] = [];
  for (let at = 0; at < digests.length; at += BATCH) {
    const asked = new Set(digests.slice(at, at + BATCH));
    const { images = [] } = await askAws(() =>
      ecr.send(
        new BatchGetImageCommand({
          registryId,
          repositoryName,
          imageIds: [...asked].map((imageDigest) => ({ imageDigest })),
          acceptedMediaTypes: ACCEPTED,
        }),
      ),
    );
    for (const { imageManifest = '', imageManifestMediaType = '' } of images) {
      const manifest = parseManifest(imageManifestMediaType, Buffer.from(imageManifest));
      // By its own bytes: what ECR says of it is not looked at. An image with several tags may come several times.
      if (asked.delete(manifest.descriptor.digest)) fetched.push(manifest);
    }
    const [missing] = asked;
    if (missing !== undefined) throw new ImsError('artifact_missing', `${repositoryName}@${missing} is not there`);
  }
  return fetched;
}

async function referrersOf(ecr: ECRClient, wanted: Wanted, imageDigest: string): Promise<string[]> {
  const { registryId, repositoryName } = wanted;
  const digests: string[] = [];
  let nextToken: string | undefined;
  do {
    const page = await askAws(() =>
      ecr.send(
        new ListImageReferrersCommand({
          registryId,
          repositoryName,
          subjectId: { imageDigest },
          maxResults: REFERRERS_PAGE,
          ...(nextToken === undefined ? {} : { nextToken }),
        }),
      ),
    );
    for (const { digest } of page.referrers ?? []) if (digest !== undefined) digests.push(digest);
    if (digests.length > MAX_REFERRERS) throw tooLarge(wanted, `more than ${MAX_REFERRERS} referrers`);
    ({ nextToken } = page);
  } while (nextToken !== undefined);
  return digests;
}

function checkSize(wanted: Wanted, found: ReadonlyMap<string, FetchedManifest>): void {
  if (found.size > LIMITS.planManifests) throw tooLarge(wanted, `more than ${LIMITS.planManifests} manifests`);
  const bytes = [...found.values()].reduce((sum, manifest) => sum + manifest.bytes.length, 0);
  if (bytes > LIMITS.planManifestBytes) throw tooLarge(wanted, `manifests of ${bytes} bytes`);
}

const tooLarge = ({ repositoryName, digest }: Wanted, what: string): ImsError =>
  new ImsError('source_invalid', `${repositoryName}@${digest} has ${what}: too large for a download plan`);

/** When a pre-signed URL ends, in ms since the epoch, as its own query says. */
function endOf(url: string, nowMs: number): number {
  const { searchParams } = new URL(url);
  const stamp = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(searchParams.get('X-Amz-Date') ?? '');
  const seconds = Number(searchParams.get('X-Amz-Expires') ?? NaN);
  if (stamp === null || !Number.isFinite(seconds)) return nowMs + UNKNOWN_LIFE_MS;
  const [, year, month, day, hour, minute, second] = stamp;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`) + seconds * 1000;
}

/** Calls `work` for every item, a few at once; results in the order of the items. */
async function eachAtOnce<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const queue = items.entries();
  const worker = async (): Promise<void> => {
    for (const [at, item] of queue) results[at] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
  return results;
}
