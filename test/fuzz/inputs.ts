import { isId, newId, type IdKind } from '#contracts';
import { type Random } from '../random.js';

/** A JSON Schema as the OpenAPI document has it, as far as inputs are drawn from it. */
interface Schema {
  readonly $ref?: string;
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly format?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly items?: Schema;
}
interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: Schema }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
}
export interface ApiDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

export interface FuzzRequest {
  readonly operation: string;
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** By kind of id: things of the caller's own vendor, and of the other one. */
export type Ids = ReadonlyMap<IdKind, readonly string[]>;

const deep = (levels: number): string => '['.repeat(levels) + ']'.repeat(levels);
/** What people and programs send by mistake, and attackers on purpose. */
const HOSTILE: readonly unknown[] = [
  ...[
    null,
    true,
    false,
    0,
    -1,
    1.5,
    1e308,
    Number.MAX_SAFE_INTEGER,
    '',
    ' ',
    '\0',
    'a\0b',
    '\ud800',
    '\u202e',
    '💥'.repeat(50),
  ],
  ...[
    'x'.repeat(300),
    'x'.repeat(70_000),
    "'; DROP TABLE jobs; --",
    '{{ install.inputs.x }}',
    '{{',
    '../../etc/passwd',
  ],
  ...[
    'ims.>',
    '*',
    '%00',
    '%',
    '\r\nSet-Cookie: a=b',
    '__proto__',
    'constructor',
    'null',
    '1e999',
    '99999999999999999999',
  ],
  ...[
    '(a+)+$',
    '[',
    '(?<',
    '\\',
    '2026-13-45T99:99:99Z',
    '2026-01-01T00:00:00Z',
    'https://127.0.0.1/',
    'file:///etc/passwd',
  ],
  ...[
    [],
    {},
    [null],
    { a: { b: { c: [] } } },
    JSON.parse('{"__proto__":{"x":1},"constructor":1}') as object,
    JSON.parse(deep(300)) as unknown[],
  ],
];

/** Requests drawn from the document: every route, its parameters, its body, mostly a little wrong. */
export class Inputs {
  private readonly operations: { readonly method: string; readonly path: string; readonly operation: Operation }[];

  constructor(
    private readonly random: Random,
    private readonly document: ApiDocument,
    private readonly own: Ids,
    private readonly foreign: Ids,
  ) {
    this.operations = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, operation]) => ({ method: method.toUpperCase(), path, operation })),
    );
  }

  hostile(): unknown {
    return this.random.pick(HOSTILE);
  }

  /** A request of any route, one after the other. */
  request(index: number): FuzzRequest {
    const { random } = this;
    const { method, path, operation } = this.operations[index % this.operations.length] as (typeof this.operations)[0];
    const filled = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(this.id(name)));
    const query = new URLSearchParams();
    for (const { name, in: place, schema } of operation.parameters ?? []) {
      // A followed log has no end.
      if (place !== 'query' || name === 'follow' || !random.chance(0.4)) continue;
      query.append(name, this.text(this.value(schema, name)));
      if (random.chance(0.03)) query.append(name, 'twice');
    }
    if (random.chance(0.05)) query.append('unknown', this.text(this.hostile()));
    const schema = operation.requestBody?.content['application/json']?.schema;
    const headers: Record<string, string> = {};
    if (random.chance(0.8)) headers['if-match'] = random.pick(['*', '"x"', 'W/"x"', '"', ',']);
    if (random.chance(0.2)) headers['idempotency-key'] = random.pick(['once', 'x'.repeat(255), `${index}`, 'ü', ' ']);
    if (random.chance(0.05)) headers['last-event-id'] = random.pick(['1.1', '0.0', '-1.x', '9'.repeat(40)]);
    const wanted = method !== 'GET' && (schema !== undefined || random.chance(0.1));
    if (wanted)
      headers['content-type'] = random.chance(0.97) ? 'application/json' : random.pick(['text/plain', 'a', '']);
    const text = query.toString();
    return {
      operation: operation.operationId,
      method,
      path: text === '' ? filled : `${filled}?${text}`,
      headers,
      ...(wanted ? { body: this.body(schema) } : {}),
    };
  }

  /** A body of a shape that is nearly right, or no JSON at all. */
  body(schema: Schema | undefined): string {
    const { random } = this;
    if (random.chance(0.04))
      return random.pick(['', '{', 'null', '"text"', '[]', '{"a":', deep(20_000), '\ufeff{}', '{"a":1}}']);
    const body = schema === undefined ? this.hostile() : this.value(schema, '', 0);
    const extra = random.chance(0.05) && typeof body === 'object' && body !== null && !Array.isArray(body);
    return JSON.stringify(extra ? { ...body, [random.pick(['extra', '__proto__', ''])]: this.hostile() } : body);
  }

  private value(schema: Schema, name: string, depth = 0): unknown {
    const { random } = this;
    if (schema.$ref !== undefined) {
      const named = this.document.components.schemas[schema.$ref.slice(schema.$ref.lastIndexOf('/') + 1)];
      return named === undefined || depth > 8 ? {} : this.value(named, name, depth + 1);
    }
    // Near the root a wrong value would hide all that is below it.
    if (random.chance(depth <= 1 ? 0.08 : 0.2)) return this.hostile();
    if (schema.enum !== undefined) return random.pick(schema.enum);
    switch (schema.type) {
      case 'object':
        return Object.fromEntries(
          Object.entries(schema.properties ?? { [random.pick(['a', 'region', '\0', 'x.y'])]: { type: 'string' } })
            .filter(() => random.chance(0.8))
            .map(([key, inner]) => [key, this.value(inner, key, depth + 1)]),
        );
      case 'array':
        return Array.from({ length: random.int(0, 3) }, () => this.value(schema.items ?? {}, name, depth + 1));
      case 'integer':
      case 'number':
        return random.int(schema.minimum ?? 0, Math.min(schema.maximum ?? 100, 2 ** 31));
      case 'boolean':
        return random.chance(0.5);
      case 'string':
      case undefined:
      default:
        if (name.endsWith('_id') || schema.pattern?.includes('[0-7][0-9a-hjkmnp-tv-z]{25}') === true)
          return this.id(name);
        if (schema.format === 'date-time') return new Date(random.int(0, 4e12 / 1000) * 1000).toISOString();
        return random.pick([
          'one',
          `n${random.int(1, 1e6)}`,
          'terraform-module',
          '1.0.0',
          'https://example.com/x',
          'job.*',
        ]);
    }
  }

  /** An id of the parameter's kind: one's own, the other vendor's, nobody's, or no id at all. */
  private id(name: string): string {
    const { random } = this;
    const kind = name.replace(/_id$/, '') as IdKind;
    const from = (ids: Ids): string => {
      const list = ids.get(kind) ?? [...ids.values()].flat();
      return list.length > 0 ? random.pick(list) : newId('job');
    };
    return random.weighted<() => string>([
      [5, () => from(this.own)],
      [3, () => from(this.foreign)],
      [1, () => random.pick([...this.own.values()].flat())],
      [1, () => this.text(this.hostile()).slice(0, 150)],
    ])();
  }

  private text(value: unknown): string {
    const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '');
    return text.slice(0, 2_000).toWellFormed();
  }
}

/** The ids in an answer, by their kind: what was made becomes a thing to ask about. */
export function idsIn(text: string): string[] {
  return [...new Set(text.match(/\b[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25}\b/g) ?? [])].filter((id) => !isId('key', id));
}
