import { lstat, mkdir, open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Files that must be whole and private: written to a temporary name, synced, then renamed. */

export async function privateDirectory(path: string): Promise<string> {
  await mkdir(path, { recursive: true, mode: 0o700 });
  return path;
}

export async function writePrivate(file: string, text: string): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  const handle = await open(temporary, 'w', 0o600);
  try {
    await handle.chmod(0o600);
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
  await syncDirectory(dirname(file));
}

/** A rename or a new file survives a power cut only when its directory is synced too. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Refuses a secret file that others than its owner may read, as ssh does. */
export async function assertPrivate(file: string): Promise<void> {
  const { mode } = await lstat(file);
  if ((mode & 0o077) !== 0) {
    throw new Error(`${file} can be read by others (mode ${(mode & 0o777).toString(8)}): chmod 600 ${file}`);
  }
}
