import { createHash } from 'node:crypto';
import { type PoolClient, type QueryResult } from 'pg';
import { type DataSource, type EntityManager, type QueryRunner } from 'typeorm';
import {
  factRecorded,
  HEADERS,
  subjectOf,
  type Event,
  type ServiceName,
  type StreamMessage,
  type SubjectParts,
} from '#contracts';
import { backoffMs, createLogger, currentContext, sleep } from '#platform';
import { appendEvents, type NewEvent } from './events.js';
import {
  insertOutbox,
  OutboxRelay,
  type NewOutboxRow,
  type OutboxRow,
  type Publisher,
  type RelayMetrics,
  type StoredOutbox,
} from './outbox.js';
import { isConnectionLoss, isSerialization, isStalePlan, toCallerError } from './pg-errors.js';
import { Watchdog } from './watchdog.js';

/** One transaction. Its statements run one after another: never two at the same time. */
export interface Tx {
  /** The rows, for UPDATE, DELETE and INSERT … RETURNING too. `bigint` comes as a number, `numeric` as text. */
  query<T = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<T[]>;
  /** For entities and repositories of the service, in this transaction. */
  readonly manager: EntityManager;
  /** Stores the message in this transaction; it goes out right after the commit, and not at all after a rollback. */
  publish<B extends object>(contract: StreamMessage<B>, parts: SubjectParts, body: B, messageId: string): void;
  /** Appends a fact to its hash chain and publishes it. Locks the chain until the commit: do it last. */
  record(fact: NewEvent): Promise<Event>;
  /** The same for many facts, in this order, for the price of one. */
  recordAll(facts: readonly NewEvent[]): Promise<readonly Event[]>;
  /** Runs after the commit: signals, wake-ups. What it throws is logged and changes nothing. */
  afterCommit(work: () => void): void;
}

/** Together about 3 s: longer than a restart of PostgreSQL on the same host, shorter than any caller's time-out. */
const ATTEMPTS = 7;
const BACKOFF = { baseMs: 25, maxMs: 1_000 };
/** Where each try waits for a connection in vain, no other begins after this: callers wait for 10 s at most. */
const LOST_FOR_MS = 6_000;

const NO_METRICS: RelayMetrics = { published: () => undefined, failed: () => undefined, oldest: () => undefined };

/** The service's own schema in PostgreSQL. */
export class Database {
  private readonly logger = createLogger('database');
  private readonly relay: OutboxRelay;
  private readonly watchdog: Watchdog;

  constructor(
    readonly dataSource: DataSource,
    private readonly service: ServiceName,
    metrics: RelayMetrics = NO_METRICS,
  ) {
    const { url, applicationName } = dataSource.options as { url?: string; applicationName?: string };
    this.watchdog = new Watchdog({ connectionString: url, application_name: applicationName });
    this.relay = new OutboxRelay(
      {
        query: (sql, params) => this.query(sql, params),
        inTransaction: (work) => this.transaction((tx) => work(tx.query)),
      },
      createLogger('outbox'),
      metrics,
    );
  }

  /**
   * Runs the work in one READ COMMITTED transaction and resolves with its value after the commit. The work may run
   * several times (deadlock, serialisation failure, connection lost before the commit): nothing in it may have an
   * effect outside the database; that belongs into `publish` and `afterCommit`. Errors of the work come out as they
   * are, after the rollback; a database that does not answer is ImsError `unavailable`. That error after a lost
   * connection may mean that the transaction has been committed, when it recorded no fact.
   */
  async transaction<T>(work: (tx: Tx) => Promise<T>): Promise<T> {
    return this.retrying(async () => {
      const runner = this.dataSource.createQueryRunner();
      try {
        return await this.attempt(runner, work);
      } finally {
        await runner.release();
      }
    });
  }

  /**
   * One statement of its own. A SELECT whose connection is lost is sent again; any other statement is sent once, and
   * `unavailable` then means that it may have taken effect.
   */
  async query<T = Record<string, unknown>>(sql: string, params: readonly unknown[] = []): Promise<T[]> {
    const read = /^\s*select\b/i.test(sql);
    return this.retrying(async () => {
      const runner = this.dataSource.createQueryRunner();
      try {
        const client = await connect(runner);
        return await this.rowsOf<T>(client, sql, params).catch((error: unknown) => {
          if (isStalePlan(error)) end(client);
          throw read || isSerialization(error) || isStalePlan(error) ? error : new Final(error);
        });
      } finally {
        await runner.release();
      }
    });
  }

  /** The database's clock: the one that leases and expiries are measured with. */
  async now(): Promise<Date> {
    const [row] = await this.query<{ now: Date }>('SELECT clock_timestamp() AS now');
    if (!row) throw new Error('the database gave no time');
    return row.now;
  }

  /** Rejects when the database does not answer now. For readiness. */
  async ping(): Promise<void> {
    const runner = this.dataSource.createQueryRunner();
    try {
      await this.rowsOf(await connect(runner), 'SELECT 1', []);
    } finally {
      await runner.release();
    }
  }

  /** Begins to publish outbox rows, also those that an earlier process left. Once a process. */
  startRelay(publisher: Publisher): void {
    this.relay.start(publisher);
  }

  /** Sends what has been committed, then stops publishing. */
  async stopRelay(): Promise<void> {
    await this.relay.stop();
  }

  private async rowsOf<T>(client: PoolClient, sql: string, params: readonly unknown[]): Promise<T[]> {
    return (
      await this.watchdog.watch(client, () => client.query({ name: nameOf(sql), text: sql, values: [...params] }))
    ).rows as T[];
  }

  /** After a failed rollback the connection is ended: back in the pool it would carry the open transaction on. */
  private async rollback(runner: QueryRunner, client: PoolClient): Promise<void> {
    if (runner.isReleased) return;
    try {
      await this.watchdog.watch(client, () => client.query('ROLLBACK'));
    } catch {
      end(client);
    }
    (runner as { isTransactionActive: boolean }).isTransactionActive = false;
  }

  private async retrying<T>(once: () => Promise<T>): Promise<T> {
    let lostSince: number | undefined;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await once();
      } catch (error) {
        if (error instanceof Final) throw toCallerError(error.reason);
        const lost = isConnectionLoss(error);
        const now = performance.now();
        if (lost) lostSince ??= now;
        const over = attempt >= ATTEMPTS || (lost && now - (lostSince ?? now) > LOST_FOR_MS);
        const again = lost || isSerialization(error) || isStalePlan(error);
        if (over || !again) throw toCallerError(error);
        this.logger.debug({ err: error, attempt }, 'a transaction begins again');
        await sleep(backoffMs(attempt, BACKOFF));
      }
    }
  }

  private async attempt<T>(runner: QueryRunner, work: (tx: Tx) => Promise<T>): Promise<T> {
    const client = await connect(runner);
    const messages: NewOutboxRow[] = [];
    const recorded: string[] = [];
    const after: (() => void)[] = [];
    const query: Tx['query'] = (sql, params = []) => this.rowsOf(client, sql, params);
    const publish: Tx['publish'] = (contract, parts, body, messageId) => {
      messages.push(outboxRow(contract, parts, body, messageId));
    };
    let stored: StoredOutbox | undefined;
    const keep = (more: StoredOutbox): void => {
      stored = { rows: [...(stored?.rows ?? []), ...more.rows], xid: more.xid };
      messages.length = 0;
    };
    const recordAll: Tx['recordAll'] = async (facts) => {
      if (facts.length === 0) return [];
      const appended = await appendEvents(query, this.service, facts, (events) => {
        for (const event of events) {
          recorded.push(event.id);
          publish(factRecorded, { vendor: event.vendor_id, scope: event.install_id ?? '_' }, event, event.id);
        }
        return messages;
      });
      keep(appended.stored);
      return appended.events;
    };
    const tx: Tx = {
      query,
      manager: runner.manager,
      publish,
      recordAll,
      record: async (fact) => {
        const [event] = await recordAll([fact]);
        if (!event) throw new Error('the fact was not recorded');
        return event;
      },
      afterCommit: (callback) => {
        after.push(callback);
      },
    };

    let value: T;
    try {
      await this.watchdog.watch(client, () => runner.startTransaction());
      value = await work(tx);
      if (messages.length > 0) keep(await insertOutbox(query, messages));
    } catch (error) {
      await this.rollback(runner, client);
      if (isStalePlan(error)) end(client);
      throw error;
    }
    await this.commit(runner, client, stored && { ...stored, recorded });
    if (stored) this.relay.offer(stored.rows);
    for (const callback of after) {
      try {
        callback();
      } catch (error) {
        this.logger.error({ err: error }, 'work after a commit failed');
      }
    }
    return value;
  }

  /**
   * COMMIT, sent on the connection itself because TypeORM hides its answer: after a failed statement that the work
   * has swallowed, PostgreSQL answers ROLLBACK to a COMMIT, without an error.
   */
  private async commit(runner: QueryRunner, client: PoolClient, stored: Traces | undefined): Promise<void> {
    let answer: QueryResult;
    try {
      answer = await this.watchdog.watch(client, () => client.query('COMMIT'));
    } catch (error) {
      if (!isConnectionLoss(error)) {
        await this.rollback(runner, client);
        throw error;
      }
      if (stored === undefined) throw new Final(error);
      if (await this.wasCommitted(stored, error)) return;
      throw error; // rolled back for sure: begins again
    }
    // TypeORM has not seen the end of the transaction.
    (runner as { isTransactionActive: boolean }).isTransactionActive = false;
    if (answer.command !== 'COMMIT') {
      throw new Error('the transaction was rolled back: a failed statement in it was caught and ignored');
    }
  }

  /**
   * What became of a transaction whose COMMIT had no answer. PostgreSQL remembers by its number; but a server that
   * crashed has forgotten what it had not yet written, and gives the number to somebody else (seen: two writers took
   * each other's transaction for their own after a SIGKILL). So a commit counts only with something of ours to show:
   * a fact stays for ever, an outbox row until it is published, after which nobody can know.
   */
  private async wasCommitted({ xid, rows, recorded }: Traces, lost: unknown): Promise<boolean> {
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      const [row] = await this.query<{ state: string | null }>('SELECT pg_xact_status($1::xid8) AS state', [xid]).catch(
        () => [],
      );
      if (row?.state === 'aborted') return false;
      if (row?.state === 'committed') {
        const found = await this.query(
          `SELECT 1 FROM events WHERE id = ANY($1::text[]) UNION ALL
           SELECT 1 FROM outbox WHERE id = ANY($2::bigint[]) AND message_id = ANY($3::text[]) LIMIT 1`,
          [recorded, rows.map(({ id }) => id), rows.map(({ messageId }) => messageId)],
        );
        if (found.length > 0) return true;
        if (recorded.length > 0) return false;
        break;
      }
      // In progress: the server has not seen yet that the connection is gone.
      await sleep(backoffMs(attempt, BACKOFF));
    }
    throw new Final(lost);
  }
}

/** What a committed transaction has left behind. */
interface Traces {
  readonly xid: string;
  readonly rows: readonly OutboxRow[];
  /** Ids of its facts. */
  readonly recorded: readonly string[];
}

/** Not to be tried again: it may have taken effect. */
class Final extends Error {
  constructor(readonly reason: unknown) {
    super('final');
  }
}

async function connect(runner: QueryRunner): Promise<PoolClient> {
  return (await runner.connect()) as PoolClient;
}

/**
 * Statements are prepared once a connection: parsing and planning anew was a third of the server's work for a
 * deployment. All SQL here is static text, so there are about a hundred names.
 */
const names = new Map<string, string>();
function nameOf(sql: string): string {
  const name = names.get(sql) ?? createHash('sha256').update(sql).digest('base64url').slice(0, 24);
  names.set(sql, name);
  return name;
}

const end = (client: PoolClient): void =>
  void (client as unknown as { end(): Promise<void> }).end().catch(() => undefined);

function outboxRow<B extends object>(
  contract: StreamMessage<B>,
  parts: SubjectParts,
  body: B,
  messageId: string,
): NewOutboxRow {
  const context = currentContext();
  return {
    subject: subjectOf(contract, parts),
    headers: {
      [HEADERS.contract]: `${contract.name}/${contract.version}`,
      ...(context ? { [HEADERS.requestId]: context.requestId, [HEADERS.traceparent]: context.traceparent } : {}),
    },
    body: JSON.stringify(body),
    messageId,
  };
}
