import { ImsError, type FieldError, type JsonObject, type JsonValue } from '#contracts';
import { isReferenceKey } from './references.js';

/** An input as an app declares it (the wire's InputDeclaration, as far as the rules need it). */
export interface DeclaredInput {
  readonly name: string;
  readonly type: 'string' | 'number' | 'boolean';
  readonly required?: boolean;
  readonly default?: string | number | boolean;
}

/** Longest text of one input: the whole of an install's inputs is 64 KiB. */
const MAX_TEXT = 8192;

const fits = (value: unknown, type: DeclaredInput['type']): boolean =>
  typeof value === type && (type !== 'number' || Number.isFinite(value)) && String(value).length <= MAX_TEXT;

function refuse(faults: readonly FieldError[], code: 'invalid_request' | 'missing_input' = 'invalid_request'): void {
  if (faults.length === 0) return;
  throw new ImsError(code, faults.map(({ pointer, message }) => `${pointer} ${message}`).join('; '), faults);
}

/** Checks an app's declarations: names that a template can hold, each once, defaults of their type. Throws `invalid_request`. */
export function checkDeclarations(inputs: readonly DeclaredInput[], at: string): void {
  const names = inputs.map(({ name }) => name);
  const faults = inputs.flatMap((input, i): FieldError[] => {
    if (!isReferenceKey(input.name)) {
      return [
        { pointer: `${at}/${i}/name`, message: 'must start with a letter or _ and go on with letters, digits, _ or -' },
      ];
    }
    if (names.indexOf(input.name) < i) return [{ pointer: `${at}/${i}/name`, message: 'is declared twice' }];
    if (input.default !== undefined && !fits(input.default, input.type)) {
      return [{ pointer: `${at}/${i}/default`, message: `must be a ${input.type}` }];
    }
    return [];
  });
  refuse(faults);
}

/**
 * The inputs of an install: what was given, completed with the defaults. Throws `invalid_request` (unknown name, wrong
 * type) or `missing_input` (required and neither given nor with a default), naming every fault.
 */
export function resolveInputs(declared: readonly DeclaredInput[], given: JsonObject, at: string): JsonObject {
  const byName = new Map(declared.map((input) => [input.name, input]));
  refuse(
    Object.entries(given).flatMap(([name, value]): FieldError[] => {
      const input = byName.get(name);
      if (!input) return [{ pointer: `${at}/${name}`, message: 'is not an input of this app' }];
      return fits(value, input.type) ? [] : [{ pointer: `${at}/${name}`, message: `must be a ${input.type}` }];
    }),
  );
  const values = declared.map((input): [DeclaredInput, JsonValue | undefined] => [
    input,
    Object.hasOwn(given, input.name) ? given[input.name] : input.default,
  ]);
  refuse(
    values.flatMap(([input, value]) =>
      input.required === true && value === undefined
        ? [{ pointer: `${at}/${input.name}`, message: 'is required' }]
        : [],
    ),
    'missing_input',
  );
  return Object.fromEntries(values.flatMap(([{ name }, value]) => (value === undefined ? [] : [[name, value]])));
}
