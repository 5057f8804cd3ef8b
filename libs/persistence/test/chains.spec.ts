import { Client } from 'pg';
import { type Event } from '#contracts';
import { checkChains, eventOfRow, findChainBreak, type ChainHead, type CheckedChain } from '#persistence';
import { freshDatabase, type FreshDatabase } from '#stack';
import { fact, newVendor, open, type Opened } from './fixtures.js';

describe('hash chains', () => {
  let fresh: FreshDatabase;
  let opened: Opened;
  let admin: Client;

  beforeEach(async () => {
    fresh = await freshDatabase();
    opened = await open(await fresh.provisionService('job-scheduler'));
    // Somebody who owns the database: the guard against changes is of no use there.
    admin = new Client({ connectionString: fresh.url });
    await admin.connect();
    await admin.query('SET search_path = job_scheduler; ALTER TABLE events DISABLE TRIGGER events_append_only');
  });
  afterEach(async () => {
    await admin.end();
    await opened.close();
    await fresh.drop();
  });

  const check = async (kept?: ReadonlyMap<string, ChainHead>, pageRows = 3): Promise<CheckedChain[]> => {
    const found: CheckedChain[] = [];
    for await (const chain of checkChains((sql, params) => opened.database.query(sql, params), kept, pageRows)) {
      found.push(chain);
    }
    return found;
  };
  const faults = async (kept?: ReadonlyMap<string, ChainHead>): Promise<string[]> =>
    (await check(kept)).flatMap(({ chain, fault }) => (fault ? [`${chain} ${fault.seq} ${fault.reason}`] : []));
  const heads = async (): Promise<Map<string, ChainHead>> =>
    new Map((await check()).map(({ chain, head }) => [chain, head]));

  /** Two chains of seven facts, some recorded together; the first one's name. */
  async function twoChains(): Promise<string> {
    const [a, b] = [newVendor(), newVendor()].sort() as [string, string];
    for (let i = 0; i < 2; i++) {
      await opened.database.transaction(async (tx) => {
        await tx.recordAll([fact(b, { i }), fact(a, { i }), fact(b, { i, again: true }), fact(a, { i, again: true })]);
      });
    }
    for (const vendor of [a, b, a, b, a, b]) {
      await opened.database.transaction((tx) => tx.record(fact(vendor, { text: 'ü\u0000' })));
    }
    return `job-scheduler:${a}`;
  }

  it('are whole when facts are recorded one by one, together, and by many at once', async () => {
    const vendors = Array.from({ length: 5 }, newVendor);
    await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        opened.database.transaction(async (tx) => {
          const some = vendors.filter((_vendor, v) => (i + v) % 2 === 0);
          const events = await tx.recordAll(some.map((vendor) => fact(vendor, { i })));
          expect(events.map(({ vendor_id }) => vendor_id)).toEqual(some);
        }),
      ),
    );
    await opened.database.transaction((tx) => tx.recordAll([]));
    const found = await check(undefined, 7);
    expect(found.map(({ events, fault }) => [events, fault])).toEqual(vendors.map(() => [20, undefined]));
    expect(await faults(await heads())).toEqual([]);
  });

  it.each([
    ['changed data', `UPDATE events SET data = '{"i": 2}' WHERE chain = $1 AND seq = 3`, '3 changed'],
    ['another time', `UPDATE events SET at = at + interval '1 millisecond' WHERE chain = $1 AND seq = 4`, '4 changed'],
    ['a dropped event', 'DELETE FROM events WHERE chain = $1 AND seq = 2', '2 missing'],
    ['a dropped beginning', 'DELETE FROM events WHERE chain = $1 AND seq = 1', '1 missing'],
    ['a dropped end', 'DELETE FROM events WHERE chain = $1 AND seq > 5', '6 truncated'],
    ['all events dropped', 'DELETE FROM events WHERE chain = $1', '1 truncated'],
    [
      'two events in another order',
      `UPDATE events SET seq = CASE seq WHEN 3 THEN -4 ELSE -3 END WHERE chain = $1 AND seq IN (3, 4);
       UPDATE events SET seq = -seq WHERE seq < 0`,
      '3 relinked',
    ],
    ['a head that is gone', 'DELETE FROM event_chains WHERE chain = $1', '7 replaced'],
  ])('show %s', async (_what, plant, fault) => {
    const chain = await twoChains();
    expect(await faults()).toEqual([]);
    for (const statement of plant.split(';')) {
      await admin.query(statement.replace('$1', admin.escapeLiteral(chain)));
    }
    expect(await faults()).toEqual([`${chain} ${fault}`]);
  });

  it('show an end that was cut or made anew only to whoever kept a head elsewhere', async () => {
    const chain = await twoChains();
    const kept = await heads();
    const sixth = (await admin.query('SELECT hash FROM events WHERE chain = $1 AND seq = 6', [chain])).rows as {
      hash: string;
    }[];
    await admin.query('DELETE FROM events WHERE chain = $1 AND seq = 7', [chain]);
    await admin.query('UPDATE event_chains SET seq = 6, hash = $2 WHERE chain = $1', [chain, sixth[0]!.hash]);
    expect(await faults()).toEqual([]);
    expect(await faults(kept)).toEqual([`${chain} 7 truncated`]);
    await opened.database.transaction((tx) => tx.record(fact(chain.split(':')[1]!, { text: 'instead' })));
    expect(await faults()).toEqual([]);
    expect(await faults(kept)).toEqual([`${chain} 7 replaced`]);
    await admin.query('DELETE FROM events WHERE chain = $1', [chain]);
    await admin.query('DELETE FROM event_chains WHERE chain = $1', [chain]);
    expect(await faults()).toEqual([]);
    expect(await faults(kept)).toEqual([`${chain} 1 truncated`]);
  });

  it('can be checked piece by piece', async () => {
    const chain = await twoChains();
    const { rows } = await admin.query('SELECT * FROM events WHERE chain = $1 ORDER BY seq', [chain]);
    const events: Event[] = (rows as Record<string, unknown>[]).map(eventOfRow);
    expect(findChainBreak(events.slice(4), events[3])).toBeUndefined();
    expect(findChainBreak(events.slice(4), events[2])).toEqual({ seq: 4, reason: 'missing' });
  });
});
