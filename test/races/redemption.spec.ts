import 'reflect-metadata';
import { createServer, connect, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { it } from '@jest/globals';
import { Client } from 'pg';
import { newId, type InstallId, type IssuedPullToken } from '#contracts';
import { checkChains } from '#persistence';
import { freePort, startService, type RunningService } from '#stack';
import { until, World, type Answer } from '../../apps/registry-token/test/world.js';

/** `npm run test:races -- --seeds 20` runs the whole race 20 times, each on a fresh database; `npm test` a smaller one once. */
const SEEDS = Number(process.env['RACE_SEEDS'] ?? 1);
const TOKENS = Number(process.env['RACE_TOKENS'] ?? 150);
const RACERS = 20;
const REPLICAS = 3;
const LANES = 240;
/** An agent repeats a request for so long: the answer is kept for 10 s from the redemption on. */
const PATIENCE_MS = 9_000;
/** Answers between two kills of database connections: a slow machine is not killed faster than it answers. */
const KILL_EVERY = 20;

const startReplica = (world: World, replica: number, env: Record<string, string> = {}): Promise<RunningService> =>
  startService({
    name: `registry-token-${replica}`,
    app: 'registry-token',
    env: { ...world.replicas[replica], LOG_LEVEL: 'error', ...env },
    logFile: join(world.dir, `registry-token-${replica}.log`),
    readyUrl: `${world.urlOf(replica)}/readyz`,
  });

/** Sends the very same bytes, to one replica after the other, until there is an answer that is not about ourselves. */
async function persist(world: World, body: string, first: number): Promise<Answer> {
  const end = performance.now() + PATIENCE_MS;
  for (let replica = first; ; replica = (replica + 1) % REPLICAS) {
    const answer = await world.send(body, world.urlOf(replica)).catch((error: unknown) => error as Error);
    if (!(answer instanceof Error) && answer.status < 500) return answer;
    if (performance.now() > end) {
      throw new Error('no answer', { cause: answer instanceof Error ? answer.cause : answer.body });
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** A repeatable order: the seed alone decides it. */
function shuffled<T>(items: readonly T[], seed: number): T[] {
  let state = seed >>> 0;
  const next = (): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
  const keyed = items.map((item) => ({ item, key: next() }));
  return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item);
}

/** Tokens of as many jobs, of some installs. */
async function issueMany(world: World, installs: readonly InstallId[], count: number): Promise<IssuedPullToken[]> {
  return Promise.all(
    Array.from({ length: count }, (_, i) => world.issue({ install_id: installs[i % installs.length]! })),
  );
}

describe.each(Array.from({ length: SEEDS }, (_, i) => i + 1))('racing redemptions, seed %i', (seed) => {
  let world: World;
  let replicas: RunningService[];
  let scheduler: Awaited<ReturnType<World['startScheduler']>>;
  beforeAll(async () => {
    world = await World.start(REPLICAS);
    scheduler = await world.startScheduler();
    replicas = await Promise.all(world.replicas.map((_env, i) => startReplica(world, i)));
  });
  afterAll(async () => {
    await Promise.all(replicas.map((each) => each.stop()));
    await scheduler.stop();
    await world.stop();
  });

  it(`${TOKENS * RACERS} of ${TOKENS} tokens on ${REPLICAS} processes, connections and a process killed meanwhile: ${TOKENS} winners`, async () => {
    const installs = Array.from({ length: 25 }, () => newId('install'));
    const tokens: IssuedPullToken[] = [];
    while (tokens.length < TOKENS) tokens.push(...(await issueMany(world, installs, 50)));
    const racers = shuffled(
      tokens.flatMap((token) => Array.from({ length: RACERS }, () => token)),
      seed,
    );
    let killed = 0;
    let racing = true;
    let answered = 0;
    const killing = (async () => {
      for (let due = KILL_EVERY; racing; due += KILL_EVERY) {
        while (racing && answered < due) await new Promise((resolve) => setTimeout(resolve, 5));
        const [row] = await world.rows<{ killed: number }>(
          `SELECT count(pg_terminate_backend(pid))::int AS killed FROM (
               SELECT pid FROM pg_stat_activity WHERE usename = 'registry_token' AND datname = current_database()
                ORDER BY random() LIMIT 1) AS chosen`,
        );
        killed += row?.killed ?? 0;
      }
    })();
    const winners: IssuedPullToken[] = [];
    const queue = [...racers];
    let sent = 0;
    const lanes = Array.from({ length: LANES }, async () => {
      for (let racer = queue.pop(); racer; racer = queue.pop()) {
        sent += 1;
        // One racer is one request: its bytes, and with them its request id, stay the same however often it is sent.
        const body = world.request({ action: 'redeem_pull_token', token: racer.token });
        const { status } = await persist(world, body, sent % REPLICAS);
        answered += 1;
        if (status === 200) winners.push(racer);
        else expect(status).toBe(401);
      }
    });
    const restart = async (): Promise<void> => {
      while (sent < racers.length / 3 && racing) await new Promise((resolve) => setTimeout(resolve, 20));
      const victim = replicas[seed % REPLICAS]!;
      await victim.kill();
      await victim.start();
    };
    await Promise.all([...lanes, restart()])
      .catch((error: unknown) => {
        throw new Error(replicas.map((each) => `${each.name} ${String(each.pid)}: ${each.tail(3)}`).join('\n'), {
          cause: error,
        });
      })
      .finally(() => (racing = false));
    await killing;

    expect(winners).toHaveLength(TOKENS);
    expect(new Set(winners.map(({ token_id }) => token_id)).size).toBe(TOKENS);
    const counted = await world.rows<{ type: string; n: number }>(
      `SELECT type, count(*)::int AS n FROM events WHERE type IN ('token.redeemed', 'token.tampered') GROUP BY type`,
    );
    expect(new Map(counted.map(({ type, n }) => [type, n]))).toEqual(
      new Map([
        ['token.redeemed', TOKENS],
        ['token.tampered', TOKENS],
      ]),
    );
    for await (const { fault } of checkChains((sql, params) => world.rows(sql, [...(params ?? [])]))) {
      expect(fault).toBeUndefined();
    }
    expect(killed).toBeGreaterThan(5);
    await until('every job is held', () => new Set(scheduler.held.map(({ job_id }) => job_id)).size === TOKENS);
  }, 300_000);
});

/** Forwards connections; cuts the pair when what a client says, or what is answered to it, is the n-th piece since `arm`. */
class Scissors {
  private server: Server | undefined;
  private left: number | undefined;
  private where: 'asked' | 'answered' = 'asked';
  cuts = 0;

  constructor(private readonly target: number) {}

  async listen(): Promise<number> {
    const port = await freePort();
    this.server = createServer((client) => {
      const upstream = connect(this.target, '127.0.0.1');
      const end = (): void => {
        client.destroy();
        upstream.destroy();
      };
      for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
      client.on('data', (bytes) => this.pass('asked', bytes, upstream, end));
      upstream.on('data', (bytes) => this.pass('answered', bytes, client, end));
    });
    await new Promise<void>((resolve) => this.server?.listen(port, '127.0.0.1', resolve));
    return port;
  }

  arm(where: 'asked' | 'answered', piece: number): void {
    this.where = where;
    this.left = piece;
  }
  disarm(): void {
    this.left = undefined;
  }
  close(): void {
    this.server?.close();
  }

  private pass(where: 'asked' | 'answered', bytes: Buffer, to: Socket, end: () => void): void {
    if (this.left !== undefined && where === this.where && --this.left === 0) {
      this.left = undefined;
      this.cuts += 1;
      end();
    } else to.write(bytes);
  }
}

describe('a redemption that is cut', () => {
  let world: World;
  let replica: RunningService;
  let other: RunningService;
  let database: Scissors;
  let door: Scissors;
  let doorUrl: string;

  beforeAll(async () => {
    world = await World.start(2);
    const url = new URL(world.replicas[0]!['DATABASE_URL'] ?? '');
    database = new Scissors(Number(url.port));
    url.port = String(await database.listen());
    door = new Scissors(Number(world.replicas[0]!['HTTP_PORT']));
    doorUrl = `http://127.0.0.1:${await door.listen()}`;
    [replica, other] = await Promise.all([startReplica(world, 0, { DATABASE_URL: url.href }), startReplica(world, 1)]);
  });
  afterAll(async () => {
    database?.close();
    door?.close();
    await Promise.all([replica?.stop(), other?.stop()]);
    await world?.stop();
  });

  const redeemedOf = async (id: string): Promise<number> =>
    (await world.factsOf(id)).filter((type) => type === 'redeemed').length;
  const statusOf = async (id: string): Promise<string> =>
    (await world.rows<{ status: string }>('SELECT status FROM pull_tokens WHERE id = $1', [id]))[0]!.status;

  /** BEGIN, lock, update, heads, events, outbox, COMMIT, and what comes before and after: each piece of the dialogue. */
  const PIECES = Array.from({ length: 8 }, (_, i) => i + 1);
  it.each(PIECES.flatMap((piece) => [['asked', piece] as const, ['answered', piece] as const]))(
    'from the database, at what is %s, piece %i: used once, by its agent',
    async (where, piece) => {
      const { token, token_id: id } = await world.issue();
      const body = world.request({ action: 'redeem_pull_token', token });
      database.arm(where, piece);
      let answer = await world.send(body);
      database.disarm();
      if (answer.status === 503) answer = await world.send(body);
      expect(answer.status).toBe(200);
      expect([await statusOf(id), await redeemedOf(id)]).toEqual(['redeemed', 1]);
      expect((await world.factsOf(id)).includes('tampered')).toBe(false);
    },
  );

  it('was really cut', () => {
    expect(database.cuts).toBeGreaterThan(10);
  });

  it('by a kill of the process before the commit: unused, and its agent gets it', async () => {
    // The cuts before have cost it connections.
    await until('the replica is well', async () => (await fetch(`${world.urlOf(0)}/readyz`)).status === 200);
    const { token, token_id: id } = await world.issue();
    const body = world.request({ action: 'redeem_pull_token', token });
    // Whoever records a fact of this install waits: the transaction is as far as it can get without its commit. On a
    // connection of its own: one in a transaction goes on seeing the backends that were there when it first looked, and
    // after the cuts the redemption may come on a new one.
    const holder = new Client({ connectionString: world.adminUrl });
    await holder.connect();
    try {
      await holder.query('BEGIN');
      await holder.query(`SELECT 1 FROM registry_token.event_chains WHERE chain LIKE $1 FOR UPDATE`, [
        `%${world.install}`,
      ]);
      const lost = world.send(body).then(
        ({ status }) => `answered ${status}`,
        () => 'broken',
      );
      await until('the redemption waits', async () => {
        const waiting = await world.rows(
          `SELECT 1 FROM pg_stat_activity WHERE usename = 'registry_token' AND datname = current_database()
              AND wait_event_type = 'Lock'`,
        );
        return waiting.length > 0;
      });
      await replica.kill();
      expect(await lost).toBe('broken');
    } finally {
      // Also after a failure: what it locks would hold up every test that follows.
      await holder.end();
    }
    await until('the lost transaction is gone', async () => (await redeemedOf(id)) === 0);
    expect(await statusOf(id)).toBe('issued');
    expect((await world.send(body, world.urlOf(1))).status).toBe(200);
    await replica.start();
    expect([await statusOf(id), await redeemedOf(id)]).toEqual(['redeemed', 1]);
  });

  it('by a kill of the process after the commit, before the answer: used, and its agent gets the same again', async () => {
    const { token, token_id: id } = await world.issue();
    const body = world.request({ action: 'redeem_pull_token', token });
    door.arm('answered', 1);
    expect(await world.send(body, doorUrl).catch(() => 'broken')).toBe('broken');
    await replica.kill();
    expect(await statusOf(id)).toBe('redeemed');
    // The retry may go anywhere; a restart may take longer than the answer is kept.
    const again = await world.send(body, world.urlOf(1));
    expect([again.status, await redeemedOf(id)]).toEqual([200, 1]);
    const second = world.request({ action: 'redeem_pull_token', token });
    expect((await world.send(second, world.urlOf(1))).status).toBe(401);
  });
});
