import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { startRegistry, type RegistryServer } from '#stack';
import { clientOf, codeOf, failureOf, inOwnFolder, temporaryDirectory } from '../test/harness.js';
import {
  ARTIFACT_FORM,
  attestArtifact,
  BUNDLE_MEDIA_TYPE,
  createSigningKey,
  digestOf,
  listReferrers,
  localSigner,
  MEDIA_TYPE,
  openBundle,
  pullLayer,
  pushArtifact,
  signBundle,
  verifyArtifact,
  type ArtifactSigner,
  type Descriptor,
  type ImageManifest,
  type Provenance,
  type RegistryClient,
  isSignatureFault,
} from './index.js';
import { uploadArtifact } from './artifact.js';
import { putReferrer } from './referrers.js';

const key = createSigningKey();
const signer = localSigner(key.privateKeyPem);
const provenance: Provenance = {
  buildType: 'https://ims.example/build/terraform-module/v1',
  externalParameters: { source: 'https://git.example/infra', ref: 'main' },
  resolvedDependencies: [{ uri: 'git+https://git.example/infra', digest: { gitCommit: 'a'.repeat(40) } }],
  builderId: 'agt_builder',
};
const PAYLOAD = 'application/vnd.in-toto+json';

let registry: RegistryServer;
let client: RegistryClient;
let repositories = 0;

beforeAll(async () => {
  registry = await inOwnFolder((dir) => startRegistry({ dir }));
  client = clientOf(registry.url);
});
afterAll(async () => {
  client.close();
  await registry.stop();
});

/** A module in a repository of its own, so that the faults of one test stay there. */
async function pushModule(content = 'zip'): Promise<{ client: RegistryClient; repository: string; digest: string }> {
  const { artifactType, layerMediaType } = ARTIFACT_FORM.terraformModule;
  const repository = `v/r${(repositories += 1)}`;
  const layers = [{ mediaType: layerMediaType, bytes: Buffer.from(content) }];
  const { digest } = await pushArtifact({ client, repository, artifactType, layers, tag: 'latest' });
  return { client, repository, digest };
}

const verify = (
  address: Awaited<ReturnType<typeof pushModule>>,
  publicKeyPem: string | string[] = key.publicKeyPem,
  builderId = 'agt_builder',
) => verifyArtifact({ ...address, publicKeyPem, expect: { builderId } });

const detailOf = async (promise: Promise<unknown>): Promise<string> => {
  const failure = await failureOf(promise);
  const judged: boolean = isSignatureFault(failure);
  return judged ? (failure?.detail.split(':')[0] ?? '') : (failure?.code ?? 'verified');
};

/** Attaches any bytes as if they were a bundle. */
async function attach(
  address: Awaited<ReturnType<typeof pushModule>>,
  bundle: Buffer,
  subjectDigest = address.digest,
): Promise<Descriptor> {
  const subject = (await client.headManifest(address.repository, address.digest))!;
  const input = { artifactType: BUNDLE_MEDIA_TYPE, layers: [{ mediaType: BUNDLE_MEDIA_TYPE, bytes: bundle }], subject };
  const referrer = await uploadArtifact(address, input, {});
  await putReferrer(address, subjectDigest, referrer);
  return referrer.descriptor;
}

/** The statement that attestArtifact makes for an address, for changing it before it is signed. */
async function statementOf(address: Awaited<ReturnType<typeof pushModule>>): Promise<Record<string, unknown>> {
  let payload: Buffer = Buffer.alloc(0);
  const spy: ArtifactSigner = {
    publicKeyPem: key.publicKeyPem,
    sign: (bytes) => {
      payload = bytes.subarray(bytes.indexOf('{'));
      return Promise.reject(new Error('only looking'));
    },
  };
  await attestArtifact({ ...address, signer: spy, provenance }).catch(() => undefined);
  return JSON.parse(payload.toString('utf8')) as Record<string, unknown>;
}
const signed = (statement: object, by: ArtifactSigner = signer) =>
  signBundle(by, PAYLOAD, Buffer.from(JSON.stringify(statement)));

describe('the provenance of an artifact', () => {
  it('is attached once and verified by its key', async () => {
    const address = await pushModule();
    const referrer = await attestArtifact({ ...address, signer, provenance });
    expect(await attestArtifact({ ...address, signer, provenance })).toEqual(referrer);
    const listed = await listReferrers(address, address.digest);
    expect(listed).toMatchObject([{ digest: referrer.digest, artifactType: BUNDLE_MEDIA_TYPE }]);
    const statement = await verify(address);
    expect(statement.subject).toEqual([{ name: address.repository, digest: { sha256: address.digest.slice(7) } }]);
    expect(statement.predicate.buildDefinition.externalParameters).toEqual(provenance.externalParameters);
  });

  it('counts when any of several trusted keys has signed', async () => {
    const address = await pushModule();
    await attestArtifact({ ...address, signer, provenance });
    const [other, third] = [createSigningKey(), createSigningKey()];
    await verify(address, [other.publicKeyPem, key.publicKeyPem]);
    expect(await detailOf(verify(address, [other.publicKeyPem, third.publicKeyPem]))).toBe('wrong key');
  });

  it('is missing when nobody signed', async () => {
    expect(await detailOf(verify(await pushModule()))).toBe('missing referrer');
  });

  it('is refused from a key that is not the vendor key', async () => {
    const address = await pushModule();
    const thief = localSigner(createSigningKey().privateKeyPem);
    await attestArtifact({ ...address, signer: thief, provenance });
    expect(await detailOf(verify(address))).toBe('wrong key');
    // A thief who writes the vendor's hint into his bundle gets no further.
    const posing = await signBundle(
      { ...thief, publicKeyPem: key.publicKeyPem },
      PAYLOAD,
      Buffer.from(JSON.stringify(await statementOf(address))),
    );
    await attach(address, posing);
    expect(await detailOf(verify(address))).toBe('altered payload');
  });

  it('is refused when the payload, its type or the signature was altered', async () => {
    const change = async (edit: (bundle: { dsseEnvelope: Record<string, unknown> }) => void): Promise<string> => {
      const address = await pushModule();
      const bundle = JSON.parse((await signed(await statementOf(address))).toString()) as {
        dsseEnvelope: Record<string, unknown>;
      };
      edit(bundle);
      await attach(address, Buffer.from(JSON.stringify(bundle)));
      return detailOf(verify(address));
    };
    expect(await change(() => undefined)).toBe('verified');
    const forge = (text: string): string => Buffer.from(text.replace('agt_builder', 'agt_nobody1')).toString('base64');
    expect(
      await change(({ dsseEnvelope }) => {
        dsseEnvelope['payload'] = forge(Buffer.from(String(dsseEnvelope['payload']), 'base64').toString());
      }),
    ).toBe('altered payload');
    expect(
      await change(({ dsseEnvelope }) => {
        dsseEnvelope['signatures'] = [{ sig: Buffer.from('no signature').toString('base64'), keyid: '' }];
      }),
    ).toBe('altered payload');
    for (const bad of [
      [],
      [
        { sig: '', keyid: '' },
        { sig: '', keyid: '' },
      ],
    ]) {
      expect(
        await change(({ dsseEnvelope }) => {
          dsseEnvelope['signatures'] = bad;
        }),
      ).toBe('malformed bundle');
    }
    expect(
      await change(({ dsseEnvelope }) => {
        dsseEnvelope['payloadType'] = 'application/json';
      }),
    ).toBe('malformed bundle');
  });

  it('is refused when it is about another artifact', async () => {
    const good = await pushModule('good');
    const aboutGood = await signed(await statementOf(good));
    await attestArtifact({ ...good, signer, provenance });
    // The same repository gets evil bytes, and the signature of the good ones is hung on them.
    const { artifactType, layerMediaType } = ARTIFACT_FORM.terraformModule;
    const layers = [{ mediaType: layerMediaType, bytes: Buffer.from('evil') }];
    const evil = { ...good, digest: (await pushArtifact({ ...good, artifactType, layers })).digest };
    await attach(evil, aboutGood);
    expect(await detailOf(verify(evil))).toBe('swapped subject');
    await verify(good);
    // Listed under the evil digest without saying so itself: not a referrer at all.
    const lone = await pushModule('lone');
    await attach(lone, await signed(await statementOf(lone)), evil.digest);
    expect(await detailOf(verify({ ...lone, digest: evil.digest }))).toBe('missing referrer');
  });

  it('is refused when it is another kind of statement', async () => {
    const address = await pushModule();
    await attach(
      address,
      await signed({ ...(await statementOf(address)), predicateType: 'https://cosign.sigstore.dev/attestation/v1' }),
    );
    expect(await detailOf(verify(address))).toBe('predicate type');
  });

  it('is refused from another builder, of another build type, and against a rule of the caller', async () => {
    const address = await pushModule();
    await attestArtifact({ ...address, signer, provenance });
    expect(await detailOf(verify(address, key.publicKeyPem, 'agt_other'))).toBe('builder');
    const withExpect = (more: object) =>
      verifyArtifact({
        ...address,
        publicKeyPem: key.publicKeyPem,
        expect: { builderId: ['x', 'agt_builder'], ...more },
      });
    expect(await detailOf(withExpect({ buildType: 'other' }))).toBe('provenance');
    expect(await detailOf(withExpect({ rule: () => 'wrong branch' }))).toBe('provenance');
    expect(await detailOf(withExpect({ buildType: provenance.buildType, rule: () => undefined }))).toBe('verified');
  });

  it('is found among bad ones', async () => {
    const address = await pushModule();
    await attach(address, Buffer.from('garbage'));
    expect(await detailOf(verify(address))).toBe('malformed bundle');
    await attestArtifact({ ...address, signer, provenance });
    await verify(address);
  });

  it('cannot be made for what is not there', async () => {
    const address = await pushModule();
    expect(await codeOf(attestArtifact({ ...address, digest: digestOf(Buffer.from('x')), signer, provenance }))).toBe(
      'artifact_missing',
    );
  });
});

describe('a bundle', () => {
  it('has the form that cosign reads: v0.3, hint of the key, no keyid', async () => {
    const bundle = JSON.parse((await signBundle(signer, PAYLOAD, Buffer.from('{}'))).toString()) as Record<
      string,
      unknown
    >;
    expect(bundle).toMatchObject({
      mediaType: BUNDLE_MEDIA_TYPE,
      verificationMaterial: { publicKey: { hint: expect.stringMatching(/^[A-Za-z0-9+/]{43}=$/) as string } },
    });
    const { signatures } = bundle['dsseEnvelope'] as { signatures: Record<string, unknown>[] };
    expect(signatures).toHaveLength(1);
    expect(signatures[0]?.['keyid'] ?? '').toBe('');
  });

  it('never shows the key in an error', () => {
    const broken = key.privateKeyPem.replace('PRIVATE', 'PRIVAT');
    expect(() => localSigner(broken)).toThrow('not readable PEM');
    expect(() => openBundle(Buffer.from('{}'), [key.publicKeyPem], PAYLOAD)).toThrow('malformed bundle');
  });
});

describe('an artifact', () => {
  it('has the same digest wherever and however often it is pushed', async () => {
    const one = await pushModule('same');
    const other = await pushModule('same');
    expect(other.digest).toBe(one.digest);
    const annotated = (annotations: Record<string, string>) =>
      pushArtifact({ ...one, artifactType: 'a/b', layers: [], annotations }).then(({ digest }) => digest);
    expect(await annotated({ x: '1', a: '2' })).toBe(await annotated({ a: '2', x: '1' }));
  });

  it('has the form that OpenTofu asks for', async () => {
    const { content } = await client.getManifest(
      ...(await pushModule().then(({ repository, digest }) => [repository, digest] as const)),
    );
    expect(content).toMatchObject({
      artifactType: 'application/vnd.opentofu.modulepkg',
      config: { mediaType: MEDIA_TYPE.empty },
    });
    expect((content as ImageManifest).layers).toMatchObject([{ mediaType: 'archive/zip', size: 3 }]);
  });

  it('takes a layer from a file, and gives it back into one', async () => {
    const dir = await temporaryDirectory();
    const file = path.join(dir, 'chart.tgz');
    await writeFile(file, 'chart bytes');
    const { configMediaType, layerMediaType } = ARTIFACT_FORM.helmChart;
    const config = { mediaType: configMediaType, bytes: Buffer.from('{"name":"api"}') };
    const address = { client, repository: 'v/chart' };
    const { digest } = await pushArtifact({ ...address, config, layers: [{ mediaType: layerMediaType, file }] });
    const out = path.join(dir, 'new', 'out.tgz');
    await pullLayer({ ...address, digest, mediaType: layerMediaType, file: out });
    expect(await readFile(out, 'utf8')).toBe('chart bytes');
    expect(await codeOf(pullLayer({ ...address, digest, mediaType: 'archive/zip', file: out }))).toBe('source_invalid');
    expect(await codeOf(pullLayer({ ...address, digest, mediaType: layerMediaType, file: out, maxBytes: 5 }))).toBe(
      'digest_mismatch',
    );
    await rm(dir, { recursive: true });
  });
});
