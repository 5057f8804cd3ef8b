import { ImsError, type JobKind } from '#contracts';
import { referencesOf } from './references.js';

/** A component as far as order matters. */
export interface GraphComponent {
  readonly name: string;
  /** Declared by hand. */
  readonly dependsOn: readonly string[];
  /** Everything that may hold templates; a reference to another component's output is a dependency too. */
  readonly templates: unknown;
}
/** A job to be made. `key` is unique in the plan; `dependsOn` are keys that come earlier in the list. */
export interface PlannedJob {
  readonly key: string;
  readonly component: string;
  readonly kind: Extract<JobKind, 'sync' | 'apply' | 'destroy'>;
  readonly dependsOn: readonly string[];
}
type Edges = ReadonlyMap<string, readonly string[]>;

/** What each component depends on: declared and inferred, each name once, sorted. */
function edgesOf(components: readonly GraphComponent[]): Edges {
  const edges = new Map<string, readonly string[]>();
  for (const { name, dependsOn, templates } of components) {
    if (edges.has(name)) throw new ImsError('conflict', `there are two components with the name ${name}`);
    const inferred = referencesOf(templates).flatMap(({ reference }) =>
      reference.kind === 'output' ? [reference.component] : [],
    );
    edges.set(name, [...new Set([...dependsOn, ...inferred])].sort());
  }
  return edges;
}

/** A circle in the graph as `[a, b, a]`, or undefined. Iterative: depth is bounded by the caller's list, not the stack. */
export function findCycle(edges: Edges): string[] | undefined {
  const done = new Set<string>();
  for (const start of edges.keys()) {
    const path: { name: string; left: string[] }[] = [];
    const enter = (name: string): void => void path.push({ name, left: [...(edges.get(name) ?? [])] });
    if (!done.has(start)) enter(start);
    for (let top = path.at(-1); top; top = path.at(-1)) {
      const next = top.left.shift();
      if (next === undefined) {
        done.add(top.name);
        path.pop();
        continue;
      }
      const before = path.findIndex((entry) => entry.name === next);
      if (before >= 0) return [...path.slice(before).map((entry) => entry.name), next];
      if (!done.has(next)) enter(next);
    }
  }
  return undefined;
}

/** Names so that each comes after what it depends on; among equals by name, so that the plan is always the same. */
function inOrder(edges: Edges): string[] {
  const order: string[] = [];
  const placed = new Set<string>();
  let waiting = [...edges.keys()].sort();
  while (waiting.length > 0) {
    const ready = waiting.filter((name) => (edges.get(name) ?? []).every((parent) => placed.has(parent)));
    // Only a teardown of components from several releases can have a circle; then one is taken without its parents.
    const next = ready.length > 0 ? ready : waiting.slice(0, 1);
    next.forEach((name) => placed.add(name));
    order.push(...next);
    waiting = waiting.filter((name) => !placed.has(name));
  }
  return order;
}

/** Throws `dependency_cycle` with the path (`a -> b -> a`). Names that are not there (yet) do not matter here. */
export function checkNoCycle(components: readonly GraphComponent[]): void {
  const cycle = findCycle(edgesOf(components));
  if (cycle) throw new ImsError('dependency_cycle', cycle.join(' -> '));
}

/**
 * Checks the dependencies of an app's components. Throws `unknown_component` (a declared or referenced name that is
 * not there), `dependency_cycle`, `invalid_template`.
 */
export function checkGraph(components: readonly GraphComponent[]): void {
  const edges = edgesOf(components);
  const unknown = [...edges].flatMap(([name, parents]) =>
    parents
      .filter((parent) => !edges.has(parent))
      .map((parent) => `${name} depends on ${parent}, which does not exist`),
  );
  if (unknown.length > 0) throw new ImsError('unknown_component', unknown.join('; '));
  checkNoCycle(components);
}

/**
 * The jobs that take an install to a release: for each component `sync` (no dependencies) and `apply`, which waits for
 * its own sync and for the applies of what it depends on. Throws like `checkGraph`.
 */
export function planDeploy(components: readonly GraphComponent[]): PlannedJob[] {
  checkGraph(components);
  const edges = edgesOf(components);
  return inOrder(edges).flatMap((component): PlannedJob[] => [
    { key: `sync:${component}`, component, kind: 'sync', dependsOn: [] },
    {
      key: `apply:${component}`,
      component,
      kind: 'apply',
      dependsOn: [`sync:${component}`, ...(edges.get(component) ?? []).map((parent) => `apply:${parent}`)],
    },
  ]);
}

/**
 * The jobs that remove what is there: `destroy` of a component waits for the destroy of all that depend on it.
 * Never refused for its graph, since what cannot be ordered must still be removable: names that are not (or no longer)
 * there are left out, and a circle (components of several releases) is cut.
 */
export function planTeardown(components: readonly GraphComponent[]): PlannedJob[] {
  const all = edgesOf(components);
  const present = new Map([...all].map(([name, parents]) => [name, parents.filter((parent) => all.has(parent))]));
  const order = inOrder(present);
  const position = new Map(order.map((name, i) => [name, i]));
  const at = (name: string): number => position.get(name) ?? 0;
  return order.toReversed().map((component): PlannedJob => {
    const children = order.filter(
      (child) => (present.get(child) ?? []).includes(component) && at(child) > at(component),
    );
    return { key: `destroy:${component}`, component, kind: 'destroy', dependsOn: children.map((c) => `destroy:${c}`) };
  });
}
