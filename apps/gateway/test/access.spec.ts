import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import { Client } from 'pg';
import { getVendor, listApps, newId, type IdKind, type KeyId } from '#contracts';
import { freshDatabase, startNats } from '#stack';
import { mintApiKey } from '../src/access/api-key.js';
import { mayDo, rightOf } from '../src/access/roles.js';
import { paramsOf, ROUTES, type DeclaredRoute } from '../src/edge/routes.js';
import { Gateway, OPERATOR_KEY } from './harness.js';
import { startWorld, type World } from './world.js';

/** A body that each route with one accepts; a route without an entry here fails the suite. */
const BODIES: Record<string, object> = {
  signUpVendor: { name: 'acme' },
  createApp: { name: 'shop' },
  createComponent: { name: 'db', kind: 'terraform-module' },
  updateComponent: { kind: 'terraform-module' },
  createBuilds: {},
  createRelease: { version: '1.0.0' },
  createInstall: { app_id: newId('app'), name: 'one' },
  updateApp: {},
  updateInstall: {},
  deprovisionInstall: { reason: 'the account is closed' },
  approvePlan: {},
  rejectPlan: {},
  markBad: { reason: 'loses orders' },
  createChannel: { name: 'stable' },
  updateChannel: {},
  promoteRelease: { release_id: newId('release') },
  createRollout: { release_id: newId('release') },
  pauseRollout: {},
  resumeRollout: {},
  cancelRollout: {},
  enrolAgent: { token: 't'.repeat(30), public_key: `U${'A'.repeat(55)}`, version: '1.0.0' },
  renewAgent: { payload_type: 'application/json', payload: 'e30=', key_id: `U${'A'.repeat(55)}`, signature: 'AAAA' },
  createDeployment: { kind: 'teardown' },
  cancelDeployment: {},
  cancelJob: {},
  createWork: { jobs: [{ key: 'one', kind: 'noop', component: 'db' }] },
  extendWork: { jobs: [{ key: 'two', kind: 'noop', component: 'db' }] },
  retryDeployment: {},
  retryJob: {},
  skipJob: {},
  unlockJob: {},
  pauseAgent: {},
  resumeAgent: {},
  drainAgent: {},
  updateAgentSettings: {},
  redriveDeadLetter: {},
  discardDeadLetter: {},
  resumeJob: {},
  signIn: { code: 'c'.repeat(43) },
  createScopedApiKey: { name: 'pipeline', role: 'ci' },
  setRetention: { log_days: 30 },
  createWebhook: { url: 'https://hooks.example.com/in' },
  updateWebhook: { url: 'https://hooks.example.com/in' },
};
const pathOf = (route: DeclaredRoute): string =>
  paramsOf(route.path).reduce<string>(
    (path, name) => path.replace(`{${name}}`, newId(name.replace(/_id$/, '') as IdKind)),
    route.path,
  );
const title = (route: DeclaredRoute): string => `${route.method} ${route.path}`;

describe('who may call what', () => {
  let world: World;
  let gateway: Gateway;
  let vendorKey: string;

  beforeAll(async () => {
    world = await startWorld({ startNats, freshDatabase });
    gateway = world.gateway;
    vendorKey = world.key;
  });
  afterAll(() => world.stop());

  const send = (route: DeclaredRoute, key?: string) =>
    gateway.send(route.method, pathOf(route), {
      ...(key === undefined ? {} : { key }),
      ...(route.body === undefined ? {} : { body: BODIES[route.handler] }),
      headers: { 'if-match': '*' },
    });

  it('walks every route that there is', () => {
    expect(ROUTES.length).toBeGreaterThan(35);
    expect(ROUTES.filter((route) => route.body !== undefined && BODIES[route.handler] === undefined)).toEqual([]);
    const open = ROUTES.filter(({ access }) => access === 'public').map(title);
    expect(open.sort()).toEqual([
      'DELETE /v1/session',
      'GET /',
      'GET /errors/{code}',
      'GET /openapi.json',
      'POST /v1/agents/enrol',
      'POST /v1/agents/renew',
      'POST /v1/session',
    ]);
  });

  const unknownKey = mintApiKey(newId('key')).text;
  const damaged = `${unknownKey.slice(0, -1)}${unknownKey.endsWith('A') ? 'B' : 'A'}`;

  for (const route of ROUTES.filter(({ access }) => access !== 'public')) {
    it(`${title(route)} refuses strangers`, async () => {
      for (const key of [undefined, 'nonsense', unknownKey, damaged]) {
        const { status, headers, body } = await send(route, key);
        expect([status, body['code'], headers.get('www-authenticate')]).toEqual([401, 'unauthenticated', 'Bearer']);
        expect(headers.get('content-type')).toContain('application/problem+json');
      }
      const { status, body } = await send(route, route.access === 'vendor' ? OPERATOR_KEY : vendorKey);
      expect([status, body['code']]).toEqual([403, 'forbidden']);
    });
  }

  for (const route of ROUTES.filter(({ access, path }) => access === 'vendor' && path.includes('{'))) {
    it(`${title(route)} answers 404 to an id of another vendor, and asks nobody else about it`, async () => {
      // Pull tokens are registry-token's own: it is the one that knows whose they are.
      const others = route.path.startsWith('/v1/pull-tokens/') ? [world.telemetry] : [world.telemetry, world.tokens];
      const before = others.map((peer) => peer.calls.length);
      const { status, body } = await send(route, vendorKey);
      expect([status, body['code']]).toEqual([404, 'not_found']);
      expect(others.map((peer) => peer.calls.length)).toEqual(before);
    });

    it(`${title(route)} answers 404 to what is not an id, without asking anybody`, async () => {
      const before = world.scheduler.calls.length;
      const path = route.path.replace(/\{\w+\}/, 'app_*');
      const { status, body } = await gateway.send(route.method, path, {
        key: vendorKey,
        ...(route.body === undefined ? {} : { body: BODIES[route.handler] }),
        headers: { 'if-match': '*' },
      });
      expect([status, body['code']]).toEqual([404, 'not_found']);
      expect(world.scheduler.calls.length).toBe(before);
    });
  }

  it('takes the key from the header alone, in any case of `Bearer`', async () => {
    const app = await gateway.send('GET', '/v1/vendor', { headers: { authorization: `bearer ${vendorKey}` } });
    expect(app.status).toBe(404); // the scripted scheduler knows no vendor: the key was accepted
    expect((await gateway.send('GET', `/v1/vendor?api_key=${vendorKey}`)).status).toBe(401);
    const basic = Buffer.from(`x:${vendorKey}`).toString('base64');
    expect((await gateway.send('GET', '/v1/vendor', { headers: { authorization: `Basic ${basic}` } })).status).toBe(
      401,
    );
  });

  it('refuses a key whose secret is another key’s, and a revoked one', async () => {
    const other = await gateway.keyFor(newId('vendor'));
    const [, , id] = vendorKey.split('_');
    const [, , otherId] = other.split('_');
    const forged = mintApiKey(`key_${id}` as KeyId).text;
    expect((await gateway.send('GET', '/v1/apps', { key: forged })).status).toBe(401);
    await sql(world.databaseUrl, 'UPDATE gateway.api_keys SET revoked_at = now() WHERE id = $1', [`key_${otherId}`]);
    expect((await gateway.send('GET', '/v1/apps', { key: other })).status).toBe(401);
  });

  describe('a session of the web page', () => {
    const PAGE = { 'x-ims-page': '1' };
    const signIn = async (body: object) => {
      const { status, headers, body: session } = await gateway.send('POST', '/v1/session', { body });
      const cookie = headers.get('set-cookie') ?? '';
      return { status, session, set: cookie, cookie: cookie.split(';')[0] ?? '' };
    };
    beforeEach(() => {
      world.scheduler.on(getVendor, ({ vendor_id: id }) => ({ id, name: 'acme', created_at: '2026-01-01T00:00:00Z' }));
      world.scheduler.on(listApps, () => ({ data: [] }));
    });
    afterEach(() => world.scheduler.forget());

    it('stands for the key it was opened with until it is ended, and shows the key to nobody', async () => {
      const { status, session, set, cookie } = await signIn({ api_key: vendorKey });
      expect([status, session['vendor']]).toEqual([201, expect.objectContaining({ id: world.vendorId })]);
      expect(set).toMatch(/^ims_session=[\w-]{43}; Path=\/v1; HttpOnly; SameSite=Strict; Secure; Expires=/);
      expect(JSON.stringify([session, set])).not.toContain(vendorKey.split('_')[3]);
      const headers = { cookie };
      expect((await gateway.send('GET', '/v1/apps', { headers })).status).toBe(200);
      const rows = await sql<{ row: string }>(world.databaseUrl, 'SELECT s::text AS row FROM gateway.page_sessions s');
      expect(rows).toHaveLength(1);
      expect((await gateway.send('DELETE', '/v1/session', { headers: { ...headers, ...PAGE } })).status).toBe(200);
      expect((await gateway.send('GET', '/v1/apps', { headers })).status).toBe(401);
    });

    it('changes nothing for another site, nor without the page’s header', async () => {
      const { cookie } = await signIn({ api_key: vendorKey });
      const create = (headers: Record<string, string>) =>
        gateway.send('POST', '/v1/apps', { body: BODIES['createApp'], headers: { cookie, ...headers } });
      expect(await create({})).toMatchObject({ status: 403, body: { code: 'forbidden' } });
      expect((await create({ ...PAGE, 'sec-fetch-site': 'cross-site' })).status).toBe(403);
      expect((await create({ ...PAGE, 'sec-fetch-site': 'same-origin' })).status).toBe(404); // reached the scheduler
      const read = await gateway.send('GET', '/v1/apps', { headers: { cookie, 'sec-fetch-site': 'same-site' } });
      expect(read.status).toBe(403);
    });

    it('is opened by a link once, and by no key that is not in use', async () => {
      const { body } = await gateway.send('POST', '/v1/sign-in-links', { key: vendorKey });
      const [page, code = ''] = String(body['url']).split('#');
      expect(page).toBe('https://ims.example.test/sign-in');
      const racers = await Promise.all([1, 2, 3].map(() => signIn({ code })));
      expect(racers.map(({ status }) => status).sort()).toEqual([201, 401, 401]);
      // A code is no session.
      expect((await gateway.send('GET', '/v1/apps', { headers: { cookie: `ims_session=${code}` } })).status).toBe(401);
      expect((await signIn({ api_key: unknownKey })).status).toBe(401);
      expect((await signIn({ api_key: OPERATOR_KEY })).status).toBe(401);
      expect((await signIn({})).status).toBe(422);
    });
  });

  const makeKey = async (body: object, key = vendorKey) =>
    gateway.send<{ id: string; api_key: string; expires_at: string }>('POST', '/v1/api-keys', { key, body });

  for (const role of ['engineer', 'ci', 'read_only'] as const) {
    it(`a key of the role ${role} gets exactly what its rights give, on every route`, async () => {
      const { body: made } = await makeKey({ name: `for ${role}`, role });
      for (const route of ROUTES.filter(({ access }) => access === 'vendor')) {
        const { status, body } = await send(route, made.api_key);
        const refused = status === 403 && body['code'] === 'forbidden';
        expect([title(route), refused]).toEqual([title(route), !mayDo(role, rightOf(route))]);
      }
    });
  }

  it('leaves to look what only looks, and keys to their owner', () => {
    const needing = (right: string) => ROUTES.filter((route) => route.access === 'vendor' && rightOf(route) === right);
    expect(needing('administer').map(({ handler }) => handler)).toEqual(['createScopedApiKey', 'revokeApiKey']);
    expect(
      needing('read')
        .filter(({ method }) => method !== 'GET')
        .map(({ handler }) => handler),
    ).toEqual(['createSignInLink']);
    expect(mayDo('owner', 'administer')).toBe(true);
  });

  it('a key ends by itself or by its owner, and another vendor cannot see it', async () => {
    const past = await makeKey({ name: 'late', role: 'ci', expires_at: '2020-01-01T00:00:00Z' });
    expect(past.status).toBe(422);
    const { body: made } = await makeKey({ name: 'short', role: 'read_only' });
    expect(Date.parse(made.expires_at) - Date.now()).toBeGreaterThan(89 * 86_400_000);
    expect((await gateway.send('GET', '/v1/api-keys', { key: made.api_key })).status).toBe(200);
    const other = await gateway.keyFor(newId('vendor'));
    expect((await gateway.send('GET', `/v1/api-keys/${made.id}`, { key: other })).status).toBe(404);
    expect((await gateway.send('POST', `/v1/api-keys/${made.id}/revoke`, { key: other })).status).toBe(404);
    expect((await gateway.send('POST', `/v1/api-keys/${made.id}/revoke`, { key: vendorKey })).status).toBe(200);
    expect((await gateway.send('GET', '/v1/api-keys', { key: made.api_key })).status).toBe(401);
    const { body: brief } = await makeKey({ name: 'brief', role: 'read_only' });
    await sql(world.databaseUrl, 'UPDATE gateway.api_keys SET expires_at = now() WHERE id = $1', [brief.id]);
    expect((await gateway.send('GET', '/v1/api-keys', { key: brief.api_key })).status).toBe(401);
  });

  it('records who did what from where, refusals too, for its own vendor alone, and nobody can change it', async () => {
    const { body: made } = await makeKey({ name: 'watched', role: 'read_only' });
    // What PostgreSQL cannot store must not keep a deed out of the record.
    const unstorable = { name: '\0 \\u0000 \ud800', role: 'nobody' };
    for (const path of ['/v1/apps', '/v1/api-keys']) {
      expect((await gateway.send('POST', path, { key: made.api_key, body: unstorable })).status).toBe(403);
    }
    const kept = await gateway.send<{ data: Record<string, unknown>[] }>('GET', '/v1/audit?limit=2', {
      key: vendorKey,
    });
    expect(kept.body.data.map(({ request }) => request)).toEqual(
      [1, 2].map(() => ({ name: '\ufffd \\u0000 \ufffd', role: 'nobody' })),
    );
    expect(await makeKey({ name: 'a\0b', role: 'ci' })).toMatchObject({ status: 201, body: { name: 'a\ufffdb' } });
    const refused = await gateway.send('POST', '/v1/apps', { key: made.api_key, body: { name: 'shop' } });
    const records = await gateway.send<{ data: Record<string, unknown>[]; next_cursor?: string }>(
      'GET',
      '/v1/audit?limit=2',
      { key: vendorKey },
    );
    expect(records.body.data[0]).toMatchObject({
      action: 'createApp',
      actor: `key:${made.id}`,
      status: 403,
      code: 'forbidden',
      ip: '127.0.0.1',
      request: { name: 'shop' },
      request_id: refused.headers.get('x-request-id'),
    });
    expect(records.body.data[1]).toMatchObject({ action: 'createScopedApiKey', status: 201 });
    expect((await gateway.send('GET', '/v1/audit?actor=%00', { key: vendorKey })).status).toBe(422);
    expect(JSON.stringify(records.body)).not.toContain(made.api_key);
    expect(records.body.next_cursor).toBeDefined();
    const other = await gateway.send('GET', '/v1/audit', { key: await gateway.keyFor(newId('vendor')) });
    expect(other.body).toEqual({ data: [] });
    for (const text of ['UPDATE gateway.audit SET actor = $1', 'DELETE FROM gateway.audit WHERE actor <> $1']) {
      await expect(sql(world.databaseUrl, text, ['x'])).rejects.toThrow(/append-only/);
    }
  });

  describe('how often', () => {
    const limitsOf = ({ headers }: { headers: Headers }) => [headers.get('ratelimit-policy'), headers.get('ratelimit')];
    const replicas: Gateway[] = [];
    beforeAll(async () => {
      const few = {
        RATE_REQUESTS: '20',
        RATE_EXPENSIVE: '2',
        RATE_SIGN_INS: '5',
        RATE_ENROLMENTS: '4',
        TRUSTED_PROXIES: '127.0.0.0/8',
      };
      for (const _ of [1, 2]) replicas.push(await Gateway.start(world.infrastructure, few));
    });
    afterAll(() => Promise.all(replicas.map((replica) => replica.stop())));
    const first = (): Gateway => replicas[0] as Gateway;

    it('a key may call, at each replica, while another key is not held back by it', async () => {
      const key = await gateway.keyFor(newId('vendor'));
      const answers = [];
      for (let call = 0; call < 21; call++) answers.push(await first().send('GET', '/v1/api-keys', { key }));
      expect(answers.map(({ status }) => status)).toEqual([...Array.from({ length: 20 }, () => 200), 429]);
      expect(limitsOf(answers[0] as (typeof answers)[0])).toEqual([
        '"requests";q=20;w=60',
        expect.stringMatching(/^"requests";r=19;t=(60|5\d)$/),
      ]);
      const last = answers[20] as (typeof answers)[0];
      expect(last.body).toMatchObject({
        code: 'rate_limited',
        retry: 'wait',
        next: 'Wait for the time in Retry-After.',
      });
      expect(Number(last.headers.get('retry-after'))).toBeGreaterThan(0);
      expect((await first().send('GET', '/v1/api-keys', { key: vendorKey })).status).toBe(200);
    });

    it('a key may search, which does not drain what it may otherwise do', async () => {
      const key = await gateway.keyFor(newId('vendor'));
      const search = () => first().send('GET', `/v1/installs/${newId('install')}/logs`, { key });
      const answers = [await search(), await search(), await search()];
      expect(answers.map(({ status }) => status)).toEqual([404, 404, 429]);
      expect(limitsOf(answers[0] as (typeof answers)[0])).toEqual([
        '"requests";q=20;w=60, "expensive";q=2;w=60',
        expect.stringMatching(/^"requests";r=19;t=\d+, "expensive";r=1;t=\d+$/),
      ]);
      expect((await first().send('GET', '/v1/api-keys', { key })).status).toBe(200);
    });

    it('an address may try keys or enrol, at all replicas together, and a right key passes all the same', async () => {
      // What the tests before have tried is counted for 127.0.0.1.
      const headers = { 'x-forwarded-for': '192.0.2.1' };
      const code = 'c'.repeat(43);
      const statuses = [];
      for (let round = 0; round < 4; round++) {
        for (const replica of replicas) {
          const attempt = round % 2 === 0 ? { body: { code } } : { key: 'nonsense' };
          const [method, path] = round % 2 === 0 ? ['POST', '/v1/session'] : ['GET', '/v1/apps'];
          statuses.push((await replica.send(method, path, { ...attempt, headers })).status);
        }
      }
      expect(statuses).toEqual([401, 401, 401, 401, 401, 429, 429, 429]);
      expect((await first().send('GET', '/v1/api-keys', { key: vendorKey })).status).toBe(200);
      const enrol = (replica: Gateway) =>
        replica.send('POST', '/v1/agents/enrol', { body: BODIES['enrolAgent'], headers });
      for (const replica of [...replicas, ...replicas]) expect((await enrol(replica)).status).toBe(401);
      for (const replica of replicas) expect((await enrol(replica)).status).toBe(429);
    });
  });

  it('keeps no secret of a key in the database', async () => {
    const rows = await sql<{ row: string }>(world.databaseUrl, 'SELECT api_keys::text AS row FROM gateway.api_keys');
    const secret = vendorKey.split('_')[3] ?? '';
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.some(({ row }) => row.includes(secret.slice(0, 32)))).toBe(false);
  });
});

/** What the superuser sees in the gateway's tables. */
async function sql<T extends object>(url: string, text: string, params: unknown[] = []): Promise<T[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<T>(text, params)).rows;
  } finally {
    await client.end();
  }
}
