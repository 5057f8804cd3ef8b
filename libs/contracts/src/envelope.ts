import { ImsError } from './errors.js';
import { Text } from './fields.js';

/**
 * A signed statement: DSSE (https://github.com/secure-systems-lab/dsse) with exactly one Ed25519 signature. Used for
 * jobs (signed by the scheduler) and for an agent's requests over HTTPS (signed with the agent's own key).
 */
export class Envelope {
  @Text(1, 100) payload_type: string;
  /** base64 of the signed JSON bytes. Verify first, parse after. */
  @Text(1, 400_000) payload: string;
  /** Public key in NATS nkey form. A hint only: the verifier decides which key it trusts. */
  @Text(1, 100) key_id: string;
  /** base64, 64 bytes. */
  @Text(1, 100) signature: string;
}

export interface Signer {
  readonly publicKey: string;
  sign(bytes: Uint8Array): Uint8Array;
}
/** True when the signature of the bytes is the public key's. */
export type VerifySignature = (publicKey: string, bytes: Uint8Array, signature: Uint8Array) => boolean;

/** DSSE's pre-authentication encoding: binds the type to the bytes, so a job cannot pass for another statement. */
function preAuthEncoding(payloadType: string, payload: Uint8Array): Buffer {
  const type = Buffer.from(payloadType);
  return Buffer.concat([Buffer.from(`DSSEv1 ${type.length} `), type, Buffer.from(` ${payload.length} `), payload]);
}

export const PAYLOAD_TYPES = {
  job: 'application/vnd.ims.job.v1+json',
  agentRequest: 'application/vnd.ims.agent-request.v1+json',
  /** An agent whose JWT has ended asks for another. */
  agentRenewal: 'application/vnd.ims.agent-renewal.v1+json',
  /** A new key for job statements, signed by one that agents trust already. */
  jobKey: 'application/vnd.ims.job-key.v1+json',
  /** A customer's yes to a plan, by one of the keys that the policy on the agent's host names. */
  planApproval: 'application/vnd.ims.plan-approval.v1+json',
} as const;

/** Signs the JSON text of a statement. */
export function signEnvelope(payloadType: string, statement: object, signer: Signer): Envelope {
  const payload = Buffer.from(JSON.stringify(statement));
  return Object.assign(new Envelope(), {
    payload_type: payloadType,
    payload: payload.toString('base64'),
    key_id: signer.publicKey,
    signature: Buffer.from(signer.sign(preAuthEncoding(payloadType, payload))).toString('base64'),
  });
}

/**
 * The JSON inside an envelope, when one of the trusted keys signed it. Throws `statement_refused` otherwise; the
 * caller still checks what the statement says (for whom, until when).
 */
export function openEnvelope(
  envelope: Envelope,
  payloadType: string,
  trustedKeys: readonly string[],
  verify: VerifySignature,
): unknown {
  if (envelope.payload_type !== payloadType) {
    throw new ImsError('statement_refused', `the statement is a ${envelope.payload_type}, not a ${payloadType}`);
  }
  const payload = Buffer.from(envelope.payload, 'base64');
  const signed = preAuthEncoding(payloadType, payload);
  const signature = Buffer.from(envelope.signature, 'base64');
  if (!trustedKeys.some((key) => key === envelope.key_id && verify(key, signed, signature))) {
    throw new ImsError('statement_refused', 'the statement is not signed by a key that is trusted here');
  }
  return JSON.parse(payload.toString('utf8')) as unknown;
}
