import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client } from 'pg';
import { SERVICES, type ServiceName } from '#contracts';
import { checkChains, type ChainHead, type CheckedChain } from '#persistence';

const USAGE = `usage: npm run verify-events [-- --service NAME] [-- --heads FILE] [-- --demo]
Recomputes every hash chain of facts that the services recorded. Exit code 0: whole, 1: faults, 2: could not look.

  DATABASE_URLS  the databases, separated by commas (or DATABASE_URL): any role that may read the services' schemas
  --service      only this one: ${SERVICES.join(', ')}
  --heads FILE   compare with the heads in FILE, and write the present ones to it when everything is whole. Keep it
                 where nobody can write who can write the database: only it shows an end that was cut or made anew.
  --demo         the databases of the running demo, instead of DATABASE_URLS
  --dir DIR      where the demo is (default .demo)`;

type Heads = Record<string, ChainHead>;

interface Row {
  readonly service: ServiceName;
  chains: number;
  events: number;
  faults: number;
  first?: CheckedChain;
}

const WHY: Readonly<Record<NonNullable<CheckedChain['fault']>['reason'], string>> = {
  missing: 'is missing',
  relinked: 'does not follow the one before it: reordered or replaced',
  changed: 'is not what was recorded: its text does not fit its hash',
  truncated: 'and what came after it is gone',
  replaced: 'is another one than was recorded',
};
const schemaOf = (service: ServiceName): string => service.replaceAll('-', '_');

/** One service's chains; undefined when this database has none that its role may see. */
async function verify(
  client: Client,
  service: ServiceName,
  kept: ReadonlyMap<string, ChainHead>,
  onHead: (chain: string, head: ChainHead) => void,
): Promise<Row | undefined> {
  const { rows } = await client.query<{ there: boolean }>(
    `SELECT has_schema_privilege(oid, 'USAGE') AND to_regclass(nspname || '.event_chains') IS NOT NULL AS there
       FROM pg_namespace WHERE nspname = $1`,
    [schemaOf(service)],
  );
  if (rows[0]?.there !== true) return undefined;
  const row: Row = { service, chains: 0, events: 0, faults: 0 };
  // One picture of the database: what is recorded meanwhile is not half seen.
  await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY');
  await client.query(`SET LOCAL search_path = ${client.escapeIdentifier(schemaOf(service))}`);
  const query = async <T>(sql: string, params: readonly unknown[] = []): Promise<T[]> =>
    (await client.query(sql, [...params])).rows as T[];
  const own = new Map([...kept].filter(([chain]) => chain.startsWith(`${service}:`)));
  for await (const chain of checkChains(query, own)) {
    row.chains += 1;
    row.events += chain.events;
    if (chain.fault) {
      row.faults += 1;
      row.first ??= chain;
    } else onHead(chain.chain, chain.head);
  }
  await client.query('COMMIT');
  return row;
}

function print(rows: readonly Row[]): void {
  const table = [
    ['service', 'chains', 'events', 'faults', 'first fault'],
    ...rows.map(({ service, chains, events, faults, first }) => [
      service,
      String(chains),
      String(events),
      String(faults),
      first?.fault ? `${first.chain} event ${first.fault.seq} ${WHY[first.fault.reason]}` : '-',
    ]),
  ];
  const widths = table[0]?.map((_title, i) => Math.max(...table.map((line) => line[i]?.length ?? 0))) ?? [];
  for (const line of table) {
    const cells = line.map((cell, i) => (i > 0 && i < 4 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0)));
    process.stdout.write(`${cells.join('  ').trimEnd()}\n`);
  }
}

async function databases(demo: boolean, dir: string): Promise<string[]> {
  if (demo) {
    const { IMS_DATABASE } = await import('#stack');
    const { postgres: port } = JSON.parse(readFileSync(join(dir, 'ports.json'), 'utf8')) as { postgres: number };
    const password = readFileSync(join(dir, 'postgres', 'admin-password'), 'utf8').trim();
    return [`postgres://postgres:${password}@127.0.0.1:${port}/${IMS_DATABASE}`];
  }
  const given = process.env['DATABASE_URLS'] ?? process.env['DATABASE_URL'] ?? '';
  return given.split(',').filter((url) => url.trim() !== '');
}

async function main(): Promise<number> {
  const { values: flags } = parseArgs({
    options: {
      service: { type: 'string' },
      heads: { type: 'string' },
      demo: { type: 'boolean' },
      dir: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  const services = SERVICES.filter((service) => flags.service === undefined || service === flags.service);
  const urls = await databases(flags.demo === true, flags.dir ?? '.demo');
  if (flags.help === true || services.length === 0 || urls.length === 0) {
    process.stderr.write(`${USAGE}\n`);
    return flags.help === true ? 0 : 2;
  }
  const kept = new Map<string, ChainHead>(
    flags.heads !== undefined && existsSync(flags.heads)
      ? Object.entries(JSON.parse(readFileSync(flags.heads, 'utf8')) as Heads)
      : [],
  );
  const heads: Heads = Object.fromEntries(kept);
  const rows: Row[] = [];
  for (const connectionString of urls) {
    const client = new Client({ connectionString, application_name: 'verify-events' });
    await client.connect();
    try {
      for (const service of services) {
        const row = await verify(client, service, kept, (chain, head) => (heads[chain] = head));
        if (row) rows.push(row);
      }
    } finally {
      await client.end();
    }
  }
  if (rows.length === 0) {
    process.stderr.write('no database given holds facts that its role may read\n');
    return 2;
  }
  print(rows);
  if (rows.some(({ faults }) => faults > 0)) return 1;
  if (flags.heads !== undefined) {
    writeFileSync(`${flags.heads}.new`, `${JSON.stringify(heads, null, 1)}\n`, { mode: 0o600 });
    renameSync(`${flags.heads}.new`, flags.heads);
    process.stderr.write(`${Object.keys(heads).length} heads written to ${flags.heads}\n`);
  }
  return 0;
}

process.exitCode = await main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  return 2;
});
