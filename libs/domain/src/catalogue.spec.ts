import { COMPONENT_KINDS, ComponentSpec, ImsError, ReleaseComponent } from '#contracts';
import fc from 'fast-check';
import { checkComponentSpec, graphComponent } from './component.js';
import { checkDeclarations, declaredOnly, resolveCustomerInputs, resolveInputs, type DeclaredInput } from './inputs.js';

const refusal = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return error instanceof ImsError ? `${error.code}: ${error.detail}` : String(error);
  }
  return 'nothing';
};

describe('inputs of an app', () => {
  const declared: DeclaredInput[] = [
    { name: 'region', type: 'string', required: true },
    { name: 'replicas', type: 'number', default: 2 },
    { name: 'debug', type: 'boolean' },
  ];

  it('are completed with defaults', () => {
    expect(resolveInputs(declared, { region: 'eu' }, '/inputs')).toEqual({ region: 'eu', replicas: 2 });
    expect(resolveInputs(declared, { region: 'eu', replicas: 0, debug: false }, '/inputs')).toEqual({
      region: 'eu',
      replicas: 0,
      debug: false,
    });
  });

  it.each([
    [{}, 'missing_input: /inputs/region is required'],
    [{ region: 'eu', size: 1 }, 'invalid_request: /inputs/size is not an input of this app'],
    [
      { region: 7, replicas: '2' },
      'invalid_request: /inputs/region must be a string; /inputs/replicas must be a number',
    ],
    [{ region: null }, 'invalid_request: /inputs/region must be a string'],
    [{ region: 'x'.repeat(9000) }, 'invalid_request: /inputs/region must be a string'],
  ])('refuse what does not fit and name it (%#)', (given, message) => {
    expect(refusal(() => resolveInputs(declared, given, '/inputs'))).toBe(message);
  });

  const typed: DeclaredInput[] = [
    { name: 'size', type: 'enum', values: ['s', 'm'], default: 's' },
    { name: 'zones', type: 'list', default: ['a'] },
    { name: 'host', type: 'string', pattern: '[a-z0-9.-]+' },
    { name: 'owner', type: 'string', set_by: 'customer', default: 'nobody' },
    { name: 'password', type: 'secret', required: true, pattern: '.{8,}' },
  ];
  it('have more types, and some of them the customer sets', () => {
    checkDeclarations(typed, '/inputs');
    expect(resolveInputs(typed, { size: 'm', host: 'a.example' }, '/inputs')).toEqual({
      size: 'm',
      zones: ['a'],
      host: 'a.example',
    });
    const bad = { size: 'xl', zones: [1], host: 'A!', owner: 'me', password: 'swordfish' };
    const message = refusal(() => resolveInputs(typed, bad, '/inputs'));
    for (const part of [
      'must be one of s, m',
      'must be a list',
      'must match',
      '/inputs/owner is given by the customer',
    ]) {
      expect(message).toContain(part);
    }
    expect(message).toContain('/inputs/password is given by the customer');
    expect(message).not.toContain('swordfish');
    expect(resolveCustomerInputs(typed, { password: 'swordfish', other: 1 })).toEqual({
      owner: 'nobody',
      password: 'swordfish',
    });
    expect(refusal(() => resolveCustomerInputs(typed, {}))).toBe('missing_input: /inputs/password is required');
    expect(refusal(() => resolveCustomerInputs(typed, { password: 'short' }))).not.toContain('short');
    expect(declaredOnly(typed, { size: 'm', gone: 1, password: 'x' })).toEqual({ size: 'm' });
  });

  it.each([
    [{ type: 'enum' }, '/inputs/0/values must name'],
    [{ type: 'string', values: ['a'] }, '/inputs/0/values is for an enum'],
    [{ type: 'enum', values: ['a'], default: 'b' }, '/inputs/0/default must be one of a'],
    [{ type: 'secret', default: 'x' }, '/inputs/0/default is not for a secret'],
    [{ type: 'secret', set_by: 'vendor' }, '/inputs/0/set_by must be customer'],
    [{ type: 'number', pattern: 'x' }, '/inputs/0/pattern is for a string'],
    [{ type: 'string', pattern: '(a+)+' }, '/inputs/0/pattern must be'],
    [{ type: 'string', pattern: '(a)\\1' }, '/inputs/0/pattern must be'],
    [{ type: 'string', pattern: '.*.*.*.*x' }, '/inputs/0/pattern must be'],
    [{ type: 'string', pattern: '[' }, '/inputs/0/pattern must be'],
  ])('refuse a declaration that cannot be kept (%#)', (declaration, message) => {
    const input = { name: 'a', ...declaration } as DeclaredInput;
    expect(refusal(() => checkDeclarations([input], '/inputs'))).toContain(message);
  });

  it('are declared once, with names that a template can hold and defaults of their type', () => {
    checkDeclarations(declared, '/inputs');
    const again = [...declared, { name: 'region', type: 'string' as const }];
    expect(refusal(() => checkDeclarations(again, '/inputs'))).toContain('/inputs/3/name is declared twice');
    expect(refusal(() => checkDeclarations([{ name: 'a.b', type: 'string' }], '/inputs'))).toContain('/inputs/0/name');
    const wrong: DeclaredInput = { name: 'n', type: 'number', default: 'two' };
    expect(refusal(() => checkDeclarations([wrong], '/inputs'))).toBe(
      'invalid_request: /inputs/0/default must be a number',
    );
  });
});

describe('a component', () => {
  const check = (spec: object): string => refusal(() => checkComponentSpec(Object.assign(new ComponentSpec(), spec)));
  const source = { url: 'https://example.com/x.git' };

  it.each([
    [{ kind: 'container-image' }, 'invalid_request: /source is needed for a container-image'],
    [{ kind: 'external-image', image: 'a', source }, 'invalid_request: /source is not for a external-image'],
    [{ kind: 'job', run: { image: '{{ x }}' } }, 'invalid_template: /run/image at 1:1: "x" is not'],
    [
      { kind: 'helm-chart', source: { ...source, directory: 'a/../../b' } },
      'invalid_request: /source/directory must be',
    ],
    [{ kind: 'container-image', source, dockerfile: '/etc/passwd' }, 'invalid_request: /dockerfile must be'],
  ])('is refused by the rules of its kind (%#)', (spec, message) => {
    expect(check(spec)).toContain(message);
  });

  it('of each kind is accepted with what it needs', () => {
    const full = { source, image: 'docker.io/library/redis:7', run: { image: 'x' } };
    for (const kind of COMPONENT_KINDS) {
      const only = kind === 'external-image' ? { image: full.image } : kind === 'job' ? { run: full.run } : { source };
      expect(check({ kind, ...only })).toBe('nothing');
    }
  });

  it('never throws anything but a catalogue error', () => {
    const any = fc.record(
      {
        kind: fc.constantFrom(...COMPONENT_KINDS),
        image: fc.string(),
        dockerfile: fc.string(),
        values: fc.dictionary(fc.string(), fc.string({ unit: fc.constantFrom('{', '}', 'a', '.') })),
        run: fc.record({ image: fc.string() }),
      },
      { requiredKeys: ['kind'] },
    );
    fc.assert(
      fc.property(any, (spec) => {
        expect(check(spec)).toMatch(/^(nothing|invalid_(request|template):)/);
      }),
    );
  });

  it('depends on what it declares, what its values name and what its built source names', () => {
    const released = {
      name: 'web',
      kind: 'kubernetes-manifests',
      depends_on: ['migrate'],
      references: ['cache'],
      values: { url: '{{ components.db.outputs.url }}' },
    };
    const node = graphComponent(Object.assign(new ReleaseComponent(), released));
    expect(node.dependsOn).toEqual(['migrate', 'cache']);
    expect(JSON.stringify(node.templates)).toContain('components.db');
  });
});
