import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/** Real ones live for about an hour, as far as is known; nothing documents it. */
const LIFE_MS = 3_600_000;

/** Pre-signed URLs of the object store behind the registry: one blob, for whoever holds the URL, until it ends. */
export class LayerUrls {
  private readonly key = randomBytes(32);

  constructor(private readonly now: () => Date) {}

  sign(origin: string, repository: string, digest: string): string {
    const date = this.now()
      .toISOString()
      .replace(/[-:]|\.\d{3}/g, '');
    const path = `/layers/${repository}/${digest}`;
    const signature = this.signatureOf(path, date, String(LIFE_MS / 1000));
    return `${origin}${path}?X-Amz-Date=${date}&X-Amz-Expires=${LIFE_MS / 1000}&X-Amz-Signature=${signature}`;
  }

  /** Repository and digest of a URL that is ours, unaltered and not ended. */
  open(url: URL): { repository: string; digest: string } | undefined {
    const date = url.searchParams.get('X-Amz-Date') ?? '';
    const expires = url.searchParams.get('X-Amz-Expires') ?? '';
    const given = Buffer.from(url.searchParams.get('X-Amz-Signature') ?? '', 'hex');
    const path = decodeURIComponent(url.pathname);
    const expected = Buffer.from(this.signatureOf(path, date, expires), 'hex');
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return undefined;
    const at = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z'));
    if (at + Number(expires) * 1000 <= this.now().getTime()) return undefined;
    const [, repository = '', digest = ''] = /^\/layers\/(.+)\/(sha256:[0-9a-f]{64})$/.exec(path) ?? [];
    return { repository, digest };
  }

  private signatureOf(path: string, date: string, expires: string): string {
    return createHmac('sha256', this.key).update(`${path}\n${date}\n${expires}`).digest('hex');
  }
}
