import { createServer, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import { randomBytes } from 'node:crypto';
import { ImsError, type DownloadPlan, type RegistryAccess } from '#contracts';
import { accessSource, authorizationOf, secretsOf } from './access.js';
import { type ArtifactSource } from './copy.js';
import { describe as describeBytes, encodeManifest, MEDIA_TYPE, type Descriptor } from './descriptor.js';
import { planSource } from './download-plan.js';

/** What the object store does with the next request for a path; undefined: it gives the bytes. */
type Answer = { status: number; body?: string } | { cutAfter: number } | { bytes: Buffer } | undefined;

const LAYER = randomBytes(300_000);
const layer = describeBytes('application/octet-stream', LAYER);
const config = describeBytes(MEDIA_TYPE.empty, Buffer.from('{}'));
const manifest = encodeManifest({ schemaVersion: 2, mediaType: MEDIA_TYPE.manifest, config, layers: [layer] });
const artifact = describeBytes(MEDIA_TYPE.manifest, manifest);
const referrer = encodeManifest({
  schemaVersion: 2,
  mediaType: MEDIA_TYPE.manifest,
  artifactType: 'application/vnd.test',
  config,
  layers: [config],
  subject: artifact,
});

let store: Server;
let url: string;
let answers: Answer[];
let seen: { path: string; range: string | undefined; authorization: string | undefined }[];
beforeAll(async () => {
  store = createServer((request, response) => {
    const { range, authorization } = request.headers;
    seen.push({ path: request.url ?? '', range, authorization });
    const answer = answers.shift();
    const start = Number(/^bytes=(\d+)-$/.exec(range ?? '')?.[1] ?? 0);
    const bytes = (answer && 'bytes' in answer ? answer.bytes : LAYER).subarray(start);
    if (answer && 'status' in answer) {
      response.writeHead(answer.status).end(answer.body);
      return;
    }
    const partial =
      range === undefined ? {} : { 'content-range': `bytes ${start}-${LAYER.length - 1}/${LAYER.length}` };
    response.writeHead(range === undefined ? 200 : 206, { 'content-length': String(bytes.length), ...partial });
    if (answer && 'cutAfter' in answer) response.write(bytes.subarray(0, answer.cutAfter), () => response.destroy());
    else response.end(bytes);
  });
  await new Promise<void>((resolve) => store.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(store.address() as AddressInfo).port}`;
});
afterAll(() => new Promise((resolve) => store.close(resolve)));
beforeEach(() => {
  answers = [];
  seen = [];
});

const planned = (bytes: Buffer, digest = describeBytes(MEDIA_TYPE.manifest, bytes).digest) => ({
  digest,
  media_type: MEDIA_TYPE.manifest,
  content_base64: bytes.toString('base64'),
});
const planOf = (more: Partial<DownloadPlan> = {}): DownloadPlan => ({
  digest: artifact.digest,
  manifests: [planned(manifest), planned(referrer)],
  blobs: [{ digest: layer.digest, url: `${url}/layer?X-Amz-Signature=hush` }],
  ...more,
});
const open = (plan = planOf(), secure = false): ArtifactSource =>
  planSource(plan, { name: 'ecr/acme/web', secure, attempts: 3, backoffMs: 1, idleTimeoutMs: 5_000 });
async function read(source: ArtifactSource, blob: Descriptor = layer): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of (await source.openBlob(blob)) as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}
const failureOf = async (work: () => Promise<unknown> | ArtifactSource): Promise<ImsError> => {
  try {
    await work();
  } catch (error) {
    if (error instanceof ImsError) return error;
    throw error;
  }
  throw new Error('it did not fail');
};

it('gives what it names: manifests, referrers, blobs, and nothing else', async () => {
  const source = open();
  expect((await source.manifest(artifact.digest)).bytes).toEqual(manifest);
  expect(await source.referrers?.(artifact.digest)).toMatchObject([describeBytes(MEDIA_TYPE.manifest, referrer)]);
  expect(await read(source)).toEqual(LAYER);
  // The signature is in the URL; nothing else is ever sent along.
  expect(seen).toEqual([{ path: '/layer?X-Amz-Signature=hush', range: undefined, authorization: undefined }]);
  expect(await failureOf(() => source.manifest(layer.digest))).toMatchObject({ code: 'artifact_missing' });
  expect(await failureOf(() => read(source, config))).toMatchObject({ code: 'artifact_missing' });
});

it('goes on by Range where a connection broke, and tries again what may pass', async () => {
  answers = [{ status: 503 }, { cutAfter: 100_000 }];
  expect(await read(open())).toEqual(LAYER);
  expect(seen.map(({ range }) => range)).toEqual([undefined, undefined, expect.stringMatching(/^bytes=\d+-$/)]);
});

it('says that its URLs have ended, and shows no signature', async () => {
  answers = [{ status: 403, body: '<Error><Code>AccessDenied</Code>hush</Error>' }];
  const failure = await failureOf(() => read(open()));
  expect(failure).toMatchObject({ code: 'registry_denied' });
  expect(failure.detail).toMatch(/answered 403 to GET \/layer$/);
  expect(seen).toHaveLength(1);
});

describe('what is false', () => {
  it('is refused in a blob before its last chunk', async () => {
    const flipped = Buffer.from(LAYER);
    flipped[7] = (flipped[7] ?? 0) ^ 1;
    answers = [{ bytes: flipped }];
    expect(await failureOf(() => read(open()))).toMatchObject({ code: 'digest_mismatch' });
    answers = [{ bytes: Buffer.concat([LAYER, LAYER]) }];
    expect(await failureOf(() => read(open()))).toMatchObject({ code: 'digest_mismatch' });
  });

  it('is refused in a manifest, whatever the plan calls it', async () => {
    const swapped = planOf({ manifests: [planned(referrer, artifact.digest)] });
    expect(await failureOf(() => open(swapped))).toMatchObject({ code: 'digest_mismatch' });
    const retyped = planOf({ manifests: [{ ...planned(manifest), media_type: MEDIA_TYPE.index }] });
    expect(await failureOf(() => open(retyped))).toMatchObject({ code: 'source_invalid' });
  });

  it.each(['http://example.com/layer', 'ftp://example.com/layer', 'https://user@example.com/layer', 'layer'])(
    'is refused in the address %s of a plan that came over https',
    async (address) => {
      const plan = planOf({ blobs: [{ digest: layer.digest, url: address }] });
      expect(await failureOf(() => open(plan, true))).toMatchObject({ code: 'registry_denied' });
    },
  );
});

describe('an access', () => {
  const accessOf = (more: Partial<RegistryAccess>): RegistryAccess => ({
    registry_url: url,
    repository: 'acme/web',
    expires_at: new Date().toISOString(),
    ...more,
  });

  it('of each kind is a source, with the secrets to keep out of logs', async () => {
    const plan = accessOf({ kind: 'download_plan', plan: planOf() });
    expect(await read(accessSource(plan))).toEqual(LAYER);
    expect(secretsOf(plan)).toEqual([`${url}/layer?X-Amz-Signature=hush`]);
    expect(() => authorizationOf(plan)).toThrow('is no credential');
    const basic = accessOf({ kind: 'basic', username: 'AWS', password: 'hush' });
    expect(authorizationOf(basic)).toBe('Basic QVdTOmh1c2g=');
    expect(secretsOf(basic)).toEqual(['hush', 'QVdTOmh1c2g=']);
    // An answer of a server that knows one kind only.
    const bearer = accessOf({ registry_token: 'jwt' });
    expect(authorizationOf(bearer)).toBe('Bearer jwt');
    seen = [];
    expect(await read(accessSource(bearer))).toEqual(LAYER);
    expect(seen[0]?.authorization).toBe('Bearer jwt');
  });

  it('that lacks what its kind needs is refused', () => {
    for (const kind of ['bearer', 'basic', 'download_plan'] as const) {
      expect(() => accessSource(accessOf({ kind }))).toThrow('lacks what its kind needs');
    }
  });
});
