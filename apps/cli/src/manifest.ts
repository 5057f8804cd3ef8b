import { existsSync, readFileSync } from 'node:fs';
import { Ajv2020, type ErrorObject } from 'ajv/dist/2020.js';
import { isMap, isScalar, LineCounter, parseDocument, visit, type Document, type Node } from 'yaml';
import { type Schemas } from '#client';
import { shellVariable } from './config.js';
import { CliError } from './exit.js';
import { MANIFEST, nearest } from './find.js';
import { MANIFEST_SCHEMA } from './manifest-schema.js';

type NewComponent = Schemas['NewComponent'];

/** A product as its file describes it. */
export interface Manifest {
  readonly app: string;
  readonly inputs?: Schemas['InputDeclaration'][];
  readonly components: readonly NewComponent[];
}
interface Fault {
  readonly at: readonly (string | number)[];
  readonly message: string;
  /** The fault is the key, not its value. */
  readonly isKey?: boolean;
}

/**
 * Reads and checks vendor-cloud.yaml. `${NAME}` in a value is filled from `variables`, then from the shell. Throws
 * CliError naming every fault with line and column.
 */
export function readManifest(file: string, variables: Readonly<Record<string, string>>): Manifest {
  if (!existsSync(file)) {
    throw new CliError('usage', `there is no file ${file}`, [`ims init      writes ${MANIFEST} to begin with`]);
  }
  const text = readFileSync(file, 'utf8');
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const place = (offset: number): { line: number; col: number } => lines.linePos(offset);
  if (document.errors.length > 0) {
    throw refuse(
      file,
      text,
      document.errors.map(({ pos, message }) => ({ ...place(pos[0]), message: message.split('\n')[0] ?? message })),
    );
  }
  const faults = [...fill(document, variables), ...check(document)];
  if (faults.length > 0) {
    throw refuse(
      file,
      text,
      faults.map((fault) => ({ ...place(offsetOf(document, fault)), message: fault.message })),
    );
  }
  return document.toJS() as Manifest;
}

/** Puts values in for `${NAME}`; answers those that have none. */
function fill(document: Document, variables: Readonly<Record<string, string>>): Fault[] {
  const faults: Fault[] = [];
  visit(document, {
    Scalar(key, node, path) {
      if (key === 'key' || typeof node.value !== 'string' || !node.value.includes('${')) return;
      node.value = node.value.replace(/\$\{(\w+)\}/g, (whole, name: string) => {
        const value = variables[name] ?? shellVariable(name);
        if (value === undefined) {
          const message = `\${${name}} has no value: give --var ${name}=…, or set it in the shell`;
          faults.push({ at: pathOf(path, node), message });
        }
        return value ?? whole;
      });
    },
  });
  return faults;
}

/** The keys that lead to a node, as `visit` came to it. */
function pathOf(ancestors: readonly unknown[], node: Node): (string | number)[] {
  const chain = [...ancestors, node];
  return chain.flatMap((each, i): (string | number)[] => {
    const parent = chain[i - 1];
    if (typeof each === 'object' && each !== null && 'key' in each && isScalar(each.key))
      return [String(each.key.value)];
    const items = (parent as { items?: unknown[] } | undefined)?.items;
    return Array.isArray(items) && !isMap(parent) && items.includes(each) ? [items.indexOf(each)] : [];
  });
}

function check(document: Document): Fault[] {
  const value = document.toJS() as Manifest | null;
  const ajv = new Ajv2020({ allErrors: true, strict: false, validateFormats: false, verbose: true });
  const validate = ajv.compile(MANIFEST_SCHEMA);
  if (!validate(value)) return (validate.errors ?? []).flatMap((error) => faultOf(error));
  const names = value?.components.map(({ name }) => name) ?? [];
  return (value?.components ?? []).flatMap(({ name, depends_on: needs = [] }, i) => [
    ...(names.indexOf(name) < i
      ? [{ at: ['components', i, 'name'], message: `there are two components ${name}` }]
      : []),
    ...needs.flatMap((need, j) => {
      if (names.includes(need)) return [];
      const near = nearest(need, names);
      const message = `there is no component ${need}${near === undefined ? '' : `; did you mean ${near}?`}`;
      return [{ at: ['components', i, 'depends_on', j], message }];
    }),
  ]);
}

function faultOf({ instancePath, keyword, params, message, parentSchema }: ErrorObject): Fault[] {
  const at = instancePath
    .split('/')
    .slice(1)
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part.replaceAll('~1', '/').replaceAll('~0', '~')));
  const where = at.length === 0 ? '' : `${at.join('.')} `;
  if (keyword === 'additionalProperties') {
    const name = (params as { additionalProperty: string }).additionalProperty;
    const known = Object.keys((parentSchema as { properties?: object } | undefined)?.properties ?? {});
    const near = nearest(name, known);
    const help = near === undefined ? `there are ${known.join(', ')}` : `did you mean ${near}?`;
    return [{ at: [...at, name], message: `unknown field ${name}; ${help}`, isKey: true }];
  }
  if (keyword === 'enum') {
    const allowed = (params as { allowedValues: string[] }).allowedValues;
    return [{ at, message: `${where}must be one of ${allowed.join(', ')}` }];
  }
  if (keyword === 'pattern') {
    const rule = (params as { pattern: string }).pattern;
    return [{ at, message: `${where}must match ${rule}` }];
  }
  return [{ at, message: `${where}${message ?? keyword}` }];
}

/** Where in the text a fault is: its key or its value, or the nearest thing around it that exists. */
function offsetOf(document: Document, { at, isKey }: Fault): number {
  if (isKey === true) {
    const parent = at.length > 1 ? document.getIn(at.slice(0, -1), true) : document.contents;
    const pair = isMap(parent) ? parent.items.find(({ key }) => isScalar(key) && key.value === at.at(-1)) : undefined;
    const range = isScalar(pair?.key) ? pair.key.range : undefined;
    if (range) return range[0];
  }
  for (let length = at.length; length >= 0; length--) {
    const node = length === 0 ? document.contents : document.getIn(at.slice(0, length), true);
    const range = (node as Node | undefined)?.range;
    if (range) return range[0];
  }
  return 0;
}

function refuse(
  file: string,
  text: string,
  faults: readonly { line: number; col: number; message: string }[],
): CliError {
  const source = text.split('\n');
  const shown = faults.map(({ line, col, message }) => {
    const excerpt = source[line - 1] ?? '';
    return `${file}:${line}:${col}  ${message}\n    ${excerpt}\n    ${' '.repeat(Math.max(0, col - 1))}^`;
  });
  return new CliError(
    'usage',
    `${file} has ${faults.length === 1 ? 'a fault' : `${faults.length} faults`}\n${shown.join('\n')}`,
    ['ims schema     prints what may be in it, as JSON Schema for editors'],
  );
}
