/** Keys whose text values never reach a log, wherever in an object they are. `…_id`, `…_hash`, `…_expires_at` are fine. */
const SECRET_KEY =
  '[\\w-]*(?:password|passwd|passphrase|secret|token|seed|credential|authorization|cookie|api[_-]?key|private[_-]?key|nats[_-]?jwt)s?';
/** Secrets that are known by their form: our keys and tokens, NATS seeds and JWTs, bearer and basic headers, URL passwords. */
const FORMS: readonly (readonly [RegExp, string])[] = [
  [/\bims_[a-z]{2,8}_[0-9a-zA-Z]{4,}_[0-9a-zA-Z]{16,}/g, 'ims_[redacted]'],
  [/\btok_[0-9a-z]{26}\.[\w-]{8,}/g, 'tok_[redacted]'],
  [/\bS[OAUNCX][A-Z2-7]{56}\b/g, '[redacted seed]'],
  [/\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*/g, '[redacted jwt]'],
  [/\b(Bearer|Basic)\s+[\w.~+/=-]{8,}/gi, '$1 [redacted]'],
  [/\b([a-z][a-z0-9+.-]*:\/\/[^\s:/@"'\\]*):[^\s/@"'\\]+@/gi, '$1:[redacted]@'],
  [/\b(AKIA|ASIA)[A-Z0-9]{16}\b/g, '[redacted access key]'],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*PRIVATE KEY-----/g, '[redacted private key]'],
];
const JSON_FIELD = new RegExp(`("${SECRET_KEY}"\\s*:\\s*)"(?:[^"\\\\]|\\\\.)*"`, 'gi');
/** The same inside a JSON text that was logged as a string: its quotes are escaped, its values end at the next `\"`. */
const ESCAPED_FIELD = new RegExp(`(\\\\"${SECRET_KEY}\\\\"\\s*:\\s*)\\\\"(?:[^"\\\\]|\\\\(?!"))*\\\\"`, 'gi');
const ASSIGNMENT = new RegExp(`\\b((?=[A-Z_]*[A-Z])${SECRET_KEY}=)[^\\s"'\\\\&;,]+`, 'gi');

/** Shorter values would blank out ordinary words of the log. */
const MIN_SECRET_LENGTH = 6;
const known = new Set<string>();

/** From now on this exact value is cut from every log line, also in its JSON-escaped form. */
export function registerSecret(value: string): void {
  if (value.length < MIN_SECRET_LENGTH) return;
  known.add(value);
  known.add(JSON.stringify(value).slice(1, -1));
}

/** The text without known secrets, without values under secret names, without anything that has a secret's form. */
export function redactText(text: string): string {
  let clean = text;
  for (const secret of known) {
    if (clean.includes(secret)) clean = clean.replaceAll(secret, '[redacted]');
  }
  clean = clean.replace(JSON_FIELD, '$1"[redacted]"').replace(ESCAPED_FIELD, '$1\\"[redacted]\\"');
  clean = clean.replace(ASSIGNMENT, '$1[redacted]');
  for (const [form, mark] of FORMS) clean = clean.replace(form, mark);
  return clean;
}
