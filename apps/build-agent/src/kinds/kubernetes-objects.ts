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
