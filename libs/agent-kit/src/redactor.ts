/** Shorter values are not redacted: `a` or `on` as a secret would blacken every line and hide nothing. */
export const SECRET_CHARS_MIN = 4;
const STARS = '***';

/**
 * Takes registered secrets out of text, at the mouth of the log pipe, so that no later place has to. Found are the
 * value itself, its lines (a PEM key is printed line by line), and its usual disguises: JSON-escaped, URL-encoded,
 * base64 and base64url at each of the three alignments that it can have inside a longer encoded text.
 */
export class Redactor {
  private forms: string[] = [];
  private readonly known = new Set<string>();

  /** Registers a secret, before it is used anywhere. Values below SECRET_CHARS_MIN characters are ignored. */
  add(value: string): void {
    const added = [value, ...value.split(/\r?\n/)].filter((part) => part.length >= SECRET_CHARS_MIN).flatMap(disguises);
    for (const form of added) if (form.length >= SECRET_CHARS_MIN) this.known.add(form);
    this.forms = [...this.known];
  }

  /**
   * The text with each place that is covered by a secret replaced by `***`. `cut`: the text was cut at its end, where
   * the beginning of a secret may be left; that is taken out too.
   */
  redact(text: string, cut = false): string {
    const spans = this.forms.flatMap((form) => occurrences(text, form));
    if (cut) spans.push(...this.brokenTail(text));
    if (spans.length === 0) return text;
    // Two secrets may overlap: replacing one after the other would leave the rest of the second.
    spans.sort(([a], [b]) => a - b);
    let out = '';
    let at = 0;
    let end = 0;
    for (const [from, to] of spans) {
      if (from >= end) {
        out += text.slice(at, from) + STARS;
        end = to;
      } else end = Math.max(end, to);
      at = end;
    }
    return out + text.slice(at);
  }

  /** The longest end of the text that a secret begins with. */
  private brokenTail(text: string): [number, number][] {
    let longest = 0;
    for (const form of this.forms) {
      for (let length = Math.min(form.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(form.slice(0, length))) longest = length;
      }
    }
    return longest === 0 ? [] : [[text.length - longest, text.length]];
  }
}

function occurrences(text: string, form: string): [number, number][] {
  const found: [number, number][] = [];
  for (let at = text.indexOf(form); at >= 0; at = text.indexOf(form, at + 1)) found.push([at, at + form.length]);
  return found;
}

function disguises(value: string): string[] {
  const escaped = JSON.stringify(value).slice(1, -1);
  return [
    value,
    escaped,
    JSON.stringify(escaped).slice(1, -1),
    escaped.replaceAll('/', '\\/'),
    // What Go's encoder makes of <, > and &.
    escaped.replace(/[<>&]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`),
    // Through UTF-8, which replaces lone surrogates: encodeURIComponent throws on them.
    encodeURIComponent(Buffer.from(value).toString()),
    ...base64Forms(Buffer.from(value)),
  ];
}

/**
 * Base64 of a value that stands at offset 0, 1 or 2 (mod 3) of the encoded bytes: only the characters that depend on
 * the value alone, since those at its borders mix in the neighbours.
 */
function base64Forms(bytes: Buffer): string[] {
  return [0, 1, 2].flatMap((offset) => {
    const text = Buffer.concat([Buffer.alloc(offset), bytes])
      .toString('base64')
      .replaceAll('=', '');
    const first = Math.ceil((offset * 8) / 6);
    const last = Math.floor(((offset + bytes.length) * 8) / 6);
    const own = text.slice(first, last);
    return [own, own.replaceAll('+', '-').replaceAll('/', '_')];
  });
}
