import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { type IncomingHttpHeaders } from 'node:http';

/** A request as it came, with its whole body. */
export interface SignedRequest {
  readonly method: string;
  /** Path and query as on the request line. */
  readonly target: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** What the request says of its signer; proven only once `isSignedWith` has said so. */
export interface Claim {
  readonly accessKeyId: string;
  readonly date: string;
  readonly region: string;
  readonly service: string;
  readonly signedHeaders: readonly string[];
  readonly signature: string;
  readonly sessionToken: string | undefined;
}

const FORM =
  /^AWS4-HMAC-SHA256 Credential=([A-Z0-9]+)\/(\d{8})\/([a-z0-9-]+)\/([a-z]+)\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/;
/** AWS refuses requests that are further off than this. */
const SKEW_MS = 5 * 60_000;

/** The signature in the Authorization header, or undefined when there is none of this form. */
export function claimOf({ headers }: SignedRequest): Claim | undefined {
  const match = FORM.exec(headers.authorization ?? '');
  if (match === null) return undefined;
  const [, accessKeyId = '', date = '', region = '', service = '', signed = '', signature = ''] = match;
  const token = headers['x-amz-security-token'];
  return {
    accessKeyId,
    date,
    region,
    service,
    signature,
    signedHeaders: signed.split(';'),
    sessionToken: typeof token === 'string' ? token : undefined,
  };
}

/** True when the secret key of the claim has signed exactly this request, body included, within five minutes. */
export function isSignedWith(secretKey: string, claim: Claim, request: SignedRequest, now: Date): boolean {
  const { headers, body } = request;
  const stamp = String(headers['x-amz-date'] ?? '');
  const at = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(stamp);
  if (at === null || stamp.slice(0, 8) !== claim.date) return false;
  const [, y, mo, d, h, mi, s] = at.map(Number) as [number, number, number, number, number, number, number];
  if (Math.abs(now.getTime() - Date.UTC(y, mo - 1, d, h, mi, s)) > SKEW_MS) return false;
  // Without these two a signature could be moved to another host or another time.
  if (!['host', 'x-amz-date'].every((name) => claim.signedHeaders.includes(name))) return false;
  const bodyHash = sha256(body);
  const declared = headers['x-amz-content-sha256'];
  if (declared !== undefined && declared !== bodyHash) return false;
  const scope = `${claim.date}/${claim.region}/${claim.service}/aws4_request`;
  const text = ['AWS4-HMAC-SHA256', stamp, scope, sha256(canonical(request, claim.signedHeaders, bodyHash))].join('\n');
  const key = [claim.date, claim.region, claim.service, 'aws4_request'].reduce<Buffer | string>(
    (secret, part) => createHmac('sha256', secret).update(part).digest(),
    `AWS4${secretKey}`,
  );
  const expected = createHmac('sha256', key).update(text).digest();
  return timingSafeEqual(expected, Buffer.from(claim.signature, 'hex'));
}

function canonical({ method, target, headers }: SignedRequest, signed: readonly string[], bodyHash: string): string {
  const url = new URL(target, 'http://host');
  const query = [...url.searchParams]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&');
  const lines = signed.map((name) => `${name}:${[headers[name]].flat().join(',').trim().replace(/ +/g, ' ')}\n`);
  return [method, url.pathname, query, lines.join(''), signed.join(';'), bodyHash].join('\n');
}

const encode = (text: string): string =>
  encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
const sha256 = (bytes: Buffer | string): string => createHash('sha256').update(bytes).digest('hex');
