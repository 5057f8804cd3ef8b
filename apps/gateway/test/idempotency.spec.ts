import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { Client } from 'pg';
import {
  createApp,
  createEnrolmentToken,
  createVendor,
  getVendor,
  ImsError,
  LIMITS,
  listAgents,
  listApps,
  newId,
  type AgentId,
  type CreateVendor,
  type VendorId,
} from '#contracts';
import { freshDatabase, startNats } from '#stack';
import { Idempotency } from '../src/edge/idempotency.js';
import { OPERATOR_KEY, REGISTRY_URL } from './harness.js';
import * as sample from './samples.js';
import { startWorld, type World } from './world.js';

interface Account {
  vendor: { id: VendorId; name: string };
  api_key: string;
  registry: object;
  build_agent: { agent_id: string; token: string };
}

describe('requests that may be sent twice', () => {
  let world: World;
  let admin: Client;
  beforeAll(async () => {
    world = await startWorld({ startNats, freshDatabase });
    admin = new Client({ connectionString: world.databaseUrl });
    await admin.connect();
  });
  afterAll(async () => {
    await admin.end();
    await world.stop();
  });
  afterEach(() => world.scheduler.forget());

  const createOne = (idempotencyKey: string, body: object = { name: 'shop' }, key = world.key) =>
    world.gateway.send('POST', '/v1/apps', { key, body, headers: { 'idempotency-key': idempotencyKey } });
  const appsByCount = () => {
    world.scheduler.on(createApp, ({ app }) => sample.app(app));
    return () => world.scheduler.calls.length;
  };

  it('answers the same, status and Location too, and does it once; the order of keys in the body does not matter', async () => {
    const made = appsByCount();
    const first = await createOne('same', { name: 'shop', inputs: [] });
    const again = await createOne('same', { inputs: [], name: 'shop' });
    expect(made()).toBe(1);
    expect([again.status, again.body, again.headers.get('location')]).toEqual([
      201,
      first.body,
      first.headers.get('location'),
    ]);
    expect([first, again].map(({ headers }) => headers.get('idempotency-replayed'))).toEqual([null, 'true']);
  });

  it('refuses another body or another route under the key, and knows the keys of each caller apart', async () => {
    const made = appsByCount();
    await createOne('mine');
    const other = await createOne('mine', { name: 'other' });
    expect([other.status, other.body['code']]).toEqual([422, 'idempotency_mismatch']);
    const path = `/v1/apps/${newId('app')}/builds`;
    const route = await world.gateway.send('POST', path, { key: world.key, headers: { 'idempotency-key': 'mine' } });
    expect(route.body['code']).toBe('idempotency_mismatch');
    const stranger = await world.gateway.keyFor(newId('vendor'));
    expect((await createOne('mine', { name: 'other' }, stranger)).status).toBe(201);
    expect(made()).toBe(2);
  });

  it('lets one of many racers run; the others hear that it is still running, or get its answer', async () => {
    let finish = (): void => undefined;
    const held = new Promise<void>((resolve) => (finish = resolve));
    const made = sample.app();
    world.scheduler.on(createApp, async () => {
      await held;
      return made;
    });
    let refused = 0;
    const racers = Array.from({ length: 8 }, async () => {
      const answer = await createOne('race');
      // Seven refusals prove that all racers met while the one was running.
      if (answer.status === 409 && ++refused === 7) finish();
      return answer;
    });
    const answers = await Promise.all(racers);
    expect(world.scheduler.calls.length).toBe(1);
    expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array<number>(7).fill(409)]);
    expect(
      answers.filter(({ status }) => status === 409).every(({ body }) => body['code'] === 'idempotency_in_progress'),
    ).toBe(true);
    expect((await createOne('race')).body).toEqual(made);
    expect(world.scheduler.calls.length).toBe(1);
  });

  it('runs again after a failure, with the same key', async () => {
    world.scheduler.on(createApp, () => {
      throw new ImsError('unavailable', 'not now');
    });
    expect((await createOne('retry')).status).toBe(503);
    const { rows } = await admin.query('SELECT 1 FROM gateway.idempotency WHERE answer IS NULL');
    expect(rows).toEqual([]);
    const made = appsByCount();
    expect((await createOne('retry')).status).toBe(201);
    expect((await createOne('retry')).status).toBe(201);
    expect(made()).toBe(2);
  });

  it('takes over from a replica that died in the middle, and the dead one cannot overwrite the answer', async () => {
    let finish = (): void => undefined;
    world.scheduler.on(createApp, async () => {
      await new Promise<void>((resolve) => (finish = resolve));
      return sample.app({ name: 'late' });
    });
    const slow = createOne('takeover');
    while (world.scheduler.calls.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect((await createOne('takeover')).body['code']).toBe('idempotency_in_progress');
    await admin.query(`UPDATE gateway.idempotency SET running_until = now() WHERE answer IS NULL`);
    const finishSlow = finish;
    world.scheduler.on(createApp, () => sample.app({ name: 'taken-over' }));
    expect((await createOne('takeover')).body['name']).toBe('taken-over');
    finishSlow();
    await slow;
    expect((await createOne('takeover')).body['name']).toBe('taken-over');
  });

  it('forgets after a day', async () => {
    const made = appsByCount();
    await createOne('old');
    const age = `make_interval(secs => ${LIMITS.idempotencyMs / 1000})`;
    await admin.query(`UPDATE gateway.idempotency SET created_at = now() - ${age} - interval '1 minute'`);
    expect((await createOne('old', { name: 'other' })).status).toBe(201);
    expect(made()).toBe(2);
    await world.gateway.app.get(Idempotency).sweep();
    const { rows } = await admin.query<{ left: number }>('SELECT count(*)::int AS left FROM gateway.idempotency');
    expect(rows[0]?.left).toBe(1);
  });

  it('refuses a key that is none; does without one; and leaves reads alone', async () => {
    appsByCount();
    expect((await createOne('ä'.normalize().replace('ä', 'a b'))).body['code']).toBe('invalid_request');
    expect((await createOne('x'.repeat(256))).body['code']).toBe('invalid_request');
    world.scheduler.on(listApps, () => ({ data: [] }));
    const headers = { 'idempotency-key': 'read' };
    const read = await world.gateway.send('GET', '/v1/apps', { key: world.key, headers });
    expect([read.status, read.headers.get('idempotency-replayed')]).toEqual([200, null]);
  });

  describe('sign-up', () => {
    const signUp = (key: string, name = 'acme') =>
      world.gateway.send<Account>('POST', '/v1/vendors', {
        key: OPERATOR_KEY,
        body: { name },
        headers: { 'idempotency-key': key },
      });
    /** A scheduler that keeps vendors: names are unique, ids are the caller's. */
    const vendors = (loseReplies = 0) => {
      const made = new Map<string, { id: VendorId; agent: AgentId }>();
      let toLose = loseReplies;
      world.scheduler.on(createVendor, ({ vendor, vendor_id }: CreateVendor) => {
        if (made.has(vendor.name)) throw new ImsError('already_exists', vendor.name);
        const entry = { id: vendor_id ?? newId('vendor'), agent: newId('agent') };
        made.set(vendor.name, entry);
        if (toLose-- > 0) throw new ImsError('unavailable', 'the reply was lost');
        return { vendor: sample.vendor(entry.id, vendor.name), build_agent: sample.enrolmentTicket(entry.agent) };
      });
      const find = (id: string) => [...made].find(([, entry]) => entry.id === id);
      world.scheduler.on(getVendor, ({ vendor_id }) => {
        const found = find(vendor_id);
        if (found === undefined) throw new ImsError('not_found');
        return sample.vendor(vendor_id, found[0]);
      });
      world.scheduler.on(listAgents, ({ vendor_id }) => ({
        data: [
          {
            id: find(vendor_id)?.[1].agent,
            kind: 'build',
            presence: 'never_enrolled',
            slots: 4,
            running: 0,
            labels: {},
            created_at: '2026-01-02T03:04:05Z',
          },
        ],
      }));
      world.scheduler.on(createEnrolmentToken, ({ agent_id }) => sample.enrolmentTicket(agent_id));
      return made;
    };

    it('answers the account, whose key works, and the same secrets again under the same key', async () => {
      vendors();
      const first = await signUp('sign-up-1');
      expect(first.status).toBe(201);
      expect(first.body.registry).toEqual({ url: REGISTRY_URL, namespace: 'acme' });
      expect(first.headers.get('cache-control')).toBe('no-store');
      const again = await signUp('sign-up-1');
      expect(again.body).toEqual(first.body);
      const me = await world.gateway.send('GET', '/v1/vendor', { key: first.body.api_key });
      expect([me.status, me.body['id']]).toEqual([200, first.body.vendor.id]);
    });

    it('goes on with the vendor that an interrupted try has made, and leaves one key', async () => {
      vendors(1);
      expect((await signUp('sign-up-2', 'beta')).status).toBe(503);
      const { status, body } = await signUp('sign-up-2', 'beta');
      expect([status, body.vendor.name]).toEqual([201, 'beta']);
      expect((await world.gateway.send('GET', '/v1/vendor', { key: body.api_key })).status).toBe(200);
      const keys = await admin.query('SELECT 1 FROM gateway.api_keys WHERE vendor_id = $1', [body.vendor.id]);
      expect(keys.rowCount).toBe(1);
    });

    it('does not take another vendor of that name for its own', async () => {
      vendors();
      expect((await signUp('sign-up-3', 'gamma')).status).toBe(201);
      const { status, body } = await signUp('sign-up-4', 'gamma');
      expect([status, (body as unknown as { code: string }).code]).toEqual([409, 'already_exists']);
    });

    it('stores no secret of an answer in clear', async () => {
      vendors();
      const { body } = await signUp('sign-up-5', 'delta');
      const { rows } = await admin.query<{ answer: Buffer | null; row: string }>(
        'SELECT answer, idempotency::text AS row FROM gateway.idempotency',
      );
      const secrets = [body.api_key, body.build_agent.token, 'sign-up-5', OPERATOR_KEY, 'delta'];
      for (const { answer, row } of rows) {
        for (const secret of secrets) {
          expect(row.includes(secret)).toBe(false);
          expect(answer?.includes(secret) ?? false).toBe(false);
        }
      }
    });

    it('makes a further key for a vendor, which works', async () => {
      const made = vendors();
      const { body } = await signUp('sign-up-6', 'epsilon');
      const path = `/v1/vendors/${body.vendor.id}/keys`;
      const second = await world.gateway.send('POST', path, { key: OPERATOR_KEY });
      expect([second.status, second.body['vendor_id']]).toEqual([201, made.get('epsilon')?.id]);
      expect(second.body['api_key']).not.toBe(body.api_key);
      const me = await world.gateway.send('GET', '/v1/vendor', { key: String(second.body['api_key']) });
      expect(me.status).toBe(200);
      const unknown = await world.gateway.send('POST', `/v1/vendors/${newId('vendor')}/keys`, { key: OPERATOR_KEY });
      expect(unknown.status).toBe(404);
    });
  });
});
