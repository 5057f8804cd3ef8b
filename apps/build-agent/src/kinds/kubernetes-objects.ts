import { LineCounter, parseAllDocuments } from 'yaml';
import { ImsError } from '#contracts';

/** A Kubernetes object as far as it is known here. */
export interface KubernetesObject {
  readonly apiVersion?: unknown;
  readonly kind?: unknown;
  readonly metadata?: { readonly name?: unknown } | null;
}

/**
 * The objects of a YAML text, each with the line that it begins at; empty documents are left out. Throws
 * `source_invalid` with file and line.
 */
export function objectsOf(text: string, file: string): { readonly object: KubernetesObject; readonly line: number }[] {
  const lines = new LineCounter();
  const invalid = (line: number, why: string): ImsError => new ImsError('source_invalid', `${file}:${line}: ${why}`);
  return parseAllDocuments(text, { lineCounter: lines, logLevel: 'error' }).flatMap((document) => {
    const [error] = document.errors;
    if (error) throw invalid(lines.linePos(error.pos[0]).line, error.message.split('\n')[0] ?? '');
    const { line } = lines.linePos(document.contents?.range?.[0] ?? 0);
    let object: unknown;
    try {
      object = document.toJS();
    } catch (thrown) {
      // An alias without an anchor, or a bomb of aliases.
      throw invalid(line, thrown instanceof Error ? thrown.message : 'it cannot be read');
    }
    if (object === null || object === undefined) return [];
    if (typeof object !== 'object') throw invalid(line, 'a manifest is a mapping');
    return [{ object, line }];
  });
}

export const nameOf = ({ kind, metadata }: KubernetesObject): string => `${String(kind)}/${String(metadata?.name)}`;

/** In these a field `image` is data of the vendor's own and nothing that a cluster pulls. */
const DATA = /^\/(data|stringData|binaryData)\//;

export interface NamedImage {
  /** JSON Pointer. */
  readonly place: string;
  readonly image: string;
}

/**
 * Every image that an object names: each text field `image` (custom resources have them in places of their own), and
 * image volumes. A field `image` of a container that is no text is a template without quotes, which YAML takes for a
 * mapping; it is named as such.
 */
export function imagesOf(object: KubernetesObject): NamedImage[] {
  const found: NamedImage[] = [];
  const isData = object.kind === 'ConfigMap' || object.kind === 'Secret';
  const visit = (value: unknown, at: string): void => {
    if (typeof value !== 'object' || value === null) return;
    for (const [key, inner] of Object.entries(value) as [string, unknown][]) {
      const place = `${at}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
      if (isData && DATA.test(place)) continue;
      const volume = /\/volumes\/\d+\/image\/reference$/.test(place);
      if (typeof inner === 'string' && inner !== '' && (key === 'image' || volume)) found.push({ place, image: inner });
      else if (/\/(c|initC|ephemeralC)ontainers\/\d+\/image$/.test(place) && typeof inner === 'object') {
        found.push({ place, image: `${JSON.stringify(inner)} (a template needs quotes)` });
      } else visit(inner, place);
    }
  };
  visit(object, '');
  return found;
}

/** Fails the build with every image that would be pulled from outside. */
export function assertNoExternalImages(
  found: readonly { readonly where: string; readonly image: string }[],
  allowed: (image: string) => boolean,
): void {
  const external = found.filter(({ image }) => !allowed(image));
  if (external.length === 0) return;
  const named = external.map(({ where, image }) => `${where}: ${image}`).join('; ');
  throw new ImsError('external_reference', named.slice(0, 2_000));
}
