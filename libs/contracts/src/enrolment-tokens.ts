import { createHash, randomBytes } from 'node:crypto';
import { type TokenId } from './ids.js';

/**
 * `ims_enr_<token id>_<secret>`. The gateway makes it and reads it, and it goes no further. A service and the broker see
 * what it hashes to: at its use the proof, which is worth nothing once it is used, and which only the gateway can have
 * taken from a token; before that, and in the database, the verifier, which is no proof.
 */
const PATTERN = /^ims_enr_([0-7][0-9a-hjkmnp-tv-z]{25})_([0-9a-f]{64})$/;
const digestOf = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`;

/** What a proof of an enrolment token must hash to. */
export const verifierOf = (proof: string): string => digestOf(proof);

/** A new token under this id: the text for its one user, and what it will be known by. */
export function mintEnrolmentToken(id: TokenId): { readonly text: string; readonly verifier: string } {
  const secret = randomBytes(32).toString('hex');
  return { text: `ims_enr_${id.slice('tok_'.length)}_${secret}`, verifier: verifierOf(digestOf(secret)) };
}

/** Id and proof of a well-formed token; undefined when it is none. */
export function readEnrolmentToken(text: string): { readonly id: TokenId; readonly proof: string } | undefined {
  const [, suffix, secret] = PATTERN.exec(text) ?? [];
  if (suffix === undefined || secret === undefined) return undefined;
  return { id: `tok_${suffix}`, proof: digestOf(secret) };
}
