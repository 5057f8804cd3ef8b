import { createHash } from 'node:crypto';
import { type ImsError } from '#contracts';
import { type Descriptor } from './descriptor.js';
import { backOff, connectionError, type HttpResponse, type RetryPolicy } from './http.js';

/** Where the bytes of one blob come from: a repository, or a pre-signed URL. */
export interface BlobOrigin {
  readonly policy: RetryPolicy;
  /** For errors; its query is never shown. */
  readonly url: URL;
  /** GET with these headers; resolves with one of these statuses, rejects with an ImsError. */
  readonly get: (headers: Readonly<Record<string, string>>, expect: readonly number[]) => Promise<HttpResponse>;
  readonly mismatch: (why: string) => ImsError;
}

/** Resumptions of one download that each brought something: 1,000 stands for hours on a bad line, not for ever. */
const MAX_RESUMPTIONS = 1_000;

/**
 * The chunks of a blob, hashed as they flow. A broken connection is resumed by Range. The last chunk is held back until
 * digest and size are right.
 */
export async function* blobChunks(
  origin: BlobOrigin,
  blob: Descriptor,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  let received = 0;
  let held: Buffer | undefined;
  let failures = 0;
  let receivedAtFailure = 0;
  for (let resumptions = 0; ; resumptions += 1) {
    const response = await origin.get(
      received > 0 ? { range: `bytes=${received}-` } : {},
      received > 0 ? [200, 206] : [200],
    );
    // A registry without Range support starts over; what is known already is skipped.
    let skip = response.status === 206 ? 0 : received;
    if (response.status === 206 && !String(response.headers['content-range']).startsWith(`bytes ${received}-`)) {
      response.body.destroy();
      throw origin.mismatch('it answered with another range than the one asked for');
    }
    try {
      for await (const chunk of response.body as AsyncIterable<Buffer>) {
        const fresh = skip > 0 ? chunk.subarray(Math.min(skip, chunk.length)) : chunk;
        skip -= chunk.length - fresh.length;
        if (fresh.length === 0) continue;
        received += fresh.length;
        if (received > blob.size) throw origin.mismatch(`it is longer than ${blob.size} bytes`);
        hash.update(fresh);
        if (held !== undefined) yield held;
        held = fresh;
      }
      break;
    } catch (error) {
      const failure = connectionError(error, origin.url, signal);
      failures = received > receivedAtFailure ? 1 : failures + 1;
      receivedAtFailure = received;
      const again = failure.code === 'registry_unavailable' && failures < origin.policy.attempts;
      if (!again || resumptions >= MAX_RESUMPTIONS) throw failure;
      await backOff(origin.policy, failures, failure, signal);
    }
  }
  const digest = `sha256:${hash.digest('hex')}`;
  if (received !== blob.size) throw origin.mismatch(`it has ${received} of ${blob.size} bytes`);
  if (digest !== blob.digest) throw origin.mismatch(`the bytes have the digest ${digest}`);
  if (held !== undefined) yield held;
}
