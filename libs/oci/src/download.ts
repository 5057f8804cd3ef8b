import { createHash } from 'node:crypto';
import { type Descriptor } from './descriptor.js';
import { backOff, connectionError } from './http.js';
import { blobPath, pull, type RegistrySession } from './session.js';

/** Resumptions of one download that each brought something: 1,000 stands for hours on a bad line, not for ever. */
const MAX_RESUMPTIONS = 1_000;

/**
 * The chunks of a blob, hashed as they flow. A broken connection is resumed by Range. The last chunk is held back until
 * digest and size are right.
 */
export async function* blobChunks(
  session: RegistrySession,
  repository: string,
  blob: Descriptor,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  let received = 0;
  let held: Buffer | undefined;
  let failures = 0;
  let receivedAtFailure = 0;
  for (let resumptions = 0; ; resumptions += 1) {
    const response = await session.repeat({
      signal,
      method: 'GET',
      target: blobPath(repository, blob.digest),
      headers: received > 0 ? { range: `bytes=${received}-` } : {},
      access: pull(repository),
      expect: received > 0 ? [200, 206] : [200],
    });
    // A registry without Range support starts over; what is known already is skipped.
    let skip = response.status === 206 ? 0 : received;
    if (response.status === 206 && !String(response.headers['content-range']).startsWith(`bytes ${received}-`)) {
      response.body.destroy();
      throw session.mismatch(repository, blob.digest, 'it answered with another range than the one asked for');
    }
    try {
      for await (const chunk of response.body as AsyncIterable<Buffer>) {
        const fresh = skip > 0 ? chunk.subarray(Math.min(skip, chunk.length)) : chunk;
        skip -= chunk.length - fresh.length;
        if (fresh.length === 0) continue;
        received += fresh.length;
        if (received > blob.size)
          throw session.mismatch(repository, blob.digest, `it is longer than ${blob.size} bytes`);
        hash.update(fresh);
        if (held !== undefined) yield held;
        held = fresh;
      }
      break;
    } catch (error) {
      const failure = connectionError(error, session.baseUrl, signal);
      failures = received > receivedAtFailure ? 1 : failures + 1;
      receivedAtFailure = received;
      const again = failure.code === 'registry_unavailable' && failures < session.policy.attempts;
      if (!again || resumptions >= MAX_RESUMPTIONS) throw failure;
      await backOff(session.policy, failures, failure, signal);
    }
  }
  const digest = `sha256:${hash.digest('hex')}`;
  if (received !== blob.size)
    throw session.mismatch(repository, blob.digest, `it has ${received} of ${blob.size} bytes`);
  if (digest !== blob.digest) throw session.mismatch(repository, blob.digest, `the bytes have the digest ${digest}`);
  if (held !== undefined) yield held;
}
