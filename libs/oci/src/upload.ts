import { type Readable } from 'node:stream';
import { ImsError } from '#contracts';
import { type Descriptor } from './descriptor.js';
import { backOff, discardBody, type HttpResponse } from './http.js';
import { type Access } from './registry-token.js';
import { type RegistrySession } from './session.js';

/** Sends a blob in one PUT to the upload that `started` has opened. */
export async function sendWhole(
  session: RegistrySession,
  started: HttpResponse,
  blob: Descriptor,
  body: Readable,
  access: readonly Access[],
  signal: AbortSignal | undefined,
): Promise<void> {
  const response = await session.once({
    signal,
    method: 'PUT',
    target: withDigest(session.location(started.headers.location), blob.digest),
    headers: { 'content-type': 'application/octet-stream', 'content-length': String(blob.size) },
    body,
    access,
    expect: [201, 204],
  });
  await discardBody(response);
}

/**
 * Sends a blob in pieces (PATCH). After a break the registry is asked how far it has come; one that cannot say, or has
 * given the upload up, makes the whole upload fail with `registry_unavailable`.
 */
export async function sendInPieces(
  session: RegistrySession,
  started: HttpResponse,
  blob: Descriptor,
  source: Readable,
  chunkBytes: number,
  access: readonly Access[],
  signal: AbortSignal | undefined,
): Promise<void> {
  let location = session.location(started.headers.location);
  let sent = 0;
  for await (const piece of pieces(source, chunkBytes)) {
    const start = sent;
    let failures = 0;
    while (sent < start + piece.length) {
      const rest = piece.subarray(sent - start);
      try {
        const response = await session.once({
          signal,
          method: 'PATCH',
          target: location,
          headers: {
            'content-type': 'application/octet-stream',
            'content-range': `${sent}-${sent + rest.length - 1}`,
          },
          body: rest,
          access,
          expect: [202, 204],
        });
        await discardBody(response);
        location = session.location(response.headers.location);
        sent += rest.length;
      } catch (error) {
        failures += 1;
        const again =
          error instanceof ImsError && error.code === 'registry_unavailable' && failures < session.policy.attempts;
        if (!again) throw error;
        await backOff(session.policy, failures, error, signal);
        const status = await uploadStatus(session, location, access, signal);
        if (status === undefined || status.sentBytes < start || status.sentBytes > start + piece.length) throw error;
        ({ location, sentBytes: sent } = status);
      }
    }
  }
  const response = await session.once({
    signal,
    method: 'PUT',
    target: withDigest(location, blob.digest),
    headers: { 'content-length': '0' },
    access,
    expect: [201, 204],
  });
  await discardBody(response);
}

/** How far an upload has come, or undefined when the registry has given it up. */
async function uploadStatus(
  session: RegistrySession,
  location: URL,
  access: readonly Access[],
  signal: AbortSignal | undefined,
): Promise<{ location: URL; sentBytes: number } | undefined> {
  const response = await session.repeat({
    signal,
    method: 'GET',
    target: location,
    access,
    expect: [204, 400, 404, 416],
  });
  await discardBody(response);
  const end = /^(?:bytes=)?0-(\d+)$/.exec(response.headers.range ?? '')?.[1];
  if (response.status !== 204 || end === undefined) return undefined;
  // "0-0" stands for nothing as well as for one byte; distribution means nothing.
  const sentBytes = end === '0' ? 0 : Number(end) + 1;
  return {
    location: response.headers.location === undefined ? location : session.location(response.headers.location),
    sentBytes,
  };
}

function withDigest(location: URL, digest: string): URL {
  const url = new URL(location);
  url.searchParams.set('digest', digest);
  return url;
}

/** The same bytes in pieces of exactly `bytes`, the last one shorter. */
async function* pieces(source: Readable, bytes: number): AsyncGenerator<Buffer> {
  let parts: Buffer[] = [];
  let length = 0;
  for await (const chunk of source as AsyncIterable<Buffer>) {
    for (let rest = chunk; rest.length > 0;) {
      const part = rest.subarray(0, bytes - length);
      rest = rest.subarray(part.length);
      parts.push(part);
      length += part.length;
      if (length < bytes) continue;
      yield Buffer.concat(parts, length);
      parts = [];
      length = 0;
    }
  }
  if (length > 0) yield Buffer.concat(parts, length);
}
