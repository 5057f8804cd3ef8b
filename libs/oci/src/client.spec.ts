import 'reflect-metadata';
import { createPrivateKey, webcrypto } from 'node:crypto';
import { type ServerResponse } from 'node:http';
import https from 'node:https';
import { type AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import * as x509 from '@peculiar/x509';
import { startRegistry, type RegistryServer } from '#stack';
import { clientOf, codeOf, failureOf, inOwnFolder, randomBlob, troublesomeProxy, type Proxy } from '../test/harness.js';
import { describeBytes, encodeManifest, MEDIA_TYPE, type ImageManifest, type RegistryClient } from './index.js';

const REPOSITORY = 'vendor/thing';
const MIB = 1024 * 1024;

let registry: RegistryServer;
let proxy: Proxy;
let client: RegistryClient;
/** The same registry through the proxy. */
let throughProxy: RegistryClient;

beforeAll(async () => {
  registry = await inOwnFolder((dir) => startRegistry({ dir }));
  proxy = await troublesomeProxy(registry.url);
  client = clientOf(registry.url);
  throughProxy = clientOf(proxy.url);
});
afterEach(() => {
  proxy.trouble = () => undefined;
  proxy.requests.length = 0;
  proxy.bytesIn = 0;
});
afterAll(async () => {
  client.close();
  throughProxy.close();
  await proxy.close();
  await registry.stop();
});

const read = async (stream: Readable): Promise<Buffer> =>
  Buffer.concat(await (stream as AsyncIterable<Buffer> & Readable).toArray());
const from = (bytes: Buffer) => () => Readable.from([bytes], { objectMode: false });

async function pushed(bytes: number): Promise<ReturnType<typeof randomBlob>> {
  const blob = randomBlob(bytes);
  await client.uploadBlob(REPOSITORY, blob.descriptor, from(blob.bytes));
  return blob;
}

async function pushedManifest(tag?: string): Promise<ReturnType<typeof describeBytes>> {
  const config = await pushed(10);
  const content: ImageManifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.manifest,
    config: config.descriptor,
    layers: [],
  };
  const bytes = encodeManifest(content);
  const descriptor = describeBytes(MEDIA_TYPE.manifest, bytes);
  await client.putManifest(REPOSITORY, { descriptor, bytes }, { tag });
  return descriptor;
}

describe('blobs', () => {
  it('go up once, and come back byte for byte', async () => {
    const blob = randomBlob(100_000);
    expect(await client.headBlob(REPOSITORY, blob.descriptor.digest)).toBeUndefined();
    expect(await client.uploadBlob(REPOSITORY, blob.descriptor, from(blob.bytes))).toBe('uploaded');
    expect(await client.uploadBlob(REPOSITORY, blob.descriptor, from(blob.bytes))).toBe('present');
    expect(await client.headBlob(REPOSITORY, blob.descriptor.digest)).toBe(100_000);
    expect((await read(client.getBlob(REPOSITORY, blob.descriptor))).equals(blob.bytes)).toBe(true);
  });

  it('may be empty', async () => {
    const blob = await pushed(0);
    expect(await read(client.getBlob(REPOSITORY, blob.descriptor))).toHaveLength(0);
  });

  it('are mounted from another repository without sending them', async () => {
    const blob = await pushed(1_000);
    const never = (): never => {
      throw new Error('the source must not be opened');
    };
    expect(await client.uploadBlob('vendor/other', blob.descriptor, never, { mountFrom: REPOSITORY })).toBe('mounted');
    expect(await client.headBlob('vendor/other', blob.descriptor.digest)).toBe(1_000);
  });

  it('are refused when one bit is wrong, and the reader does not get the last chunk', async () => {
    const blob = await pushed(300_000);
    proxy.trouble = ({ method }) => (method === 'GET' ? { flipBit: true } : undefined);
    let received = 0;
    const reading = (async () => {
      for await (const chunk of throughProxy.getBlob(REPOSITORY, blob.descriptor) as AsyncIterable<Buffer>) {
        received += chunk.length;
      }
    })();
    expect(await codeOf(reading)).toBe('digest_mismatch');
    expect(received).toBeLessThan(300_000);
  });

  it('are refused when they are longer or shorter than the descriptor says', async () => {
    const { descriptor } = await pushed(1_000);
    for (const size of [999, 1_001]) {
      expect(await codeOf(read(client.getBlob(REPOSITORY, { ...descriptor, size })))).toBe('digest_mismatch');
    }
  });

  it('resume by Range where a connection broke, however often', async () => {
    const blob = await pushed(3 * MIB);
    proxy.trouble = ({ method }) => (method === 'GET' ? { cutResponseAfterBytes: 512 * 1024 } : undefined);
    const bytes = await read(throughProxy.getBlob(REPOSITORY, blob.descriptor));
    expect(bytes.equals(blob.bytes)).toBe(true);
    expect(proxy.requests.filter((line) => line.startsWith('GET'))).toHaveLength(6);
  });

  it('start over where the registry has no Range, and skip what is known', async () => {
    const blob = await pushed(MIB);
    const cuts = [300_000, 600_000, Infinity];
    proxy.trouble = ({ method }) =>
      method === 'GET' ? { cutResponseAfterBytes: cuts.shift() ?? 0, dropRange: true } : undefined;
    expect((await read(throughProxy.getBlob(REPOSITORY, blob.descriptor))).equals(blob.bytes)).toBe(true);
    expect(cuts).toEqual([]);
  });

  it('give up when nothing comes any more', async () => {
    const blob = await pushed(MIB);
    let cuts = 0;
    proxy.trouble = ({ method }) =>
      method === 'GET' ? { cutResponseAfterBytes: (cuts += 1) === 1 ? 1_000 : 0 } : undefined;
    expect(await codeOf(read(throughProxy.getBlob(REPOSITORY, blob.descriptor)))).toBe('registry_unavailable');
    expect(cuts).toBe(4);
  });

  it('are sent again after an upload broke', async () => {
    const blob = randomBlob(MIB);
    let cuts = 0;
    proxy.trouble = ({ method }) =>
      method === 'PUT' && (cuts += 1) === 1 ? { cutRequestAfterBytes: 500_000 } : undefined;
    expect(await throughProxy.uploadBlob(REPOSITORY, blob.descriptor, from(blob.bytes))).toBe('uploaded');
    expect((await read(client.getBlob(REPOSITORY, blob.descriptor))).equals(blob.bytes)).toBe(true);
  });

  const sent = (method: string): number => proxy.requests.filter((line) => line.startsWith(method)).length;

  it('go up in pieces, and only the broken piece is sent again', async () => {
    const blob = randomBlob(2 * MIB + 17);
    const pieces = clientOf(proxy.url, { uploadChunkBytes: MIB / 2 });
    let patches = 0;
    // The second piece is lost before the registry has seen any of it.
    proxy.trouble = ({ method }) => (method === 'PATCH' && (patches += 1) === 2 ? { answer: 503 } : undefined);
    expect(await pieces.uploadBlob(REPOSITORY, blob.descriptor, from(blob.bytes))).toBe('uploaded');
    pieces.close();
    expect([sent('POST'), sent('PATCH'), sent('PUT')]).toEqual([1, 6, 1]);
    expect((await read(client.getBlob(REPOSITORY, blob.descriptor))).equals(blob.bytes)).toBe(true);
  });

  it('start over when the registry has lost track of the pieces', async () => {
    const blob = randomBlob(2 * MIB);
    const pieces = clientOf(proxy.url, { uploadChunkBytes: MIB / 2 });
    let patches = 0;
    // distribution 2.8 keeps what it got of the broken piece, and then takes neither the old place nor a new one.
    proxy.trouble = ({ method }) =>
      method === 'PATCH' && (patches += 1) === 2 ? { cutRequestAfterBytes: 200_000 } : undefined;
    expect(await pieces.uploadBlob(REPOSITORY, blob.descriptor, from(blob.bytes))).toBe('uploaded');
    pieces.close();
    expect([sent('POST'), sent('PATCH'), sent('PUT')]).toEqual([2, 6, 1]);
    expect((await read(client.getBlob(REPOSITORY, blob.descriptor))).equals(blob.bytes)).toBe(true);
  });

  it('that are not what their digest says are not stored', async () => {
    const blob = randomBlob(1_000);
    expect(await codeOf(client.uploadBlob(REPOSITORY, blob.descriptor, from(Buffer.alloc(1_000))))).toBe(
      'digest_mismatch',
    );
    expect(await client.headBlob(REPOSITORY, blob.descriptor.digest)).toBeUndefined();
  });

  it('stop at once when aborted', async () => {
    const blob = await pushed(4 * MIB);
    const stop = new AbortController();
    const reading = (async () => {
      const stream = client.getBlob(REPOSITORY, blob.descriptor, { signal: stop.signal });
      await stream.forEach(() => stop.abort());
    })();
    expect(await codeOf(reading)).toBe('cancelled');
  });
});

describe('manifests', () => {
  it('are found by digest and tag, and refused under another digest', async () => {
    const descriptor = await pushedManifest('v1');
    expect(await client.headManifest(REPOSITORY, 'v1')).toEqual(descriptor);
    expect((await client.getManifest(REPOSITORY, descriptor.digest)).descriptor).toEqual(descriptor);
    proxy.trouble = () => ({ flipBit: true });
    expect(await codeOf(throughProxy.getManifest(REPOSITORY, descriptor.digest))).toBe('digest_mismatch');
    expect(await codeOf(throughProxy.getManifest(REPOSITORY, 'v1'))).toBe('digest_mismatch');
  });

  it('cannot be stored before their blobs', async () => {
    const config = randomBlob(10).descriptor;
    const bytes = encodeManifest({ schemaVersion: 2, mediaType: MEDIA_TYPE.manifest, config, layers: [] });
    const manifest = { descriptor: describeBytes(MEDIA_TYPE.manifest, bytes), bytes };
    expect(await codeOf(client.putManifest(REPOSITORY, manifest))).toBe('artifact_missing');
  });

  it('are stored on the second try when a blob was just being written by another client', async () => {
    const descriptor = await pushedManifest();
    const manifest = await client.getManifest(REPOSITORY, descriptor.digest);
    const body = '{"errors":[{"code":"DIGEST_INVALID"},{"code":"MANIFEST_BLOB_UNKNOWN"}]}';
    let puts = 0;
    proxy.trouble = ({ method }) => (method === 'PUT' && (puts += 1) === 1 ? { answer: 400, body } : undefined);
    await throughProxy.putManifest(REPOSITORY, manifest);
    expect(puts).toBe(2);
  });

  it('that say they are something else are refused', async () => {
    const descriptor = await pushedManifest();
    const body = encodeManifest({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: [descriptor] }).toString();
    proxy.trouble = () => ({ answer: 200, body, headers: { 'content-type': MEDIA_TYPE.manifest } });
    expect(await codeOf(throughProxy.getManifest(REPOSITORY, 'v1'))).toBe('source_invalid');
  });

  it('that are not there are undefined by HEAD and artifact_missing by GET', async () => {
    expect(await client.headManifest('no/such', 'v1')).toBeUndefined();
    const failure = await failureOf(client.getManifest('no/such', 'v1'));
    expect(failure?.code).toBe('artifact_missing');
    expect(failure?.detail).toContain('/v2/no/such/manifests/v1');
  });

  it('are listed by tag over pages, and deleted by digest', async () => {
    const descriptor = await pushedManifest('a');
    const { bytes } = await client.getManifest(REPOSITORY, descriptor.digest);
    for (const tag of ['b', 'c']) await client.putManifest('vendor/thing', { descriptor, bytes }, { tag });
    expect(await client.listTags(REPOSITORY)).toEqual(expect.arrayContaining(['a', 'b', 'c']));
    expect(await client.listTags(REPOSITORY, { limit: 2 })).toHaveLength(2);
    await client.deleteManifest(REPOSITORY, descriptor.digest);
    await client.deleteManifest(REPOSITORY, descriptor.digest);
    expect(await client.headManifest(REPOSITORY, descriptor.digest)).toBeUndefined();
  });
});

describe('a registry in trouble', () => {
  it('is tried again on 503, and named when it stays so', async () => {
    let asked = 0;
    proxy.trouble = () => ((asked += 1) < 3 ? { answer: 503 } : undefined);
    await throughProxy.ping();
    expect(asked).toBe(3);
    proxy.trouble = () => ({ answer: 503 });
    const failure = await failureOf(throughProxy.ping());
    expect(failure?.code).toBe('registry_unavailable');
    expect(failure?.detail).toContain('503');
  });

  it('is named when nobody listens', async () => {
    const nobody = clientOf('http://127.0.0.1:1');
    expect(await codeOf(nobody.ping())).toBe('registry_unavailable');
  });

  it('is not tried again when it refuses', async () => {
    proxy.trouble = () => ({ answer: 403 });
    expect(await codeOf(throughProxy.ping())).toBe('registry_denied');
    expect(proxy.requests).toHaveLength(1);
  });

  it('cannot make the client read without end', async () => {
    const body = ' '.repeat(5 * MIB);
    proxy.trouble = () => ({ answer: 200, body, headers: { 'content-type': MEDIA_TYPE.manifest } });
    expect(await codeOf(throughProxy.getManifest(REPOSITORY, 'v1'))).toBe('digest_mismatch');
  });

  it('may send reads elsewhere, but the credential does not go along', async () => {
    const blob = await pushed(1_000);
    const store = await troublesomeProxy(registry.url);
    let leaked: string | undefined = 'not asked';
    store.trouble = (request) => {
      leaked = request.headers.authorization;
      return undefined;
    };
    proxy.trouble = (request) => ({ answer: 307, headers: { location: `${store.url}${request.url ?? ''}` } });
    const bearer = clientOf(proxy.url, { credential: { kind: 'bearer', token: () => Promise.resolve('secret') } });
    expect((await read(bearer.getBlob(REPOSITORY, blob.descriptor))).equals(blob.bytes)).toBe(true);
    expect(leaked).toBeUndefined();
    bearer.close();
    await store.close();
  });
});

describe('over TLS', () => {
  let server: https.Server;
  let url: string;
  let ca: string;
  let answer: (response: ServerResponse) => void;

  beforeAll(async () => {
    const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
    const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
    const certificate = await x509.X509CertificateGenerator.createSelfSigned({
      name: 'CN=private authority',
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.SubjectAlternativeNameExtension([{ type: 'ip', value: '127.0.0.1' }]),
      ],
    });
    ca = certificate.toString('pem');
    const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
    const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }).export({ type: 'pkcs8', format: 'pem' });
    server = https.createServer({ key, cert: ca }, (_request, response) => answer(response));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });

  it('a private authority is trusted when it is named, and only then', async () => {
    answer = (response) => response.writeHead(200).end();
    await clientOf(url, { ca }).ping();
    const failure = await failureOf(clientOf(url).ping());
    expect(failure?.code).toBe('registry_unavailable');
    expect(failure?.detail).toMatch(/self-signed/);
  });

  it('nothing leads down to plain HTTP', async () => {
    const { descriptor } = await pushed(10);
    answer = (response) => response.writeHead(307, { location: `${registry.url}/v2/` }).end();
    expect(await codeOf(read(clientOf(url, { ca }).getBlob(REPOSITORY, descriptor)))).toBe('registry_denied');
    answer = (response) =>
      response.writeHead(401, { 'www-authenticate': `Bearer realm="${registry.url}/token",service="x"` }).end();
    expect(await codeOf(clientOf(url, { ca }).ping())).toBe('registry_denied');
  });
});

it('names that are not names never reach the network', async () => {
  const bad = [
    client.getManifest('Vendor/Thing', 'v1'),
    client.getManifest('a/../b', 'v1'),
    client.getManifest(REPOSITORY, '../v1'),
    client.headBlob(REPOSITORY, 'sha256:12'),
  ];
  for (const call of bad) expect(await codeOf(call)).toBe('invalid_request');
});
