import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client } from 'pg';
import { newId, type ServiceName } from '#contracts';
import { Database, openDataSource } from '#persistence';
import { freshDatabase, PROJECT_ROOT, type FreshDatabase } from '#stack';

const MAIN = join(PROJECT_ROOT, 'dist/deploy/operations/verify-events.js');
const dir = mkdtempSync(join(tmpdir(), 'verify-events-'));
let fresh: FreshDatabase;
let admin: Client;
const vendor = newId('vendor');

/** Runs the command as a person does. */
const verify = (args: string[], databaseUrls = fresh.url): Promise<{ code: number; out: string; err: string }> =>
  new Promise((resolve) => {
    const env = { PATH: process.env['PATH'], DATABASE_URLS: databaseUrls };
    execFile(process.execPath, [MAIN, ...args], { env, timeout: 30_000 }, (error, out, err) => {
      resolve({ code: error ? Number(error.code) : 0, out, err });
    });
  });

async function record(service: ServiceName, facts: number): Promise<void> {
  const dataSource = await openDataSource({ service, url: await fresh.provisionService(service), migrations: [] });
  const database = new Database(dataSource, service);
  const fact = { chainOf: vendor, type: 'test.fact', vendor_id: vendor, actor: 'service:test' };
  await database.transaction((tx) => tx.recordAll(Array.from({ length: facts }, (_, i) => ({ ...fact, data: { i } }))));
  await dataSource.destroy();
}

beforeAll(async () => {
  fresh = await freshDatabase();
  await record('job-scheduler', 30);
  await record('registry-token', 5_000);
  admin = new Client({ connectionString: fresh.url });
  await admin.connect();
  await admin.query('ALTER TABLE registry_token.events DISABLE TRIGGER events_append_only');
});
afterAll(async () => {
  await admin?.end();
  await fresh?.drop();
  rmSync(dir, { recursive: true, force: true });
});

it('prints a line for each service and ends with 0 when every chain is whole', async () => {
  const { code, out } = await verify([]);
  expect([code, out]).toEqual([
    0,
    [
      'service         chains  events  faults  first fault',
      'job-scheduler        1      30       0  -',
      'registry-token       1    5000       0  -',
      '',
    ].join('\n'),
  ]);
  const one = await verify(['--service', 'job-scheduler']);
  expect(one.out).not.toContain('registry-token');
  // A service's own role sees its own chains, and needs no more.
  const own = await verify([], await fresh.provisionService('registry-token'));
  expect([own.code, own.out.split('\n').length]).toEqual([0, 3]);
});

it('ends with 1 and names the first fault', async () => {
  const heads = join(dir, 'heads.json');
  expect((await verify(['--heads', heads])).code).toBe(0);
  const kept = readFileSync(heads, 'utf8');
  await admin.query('BEGIN');
  await admin.query(`UPDATE registry_token.events SET data = '{"i": -1}' WHERE seq = 4321`);
  await admin.query('COMMIT');
  const { code, out } = await verify(['--heads', heads]);
  expect(code).toBe(1);
  expect(out).toContain(`registry-token:${vendor} event 4321 is not what was recorded`);
  expect(readFileSync(heads, 'utf8')).toBe(kept);
  await admin.query(`UPDATE registry_token.events SET data = '{"i": 4320}' WHERE seq = 4321`);
});

it('sees a cut end by the heads that were kept, and by nothing else', async () => {
  const heads = join(dir, 'heads.json');
  await admin.query('DELETE FROM registry_token.events WHERE seq > 4999');
  await admin.query(`UPDATE registry_token.event_chains c SET seq = e.seq, hash = e.hash
                       FROM registry_token.events e WHERE e.chain = c.chain AND e.seq = 4999`);
  expect((await verify([])).code).toBe(0);
  const { code, out } = await verify(['--heads', heads]);
  expect(code).toBe(1);
  expect(out).toContain('event 5000 and what came after it is gone');
});

it('ends with 2 and says what is missing when it cannot look', async () => {
  expect(await verify([], '')).toMatchObject({ code: 2, out: '' });
  const away = await verify([], 'postgres://nobody:secret-word@127.0.0.1:1/ims');
  expect([away.code, away.err.includes('secret-word')]).toEqual([2, false]);
  expect((await verify(['--service', 'nonsense'])).code).toBe(2);
});
