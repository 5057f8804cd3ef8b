import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import semver from 'semver';
import { type StepContext } from '#agent-kit';

/** A URL without its password, and the password for those who may have it. */
export interface GitUrl {
  /** For arguments, logs, errors and provenance. */
  readonly shown: string;
  readonly login?: { readonly username: string; readonly password: string; readonly origin: string };
}

/**
 * Takes the login out of a source URL: arguments are visible to every user of the host, and git prints URLs. The user
 * of an ssh URL stays, as it is no secret and ssh needs it.
 */
export function splitUrl(text: string): GitUrl {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(text)) return { shown: text };
  if (!URL.canParse(text)) return { shown: text.replace(/\/\/\S*@/, '//') };
  const url = new URL(text);
  const { username, password } = url;
  const isHttp = /^https?:$/.test(url.protocol);
  url.password = '';
  if (isHttp) url.username = '';
  const shown = username === '' && password === '' ? text : url.href;
  if (!isHttp || shown === text) return { shown };
  return {
    shown,
    login: { username: decodeURIComponent(username), password: decodeURIComponent(password), origin: url.origin },
  };
}

/** Registers what is secret in a login, before git can print it. A lone user name is a token (`https://<token>@host`). */
export function guardLogin({ login }: GitUrl, secrets: StepContext['secrets']): void {
  if (!login) return;
  const secret = login.password === '' ? login.username : login.password;
  secrets.add(secret);
}

/**
 * All settings that git sees here. A file and not `-c`: git does not pass those on to the upload-pack of a local
 * repository, which then refuses repositories of other users. The helper is asked by the one host the login is for.
 */
function settings({ login }: GitUrl): string {
  const lines = [
    '[safe]',
    '\tdirectory = *',
    '[advice]',
    '\tdetachedHead = false',
    '[core]',
    '\thooksPath = /dev/null',
  ];
  if (login) {
    const answer = String.raw`printf 'username=%s\\npassword=%s\\n' \"$SOURCE_USER\" \"$SOURCE_PASSWORD\"`;
    lines.push(`[credential "${login.origin}"]`, `\thelper = "!f() { test \\"$1\\" = get && ${answer}; }; f"`);
  }
  return `${lines.join('\n')}\n`;
}

/** Before a range of versions, as `semver:^1.2`. */
const RANGE = 'semver:';
const TAGS_MAX_BYTES = 2 ** 20;
const COMMIT_MAX_BYTES = 4_096;

/** The tag with the newest version in the range, with or without a `v` before it; pre-releases only when the range names one. */
function newestTag(tags: readonly string[], range: string): string | undefined {
  const fitting = tags.filter((tag) => semver.valid(tag) !== null && semver.satisfies(tag, range));
  return fitting.sort((one, other) => semver.rcompare(one, other))[0];
}

export interface GitOptions {
  /** Name or path of git. */
  readonly git: string;
  readonly timeoutMs: number;
}

/**
 * Brings `url` at `ref` into `into`, without `.git` and without sub-modules, and answers the commit; or why it could
 * not. Nothing outside of here decides how git behaves, and it never asks a person.
 */
export async function cloneAt(
  url: GitUrl,
  ref: string,
  into: string,
  step: StepContext,
  options: GitOptions,
): Promise<{ readonly commit: string } | { readonly fault: string }> {
  const config = `${into}.gitconfig`;
  await writeFile(config, settings(url), { mode: 0o600 });
  const said: string[] = [];
  const git = async (args: readonly string[], keepBytes?: number): Promise<string | undefined> => {
    const result = await step.run({
      command: options.git,
      args,
      env: {
        GIT_TERMINAL_PROMPT: '0',
        GIT_CONFIG_NOSYSTEM: '1',
        GIT_CONFIG_GLOBAL: config,
        GIT_ALLOW_PROTOCOL: 'https:http:ssh:git:file',
        GIT_SSH_COMMAND: 'ssh -oBatchMode=yes',
        ...(url.login ? { SOURCE_USER: url.login.username, SOURCE_PASSWORD: url.login.password } : {}),
      },
      timeoutMs: options.timeoutMs,
      onLine: (line) => {
        said.push(line);
        return line;
      },
      ...(keepBytes === undefined ? {} : { maxOutputBytes: keepBytes }),
    });
    return result.exitCode === 0 ? (result.stdout ?? '').trim() : undefined;
  };
  const clone = ['clone', '--quiet', '--no-checkout', '--template=', '--', url.shown, into];
  if ((await git(clone)) === undefined) return { fault: faultOf(said) };
  let names = ref === 'HEAD' ? ['HEAD'] : [`refs/remotes/origin/${ref}`, `refs/tags/${ref}`, ref];
  if (ref.startsWith(RANGE)) {
    const tags = (await git(['-C', into, 'tag', '--list'], TAGS_MAX_BYTES)) ?? '';
    const newest = newestTag(tags.split('\n'), ref.slice(RANGE.length));
    if (newest === undefined) return { fault: `it has no tag that fits ${ref}` };
    step.log('info', `${ref} is ${newest}`);
    names = [`refs/tags/${newest}`];
  }
  // A branch of the remote first: a tag of the same name would be a surprise to who pushes to that branch.
  for (const name of names) {
    const find = ['-C', into, 'rev-parse', '--quiet', '--verify', '--end-of-options', `${name}^{commit}`];
    const commit = await git(find, COMMIT_MAX_BYTES);
    if (!commit) continue;
    if ((await git(['-C', into, 'checkout', '--quiet', '--detach', commit])) === undefined) {
      return { fault: faultOf(said) };
    }
    await rm(join(into, '.git'), { recursive: true, force: true });
    return { commit };
  }
  return { fault: `it has no branch, tag or commit ${ref}` };
}

/** What git says last may be advice; its own word for why it gives up is `fatal`. */
const faultOf = (said: readonly string[]): string =>
  said.find((line) => /^(fatal|error):/.test(line)) ?? said.at(-1) ?? 'git failed without a word';
