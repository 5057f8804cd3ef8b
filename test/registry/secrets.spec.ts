import 'reflect-metadata';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { connectNats, createNkey, nkeyFromSeed, userJwt } from '#messaging';
import { startService, type RunningService } from '#stack';
import { World } from '../../apps/registry-token/test/world.js';

/** Everything that leaves the process of registry-token, or stays behind: its output, its tables, its messages. */
describe('the secret of a pull token', () => {
  let world: World;
  let service: RunningService;
  const heard: string[] = [];
  let ear: { flush(): Promise<void>; close(): Promise<void> };

  beforeAll(async () => {
    world = await World.start(1);
    const { seed, publicKey: user } = createNkey('user');
    const { keys } = world.nats;
    const signer = nkeyFromSeed(keys.accountSeed);
    const permissions = { publish: ['>'], subscribe: ['>'] };
    const connection = await connectNats({
      servers: [world.nats.url],
      name: 'ear',
      inboxPrefix: '_INBOX.ear',
      credentials: { seed, jwt: userJwt({ name: 'ear', user, signer, account: keys.account, permissions }) },
    });
    connection.subscribe('>', {
      callback: (_error, message) => {
        const { headers = [] } = message;
        heard.push(JSON.stringify([message.subject, [...headers], message.string()]));
      },
    });
    await connection.flush();
    ear = connection;
    const env = { ...world.replicas[0], LOG_LEVEL: 'trace' };
    const logFile = join(world.dir, 'registry-token.log');
    service = await startService({ name: 'registry-token', env, logFile, readyUrl: `${world.urlOf(0)}/readyz` });
  });
  afterAll(async () => {
    await ear?.close();
    await service?.stop();
    await world?.stop();
  });

  it('is in no line of its output, no row of its tables and no message', async () => {
    const scope = `repository:${world.repository}:pull`;
    const issued = await Promise.all(Array.from({ length: 6 }, () => world.issue()));
    const [own, twice, stock, thief, wrong, odd] = issued.map(({ token }) => token) as [
      string,
      string,
      string,
      string,
      string,
      string,
    ];
    const scheduler = await world.startScheduler();
    expect((await world.redeem(own)).status).toBe(200);
    expect((await world.redeem(twice)).status).toBe(200);
    expect((await world.redeem(twice)).status).toBe(401);
    expect((await world.stock(stock)).status).toBe(200);
    expect((await world.stock(stock, scope)).status).toBe(200);
    expect((await world.redeem(thief, world.thief)).status).toBe(401);
    expect((await world.redeem(`${wrong}x`)).status).toBe(401);
    // At doors where it does not belong.
    await fetch(`${world.urlOf(0)}/token?account=${odd}&scope=${odd}`);
    await fetch(`${world.urlOf(0)}/${odd}`);
    await world.send(JSON.stringify({ token: odd }));
    await world.ask({ action: 'issue_pull_token', token: odd });
    // The database away in the middle of it: errors are logged with what belongs to them.
    await world.rows(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'registry_token'
                         AND datname = current_database()`);
    await world.redeem(odd);
    while (scheduler.held.length < 3) await new Promise((resolve) => setTimeout(resolve, 20));
    await scheduler.stop();
    await service.stop();
    await ear.flush();

    const output = readFileSync(service.logFile, 'utf8');
    const tables = await world.rows<{ name: string }>(
      `SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'registry_token'`,
    );
    const rows: string[] = [];
    for (const { name } of tables) {
      for (const { row } of await world.rows<{ row: string }>(`SELECT t::text AS row FROM ${name} t`)) rows.push(row);
    }
    expect([output.length > 500, rows.length > 20, heard.length > 20]).toEqual([true, true, true]);
    for (const { token, token_id: id } of issued) {
      const secret = token.split('.')[1]!;
      const forms = [secret, Buffer.from(secret).toString('hex'), Buffer.from(`${id}:${secret}`).toString('base64')];
      for (const form of forms) {
        expect(output.split('\n').filter((line) => line.includes(form))).toEqual([]);
        expect(rows.filter((row) => row.includes(form))).toEqual([]);
        expect(heard.filter((message) => message.includes(form))).toEqual([]);
      }
    }
  });
});
