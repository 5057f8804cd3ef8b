import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withLock, writeSecret } from './files.js';
import { startPostgres, useServer, type PostgresAccess } from './postgres.js';
import { processBirth } from './process.js';

/** A database of one test file, on a server that all files of a test run share. */
export interface FreshDatabase {
  readonly name: string;
  /** Of the superuser. */
  readonly url: string;
  /** URL of a service's role, which owns its schema in this database. */
  provisionService(service: string): Promise<string>;
  drop(): Promise<void>;
}

/** The process whose end is the end of the test run: jest itself, from its workers too; else this process. */
const runProcess = (): number => (process.argv[1]?.includes('jest-worker') === true ? process.ppid : process.pid);

async function sharedServer(): Promise<PostgresAccess> {
  const run = runProcess();
  // With the time it started, since numbers are given again, and a folder may have been left by a killed run.
  const folder = join(tmpdir(), `vendor-cloud-test-${run}-${((await processBirth(run)) ?? '0').replace(/\W/g, '')}`);
  const accessFile = join(folder, 'access.json');
  const read = async (): Promise<PostgresAccess> => JSON.parse(await readFile(accessFile, 'utf8')) as PostgresAccess;
  if (existsSync(accessFile)) return read();
  return withLock(`${folder}.lock`, async () => {
    if (existsSync(accessFile)) return read();
    const dir = join(folder, 'postgres');
    const { port, password } = await startPostgres({ dir, durable: false, endsWith: { pid: run, remove: folder } });
    await writeSecret(accessFile, JSON.stringify({ port, password }));
    return { port, password };
  });
}

let container: Promise<PostgresAccess> | undefined;

/** With TEST_INFRA=containers and an engine that answers: PostgreSQL from its own image, one for each worker. */
function containerServer(): Promise<PostgresAccess> {
  container ??= (async () => {
    const { GenericContainer, Wait } = await import('testcontainers');
    const password = randomBytes(24).toString('base64url');
    const started = await new GenericContainer('postgres:18-alpine')
      .withEnvironment({ POSTGRES_PASSWORD: password })
      .withCommand(['-c', 'fsync=off', '-c', 'max_connections=200'])
      .withExposedPorts(5432)
      // It starts twice: once to make the cluster.
      .withWaitStrategy(Wait.forLogMessage('database system is ready to accept connections', 2))
      .start();
    return { port: started.getMappedPort(5432), password };
  })();
  return container;
}

/**
 * An empty database, or a copy of an earlier one of this run. The server is started by the first caller of a test run
 * (1.5 s; a database then takes 30 ms), does not sync its writes, and is stopped and removed when the run ends. For
 * tests that kill or restart the server, start one of your own.
 */
export async function freshDatabase(template?: string): Promise<FreshDatabase> {
  const server = useServer(await (process.env['TEST_INFRA'] === 'containers' ? containerServer() : sharedServer()));
  const name = `test_${randomBytes(6).toString('hex')}`;
  const url = await server.createDatabase(name, template);
  return {
    name,
    url,
    provisionService: (service) => server.provisionService(service, name),
    drop: () => server.dropDatabase(name),
  };
}
