import { createReadStream } from 'node:fs';
import { mkdir, open, readdir } from 'node:fs/promises';
import path from 'node:path';
import { type Readable } from 'node:stream';
import { promisify } from 'node:util';
import { crc32, createGunzip } from 'node:zlib';
import { ImsError } from '#contracts';
import { extract } from 'tar-stream';
import yauzl, { type Entry, type ZipFile } from 'yauzl';
import { ARCHIVE_MAX_BYTES, ARCHIVE_MAX_FILES, type ArchiveLimits } from './archive.js';

/** Limits of unpacking; more than what may be packed, as an archive of another tool may hold folders and padding. */
export type UnpackLimits = ArchiveLimits;

/**
 * Unpacks a zip file into a directory that does not exist yet or is empty. Only files and folders come out: links,
 * paths that leave the directory, the same path twice, encryption and anything above the limits (64 MiB, 10,000
 * entries by default; counted as it is inflated, not as the zip says) are `source_invalid`. What was written before
 * the fault stays; throw the directory away.
 */
export async function unzipTo(file: string, directory: string, limits: UnpackLimits = {}): Promise<void> {
  const tree = await SafeTree.open(directory, limits);
  let zip: ZipFile;
  try {
    zip = await promisify<string, yauzl.Options, ZipFile>(yauzl.open)(file, {
      lazyEntries: true,
      strictFileNames: true,
    });
  } catch (error) {
    throw invalid('the zip cannot be read', error);
  }
  try {
    await new Promise<void>((resolve, reject) => {
      zip.on('error', (error: Error) => reject(invalid(error.message, error)));
      zip.on('end', resolve);
      zip.on('entry', (entry: Entry) => {
        unzipEntry(zip, entry, tree).then(() => zip.readEntry(), reject);
      });
      zip.readEntry();
    });
  } finally {
    zip.close();
  }
}

async function unzipEntry(zip: ZipFile, entry: Entry, tree: SafeTree): Promise<void> {
  // The upper half holds the Unix mode where a Unix tool made the zip (0 otherwise).
  const mode = entry.externalFileAttributes >>> 16;
  const kind = mode & 0o170000;
  if (entry.fileName.endsWith('/')) {
    await tree.folder(entry.fileName);
    return;
  }
  if (kind !== 0 && kind !== 0o100000) throw invalid(`${JSON.stringify(entry.fileName)} is not a plain file`);
  const stream = await new Promise<Readable>((resolve, reject) => {
    zip.openReadStream(entry, (error, opened) => {
      if (error) reject(invalid(error.message, error));
      else resolve(opened);
    });
  });
  await tree.file(entry.fileName, checkedContent(stream, entry), (mode & 0o100) !== 0);
}

/** yauzl checks the size of what it inflates but not the checksum. */
async function* checkedContent(stream: Readable, entry: Entry): AsyncGenerator<Buffer> {
  let checksum = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    checksum = crc32(chunk, checksum);
    yield chunk;
  }
  if (checksum !== entry.crc32) throw invalid(`${JSON.stringify(entry.fileName)} is damaged`);
}

/** Unpacks a tar.gz file; everything else as in `unzipTo`. */
export async function untarTo(file: string, directory: string, limits: UnpackLimits = {}): Promise<void> {
  const tree = await SafeTree.open(directory, limits);
  const tar = extract();
  const source = createReadStream(file);
  const gunzip = createGunzip();
  // A stream that fails takes the next one down with it, so the loop below ends with its error.
  source.on('error', (error) => gunzip.destroy(error));
  gunzip.on('error', (error) => tar.destroy(error));
  source.pipe(gunzip).pipe(tar);
  try {
    for await (const entry of tar) {
      const { name, type, mode } = entry.header;
      if (type === 'directory') {
        await tree.folder(name);
        entry.resume();
      } else if (type === 'file' || type === 'contiguous-file') {
        await tree.file(name, entry as AsyncIterable<unknown> as AsyncIterable<Buffer>, ((mode ?? 0) & 0o100) !== 0);
      } else {
        throw invalid(`${JSON.stringify(name)} is not a plain file but a ${type ?? 'thing unknown'}`);
      }
    }
  } catch (error) {
    throw error instanceof ImsError ? error : invalid(error instanceof Error ? error.message : 'damaged', error);
  } finally {
    source.destroy();
    gunzip.destroy();
  }
}

/** A directory into which nothing but counted plain files and folders can be written. */
class SafeTree {
  private bytes = 0;
  private entries = 0;
  private readonly folders = new Set<string>();

  private constructor(
    private readonly root: string,
    private readonly maxBytes: number,
    private readonly maxEntries: number,
  ) {}

  /** An empty directory: with no link in it beforehand and none ever made, no path below can lead out. */
  static async open(directory: string, limits: UnpackLimits): Promise<SafeTree> {
    await mkdir(directory, { recursive: true, mode: 0o755 });
    if ((await readdir(directory)).length > 0) {
      throw new ImsError(
        'internal',
        `${path.basename(directory)} is not empty; archives are unpacked into new directories`,
      );
    }
    return new SafeTree(directory, limits.maxBytes ?? ARCHIVE_MAX_BYTES, (limits.maxFiles ?? ARCHIVE_MAX_FILES) * 2);
  }

  async folder(name: string): Promise<void> {
    const parts = this.checked(name);
    await this.make(parts);
  }

  async file(name: string, content: AsyncIterable<Buffer>, executable: boolean): Promise<void> {
    const parts = this.checked(name);
    const base = parts.pop();
    if (base === undefined) throw invalid(`${JSON.stringify(name)} names no file`);
    await this.make(parts);
    const handle = await open(path.join(this.root, ...parts, base), 'wx', executable ? 0o755 : 0o644).catch(
      (error: unknown) => {
        throw invalid(`${JSON.stringify(name)} cannot be written (is it there twice?)`, error);
      },
    );
    try {
      for await (const chunk of content) {
        this.bytes += chunk.length;
        if (this.bytes > this.maxBytes) throw invalid(`the archive holds more than ${this.maxBytes} bytes`);
        await handle.writeFile(chunk);
      }
    } catch (error) {
      throw error instanceof ImsError ? error : invalid(`${JSON.stringify(name)} is damaged`, error);
    } finally {
      await handle.close();
    }
  }

  private checked(name: string): string[] {
    this.entries += 1;
    if (this.entries > this.maxEntries) throw invalid(`the archive has more than ${this.maxEntries} entries`);
    const trimmed = name.replace(/^(\.\/)+/, '').replace(/\/+$/, '');
    const parts = trimmed === '' || trimmed === '.' ? [] : trimmed.split('/');
    const bad = parts.some(
      (part) => part === '' || part === '.' || part === '..' || /[\\\u0000-\u001f\u007f]/.test(part),
    );
    if (bad || name.startsWith('/') || Buffer.byteLength(name) > 1_000) {
      throw invalid(`${JSON.stringify(name.slice(0, 200))} is not a path inside the archive`);
    }
    return parts;
  }

  private async make(parts: readonly string[]): Promise<void> {
    const key = parts.join('/');
    if (key === '' || this.folders.has(key)) return;
    await mkdir(path.join(this.root, ...parts), { recursive: true, mode: 0o755 }).catch((error: unknown) => {
      throw invalid(`${JSON.stringify(key)} cannot be made`, error);
    });
    this.folders.add(key);
  }
}

function invalid(why: string, cause?: unknown): ImsError {
  return new ImsError('source_invalid', `archive: ${why}`, [], cause === undefined ? {} : { cause });
}
