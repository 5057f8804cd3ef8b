import { ImsError, type ComponentKind, type ComponentSpec, type FieldError } from '#contracts';
import { type GraphComponent } from './graph.js';
import { referencesOf } from './references.js';

type SpecField = Exclude<keyof ComponentSpec, 'kind' | 'depends_on'>;
interface KindRule {
  readonly needs: readonly SpecField[];
  readonly takes: readonly SpecField[];
}

/** What each kind must have and may have; a field that would be ignored is refused instead. */
const RULES: Readonly<Record<ComponentKind, KindRule>> = {
  'container-image': { needs: ['source'], takes: ['dockerfile'] },
  'external-image': { needs: ['image'], takes: [] },
  'helm-chart': { needs: ['source'], takes: ['values', 'namespace'] },
  'terraform-module': { needs: ['source'], takes: ['values'] },
  'kubernetes-manifests': { needs: ['source'], takes: ['values', 'namespace'] },
  job: { needs: ['run'], takes: ['values', 'namespace'] },
};
const FIELDS: readonly SpecField[] = ['source', 'image', 'dockerfile', 'values', 'run', 'namespace'];

/** Leaves the repository folder or the source directory: `..` as a part, or an absolute path. */
const escapes = (path: string): boolean => path.startsWith('/') || path.split(/[\\/]/).includes('..');

/** The parts of a spec that may hold templates. */
const templatesOf = (spec: Pick<ComponentSpec, 'values' | 'run'>): unknown => ({
  values: spec.values ?? {},
  run: spec.run ?? {},
});

/**
 * Checks one spec by itself: the fields of its kind, paths that stay inside, templates that parse. Names that it
 * refers to are checked when a release is made, so components may be created in any order. Throws `invalid_request`
 * naming every field, or `invalid_template`.
 */
export function checkComponentSpec(spec: ComponentSpec, at = ''): void {
  const rule = RULES[spec.kind];
  const faults = FIELDS.flatMap((field): FieldError[] => {
    const given = spec[field] !== undefined;
    if (rule.needs.includes(field)) {
      return given ? [] : [{ pointer: `${at}/${field}`, message: `is needed for a ${spec.kind}` }];
    }
    return given && !rule.takes.includes(field)
      ? [{ pointer: `${at}/${field}`, message: `is not for a ${spec.kind}` }]
      : [];
  });
  const paths = [
    { pointer: `${at}/source/directory`, path: spec.source?.directory },
    { pointer: `${at}/dockerfile`, path: spec.dockerfile },
  ];
  for (const { pointer, path } of paths) {
    if (path !== undefined && escapes(path)) faults.push({ pointer, message: 'must be a path inside the source' });
  }
  if (faults.length > 0) {
    const detail = faults.map(({ pointer, message }) => `${pointer} ${message}`).join('; ');
    throw new ImsError('invalid_request', detail, faults);
  }
  referencesOf(templatesOf(spec));
}

/** A component as a node of the graph. `references`: components that its built source names in templates. */
export function graphComponent(
  spec: Pick<ComponentSpec, keyof ComponentSpec> & { readonly name: string; readonly references?: string[] },
): GraphComponent {
  return {
    name: spec.name,
    dependsOn: [...(spec.depends_on ?? []), ...(spec.references ?? [])],
    templates: templatesOf(spec),
  };
}
