import 'reflect-metadata';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import { getPullToken, LIMITS, listPullTokens, newId, revokePullToken, type JobId, type PullToken } from '#contracts';
import { type Bus } from '#messaging';
import { checkChains, Database } from '#persistence';
import { loadConfig, newContext, runInContext } from '#platform';
import { RegistryTokenConfig } from '../src/config.js';
import { PullTokens } from '../src/pull-tokens.js';
import { startRegistryToken } from '../src/registry-token.module.js';
import { until, World, type Answer } from './world.js';

describe('a pull token in wrong hands', () => {
  let world: World;
  let replicas: NestFastifyApplication[] = [];
  let scheduler: Awaited<ReturnType<World['startScheduler']>>;
  let gateway: Bus;
  const scope = (): string => `repository:${world.repository}:pull`;

  beforeAll(async () => {
    world = await World.start(2);
    for (const env of world.replicas) {
      replicas.push(await startRegistryToken(loadConfig(RegistryTokenConfig, env), { ownsProcess: false }));
    }
    scheduler = await world.startScheduler();
    gateway = await world.bus('gateway');
  });
  afterAll(async () => {
    await gateway?.connection.close();
    await scheduler?.stop();
    for (const app of replicas) await app.close();
    replicas = [];
    await world?.stop();
  });

  const heldFor = (job: JobId): number => scheduler.held.filter(({ job_id }) => job_id === job).length;
  const open = async (job: JobId): Promise<string[]> =>
    (await world.rows<{ id: string }>(`SELECT id FROM pull_tokens WHERE job_id = $1 AND status = 'issued'`, [job])).map(
      ({ id }) => id,
    );
  const late = (id: string): Promise<unknown> =>
    world.rows(`UPDATE pull_tokens SET expires_at = now() WHERE id = $1`, [id]);

  it.each<[string, string[], (token: string, id: string) => Promise<number>]>([
    [
      'twice by its agent',
      ['issued', 'redeemed', 'refused', 'tampered'],
      async (token) => {
        expect((await world.redeem(token)).status).toBe(200);
        return (await world.redeem(token)).status;
      },
    ],
    [
      'by another key',
      ['issued', 'refused', 'tampered', 'revoked'],
      async (token) => (await world.redeem(token, world.thief)).status,
    ],
    [
      'with a wrong secret',
      ['issued', 'refused', 'tampered', 'revoked'],
      async (token) => (await world.redeem(`${token}x`)).status,
    ],
    [
      'at the stock door after its use',
      ['issued', 'redeemed', 'refused', 'tampered'],
      async (token) => {
        expect((await world.redeem(token)).status).toBe(200);
        return (await world.stock(token, scope())).status;
      },
    ],
    [
      'to a login after its use',
      ['issued', 'looked', 'redeemed', 'refused', 'tampered'],
      async (token) => {
        expect((await world.stock(token)).status).toBe(200);
        expect((await world.stock(token, scope())).status).toBe(200);
        return (await world.stock(token)).status;
      },
    ],
    [
      'by a bearer after its time',
      ['issued', 'refused', 'tampered', 'revoked'],
      async (token, id) => {
        await late(id);
        return (await world.stock(token, scope())).status;
      },
    ],
  ])('presented %s: refused, a fact, everything of its job ended, the job held at once', async (_w, facts, act) => {
    const job = newId('job');
    const { token, token_id: id } = await world.issue({ job_id: job });
    expect(await act(token, id)).toBe(401);
    await until('the job is held', () => heldFor(job) === 1);
    expect(scheduler.held.at(-1)).toMatchObject({ vendor_id: world.vendor, hold: { code: 'token_tampered' } });
    expect(scheduler.held.at(-1)!.hold.detail).toContain(id);
    expect(await open(job)).toEqual([]);
    expect(await world.factsOf(id)).toEqual(facts);
    // Its own agent gets nothing for this attempt any more; a person lets the job go on with the next one.
    expect((await world.redeem(token)).status).toBe(401);
    const statement = world.statement('sync', { job_id: job });
    expect((await world.ask({ action: 'issue_pull_token', statement })).body['code']).toBe('stale_attempt');
    const next = await world.issue({ job_id: job, attempt: 2 });
    // Whoever goes on with the dead token is refused, and stops nothing any more.
    expect((await world.redeem(token, world.thief)).status).toBe(401);
    expect((await world.redeem(next.token)).status).toBe(200);
    expect(heldFor(job)).toBe(1);
    const row = await gateway.call(getPullToken, { vendor_id: world.vendor, token_id: id });
    expect(row.tampered_at).toBeDefined();
  });

  it('ends the open token of a job whose older token is presented', async () => {
    const job = newId('job');
    const old = await world.issue({ job_id: job });
    expect((await world.redeem(old.token)).status).toBe(200);
    const next = await world.issue({ job_id: job, attempt: 2 });
    expect((await world.stock(old.token, scope())).status).toBe(401);
    expect(await open(job)).toEqual([]);
    expect((await world.redeem(next.token)).status).toBe(401);
    expect(await world.factsOf(next.token_id)).toEqual(['issued', 'revoked', 'refused']);
    await until('the job is held', () => heldFor(job) === 1);
  });

  it('is no tampering when its own agent is late, or a login comes before the pull', async () => {
    const job = newId('job');
    const { token, token_id: id } = await world.issue({ job_id: job });
    expect((await world.stock(token)).status).toBe(200);
    await late(id);
    expect((await world.redeem(token)).status).toBe(401);
    await replicas[0]!.get(PullTokens).expire();
    expect((await world.redeem(token)).status).toBe(401);
    expect(await world.factsOf(id)).toEqual(['issued', 'looked', 'refused', 'expired', 'refused']);
    expect(await world.rows('SELECT * FROM tampered_jobs WHERE job_id = $1', [job])).toEqual([]);
  });

  it('answers every refusal alike at each door', async () => {
    const used = await world.issue();
    expect((await world.redeem(used.token)).status).toBe(200);
    const ended = await world.issue();
    await replicas[0]!.get(PullTokens).revoke(world.vendor, ended.token_id, `key:${newId('key')}`);
    const over = await world.issue();
    await late(over.token_id);
    const fresh = (): Promise<string> => world.issue().then(({ token }) => token);
    const unknown = `${newId('token')}.${'s'.repeat(43)}`;
    const shapeOf = ({ status, headers, body: { request_id: _request, ...body } }: Answer): string => {
      const names = [...headers].filter(([name]) => !['date', 'x-request-id', 'traceparent'].includes(name));
      return JSON.stringify([status, names.filter(([name]) => !name.includes('request')), body]);
    };
    const agents = [
      await world.redeem(used.token),
      await world.redeem(ended.token),
      await world.redeem(over.token),
      await world.redeem(unknown),
      await world.redeem(`${await fresh()}x`),
      await world.redeem('not-a-token-at-all-0000'),
      await world.redeem(await fresh(), world.thief),
    ];
    expect([...new Set(agents.map(shapeOf))]).toHaveLength(1);
    expect(agents[0]).toMatchObject({ status: 401, body: { code: 'pull_token_refused' } });
    const stock: Answer[] = [];
    for (const token of [used.token, ended.token, over.token, unknown, `${await fresh()}x`, 'a.b']) {
      for (const asked of [scope(), undefined]) {
        const response = await world.stock(token, asked);
        stock.push({
          status: response.status,
          headers: response.headers,
          body: (await response.json()) as Record<string, unknown>,
        });
      }
    }
    expect([...new Set(stock.map(shapeOf))]).toHaveLength(1);
  });

  it('holds the job when the scheduler comes back, once, on whichever replica', async () => {
    await scheduler.stop();
    const job = newId('job');
    const { token } = await world.issue({ job_id: job });
    await world.redeem(token, world.thief);
    await until('it was tried', async () => {
      const [row] = await world.rows<{ tries: number }>('SELECT tries FROM tampered_jobs WHERE job_id = $1', [job]);
      return (row?.tries ?? 0) >= 2;
    });
    scheduler = await world.startScheduler();
    await until('the job is held', () => heldFor(job) === 1);
    await until('nothing is left to tell', async () => {
      return (await world.rows('SELECT 1 FROM tampered_jobs WHERE told_at IS NULL')).length === 0;
    });
    expect(heldFor(job)).toBe(1);
  });

  it('gives up on a job that cannot be held any more, and on no other', async () => {
    await scheduler.stop();
    const [over, busy] = [newId('job'), newId('job')];
    let refusals = 0;
    scheduler = await world.startScheduler(({ job_id }) =>
      job_id === over ? { code: 'conflict' } : ++refusals === 1 ? { code: 'internal' } : undefined,
    );
    for (const job of [over, busy]) await world.redeem((await world.issue({ job_id: job })).token, world.thief);
    await until('both are told', async () => {
      const told = await world.rows('SELECT 1 FROM tampered_jobs WHERE told_at IS NOT NULL AND job_id = ANY($1)', [
        [over, busy],
      ]);
      return told.length === 2;
    });
    expect([heldFor(over), heldFor(busy)]).toEqual([1, 2]);
  });

  it('counts a flood, and records only its beginning', async () => {
    const { token, token_id: id } = await world.issue();
    await Promise.all(Array.from({ length: 130 }, () => world.redeem(token, world.thief)));
    const facts = await world.factsOf(id);
    expect(facts.filter((type) => type === 'refused')).toHaveLength(100);
    expect(facts.filter((type) => type === 'tampered')).toHaveLength(1);
    expect(await world.rows('SELECT presentations FROM pull_tokens WHERE id = $1', [id])).toEqual([
      { presentations: 130 },
    ]);
  });

  it('is revoked by a person of its vendor, and by nobody else', async () => {
    const { token, token_id: id } = await world.issue();
    const key = newId('key');
    const ask = { vendor_id: world.vendor, token_id: id };
    const revoke = (): Promise<PullToken> =>
      runInContext({ ...newContext(), actor: `key:${key}` }, () => gateway.call(revokePullToken, ask));
    const foreign = { ...ask, vendor_id: newId('vendor') };
    await expect(gateway.call(revokePullToken, foreign)).rejects.toMatchObject({ code: 'not_found' });
    await expect(gateway.call(getPullToken, foreign)).rejects.toMatchObject({ code: 'not_found' });
    expect((await revoke()).status).toBe('revoked');
    expect((await revoke()).status).toBe('revoked');
    expect((await world.redeem(token)).status).toBe(401);
    expect(await world.factsOf(id)).toEqual(['issued', 'revoked', 'refused']);
    expect(
      await world.rows(`SELECT actor FROM events WHERE type = 'token.revoked' AND data->>'token_id' = $1`, [id]),
    ).toEqual([{ actor: `key:${key}` }]);
    const used = await world.issue();
    await world.redeem(used.token);
    await expect(gateway.call(revokePullToken, { ...ask, token_id: used.token_id })).rejects.toMatchObject({
      code: 'conflict',
    });
    const { data } = await gateway.call(listPullTokens, {
      vendor_id: world.vendor,
      install_id: world.install,
      limit: 2,
    });
    expect(data.map(({ status }) => status)).toEqual(['redeemed', 'revoked']);
  });

  it('gives a credential whose life follows the size of the artifact', async () => {
    const lifeOf = async (bytes: number): Promise<number> => {
      const artifact = { repository: world.repository, digest: world.digest, media_type: 'x', size_bytes: bytes };
      const { body } = await world.redeem((await world.issue({ artifact })).token);
      return Date.parse(String(body['expires_at'])) - Date.now();
    };
    expect(Math.abs((await lifeOf(10)) - LIMITS.registryTokenMinMs)).toBeLessThan(2_000);
    expect(Math.abs((await lifeOf(200_000_000)) - LIMITS.registryTokenMinMs - 100_000)).toBeLessThan(2_000);
    expect(Math.abs((await lifeOf(1e12)) - LIMITS.registryTokenMs)).toBeLessThan(2_000);
  });

  it('does not let one odd request spoil those that come with it', async () => {
    const tokens = await Promise.all(Array.from({ length: 8 }, () => world.issue()));
    const answers = await Promise.all(
      tokens.map(({ token }, i) =>
        world.ask({
          action: 'redeem_pull_token',
          token,
          request_id: i === 3 ? 'odd\u0000\ud800 request' : `request-${i}`,
        }),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual(tokens.map(() => 200));
  });

  it('leaves chains that are whole', async () => {
    const database = replicas[0]!.get(Database);
    for await (const { events, fault } of checkChains((sql, params) => database.query(sql, params))) {
      expect([fault, events > 50]).toEqual([undefined, true]);
    }
  });
});
