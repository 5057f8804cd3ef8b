import { chmod, chown, cp, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Processes } from '#agent-kit';
import { ImsError, type SourceRef } from '#contracts';
import { splitUrl } from '../src/git.js';
import { BuildWorld, folder, type ScriptedJob } from './harness.js';

const PASSWORD = 'p@ss/w0rd:very-secret';
const MANIFEST = 'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: x }\n';

let world: BuildWorld;
let repository: string;
let first: string;

beforeAll(async () => {
  world = await BuildWorld.start(['git']);
  repository = await folder(world.dir, { 'web/x.yaml': MANIFEST, 'tool.sh': '#!/bin/sh\n' });
  await chmod(join(repository, 'tool.sh'), 0o755);
  await git('init', '--quiet', '--initial-branch=main');
  await git('add', '.');
  await git('commit', '--quiet', '-m', 'one');
  first = await git('rev-parse', 'HEAD');
  await git('tag', 'v1');
  await writeFile(join(repository, 'web/x.yaml'), `${MANIFEST}data: { a: b }\n`);
  await git('commit', '--quiet', '-am', 'two');
  await git('branch', 'release/2');
});
afterAll(() => world.stop());

async function git(...args: string[]): Promise<string> {
  const identity = ['-c', 'user.name=Test', '-c', 'user.email=test@example.com'];
  const { stdout, exitCode } = await new Processes({ home: world.dir }).run({
    command: 'git',
    args: [...identity, ...args],
    cwd: repository,
    timeoutMs: 30_000,
    signal: new AbortController().signal,
    onLine: () => undefined,
    maxOutputBytes: 10_000,
  });
  expect(exitCode).toBe(0);
  return (stdout ?? '').trim();
}

/** Only the checkout of a job. */
async function checkout(source: SourceRef, config: Parameters<BuildWorld['handler']>[0] = {}): Promise<ScriptedJob> {
  const job = world.job({ kind: 'kubernetes-manifests', source }, { config });
  const steps = await job.handler.steps(job.statement);
  job.handler = {
    kind: 'build',
    steps: () => steps.slice(0, 1),
    result: ({ checkout: output }) => ({ result: output ?? {} }),
  };
  return job;
}

describe('checkout of a repository', () => {
  it('brings the commit of a ref, without .git', async () => {
    const job = await checkout({ url: repository, ref: 'v1', directory: 'web' });
    expect(await job.run()).toEqual({ commit: first, directory: 'web' });
    expect(await readFile(join(job.workspace, 'source/web/x.yaml'), 'utf8')).toBe(MANIFEST);
    expect((await readdir(join(job.workspace, 'source'))).sort()).toEqual(['tool.sh', 'web']);
    expect((await stat(join(job.workspace, 'source/tool.sh'))).mode & 0o777).toBe(0o755);
    expect((await stat(join(job.workspace, 'source/web/x.yaml'))).mode & 0o777).toBe(0o644);
  });

  it('takes branches, full and short commits, HEAD, and file URLs', async () => {
    const second = await git('rev-parse', 'main');
    for (const [ref, commit] of [
      ['main', second],
      ['release/2', second],
      [first, first],
      [first.slice(0, 10), first],
      [undefined, second],
    ] as const) {
      const source = { url: `file://${repository}`, ...(ref ? { ref } : {}) };
      expect(await (await checkout(source)).run()).toMatchObject({ commit });
    }
  });

  it('takes the newest version in a range', async () => {
    for (const tag of ['v1.2.0', '1.10.1', 'v2.0.0-rc.1', 'not-a-version']) await git('tag', tag, 'HEAD~1');
    await git('tag', 'v1.9.0', 'HEAD');
    const job = await checkout({ url: repository, ref: 'semver:^1.2' });
    expect(await job.run()).toMatchObject({ commit: first });
    expect(job.lines).toContain('semver:^1.2 is 1.10.1');
    const none = await checkout({ url: repository, ref: 'semver:^2' });
    expect((await none.failure()).detail).toContain('it has no tag that fits semver:^2');
  });

  it.each([
    [{ ref: 'gone' }, 'ref gone: it has no branch, tag or commit gone'],
    [{ ref: '--upload-pack=touch' }, 'may not begin with -'],
    [{ directory: 'gone' }, 'directory gone: there is no directory gone in it'],
    [{ directory: '../..' }, 'there is no directory ../.. in it'],
    [{ directory: 'tool.sh' }, 'there is no directory tool.sh in it'],
    [{ url: '/no/such/place' }, 'url /no/such/place: fatal: repository'],
    [{ url: 'ext::sh -c touch% /tmp/owned' }, "transport 'ext' not allowed"],
    [{ url: 'http://127.0.0.1:1/x.git' }, 'url http://127.0.0.1:1/x.git: fatal: unable to access'],
  ])('says what cannot be had: %j', async (change, detail) => {
    const error = await (await checkout({ url: repository, ...change })).failure();
    expect(error.code).toBe('source_unavailable');
    expect(error.detail).toContain(detail);
  });

  it('reads the repository of another user', async () => {
    const theirs = join(world.dir, 'theirs');
    await cp(repository, theirs, { recursive: true });
    await chown(theirs, 65534, 65534);
    await chown(join(theirs, '.git'), 65534, 65534);
    expect(await (await checkout({ url: theirs, ref: 'v1' })).run()).toMatchObject({ commit: first });
  });

  it('is limited in size', async () => {
    const url = await folder(world.dir, { big: 'x'.repeat(2 ** 20 + 1) });
    const error = await (await checkout({ url }, { SOURCE_MIB: 1 })).failure();
    expect(error).toMatchObject({ code: 'source_unavailable', detail: `url ${url}: it is larger than 1 MiB` });
  });
});

describe('a plain folder', () => {
  it('has a digest for a commit, that times and modes of others do not change', async () => {
    const files = { a: '1', 'b/c': '2' };
    const [one, two] = [await folder(world.dir, files), await folder(world.dir, files)];
    await chmod(join(two, 'a'), 0o660);
    await mkdir(join(two, '.git-not/.git'), { recursive: true });
    const job = await checkout({ url: two });
    const [a, b] = [await (await checkout({ url: one })).run(), await job.run()];
    expect((await stat(join(job.workspace, 'source/a'))).mode & 0o777).toBe(0o644);
    expect(a['commit']).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(b).toEqual(a);
    await chmod(join(two, 'a'), 0o700);
    expect((await (await checkout({ url: two })).run())['commit']).not.toBe(a['commit']);
  });

  it('has no refs, and its links may not choose another directory', async () => {
    const url = await folder(world.dir, { a: '1' });
    expect((await (await checkout({ url, ref: 'main' })).failure()).detail).toContain('it has no refs');
    await symlink('/etc', join(url, 'etc'));
    expect((await (await checkout({ url, directory: 'etc' })).failure()).detail).toContain('no directory etc');
  });

  it("is never the agent's own state, and only where the host allows it", async () => {
    const state = join(world.dir, 'state');
    for (const url of [state, world.dir, join(state, '../state')]) {
      expect((await (await checkout({ url })).failure()).detail).toContain('the state of the build agent is no source');
    }
    const url = await folder(world.dir, { a: '1' });
    const config = { SOURCE_ROOTS: '/srv/sources:/srv/more' };
    for (const place of [url, repository, `file://${repository}`]) {
      expect((await (await checkout({ url: place }, config)).failure()).detail).toContain('SOURCE_ROOTS');
    }
    expect(await (await checkout({ url }, { SOURCE_ROOTS: world.dir })).run()).toMatchObject({ directory: '.' });
  });
});

describe('a login in a source URL', () => {
  let server: http.Server;
  let base: string;
  const authorized: string[] = [];

  beforeAll(async () => {
    await git('update-server-info');
    // The dumb protocol of git: plain files behind Basic auth.
    server = http.createServer((request, response) => {
      const { authorization } = request.headers;
      const login = Buffer.from(authorization?.slice('Basic '.length) ?? '', 'base64').toString();
      if (login !== `robot:${PASSWORD}` && login !== `${PASSWORD}:`) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end();
        return;
      }
      authorized.push(request.url ?? '');
      const path = (request.url ?? '').split('?')[0]?.replace('/repo.git/', '') ?? '';
      readFile(join(repository, '.git', path)).then(
        (bytes) => response.end(bytes),
        () => response.writeHead(404).end(),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    base = `127.0.0.1:${(server.address() as AddressInfo).port}/repo.git`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  /** A git that writes down how it was called, and the real one. */
  async function spyingGit(): Promise<{ GIT_BIN: string; calls: string }> {
    const calls = join(world.dir, 'calls');
    const GIT_BIN = join(world.dir, 'spying-git');
    await writeFile(GIT_BIN, `#!/bin/sh\nprintf '%s\\n' "$@" >>${calls}\nexec ${world.config.GIT_BIN} "$@"\n`);
    await chmod(GIT_BIN, 0o755);
    return { GIT_BIN, calls };
  }

  it.each([
    ['user and password', `robot:${encodeURIComponent(PASSWORD)}`, true],
    ['a token', encodeURIComponent(PASSWORD), true],
    ['a wrong password', `robot:x${encodeURIComponent(PASSWORD)}`, false],
  ])('is used and never shown: %s', async (_, login, works) => {
    const { GIT_BIN, calls } = await spyingGit();
    const job = await checkout({ url: `http://${login}@${base}`, ref: 'v1' }, { GIT_BIN });
    const outcome = works ? await job.run() : await job.failure();
    if (outcome instanceof ImsError) {
      expect(outcome.code).toBe('source_unavailable');
      expect(outcome.detail).toContain(`url http://${base}, ref v1: fatal: Authentication failed`);
    } else expect(outcome).toMatchObject({ commit: first });
    expect(job.lines.length + (works ? 1 : 0)).toBeGreaterThan(0);
    const seen = [
      ...job.lines,
      JSON.stringify(outcome),
      outcome instanceof ImsError ? outcome.message : '',
      await readFile(calls, 'utf8'),
    ].join('\n');
    expect(seen).not.toContain(PASSWORD);
    expect(seen).not.toContain(encodeURIComponent(PASSWORD));
    // And what a program printed in spite of that would be taken out.
    expect(job.redactor.redact(`oops ${works ? '' : 'x'}${PASSWORD}`)).toBe('oops ***');
  });

  it('goes to its own host alone', async () => {
    const elsewhere = http.createServer((request, response) => {
      asked.push(request.headers.authorization ?? 'nothing');
      response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end();
    });
    const asked: string[] = [];
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve));
    const { port } = elsewhere.address() as AddressInfo;
    const redirecting = http.createServer((request, response) => {
      response.writeHead(302, { location: `http://127.0.0.1:${port}${request.url ?? ''}` }).end();
    });
    await new Promise<void>((resolve) => redirecting.listen(0, '127.0.0.1', resolve));
    const from = (redirecting.address() as AddressInfo).port;
    const url = `http://robot:${encodeURIComponent(PASSWORD)}@127.0.0.1:${from}/repo.git`;
    await (await checkout({ url })).failure();
    expect(asked.length).toBeGreaterThan(0);
    expect(new Set(asked)).toEqual(new Set(['nothing']));
    for (const one of [elsewhere, redirecting]) {
      one.closeAllConnections();
      one.close();
    }
  });

  it.each([
    ['https://robot:secret@git.example.com/a.git', 'https://git.example.com/a.git'],
    ['https://secret@git.example.com/a.git', 'https://git.example.com/a.git'],
    ['ssh://git:secret@git.example.com/a.git', 'ssh://git@git.example.com/a.git'],
    ['ssh://git@git.example.com/a.git', 'ssh://git@git.example.com/a.git'],
    ['https://robot:sec/ret@git.example.com/a.git', 'https://git.example.com/a.git'],
    ['/srv/a@b', '/srv/a@b'],
  ])('is not in what is shown of %s', (url, shown) => {
    expect(splitUrl(url).shown).toBe(shown);
  });
});
