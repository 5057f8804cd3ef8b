import { type ExecutorContext } from '../executor.js';
import { nameOf, parseManifests, type KubeObject } from './objects.js';

/** A release as `helm status -o json` and a dry run show it. */
export interface Release {
  readonly info: { readonly status: string; readonly resources?: Readonly<Record<string, readonly KubeObject[]>> };
  readonly version: number;
  readonly manifest: string;
  readonly hooks?: readonly { readonly manifest: string }[];
}
export interface Annotated extends KubeObject {
  readonly metadata: KubeObject['metadata'] & { readonly annotations?: Readonly<Record<string, string>> };
}

/** What a release consists of, each object as normalised text: `Kind/name`, or `hook Kind/name`. */
export function partsOf({ manifest, hooks = [] }: Release, { namespace }: ExecutorContext): Map<string, string> {
  const texts = [manifest, ...hooks.map((hook) => hook.manifest)];
  const objects = texts.flatMap((text) => parseManifests(text, 'the rendered chart') as Annotated[]);
  return new Map(
    objects.map((object) => {
      const { annotations = {}, namespace: at = namespace } = object.metadata;
      const hook = annotations['helm.sh/hook'] === undefined ? '' : 'hook ';
      return [`${hook}${at === namespace ? '' : `${at} `}${nameOf(object)}`, JSON.stringify(object)];
    }),
  );
}

/** The chart says that the object stays when the release goes. */
export const isKept = ({ metadata: { annotations = {} } }: Annotated): boolean =>
  annotations['helm.sh/resource-policy'] === 'keep';

export function same(one: ReadonlyMap<string, string>, other: ReadonlyMap<string, string>): boolean {
  return one.size === other.size && [...one].every(([part, text]) => other.get(part) === text);
}
