import 'reflect-metadata';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AddressInfo } from 'node:net';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import {
  type AgentRequest,
  inboxPrefix,
  JobStatement,
  listPullTokens,
  newId,
  PAYLOAD_TYPES,
  revokeJobTokens,
  signEnvelope,
  type Envelope,
  type IssuedPullToken,
  type JobKind,
  type RegistryAccess,
} from '#contracts';
import { Bus, connectNats, createNkey, nkeyFromSeed } from '#messaging';
import { createRegistryCertificate, pushArtifact, RegistryClient } from '#oci';
import { Database } from '#persistence';
import {
  freePort,
  freshDatabase,
  startNats,
  startRegistry,
  type FreshDatabase,
  type NatsServer,
  type RegistryServer,
} from '#stack';
import { RegistryTokenConfig } from '../src/config.js';
import { PullTokens } from '../src/pull-tokens.js';
import { startRegistryToken } from '../src/registry-token.module.js';

describe('registry-token with a real registry, broker and database', () => {
  const dir = mkdtempSync(join(tmpdir(), 'registry-token-'));
  const scheduler = nkeyFromSeed(createNkey('user').seed);
  const agent = nkeyFromSeed(createNkey('user').seed);
  const thief = nkeyFromSeed(createNkey('user').seed);
  const vendor = newId('vendor');
  const install = newId('install');
  const repository = 'acme/shop/web';
  let nats: NatsServer;
  let fresh: FreshDatabase;
  let registry: RegistryServer;
  let replicas: NestFastifyApplication[] = [];
  let urls: string[] = [];
  let gateway: Bus;
  let digest: string;
  const secrets: string[] = [];

  beforeAll(async () => {
    const ports = [await freePort(), await freePort()];
    urls = ports.map((port) => `http://127.0.0.1:${port}`);
    const certificate = await createRegistryCertificate();
    [nats, fresh, registry] = await Promise.all([
      startNats({ dir: join(dir, 'nats') }),
      freshDatabase(),
      startRegistry({
        dir: join(dir, 'registry'),
        auth: {
          realm: `${urls[0]}/token`,
          service: 'vendor-registry',
          issuer: 'registry-token',
          certPem: certificate.certificatePem,
        },
      }),
    ]);
    const creds = await nats.serviceCreds('registry-token');
    const databaseUrl = await fresh.provisionService('registry-token');
    for (const port of ports) {
      const config = Object.assign(new RegistryTokenConfig(), {
        DATABASE_URL: databaseUrl,
        NATS_URLS: [nats.url],
        NATS_JWT: creds.jwt,
        NATS_SEED: creds.seed,
        HTTP_HOST: '127.0.0.1',
        HTTP_PORT: port,
        JOB_KEYS: [scheduler.publicKey],
        TOKEN_HASH_KEY: 'k'.repeat(32),
        REGISTRY_SIGNING_KEY: certificate.privateKeyPem,
        REGISTRY_CERT: certificate.certificatePem,
        REGISTRY_ISSUER: 'registry-token',
        REGISTRY_SERVICE: 'vendor-registry',
        VENDOR_REGISTRY_KIND: 'distribution',
        VENDOR_REGISTRY_URL: registry.url,
      });
      replicas.push(await startRegistryToken(config, { ownsProcess: false }));
    }
    expect((replicas[0]!.getHttpServer().address() as AddressInfo).port).toBe(ports[0]);
    const gatewayCreds = await nats.serviceCreds('gateway');
    gateway = new Bus(
      await connectNats({
        servers: [nats.url],
        name: 'gateway',
        inboxPrefix: inboxPrefix('gateway'),
        credentials: gatewayCreds,
      }),
    );
    const { access } = await pushAccess(repository);
    const pushed = await pushArtifact({
      client: bearer(access.registry_token!),
      repository,
      artifactType: 'application/vnd.test',
      layers: [{ mediaType: 'text/plain', bytes: Buffer.from('hello') }],
    });
    digest = pushed.digest;
  });
  afterAll(async () => {
    await gateway?.connection.close();
    for (const app of replicas) await app.close();
    replicas = [];
    await Promise.all([nats?.stop(), registry?.stop()]);
    await fresh?.drop();
    rmSync(dir, { recursive: true, force: true });
  });

  const bearer = (token: string): RegistryClient =>
    new RegistryClient({
      baseUrl: registry.url,
      credential: { kind: 'bearer', token: () => Promise.resolve(token) },
      attempts: 1,
    });

  function statement(kind: JobKind, more: Partial<JobStatement> = {}, signer = scheduler): Envelope {
    const now = Date.now();
    const job: JobStatement = Object.assign(new JobStatement(), {
      job_id: newId('job'),
      attempt: 1,
      kind,
      vendor_id: vendor,
      agent_id: newId('agent'),
      agent_key: agent.publicKey,
      install_id: install,
      app_name: 'shop',
      component: { id: newId('component'), name: 'web', kind: 'container-image' },
      spec: { kind: 'container-image' },
      repository,
      artifact: {
        repository,
        digest: digest ?? `sha256:${'0'.repeat(64)}`,
        media_type: 'application/vnd.oci.image.manifest.v1+json',
        size_bytes: 1,
      },
      issued_at: new Date(now).toISOString(),
      expires_at: new Date(now + 60_000).toISOString(),
      ...more,
    });
    return signEnvelope(PAYLOAD_TYPES.job, job, signer);
  }

  async function ask(
    request: Partial<AgentRequest>,
    { signer = agent, replica = 0 } = {},
  ): Promise<{ status: number; body: Record<string, unknown> }> {
    const full = { request_id: randomUUID(), at: new Date().toISOString(), ...request };
    const response = await fetch(`${urls[replica]}/v1/agent-requests`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(signEnvelope(PAYLOAD_TYPES.agentRequest, full, signer)),
    });
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  }
  async function issue(more: Partial<JobStatement> = {}): Promise<IssuedPullToken> {
    const { status, body } = await ask({ action: 'issue_pull_token', statement: statement('sync', more) });
    expect(status).toBe(200);
    const issued = body as unknown as IssuedPullToken;
    secrets.push(issued.token.split('.')[1]!);
    return issued;
  }
  async function pushAccess(to: string): Promise<{ status: number; access: RegistryAccess }> {
    const { status, body } = await ask({
      action: 'issue_push_token',
      statement: statement('build', { repository: to }),
    });
    return { status, access: body as unknown as RegistryAccess };
  }
  const basic = (token: string): string => `Basic ${Buffer.from(token.replace('.', ':')).toString('base64')}`;
  const stock = (token: string, scope?: string): Promise<Response> =>
    fetch(`${urls[0]}/token?service=vendor-registry${scope ? `&scope=${scope}` : ''}`, {
      headers: { authorization: basic(token) },
    });
  const factsOf = (token: string): Promise<string[]> =>
    replicas[0]!
      .get(Database)
      .query<{ type: string }>(`SELECT type FROM events WHERE data->>'token_id' = $1 ORDER BY seq`, [
        token.split('.')[0],
      ])
      .then((rows) => rows.map(({ type }) => type));

  it('gives a pull of one repository for one redemption, and refuses the used token at both doors', async () => {
    const { token } = await issue();
    const { status, body } = await ask({ action: 'redeem_pull_token', token });
    expect(status).toBe(200);
    const access = body as unknown as RegistryAccess;
    const client = bearer(access.registry_token!);
    expect((await client.getManifest(repository, digest)).descriptor.digest).toBe(digest);
    await expect(
      pushArtifact({
        client,
        repository,
        artifactType: 'application/vnd.x',
        layers: [{ mediaType: 'text/plain', bytes: Buffer.from('evil') }],
      }),
    ).rejects.toMatchObject({ code: 'registry_denied' });
    const again = await ask({ action: 'redeem_pull_token', token });
    expect([again.status, again.body.code]).toEqual([401, 'pull_token_refused']);
    expect((await stock(token, `repository:${repository}:pull`)).status).toBe(401);
    expect(await factsOf(token)).toEqual([
      'token.issued',
      'token.redeemed',
      'token.refused',
      'token.tampered',
      'token.refused',
    ]);
  });

  it('answers the same agent and request again when its answer was lost, and nobody else', async () => {
    const { token } = await issue();
    const requestId = randomUUID();
    const redeem = { action: 'redeem_pull_token', token, request_id: requestId } as const;
    expect((await ask(redeem)).status).toBe(200);
    const again = await ask(redeem, { replica: 1 });
    expect(again.status).toBe(200);
    expect(bearer((again.body as unknown as RegistryAccess).registry_token!)).toBeDefined();
    const refusals = [
      await ask({ ...redeem, request_id: randomUUID() }),
      await ask(redeem, { signer: thief }),
      await ask({ ...redeem, token: `${token}x` }),
      await ask({ ...redeem, token: `${newId('token')}.abcdefghijklmnopqrstuvwxyz` }),
    ];
    // One indistinguishable answer, whatever the cause.
    const seen = refusals.map(({ status, body: { request_id: _request, ...body } }) => JSON.stringify([status, body]));
    expect(new Set(seen).size).toBe(1);
    expect(refusals[0]!.status).toBe(401);
  });

  it('lets exactly one of 60 racers on two replicas win', async () => {
    const { token } = await issue();
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, i) => ask({ action: 'redeem_pull_token', token }, { replica: i % 2 })),
    );
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1);
    expect(answers.filter(({ status }) => status === 401)).toHaveLength(59);
  });

  it('serves a stock client once; a login asks for nothing and burns nothing', async () => {
    const { token } = await issue();
    expect((await stock(token)).status).toBe(200);
    const pull = await stock(token, `repository:${repository}:pull,push`);
    expect(pull.status).toBe(200);
    const { token: jwt } = (await pull.json()) as { token: string };
    expect((await bearer(jwt).getManifest(repository, digest)).descriptor.digest).toBe(digest);
    expect((await stock(token, `repository:${repository}:pull`)).status).toBe(401);
    expect((await stock(token)).status).toBe(401);
  });

  it('takes the OAuth2 form too', async () => {
    const { token } = await issue();
    const [username, password] = token.split('.') as [string, string];
    const form = new URLSearchParams({
      grant_type: 'password',
      service: 'vendor-registry',
      username,
      password,
      scope: `repository:${repository}:pull`,
    });
    const response = await fetch(`${urls[0]}/token`, { method: 'POST', body: form });
    expect(response.status).toBe(200);
    expect(await response.json()).toHaveProperty('access_token');
  });

  it.each([
    ['signed by another than the scheduler', () => statement('sync', {}, thief), 'statement_refused'],
    ['stated for another agent', () => statement('sync', { agent_key: thief.publicKey }), 'statement_refused'],
    ['expired', () => statement('sync', { expires_at: new Date(Date.now() - 1).toISOString() }), 'statement_refused'],
    ['of another kind', () => statement('apply'), 'statement_refused'],
  ])('issues nothing for a statement %s', async (_why, make, code) => {
    const { status, body } = await ask({ action: 'issue_pull_token', statement: make() });
    expect([status, body.code]).toEqual([403, code]);
  });

  it('refuses a request that is old, and a token for an attempt that a later one has replaced', async () => {
    const old = await ask({
      action: 'issue_pull_token',
      statement: statement('sync'),
      at: new Date(Date.now() - 120_000).toISOString(),
    });
    expect(old.body.code).toBe('statement_refused');
    const job = newId('job');
    const first = await issue({ job_id: job, attempt: 1 });
    const second = await issue({ job_id: job, attempt: 2 });
    expect((await ask({ action: 'redeem_pull_token', token: first.token })).status).toBe(401);
    const stale = await ask({ action: 'issue_pull_token', statement: statement('sync', { job_id: job, attempt: 1 }) });
    expect(stale.body.code).toBe('stale_attempt');
    expect((await ask({ action: 'redeem_pull_token', token: second.token })).status).toBe(200);
  });

  it('gives nothing for an attempt that is over, whoever holds its statement, and goes on with the next', async () => {
    const tokens = replicas[0]!.get(PullTokens);
    const codeFor = async (kind: 'sync' | 'build', job_id: JobStatement['job_id'], attempt = 1): Promise<unknown> => {
      const action = kind === 'sync' ? 'issue_pull_token' : 'issue_push_token';
      return (await ask({ action, statement: statement(kind, { job_id, attempt }) })).body['code'];
    };
    for (const kind of ['sync', 'build'] as const) {
      const job = newId('job');
      expect(await codeFor(kind, job)).toBeUndefined();
      await tokens.revokeOf(vendor, job, 2);
      // The word of an earlier end may come late.
      await tokens.revokeOf(vendor, job, 1);
      expect([await codeFor(kind, job), await codeFor(kind, job, 2)]).toEqual(['stale_attempt', 'stale_attempt']);
      expect(await codeFor(kind, job, 3)).toBeUndefined();
    }
  });

  it('lets a build push to its own repository and to no other', async () => {
    const { access } = await pushAccess('acme/shop/database');
    const layers = [{ mediaType: 'text/plain', bytes: Buffer.from('x') }];
    const client = bearer(access.registry_token!);
    await pushArtifact({ client, repository: 'acme/shop/database', artifactType: 'application/vnd.x', layers });
    await expect(pushArtifact({ client, repository, artifactType: 'application/vnd.x', layers })).rejects.toMatchObject(
      { code: 'registry_denied' },
    );
  });

  it('lists tokens by install for its vendor alone, revokes those of a job, and expires what nobody redeemed', async () => {
    const job = newId('job');
    const { token, token_id: id } = await issue({ job_id: job });
    const listed = await gateway.call(listPullTokens, { vendor_id: vendor, install_id: install, limit: 1 });
    expect(listed.data.map((each) => [each.id, each.status])).toEqual([[id, 'issued']]);
    expect(listed.next_cursor).toBeDefined();
    expect((await gateway.call(listPullTokens, { vendor_id: newId('vendor'), install_id: install })).data).toEqual([]);
    await expect(gateway.call(revokeJobTokens, { vendor_id: vendor, job_id: job })).rejects.toMatchObject({
      code: 'forbidden',
    });
    await replicas[0]!.get(PullTokens).revokeOf(vendor, job);
    expect((await ask({ action: 'redeem_pull_token', token })).status).toBe(401);
    const late = await issue();
    await replicas[0]!.get(Database).query(`UPDATE pull_tokens SET expires_at = now() WHERE id = $1`, [late.token_id]);
    expect((await ask({ action: 'redeem_pull_token', token: late.token })).status).toBe(401);
    await Promise.all(replicas.map((app) => app.get(PullTokens).expire()));
    expect(await factsOf(late.token)).toEqual(['token.issued', 'token.refused', 'token.expired']);
  });

  it('has no secret of any token in any table', async () => {
    const database = replicas[0]!.get(Database);
    const tables = await database.query<{ name: string }>(
      `SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'registry_token'`,
    );
    expect(tables.length).toBeGreaterThan(3);
    expect(secrets.length).toBeGreaterThan(5);
    for (const { name } of tables) {
      const rows = JSON.stringify(await database.query(`SELECT t::text AS row FROM ${name} t`));
      for (const secret of secrets) expect(rows.includes(secret)).toBe(false);
    }
  });
});
