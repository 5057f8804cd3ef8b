import { ImsError } from '#contracts';
import { uploadArtifact } from './artifact.js';
import { registrySource, type ArtifactSource } from './copy.js';
import { hexOf, isIndex, isRecord, type Descriptor, type FetchedManifest } from './descriptor.js';
import { putReferrer, type ArtifactAddress } from './referrers.js';
import { type Call } from './session.js';
import {
  BUNDLE_MEDIA_TYPE,
  fault,
  isSignatureFault,
  SIGNATURE_CHECKS,
  openBundle,
  signBundle,
  type ArtifactSigner,
} from './signing.js';

export const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
export const PROVENANCE_TYPE = 'https://slsa.dev/provenance/v1';
const PAYLOAD_TYPE = 'application/vnd.in-toto+json';
/** A statement is about 1 KB; one with thousands of dependencies still fits. */
const MAX_BUNDLE_BYTES = 1024 * 1024;

/** What a build says of itself (SLSA v1). Leave the times out and a retried build says the same again. */
export interface Provenance {
  /** URI of the kind of build, which tells how to read the parameters. */
  readonly buildType: string;
  /** What the vendor chose: source, ref, directory, values. No secrets: everybody who may pull may read it. */
  readonly externalParameters: Readonly<Record<string, unknown>>;
  readonly internalParameters?: Readonly<Record<string, unknown>> | undefined;
  /** What went in: the source commit, base images, each with its digest. */
  readonly resolvedDependencies?: readonly ResourceDescriptor[] | undefined;
  /** URI of who built: the build agent's identity. */
  readonly builderId: string;
  /** The build id. */
  readonly invocationId?: string | undefined;
  /** RFC 3339. */
  readonly startedOn?: string | undefined;
  readonly finishedOn?: string | undefined;
}

export interface ResourceDescriptor {
  readonly uri?: string;
  readonly name?: string;
  readonly digest?: Readonly<Record<string, string>>;
}

/** An in-toto statement with SLSA provenance, checked. */
export interface ProvenanceStatement {
  readonly _type: typeof STATEMENT_TYPE;
  readonly subject: readonly { readonly name: string; readonly digest: Readonly<Record<string, string>> }[];
  readonly predicateType: typeof PROVENANCE_TYPE;
  readonly predicate: {
    readonly buildDefinition: {
      readonly buildType: string;
      readonly externalParameters: Readonly<Record<string, unknown>>;
      readonly internalParameters?: Readonly<Record<string, unknown>>;
      readonly resolvedDependencies?: readonly ResourceDescriptor[];
    };
    readonly runDetails: {
      readonly builder: { readonly id: string };
      readonly metadata?: { readonly invocationId?: string; readonly startedOn?: string; readonly finishedOn?: string };
    };
  };
}

/**
 * Signs the provenance of an artifact that is in the repository and attaches it as a referrer. The same provenance
 * signed with the same key is attached once, so a retried step adds nothing. Returns the referrer's descriptor.
 */
export async function attestArtifact(
  job: ArtifactAddress &
    Call & { readonly digest: string; readonly signer: ArtifactSigner; readonly provenance: Provenance },
): Promise<Descriptor> {
  const { client, repository, digest, signer, signal } = job;
  const subject = await client.headManifest(repository, digest, { signal });
  if (subject === undefined)
    throw new ImsError('artifact_missing', `${repository}@${digest} is not there to be signed`);
  const statement = Buffer.from(JSON.stringify(toStatement(repository, digest, job.provenance)));
  for (const { referrer, bundle } of await bundlesOf(registrySource(job), digest, signal)) {
    try {
      if (openBundle(bundle, [signer.publicKeyPem], PAYLOAD_TYPE).equals(statement)) return referrer.descriptor;
    } catch {
      // Somebody else's signature, or a bad one: ours is added beside it.
    }
  }
  const bundle = await signBundle(signer, PAYLOAD_TYPE, statement);
  const referrer = await uploadArtifact(
    job,
    {
      artifactType: BUNDLE_MEDIA_TYPE,
      layers: [{ mediaType: BUNDLE_MEDIA_TYPE, bytes: bundle }],
      subject,
      // What cosign writes, so that its filters find ours.
      annotations: {
        'dev.sigstore.bundle.content': 'dsse-envelope',
        'dev.sigstore.bundle.predicateType': PROVENANCE_TYPE,
      },
    },
    { signal },
  );
  await putReferrer(job, digest, referrer, { signal });
  return referrer.descriptor;
}

/** What to check of an artifact's provenance. */
export interface Verification extends Call {
  readonly digest: string;
  /** One key, or all that are trusted: several build agents, or a rotation. */
  readonly publicKeyPem: string | readonly string[];
  readonly expect: {
    readonly builderId: string | readonly string[];
    readonly buildType?: string;
    /** A rule of the caller on the statement; returns why it is not fulfilled. */
    readonly rule?: (statement: ProvenanceStatement) => string | undefined;
  };
}

/** `verifyFrom` a repository. */
export function verifyArtifact(job: ArtifactAddress & Verification): Promise<ProvenanceStatement> {
  return verifyFrom(registrySource(job), job);
}

/**
 * The provenance of an artifact, when one of its referrers is a statement about exactly this digest, signed with a
 * trusted key, by this builder. Throws by the check that failed, which the detail begins with (`missing referrer`,
 * `wrong key`, `altered payload`, `swapped subject`, `predicate type`, `builder`, …), of the referrer that came
 * furthest. Reads manifests and bundles only, never the artifact's blobs.
 */
export async function verifyFrom(source: ArtifactSource, job: Verification): Promise<ProvenanceStatement> {
  let furthest = fault('missing referrer', `${source.name}@${job.digest} has no signature`);
  let reached = -1;
  for (const { bundle } of await bundlesOf(source, job.digest, job.signal)) {
    try {
      return checkBundle(bundle, job);
    } catch (error) {
      if (!isSignatureFault(error)) throw error;
      const step = SIGNATURE_CHECKS.findIndex((name) => error.detail.startsWith(name));
      if (step > reached) [reached, furthest] = [step, error];
    }
  }
  throw furthest;
}

function checkBundle(bundle: Buffer, job: Verification): ProvenanceStatement {
  const payload = openBundle(bundle, [job.publicKeyPem].flat(), PAYLOAD_TYPE);
  // From here on the vendor has said it; what is left is whether it was said of this artifact and by whom we expect.
  const statement = JSON.parse(payload.toString('utf8')) as ProvenanceStatement;
  const hex = hexOf(job.digest);
  const subjects: unknown = statement.subject;
  const named = Array.isArray(subjects) && statement.subject.some((subject) => subject?.digest?.['sha256'] === hex);
  if (!named) throw fault('swapped subject', 'the statement is about another artifact');
  if (statement._type !== STATEMENT_TYPE || statement.predicateType !== PROVENANCE_TYPE) {
    throw fault('predicate type', 'the statement is not SLSA provenance v1');
  }
  const builderId: unknown = statement.predicate?.runDetails?.builder?.id;
  const builders: readonly unknown[] = [job.expect.builderId].flat();
  if (!builders.includes(builderId)) throw fault('builder', `it was built by ${String(builderId)}`);
  const definition = statement.predicate.buildDefinition;
  if (!isRecord(definition) || !isRecord(definition.externalParameters))
    throw fault('provenance', 'it does not say how it was built');
  if (job.expect.buildType !== undefined && definition.buildType !== job.expect.buildType) {
    throw fault('provenance', `it is a build of type ${definition.buildType}`);
  }
  const broken = job.expect.rule?.(statement);
  if (broken !== undefined) throw fault('provenance', broken);
  return statement;
}

/** The sigstore bundles that refer to a digest. What is not one by its own manifest is passed over. */
async function bundlesOf(
  source: ArtifactSource,
  digest: string,
  signal: AbortSignal | undefined,
): Promise<readonly { readonly referrer: FetchedManifest; readonly bundle: Buffer }[]> {
  const found: { referrer: FetchedManifest; bundle: Buffer }[] = [];
  for (const listed of (await source.referrers?.(digest, signal)) ?? []) {
    const referrer = await source.manifest(listed.digest, signal).catch((error: unknown) => {
      if (error instanceof ImsError && error.code === 'artifact_missing') return undefined;
      throw error;
    });
    if (referrer === undefined || isIndex(referrer.content)) continue;
    const { artifactType, subject, layers } = referrer.content;
    const [layer] = layers;
    const fits =
      artifactType === BUNDLE_MEDIA_TYPE &&
      subject?.digest === digest &&
      layers.length === 1 &&
      layer !== undefined &&
      layer.size <= MAX_BUNDLE_BYTES;
    if (!fits) continue;
    const chunks: Buffer[] = [];
    // The source keeps a blob to its size.
    for await (const chunk of (await source.openBlob(layer, signal)) as AsyncIterable<Buffer>) chunks.push(chunk);
    found.push({ referrer, bundle: Buffer.concat(chunks) });
  }
  return found;
}

function toStatement(repository: string, digest: string, provenance: Provenance): ProvenanceStatement {
  const { invocationId, startedOn, finishedOn } = provenance;
  const metadata = {
    ...(invocationId === undefined ? {} : { invocationId }),
    ...(startedOn === undefined ? {} : { startedOn }),
    ...(finishedOn === undefined ? {} : { finishedOn }),
  };
  return {
    _type: STATEMENT_TYPE,
    subject: [{ name: repository, digest: { sha256: hexOf(digest) } }],
    predicateType: PROVENANCE_TYPE,
    predicate: {
      buildDefinition: {
        buildType: provenance.buildType,
        externalParameters: provenance.externalParameters,
        ...(provenance.internalParameters ? { internalParameters: provenance.internalParameters } : {}),
        ...(provenance.resolvedDependencies ? { resolvedDependencies: provenance.resolvedDependencies } : {}),
      },
      runDetails: {
        builder: { id: provenance.builderId },
        ...(Object.keys(metadata).length > 0 ? { metadata } : {}),
      },
    },
  };
}
