import { ImsError, parse, type Class } from '#contracts';

/** `Prefer: wait` is honoured up to this; proxies cut silent connections after 60 s. */
const MAX_WAIT_S = 60;

const refuse = (entries: [pointer: string, message: string][]): ImsError =>
  new ImsError(
    'invalid_request',
    entries.map(([pointer, message]) => `${pointer || '/'} ${message}`).join('; '),
    entries.map(([pointer, message]) => ({ pointer, message })),
  );
const pointerTo = (name: string): string => `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;

/** Refuses every key: for routes that take no body, or no query. */
function parseNothing(value: unknown): object {
  if (value === undefined || value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw refuse([['', 'must be empty']]);
  const unknown = Object.keys(value);
  if (unknown.length > 0) throw refuse(unknown.map((name) => [pointerTo(name), 'unknown field']));
  return {};
}

/** The body as its class; an absent one counts as `{}`, so that what is missing is named field by field. */
export function parseBody(type: Class<object> | undefined, value: unknown): object {
  if (type === undefined) return parseNothing(value);
  return parse(type, value ?? {}, 'strict');
}

/** The query string as its class. A parameter given twice is refused: which one counts would be a guess. */
export function parseQuery(type: Class<object> | undefined, raw: unknown): object {
  const given = Object.entries((raw ?? {}) as Record<string, unknown>);
  if (type === undefined) return parseNothing(Object.fromEntries(given));
  const twice = given.filter(([, value]) => Array.isArray(value));
  if (twice.length > 0) throw refuse(twice.map(([name]) => [pointerTo(name), 'is given twice']));
  // PostgreSQL knows no such text, so it can name nothing; in a body a string with NUL may be a value, and is cleaned.
  const nul = given.filter(([, value]) => typeof value === 'string' && value.includes('\0'));
  if (nul.length > 0) throw refuse(nul.map(([name]) => [pointerTo(name), 'must not contain NUL']));
  return parse(type, Object.fromEntries(given.map(([name, value]) => [name, convert(type, name, value)])), 'strict');
}

/** Text of a query parameter in the type of its field; what does not convert stays text, and is refused by its rule. */
function convert(type: Class<object>, name: string, value: unknown): unknown {
  const wanted = Reflect.getMetadata('design:type', type.prototype as object, name) as unknown;
  if (wanted === Number && typeof value === 'string' && /^-?\d{1,16}$/.test(value)) return Number(value);
  if (wanted === Boolean && (value === 'true' || value === 'false')) return value === 'true';
  return value;
}

/** Milliseconds of `Prefer: wait=N` (RFC 7240), at most 60 s. A preference that cannot be read is no preference. */
export function preferredWaitMs(prefer: string | undefined): number {
  const wait = /(?:^|[,;\s])wait\s*=\s*"?(\d{1,6})"?(?=$|[,;\s])/i.exec(prefer ?? '');
  return wait === null ? 0 : Math.min(Number(wait[1]), MAX_WAIT_S) * 1000;
}

/** True when the header (`If-Match`, `If-None-Match`) lists the entity tag, or is `*`. Weak tags match by their text. */
export function listsEtag(header: string, etag: string): boolean {
  return header
    .split(',')
    .map((tag) => tag.trim().replace(/^W\//, ''))
    .some((tag) => tag === '*' || tag === `"${etag}"`);
}

/**
 * The best of the offered media types for an `Accept` header (RFC 9110: by quality, then by specificity, then in the
 * order of the offer). Nothing fits: the first one, which the RFC allows.
 */
export function negotiate<T extends string>(accept: string | undefined, offered: readonly [T, ...T[]]): T {
  const ranges = (accept ?? '*/*').split(',').map((part) => {
    const [range = '', ...params] = part.split(';').map((piece) => piece.trim().toLowerCase());
    const quality = Number(params.find((param) => param.startsWith('q='))?.slice(2) ?? 1);
    return { range, quality: Number.isNaN(quality) ? 0 : quality };
  });
  const qualityOf = (type: string): number => {
    const fits = [type, `${type.split('/')[0] ?? ''}/*`, '*/*'];
    const range = fits.map((fit) => ranges.find((candidate) => candidate.range === fit)).find((found) => found);
    return range?.quality ?? 0;
  };
  return offered.reduce((best, type) => (qualityOf(type) > qualityOf(best) ? type : best), offered[0]);
}
