import { ImsError, type FieldError, type InputDeclaration, type JsonObject, type JsonValue } from '#contracts';
import { isReferenceKey } from './references.js';

/** An input as an app declares it. */
export type DeclaredInput = Pick<InputDeclaration, keyof InputDeclaration>;

/** Longest text of one input: the whole of an install's inputs is 64 KiB. */
const MAX_TEXT = 8192;
/** Longest text that is held against a pattern: with at most three repetitions in it, no text takes long. */
const MAX_MATCHED = 256;
const MAX_ITEMS = 100;

/** Whether the customer gives it, on its agent's host. Secrets always come from there: nobody else may know them. */
export const isCustomerInput = ({ type, set_by }: Pick<DeclaredInput, 'type' | 'set_by'>): boolean =>
  type === 'secret' || set_by === 'customer';

/** What is wrong with a value of an input; undefined when it fits. Never repeats the value: it may be a secret. */
export function misfit(value: unknown, { type, values = [], pattern }: DeclaredInput): string | undefined {
  const isText = (text: unknown): text is string => typeof text === 'string' && text.length <= MAX_TEXT;
  switch (type) {
    case 'string':
    case 'secret': {
      if (!isText(value)) return type === 'secret' ? 'must be a text' : 'must be a string';
      if (pattern === undefined) return undefined;
      const fits = value.length <= MAX_MATCHED && new RegExp(`^(?:${pattern})$`, 'u').test(value);
      return fits ? undefined : `must match ${pattern} and have at most ${MAX_MATCHED} characters`;
    }
    case 'number':
      return typeof value === 'number' && Number.isFinite(value) ? undefined : 'must be a number';
    case 'boolean':
      return typeof value === 'boolean' ? undefined : 'must be a boolean';
    case 'enum':
      return values.some((one) => one === value) ? undefined : `must be one of ${values.join(', ')}`;
    case 'list':
      return Array.isArray(value) && value.length <= MAX_ITEMS && value.every(isText)
        ? undefined
        : `must be a list of at most ${MAX_ITEMS} strings`;
  }
}

/**
 * A pattern that no text can make slow: no group that repeats, no look-around, no reference back, at most three
 * unbounded repetitions. It is tried on people's input by a service that others wait for.
 */
function isQuickPattern(pattern: string): boolean {
  const bare = pattern.replace(/\\./g, '_').replace(/\[(?:[^\]])*\]/g, '_');
  if (/\\[1-9k]/.test(pattern) || /\(\?(?!:)/.test(bare) || /\)\s*[*+{?]/.test(bare)) return false;
  if ((bare.match(/[*+]|\{\d*,\}/g) ?? []).length > 3) return false;
  try {
    new RegExp(`^(?:${pattern})$`, 'u');
    return true;
  } catch {
    return false;
  }
}

function refuse(faults: readonly FieldError[], code: 'invalid_request' | 'missing_input' = 'invalid_request'): void {
  if (faults.length === 0) return;
  throw new ImsError(code, faults.map(({ pointer, message }) => `${pointer} ${message}`).join('; '), faults);
}

/** Checks an app's declarations: names that a template can hold, each once, defaults of their type. Throws `invalid_request`. */
export function checkDeclarations(inputs: readonly DeclaredInput[], at: string): void {
  const names = inputs.map(({ name }) => name);
  refuse(
    inputs.flatMap((input, i): FieldError[] => {
      const fault = (field: string, message: string): FieldError[] => [{ pointer: `${at}/${i}/${field}`, message }];
      const { name, type, values, pattern, set_by } = input;
      if (!isReferenceKey(name)) {
        return fault('name', 'must start with a letter or _ and go on with letters, digits, _ or -');
      }
      if (names.indexOf(name) < i) return fault('name', 'is declared twice');
      if (type === 'enum' && (!values || values.length === 0)) return fault('values', 'must name what may be chosen');
      if (type !== 'enum' && values) return fault('values', 'is for an enum');
      if (pattern !== undefined && type !== 'string' && type !== 'secret')
        return fault('pattern', 'is for a string or secret');
      if (pattern !== undefined && !isQuickPattern(pattern)) {
        return fault(
          'pattern',
          'must be a regular expression without groups that repeat, with three of * and + at most',
        );
      }
      if (type === 'secret' && set_by === 'vendor') return fault('set_by', 'must be customer: a secret stays with it');
      if (type === 'secret' && input.default !== undefined) return fault('default', 'is not for a secret');
      const wrong = input.default === undefined ? undefined : misfit(input.default, input);
      return wrong === undefined ? [] : fault('default', wrong);
    }),
  );
}

/**
 * The inputs of an install as far as the vendor sets them: what was given, completed with the defaults. Throws
 * `invalid_request` (unknown name, wrong type, one that the customer sets) or `missing_input` (required and neither given
 * nor with a default), naming every fault.
 */
export function resolveInputs(declared: readonly DeclaredInput[], given: JsonObject, at: string): JsonObject {
  const byName = new Map(declared.map((input) => [input.name, input]));
  refuse(
    Object.entries(given).flatMap(([name, value]): FieldError[] => {
      const input = byName.get(name);
      const message = !input
        ? 'is not an input of this app'
        : isCustomerInput(input)
          ? 'is given by the customer, on its agent’s host, and never here'
          : misfit(value, input);
      return message === undefined ? [] : [{ pointer: `${at}/${name}`, message }];
    }),
  );
  const own = declared.filter((input) => !isCustomerInput(input));
  return complete(own, given, at);
}

/**
 * Inputs that the customer gives, as its agent has them: checked like the vendor's, completed with the defaults. Names
 * that are not declared are left alone: the customer's file may serve other releases. Throws `missing_input`,
 * `invalid_request`; no message holds a value.
 */
export function resolveCustomerInputs(declared: readonly DeclaredInput[], given: JsonObject): JsonObject {
  const own = declared.filter(isCustomerInput);
  refuse(
    own.flatMap((input): FieldError[] => {
      const message = Object.hasOwn(given, input.name) ? misfit(given[input.name], input) : undefined;
      return message === undefined ? [] : [{ pointer: `/inputs/${input.name}`, message }];
    }),
  );
  return complete(own, given, '/inputs');
}

/** What of an install's stored inputs a release still declares. */
export function declaredOnly(declared: readonly DeclaredInput[], stored: JsonObject): JsonObject {
  const names = new Set(declared.filter((input) => !isCustomerInput(input)).map(({ name }) => name));
  return Object.fromEntries(Object.entries(stored).filter(([name]) => names.has(name)));
}

function complete(declared: readonly DeclaredInput[], given: JsonObject, at: string): JsonObject {
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
