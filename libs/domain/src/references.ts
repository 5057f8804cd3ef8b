import { ImsError, type JsonObject, type JsonValue } from '#contracts';

/**
 * Templates in values: `{{ components.<name>.outputs.<key> }}`, `{{ install.inputs.<key> }}`, `{{ install.id }}`,
 * `{{ install.name }}`. No expressions, no functions: a reference is either there or it is not, so what a component
 * depends on can be read from its text. `\{{` is a literal `{{`.
 */
export type Reference =
  | { readonly kind: 'output'; readonly component: string; readonly key: string }
  | { readonly kind: 'input'; readonly key: string }
  | { readonly kind: 'install'; readonly key: 'id' | 'name' };

/** A reference, where it stands: `pointer` is the JSON Pointer of the text, `line`/`column` (from 1) the place in it. */
export interface PlacedReference {
  readonly reference: Reference;
  readonly pointer: string;
  readonly line: number;
  readonly column: number;
  /** The template is the whole text, so the value keeps its type. */
  readonly whole: boolean;
}

/** What a template may name, without the values: all that is known when a release is made. */
export interface ReferenceNames {
  readonly components: ReadonlySet<string>;
  /** Outputs of a component, where its kind has the same ones always. */
  readonly outputs?: ReadonlyMap<string, ReadonlySet<string>>;
  /** Inputs with their types. */
  readonly inputs: ReadonlyMap<string, string>;
}

/** The values behind the references, as the agent that renders has them. */
export interface ReferenceScope {
  /** Outputs by name of component. A component that is not there has no outputs yet. */
  readonly components: Readonly<Record<string, JsonObject>>;
  readonly install: { readonly id: string; readonly name: string; readonly inputs: JsonObject };
}

type Part = { readonly text: string } | { readonly reference: Reference; readonly offset: number };

/** Deeper nesting than any real values file; keeps a hostile body from exhausting the stack. */
const MAX_DEPTH = 64;
const COMPONENT = /^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/;
const KEY = /^[A-Za-z_][A-Za-z0-9_-]{0,99}$/;

/** True when the text can be the name of an input or an output in a template. */
export const isReferenceKey = (text: string): boolean => KEY.test(text);

function parseReference(text: string): Reference | undefined {
  const path = text.split('.');
  const [root, second, third, fourth] = path;
  if (root === 'components' && path.length === 4 && third === 'outputs') {
    if (COMPONENT.test(second ?? '') && KEY.test(fourth ?? '')) {
      return { kind: 'output', component: second ?? '', key: fourth ?? '' };
    }
  }
  if (root === 'install' && path.length === 3 && second === 'inputs' && KEY.test(third ?? '')) {
    return { kind: 'input', key: third ?? '' };
  }
  if (root === 'install' && path.length === 2 && (second === 'id' || second === 'name')) {
    return { kind: 'install', key: second };
  }
  return undefined;
}

function place(text: string, offset: number): { line: number; column: number } {
  const before = text.slice(0, offset);
  return { line: before.split('\n').length, column: offset - before.lastIndexOf('\n') };
}

function fault(text: string, offset: number, pointer: string, message: string): ImsError {
  const { line, column } = place(text, offset);
  return new ImsError('invalid_template', `${pointer || '/'} at ${line}:${column}: ${message}`, [{ pointer, message }]);
}

/** Splits a text into literal parts and references. Throws `invalid_template` with the place of the fault. */
function parseText(text: string, pointer: string): Part[] {
  const parts: Part[] = [];
  let literal = '';
  let at = 0;
  while (at < text.length) {
    if (text.startsWith('\\{{', at)) {
      literal += '{{';
      at += 3;
    } else if (text.startsWith('{{', at)) {
      const end = text.indexOf('}}', at + 2);
      if (end < 0) throw fault(text, at, pointer, 'the template is not closed by }}');
      const inside = text.slice(at + 2, end).trim();
      const reference = parseReference(inside);
      if (!reference) throw fault(text, at, pointer, `"${inside}" is not ${FORMS}`);
      if (literal !== '') parts.push({ text: literal });
      literal = '';
      parts.push({ reference, offset: at });
      at = end + 2;
    } else {
      literal += text.charAt(at);
      at += 1;
    }
  }
  if (literal !== '') parts.push({ text: literal });
  return parts;
}
const FORMS = 'components.<name>.outputs.<key>, install.inputs.<key>, install.id or install.name';

/** Every text in a value, with its JSON Pointer. */
function walk(value: unknown, visit: (text: string, pointer: string) => void, pointer = '', depth = 0): void {
  if (typeof value === 'string') visit(value, pointer);
  if (typeof value !== 'object' || value === null) return;
  if (depth >= MAX_DEPTH) throw new ImsError('invalid_template', `${pointer} is nested deeper than ${MAX_DEPTH}`);
  const entries = Array.isArray(value) ? value.entries() : Object.entries(value);
  for (const [key, child] of entries) {
    walk(child, visit, `${pointer}/${String(key).replaceAll('~', '~0').replaceAll('/', '~1')}`, depth + 1);
  }
}

/** All references in a value, in the order of the text. Throws `invalid_template`. */
export function referencesOf(value: unknown): PlacedReference[] {
  const found: PlacedReference[] = [];
  walk(value, (text, pointer) => {
    const parts = parseText(text, pointer);
    for (const part of parts) {
      if (!('reference' in part)) continue;
      const { reference, offset } = part;
      found.push({ reference, pointer, whole: parts.length === 1, ...place(text, offset) });
    }
  });
  return found;
}

/** The text of a reference, as it is written in a template. */
export function referenceText(reference: Reference): string {
  if (reference.kind === 'output') return `components.${reference.component}.outputs.${reference.key}`;
  return reference.kind === 'input' ? `install.inputs.${reference.key}` : `install.${reference.key}`;
}

/** What is wrong with a reference, as far as that is known before anything is applied. */
function faultOf({ reference, whole }: PlacedReference, names: ReferenceNames): string | undefined {
  const nothing = 'refers to nothing';
  if (reference.kind === 'install') return undefined;
  if (reference.kind === 'output') {
    if (!names.components.has(reference.component)) return nothing;
    const outputs = names.outputs?.get(reference.component);
    if (!outputs || outputs.has(reference.key)) return undefined;
    return `refers to nothing: ${reference.component} has ${[...outputs].join(', ')}`;
  }
  const type = names.inputs.get(reference.key);
  if (type === undefined) return nothing;
  return type === 'list' && !whole ? 'is a list and cannot stand inside of other text' : undefined;
}

/**
 * Checks every reference of a value against the names that exist, all faults at once. Throws `invalid_template` (a
 * text that does not parse), `unknown_component`, or `unknown_reference` (an input, an output of a kind whose outputs
 * are always the same, a list inside of text). Other outputs are known only when the component has been applied.
 */
export function checkReferences(value: unknown, names: ReferenceNames, at = ''): void {
  const faults = referencesOf(value).flatMap((placed) => {
    const { reference, pointer, line, column } = placed;
    const wrong = faultOf(placed, names);
    if (wrong === undefined) return [];
    const missing = reference.kind === 'output' && !names.components.has(reference.component);
    return [
      { missing, pointer: at + pointer, message: `{{ ${referenceText(reference)} }} at ${line}:${column} ${wrong}` },
    ];
  });
  if (faults.length === 0) return;
  const code = faults.some(({ missing }) => missing) ? 'unknown_component' : 'unknown_reference';
  throw new ImsError(
    code,
    faults.map(({ pointer, message }) => `${pointer || '/'}: ${message}`).join('; '),
    faults.map(({ pointer, message }) => ({ pointer, message })),
  );
}

function lookUp(reference: Reference, scope: ReferenceScope): JsonValue | undefined {
  if (reference.kind === 'install') return scope.install[reference.key];
  const owner = reference.kind === 'input' ? scope.install.inputs : outputsOf(reference.component, scope);
  return Object.hasOwn(owner, reference.key) ? owner[reference.key] : undefined;
}
function outputsOf(component: string, scope: ReferenceScope): JsonObject {
  return Object.hasOwn(scope.components, component) ? (scope.components[component] ?? {}) : {};
}

/** A string as it is, anything else as JSON text. */
const asText = (value: JsonValue): string => (typeof value === 'string' ? value : JSON.stringify(value));

/**
 * The value with its templates filled. A string that is exactly one template keeps the type of what it refers to
 * (a number stays a number, a list a list); inside other text it becomes text. Keys of objects are not templates.
 * Throws `unknown_reference` naming the reference and its place when there is no such value, and `invalid_template`.
 */
export function render(value: JsonValue, scope: ReferenceScope, pointer = ''): JsonValue {
  return renderAt(value, scope, pointer, 0);
}

function renderAt(value: JsonValue, scope: ReferenceScope, pointer: string, depth: number): JsonValue {
  if (typeof value === 'string') return renderText(value, scope, pointer);
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= MAX_DEPTH) throw new ImsError('invalid_template', `${pointer} is nested deeper than ${MAX_DEPTH}`);
  if (Array.isArray(value)) return value.map((item, i) => renderAt(item, scope, `${pointer}/${i}`, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      renderAt(item, scope, `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`, depth + 1),
    ]),
  );
}

function renderText(text: string, scope: ReferenceScope, pointer: string): JsonValue {
  const filled = parseText(text, pointer).map((part) => {
    if ('text' in part) return part.text;
    const found = lookUp(part.reference, scope);
    if (found !== undefined) return { found };
    const { line, column } = place(text, part.offset);
    const message = `{{ ${referenceText(part.reference)} }} at ${line}:${column} has no value`;
    throw new ImsError('unknown_reference', `${pointer || '/'}: ${message}`, [{ pointer, message }]);
  });
  const [only] = filled;
  if (filled.length === 1 && typeof only === 'object') return only.found;
  return filled.map((part) => (typeof part === 'string' ? part : asText(part.found))).join('');
}
