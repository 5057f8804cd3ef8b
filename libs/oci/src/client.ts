import { type Agent } from 'node:http';
import { Readable } from 'node:stream';
import { ImsError } from '#contracts';
import { Authorizer, type Credential } from './credentials.js';
import {
  digestOf,
  hexOf,
  isDigest,
  isRecord,
  MANIFEST_ACCEPT,
  MAX_MANIFEST_BYTES,
  MEDIA_TYPE,
  parseManifest,
  type Descriptor,
  type FetchedManifest,
} from './descriptor.js';
import { blobChunks, type BlobOrigin } from './download.js';
import { backOff, discardBody, HttpTransport, readBody, retrying, type HttpResponse } from './http.js';
import { type Access } from './registry-token.js';
import {
  blobPath,
  checkedName,
  contentType,
  errorCodes,
  isTag,
  json,
  manifestPath,
  pull,
  push,
  RegistrySession,
  type Call,
} from './session.js';
import { sendInPieces, sendWhole } from './upload.js';

export interface RegistryClientOptions {
  /** `http://127.0.0.1:5000` or `https://…`, without a path. */
  readonly baseUrl: string;
  readonly credential?: Credential;
  /** PEM of a private certificate authority. */
  readonly ca?: string;
  /** A connection on which nothing moves for so long is given up; default 60 s. */
  readonly idleTimeoutMs?: number;
  /** How often a call that may run twice is tried in all (default 4), and the first pause (default 200 ms). */
  readonly attempts?: number;
  readonly backoffMs?: number;
  /**
   * Send blobs larger than this in pieces of this size (PATCH), each kept in memory until the registry has it, so
   * that a broken connection costs one piece. Unset: one PUT a blob, which is faster on a good network.
   */
  readonly uploadChunkBytes?: number;
  /** Connection pool to use instead of the client's own, e.g. one that goes through a proxy. */
  readonly agent?: Agent;
}

/** Where the bytes of an upload come from. It is opened again for each new try. */
export type OpenSource = (signal?: AbortSignal) => Readable | Promise<Readable>;

export type UploadOutcome = 'present' | 'mounted' | 'uploaded';

/**
 * A client of one registry that speaks the OCI distribution protocol. Every byte that it returns is checked against
 * the digest and size asked for; every read is bounded; calls that may run twice are tried again on a broken
 * connection, 5xx and 429. Failures are `registry_unavailable`, `registry_denied`, `artifact_missing`,
 * `digest_mismatch`, `conflict` (immutable tag), `cancelled`, or `internal` for an answer outside the protocol.
 */
export class RegistryClient {
  readonly baseUrl: URL;
  private readonly session: RegistrySession;
  private readonly uploadChunkBytes: number | undefined;
  /** Undefined until the registry has shown whether it has the referrers API. */
  private hasReferrersApi: boolean | undefined;

  constructor(options: RegistryClientOptions) {
    const url = URL.canParse(options.baseUrl) ? new URL(options.baseUrl) : undefined;
    if (!url || !/^https?:$/.test(url.protocol) || url.pathname !== '/' || url.username !== '' || url.search !== '') {
      throw new ImsError('invalid_request', 'a registry URL is http(s)://host[:port], without path or password');
    }
    this.baseUrl = url;
    const transport = new HttpTransport({
      ca: options.ca,
      idleTimeoutMs: options.idleTimeoutMs ?? 60_000,
      agent: options.agent,
    });
    const authorizer = new Authorizer(options.credential ?? { kind: 'anonymous' }, url, transport);
    const policy = { attempts: options.attempts ?? 4, backoffMs: options.backoffMs ?? 200 };
    this.session = new RegistrySession(url, policy, transport, authorizer);
    this.uploadChunkBytes = options.uploadChunkBytes;
  }

  /** Resolves when the registry answers and takes the credential (of logins only: no repository is asked for). */
  async ping(call: Call = {}): Promise<void> {
    const response = await this.session.repeat({ ...call, method: 'GET', target: '/v2/', access: [], expect: [200] });
    await discardBody(response);
  }

  /** The descriptor of a manifest by digest or tag, or undefined when it is not there. Its bytes are not checked. */
  async headManifest(repository: string, reference: string, call: Call = {}): Promise<Descriptor | undefined> {
    const response = await this.session.repeat({
      ...call,
      method: 'HEAD',
      target: manifestPath(repository, reference),
      headers: { accept: MANIFEST_ACCEPT },
      access: pull(repository),
      expect: [200, 404],
    });
    await discardBody(response);
    if (response.status === 404) return undefined;
    const digest = response.headers['docker-content-digest'] ?? (isDigest(reference) ? reference : undefined);
    const mediaType = contentType(response);
    const size = Number(response.headers['content-length']);
    // HEAD may leave these out; then only the bytes can tell.
    if (typeof digest !== 'string' || mediaType === '' || !Number.isSafeInteger(size)) {
      return (await this.getManifest(repository, reference, call)).descriptor;
    }
    if (isDigest(reference) && digest !== reference)
      throw this.session.mismatch(repository, reference, `it offers ${digest}`);
    return { mediaType, digest, size };
  }

  /**
   * A manifest or index by digest or tag, checked against the digest asked for (by tag: against the one that the
   * registry names). At most 4 MiB. `artifact_missing` when it is not there.
   */
  async getManifest(repository: string, reference: string, call: Call = {}): Promise<FetchedManifest> {
    const { bytes, response } = await this.session.readAll(
      {
        ...call,
        method: 'GET',
        target: manifestPath(repository, reference),
        headers: { accept: MANIFEST_ACCEPT },
        access: pull(repository),
        expect: [200],
      },
      MAX_MANIFEST_BYTES,
    );
    const digest = digestOf(bytes);
    const promised = isDigest(reference) ? reference : response.headers['docker-content-digest'];
    if (typeof promised === 'string' && promised !== digest) {
      throw this.session.mismatch(repository, promised, `the bytes have the digest ${digest}`);
    }
    return parseManifest(contentType(response), bytes);
  }

  /**
   * Stores manifest bytes under their digest, or under a tag. `indexed` says that the registry has the referrers API
   * and has indexed the manifest's subject; if not, the fall-back tag is the caller's work.
   */
  async putManifest(
    repository: string,
    manifest: Pick<FetchedManifest, 'descriptor' | 'bytes'>,
    call: Call & { readonly tag?: string | undefined } = {},
  ): Promise<{ indexed: boolean }> {
    const { descriptor, bytes } = manifest;
    const put = (): Promise<HttpResponse> =>
      this.session.repeat({
        signal: call.signal,
        method: 'PUT',
        target: manifestPath(repository, call.tag ?? descriptor.digest),
        headers: { 'content-type': descriptor.mediaType },
        body: bytes,
        access: push(repository),
        expect: [200, 201, 202],
      });
    // distribution 2.8 writes a blob's link in place: while another client uploads the same blob (the empty
    // configuration, say), a manifest that needs it is refused for a moment. Seen with five at once on a busy machine.
    let response: HttpResponse | undefined;
    for (let failures = 1; response === undefined; failures += 1) {
      response = await put().catch(async (error: unknown) => {
        const tryAgain =
          error instanceof ImsError && error.code === 'artifact_missing' && failures < this.session.policy.attempts;
        if (!tryAgain) throw error;
        await backOff(this.session.policy, failures + 1, error, call.signal);
        return undefined;
      });
    }
    await discardBody(response);
    const stored = response.headers['docker-content-digest'];
    if (typeof stored === 'string' && stored !== descriptor.digest) {
      throw this.session.mismatch(repository, descriptor.digest, `it was stored as ${stored}`);
    }
    return { indexed: response.headers['oci-subject'] !== undefined };
  }

  /** Removes a manifest by digest (tags that point to it go too). Not being there is fine. */
  async deleteManifest(repository: string, digest: string, call: Call = {}): Promise<void> {
    const response = await this.session.repeat({
      ...call,
      method: 'DELETE',
      target: manifestPath(repository, `sha256:${hexOf(digest)}`),
      access: [{ type: 'repository', name: repository, actions: ['delete'] }],
      expect: [200, 202, 404],
    });
    await discardBody(response);
  }

  /** The size of a blob in bytes, or undefined when the repository does not have it. */
  async headBlob(repository: string, digest: string, call: Call = {}): Promise<number | undefined> {
    return retrying(this.session.policy, call.signal, () =>
      this.blobSize(repository, digest, pull(repository), call.signal),
    );
  }

  /**
   * The bytes of a blob as a stream. A broken connection is resumed by Range where it broke. The last chunk is held
   * back until digest and size are right, so that no reader ever gets a whole blob that is false: the stream then
   * fails with `digest_mismatch`.
   */
  getBlob(repository: string, blob: Descriptor, call: Call = {}): Readable {
    return Readable.from(blobChunks(this.originOf(repository, blob, call.signal), blob, call.signal), {
      objectMode: false,
      highWaterMark: 256 * 1024,
    });
  }

  /** A small blob in memory; `digest_mismatch` when its descriptor says more than `maxBytes`. */
  async getBlobBytes(repository: string, blob: Descriptor, maxBytes: number, call: Call = {}): Promise<Buffer> {
    if (blob.size > maxBytes)
      throw this.session.mismatch(repository, blob.digest, `${blob.size} bytes are more than ${maxBytes}`);
    const chunks: Buffer[] = [];
    for await (const chunk of this.getBlob(repository, blob, call) as AsyncIterable<Buffer>) chunks.push(chunk);
    return Buffer.concat(chunks);
  }

  /**
   * Brings a blob into a repository: nothing when it is there, a mount where `mountFrom` (a repository of the same
   * registry) has it, else an upload. The source is opened for each try, and hashed as it flows when the caller gives
   * a checked stream; the registry checks the digest too. `registry_unavailable` after the last try.
   */
  async uploadBlob(
    repository: string,
    blob: Descriptor,
    open: OpenSource,
    call: Call & { readonly mountFrom?: string | undefined } = {},
  ): Promise<UploadOutcome> {
    const { signal, mountFrom } = call;
    const access = push(repository);
    return retrying(this.session.policy, signal, async () => {
      if ((await this.blobSize(repository, blob.digest, access, signal)) !== undefined) return 'present';
      const from = mountFrom !== undefined && mountFrom !== repository ? mountFrom : undefined;
      const query =
        from === undefined ? '' : `?mount=${encodeURIComponent(blob.digest)}&from=${encodeURIComponent(from)}`;
      const started = await this.session.once({
        signal,
        method: 'POST',
        target: `/v2/${checkedName(repository)}/blobs/uploads/${query}`,
        headers: { 'content-length': '0' },
        access: from === undefined ? access : [...access, ...pull(from)],
        expect: [201, 202],
      });
      await discardBody(started);
      if (started.status === 201) return 'mounted';
      const chunkBytes = this.uploadChunkBytes;
      if (chunkBytes !== undefined && blob.size > chunkBytes) {
        await sendInPieces(this.session, started, blob, await open(signal), chunkBytes, access, signal);
      } else {
        await sendWhole(this.session, started, blob, await open(signal), access, signal);
      }
      return 'uploaded';
    });
  }

  /** The tags of a repository, sorted as the registry gives them; at most `limit` (default 10,000). */
  async listTags(repository: string, call: Call & { readonly limit?: number } = {}): Promise<readonly string[]> {
    const limit = call.limit ?? 10_000;
    const tags: string[] = [];
    let target: string | URL = `/v2/${checkedName(repository)}/tags/list?n=${Math.min(limit, 1_000)}`;
    for (;;) {
      const { bytes, response }: { bytes: Buffer; response: HttpResponse } = await this.session.readAll(
        { signal: call.signal, method: 'GET', target, access: pull(repository), expect: [200] },
        MAX_MANIFEST_BYTES,
      );
      const page = json(bytes);
      const found = isRecord(page) && Array.isArray(page['tags']) ? (page['tags'] as unknown[]) : [];
      tags.push(...found.filter((tag): tag is string => typeof tag === 'string' && isTag(tag)));
      const next = /<([^>]+)>\s*;\s*rel="?next/.exec(String(response.headers.link ?? ''))?.[1];
      if (next === undefined || found.length === 0 || tags.length >= limit) return tags.slice(0, limit);
      target = this.session.location(next);
    }
  }

  /**
   * The referrers of a digest by the API of OCI 1.1, or undefined when the registry does not have that API
   * (distribution 2.8 and 3 do not). One page: registries that split it are asked for the first.
   */
  async referrersByApi(
    repository: string,
    digest: string,
    call: Call = {},
  ): Promise<readonly Descriptor[] | undefined> {
    if (this.hasReferrersApi === false) return undefined;
    const response = await this.session.repeat({
      ...call,
      method: 'GET',
      target: `/v2/${checkedName(repository)}/referrers/sha256:${hexOf(digest)}`,
      headers: { accept: MEDIA_TYPE.index },
      access: pull(repository),
      expect: [200, 400, 404, 405],
    });
    const bytes = await readBody(response, MAX_MANIFEST_BYTES, call.signal);
    if (response.status !== 200 || contentType(response) !== MEDIA_TYPE.index) {
      // "No such repository" says nothing about the API.
      if (!errorCodes(bytes).includes('NAME_UNKNOWN')) this.hasReferrersApi = false;
      return undefined;
    }
    this.hasReferrersApi = true;
    const { content } = parseManifest(MEDIA_TYPE.index, bytes);
    return 'manifests' in content ? content.manifests : [];
  }

  /** Closes idle connections; running calls end first. */
  close(): void {
    this.session.close();
  }

  private originOf(repository: string, blob: Descriptor, signal: AbortSignal | undefined): BlobOrigin {
    const { session } = this;
    const target = blobPath(repository, blob.digest);
    return {
      policy: session.policy,
      url: session.baseUrl,
      get: (headers, expect) =>
        session.repeat({ signal, method: 'GET', target, headers, access: pull(repository), expect }),
      mismatch: (why) => session.mismatch(repository, blob.digest, why),
    };
  }

  private async blobSize(
    repository: string,
    digest: string,
    access: readonly Access[],
    signal: AbortSignal | undefined,
  ): Promise<number | undefined> {
    const response = await this.session.once({
      signal,
      method: 'HEAD',
      target: blobPath(repository, digest),
      access,
      expect: [200, 404],
    });
    await discardBody(response);
    return response.status === 404 ? undefined : Number(response.headers['content-length'] ?? 0);
  }
}
