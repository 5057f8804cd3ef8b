import { type KubeObject, valueAt } from './objects.js';
import { badRequest } from './status.js';

export type Match = (object: KubeObject) => boolean;

/** `a=b,c!=d,e in (f,g),h,!i`; an unreadable selector is refused (400). */
export function labelSelector(text: string): Match {
  const terms = text.split(/,(?![^(]*\))/).filter((term) => term.trim() !== '');
  const tests = terms.map(labelTerm);
  return (object) => {
    const labels = object.metadata.labels ?? {};
    return tests.every((test) => test(labels));
  };
}

type Labels = Record<string, string>;

function labelTerm(term: string): (labels: Labels) => boolean {
  const set = /^\s*([\w./-]+)\s+(in|notin)\s+\(([^)]*)\)\s*$/.exec(term);
  if (set?.[1] !== undefined) {
    const [, key, operator, list = ''] = set;
    const values = list.split(',').map((value) => value.trim());
    const isIn = (labels: Labels): boolean => labels[key] !== undefined && values.includes(labels[key]);
    return operator === 'in' ? isIn : (labels) => !isIn(labels);
  }
  const equality = /^\s*([\w./-]+)\s*(==?|!=)\s*([\w.-]*)\s*$/.exec(term);
  if (equality?.[1] !== undefined) {
    const [, key, operator, value] = equality;
    return operator === '!=' ? (labels) => labels[key] !== value : (labels) => labels[key] === value;
  }
  const presence = /^\s*(!?)\s*([\w./-]+)\s*$/.exec(term);
  if (presence?.[2] === undefined) throw badRequest(`unable to parse label selector requirement: ${term}`);
  const [, absent, key] = presence;
  return (labels) => (labels[key] === undefined) === (absent === '!');
}

/** `path=value` and `path!=value`. Any path of the object works here; a real server allows a few for each kind. */
export function fieldSelector(text: string): Match {
  const tests = text
    .split(',')
    .filter((term) => term.trim() !== '')
    .map((term): Match => {
      const [, path, operator, wanted] = /^([\w.[\]-]+?)(==?|!=)(.*)$/.exec(term.trim()) ?? [];
      if (path === undefined) throw badRequest(`unable to parse field selector requirement: ${term}`);
      const valueOf = (object: KubeObject): string => {
        const value = valueAt(object, ...path.split('.'));
        return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
          ? String(value)
          : '';
      };
      return (object) => (valueOf(object) === wanted) === (operator !== '!=');
    });
  return (object) => tests.every((test) => test(object));
}
