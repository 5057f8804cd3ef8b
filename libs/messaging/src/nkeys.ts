import {
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign as signEd25519,
  verify as verifyEd25519,
  type KeyObject,
} from 'node:crypto';

/** nkeys: ed25519 keys as NATS writes them (base32, a prefix for the kind, two check bytes), with native signing. */

export type NkeyKind = 'operator' | 'account' | 'user';

/** First byte of a public key in its encoded form; base32 makes it the letter O, A or U. */
const KIND_BYTE: Record<NkeyKind, number> = { operator: 14 << 3, account: 0, user: 20 << 3 };
/** First byte of a seed; base32 makes it the letter S. */
const SEED_BYTE = 18 << 3;
/** DER of an ed25519 private key (RFC 8410) up to its 32 bytes, and of a public key likewise. */
const PKCS8_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');
const RAW_KEY_BYTES = 32;

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** RFC 4648 without padding. */
export function base32(bytes: Uint8Array): string {
  let text = '';
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += ALPHABET.charAt((held >> bits) & 31);
    }
  }
  return bits > 0 ? text + ALPHABET.charAt((held << (5 - bits)) & 31) : text;
}

function fromBase32(text: string): Buffer {
  const bytes: number[] = [];
  let bits = 0;
  let held = 0;
  for (const letter of text) {
    const value = ALPHABET.indexOf(letter);
    if (value < 0) throw new Error('not base32');
    held = ((held << 5) | value) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push((held >> bits) & 0xff);
    }
  }
  return Buffer.from(bytes);
}

/** CRC-16/XMODEM: the two check bytes that end every encoded nkey. */
function crc16(bytes: Uint8Array): number {
  let crc = 0;
  for (const byte of bytes) {
    crc ^= byte << 8;
    for (let bit = 0; bit < 8; bit++) crc = (crc & 0x8000 ? (crc << 1) ^ 0x1021 : crc << 1) & 0xffff;
  }
  return crc;
}

function encodeKey(bytes: Buffer): string {
  const crc = crc16(bytes);
  return base32(Buffer.concat([bytes, Buffer.from([crc & 0xff, crc >> 8])]));
}

/** The checked bytes of an encoded key. The error never quotes the text: it may be a seed. */
function decodeKey(text: string, what: string): Buffer {
  let bytes: Buffer;
  try {
    bytes = fromBase32(text);
  } catch {
    throw new Error(`${what} is not an nkey`);
  }
  const body = bytes.subarray(0, -2);
  // Bits that base32 leaves over carry nothing; a text with other ones would be a second name for the same key.
  const exact = base32(bytes) === text;
  if (!exact || bytes.length < RAW_KEY_BYTES + 3 || crc16(body) !== bytes.readUInt16LE(bytes.length - 2)) {
    throw new Error(`${what} is not an nkey`);
  }
  return body;
}

const kindOfByte = (byte: number, what: string): NkeyKind => {
  for (const kind of ['operator', 'account', 'user'] as const) if (KIND_BYTE[kind] === byte) return kind;
  throw new Error(`${what} is neither an operator, nor an account, nor a user nkey`);
};

/** Something that signs as one nkey. It does not show its seed, so it may be passed around. */
export interface NkeySigner {
  readonly kind: NkeyKind;
  readonly publicKey: string;
  sign(bytes: Uint8Array): Uint8Array;
}

function signerOf(kind: NkeyKind, privateKey: KeyObject): NkeySigner {
  const raw = createPublicKey(privateKey).export({ type: 'spki', format: 'der' }).subarray(SPKI_HEAD.length);
  const publicKey = encodeKey(Buffer.concat([Buffer.from([KIND_BYTE[kind]]), raw]));
  return { kind, publicKey, sign: (bytes) => signEd25519(null, bytes, privateKey) };
}

/** A new identity. The seed is the secret: store it with mode 0600, never log it. */
export function createNkey(kind: NkeyKind): { readonly seed: string; readonly publicKey: string } {
  const { privateKey } = generateKeyPairSync('ed25519');
  const raw = privateKey.export({ type: 'pkcs8', format: 'der' }).subarray(PKCS8_HEAD.length);
  const byte = KIND_BYTE[kind];
  // A seed carries two prefixes in two bytes: 5 bits "seed", 8 bits of the kind, 3 bits of nothing.
  const head = Buffer.from([SEED_BYTE | (byte >> 5), (byte & 31) << 3]);
  return { seed: encodeKey(Buffer.concat([head, raw])), publicKey: signerOf(kind, privateKey).publicKey };
}

/** The signer of a seed. Throws (without quoting it) when the seed is malformed. */
export function nkeyFromSeed(seed: string): NkeySigner {
  const body = decodeKey(seed.trim(), 'the seed');
  const [first = 0, second = 0] = body;
  if (body.length !== RAW_KEY_BYTES + 2 || (first & 0xf8) !== SEED_BYTE)
    throw new Error('the seed is not an nkey seed');
  const kind = kindOfByte(((first & 7) << 5) | (second >> 3), 'the seed');
  const der = Buffer.concat([PKCS8_HEAD, body.subarray(2)]);
  return signerOf(kind, createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }));
}

function decodePublicKey(publicKey: string): { kind: NkeyKind; raw: Buffer } {
  const body = decodeKey(publicKey, 'the public key');
  if (body.length !== RAW_KEY_BYTES + 1) throw new Error('the public key is not a public nkey');
  return { kind: kindOfByte(body[0] ?? -1, 'the public key'), raw: body.subarray(1) };
}

/** The kind of a public nkey, or undefined when the text is none (wrong length, check bytes or prefix). */
export function nkeyKind(publicKey: string): NkeyKind | undefined {
  try {
    return decodePublicKey(publicKey).kind;
  } catch {
    return undefined;
  }
}

/** True when the signature over the bytes was made by the holder of that nkey. A malformed key is false, not an error. */
export function verifyNkey(publicKey: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  let raw: Buffer;
  try {
    raw = decodePublicKey(publicKey).raw;
  } catch {
    return false;
  }
  const key = createPublicKey({ key: Buffer.concat([SPKI_HEAD, raw]), format: 'der', type: 'spki' });
  return verifyEd25519(null, bytes, key, signature);
}
