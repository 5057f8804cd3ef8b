import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Client } from 'pg';
import { Webhook as Signature } from 'standardwebhooks';
import { factRecorded, hashEvent, newId, type Event, type VendorId } from '#contracts';
import { freshDatabase, startNats } from '#stack';
import { isPublicAddress, post } from '../src/webhooks/post.js';
import { startWorld, type World } from './world.js';

interface Hook {
  id: string;
  secret: string;
  enabled: boolean;
  disabled_reason?: string;
  failing_since?: string;
}
interface Delivery {
  id: string;
  event_id?: string;
  event_type: string;
  status: string;
  attempts: number;
  last_status?: number;
  last_error?: string;
  next_attempt_at?: string;
}
interface Received {
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

function fact(vendor_id: VendorId, type: string): Event {
  const whole = {
    id: newId('event'),
    chain: `job-scheduler:${vendor_id}`,
    seq: 1,
    type,
    at: new Date().toISOString(),
    vendor_id,
    actor: 'service:job-scheduler',
    data: { name: type },
  };
  return { ...whole, prev_hash: '', hash: hashEvent('', whole) };
}

describe('webhooks', () => {
  let world: World;
  let database: Client;
  let endpoint: Server;
  let url: string;
  let received: Received[] = [];
  let answers = 200;

  beforeAll(async () => {
    world = await startWorld({ startNats, freshDatabase }, { WEBHOOK_PRIVATE_ADDRESSES: 'true' });
    database = new Client({ connectionString: world.databaseUrl });
    await database.connect();
    endpoint = createServer((request, response) => {
      let body = '';
      request.on('data', (chunk: Buffer) => {
        body += chunk.toString();
      });
      request.on('end', () => {
        received.push({ headers: request.headers, body });
        response.writeHead(answers, { location: '/elsewhere' }).end('an answer that nobody reads');
      });
    });
    await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}/hook`;
  });
  afterAll(async () => {
    endpoint.close();
    await database.end();
    await world.stop();
  });
  afterEach(async () => {
    received = [];
    answers = 200;
    await database.query('DELETE FROM gateway.webhooks');
  });

  const send = <T>(method: string, path: string, body?: object, headers: Record<string, string> = {}) =>
    world.gateway.send<T>(method, path, { key: world.key, headers, ...(body === undefined ? {} : { body }) });
  const create = async (settings: object = {}): Promise<Hook> => {
    const { status, body } = await send<Hook>('POST', '/v1/webhooks', { url, ...settings });
    expect(status).toBe(201);
    return body;
  };
  const record = async (event: Event, copy = ''): Promise<void> => {
    const parts = { vendor: event.vendor_id, scope: '_' };
    await world.scheduler.bus.publish(factRecorded, parts, event, `${event.id}${copy}`);
  };
  const deliveries = async ({ id }: Hook): Promise<Delivery[]> =>
    (await send<{ data: Delivery[] }>('GET', `/v1/webhooks/${id}/deliveries`)).body.data;
  /** The only delivery, once it is as it should be. */
  const settled = async (hook: Hook, good: (delivery: Delivery) => boolean): Promise<Delivery> => {
    const end = performance.now() + 60_000;
    for (;;) {
      const [first] = await deliveries(hook);
      if (first !== undefined && good(first)) return first;
      if (performance.now() > end) throw new Error(`it stays ${JSON.stringify(first)}`);
      await delay(20);
    }
  };
  const isDelivered = ({ status }: Delivery): boolean => status === 'delivered';
  /** The time of the next try has come. */
  const comeDue = (): Promise<unknown> =>
    database.query('UPDATE gateway.webhook_deliveries SET next_attempt_at = now()');

  it('get each fact that they ask for once, signed, whatever its double says', async () => {
    const hook = await create({ events: ['job.*', 'release.created'] });
    const wanted = fact(world.vendorId, 'job.failed');
    await record(fact(world.vendorId, 'deployment.created'));
    await record(fact(newId('vendor'), 'job.failed'));
    await record(wanted);
    await record(wanted, '.again');
    const last = fact(world.vendorId, 'release.created');
    await record(last);
    await settled(hook, (delivery) => delivery.event_id === last.id && isDelivered(delivery));
    const list = await deliveries(hook);
    expect(list.map(({ event_id }) => event_id).sort()).toEqual([wanted.id, last.id].sort());
    await settled(hook, () => received.length === 2);
    for (const { headers, body } of received) {
      const { type, data } = new Signature(hook.secret).verify(body, headers as Record<string, string>) as {
        type: string;
        data: Record<string, unknown>;
      };
      expect(list.map(({ id }) => id)).toContain(headers['webhook-id']);
      expect(data).toMatchObject({ vendor_id: world.vendorId, data: { name: type } });
      expect(() =>
        new Signature(`whsec_${Buffer.alloc(32).toString('base64')}`).verify(body, headers as never),
      ).toThrow();
    }
  });

  it('are told again after a failure under the same id, and once more on demand', async () => {
    answers = 500;
    const hook = await create();
    const test = await send<Delivery>('POST', `/v1/webhooks/${hook.id}/test`);
    expect([test.status, test.body.event_type]).toEqual([202, 'webhook.test']);
    const failed = await settled(hook, ({ last_status }) => last_status === 500);
    expect(failed).toMatchObject({ status: 'pending', attempts: 1, last_error: 'the endpoint answered 500' });
    expect((await send<Hook>('GET', `/v1/webhooks/${hook.id}`)).body.failing_since).toBeDefined();
    answers = 302;
    await comeDue();
    await settled(hook, ({ last_status }) => last_status === 302);
    answers = 204;
    await comeDue();
    expect(await settled(hook, isDelivered)).toMatchObject({ attempts: 3, last_status: 204 });
    expect((await send<Hook>('GET', `/v1/webhooks/${hook.id}`)).body.failing_since).toBeUndefined();
    expect((await send('POST', `/v1/webhook-deliveries/${failed.id}/redeliver`)).status).toBe(202);
    await settled(hook, (delivery) => isDelivered(delivery) && delivery.attempts === 4);
    expect(new Set(received.map(({ headers }) => headers['webhook-id']))).toEqual(new Set([failed.id]));
  });

  it('are tried for a day and given up, and turned off with the reason when nothing arrived for a day', async () => {
    answers = 503;
    const hook = await create();
    await send('POST', `/v1/webhooks/${hook.id}/test`);
    await settled(hook, ({ attempts, last_status }) => attempts === 1 && last_status === 503);
    await database.query('UPDATE gateway.webhook_deliveries SET tries = 10');
    await comeDue();
    await settled(hook, ({ status }) => status === 'failed');
    await database.query(`UPDATE gateway.webhooks SET failing_since = now() - interval '25 hours'`);
    const { body: second } = await send<Delivery>('POST', `/v1/webhooks/${hook.id}/test`);
    await settled(hook, ({ id, status }) => id === second.id && status === 'failed');
    const off = await send<Hook>('GET', `/v1/webhooks/${hook.id}`);
    expect(off.body).toMatchObject({ enabled: false, disabled_reason: 'nothing arrived for a day' });
    expect((await send('POST', `/v1/webhooks/${hook.id}/test`)).status).toBe(409);
    expect((await send('POST', `/v1/webhook-deliveries/${second.id}/redeliver`)).status).toBe(409);
    expect((await send('PUT', `/v1/webhooks/${hook.id}`, { url }, { 'if-match': '"old"' })).status).toBe(412);
    const etag = off.headers.get('etag') ?? '';
    const on = await send<Hook>('PUT', `/v1/webhooks/${hook.id}`, { url, enabled: true }, { 'if-match': etag });
    expect(on.body).toMatchObject({ enabled: true });
    expect([on.body.disabled_reason, on.body.failing_since]).toEqual([undefined, undefined]);
    answers = 410;
    await send('POST', `/v1/webhooks/${hook.id}/test`);
    await settled(hook, ({ last_status, status }) => last_status === 410 && status === 'failed');
    expect((await send<Hook>('GET', `/v1/webhooks/${hook.id}`)).body.disabled_reason).toContain('gone for good');
  });

  it('belong to their vendor, whose secret is shown once and is nowhere in clear', async () => {
    const hook = await create();
    const { body: sent } = await send<Delivery>('POST', `/v1/webhooks/${hook.id}/test`);
    await settled(hook, isDelivered);
    const key = await world.gateway.keyFor(newId('vendor'));
    const paths = [
      ['GET', `/v1/webhooks/${hook.id}`],
      ['DELETE', `/v1/webhooks/${hook.id}`],
      ['POST', `/v1/webhooks/${hook.id}/test`],
      ['POST', `/v1/webhooks/${hook.id}/rotate-secret`],
      ['GET', `/v1/webhooks/${hook.id}/deliveries`],
      ['GET', `/v1/webhook-deliveries/${sent.id}`],
      ['POST', `/v1/webhook-deliveries/${sent.id}/redeliver`],
    ] as const;
    for (const [method, path] of paths) {
      expect([path, (await world.gateway.send(method, path, { key })).status]).toEqual([path, 404]);
    }
    expect((await world.gateway.send('GET', '/v1/webhooks', { key })).body).toEqual({ data: [] });
    const rotated = await send<Hook>('POST', `/v1/webhooks/${hook.id}/rotate-secret`);
    const rows = await database.query<{ row: string }>(`
      SELECT w::text || encode(sealed_secret, 'escape') AS row FROM gateway.webhooks w
      UNION ALL SELECT a::text FROM gateway.audit a UNION ALL SELECT d::text FROM gateway.webhook_deliveries d`);
    for (const secret of [hook.secret, rotated.body.secret]) {
      const raw = Buffer.from(secret.replace('whsec_', ''), 'base64');
      for (const form of [secret.slice(6), raw.toString('hex'), raw.toString('latin1')]) {
        expect(rows.rows.some(({ row }) => row.includes(form))).toBe(false);
      }
    }
    await send('POST', `/v1/webhook-deliveries/${sent.id}/redeliver`);
    await settled(hook, ({ attempts, status }) => attempts === 2 && status === 'delivered');
    const { headers, body } = received.at(-1) as Received;
    expect(() => new Signature(rotated.body.secret).verify(body, headers as Record<string, string>)).not.toThrow();
    expect(() => new Signature(hook.secret).verify(body, headers as Record<string, string>)).toThrow();
  });

  it('lead to the public internet alone, however the address is written', async () => {
    for (const address of ['127.0.0.1', '10.1.2.3', '169.254.169.254', '100.64.1.1', '0.0.0.0', '255.255.255.255'])
      expect([address, isPublicAddress(address)]).toEqual([address, false]);
    for (const address of ['::1', '::', 'fe80::1', 'fd00::1', '::ffff:127.0.0.1', '64:ff9b::7f00:1', '2002:7f00:1::'])
      expect([address, isPublicAddress(address)]).toEqual([address, false]);
    for (const address of ['1.1.1.1', '2606:4700::1111'])
      expect([address, isPublicAddress(address)]).toEqual([address, true]);
    const options = { allowPrivate: false, timeoutMs: 5_000 };
    const { port } = new URL(url);
    for (const host of ['127.0.0.1', 'localhost', '[::1]', '0x7f.1', '2130706433', '[::ffff:7f00:1]']) {
      await expect(post(`https://${host}:${port}/`, '{}', {}, options)).rejects.toThrow(/not on the public internet/);
    }
    await expect(post(url, '{}', {}, options)).rejects.toThrow(/https/);
    expect(received).toEqual([]);
    const odd = await create({ events: null, enabled: null, description: 'a\0b' });
    expect(odd).toMatchObject({ events: ['*'], enabled: true, description: 'a\ufffdb' });
    for (const bad of [{ url: 'https://a:b@example.com' }, { url: 'ftp://example.com' }, { url, events: ['job'] }]) {
      expect((await send('POST', '/v1/webhooks', bad)).status).toBe(422);
    }
  });
});
