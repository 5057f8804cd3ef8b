import { Readable } from 'node:stream';
import { ImsError, type DownloadPlan } from '#contracts';
import { type ArtifactSource } from './copy.js';
import { parseManifest, type Descriptor, type FetchedManifest } from './descriptor.js';
import { blobChunks } from './download.js';
import { HttpTransport, readBody, retrying, withRetryAfter, type HttpResponse, type RetryPolicy } from './http.js';

export interface PlanOptions {
  /** As errors and logs name the source. */
  readonly name: string;
  /** https: no URL of the plan may be plain http. */
  readonly secure: boolean;
  /** PEM of a private certificate authority. */
  readonly ca?: string | undefined;
  /** As RegistryClientOptions has them. */
  readonly idleTimeoutMs?: number;
  readonly attempts?: number;
  readonly backoffMs?: number;
}

const POLICY = { attempts: 4, backoffMs: 200 };
const MAX_ERROR_BYTES = 64 * 1024;

/**
 * A download plan as the source of a copy or a check. Nothing in it is taken on trust: manifests have the digest that
 * names them or are `digest_mismatch`, blobs are checked as they flow and resumed where a connection broke. What the
 * plan does not name is `artifact_missing`; a URL that is refused (the plan has ended) is `registry_denied`. No
 * credential is ever sent; no error shows a URL's query, where its signature is.
 */
export function planSource(plan: DownloadPlan, options: PlanOptions): ArtifactSource {
  const transport = new HttpTransport({ ca: options.ca, idleTimeoutMs: options.idleTimeoutMs ?? 60_000 });
  const policy: RetryPolicy = {
    attempts: options.attempts ?? POLICY.attempts,
    backoffMs: options.backoffMs ?? POLICY.backoffMs,
  };
  const { name } = options;
  const manifests = new Map<string, FetchedManifest>();
  for (const { digest, media_type: mediaType, content_base64: content } of plan.manifests) {
    const manifest = parseManifest(mediaType, Buffer.from(content, 'base64'));
    if (manifest.descriptor.digest !== digest) {
      throw new ImsError(
        'digest_mismatch',
        `${name}@${digest}: the bytes have the digest ${manifest.descriptor.digest}`,
      );
    }
    manifests.set(digest, manifest);
  }
  const urls = new Map(plan.blobs.map(({ digest, url }) => [digest, checkedUrl(url, name, options.secure)]));
  const missing = (digest: string): ImsError =>
    new ImsError('artifact_missing', `${name}@${digest} is not in the plan`);

  const chunksOf = (blob: Descriptor, signal: AbortSignal | undefined): AsyncGenerator<Buffer> => {
    const url = urls.get(blob.digest);
    if (url === undefined) throw missing(blob.digest);
    return blobChunks(
      {
        policy,
        url,
        get: (headers, expect) =>
          retrying(policy, signal, async () => {
            const response = await transport.send({ method: 'GET', url, headers, signal });
            if (expect.includes(response.status)) return response;
            throw await refusal(response, url);
          }),
        mismatch: (why) => new ImsError('digest_mismatch', `${name}@${blob.digest}: ${why}`),
      },
      blob,
      signal,
    );
  };
  return {
    name,
    manifest: (digest) => {
      const manifest = manifests.get(digest);
      return manifest ? Promise.resolve(manifest) : Promise.reject(missing(digest));
    },
    openBlob: (blob, signal) => Readable.from(chunksOf(blob, signal), { objectMode: false, highWaterMark: 256 * 1024 }),
    referrers: (digest) =>
      Promise.resolve(
        [...manifests.values()]
          .filter(({ content }) => content.subject?.digest === digest)
          .map(({ descriptor }) => descriptor),
      ),
  };
}

async function refusal(response: HttpResponse, url: URL): Promise<ImsError> {
  await readBody(response, MAX_ERROR_BYTES).catch(() => undefined);
  const { status } = response;
  const what = `${url.host} answered ${status} to GET ${url.pathname}`;
  if (status === 429 || status >= 500) {
    return withRetryAfter(new ImsError('registry_unavailable', what), response.headers['retry-after']);
  }
  if (status === 401 || status === 403) return new ImsError('registry_denied', what);
  return status === 404 ? new ImsError('artifact_missing', what) : new ImsError('internal', what);
}

/** Redirects are not followed: a pre-signed URL is where the bytes are. */
function checkedUrl(text: string, name: string, secure: boolean): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const allowed =
    url !== undefined && url.username === '' && (url.protocol === 'https:' || (!secure && url.protocol === 'http:'));
  if (!allowed) throw new ImsError('registry_denied', `the plan of ${name} leads to an address that is not allowed`);
  return url;
}
