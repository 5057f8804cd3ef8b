import { ImsError, type JsonValue } from '#contracts';
import fc from 'fast-check';
import {
  checkReferences,
  referencesOf,
  referenceText,
  render,
  type Reference,
  type ReferenceScope,
} from './references.js';

const scope: ReferenceScope = {
  components: { db: { url: 'pg://db', port: 5432, hosts: ['a', 'b'] } },
  install: { id: 'ins_1', name: 'acme', inputs: { region: 'eu', replicas: 3, debug: false } },
};
const names = {
  components: new Set(['db', 'web']),
  inputs: new Map([
    ['region', 'string'],
    ['zones', 'list'],
  ]),
};
const refusal = (work: () => unknown): ImsError => {
  try {
    work();
  } catch (error) {
    if (error instanceof ImsError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
};

describe('templates', () => {
  it('keep the type when a string is exactly one template', () => {
    const value = {
      port: '{{ components.db.outputs.port }}',
      hosts: '{{components.db.outputs.hosts}}',
      debug: '{{ install.inputs.debug }}',
      text: 'http://{{ install.name }}:{{ components.db.outputs.port }}/{{ components.db.outputs.hosts }}',
      list: ['{{ install.id }}', 7, null],
    };
    expect(render(value, scope)).toEqual({
      port: 5432,
      hosts: ['a', 'b'],
      debug: false,
      text: 'http://acme:5432/["a","b"]',
      list: ['ins_1', 7, null],
    });
  });

  it('name the reference and its place when there is no value', () => {
    const error = refusal(() => render({ env: { URL: 'x\ny {{ components.web.outputs.url }}' } }, scope));
    expect(error.code).toBe('unknown_reference');
    expect(error.detail).toBe('/env/URL: {{ components.web.outputs.url }} at 2:3 has no value');
    expect(error.errors[0]?.pointer).toBe('/env/URL');
  });

  it.each(['constructor', '__proto__', 'toString'])('never reach what an object inherits: %s', (key) => {
    expect(refusal(() => render(`{{ install.inputs.${key} }}`, scope)).code).toBe('unknown_reference');
  });

  it.each([
    ['{{ components.db }}', '/a at 1:1: "components.db" is not components.<name>'],
    ['ab {{ install.inputs.x', '/a at 1:4: the template is not closed'],
    ['{{ env.HOME }}', '/a at 1:1: "env.HOME" is not'],
    ['{{ components.db.outputs.url | upper }}', '/a at 1:1: "components.db.outputs.url | upper" is not'],
  ])('that do not parse are refused with the place: %s', (text, detail) => {
    const error = refusal(() => referencesOf({ a: text }));
    expect(error.code).toBe('invalid_template');
    expect(error.detail).toContain(detail);
  });

  it('are checked against names, all faults at once', () => {
    checkReferences({ a: '{{ components.web.outputs.anything }} {{ install.inputs.region }} {{ install.id }}' }, names);
    const error = refusal(() =>
      checkReferences({ a: '{{ components.gone.outputs.x }}', b: '{{ install.inputs.size }}' }, names, '/values'),
    );
    expect(error.code).toBe('unknown_component');
    expect(error.errors.map((found) => found.pointer)).toEqual(['/values/a', '/values/b']);
    expect(refusal(() => checkReferences('{{ install.inputs.size }}', names)).code).toBe('unknown_reference');
  });

  it('are checked against types and outputs that are known before anything is applied', () => {
    const more = { ...names, outputs: new Map([['web', new Set(['image', 'digest'])]]) };
    checkReferences({ zones: '{{ install.inputs.zones }}', image: '{{ components.web.outputs.image }}' }, more);
    const error = refusal(() =>
      checkReferences({ a: 'in\n  {{ install.inputs.zones }}', b: '{{ components.web.outputs.url }}' }, more),
    );
    expect(error.code).toBe('unknown_reference');
    expect(error.detail).toContain('/a: {{ install.inputs.zones }} at 2:3 is a list');
    expect(error.detail).toContain(
      '/b: {{ components.web.outputs.url }} at 1:1 refers to nothing: web has image, digest',
    );
  });

  it('refuse nesting that would exhaust the stack', () => {
    let deep: JsonValue = 'x';
    for (let i = 0; i < 10_000; i++) deep = [deep];
    expect(refusal(() => referencesOf(deep)).code).toBe('invalid_template');
    expect(refusal(() => render(deep, scope)).code).toBe('invalid_template');
  });

  const key = fc.stringMatching(/^[A-Za-z_][A-Za-z0-9_-]{0,20}$/);
  const reference: fc.Arbitrary<Reference> = fc.oneof(
    fc.record({
      kind: fc.constant('output' as const),
      component: fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/),
      key,
    }),
    fc.record({ kind: fc.constant('input' as const), key }),
    fc.record({ kind: fc.constant('install' as const), key: fc.constantFrom('id' as const, 'name' as const) }),
  );

  it('are found again whatever text is around them', () => {
    const literal = fc.string().filter((text) => !text.includes('{') && !text.includes('\\'));
    fc.assert(
      fc.property(fc.array(fc.tuple(literal, reference)), literal, (parts, tail) => {
        const text = parts.map(([before, ref]) => `${before}{{ ${referenceText(ref)} }}`).join('') + tail;
        expect(referencesOf([text]).map((found) => found.reference)).toEqual(parts.map(([, ref]) => ref));
      }),
    );
  });

  it('leave every value without a template as it is, once its {{ is escaped', () => {
    const escape = (value: JsonValue): JsonValue => {
      if (typeof value === 'string') return value.replaceAll('{{', '\\{{');
      if (Array.isArray(value)) return value.map(escape);
      if (typeof value !== 'object' || value === null) return value;
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, escape(item)]));
    };
    const plain = fc.jsonValue({ maxDepth: 5 }).filter((value) => !JSON.stringify(value).includes('\\\\{{'));
    fc.assert(
      fc.property(plain, (value) => {
        expect(render(escape(value as JsonValue), scope)).toEqual(value);
      }),
    );
    expect(render('a \\{{ .Values.x }}', scope)).toBe('a {{ .Values.x }}');
  });

  it('either render or refuse by code, for any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('{', '}', '\\', 'install.id', ' ', 'x', '\n') }), (text) => {
        try {
          render(text, scope);
        } catch (error) {
          expect(error).toBeInstanceOf(ImsError);
        }
      }),
    );
  });
});
