import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { parseDocument } from 'yaml';
import { ImsError } from '#contracts';
import { type BuildContext } from '../kind.js';
import { insideOf } from '../source.js';

/** In the order in which kustomize looks for them. */
const NAMES = ['kustomization.yaml', 'kustomization.yml', 'Kustomization'];
/** What a kustomization reads from elsewhere: files, or folders with a kustomization of their own. */
const PLACES = [
  ...['resources', 'bases', 'components', 'generators', 'transformers', 'validators'],
  ...['crds', 'configurations', 'patchesStrategicMerge'],
];
/** The same inside of other fields: which keys of which. (`path`, `env` and `files` are also names that labels have.) */
const FILES: Readonly<Record<string, readonly string[]>> = {
  openapi: ['path'],
  patches: ['path'],
  patchesJson6902: ['path'],
  replacements: ['path'],
  configMapGenerator: ['files', 'envs', 'env'],
  secretGenerator: ['files', 'envs', 'env'],
};
/** They run helm, which fetches; a chart is a component of its own kind. */
const CHARTS = ['helmCharts', 'helmChartInflationGenerator'];
const FOLDERS_MAX = 200;
const TIMEOUT_MS = 120_000;
const RENDERED_MAX_BYTES = 32 * 2 ** 20;
const CLOSED = 'http://127.0.0.1:9';

const invalid = (detail: string): ImsError => new ImsError('source_invalid', detail);

/** The file that makes a folder a kustomization. */
export const kustomizationOf = (dir: string): string | undefined =>
  NAMES.map((name) => join(dir, name)).find((file) => existsSync(file));

/**
 * The objects that `kubectl kustomize` makes of the source, as one YAML text. Everything it is made of lies in the
 * source: what names a URL or leads out of the checkout is refused before kustomize sees it (it would clone and fetch),
 * and kustomize has no network, no git, no plugins and no helm. Throws `source_invalid` with file and field.
 */
export async function kustomized({ step, sourceDir }: BuildContext, kubectl: string): Promise<string> {
  const checkout = join(step.workspace, 'source');
  await assertOwn(checkout, sourceDir, new Set());
  const said: string[] = [];
  const namespaces = process.getuid?.() === 0 ? ['--net'] : ['--map-root-user', '--net'];
  const { exitCode, stdout = '' } = await step.run({
    command: 'unshare',
    args: [...namespaces, '--', kubectl, 'kustomize', sourceDir, '--load-restrictor', 'LoadRestrictionsRootOnly'],
    env: { HTTP_PROXY: CLOSED, HTTPS_PROXY: CLOSED, GIT_ALLOW_PROTOCOL: 'none', KUBECONFIG: '/dev/null' },
    timeoutMs: TIMEOUT_MS,
    maxOutputBytes: RENDERED_MAX_BYTES,
    onLine: (line) => {
      said.push(line.replaceAll(`${checkout}/`, ''));
      return line;
    },
  });
  if (exitCode === 127) throw new ImsError('tool_missing', `the program ${kubectl} is not installed at the agent`);
  if (exitCode !== 0) throw invalid((said.slice(-3).join('\n') || 'kustomize failed').slice(0, 2_000));
  return stdout;
}

/** Looks through the kustomization of a folder, and those that it is made of. */
async function assertOwn(checkout: string, dir: string, seen: Set<string>): Promise<void> {
  if (seen.has(dir)) return;
  seen.add(dir);
  if (seen.size > FOLDERS_MAX) throw invalid('the kustomization is made of too many others');
  const file = kustomizationOf(dir);
  const shown = relative(checkout, file ?? dir);
  if (file === undefined) throw invalid(`${shown}: there is no kustomization.yaml`);
  const document = parseDocument(await readFile(file, 'utf8'), { logLevel: 'error' });
  const [error] = document.errors;
  if (error) throw invalid(`${shown}: ${error.message.split('\n')[0] ?? ''}`);
  const content = document.toJS() as unknown;
  if (!isMapping(content)) throw invalid(`${shown}: a kustomization is a mapping`);
  const chart = CHARTS.find((key) => content[key] !== undefined);
  if (chart !== undefined) throw invalid(`${shown}: ${chart}: a chart is a component of kind helm-chart`);
  for (const { field, path } of placesOf(content)) {
    // kustomize takes more than URLs for places to clone from: github.com/…, git@host:…, and what has a query.
    if (/^\w[\w+.-]*:|^[\w-]+(\.[\w-]+)+\/|@|\?|\/\//.test(path) && !existsSync(join(dir, path))) {
      throw new ImsError('external_reference', `${shown}: ${field}: ${path} is not in the source`);
    }
    const real = await insideOf(checkout, join(relative(checkout, dir), path));
    if (real === undefined) throw invalid(`${shown}: ${field}: ${path} is not in the source`);
    if ((await stat(real)).isDirectory()) await assertOwn(checkout, real, seen);
  }
}

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? (value as unknown[]) : [value]);
const textsIn = (value: unknown): string[] => listOf(value).filter((each) => typeof each === 'string');

/** Every place outside of the file itself that it names. What spans lines is an object written on the spot. */
function placesOf(content: Record<string, unknown>): { readonly field: string; readonly path: string }[] {
  const whole = PLACES.flatMap((key) => textsIn(content[key]).map((path) => ({ field: key, path })));
  const inner = Object.entries(FILES).flatMap(([field, keys]) =>
    listOf(content[field])
      .filter(isMapping)
      .flatMap((entry) =>
        keys.flatMap((key) => textsIn(entry[key]).map((path) => ({ field: `${field}.${key}`, path }))),
      )
      // `key=file` in a generator.
      .map(({ field: at, path }) => ({ field: at, path: at.endsWith('.files') ? path.replace(/^[^=]*=/, '') : path })),
  );
  return [...whole, ...inner].filter(({ path }) => !path.includes('\n'));
}
