import { Module } from '@nestjs/common';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jobOffer, newId } from '#contracts';
import { Database, PersistenceModule } from '#persistence';
import { startService } from '#platform';
import { startPostgres, type PostgresServer } from '#stack';
import { fact, Notes1800000000000, open, RecordingPublisher, until, type Opened } from './fixtures.js';

describe('a database that fails', () => {
  let dir: string;
  let server: PostgresServer;
  let url: string;
  const opened: Opened[] = [];
  const openOne = async (to = url): Promise<Database> => {
    const one = await open(to);
    opened.push(one);
    return one.database;
  };
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'persistence-faults-'));
    server = await startPostgres({ dir });
    url = await server.provisionService('job-scheduler');
  });
  afterEach(async () => {
    for (const one of opened.splice(0)) await one.close();
  });
  afterAll(async () => {
    await server.stop();
    await rm(dir, { recursive: true, force: true });
  });

  it.each(['restart', 'kill'] as const)(
    'under load: after a %s every transaction is there once or not at all',
    async (how) => {
      const database = await openOne();
      const publisher = new RecordingPublisher();
      database.startRelay(publisher);
      const done = new Set<string>();
      let unsure = 0;
      let stop = false;
      const writer = async (w: number): Promise<void> => {
        for (let i = 0; !stop; i += 1) {
          const text = `${how} ${String(w)} ${String(i)}`;
          const job = newId('job');
          try {
            await database.transaction(async (tx) => {
              await tx.query('INSERT INTO notes (text) VALUES ($1)', [text]);
              tx.publish(jobOffer, { shard: '00', agent: newId('agent'), job }, { job_id: job, kind: 'apply' }, text);
            });
            done.add(text);
          } catch (error) {
            expect(error).toMatchObject({ code: 'unavailable' });
            unsure += 1;
          }
        }
      };
      const writers = [1, 2, 3, 4].map(writer);
      await until('some are written', () => done.size > 50);
      if (how === 'kill') await server.kill();
      await server.restart();
      const before = done.size;
      await until('it goes on', () => done.size > before + 50);
      stop = true;
      await Promise.all(writers);

      const rows = await database.query<{ text: string }>('SELECT text FROM notes WHERE text LIKE $1', [`${how} %`]);
      const stored = new Set(rows.map((row) => row.text));
      expect([...done].filter((text) => !stored.has(text))).toEqual([]);
      // What was reported as failed may be there (nobody could know); nothing else may.
      expect(stored.size - done.size).toBeLessThanOrEqual(unsure);
      await until('the outbox is empty', async () => (await database.query('SELECT 1 FROM outbox')).length === 0);
      expect(new Set(publisher.sent.map((sent) => sent.messageId))).toEqual(stored);
    },
  );

  it('waits at the start for a database that is not there yet', async () => {
    await server.stop();
    const opening = openOne();
    await server.restart();
    expect(await (await opening).query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  });

  it('answers `unavailable` while it is away, and the service says that it is not ready', async () => {
    @Module({
      imports: [PersistenceModule.forService({ service: 'job-scheduler', url, migrations: [Notes1800000000000] })],
    })
    class SampleModule {}
    const app = await startService({
      name: 'job-scheduler',
      module: SampleModule,
      http: { host: '127.0.0.1', port: 0 },
      ownsProcess: false,
    });
    const address = app.getHttpServer().address() as AddressInfo;
    const ready = async (): Promise<string> =>
      (await fetch(`http://127.0.0.1:${String(address.port)}/readyz?verbose`)).text();
    expect(await ready()).toMatch(/^\[\+\] postgres ok \(\d+ ms\)\nready\n$/);
    await server.stop();
    expect(await ready()).toMatch(/^\[-\] postgres: .*\nnot ready\n$/);
    await expect(app.get(Database).query('SELECT 1')).rejects.toMatchObject({
      code: 'unavailable',
      detail: 'the database does not answer',
    });
    await server.restart();
    await until('ready again', async () => (await ready()).endsWith('\nready\n'));
    await app.close();
  });

  describe('that is gone without a word', () => {
    /** Between us and the server: frozen connections stay open and pass nothing on, as when a host loses its power. */
    let proxy: Server;
    let away = false;
    let connections: { frozen: boolean }[] = [];
    let proxied: string;
    const freeze = (): void => {
      for (const one of connections) one.frozen = true;
    };
    beforeAll(async () => {
      proxy = createServer((client) => {
        const state = { frozen: away };
        connections.push(state);
        const upstream = connect(server.port, '127.0.0.1');
        client.on('data', (data) => {
          if (!state.frozen) upstream.write(data);
        });
        upstream.on('data', (data) => {
          if (!state.frozen) client.write(data);
        });
        client.on('error', () => upstream.destroy()).on('close', () => upstream.destroy());
        const closed = (): void => {
          if (!state.frozen) client.destroy();
        };
        upstream.on('error', closed).on('close', closed);
      }).listen(0, '127.0.0.1');
      await new Promise((resolve) => proxy.once('listening', resolve));
      proxied = url.replace(/:\d+\//, `:${String((proxy.address() as AddressInfo).port)}/`);
    });
    beforeEach(() => {
      away = false;
      connections = [];
    });
    afterAll(() => {
      proxy.close();
    });

    it('and stands again behind the same address: answers come in seconds, on all connections', async () => {
      const database = await openOne(proxied);
      const many = (): Promise<unknown> =>
        Promise.all(Array.from({ length: 5 }, () => database.query('SELECT pg_sleep(0.05)')));
      await many();
      freeze();
      const direct = await openOne();
      const backends = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE usename = current_user AND pid <> pg_backend_pid()`;
      expect((await direct.query(backends)).length).toBeGreaterThan(4);
      const started = performance.now();
      expect(await database.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
      await database.transaction((tx) => tx.query(`INSERT INTO notes (text) VALUES ('after a fail-over')`));
      await many();
      expect(performance.now() - started).toBeLessThan(12_000);
    });

    it('is answered `unavailable` in seconds, and used again as soon as it is back', async () => {
      const database = await openOne(proxied);
      await database.query('SELECT 1');
      away = true;
      freeze();
      const started = performance.now();
      const failing = [
        database.query('SELECT 1'),
        database.transaction((tx) => tx.query('SELECT 1')),
        database.query('DELETE FROM notes WHERE id = 0'),
      ];
      const ends = await Promise.allSettled(failing);
      for (const end of ends) expect(end).toMatchObject({ status: 'rejected', reason: { code: 'unavailable' } });
      expect(performance.now() - started).toBeLessThan(20_000);
      away = false;
      const back = performance.now();
      expect(await database.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
      expect(performance.now() - back).toBeLessThan(7_000);
    });

    it('is not taken for gone when a statement is slow', async () => {
      const database = await openOne(proxied);
      const slow = 'INSERT INTO notes (text) SELECT $1 FROM pg_sleep(6)';
      await Promise.all([
        database.query(slow, ['slow and sure']),
        database.transaction(async (tx) => {
          await tx.query('SELECT 1');
          await tx.query(slow, ['slow and sure too']);
        }),
      ]);
      expect(await database.query(`SELECT 1 FROM notes WHERE text LIKE 'slow and sure%'`)).toHaveLength(2);
    });
  });

  describe('whose answer to COMMIT is lost', () => {
    let proxy: Server;
    /** What the proxy does with the next COMMIT: passes it on and swallows the answer, or swallows the COMMIT itself. */
    let next: 'pass' | 'lose answer' | 'lose commit' | 'crash' = 'pass';
    /** The server dies with what it has not written; others go on from there. */
    const crash = async (): Promise<void> => {
      await server.kill();
      await server.restart();
      const others = await openOne();
      for (let i = 0; i < 8; i += 1)
        await others.query('INSERT INTO notes (text) VALUES ($1)', [`of somebody else ${i}`]);
    };
    let proxied: string;
    beforeAll(async () => {
      proxy = createServer((client) => {
        const upstream = connect(server.port, '127.0.0.1');
        let muted = false;
        let held = false;
        client.on('data', (data) => {
          const isCommit = data.includes('COMMIT');
          if (isCommit && next === 'crash') {
            next = 'pass';
            held = true;
            void crash().finally(() => client.destroy());
            return;
          }
          if (isCommit && next === 'lose commit') {
            next = 'pass';
            upstream.destroy();
            client.destroy();
            return;
          }
          muted ||= isCommit && next === 'lose answer';
          upstream.write(data);
        });
        upstream.on('data', (data) => {
          if (!muted) {
            client.write(data);
            return;
          }
          next = 'pass';
          client.destroy();
        });
        client.on('error', () => upstream.destroy()).on('close', () => upstream.destroy());
        // After a crash the client hears of it when the others have gone on.
        upstream
          .on('error', () => undefined)
          .on('close', () => {
            if (!held) client.destroy();
          });
      }).listen(0, '127.0.0.1');
      await new Promise((resolve) => proxy.once('listening', resolve));
      proxied = url.replace(/:\d+\//, `:${String((proxy.address() as AddressInfo).port)}/`);
    });
    afterAll(() => {
      proxy.close();
    });

    it.each([
      ['lose answer', 1],
      ['lose commit', 2],
    ] as const)('%s: a transaction that publishes is done exactly once', async (fault, expectedRuns) => {
      const database = await openOne(proxied);
      let runs = 0;
      let after = 0;
      const text = `${fault} ${newId('event')}`;
      const job = newId('job');
      await database.transaction(async (tx) => {
        runs += 1;
        await tx.query('INSERT INTO notes (text) VALUES ($1)', [text]);
        tx.publish(jobOffer, { shard: '00', agent: newId('agent'), job }, { job_id: job, kind: 'apply' }, text);
        tx.afterCommit(() => (after += 1));
        if (runs === 1) next = fault;
      });
      expect([runs, after]).toEqual([expectedRuns, 1]);
      expect(await database.query('SELECT 1 FROM notes WHERE text = $1', [text])).toHaveLength(1);
      expect(await database.query('SELECT 1 FROM outbox WHERE message_id = $1', [text])).toHaveLength(1);
      await database.query('DELETE FROM outbox');
    });

    it('does not take the commit of somebody else for its own, after a crash gave the number away', async () => {
      const database = await openOne(proxied);
      const text = `crash ${newId('event')}`;
      let runs = 0;
      await database.transaction(async (tx) => {
        await tx.query('INSERT INTO notes (text) VALUES ($1)', [text]);
        await tx.record(fact(newId('vendor')));
        runs += 1;
        if (runs === 1) next = 'crash';
      });
      expect(runs).toBe(2);
      expect(await database.query('SELECT 1 FROM notes WHERE text = $1', [text])).toHaveLength(1);
    });

    it('says so when it cannot know', async () => {
      const database = await openOne(proxied);
      const text = `unsure ${newId('event')}`;
      await expect(
        database.transaction(async (tx) => {
          await tx.query('INSERT INTO notes (text) VALUES ($1)', [text]);
          next = 'lose answer';
        }),
      ).rejects.toMatchObject({ code: 'unavailable' });
      expect(await database.query('SELECT 1 FROM notes WHERE text = $1', [text])).toHaveLength(1);
    });
  });
});
