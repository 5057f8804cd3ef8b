import { existsSync } from 'node:fs';
import { readdir, readFile, realpath, rename, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { parse } from 'yaml';
import { ImsError } from '#contracts';
import { tarGzDirectory, untarTo } from '#oci';
import { insideOf } from '../source.js';

interface Dependency {
  readonly name: string;
  readonly repository?: string;
}
/** Runs helm; throws `source_invalid` with what it says. */
export type Helm = (args: readonly string[]) => Promise<unknown>;

export interface DependencyOptions {
  /** The whole source: a `file://` dependency may lie beside the chart, and not outside of this. */
  readonly checkout: string;
  /** What a repository's URL must begin with; undefined: any may be asked. */
  readonly allowed: readonly string[] | undefined;
  /** Logins of OCI registries, as docker keeps them. */
  readonly authFile: string | undefined;
  readonly helm: Helm;
}

const LOOPBACK = /^(oci|http):\/\/(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?(\/|$)/;
const isFile = (repository: string): boolean => repository.startsWith('file://');

/**
 * Puts the charts that a chart depends on into its `charts` folder, as folders, so that the same source gives the same
 * archive. Those that are there are left alone. `file://` ones are taken from the source, others from the repository
 * that Chart.yaml names, at the version of Chart.lock: without that lock tomorrow's build would be another. Throws
 * `external_reference` with the dependency's name for what is neither there nor locked, nor allowed.
 */
export async function vendorDependencies(
  chartDir: string,
  options: DependencyOptions,
  seen = new Set<string>(),
): Promise<void> {
  const { checkout, helm, authFile } = options;
  if (seen.has(chartDir)) return;
  seen.add(chartDir);
  const here = relative(await realpath(checkout), await realpath(chartDir));
  const shown = join(here, 'Chart.yaml');
  const dependencies = await dependenciesOf(chartDir, shown);
  const charts = join(chartDir, 'charts');
  const there = await readdir(charts).catch(() => []);
  if (dependencies.every(({ name }) => there.some((entry) => entry === name || isArchiveOf(entry, name)))) return;
  const locked = existsSync(join(chartDir, 'Chart.lock'));
  for (const dependency of dependencies) {
    const { name, repository = '' } = dependency;
    const where = `${shown}: dependency ${name}`;
    if (isFile(repository)) {
      const dir = await insideOf(checkout, join(here, repository.slice('file://'.length)));
      if (dir === undefined) throw new ImsError('source_invalid', `${where}: ${repository} is not in the source`);
      // Helm packs what a link points to, wherever that is.
      await tarGzDirectory(dir);
      await vendorDependencies(dir, options, seen);
    } else if (repository !== '') {
      assertAllowed(where, repository, locked, options.allowed);
    }
  }
  const remote = dependencies.map(({ repository = '' }) => repository).filter((each) => each !== '' && !isFile(each));
  // Helm looks into indexes of repositories that it was told of, and nowhere else.
  const indexed = [...new Set(remote)].filter((repository) => /^https?:/.test(repository));
  for (const [index, url] of indexed.entries())
    await helm(['repo', 'add', `repository-${index}`, url, '--force-update']);
  const login = authFile === undefined ? [] : ['--registry-config', authFile];
  const plain = remote.length > 0 && remote.every((repository) => LOOPBACK.test(repository)) ? ['--plain-http'] : [];
  await helm(['dependency', 'build', chartDir, ...login, ...plain]);
  // One that helm has made of `file://` dependencies has the time of this build in it.
  if (!locked) await rm(join(chartDir, 'Chart.lock'), { force: true });
  for (const entry of (await readdir(charts)).filter((name) => name.endsWith('.tgz'))) {
    const opened = join(charts, '.opened');
    await rm(opened, { recursive: true, force: true });
    await untarTo(join(charts, entry), opened);
    for (const folder of await readdir(opened)) await rename(join(opened, folder), join(charts, folder));
    await Promise.all([opened, join(charts, entry)].map((path) => rm(path, { recursive: true })));
  }
}

function assertAllowed(
  where: string,
  repository: string,
  locked: boolean,
  allowed: readonly string[] | undefined,
): void {
  const refuse = (why: string): never => {
    throw new ImsError('external_reference', `${where}: ${why}`);
  };
  if (!/^(oci|https|http):\/\//.test(repository)) refuse(`${repository} is no URL of a repository`);
  if (/^http:/.test(repository) && !LOOPBACK.test(repository)) refuse(`${repository} is not read without TLS`);
  if (/\/\/[^/]*@/.test(repository)) refuse('a login does not belong into the URL of a repository');
  if (!locked) refuse('it is not in charts/, and there is no Chart.lock that says which version to take');
  if (
    allowed &&
    !allowed.some((prefix) => repository === prefix || repository.startsWith(`${prefix.replace(/\/$/, '')}/`))
  ) {
    refuse(`it is not in charts/, and this build agent takes none from ${repository} (CHART_REPOSITORIES)`);
  }
}

async function dependenciesOf(chartDir: string, shown: string): Promise<Dependency[]> {
  let chart: unknown;
  try {
    chart = parse(await readFile(join(chartDir, 'Chart.yaml'), 'utf8'));
  } catch (thrown) {
    const why = thrown instanceof Error ? (thrown.message.split('\n')[0] ?? '') : '';
    throw new ImsError('source_invalid', `${shown}: ${why}`, [], { cause: thrown });
  }
  const { dependencies = [] } = (chart ?? {}) as { readonly dependencies?: unknown };
  const valid =
    Array.isArray(dependencies) &&
    dependencies.every(
      (each: Partial<Record<keyof Dependency, unknown>> | null) =>
        typeof each?.name === 'string' && /^string|undefined$/.test(typeof each.repository),
    );
  if (!valid) throw new ImsError('source_invalid', `${shown}: dependencies is not a list of names and repositories`);
  return dependencies as Dependency[];
}

/** `redis-1.2.3.tgz` is one of `redis`, and `redis-cluster-1.2.3.tgz` is not. */
const isArchiveOf = (entry: string, name: string): boolean =>
  entry.startsWith(`${name}-`) && /^v?\d.*\.tgz$/.test(entry.slice(name.length + 1));
