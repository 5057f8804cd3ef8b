// @ts-expect-error the package has no types for this path; the value is a MetadataStorage
import { defaultMetadataStorage } from 'class-transformer/cjs/storage.js';
import { getMetadataStorage } from 'class-validator';
import { targetConstructorToSchema, validationMetadatasToSchemas } from 'class-validator-jsonschema';
import { type Class } from '#contracts';

/** A JSON Schema (2020-12, as OpenAPI 3.1 has it), as far as this room reads it. */
export interface JsonSchema {
  readonly [keyword: string]: unknown;
  readonly $ref?: string;
  readonly type?: string | readonly string[];
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
}

type Options = NonNullable<Parameters<typeof validationMetadatasToSchemas>[0]>;

const OPTIONS: Options = {
  classTransformerMetadataStorage: defaultMetadataStorage as NonNullable<Options['classTransformerMetadataStorage']>,
  classValidatorMetadataStorage: getMetadataStorage(),
  refPointerPrefix: '#/components/schemas/',
  additionalConverters: {
    // A bounded JSON object (`Json()`): its size is no keyword of JSON Schema; without this the library invents a $ref to `Object`.
    jsonSize: () => ({ additionalProperties: true }),
    labels: () => ({ additionalProperties: { type: 'string', maxLength: 63 }, maxProperties: 32 }),
    // The library adds `type: number`, which turns an integer with bounds back into any number.
    min: ({ constraints }) => ({ minimum: constraints[0] as number }),
    max: ({ constraints }) => ({ maximum: constraints[0] as number }),
    // The library offers a plain date too, which no field of ours accepts.
    isIso8601: () => ({ type: 'string', format: 'date-time' }),
  },
};

/** The schema of one class, inherited fields included. */
export const schemaOf = (type: Class<object>): JsonSchema =>
  targetConstructorToSchema(type, OPTIONS) as unknown as JsonSchema;

/** Every class of the process that has validation rules, by name. */
const allSchemas = (): Record<string, JsonSchema> =>
  validationMetadatasToSchemas(OPTIONS) as unknown as Record<string, JsonSchema>;

/** The `$ref`s anywhere in a value, as schema names. */
function refsIn(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === '$ref' && typeof inner === 'string' ? [inner.slice(inner.lastIndexOf('/') + 1)] : refsIn(inner),
  );
}

/** The schemas that a document refers to, and those that they refer to in turn. Throws when one is not declared. */
export function schemasUsedBy(document: object, given: Record<string, JsonSchema>): Record<string, JsonSchema> {
  const known = { ...allSchemas(), ...given };
  const used: Record<string, JsonSchema> = {};
  let open = refsIn(document);
  while (open.length > 0) {
    const name = open.pop() ?? '';
    if (Object.hasOwn(used, name)) continue;
    const schema = known[name];
    if (schema === undefined) throw new Error(`the OpenAPI document refers to ${name}, which has no schema`);
    used[name] = schema;
    open = [...open, ...refsIn(schema)];
  }
  return Object.fromEntries(Object.entries(used).sort(([a], [b]) => (a < b ? -1 : 1)));
}
