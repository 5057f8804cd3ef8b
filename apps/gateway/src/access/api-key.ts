import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { type KeyId } from '#contracts';

/**
 * `ims_ven_<key id>_<secret><crc>`: the prefix lets secret scanners find it, `_` lets a double-click select all of
 * it, the last 6 characters are the CRC-32 of all before, so that a scanner (and this code) knows a damaged or
 * invented key without asking a database. The secret has 190 bits, so one SHA-256 is enough to store.
 */
export const API_KEY_PATTERN = /^ims_ven_([0-7][0-9a-hjkmnp-tv-z]{25})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})$/;

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const SECRET_LENGTH = 32;
/** 6 digits of base 62 hold 32 bits. */
const CRC_LENGTH = 6;

function randomText(length: number): string {
  let text = '';
  while (text.length < length) {
    // 248 = 4 × 62: bytes above it would make the first characters of the alphabet likelier.
    for (const byte of randomBytes(length)) if (byte < 248 && text.length < length) text += BASE62.charAt(byte % 62);
  }
  return text;
}

function checksum(text: string): string {
  let rest = crc32(text);
  let digits = '';
  for (let i = 0; i < CRC_LENGTH; i++) {
    digits = BASE62.charAt(rest % 62) + digits;
    rest = Math.floor(rest / 62);
  }
  return digits;
}

export const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest();
/** Compares hashes, so the time tells nothing about either text, not even its length. */
export const sameSecret = (hash: Buffer, secret: string): boolean => timingSafeEqual(hash, sha256(secret));

export interface MintedKey {
  readonly text: string;
  readonly secretHash: Buffer;
}

/** A new API key for an id; the text is shown once and only the hash is kept. */
export function mintApiKey(id: KeyId): MintedKey {
  const secret = randomText(SECRET_LENGTH);
  const head = `ims_ven_${id.replace(/^key_/, '')}_${secret}`;
  return { text: head + checksum(head), secretHash: sha256(secret) };
}

/** The parts of a well-formed key; undefined when it is not one, or when its checksum says that it was damaged. */
export function readApiKey(text: string): { id: KeyId; secret: string } | undefined {
  const [, suffix, secret, crc] = API_KEY_PATTERN.exec(text) ?? [];
  if (suffix === undefined || secret === undefined) return undefined;
  if (checksum(text.slice(0, -CRC_LENGTH)) !== crc) return undefined;
  return { id: `key_${suffix}`, secret };
}
