import { type JsonObject, type JsonValue } from '#contracts';

/** NUL, and halves of surrogate pairs without the other half. */
const UNSTORABLE = /\0|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** PostgreSQL stores no NUL in text and no lone surrogate in jsonb; tool output has both. They become U+FFFD. */
export function storableText(text: string): string {
  return text.replace(UNSTORABLE, '\ufffd');
}

/** A JSON object as PostgreSQL gives it back: without `undefined`, with storable texts. */
export function storableJson(value: JsonObject): JsonObject {
  return clean(JSON.parse(JSON.stringify(value)) as JsonValue) as JsonObject;
}

function clean(value: JsonValue): JsonValue {
  if (typeof value === 'string') return storableText(value);
  if (Array.isArray(value)) return value.map(clean);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [storableText(key), clean(inner)]));
}
