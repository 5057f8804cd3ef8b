import { createHash } from 'node:crypto';
import { createReadStream, type Stats } from 'node:fs';
import { chmod, cp, lstat, readdir, readlink, realpath, rm, stat } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { basename, isAbsolute, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type StepContext } from '#agent-kit';
import { ImsError, type SourceRef } from '#contracts';
import { cloneAt, guardLogin, splitUrl, type GitOptions } from './git.js';

export interface SourceOptions extends GitOptions {
  readonly maxBytes: number;
  /** Never a source: the agent's keys are there. */
  readonly stateDir: string;
  /** Folders that sources on this host may be in; empty: everywhere. */
  readonly roots: readonly string[];
}

/** Files of a source; above that it is no source but a disk. */
const MAX_ENTRIES = 100_000;

/**
 * Brings the source of a component into `into` and answers its commit (for a plain folder: a digest of its files) and
 * the component's directory in it, as a real path relative to `into`. File modes are made 0644 or 0755, since git
 * leaves them to the umask of the host and an image would keep them. Throws `source_unavailable` naming the place.
 */
export async function checkout(
  source: SourceRef,
  into: string,
  step: StepContext,
  options: SourceOptions,
): Promise<{ commit: string; directory: string }> {
  // After a crash in the middle nobody knows what is there.
  await rm(into, { recursive: true, force: true });
  const { ref = 'HEAD', directory = '.' } = source;
  const url = splitUrl(source.url);
  guardLogin(url, step.secrets);
  if (source.url.startsWith('-') || ref.startsWith('-')) throw unavailable(source, 'URL and ref may not begin with -');
  const local = await onThisHost(source, options);
  const plain = local !== undefined && isAbsolute(source.url) && !isRepository(local);
  if (plain) await copyFolder(source, local, into, options);
  const cloned = plain ? undefined : await cloneAt(url, ref, into, step, options);
  if (cloned && 'fault' in cloned) throw unavailable(source, cloned.fault);
  const chosen = await insideOf(into, directory);
  if (!chosen || !(await stat(chosen)).isDirectory()) {
    throw unavailable(source, `there is no directory ${directory} in it`);
  }
  await assertSize(source, chosen, options.maxBytes);
  for await (const { path, stats } of walk(into)) {
    if (stats.isSymbolicLink()) continue;
    await chmod(path, stats.isDirectory() || (stats.mode & 0o100) !== 0 ? 0o755 : 0o644);
  }
  const commit = cloned?.commit ?? (await digestOfTree(chosen));
  step.log('info', `source ${url.shown} at ${commit}`);
  return { commit, directory: relative(await realpath(into), chosen) || '.' };
}

/** The real path below a root; undefined when it is not there or leads out, by `..` or by a link. */
export async function insideOf(root: string, path: string): Promise<string | undefined> {
  try {
    const real = await realpath(join(root, path));
    return isBelow(await realpath(root), real) ? real : undefined;
  } catch {
    return undefined;
  }
}

const isBelow = (root: string, path: string): boolean => {
  const from = relative(root, path);
  return from !== '..' && !from.startsWith(`..${sep}`) && !isAbsolute(from);
};

const isRepository = (path: string): boolean =>
  existsSync(join(path, '.git')) || (existsSync(join(path, 'HEAD')) && existsSync(join(path, 'objects')));

/** The real path of a source on this host, when it may be one; undefined for what is elsewhere or not there. */
async function onThisHost(source: SourceRef, { stateDir, roots }: SourceOptions): Promise<string | undefined> {
  const { url } = source;
  const path = isAbsolute(url) ? url : /^file:/i.test(url) && URL.canParse(url) ? pathOf(url) : undefined;
  if (path === undefined || !existsSync(path)) return undefined;
  const real = await realpath(path);
  const allowed = await Promise.all(roots.map((root) => realpath(root).catch(() => root)));
  if (allowed.length > 0 && !allowed.some((root) => isBelow(root, real))) {
    throw unavailable(source, 'the build agent is not to read there (SOURCE_ROOTS)');
  }
  const state = await realpath(stateDir);
  if (isBelow(state, real) || (isBelow(real, state) && !isRepository(real))) {
    throw unavailable(source, 'the state of the build agent is no source');
  }
  return real;
}

function pathOf(url: string): string | undefined {
  try {
    return fileURLToPath(url);
  } catch {
    return undefined;
  }
}

async function copyFolder(source: SourceRef, from: string, into: string, options: SourceOptions): Promise<void> {
  const { ref = 'HEAD' } = source;
  if (ref !== 'HEAD') throw unavailable(source, 'it is a plain folder and not a git repository, so it has no refs');
  if (!(await stat(from)).isDirectory()) throw unavailable(source, 'it is not a folder');
  await assertSize(source, from, options.maxBytes);
  await cp(from, into, { recursive: true, verbatimSymlinks: true, filter: (path) => basename(path) !== '.git' });
}

interface Entry {
  readonly path: string;
  /** Below the root, with `/`. */
  readonly name: string;
  readonly stats: Stats;
}

/** Everything below a directory but `.git`, links not followed, in one order on every host. */
async function* walk(root: string, prefix = ''): AsyncGenerator<Entry> {
  const children = await readdir(root);
  for (const child of children.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))) {
    if (child === '.git') continue;
    const path = join(root, child);
    const stats = await lstat(path);
    yield { path, name: prefix + child, stats };
    if (stats.isDirectory()) yield* walk(path, `${prefix}${child}/`);
  }
}

async function assertSize(source: SourceRef, root: string, maxBytes: number): Promise<void> {
  let bytes = 0;
  let entries = 0;
  for await (const { name, stats } of walk(root)) {
    if (!stats.isFile() && !stats.isDirectory() && !stats.isSymbolicLink()) {
      throw unavailable(source, `${name} is neither a file nor a folder`);
    }
    bytes += stats.isFile() ? stats.size : 0;
    entries += 1;
    if (bytes > maxBytes) throw unavailable(source, `it is larger than ${maxBytes / 2 ** 20} MiB`);
    if (entries > MAX_ENTRIES) throw unavailable(source, `it has more than ${MAX_ENTRIES} files`);
  }
}

/** What stands for the commit of a folder that has none: a digest of names, modes and contents. Times do not count. */
async function digestOfTree(root: string): Promise<string> {
  const tree = createHash('sha256');
  for await (const { path, name, stats } of walk(root)) {
    if (stats.isDirectory()) continue;
    const content = createHash('sha256');
    if (stats.isSymbolicLink()) content.update(await readlink(path));
    else for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) content.update(chunk);
    const kind = stats.isSymbolicLink() ? 'link' : (stats.mode & 0o100) !== 0 ? 'program' : 'file';
    tree.update(`${JSON.stringify([kind, name, content.digest('hex')])}\n`);
  }
  return `sha256:${tree.digest('hex')}`;
}

function unavailable({ url, ref, directory }: SourceRef, why: string): ImsError {
  const place = [
    `url ${splitUrl(url).shown}`,
    ...(ref ? [`ref ${ref}`] : []),
    ...(directory ? [`directory ${directory}`] : []),
  ];
  return new ImsError('source_unavailable', `${place.join(', ')}: ${why}`.slice(0, 2_000));
}
