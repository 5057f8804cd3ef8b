import { ImsError, newId } from '#contracts';
import { isUniqueViolation } from '#persistence';
import { freshDatabase, type FreshDatabase } from '#stack';
import { open, until, type Opened } from './fixtures.js';

describe('Database', () => {
  let fresh: FreshDatabase;
  let opened: Opened;
  let url: string;
  beforeAll(async () => {
    fresh = await freshDatabase();
    url = await fresh.provisionService('job-scheduler');
    opened = await open(url);
  });
  afterAll(async () => {
    await opened.close();
    await fresh.drop();
  });
  const notes = async (like: string): Promise<string[]> =>
    (
      await opened.database.query<{ text: string }>('SELECT text FROM notes WHERE text LIKE $1 ORDER BY id', [like])
    ).map((row) => row.text);

  it('gives the rows of every RETURNING, and bigint as a number', async () => {
    const { database } = opened;
    const rows = await database.transaction(async (tx) => [
      await tx.query<{ id: number }>(`INSERT INTO notes (text) VALUES ('a1'), ('a2') RETURNING id`),
      await tx.query(`UPDATE notes SET text = text || '!' WHERE text LIKE 'a_' RETURNING text`),
      await tx.query(`DELETE FROM notes WHERE text LIKE 'a_!' RETURNING text`),
      await tx.query(`UPDATE notes SET text = 'none' WHERE text = 'absent' RETURNING text`),
    ]);
    expect(rows.slice(1)).toEqual([[{ text: 'a1!' }, { text: 'a2!' }], [{ text: 'a1!' }, { text: 'a2!' }], []]);
    expect(typeof rows[0]?.[0]?.['id']).toBe('number');
    expect(await database.query('SELECT count(*) AS n FROM notes WHERE text = $1', ['a1!'])).toEqual([{ n: 0 }]);
  });

  it('rolls back when the work throws, and the error comes out as it is', async () => {
    const refused = new ImsError('conflict', 'not now');
    await expect(
      opened.database.transaction(async (tx) => {
        await tx.query(`INSERT INTO notes (text) VALUES ('b1')`);
        throw refused;
      }),
    ).rejects.toBe(refused);
    expect(await notes('b%')).toEqual([]);
  });

  it('tells a broken unique constraint', async () => {
    await opened.database.query(`INSERT INTO notes (text) VALUES ('c1')`);
    const error: unknown = await opened.database
      .query(`INSERT INTO notes (text) VALUES ('c1')`)
      .catch((e: unknown) => e);
    expect(isUniqueViolation(error)).toBe(true);
    expect(isUniqueViolation(error, 'notes_text_key')).toBe(true);
    expect(isUniqueViolation(error, 'other_key')).toBe(false);
    expect(isUniqueViolation(new Error('x'))).toBe(false);
  });

  it('shares the transaction with TypeORM', async () => {
    await expect(
      opened.database.transaction(async (tx) => {
        await tx.query(`INSERT INTO notes (text) VALUES ('d1')`);
        expect(await tx.manager.query(`SELECT text FROM notes WHERE text = 'd1'`)).toHaveLength(1);
        throw new Error('back');
      }),
    ).rejects.toThrow('back');
    expect(await notes('d%')).toEqual([]);
  });

  it('does not take a swallowed error for a commit', async () => {
    const { database } = opened;
    await expect(
      database.transaction(async (tx) => {
        await tx.query(`INSERT INTO notes (text) VALUES ('e1')`);
        await tx.query('SELECT 1/0').catch(() => undefined);
      }),
    ).rejects.toThrow(/caught and ignored/);
    expect(await notes('e%')).toEqual([]);
  });

  it('runs what is due after the commit, only after the commit', async () => {
    const seen: string[] = [];
    await opened.database.transaction(async (tx) => {
      tx.afterCommit(() => {
        throw new Error('a signal failed');
      });
      tx.afterCommit(() => seen.push('after'));
      await tx.query(`INSERT INTO notes (text) VALUES ('f1')`);
      seen.push('work');
    });
    await opened.database
      .transaction(async (tx) => {
        tx.afterCommit(() => seen.push('never'));
        await tx.query('SELECT 1/0');
      })
      .catch(() => undefined);
    expect(seen).toEqual(['work', 'after']);
  });

  it('begins again after a deadlock', async () => {
    const { database } = opened;
    await database.query(`INSERT INTO notes (text) VALUES ('g1'), ('g2')`);
    let runs = 0;
    let waiting = 0;
    const cross = async (first: string, second: string): Promise<void> => {
      await database.transaction(async (tx) => {
        runs += 1;
        await tx.query(`SELECT 1 FROM notes WHERE text = $1 FOR UPDATE`, [first]);
        waiting += 1;
        await until('both hold their first row', () => waiting >= 2);
        await tx.query(`SELECT 1 FROM notes WHERE text = $1 FOR UPDATE`, [second]);
      });
    };
    await Promise.all([cross('g1', 'g2'), cross('g2', 'g1')]);
    expect(runs).toBe(3);
  });

  it('begins again when its backend is killed in the middle', async () => {
    const { database } = opened;
    let runs = 0;
    const id = newId('event');
    await database.transaction(async (tx) => {
      runs += 1;
      await tx.query(`INSERT INTO notes (text) VALUES ($1)`, [`h ${id}`]);
      const [me] = await tx.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
      if (runs <= 2) await database.query('SELECT pg_terminate_backend($1)', [me?.pid]);
      await tx.query('SELECT 1');
    });
    expect(runs).toBe(3);
    expect(await notes('h %')).toEqual([`h ${id}`]);
  });

  it('answers `unavailable` when a statement takes too long, and the connection is used again', async () => {
    const error: unknown = await opened.database
      .transaction(async (tx) => {
        await tx.query(`SET LOCAL statement_timeout = 20`);
        await tx.query('SELECT pg_sleep(5)');
      })
      .catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'unavailable', detail: 'the database took too long over a statement' });
    expect(await opened.database.query('SHOW statement_timeout')).toEqual([{ statement_timeout: '30s' }]);
  });

  it('survives the loss of every idle connection', async () => {
    const { database } = opened;
    await Promise.all([1, 2, 3, 4].map(() => database.query('SELECT pg_sleep(0.01)')));
    await database.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
       WHERE usename = current_user AND pid <> pg_backend_pid() AND datname = current_database()`,
    );
    for (let i = 0; i < 10; i += 1) expect(await database.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await database.ping();
  });

  it('runs migrations once, when two replicas start at the same moment', async () => {
    const other = await fresh.provisionService('telemetry');
    const both = await Promise.all([open(other), open(other)]);
    const rows = await both[0].database.query('SELECT name FROM migrations ORDER BY id');
    expect(rows).toEqual([{ name: 'Foundation1700000000000' }, { name: 'Notes1800000000000' }]);
    for (const one of both) await one.close();
  });

  it('cannot see the schema of another service', async () => {
    const other = await fresh.provisionService('telemetry');
    const telemetry = await open(other);
    await expect(telemetry.database.query('SELECT 1 FROM job_scheduler.notes')).rejects.toThrow(/permission denied/);
    await telemetry.close();
  });

  it('fails at once on a wrong password, without the password in the error', async () => {
    const wrong = url.replace(/:[^:@/]+@/, ':wrong-password@');
    const error = await open(wrong).catch((e: unknown) => e as Error);
    expect(error).toBeInstanceOf(Error);
    expect((error as Error).message).toMatch(/password authentication failed/);
    expect((error as Error).message).not.toContain('wrong-password');
  });
});
