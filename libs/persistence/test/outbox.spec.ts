import { factRecorded, HEADERS, jobOffer, newId, type Event, type JobOffer } from '#contracts';
import { findChainBreak, eventOfRow, type Database } from '#persistence';
import { newContext, runInContext } from '#platform';
import { freshDatabase, type FreshDatabase } from '#stack';
import { fact, newVendor, open, RecordingPublisher, until, type Opened } from './fixtures.js';

const offer = (): { parts: { shard: string; agent: string; job: string }; body: JobOffer; id: string } => {
  const job = newId('job');
  return { parts: { shard: '00', agent: newId('agent'), job }, body: { job_id: job, kind: 'apply' }, id: `${job}.1` };
};

describe('outbox and facts', () => {
  let fresh: FreshDatabase;
  let url: string;
  const opened: Opened[] = [];
  const openOne = async (): Promise<Database> => {
    const one = await open(url);
    opened.push(one);
    return one.database;
  };
  beforeEach(async () => {
    fresh = await freshDatabase();
    url = await fresh.provisionService('job-scheduler');
  });
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close();
    await fresh.drop();
  });
  const rowsLeft = async (database: Database): Promise<number> => (await database.query('SELECT 1 FROM outbox')).length;

  it('publishes right after the commit, with contract, context and message id, and deletes the row', async () => {
    const database = await openOne();
    const publisher = new RecordingPublisher();
    database.startRelay(publisher);
    const { parts, body, id } = offer();
    const context = newContext('the-request-7');
    const start = performance.now();
    await runInContext(context, () =>
      database.transaction(async (tx) => {
        await tx.query(`INSERT INTO notes (text) VALUES ('x')`);
        tx.publish(jobOffer, parts, body, id);
        expect(publisher.sent).toEqual([]);
      }),
    );
    await until('published', () => publisher.sent.length === 1);
    // Far below the sweep's second: this was the fast path.
    expect(performance.now() - start).toBeLessThan(900);
    expect(publisher.sent[0]).toEqual({
      subject: `ims.v1.jobs.00.${parts.agent}.${parts.job}.offer`,
      messageId: id,
      headers: {
        [HEADERS.contract]: 'job.offer/1',
        [HEADERS.requestId]: 'the-request-7',
        [HEADERS.traceparent]: context.traceparent,
      },
      body: { ...body },
    });
    await until('deleted', async () => (await rowsLeft(database)) === 0);
  });

  it('publishes nothing of a transaction that was rolled back', async () => {
    const database = await openOne();
    const publisher = new RecordingPublisher();
    database.startRelay(publisher);
    const vendor = newVendor();
    await expect(
      database.transaction(async (tx) => {
        const { parts, body, id } = offer();
        tx.publish(jobOffer, parts, body, id);
        await tx.record(fact(vendor));
        throw new Error('no');
      }),
    ).rejects.toThrow('no');
    await database.transaction(async (tx) => {
      await tx.record(fact(vendor, { after: true }));
    });
    await until('published', () => publisher.sent.length > 0);
    expect(publisher.sent.map((sent) => (sent.body as Event).seq)).toEqual([1]);
    expect(await database.query('SELECT data FROM events')).toEqual([{ data: { after: true } }]);
  });

  it('sweeps what a process left that died between commit and publish', async () => {
    // Committed without a relay: as if the process had been killed right after the commit.
    const dead = await openOne();
    const sent = Array.from({ length: 20 }, offer);
    await dead.transaction((tx) => {
      for (const { parts, body, id } of sent) tx.publish(jobOffer, parts, body, id);
      return Promise.resolve();
    });
    const replicas = [await openOne(), await openOne()];
    const publisher = new RecordingPublisher();
    for (const replica of replicas) replica.startRelay(publisher);
    await until('swept', async () => (await rowsLeft(dead)) === 0);
    const ids = publisher.sent.map((message) => message.messageId).sort();
    // Two replicas sweep at the same time, and no row goes out twice.
    expect(ids).toEqual(sent.map(({ id }) => id).sort());
  });

  it('keeps everything while the broker is down, then sends it in order', async () => {
    const database = await openOne();
    const publisher = new RecordingPublisher();
    publisher.down = true;
    database.startRelay(publisher);
    const { parts, body } = offer();
    for (let i = 1; i <= 30; i += 1) {
      await database.transaction((tx) => {
        tx.publish(jobOffer, parts, body, `m${String(i)}`);
        return Promise.resolve();
      });
    }
    expect(publisher.sent).toEqual([]);
    expect(await rowsLeft(database)).toBe(30);
    publisher.down = false;
    // Committed after the broker came back, while older rows of the subject still wait: it must not overtake them.
    await database.transaction((tx) => {
      tx.publish(jobOffer, parts, body, 'm31');
      return Promise.resolve();
    });
    await until('all sent', async () => (await rowsLeft(database)) === 0);
    expect(publisher.sent.map((message) => message.messageId)).toEqual(
      Array.from({ length: 31 }, (_, i) => `m${String(i + 1)}`),
    );
    // And the fast path is open again.
    await until('fast again', async () => {
      const before = publisher.sent.length;
      await database.transaction((tx) => {
        tx.publish(jobOffer, parts, body, newId('event'));
        return Promise.resolve();
      });
      await new Promise((resolve) => setTimeout(resolve, 50));
      return publisher.sent.length > before;
    });
  });

  it('keeps the order of one subject; a slow subject does not hold up another', async () => {
    const database = await openOne();
    const publisher = new RecordingPublisher();
    database.startRelay(publisher);
    const slow = offer();
    const quick = offer();
    let release: () => void = () => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    publisher.before = (subject) => (subject.includes(slow.parts.job) ? held : Promise.resolve());
    for (let i = 0; i < 5; i += 1) {
      await database.transaction((tx) => {
        tx.publish(jobOffer, slow.parts, slow.body, `slow${String(i)}`);
        tx.publish(jobOffer, quick.parts, quick.body, `quick${String(i)}`);
        return Promise.resolve();
      });
    }
    await until('quick ones sent', () => publisher.sent.length === 5);
    expect(publisher.sent.map(({ messageId }) => messageId)).toEqual([
      'quick0',
      'quick1',
      'quick2',
      'quick3',
      'quick4',
    ]);
    release();
    await until('all sent', () => publisher.sent.length === 10);
    expect(publisher.sent.slice(5).map(({ messageId }) => messageId)).toEqual([
      'slow0',
      'slow1',
      'slow2',
      'slow3',
      'slow4',
    ]);
  });

  it('sends what is committed before it stops', async () => {
    const one = await open(url);
    const publisher = new RecordingPublisher();
    one.database.startRelay(publisher);
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        const { parts, body, id } = offer();
        await one.database.transaction((tx) => {
          tx.publish(jobOffer, parts, body, id);
          return Promise.resolve();
        });
      }),
    );
    await one.database.stopRelay();
    expect(publisher.sent).toHaveLength(50);
    expect(await rowsLeft(one.database)).toBe(0);
    await one.close();
  });

  it('keeps one unbroken chain under concurrent writers of two replicas', async () => {
    const replicas = [await openOne(), await openOne()];
    const vendor = newVendor();
    const install = newId('install');
    await Promise.all(
      Array.from({ length: 60 }, (_, i) =>
        replicas[i % 2]!.transaction(async (tx) => {
          await tx.record({
            ...fact(vendor, { i }),
            ...(i % 3 === 0 ? { chainOf: install, install_id: install } : {}),
          });
        }),
      ),
    );
    for (const [of, count] of [
      [vendor, 40],
      [install, 20],
    ] as const) {
      const rows = await replicas[0]!.query('SELECT * FROM events WHERE chain = $1 ORDER BY seq', [
        `job-scheduler:${of}`,
      ]);
      const events = rows.map(eventOfRow);
      expect(events).toHaveLength(count);
      expect(findChainBreak(events)).toBeUndefined();
      const changed = events.map((event) => ({ ...event, data: event.seq === 7 ? { i: -1 } : event.data }));
      expect(findChainBreak(changed)).toEqual({ seq: 7, reason: 'changed' });
      expect(findChainBreak(events.filter((event) => event.seq !== 5))).toEqual({ seq: 5, reason: 'missing' });
    }
  });

  it('records what PostgreSQL gives back with the same hash, whatever the data', async () => {
    const database = await openOne();
    const publisher = new RecordingPublisher();
    database.startRelay(publisher);
    const vendor = newVendor();
    const data = { text: 'nul \0 and half \ud83d of a pair', z: [1.5, -0, 1e21], a: { y: null, x: 'é' }, 'k\0': true };
    const event = await database.transaction((tx) => tx.record(fact(vendor, data)));
    const [row] = await database.query('SELECT * FROM events');
    const stored = eventOfRow(row!);
    expect(findChainBreak([stored])).toBeUndefined();
    expect(stored).toEqual(event);
    await until('published', () => publisher.sent.length === 1);
    expect(publisher.sent[0]).toMatchObject({
      subject: `ims.v1.facts.${vendor}._.recorded`,
      messageId: event.id,
      headers: { [HEADERS.contract]: `${factRecorded.name}/1` },
    });
    expect(findChainBreak([publisher.sent[0]!.body as Event])).toBeUndefined();
  });

  it('lets nobody change or drop a fact', async () => {
    const database = await openOne();
    await database.transaction((tx) => tx.record(fact(newVendor())));
    for (const sql of [`UPDATE events SET type = 'x'`, 'DELETE FROM events', 'TRUNCATE events']) {
      await expect(database.query(sql)).rejects.toThrow('append-only');
    }
  });
});
