import { createHash, randomBytes } from 'node:crypto';
import { chmod, mkdir, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import fc from 'fast-check';
import { pack } from 'tar-stream';
import { ZipFile } from 'yazl';
import { codeOf, failureOf, temporaryDirectory } from '../test/harness.js';
import { tarGzDirectory, untarTo, unzipTo, zipDirectory } from './index.js';

let root: string;
let count = 0;
beforeAll(async () => {
  root = await temporaryDirectory();
});
afterAll(() => rm(root, { recursive: true, force: true }));

const fresh = (): string => path.join(root, String((count += 1)));

type Tree = readonly (readonly [name: string, content: string, executable: boolean])[];

async function write(tree: Tree, mtimeSeconds = 1_000): Promise<string> {
  const dir = fresh();
  await mkdir(dir);
  for (const [name, content, executable] of tree) {
    const file = path.join(dir, name);
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, content);
    await chmod(file, executable ? 0o775 : 0o600);
    await utimes(file, mtimeSeconds, mtimeSeconds);
  }
  return dir;
}

async function read(dir: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const executable = ((await stat(file)).mode & 0o100) !== 0;
    found[path.relative(dir, file)] = `${executable ? 'x' : '-'} ${await readFile(file, 'utf8')}`;
  }
  return found;
}

const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
const forms = [
  { form: 'zip', make: zipDirectory, open: unzipTo },
  { form: 'tar.gz', make: tarGzDirectory, open: untarTo },
];

describe.each(forms)('a $form', ({ make, open }) => {
  const part = fc.stringMatching(/^[a-zé.~A-Z0-9_-]{1,12}$/).filter((text) => text !== '.' && text !== '..');
  const trees: fc.Arbitrary<Tree> = fc
    .uniqueArray(
      fc.tuple(fc.array(part, { minLength: 1, maxLength: 3 }), fc.string({ maxLength: 200 }), fc.boolean()),
      {
        maxLength: 8,
        selector: ([parts]) => parts.join('/').toLowerCase(),
      },
    )
    .map((entries) => entries.map(([parts, ...rest]) => [parts.join('/'), ...rest] as const))
    // A name cannot be a file and a folder at once.
    .filter((tree) => !tree.some(([a]) => tree.some(([b]) => b.startsWith(`${a}/`))));

  it('has the same bytes for the same tree, whatever the order and time it was made in, and brings it back', async () => {
    await fc.assert(
      fc.asyncProperty(trees, fc.integer({ min: 1, max: 2_000_000_000 }), async (tree, mtime) => {
        const one = await make(await write(tree));
        const other = await make(await write([...tree].reverse(), mtime));
        expect(sha(other)).toBe(sha(one));
        const file = fresh();
        await writeFile(file, one);
        const back = fresh();
        await open(file, back);
        expect(await read(back)).toEqual(
          Object.fromEntries(tree.map(([name, text, x]) => [name, `${x ? 'x' : '-'} ${text}`])),
        );
      }),
      { numRuns: 15 },
    );
  });

  it('leaves out .git, and what the caller says', async () => {
    const dir = await write([
      ['.git/config', 'secret', false],
      ['sub/.git', 'gitdir: elsewhere', false],
      ['.terraform/provider', 'big', true],
      ['main.tf', '', false],
    ]);
    const file = fresh();
    await writeFile(file, await make(dir, { exclude: (entry) => entry === '.terraform' }));
    const back = fresh();
    await open(file, back);
    expect(Object.keys(await read(back))).toEqual(['main.tf']);
  });

  it('has what a link inside the tree points to, and refuses one that leaves it', async () => {
    const dir = await write([
      ['shared/versions.tf', 'v', false],
      ['.git/config', 'secret', false],
    ]);
    await symlink('shared', path.join(dir, 'linked'));
    await symlink('shared/versions.tf', path.join(dir, 'versions.tf'));
    const file = fresh();
    await writeFile(file, await make(dir));
    const back = fresh();
    await open(file, back);
    expect(Object.keys(await read(back)).sort()).toEqual(['linked/versions.tf', 'shared/versions.tf', 'versions.tf']);

    const leaving = ['/etc/hostname', '../', '.git/config', 'nowhere', 'linked/../..', '.'];
    for (const target of leaving) {
      await symlink(target, path.join(dir, 'bad'));
      expect([target, await codeOf(make(dir))]).toEqual([target, 'source_invalid']);
      await rm(path.join(dir, 'bad'));
    }
  });

  it('is refused above the limits of size and number', async () => {
    const dir = await write([
      ['a', 'x'.repeat(600), false],
      ['b', 'x'.repeat(600), false],
    ]);
    expect(await codeOf(make(dir, { maxBytes: 1_199 }))).toBe('source_invalid');
    expect(await codeOf(make(dir, { maxFiles: 1 }))).toBe('source_invalid');
    const file = fresh();
    await writeFile(file, await make(dir));
    expect(await codeOf(open(file, fresh(), { maxBytes: 1_199 }))).toBe('source_invalid');
    expect(await codeOf(open(file, fresh(), { maxFiles: 0 }))).toBe('source_invalid');
  });

  it('is refused when it is damaged or no archive at all', async () => {
    const bytes = await make(await write([['a', randomBytes(2_000).toString('hex'), false]]));
    const damaged = Buffer.from(bytes);
    damaged[damaged.length >> 1] = (damaged[damaged.length >> 1] ?? 0) ^ 0xff;
    for (const content of [damaged, bytes.subarray(0, bytes.length - 12), Buffer.from('nothing'), Buffer.alloc(0)]) {
      const file = fresh();
      await writeFile(file, content);
      expect(await codeOf(open(file, fresh()))).toBe('source_invalid');
    }
  });

  it('is unpacked into a new directory only', async () => {
    const file = fresh();
    await writeFile(file, await make(await write([['a', '', false]])));
    expect((await failureOf(open(file, await write([['b', '', false]]))))?.detail).toContain('not empty');
  });
});

type TarHeader = Parameters<ReturnType<typeof pack>['entry']>[0];

async function tarOf(...entries: (TarHeader & { content?: string })[]): Promise<string> {
  const tar = pack();
  for (const { content, ...header } of entries) {
    if (content === undefined) tar.entry(header);
    else tar.entry(header, content);
  }
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as AsyncIterable<unknown> as AsyncIterable<Buffer>) chunks.push(chunk);
  const file = fresh();
  await writeFile(file, await promisify(gzip)(Buffer.concat(chunks)));
  return file;
}

it.each([
  ['a path upwards', { name: '../out', content: 'x' }],
  ['a path upwards in the middle', { name: 'a/../../out', content: 'x' }],
  ['an absolute path', { name: '/tmp/out', content: 'x' }],
  ['a backslash', { name: 'a\\..\\out', content: 'x' }],
  ['a symbolic link', { name: 'link', type: 'symlink', linkname: '/etc' }],
  ['a link that stays inside', { name: 'link', type: 'symlink', linkname: 'a' }],
  ['a hard link', { name: 'link', type: 'link', linkname: '/etc/passwd' }],
  ['a device', { name: 'dev', type: 'character-device' }],
] as [string, TarHeader & { content?: string }][])('a tar with %s is refused', async (_what, entry) => {
  expect(await codeOf(untarTo(await tarOf(entry), fresh()))).toBe('source_invalid');
});

it('a tar with the same file twice is refused', async () => {
  const file = await tarOf({ name: 'a', content: '1' }, { name: './a', content: '2' });
  expect(await codeOf(untarTo(file, fresh()))).toBe('source_invalid');
});

it('a tar bomb stops at the limit', async () => {
  const file = await tarOf({ name: 'zeros', content: '0'.repeat(5_000_000) });
  expect((await stat(file)).size).toBeLessThan(50_000);
  const dir = fresh();
  expect(await codeOf(untarTo(file, dir, { maxBytes: 1_000_000 }))).toBe('source_invalid');
  expect((await stat(path.join(dir, 'zeros'))).size).toBeLessThanOrEqual(1_000_000);
});

describe('a zip from elsewhere', () => {
  async function zipOf(name: string, mode: number, patch?: readonly [string, string]): Promise<string> {
    const zip = new ZipFile();
    zip.addBuffer(Buffer.from('/etc/passwd'), name, { mode });
    zip.end();
    const chunks: Buffer[] = [];
    for await (const chunk of zip.outputStream as AsyncIterable<Buffer>) chunks.push(chunk);
    let bytes = Buffer.concat(chunks);
    // The writer refuses bad names, so they are put in afterwards, in the same length.
    if (patch) bytes = Buffer.from(bytes.toString('latin1').replaceAll(patch[0], patch[1]), 'latin1');
    const file = fresh();
    await writeFile(file, bytes);
    return file;
  }

  it.each([
    ['a symbolic link', 'link', 0o120777, undefined],
    ['a path upwards', 'aaaaout', 0o100644, ['aaaaout', '../../o']],
    ['an absolute path', 'aaaaout', 0o100644, ['aaaaout', '/tmp/ou']],
    ['a backslash', 'aaaaout', 0o100644, ['aaaaout', '..\\..\\o']],
  ] as const)('with %s is refused', async (_what, name, mode, patch) => {
    expect(await codeOf(unzipTo(await zipOf(name, mode, patch), fresh()))).toBe('source_invalid');
  });

  it('without Unix modes is unpacked', async () => {
    const dir = fresh();
    await unzipTo(await zipOf('a/b.tf', 0), dir);
    expect(Object.keys(await read(dir))).toEqual(['a/b.tf']);
  });
});
