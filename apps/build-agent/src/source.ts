import { existsSync } from 'node:fs';
import { cp, readdir, realpath, rm, stat } from 'node:fs/promises';
import { basename, isAbsolute, join, relative } from 'node:path';
import { type StepContext } from '#agent-kit';
import { ImsError, type SourceRef } from '#contracts';
import { digestOf, tarGzDirectory } from '#oci';

export interface SourceOptions {
  readonly git: string;
  readonly timeoutMs: number;
  readonly maxBytes: number;
}

/** Nothing outside decides how git behaves here, and it never asks a person. */
const GIT_ENV = {
  GIT_TERMINAL_PROMPT: '0',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_ALLOW_PROTOCOL: 'https:http:ssh:git:file',
  GIT_SSH_COMMAND: 'ssh -oBatchMode=yes',
};

/**
 * Brings the source of a component into `into` and answers its commit (or, for a plain folder, the digest of its
 * archive) and the component's directory in it. Sub-modules are not fetched. Throws `source_unavailable`.
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
  if (source.url.startsWith('-') || ref.startsWith('-')) throw unavailable(source, 'URL and ref may not begin with -');
  const plain = isAbsolute(source.url) && existsSync(source.url) && !isRepository(source.url);
  const gitCommit = plain ? undefined : await clone(source, ref, into, step, options);
  if (plain) await copyFolder(source, into, options);
  const chosen = await insideOf(into, directory).catch(() => undefined);
  if (!chosen) throw unavailable(source, `there is no directory ${directory} in it`);
  await assertSize(chosen, source, options.maxBytes);
  const commit = gitCommit ?? digestOf(await tarGzDirectory(chosen, { maxBytes: options.maxBytes }));
  step.log('info', `source ${source.url} at ${commit}`);
  return { commit, directory: relative(await realpath(into), chosen) || '.' };
}

const isRepository = (path: string): boolean =>
  existsSync(join(path, '.git')) || (existsSync(join(path, 'HEAD')) && existsSync(join(path, 'objects')));

async function clone(
  source: SourceRef,
  ref: string,
  into: string,
  step: StepContext,
  options: SourceOptions,
): Promise<string> {
  const said: string[] = [];
  const git = async (args: string[], keep = false): Promise<string | undefined> => {
    const result = await step.run({
      command: options.git,
      args: ['-c', 'safe.directory=*', '-c', 'advice.detachedHead=false', ...args],
      env: GIT_ENV,
      timeoutMs: options.timeoutMs,
      onLine: (line) => {
        said.push(line);
        return line;
      },
      ...(keep ? { maxOutputBytes: 4_096 } : {}),
    });
    return result.exitCode === 0 ? (result.stdout ?? '').trim() : undefined;
  };
  if ((await git(['clone', '--quiet', '--no-checkout', '--', source.url, into])) === undefined) {
    throw unavailable(source, said.at(-1) ?? 'git clone failed');
  }
  // A branch of the remote first: a local tag of the same name would be a surprise to who pushes to that branch.
  for (const name of ref === 'HEAD' ? ['HEAD'] : [`refs/remotes/origin/${ref}`, `refs/tags/${ref}`, ref]) {
    const commit = await git(
      ['-C', into, 'rev-parse', '--quiet', '--verify', '--end-of-options', `${name}^{commit}`],
      true,
    );
    if (!commit) continue;
    if ((await git(['-C', into, 'checkout', '--quiet', '--detach', commit])) === undefined) {
      throw unavailable(source, said.at(-1) ?? 'git checkout failed');
    }
    await rm(join(into, '.git'), { recursive: true, force: true });
    return commit;
  }
  throw unavailable(source, `it has no branch, tag or commit ${ref}`);
}

async function copyFolder(source: SourceRef, into: string, options: SourceOptions): Promise<void> {
  await assertSize(source.url, source, options.maxBytes);
  await cp(source.url, into, { recursive: true, verbatimSymlinks: true, filter: (path) => basename(path) !== '.git' });
}

/** The real path of a directory below a root; undefined when it is not there or leads out. */
async function insideOf(root: string, directory: string): Promise<string | undefined> {
  const real = await realpath(join(root, directory));
  const from = relative(await realpath(root), real);
  const out = from.startsWith('..') || isAbsolute(from);
  return !out && (await stat(real)).isDirectory() ? real : undefined;
}

async function assertSize(root: string, source: SourceRef, maxBytes: number): Promise<void> {
  let bytes = 0;
  for (const entry of await readdir(root, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    bytes += (await stat(join(entry.parentPath, entry.name))).size;
    if (bytes > maxBytes) throw unavailable(source, `it is larger than ${maxBytes / 2 ** 20} MiB`);
  }
}

/** A password in a URL is for git, not for people. */
const shown = (url: string): string => url.replace(/\/\/[^/@]*@/, '//***@');

function unavailable({ url, ref, directory }: SourceRef, why: string): ImsError {
  const place = [`url ${shown(url)}`, ...(ref ? [`ref ${ref}`] : []), ...(directory ? [`directory ${directory}`] : [])];
  return new ImsError('source_unavailable', `${place.join(', ')}: ${shown(why)}`);
}
