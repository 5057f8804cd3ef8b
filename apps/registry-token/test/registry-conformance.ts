import { randomBytes } from 'node:crypto';
import { ImsError, newId, type RegistryAccess } from '#contracts';
import {
  accessSource,
  attestArtifact,
  authorizationOf,
  createSigningKey,
  describeBytes,
  encodeManifest,
  localSigner,
  MEDIA_TYPE,
  parseManifest,
  pushArtifact,
  RegistryClient,
  verifyFrom,
  type ArtifactSource,
  type Descriptor,
} from '#oci';
import { type VendorRegistry } from '../src/registries/port.js';

/** What differs by kind, known before anything is started: it decides which tests there are. */
export interface Traits {
  /** What a redemption yields. */
  readonly pulls: 'bearer' | 'basic' | 'download_plan';
  /**
   * The shortest life that a credential can be asked for, if the suite can wait for its end: distribution allows a
   * minute more than it says, so there only the claim in the token is looked at.
   */
  readonly shortLifeMs?: number;
}
/** A registry of one kind, running. */
export interface Candidate {
  readonly registry: VendorRegistry;
  /** Repositories of one run begin with this; a real account holds those of other runs too. */
  readonly prefix: string;
  /** Calls for a registry password so far, where they can be counted. */
  readonly passwords?: () => number;
  readonly stop: () => Promise<void>;
}

const LIFE_MS = 10 * 60_000;
const VENDOR = newId('vendor');
const BUILDER = 'https://example.com/builder';

/**
 * What every kind of vendor registry owes this product, whatever it is made of: builds push to their own repository,
 * a redemption reads what it is for, signature included, nothing else can be reached, and all of it ends.
 */
export function describeVendorRegistry(name: string, traits: Traits, open: () => Promise<Candidate>): void {
  const { pulls, shortLifeMs } = traits;
  const byPlan = pulls === 'download_plan';
  describe(`${name} as a vendor registry`, () => {
    let candidate: Candidate;
    let web: string;
    let db: string;
    let artifact: Descriptor;
    let index: Descriptor;
    let second: Descriptor;
    let secretOfDb: Descriptor;
    const key = createSigningKey();

    const push = async (repository: string, lifeMs = LIFE_MS): Promise<RegistryAccess> =>
      candidate.registry.pushAccess({ subject: newId('agent'), repository, lifeMs });
    const pull = async (repository: string, digest: string, lifeMs = LIFE_MS): Promise<RegistryAccess> =>
      candidate.registry.pullAccess({ subject: newId('token'), repository, digest, lifeMs });
    const small = (text: string, subject?: Descriptor) => ({
      artifactType: 'application/vnd.test',
      layers: [{ mediaType: 'text/plain', bytes: Buffer.from(text) }],
      ...(subject ? { subject } : {}),
    });

    beforeAll(async () => {
      candidate = await open();
      [web, db] = [`${candidate.prefix}/web`, `${candidate.prefix}/db`];
      await Promise.all([web, web, db].map((repository) => candidate.registry.ensureRepository(repository, VENDOR)));
      const to = { client: clientOf(await push(web)), repository: web };
      artifact = await pushArtifact({ ...to, ...small('the artifact') });
      second = await pushArtifact({ ...to, ...small('another artifact') });
      const manifest = encodeManifest({
        schemaVersion: 2,
        mediaType: MEDIA_TYPE.index,
        manifests: [artifact, second].map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
      });
      const parsed = parseManifest(MEDIA_TYPE.index, manifest);
      await to.client.putManifest(web, parsed);
      index = parsed.descriptor;
      for (const { digest } of [artifact, index]) {
        const provenance = { buildType: 'https://example.com/build', externalParameters: {}, builderId: BUILDER };
        await attestArtifact({ ...to, digest, signer: localSigner(key.privateKeyPem), provenance });
      }
      secretOfDb = await pushArtifact({
        client: clientOf(await push(db)),
        repository: db,
        ...small('of the database'),
      });
    });
    afterAll(() => candidate?.stop());

    it('makes a repository any number of times', async () => {
      await candidate.registry.ensureRepository(web, VENDOR);
      await candidate.registry.ensureRepository(web, VENDOR);
    });

    it('lets a build push to its repository, and neither read nor write another', async () => {
      const access = await push(web);
      const client = clientOf(access);
      expect(await client.headManifest(web, artifact.digest)).toMatchObject({ digest: artifact.digest });
      expect(access).toMatchObject({ repository: web });
      await expect(pushArtifact({ client, repository: db, ...small('evil') })).rejects.toMatchObject(DENIED);
      await expect(client.getManifest(db, secretOfDb.digest)).rejects.toMatchObject(DENIED);
      const layer = describeBytes('text/plain', Buffer.from('of the database'));
      await expect(client.getBlobBytes(db, layer, 100)).rejects.toMatchObject(DENIED);
    });

    it('gives a redemption the artifact, whole and checked, with its signature', async () => {
      const access = await pull(web, artifact.digest);
      expect(access).toMatchObject({ kind: pulls, repository: web });
      const source = accessSource(access);
      const { content } = await source.manifest(artifact.digest);
      const blobs = 'layers' in content ? [content.config, ...content.layers] : [];
      expect(await Promise.all(blobs.map((blob) => bytesOf(source, blob)))).toEqual(['{}', 'the artifact']);
      await verify(source, artifact.digest);
    });

    it('gives an index with its children, and the signature of the index', async () => {
      const source = accessSource(await pull(web, index.digest));
      await verify(source, index.digest);
      for (const { digest } of [artifact, second])
        expect((await source.manifest(digest)).descriptor.digest).toBe(digest);
      // A signature of a child comes along too.
      expect(await source.referrers?.(artifact.digest)).toHaveLength(1);
    });

    if (byPlan) {
      it('holds one digest in a plan, and no other of its repository', async () => {
        const source = accessSource(await pull(web, artifact.digest));
        for (const { digest } of [second, index, secretOfDb]) {
          await expect(source.manifest(digest)).rejects.toMatchObject({ code: 'artifact_missing' });
        }
        const blob = describeBytes('text/plain', Buffer.from('another artifact'));
        await expect(bytesOf(source, blob)).rejects.toMatchObject({ code: 'artifact_missing' });
      });

      it('puts no credential into a plan, nor a URL that writes', async () => {
        const before = candidate.passwords?.();
        const access = await pull(web, index.digest);
        expect(candidate.passwords?.()).toBe(before);
        expect(Object.keys(access).sort()).toEqual(['expires_at', 'kind', 'plan', 'registry_url', 'repository']);
        expect(() => authorizationOf(access)).toThrow('no credential');
        for (const { url } of access.plan?.blobs ?? []) {
          expect((await fetch(url, { method: 'PUT', body: 'evil' })).ok).toBe(false);
          expect((await fetch(url, { method: 'DELETE' })).ok).toBe(false);
        }
      });
    } else {
      it('reads no other repository with a redemption', async () => {
        const client = clientOf(await pull(web, artifact.digest));
        await expect(client.getManifest(db, secretOfDb.digest)).rejects.toMatchObject(DENIED);
        const layer = describeBytes('text/plain', Buffer.from('of the database'));
        await expect(client.getBlobBytes(db, layer, 100)).rejects.toMatchObject(DENIED);
      });

      it('writes nothing with a redemption', async () => {
        const client = clientOf(await pull(web, artifact.digest));
        const manifest = await client.getManifest(web, artifact.digest);
        await expect(pushArtifact({ client, repository: web, ...small('evil') })).rejects.toMatchObject(DENIED);
        await expect(client.putManifest(web, manifest, { tag: 'evil' })).rejects.toMatchObject(DENIED);
        await expect(client.deleteManifest(web, artifact.digest)).rejects.toMatchObject(DENIED);
      });
    }

    it('says that an artifact is not there', async () => {
      const digest = `sha256:${randomBytes(32).toString('hex')}`;
      const found = pull(web, digest).then((access) => accessSource(access).manifest(digest));
      await expect(found).rejects.toMatchObject({ code: 'artifact_missing' });
    });

    it('takes no name that is not one plain repository', async () => {
      for (const name of [
        `${candidate.prefix}/*`,
        `${candidate.prefix}/we?`,
        '*',
        `${web}","Resource":"*`,
        'UPPER/case',
        '../x',
      ]) {
        await expect(push(name)).rejects.toMatchObject({ code: 'invalid_request' });
        await expect(pull(name, artifact.digest)).rejects.toMatchObject({ code: 'invalid_request' });
      }
    });

    it('promises an end', async () => {
      for (const access of [await push(web), await pull(web, artifact.digest)]) {
        const leftMs = Date.parse(access.expires_at) - Date.now();
        // A plan ends when its URLs do, which is AWS's choice.
        expect(leftMs).toBeLessThanOrEqual(access.kind === 'download_plan' ? 12 * 3_600_000 : LIFE_MS);
        expect(leftMs).toBeGreaterThan(0);
        if (access.registry_token === undefined) continue;
        const payload = Buffer.from(access.registry_token.split('.')[1] ?? '', 'base64url').toString();
        const { exp } = JSON.parse(payload) as { exp: number };
        expect(exp * 1000).toBeLessThanOrEqual(Date.parse(access.expires_at) + 1_000);
      }
    });

    if (shortLifeMs !== undefined) {
      it('ends a credential when it said, however long the registry would take it', async () => {
        const short = [() => push(web, shortLifeMs), () => pull(web, artifact.digest, shortLifeMs)];
        for (const ask of byPlan ? short.slice(0, 1) : short) {
          const client = clientOf(await ask());
          expect(await client.headManifest(web, artifact.digest)).toBeDefined();
          await untilDenied(() => client.headManifest(web, artifact.digest), shortLifeMs * 3);
          await expect(pushArtifact({ client, repository: web, ...small('late') })).rejects.toMatchObject(DENIED);
        }
      });
    }

    const verify = (source: ArtifactSource, digest: string): Promise<unknown> =>
      verifyFrom(source, { digest, publicKeyPem: key.publicKeyPem, expect: { builderId: BUILDER } });
  });
}

const DENIED = { code: 'registry_denied' };

/** A client with the credential of an access. */
export function clientOf(access: RegistryAccess): RegistryClient {
  const value = authorizationOf(access);
  return new RegistryClient({
    baseUrl: access.registry_url,
    credential: { kind: 'header', value: () => Promise.resolve(value) },
    attempts: 2,
    backoffMs: 10,
  });
}

async function bytesOf(source: ArtifactSource, blob: Descriptor): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of (await source.openBlob(blob)) as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

/** Calls until it is denied; throws when it still is not after that time. */
async function untilDenied(call: () => Promise<unknown>, withinMs: number): Promise<void> {
  const end = performance.now() + withinMs;
  for (;;) {
    try {
      await call();
    } catch (error) {
      if (error instanceof ImsError && error.code === 'registry_denied') return;
      throw error;
    }
    if (performance.now() > end) throw new Error(`still allowed after ${withinMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
