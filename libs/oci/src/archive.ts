import { constants } from 'node:fs';
import { open, readdir, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { ImsError } from '#contracts';
import { pack } from 'tar-stream';
import { ZipFile } from 'yazl';

export interface ArchiveLimits {
  /** Bytes of all files, not compressed; default 64 MiB, as an archive is made in memory. */
  readonly maxBytes?: number | undefined;
  /** Default 10,000. */
  readonly maxFiles?: number | undefined;
}

export interface ArchiveOptions extends ArchiveLimits {
  /** Path in the archive (with `/`) of a file or folder to leave out. `.git` is always left out. */
  readonly exclude?: ((entry: string) => boolean) | undefined;
}

interface SourceFile {
  /** Path in the archive, with `/`. */
  readonly name: string;
  readonly bytes: Buffer;
  readonly executable: boolean;
}

export const ARCHIVE_MAX_BYTES = 64 * 1024 * 1024;
export const ARCHIVE_MAX_FILES = 10_000;
const EPOCH = new Date(0);
/** The first moment that a zip can tell, in local time as zips have it: the same bytes in every time zone. */
const ZIP_EPOCH = new Date(1980, 0, 1);

/**
 * A zip of the files of a directory, at the root of the zip. The same tree gives the same bytes whatever the times,
 * owners and order of creation: sorted names, no times, modes 0644 or 0755. Links to files or folders inside the tree
 * become what they point to. `source_invalid` for links that leave the tree, devices, names that do not travel, and
 * trees above the limits. (The compressor is Node's: another Node major or CPU family may give other bytes.)
 */
export async function zipDirectory(directory: string, options: ArchiveOptions = {}): Promise<Buffer> {
  const zip = new ZipFile();
  const failed = new Promise<never>((_, reject) => zip.once('error', reject));
  for (const { name, bytes, executable } of await readTree(directory, options)) {
    zip.addBuffer(bytes, name, {
      mtime: ZIP_EPOCH,
      forceDosTimestamp: true,
      mode: constants.S_IFREG | (executable ? 0o755 : 0o644),
      compressionLevel: 9,
    });
  }
  zip.end();
  return Promise.race([collect(zip.outputStream as AsyncIterable<Buffer>), failed]);
}

/** A tar.gz of the files of a directory; everything else as in `zipDirectory`. `prefix` is a folder to put them in. */
export async function tarGzDirectory(
  directory: string,
  options: ArchiveOptions & { readonly prefix?: string } = {},
): Promise<Buffer> {
  const tar = pack();
  const all = collect(tar as AsyncIterable<unknown> as AsyncIterable<Buffer>);
  const prefix = options.prefix === undefined ? '' : `${options.prefix}/`;
  for (const { name, bytes, executable } of await readTree(directory, options)) {
    tar.entry(
      { name: prefix + name, mode: executable ? 0o755 : 0o644, uid: 0, gid: 0, mtime: EPOCH, type: 'file' },
      bytes,
    );
  }
  tar.finalize();
  const compressed = await promisify(gzip)(await all, { level: 9 });
  // Byte 9 names the system that compressed; 255 is "unknown" (RFC 1952).
  compressed[9] = 255;
  return compressed;
}

async function collect(stream: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** All files below a directory, sorted by the bytes of their path, with links resolved and checked. */
async function readTree(directory: string, options: ArchiveOptions): Promise<readonly SourceFile[]> {
  const maxBytes = options.maxBytes ?? ARCHIVE_MAX_BYTES;
  const maxFiles = options.maxFiles ?? ARCHIVE_MAX_FILES;
  const root = await realpath(directory).catch((error: unknown) => {
    throw invalid('.', 'the directory cannot be read', error);
  });
  const files: SourceFile[] = [];
  let total = 0;
  let visited = 0;

  const visit = async (real: string, name: string, above: readonly string[]): Promise<void> => {
    visited += 1;
    if (visited > maxFiles * 2) throw invalid(name, `the tree has too many entries (limit ${maxFiles} files)`);
    const info = await stat(real);
    if (info.isDirectory()) {
      if (above.includes(real)) throw invalid(name, 'the link leads back to a folder that it is in');
      for (const child of await readdir(real)) {
        const childName = name === '' ? child : `${name}/${child}`;
        if (child === '.git' || options.exclude?.(childName)) continue;
        checkName(childName, child);
        await visit(await inside(root, path.join(real, child), childName), childName, [...above, real]);
      }
      return;
    }
    if (!info.isFile()) throw invalid(name, 'it is neither a file nor a folder');
    if (files.length >= maxFiles) throw invalid(name, `the tree has more than ${maxFiles} files`);
    const bytes = await readFile(real, name, maxBytes - total);
    total += bytes.length;
    files.push({ name, bytes, executable: (info.mode & 0o100) !== 0 });
  };

  await visit(root, '', []);
  return files
    .map((file) => ({ file, key: Buffer.from(file.name) }))
    .sort((a, b) => Buffer.compare(a.key, b.key))
    .map(({ file }) => file);
}

/** Where an entry really is. A link must stay in the tree and out of `.git`, where credentials may lie. */
async function inside(root: string, entry: string, name: string): Promise<string> {
  const real = await realpath(entry).catch((error: unknown) => {
    throw invalid(name, 'the link leads nowhere', error);
  });
  const relative = path.relative(root, real);
  // A name may begin with two dots; only the part that is just `..` leads out.
  if (relative.split(path.sep)[0] === '..' || path.isAbsolute(relative))
    throw invalid(name, 'the link leaves the directory');
  if (relative.split(path.sep).includes('.git')) throw invalid(name, 'the link leads into .git');
  return real;
}

/** Reads at most `maxBytes`. The path is real already; a link put there meanwhile is refused (O_NOFOLLOW). */
async function readFile(real: string, name: string, maxBytes: number): Promise<Buffer> {
  const handle = await open(real, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    const { size } = await handle.stat();
    if (size > maxBytes) throw invalid(name, 'the tree is larger than an archive may be');
    const bytes = await handle.readFile();
    if (bytes.length > maxBytes) throw invalid(name, 'the tree is larger than an archive may be');
    return bytes;
  } finally {
    await handle.close();
  }
}

function checkName(name: string, part: string): void {
  // A name that is not UTF-8 was read with U+FFFD in it and cannot be opened by that name either.
  if (/[\\\u0000-\u001f\u007f\ufffd]/.test(part)) throw invalid(name, 'the name has characters that do not travel');
  if (Buffer.byteLength(name) > 1_000) throw invalid(name, 'the path is longer than 1000 bytes');
}

function invalid(name: string, why: string, cause?: unknown): ImsError {
  const shown = JSON.stringify(name.slice(0, 200));
  return new ImsError('source_invalid', `${shown}: ${why}`, [], cause === undefined ? {} : { cause });
}
