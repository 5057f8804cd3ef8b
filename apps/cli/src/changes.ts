import { type Schemas } from '#client';

type Component = Schemas['Component'];
type NewComponent = Schemas['NewComponent'];

export interface Change {
  readonly path: string;
  readonly before: unknown;
  readonly after: unknown;
}

const KNOWN_BY_SERVER: readonly string[] = ['id', 'app_id', 'created_at', 'name'];

/** What of a component may be changed, as plain data. */
export const specOf = (component: NewComponent | Component): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(component).filter(([key, value]) => !KNOWN_BY_SERVER.includes(key) && value !== undefined),
  );

/** The leaves in which two values differ, by their path. */
export function changesBetween(before: unknown, after: unknown, path = ''): Change[] {
  if (isObject(before) && isObject(after)) {
    const keys = [...new Set([...Object.keys(before), ...Object.keys(after)])];
    return keys.flatMap((key) => changesBetween(before[key], after[key], path === '' ? key : `${path}.${key}`));
  }
  return JSON.stringify(before) === JSON.stringify(after) ? [] : [{ path, before, after }];
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Dependencies first, so that each exists when it is named; a circle is left for the server, which names it. */
export function inOrder(components: readonly NewComponent[]): NewComponent[] {
  const byName = new Map(components.map((component) => [component.name, component]));
  const ordered = new Set<NewComponent>();
  const visiting = new Set<NewComponent>();
  const visit = (component: NewComponent): void => {
    if (ordered.has(component) || visiting.has(component)) return;
    visiting.add(component);
    const named = [...JSON.stringify(component).matchAll(/components\.([a-z0-9-]+)\./g)].map(([, name]) => name ?? '');
    for (const name of [...(component.depends_on ?? []), ...named]) {
      const other = byName.get(name);
      if (other !== undefined) visit(other);
    }
    ordered.add(component);
  };
  components.forEach(visit);
  return [...ordered];
}
