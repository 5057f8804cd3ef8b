import 'reflect-metadata';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Pool } from 'pg';
import { newId, type TokenId } from '#contracts';
import { Database, openDataSource } from '#persistence';
import { startPostgres } from '#stack';
import { RegistryTokenConfig } from '../../apps/registry-token/src/config.js';
import { MIGRATIONS } from '../../apps/registry-token/src/migrations.js';
import { Presentations } from '../../apps/registry-token/src/presentations.js';
import { secretHash } from '../../apps/registry-token/src/token-row.js';
import { TamperedJobs } from '../../apps/registry-token/src/tampering.js';
import { median } from './median.js';

const { values: flags } = parseArgs({
  options: {
    connections: { type: 'string', default: '10' },
    callers: { type: 'string', default: '64' },
    seconds: { type: 'string', default: '3' },
    rounds: { type: 'string', default: '5' },
    installs: { type: 'string', default: '50' },
  },
});
const CONNECTIONS = Number(flags.connections);
const CALLERS = Number(flags.callers);
const ROUND_MS = Number(flags.seconds) * 1000;
const ROUNDS = Number(flags.rounds);
const INSTALLS = Number(flags.installs);
const HASH_KEY = 'k'.repeat(32);
const SECRET = 's'.repeat(43);

/** Calls the work from so many callers for a round; calls a second. */
async function rate(callers: number, work: () => Promise<boolean>): Promise<number> {
  const beganMs = performance.now();
  let done = 0;
  await Promise.all(
    Array.from({ length: callers }, async () => {
      while (performance.now() - beganMs < ROUND_MS && (await work())) done += 1;
    }),
  );
  return done / ((performance.now() - beganMs) / 1000);
}

const dir = mkdtempSync(join(tmpdir(), 'bench-redemption-'));
chmodSync(dir, 0o755);
const postgres = await startPostgres({ dir: join(dir, 'postgres') });
try {
  const url = await postgres.provisionService('registry-token');
  const options = { service: 'registry-token', url, migrations: MIGRATIONS, poolSize: CONNECTIONS } as const;
  const dataSource = await openDataSource(options);
  const database = new Database(dataSource, 'registry-token');
  const config = Object.assign(new RegistryTokenConfig(), { TOKEN_HASH_KEY: HASH_KEY });
  const presentations = new Presentations(database, config, new TamperedJobs(database, {} as never, {} as never));
  const pool = new Pool({ connectionString: url, max: CONNECTIONS });
  // `end` does not wait for the sockets; the server is stopped under them.
  pool.on('error', () => undefined);
  await pool.query('CREATE TABLE counters (id int PRIMARY KEY, n bigint NOT NULL DEFAULT 0) WITH (fillfactor = 50)');
  await pool.query('INSERT INTO counters (id) SELECT generate_series(0, 9999)');

  const vendor = newId('vendor');
  const installs = Array.from({ length: INSTALLS }, () => newId('install'));
  let tokens: TokenId[] = [];
  /** Tokens of many jobs of some installs: each redemption is a fact in one of so many chains. */
  const issue = async (count: number): Promise<void> => {
    tokens = Array.from({ length: count }, () => newId('token'));
    for (let i = 0; i < count; i += 5_000) {
      const ids = tokens.slice(i, i + 5_000);
      await pool.query(
        `INSERT INTO pull_tokens (id, vendor_id, install_id, job_id, attempt, agent_id, agent_key, repository, digest,
                                  size_bytes, secret_hash, expires_at)
         SELECT id, $2, install, job, 1, $3, 'UAGENT', 'acme/shop/web', $4, 1000, hash, now() + interval '1 hour'
           FROM unnest($1::text[], $5::text[], $6::text[], $7::bytea[]) AS r (id, install, job, hash)`,
        [
          ids,
          vendor,
          newId('agent'),
          `sha256:${'0'.repeat(64)}`,
          ids.map((_id, n) => installs[n % INSTALLS]),
          ids.map(() => newId('job')),
          ids.map((id) => secretHash(HASH_KEY, id, SECRET)),
        ],
      );
    }
    await pool.query('TRUNCATE outbox');
    await pool.query('VACUUM ANALYZE pull_tokens, outbox, event_chains, counters');
  };

  console.log(
    `${availableParallelism()} cores, Node ${process.versions.node}, PostgreSQL on this machine with fsync; ` +
      `${CONNECTIONS} connections, ${CALLERS} callers, ${INSTALLS} installs, ${ROUNDS} rounds of ${ROUND_MS / 1000} s`,
  );
  const commits: number[] = [];
  const redemptions: number[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    let n = 0;
    const commit = await rate(CALLERS, async () => {
      await pool.query('UPDATE counters SET n = n + 1 WHERE id = $1', [n++ % 10_000]);
      return true;
    });
    await issue(Math.ceil((ROUND_MS / 1000) * 12_000));
    const redemption = await rate(CALLERS, async () => {
      const id = tokens.pop();
      if (id === undefined) return false;
      await presentations.redeem(`${id}.${SECRET}`, { key: 'UAGENT', requestId: id });
      return true;
    });
    commits.push(commit);
    redemptions.push(redemption);
    console.log(
      `round ${round}: ${commit.toFixed(0)} commits/s, ${redemption.toFixed(0)} redemptions/s ` +
        `(${((100 * redemption) / commit).toFixed(0)} %)`,
    );
  }
  const [commit, redemption] = [median(commits), median(redemptions)];
  console.log(
    `median: ${commit.toFixed(0)} commits/s, ${redemption.toFixed(0)} redemptions/s: ` +
      `${((100 * redemption) / commit).toFixed(0)} % (goal 70 %)`,
  );
  await pool.end();
  await dataSource.destroy();
  process.exitCode = redemption >= 0.7 * commit ? 0 : 1;
} finally {
  await postgres.stop();
  rmSync(dir, { recursive: true, force: true });
}
