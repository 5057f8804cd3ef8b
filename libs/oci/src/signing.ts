import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { ImsError, type ErrorCode } from '#contracts';
import {
  bundleFromJSON,
  bundleToJSON,
  BUNDLE_V03_MEDIA_TYPE,
  isBundleWithDsseEnvelope,
  toDSSEBundle,
} from '@sigstore/bundle';
import { toSignedEntity, toTrustMaterial, Verifier } from '@sigstore/verify';

/** What signs: a key in this process, or later one in a KMS. `sign` is ECDSA P-256 over SHA-256, in DER. */
export interface ArtifactSigner {
  readonly publicKeyPem: string;
  sign(bytes: Buffer): Promise<Buffer>;
}

/** Media type of a sigstore bundle, also the artifactType of a referrer that holds one. */
export const BUNDLE_MEDIA_TYPE = BUNDLE_V03_MEDIA_TYPE;

/** What a check of a signature can find wrong, in the order of the checks, and its code. The detail begins with it. */
const FAULTS = {
  'missing referrer': 'signature_missing',
  'malformed bundle': 'signature_invalid',
  'wrong key': 'signature_untrusted',
  'altered payload': 'signature_invalid',
  'swapped subject': 'signature_swapped',
  'predicate type': 'provenance_refused',
  builder: 'provenance_refused',
  provenance: 'provenance_refused',
} as const satisfies Record<string, ErrorCode>;
export type SignatureFault = keyof typeof FAULTS;
/** The checks, in their order. */
export const SIGNATURE_CHECKS = Object.keys(FAULTS) as SignatureFault[];

/** True for what a check of a signature found, whichever check it was. */
export const isSignatureFault = (error: unknown): error is ImsError =>
  error instanceof ImsError && (Object.values(FAULTS) as string[]).includes(error.code);

/** A new ECDSA P-256 key pair (PKCS#8 and SPKI PEM). */
export function createSigningKey(): { readonly privateKeyPem: string; readonly publicKeyPem: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return {
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicKeyPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
  };
}

/** A signer with its key in this process. Throws `internal` when the PEM is not a P-256 private key. */
export function localSigner(privateKeyPem: string): ArtifactSigner {
  const key = p256(() => createPrivateKey(privateKeyPem), 'private');
  const publicKeyPem = createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString();
  return { publicKeyPem, sign: (bytes) => Promise.resolve(sign('sha256', bytes, key)) };
}

/** The name of a key in bundles: base64 of the SHA-256 of its SPKI, as cosign writes it. */
export function keyHint(publicKeyPem: string): string {
  const spki = p256(() => createPublicKey(publicKeyPem), 'public').export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('base64');
}

/**
 * Signs a payload: a DSSE envelope in a sigstore bundle v0.3, as JSON bytes. Stock cosign verifies it. The envelope's
 * keyid stays empty: the library would put the hint there, and cosign then finds no matching signature.
 */
export async function signBundle(signer: ArtifactSigner, payloadType: string, payload: Buffer): Promise<Buffer> {
  const signature = await signer.sign(preAuthEncoding(payloadType, payload));
  const bundle = toDSSEBundle({
    artifact: payload,
    artifactType: payloadType,
    signature,
    keyHint: keyHint(signer.publicKeyPem),
  });
  for (const one of bundle.content.dsseEnvelope.signatures) one.keyid = '';
  return Buffer.from(JSON.stringify(bundleToJSON(bundle)));
}

/**
 * What DSSE signs: the type is bound to the bytes, so that a signed statement cannot pass for another kind. Ours and not
 * that of @sigstore/sign, which brings a whole HTTP client for services that we do not use.
 */
function preAuthEncoding(payloadType: string, payload: Buffer): Buffer {
  const head = `DSSEv1 ${Buffer.byteLength(payloadType)} ${payloadType} ${payload.length} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

/**
 * The payload of a bundle, when one of the trusted public keys has signed exactly that payload under exactly that type.
 * Throws by the fault, which the detail begins with: malformed bundle, wrong key (the bundle names another), altered
 * payload (no signature of the named key over these bytes).
 */
export function openBundle(bundleJson: Buffer, trustedKeyPems: readonly string[], payloadType: string): Buffer {
  let bundle: ReturnType<typeof bundleFromJSON>;
  try {
    bundle = bundleFromJSON(JSON.parse(bundleJson.toString('utf8')));
  } catch (error) {
    throw fault('malformed bundle', 'it is not a sigstore bundle', error);
  }
  const material = bundle.verificationMaterial.content;
  if (!isBundleWithDsseEnvelope(bundle) || bundle.mediaType !== BUNDLE_MEDIA_TYPE || material.$case !== 'publicKey') {
    throw fault('malformed bundle', 'it is not a signed statement of a plain key');
  }
  const envelope = bundle.content.dsseEnvelope;
  // The library checks the first signature only; a second one would look checked and is not.
  if (envelope.signatures.length !== 1) throw fault('malformed bundle', 'it does not have exactly one signature');
  if (envelope.payloadType !== payloadType) throw fault('malformed bundle', 'its payload is of another type');
  // The hint is not signed: it only picks among the keys that are trusted anyway.
  const trusted = trustedKeyPems.find((pem) => keyHint(pem) === material.publicKey.hint);
  if (trusted === undefined) throw fault('wrong key', "it was signed with a key that is not the vendor's");
  const none = { certificateAuthorities: [], timestampAuthorities: [], tlogs: [], ctlogs: [] };
  const trust = toTrustMaterial({ mediaType: '', ...none }, () => ({
    publicKey: createPublicKey(trusted),
    validFor: () => true,
  }));
  try {
    new Verifier(trust, { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 }).verify(toSignedEntity(bundle));
  } catch (error) {
    throw fault('altered payload', 'the signature does not belong to these bytes', error);
  }
  return Buffer.from(envelope.payload);
}

export function fault(which: SignatureFault, why: string, cause?: unknown): ImsError {
  return new ImsError(FAULTS[which], `${which}: ${why}`, [], cause === undefined ? {} : { cause });
}

function p256(load: () => KeyObject, kind: 'private' | 'public'): KeyObject {
  let key: KeyObject;
  try {
    key = load();
  } catch {
    // The parser's message may quote the text, and the text may be a private key.
    throw new ImsError('internal', `the ${kind} signing key is not readable PEM`);
  }
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') {
    throw new ImsError('internal', `the ${kind} signing key is not ECDSA P-256`);
  }
  return key;
}
