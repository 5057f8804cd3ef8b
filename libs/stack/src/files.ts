import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isAlive, markOf, type ProcessMark } from './process.js';

/** The folder of the project's package.json, from the sources as from `dist`. */
export const PROJECT_ROOT = ((): string => {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    const file = join(folder, 'package.json');
    if (existsSync(file) && readFileSync(file, 'utf8').includes('"name": "vendor-cloud"')) return folder;
    if (folder === dirname(folder)) throw new Error('the folder of the project was not found');
  }
})();

/** Writes a file that only its owner may read, whole or not at all. */
export async function writeSecret(file: string, text: string): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const partial = `${file}.${process.pid}.partial`;
  await writeFile(partial, text, { mode: 0o600 });
  await rename(partial, file);
}

/** The secret kept in that file, made at the first call. */
export async function keptSecret(file: string, make: () => string): Promise<string> {
  if (!existsSync(file)) await writeSecret(file, `${make()}\n`);
  return (await readFile(file, 'utf8')).trim();
}

/**
 * Runs `work` while no other process runs it under the same lock file. A lock whose owner is dead is taken over. Two
 * that take over in the same instant may both run, so the work must end in a rename that either may win.
 */
export async function withLock<T>(lockFile: string, work: () => Promise<T>, limitMs = 300_000): Promise<T> {
  await mkdir(dirname(lockFile), { recursive: true });
  const end = performance.now() + limitMs;
  for (;;) {
    try {
      await writeFile(lockFile, JSON.stringify(await markOf(process.pid)), { flag: 'wx' });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    if (await isAbandoned(lockFile)) await rm(lockFile, { force: true });
    else if (performance.now() > end) throw new Error(`waited ${limitMs} ms for the lock ${lockFile}`);
    else await delay(50);
  }
  try {
    return await work();
  } finally {
    await rm(lockFile, { force: true });
  }
}

async function isAbandoned(lockFile: string): Promise<boolean> {
  const read = async (): Promise<string> => readFile(lockFile, 'utf8').catch(() => '');
  let text = await read();
  if (text === '') {
    // Just created and not yet written, or its writer died in between: a second look decides.
    await delay(500);
    text = await read();
    if (text === '') return existsSync(lockFile);
  }
  return !(await isAlive(JSON.parse(text) as ProcessMark));
}
