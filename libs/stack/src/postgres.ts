import { execFile } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chown, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { keptSecret, writeSecret } from './files.js';
import { freePort } from './ports.js';
import { postgresBinaries, postgresUser, reachableFolder, type HostUser } from './postgres-host.js';
import { commandLine, processBirth, StartError, supervise, waitUntil, type ProcessSpec } from './process.js';

const run = promisify(execFile);
const ADMIN = 'postgres';
/** The one database of an installation; each service has a schema of its own in it. */
export const IMS_DATABASE = 'ims';

export interface PostgresOptions {
  /** Data, password and log; reused when it exists. */
  readonly dir: string;
  readonly port?: number;
  /** False for tests of anything but durability: 3 times the commits, and a crash of the machine may lose all. */
  readonly durable?: boolean;
  /** See ProcessSpec. */
  readonly endsWith?: ProcessSpec['endsWith'];
  readonly onProgress?: (line: string) => void;
}

export interface PostgresServer {
  readonly port: number;
  readonly pid: number | undefined;
  readonly logFile: string;
  /** URL of the superuser, of the database `postgres` unless another is named. */
  adminUrl(database?: string): string;
  /** Makes an empty database, or a copy of `template` (which must have no connections). Returns the superuser's URL. */
  createDatabase(name: string, template?: string): Promise<string>;
  dropDatabase(name: string): Promise<void>;
  /**
   * A role that owns a schema of its own name and can reach no other, in `database` (made when absent). May be called
   * again, also by several processes at once: same URL. `job-scheduler` becomes the role and schema `job_scheduler`.
   */
  provisionService(name: string, database?: string): Promise<string>;
  stop(): Promise<void>;
  /** SIGKILL of the postmaster; its backends follow by themselves. */
  kill(): Promise<void>;
  /** On the same port; also after `kill`. */
  restart(): Promise<void>;
}

/** What a process needs to use a server that another one has started. */
export interface PostgresAccess {
  readonly port: number;
  readonly password: string;
}

async function initialise(
  pgdata: string,
  initdb: string,
  user: HostUser | undefined,
  password: string,
  durable: boolean,
): Promise<void> {
  if (existsSync(pgdata)) return;
  // Into another folder first: what exists under the final name is whole, wherever an earlier try was cut.
  const partial = `${pgdata}.partial`;
  const passwordFile = `${pgdata}.password`;
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { mode: 0o700 });
  await writeSecret(passwordFile, `${password}\n`);
  if (user) for (const path of [partial, passwordFile]) await chown(path, user.uid, user.gid);
  const args = ['-D', partial, '-U', ADMIN, '-A', 'scram-sha-256', '--pwfile', passwordFile, '--encoding=UTF8'];
  // The builtin provider sorts by code point on every machine; a libc or ICU upgrade cannot corrupt an index.
  const locale = ['--no-locale', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'];
  const sync = durable ? [] : ['--no-sync'];
  try {
    await run(initdb, [...args, ...locale, ...sync], {
      ...user,
      env: { PATH: '/usr/bin:/bin', TZ: 'UTC' },
      // 1.5 s on a quiet machine, over a minute on one that is very busy.
      timeout: 240_000,
    });
  } catch (error) {
    throw new StartError('initdb failed', (error as { stderr?: string }).stderr ?? String(error));
  } finally {
    await rm(passwordFile, { force: true });
  }
  await rename(partial, pgdata);
}

/**
 * A postmaster.pid may name a postmaster that we know nothing about (started by hand), which is stopped, or a number
 * that now belongs to something else (a container that was started again), which PostgreSQL would take for one.
 */
async function clearPostmaster(pgdata: string): Promise<void> {
  const file = join(pgdata, 'postmaster.pid');
  const pid = Number((await readFile(file, 'utf8').catch(() => '')).split('\n')[0]);
  if (!(pid > 0) || (await processBirth(pid)) === undefined) return;
  if (!(await commandLine(pid)).includes(pgdata)) {
    await rm(file, { force: true });
    return;
  }
  process.kill(pid, 'SIGINT');
  if (!(await waitUntil(async () => (await processBirth(pid)) === undefined, 15_000))) process.kill(pid, 'SIGQUIT');
  await waitUntil(async () => (await processBirth(pid)) === undefined, 5_000);
}

/** Starts a PostgreSQL server on loopback, without a socket file. First start 1.5 s (initdb), later ones 0.1 s. */
export async function startPostgres(options: PostgresOptions): Promise<PostgresServer & PostgresAccess> {
  const user = await postgresUser(join(options.dir, 'pgdata'));
  const dir = await reachableFolder(options.dir, user);
  if (dir !== options.dir) options.onProgress?.(`postgres: data in ${dir}, since its user cannot reach ${options.dir}`);
  const pgdata = join(dir, 'pgdata');
  const [binaries, password] = await Promise.all([
    postgresBinaries(user),
    keptSecret(join(dir, 'admin-password'), () => randomBytes(24).toString('base64url')),
  ]);
  await initialise(pgdata, binaries.initdb, user, password, options.durable !== false);

  let port = options.port ?? (await freePort());
  const settings = (): Record<string, string | number> => ({
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    max_connections: 200,
    timezone: 'UTC',
    log_timezone: 'UTC',
    ...(options.durable === false ? { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off' } : {}),
  });
  const server = supervise(() => ({
    name: 'postgres',
    bin: binaries.postgres,
    args: ['-D', pgdata, '-p', String(port), ...Object.entries(settings()).flatMap(([k, v]) => ['-c', `${k}=${v}`])],
    ...user,
    logFile: join(dir, 'postgres.log'),
    pidFile: join(dir, 'postgres.pid.json'),
    prepare: () => clearPostmaster(pgdata),
    ready: (log) => log.includes('database system is ready to accept connections'),
    startMs: 60_000,
    // "Fast": clients are disconnected. SIGTERM would wait for them to leave.
    stopSignal: 'SIGINT',
    ...(options.endsWith ? { endsWith: options.endsWith } : {}),
  }));

  async function start(): Promise<void> {
    const end = performance.now() + 15_000;
    for (let attempt = 1; ; attempt++) {
      try {
        await server.start();
        return;
      } catch (error) {
        if (!(error instanceof StartError) || performance.now() > end) throw error;
        // Backends of a killed postmaster need a moment to see that it is gone.
        if (/pre-existing shared memory block|is another postmaster/.test(error.log)) continue;
        if (!error.log.includes('Address already in use') || options.port !== undefined || attempt >= 3) throw error;
        port = await freePort();
      }
    }
  }

  await start();
  return {
    ...useServer({ port, password }),
    password,
    get pid() {
      return server.pid;
    },
    logFile: server.logFile,
    stop: server.stop,
    kill: server.kill,
    restart: async () => {
      await server.stop();
      await start();
    },
  };
}

/** The helpers of a server that runs, whoever started it. */
export function useServer({
  port,
  password,
}: PostgresAccess): Pick<PostgresServer, 'port' | 'adminUrl' | 'createDatabase' | 'dropDatabase' | 'provisionService'> {
  const urlOf = (role: string, secret: string, database: string): string =>
    `postgres://${role}:${secret}@127.0.0.1:${port}/${database}`;
  const adminUrl = (database = 'postgres'): string => urlOf(ADMIN, password, database);

  async function asAdmin<T>(database: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = new pg.Client({ connectionString: adminUrl(database) });
    await client.connect();
    try {
      return await work(client);
    } finally {
      await client.end();
    }
  }

  /** One caller at a time in that database: concurrent GRANTs on one object fail with "tuple concurrently updated". */
  const exclusively = (database: string, work: (client: pg.Client) => Promise<void>): Promise<void> =>
    asAdmin(database, async (client) => {
      await client.query('BEGIN');
      await client.query(`SELECT pg_advisory_xact_lock(hashtext('provision'))`);
      await work(client);
      await client.query('COMMIT');
    });

  async function createDatabase(name: string, template = 'template0'): Promise<string> {
    const id = pg.escapeIdentifier(name);
    await asAdmin('postgres', async (client) => {
      await client.query(`CREATE DATABASE ${id} TEMPLATE ${pg.escapeIdentifier(template)}`);
      // By default everyone may connect to any database.
      await client.query(`REVOKE ALL ON DATABASE ${id} FROM PUBLIC`);
    });
    return adminUrl(name);
  }

  async function provisionService(name: string, database = IMS_DATABASE): Promise<string> {
    const role = name.replaceAll('-', '_');
    if (!/^[a-z][a-z0-9_]{0,50}$/.test(role)) throw new Error(`${JSON.stringify(name)} is no name for a service`);
    // Derived, not stored: every process that knows the superuser's password comes to the same one.
    const secret = createHmac('sha256', password).update(`role ${role}`).digest('base64url');
    // 42P04: the database exists (or was made by another process in this very moment: 23505).
    await createDatabase(database).catch(unlessCode('42P04', '23505'));
    const id = pg.escapeIdentifier(database);
    await exclusively('postgres', async (client) => {
      const { rowCount } = await client.query('SELECT FROM pg_roles WHERE rolname = $1', [role]);
      if (rowCount === 0) await client.query(`CREATE ROLE ${role} LOGIN PASSWORD ${pg.escapeLiteral(secret)}`);
      await client.query(`GRANT CONNECT ON DATABASE ${id} TO ${role}`);
      await client.query(`ALTER ROLE ${role} IN DATABASE ${id} SET search_path = ${role}`);
    });
    await exclusively(database, async (client) => {
      await client.query('REVOKE ALL ON SCHEMA public FROM PUBLIC');
      await client.query(`CREATE SCHEMA IF NOT EXISTS ${role} AUTHORIZATION ${role}`);
    });
    return urlOf(role, secret, database);
  }

  return {
    port,
    adminUrl,
    createDatabase,
    dropDatabase: (name) =>
      asAdmin('postgres', async (client) => {
        await client.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`);
      }),
    provisionService,
  };
}

const unlessCode =
  (...codes: readonly string[]) =>
  (error: unknown): void => {
    if (!codes.includes((error as { code?: string }).code ?? '')) throw error;
  };
