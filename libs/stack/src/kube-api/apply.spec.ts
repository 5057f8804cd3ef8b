import fc from 'fast-check';
import { serverSideApply, trackUpdate } from './apply.js';
import { difference, fieldsOf, intersect, pathsOf, subtract, union } from './fields.js';
import type { KubeObject } from './objects.js';
import { schemas } from './schema.js';

const pod = (spec: object): KubeObject =>
  ({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' }, spec }) as unknown as KubeObject;
const apply = (live: KubeObject | undefined, spec: object, manager = 'agent', force = false): KubeObject =>
  serverSideApply(live, pod(spec), schemas.pod, { manager, apiVersion: 'v1' }, { force, named: {} });
const owner = (object: KubeObject, manager: string): string[] =>
  pathsOf(object.metadata.managedFields?.find((entry) => entry.manager === manager)?.fieldsV1);

describe('server-side apply', () => {
  it('merges list items by their keys and keeps those of others in place', () => {
    const first = apply(undefined, { containers: [{ name: 'a' }, { name: 'c' }] });
    const second = apply(
      first,
      {
        containers: [
          { name: 'b', image: 'x' },
          { name: 'c', image: 'y' },
        ],
      },
      'other',
    );
    expect(second.spec).toEqual({ containers: [{ name: 'a' }, { name: 'b', image: 'x' }, { name: 'c', image: 'y' }] });
  });

  it('counts a missing protocol as TCP, so that one port stays one', () => {
    const live = apply(undefined, { containers: [{ name: 'a', ports: [{ containerPort: 80, protocol: 'TCP' }] }] });
    const next = apply(live, { containers: [{ name: 'a', ports: [{ containerPort: 80, name: 'http' }] }] }, 'other');
    expect(next.spec).toEqual({
      containers: [{ name: 'a', ports: [{ containerPort: 80, protocol: 'TCP', name: 'http' }] }],
    });
  });

  it('names every conflict by its path and takes the fields by force', () => {
    const live = apply(undefined, { containers: [{ name: 'a', image: 'x', env: [{ name: 'E', value: '1' }] }] });
    const rival = { containers: [{ name: 'a', image: 'y', env: [{ name: 'E', value: '2' }] }] };
    expect(() => apply(live, rival, 'rival')).toThrow(
      'Apply failed with 2 conflicts: conflict with "agent" using v1: .spec.containers[name="a"].image; ' +
        'conflict with "agent" using v1: .spec.containers[name="a"].env[name="E"].value',
    );
    const forced = apply(live, rival, 'rival', true);
    expect(owner(forced, 'agent')).not.toContain('.spec.containers[name="a"].image');
    expect(owner(forced, 'rival')).toContain('.spec.containers[name="a"].image');
  });

  it('shares what two managers set alike: it stays until both have left it', () => {
    const both = apply(apply(undefined, { x: 1, y: 1 }), { x: 1 }, 'other');
    const one = apply(both, { y: 1 });
    expect(one.spec).toEqual({ x: 1, y: 1 });
    expect(apply(one, { z: 1 }, 'other').spec).toEqual({ y: 1, z: 1 });
  });

  it('takes ownership away from an applier whose field somebody updates', () => {
    const live = apply(undefined, { x: 1, y: 1 });
    const edited = pod({ x: 2, y: 1 });
    const managedFields = trackUpdate(live, edited, schemas.pod, { manager: 'editor', apiVersion: 'v1' });
    const next = { ...edited, metadata: { ...edited.metadata, managedFields } };
    expect(owner(next, 'agent')).toEqual(['.spec.y']);
    expect(owner(next, 'editor')).toEqual(['.spec.x']);
    expect(() => apply(next, { x: 3 })).toThrow('conflict with "editor"');
  });
});

const leaf = fc.oneof(fc.string({ maxLength: 3 }), fc.integer(), fc.boolean());
const item = fc.record({
  name: fc.constantFrom('a', 'b', 'c'),
  image: leaf,
  command: fc.array(leaf, { maxLength: 2 }),
});
const spec = fc.record(
  {
    containers: fc.uniqueArray(item, { selector: (one) => one.name, maxLength: 3 }),
    nodeSelector: fc.dictionary(fc.constantFrom('k', 'l'), leaf, { maxKeys: 2 }),
    hostname: leaf,
  },
  { requiredKeys: [] },
);

describe('properties', () => {
  it('applying the same again changes nothing, ownership and its time included', () => {
    fc.assert(
      fc.property(spec, (one) => {
        const live = apply(undefined, one);
        expect(apply(live, one)).toEqual(live);
      }),
    );
  });

  it('the only manager gets exactly what it applies, whatever was there before', () => {
    fc.assert(
      fc.property(spec, spec, (before, after) => {
        expect(apply(apply(undefined, before), after).spec).toEqual(after);
      }),
    );
  });

  it('a forced apply never conflicts and leaves no field with two owners of different values', () => {
    fc.assert(
      fc.property(spec, spec, (one, two) => {
        const live = apply(apply(undefined, one), two, 'rival', true);
        const again = apply(live, two, 'rival');
        expect(again.spec).toEqual(live.spec);
      }),
    );
  });

  it('field sets obey the laws of sets', () => {
    const set = spec.map((value) => fieldsOf(pod(value), schemas.pod));
    fc.assert(
      fc.property(set, set, (a, b) => {
        expect(subtract(a, a)).toBeUndefined();
        expect(intersect(a, union(a, b))).toEqual(a);
        expect(intersect(subtract(a, b), b)).toBeUndefined();
        expect(new Set(pathsOf(union(subtract(a, b), intersect(a, b))))).toEqual(new Set(pathsOf(a)));
      }),
    );
  });

  it('a difference is empty exactly between equals', () => {
    fc.assert(
      fc.property(spec, spec, (a, b) => {
        expect(difference(pod(a), pod(a), schemas.pod)).toEqual({ changed: undefined, removed: undefined });
        const { changed, removed } = difference(pod(a), pod(b), schemas.pod);
        const sorted = (one: typeof a): string =>
          JSON.stringify({ ...one, containers: one.containers?.toSorted((x, y) => (x.name < y.name ? -1 : 1)) });
        if (changed === undefined && removed === undefined)
          expect(JSON.parse(sorted(a))).toEqual(JSON.parse(sorted(b)));
      }),
    );
  });
});
