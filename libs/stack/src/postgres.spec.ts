import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import pg from 'pg';
import { freshDatabase, startPostgres, StartError, type PostgresServer } from '#stack';

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

describe('startPostgres', () => {
  let dir: string;
  let server: PostgresServer;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'stack-postgres-'));
    server = await startPostgres({ dir });
  });
  afterAll(async () => {
    await server.stop();
    await rm(dir, { recursive: true });
  });

  it('listens on loopback alone, with scram and a password that only its owner reads', async () => {
    const settings = `SELECT current_setting('listen_addresses') AS listen, current_setting('unix_socket_directories') AS
      sockets, current_setting('fsync') AS fsync, current_setting('server_encoding') AS encoding`;
    expect(await query(server.adminUrl(), settings)).toEqual([
      { listen: '127.0.0.1', sockets: '', fsync: 'on', encoding: 'UTF8' },
    ]);
    await expect(query(server.adminUrl().replace(/:[^:@]+@/, ':wrong@'), 'SELECT 1')).rejects.toThrow(/password/);
    expect((await stat(join(dir, 'admin-password'))).mode & 0o777).toBe(0o600);
  });

  it('gives each service a schema of its own and no way into another', async () => {
    const [scheduler, telemetry] = await Promise.all([
      server.provisionService('job-scheduler'),
      server.provisionService('telemetry'),
    ]);
    await query(scheduler, 'CREATE TABLE jobs (id text)');
    expect(await query(scheduler, 'SELECT current_schema AS schema, current_user AS role')).toEqual([
      { schema: 'job_scheduler', role: 'job_scheduler' },
    ]);
    await expect(query(telemetry, 'SELECT * FROM job_scheduler.jobs')).rejects.toThrow(/permission denied for schema/);
    await expect(query(telemetry, 'CREATE TABLE public.x (id text)')).rejects.toThrow(/permission denied for schema/);
    await expect(query(telemetry, 'CREATE SCHEMA mine')).rejects.toThrow(/permission denied for database/);
    await expect(query(telemetry.replace('/ims', '/postgres'), 'SELECT 1')).resolves.toHaveLength(1);
    // Asked again, by several at once: the same URL, nothing lost.
    const again = await Promise.all([1, 2, 3].map(() => server.provisionService('job-scheduler')));
    expect(new Set(again)).toEqual(new Set([scheduler]));
    expect(await query(scheduler, 'SELECT * FROM jobs')).toEqual([]);
  });

  it('keeps what was committed through kill -9 and a restart on the same port', async () => {
    const url = await server.createDatabase('kept');
    await query(url, 'CREATE TABLE t AS SELECT 42 AS answer');
    const before = server.pid;
    await server.kill();
    expect(server.pid).toBeUndefined();
    await expect(query(url, 'SELECT 1')).rejects.toThrow(/ECONNREFUSED/);
    await server.restart();
    expect(server.pid).not.toBe(before);
    expect(await query(url, 'SELECT * FROM t')).toEqual([{ answer: 42 }]);
  });

  it('refuses a directory that a living process serves', async () => {
    await expect(startPostgres({ dir })).rejects.toThrow(/already run by process \d+/);
    expect(await query(server.adminUrl(), 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  const asRoot = process.getuid?.() === 0 ? it : it.skip;
  asRoot('keeps the data elsewhere when the user of PostgreSQL cannot reach the directory', async () => {
    const locked = await mkdtemp(join(tmpdir(), 'stack-locked-'));
    const lines: string[] = [];
    const hidden = join(locked, 'state');
    const moved = await startPostgres({ dir: hidden, onProgress: (line) => lines.push(line) });
    expect(await query(moved.adminUrl(), 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    expect(lines.join()).toMatch(/data in \/var\/tmp\/vendor-cloud-/);
    await moved.stop();
    await rm(dirname(moved.logFile), { recursive: true });
    await rm(locked, { recursive: true });
  });

  it('stops a postmaster that somebody else left in the directory', async () => {
    const { pid } = server;
    // As after the loss of our own note about it, owner and all.
    const note = join(dir, 'postgres.pid.json');
    const mark = JSON.parse(await readFile(note, 'utf8')) as { server: object; owner: object };
    await writeFile(note, JSON.stringify({ ...mark, owner: { pid: 1, birth: '-' } }));
    const next = await startPostgres({ dir });
    expect(next.pid).not.toBe(pid);
    await server.stop();
    server = next;
    expect(await query(server.adminUrl(), 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    // A number in postmaster.pid that is now another process's (here ours) does not keep it from starting.
    await server.stop();
    await writeFile(join(dir, 'pgdata/postmaster.pid'), `${process.pid}\n`);
    await server.restart();
    expect(await query(server.adminUrl(), 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('says what the server said when it cannot start', async () => {
    const other = await mkdtemp(join(tmpdir(), 'stack-postgres-'));
    await expect(startPostgres({ dir: other, port: server.port })).rejects.toThrow(StartError);
    expect(await readFile(join(other, 'postgres.log'), 'utf8')).toContain('Address already in use');
    await rm(other, { recursive: true });
  });
});

describe('freshDatabase', () => {
  it('is empty each time, copies a template, and shares one server', async () => {
    const first = await freshDatabase();
    const url = await first.provisionService('telemetry');
    await query(url, 'CREATE TABLE lines (n int)');
    const copy = await freshDatabase(first.name);
    const empty = await freshDatabase();
    expect(await query(await copy.provisionService('telemetry'), 'SELECT * FROM lines')).toEqual([]);
    await expect(query(await empty.provisionService('telemetry'), 'SELECT * FROM lines')).rejects.toThrow(/not exist/);
    expect(new Set([first, copy, empty].map((each) => new URL(each.url).port)).size).toBe(1);
    await Promise.all([first, copy, empty].map((each) => each.drop()));
  });
});
