import { ImsError } from '#contracts';
import fc from 'fast-check';
import { checkGraph, planDeploy, planTeardown, type GraphComponent, type PlannedJob } from './graph.js';

const component = (name: string, dependsOn: string[] = [], templates: unknown = {}): GraphComponent => ({
  name,
  dependsOn,
  templates,
});
const codeOf = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    return error instanceof ImsError ? `${error.code}: ${error.detail}` : String(error);
  }
  return 'nothing';
};

/** A random acyclic graph: each component may depend on those before it, declared or by a reference. */
const acyclic = fc
  .array(fc.tuple(fc.array(fc.nat(), { maxLength: 4 }), fc.array(fc.nat(), { maxLength: 2 })), {
    minLength: 1,
    maxLength: 25,
  })
  .map((rows) =>
    rows.map(([declared, referenced], i) =>
      component(
        `c${i}`,
        i === 0 ? [] : declared.map((n) => `c${n % i}`),
        i === 0 ? {} : { env: referenced.map((n) => `x {{ components.c${n % i}.outputs.url }}`) },
      ),
    ),
  )
  .chain((components) => fc.shuffledSubarray(components, { minLength: components.length }));

const comesAfterAll = (plan: readonly PlannedJob[]): boolean => {
  const seen = new Set<string>();
  return plan.every((job) => {
    const ordered = job.dependsOn.every((key) => seen.has(key));
    seen.add(job.key);
    return ordered;
  });
};
const edge = (plan: readonly PlannedJob[], from: string, to: string): boolean =>
  plan.some((job) => job.key === from && job.dependsOn.includes(to));

describe('the deployment graph', () => {
  const shop = [
    component('web', ['db'], { image: '{{ components.api.outputs.image }}' }),
    component('api', [], { url: 'pg {{ components.db.outputs.url }}' }),
    component('db'),
  ];

  it('is a sync and an apply for each component, applies after their own sync and their dependencies', () => {
    expect(planDeploy(shop)).toEqual([
      { key: 'sync:db', component: 'db', kind: 'sync', dependsOn: [] },
      { key: 'apply:db', component: 'db', kind: 'apply', dependsOn: ['sync:db'] },
      { key: 'sync:api', component: 'api', kind: 'sync', dependsOn: [] },
      { key: 'apply:api', component: 'api', kind: 'apply', dependsOn: ['sync:api', 'apply:db'] },
      { key: 'sync:web', component: 'web', kind: 'sync', dependsOn: [] },
      { key: 'apply:web', component: 'web', kind: 'apply', dependsOn: ['sync:web', 'apply:api', 'apply:db'] },
    ]);
  });

  it('is reversed for a teardown, and leaves out what is not there', () => {
    expect(planTeardown(shop.filter(({ name }) => name !== 'api'))).toEqual([
      { key: 'destroy:web', component: 'web', kind: 'destroy', dependsOn: [] },
      { key: 'destroy:db', component: 'db', kind: 'destroy', dependsOn: ['destroy:web'] },
    ]);
  });

  it.each([
    [[component('a', ['b']), component('b', ['a'])], 'dependency_cycle: a -> b -> a'],
    [[component('a', ['a'])], 'dependency_cycle: a -> a'],
    [
      [
        component('x', ['a']),
        component('a', ['b']),
        component('b', [], '{{ components.c.outputs.v }}'),
        component('c', ['a']),
      ],
      'dependency_cycle: a -> b -> c -> a',
    ],
    [[component('a', ['gone'])], 'unknown_component: a depends on gone, which does not exist'],
    [
      [component('a', [], '{{ components.gone.outputs.x }}')],
      'unknown_component: a depends on gone, which does not exist',
    ],
    [[component('a'), component('a')], 'conflict: there are two components with the name a'],
  ])('refuses what cannot be ordered and names it (%#)', (components, message) => {
    expect(codeOf(() => checkGraph(components))).toBe(message);
    expect(codeOf(() => planDeploy(components))).toBe(message);
  });

  it('orders any acyclic graph, forward and back', () => {
    fc.assert(
      fc.property(acyclic, (components) => {
        const deploy = planDeploy(components);
        const teardown = planTeardown(components);
        expect(deploy).toHaveLength(components.length * 2);
        expect(teardown).toHaveLength(components.length);
        expect(comesAfterAll(deploy)).toBe(true);
        expect(comesAfterAll(teardown)).toBe(true);
        for (const { name, dependsOn } of components) {
          for (const parent of dependsOn) {
            expect(edge(deploy, `apply:${name}`, `apply:${parent}`)).toBe(true);
            expect(edge(teardown, `destroy:${parent}`, `destroy:${name}`)).toBe(true);
          }
        }
      }),
    );
  });

  it('gives the same plan whatever the order of the input', () => {
    fc.assert(
      fc.property(acyclic, (components) => {
        expect(planDeploy(components)).toEqual(planDeploy(components.toReversed()));
      }),
    );
  });

  it('finds the circle in any graph that has one, and a teardown is never refused', () => {
    fc.assert(
      fc.property(acyclic, fc.nat(), (components, at) => {
        // Closing the circle: what another component depends on depends on that one.
        const child = components.filter(({ dependsOn }) => dependsOn.length > 0)[at % components.length];
        fc.pre(child !== undefined);
        const parent = child.dependsOn[0];
        const closed = components.map((c) =>
          c.name === parent ? { ...c, dependsOn: [...c.dependsOn, child.name] } : c,
        );
        const message = codeOf(() => checkGraph(closed));
        expect(message).toMatch(/^dependency_cycle: (c\d+)( -> c\d+)* -> \1$/);
        const plan = planTeardown(closed);
        expect(plan).toHaveLength(components.length);
        expect(comesAfterAll(plan)).toBe(true);
      }),
    );
  });
});
