import { Client, type ClientConfig, type PoolClient } from 'pg';
import { createLogger, sleep } from '#platform';
import { isOverloaded } from './pg-errors.js';

/** What `pg` knows of a connection and does not declare. */
interface Inner {
  readonly processID: number | null;
  readonly connection: { readonly stream: { destroy(error: Error): void } };
}
type Seen = ReadonlyMap<number, string>;

/** A statement without an answer for this long makes us ask whether its server still works at it. */
const PATIENCE_MS = 2_000;
const LOOK_EVERY_MS = 500;
const PROBE_MS = 2_000;
/** An answer may be on its way while we ask: only what is gone twice is gone. */
const VOTES = 2;

/**
 * Ends connections whose server has gone without a word: a host that lost its power or its network, a fail-over behind
 * the same address. No time-out of the server's ends such a statement, and TCP alone needs a quarter of an hour, or two
 * hours where nothing is sent. So the server is asked on a connection of its own for the processes behind ours. A
 * statement that its process still works at is left alone, however slow it is.
 */
export class Watchdog {
  private readonly logger = createLogger('database');
  private readonly known = new Set<PoolClient>();
  /** When the statement of a connection was sent: one at a time each. */
  private readonly waiting = new Map<PoolClient, number>();
  private readonly votes = new Map<PoolClient, number>();
  private watching = false;

  constructor(private readonly config: ClientConfig) {}

  /** The statement's answer; rejects as a lost connection does when the server is found gone, some 3 to 7 s after that. */
  async watch<T>(client: PoolClient, statement: () => Promise<T>): Promise<T> {
    if (!this.known.has(client)) {
      this.known.add(client);
      client.once('end', () => this.known.delete(client));
    }
    this.waiting.set(client, performance.now());
    if (!this.watching) void this.run();
    try {
      return await statement();
    } finally {
      this.waiting.delete(client);
    }
  }

  private async run(): Promise<void> {
    this.watching = true;
    while (this.waiting.size > 0) {
      await sleep(LOOK_EVERY_MS);
      if (this.stuck().length === 0) {
        this.votes.clear();
        continue;
      }
      const seen = await this.probe();
      if (seen === 'busy') continue;
      for (const client of this.known) this.judge(client, seen);
    }
    this.votes.clear();
    this.watching = false;
  }

  private stuck(): PoolClient[] {
    const before = performance.now() - PATIENCE_MS;
    return [...this.waiting].filter(([, since]) => since < before).map(([client]) => client);
  }

  /** States of the processes behind our connections, as the server tells now; none when it does not answer. */
  private async probe(): Promise<Seen | 'busy'> {
    const pids = [...this.known].map((client) => inner(client).processID);
    const client = new Client({ ...this.config, connectionTimeoutMillis: PROBE_MS, query_timeout: PROBE_MS });
    client.on('error', () => undefined);
    try {
      await client.connect();
      const { rows } = await client.query<{ pid: number; state: string | null }>(
        'SELECT pid, state FROM pg_stat_activity WHERE pid = ANY($1)',
        [pids],
      );
      return new Map(rows.map(({ pid, state }) => [pid, state ?? '']));
    } catch (error) {
      return isOverloaded(error) ? 'busy' : new Map();
    } finally {
      void client.end().catch(() => undefined);
    }
  }

  private judge(client: PoolClient, seen: Seen): void {
    const { processID, connection } = inner(client);
    const state = processID === null ? undefined : seen.get(processID);
    const since = this.waiting.get(client);
    const answered = since !== undefined && performance.now() - since > PATIENCE_MS && state?.startsWith('idle');
    if (state !== undefined && answered !== true) {
      this.votes.delete(client);
      return;
    }
    const votes = (this.votes.get(client) ?? 0) + 1;
    this.votes.set(client, votes);
    if (votes < VOTES) return;
    this.votes.delete(client);
    this.logger.warn({ pid: processID }, 'the server behind a database connection is gone');
    connection.stream.destroy(new Error('Connection terminated: its server does not answer'));
  }
}

const inner = (client: PoolClient): Inner => client as unknown as Inner;
