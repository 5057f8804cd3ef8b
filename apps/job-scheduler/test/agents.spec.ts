import {
  createApp,
  createBuilds,
  createEnrolmentToken,
  createInstall,
  createRelease,
  createVendor,
  enrolAgent,
  getAgent,
  getApp,
  getBuild,
  getComponent,
  getDeployment,
  getInstall,
  getJob,
  getRelease,
  getVendor,
  listApps,
  listComponents,
  newId,
  revokeAgent,
  cancelJob,
  createDeployment,
  listDeployments,
  listAttempts,
  LIMITS,
  PAYLOAD_TYPES,
  readEnrolmentToken,
  renewAgent,
  signEnvelope,
  type Signer,
  type Welcome,
} from '#contracts';
import { createNkey, readNatsJwt } from '#messaging';
import { freshDatabase, startNats } from '#stack';
import { Revocations } from '../src/agents/revocations.js';
import { ScriptedAgent } from './agent.js';
import { codeOf, newToken, until, World, type Shop } from './world.js';

let world: World;
let shop: Shop;
beforeAll(async () => {
  world = await World.start({ startNats, freshDatabase });
  shop = await world.shop({ a: {} });
});
afterAll(() => world.stop());

const request = (token: string) => {
  const { id: token_id, proof } = readEnrolmentToken(token)!;
  return { token_id, proof, public_key: createNkey('user').publicKey, version: '1.0.0' };
};

const enrolment = () => {
  const { id: token_id, verifier } = newToken();
  return { token_id, verifier };
};

describe('an enrolment token', () => {
  it('works once, whoever races, and a second use is recorded', async () => {
    const { install, token } = await world.bareInstall(shop, 'race');
    const racers = await Promise.all(
      Array.from({ length: 6 }, () => codeOf(world.gateway.call(enrolAgent, request(token)))),
    );
    expect(racers.toSorted()).toEqual([...Array.from({ length: 5 }, () => 'enrolment_refused'), 'nothing']);
    const facts = await world.facts(install.id);
    expect(facts.filter((type) => type === 'agent.enrolled')).toHaveLength(1);
    expect(facts.filter((type) => type === 'agent.enrolment_refused')).toHaveLength(5);
  });

  it.each([
    ['of nobody', () => request(newToken().text)],
    // That goes over the broker when a token is made, and stands in the database.
    ['known by its verifier alone', (token: string, verifier: string) => ({ ...request(token), proof: verifier })],
  ])('that is %s is refused like any other', async (name, make) => {
    const { install, token } = await world.bareInstall(shop, name.replaceAll(' ', '-'));
    const [row] = await world.sql<{ hash: Buffer }>(
      'SELECT secret_hash AS hash FROM enrolment_tokens WHERE agent_id = $1',
      [install.agent_id],
    );
    const asked = make(token, `sha256:${row!.hash.toString('hex')}`);
    expect(await codeOf(world.gateway.call(enrolAgent, asked))).toBe('enrolment_refused');
  });

  it('that has expired is refused', async () => {
    const { install, token } = await world.bareInstall(shop, 'late');
    await world.sql('UPDATE enrolment_tokens SET expires_at = now() WHERE agent_id = $1', [install.agent_id]);
    expect(await codeOf(world.gateway.call(enrolAgent, request(token)))).toBe('enrolment_refused');
  });

  it('is not burned by a request that is not sound', async () => {
    const { token } = await world.bareInstall(shop, 'typo');
    const bad = { ...request(token), public_key: 'U'.repeat(56) };
    expect(await codeOf(world.gateway.call(enrolAgent, bad))).toBe('invalid_request');
    expect(await codeOf(world.gateway.call(enrolAgent, request(token)))).toBe('nothing');
  });

  it('gives an identity that is limited to the agent, and what it needs to work', async () => {
    const { install, agent } = await world.install(shop, 'identity');
    const { enrolment } = agent;
    expect(readNatsJwt(enrolment.nats_jwt).tags).toContain(`agent:${install.agent_id}`);
    expect(enrolment).toMatchObject({
      kind: 'install',
      install_id: install.id,
      registry_token_url: 'https://tokens.example.test',
      vendor_registry: { url: 'https://registry.example.test', namespace: shop.account.vendor.name },
    });
    expect(enrolment.vendor_keys).toHaveLength(1);
    expect(enrolment.vendor_keys[0]).toContain('PUBLIC KEY');
  });

  it('for an agent that has one already keeps agent and install, and ends what the old key ran', async () => {
    const { install, agent } = await world.install(shop, 'moved');
    const [build] = await world.build(shop, ['a']);
    await shop.builder.work([build!.job_id]);
    await world.job(shop, build!.job_id, 'succeeded');
    const release = await world.gateway.call(createRelease, {
      vendor_id: shop.vendor,
      app_id: shop.app.id,
      release: { version: '1.0.1' },
    });
    const deployment = await world.deploy(shop, install, release);
    const job = (await world.jobs(shop, deployment)).get('sync:a')!;
    await agent.claim(job.id);
    const ref = { vendor_id: shop.vendor, agent_id: install.agent_id };
    const token = await world.token(ref);
    const again = await world.enrol(token);
    expect(again.enrolment).toMatchObject({ agent_id: install.agent_id, install_id: install.id });
    await until('the old key is refused', async () => (await agent.knock()) !== '');
    await until('the job is free', async () => (await world.readJob(shop, job.id)).status === 'queued');
    const { statement } = await again.run(job.id);
    expect(statement.attempt).toBe(2);
    expect(statement.agent_key).toBe((await world.gateway.call(getAgent, ref)).public_key);
  });
});

describe('an agent whose JWT has ended', () => {
  const asks = (agent: ScriptedAgent, more: object = {}, signer: Signer = agent.signer): Promise<Welcome> => {
    const renewal = { agent_id: agent.id, at: new Date().toISOString(), version: '1.0.0', ...more };
    return world.gateway.call(renewAgent, signEnvelope(PAYLOAD_TYPES.agentRenewal, renewal, signer));
  };

  it('gets another for a request that its key has signed, just now', async () => {
    const { agent } = await world.install(shop, 'slept');
    const { nats_jwt } = await asks(agent);
    expect(readNatsJwt(nats_jwt)).toMatchObject({ subject: agent.publicKey });
    const late = { at: new Date(Date.now() - 120_000).toISOString() };
    expect(await codeOf(asks(agent, late))).toBe('statement_refused');
  });

  it('gets none for a request of another key, of a key that was replaced, or when it is revoked', async () => {
    const { install, agent } = await world.install(shop, 'slept-badly');
    expect(await codeOf(asks(agent, {}, shop.builder.signer))).toBe('agent_revoked');
    expect(await codeOf(asks(agent, { protocol: LIMITS.agentProtocolMin - 1 }))).toBe('agent_too_old');
    const ref = { vendor_id: shop.vendor, agent_id: install.agent_id };
    const token = await world.token(ref);
    const again = await world.enrol(token);
    expect(await codeOf(asks(agent))).toBe('agent_revoked');
    await world.gateway.call(revokeAgent, ref);
    expect(await codeOf(asks(again))).toBe('agent_revoked');
  });
});

describe('a revocation', () => {
  it('cuts the live connection within two seconds and holds against a reconnect; other agents stay', async () => {
    const { install, agent } = await world.install(shop, 'cut');
    const { agent: neighbour } = await world.install(shop, 'neighbour');
    let ends = 0;
    void (async () => {
      for await (const { type } of neighbour.bus.connection.status()) if (type === 'disconnect') ends++;
    })();
    const cut = new Promise<void>((resolve) => {
      void (async () => {
        for await (const { type } of agent.bus.connection.status()) if (type === 'disconnect') resolve();
      })();
    });
    const started = performance.now();
    await world.gateway.call(revokeAgent, { vendor_id: shop.vendor, agent_id: install.agent_id });
    await cut;
    expect(performance.now() - started).toBeLessThan(2_000);
    expect(await agent.knock()).toMatch(/authorization/i);
    await neighbour.hello();
    expect(ends).toBe(0);
    expect(await world.facts(install.id)).toEqual(expect.arrayContaining(['agent.revoked', 'agent.key_revoked']));
  });

  it('that could not be pushed is pushed by the next process, and is stated again when a server lost it', async () => {
    const { install, agent } = await world.install(shop, 'while-away');
    const [old] = world.schedulers;
    await world.removeScheduler(old!);
    // As a process leaves it that ends between its commit and its push.
    await world.atRest(
      `INSERT INTO revoked_keys (public_key, agent_id) SELECT public_key, id FROM agents WHERE id = $1`,
      [install.agent_id],
    );
    expect(await agent.knock()).toBe('');
    await world.addScheduler();
    await until('the key is refused', async () => (await agent.knock()) !== '');
    await until('it is recorded', async () => (await world.facts(install.id)).includes('agent.key_revoked'));
    await world.forgetRevocations();
    expect(await agent.knock()).toBe('');
    await world.schedulers[0]!.get(Revocations).settle(true);
    expect(await agent.knock()).toMatch(/authorization/i);
  });

  it('of many agents at once by two replicas loses none', async () => {
    const second = await world.addScheduler();
    const victims = await Promise.all(Array.from({ length: 6 }, (_, i) => world.install(shop, `victim-${i}`)));
    await Promise.all(
      victims.map(({ install }) =>
        world.gateway.call(revokeAgent, { vendor_id: shop.vendor, agent_id: install.agent_id }),
      ),
    );
    await until('all are pushed', async () => {
      const rows = await world.sql('SELECT 1 FROM revoked_keys WHERE pushed_at IS NULL');
      return rows.length === 0;
    });
    // Before what may fail: it would serve, and slow, every test that follows.
    await world.removeScheduler(second);
    for (const { agent } of victims) expect(await agent.knock()).toMatch(/authorization/i);
  });

  it('meets the old key when an agent is enrolled again with another, and no revoked key is taken again', async () => {
    const { install, agent } = await world.install(shop, 'superseded');
    const ref = { vendor_id: shop.vendor, agent_id: install.agent_id };
    const token = await world.token(ref);
    const again = await world.enrol(token);
    await until('the old key is refused', async () => (await agent.knock()) !== '');
    await again.hello();
    await world.gateway.call(revokeAgent, ref);
    const third = await world.token(ref);
    const revoked = { ...request(third), public_key: again.publicKey };
    expect(await codeOf(world.gateway.call(enrolAgent, revoked))).toBe('invalid_request');
    const foreign = { ...request(third), public_key: shop.builder.publicKey };
    expect(await codeOf(world.gateway.call(enrolAgent, foreign))).toBe('invalid_request');
    await (await world.enrol(third)).hello();
  });
});

describe('an agent', () => {
  it('that is older than the server supports is told so, and gets no credential', async () => {
    const { agent } = await world.install(shop, 'old');
    const hello = (protocol?: number): Promise<string> => codeOf(agent.hello(protocol));
    expect(await hello(LIMITS.agentProtocolMin - 1)).toBe('agent_too_old');
    expect([await hello(LIMITS.agentProtocol), await hello()]).toEqual(['nothing', 'nothing']);
  });

  it('is shown as it comes and goes, without a query for each beat', async () => {
    const { install, token } = await world.bareInstall(shop, 'coming');
    const ref = { vendor_id: shop.vendor, agent_id: install.agent_id };
    const presence = async (): Promise<string> => (await world.gateway.call(getAgent, ref)).presence;
    expect(await presence()).toBe('never_enrolled');
    const agent = await world.enrol(token);
    await until('online', async () => (await presence()) === 'online');
    agent.silence();
    await until('offline', async () => (await presence()) === 'offline');
    expect((await world.gateway.call(getAgent, ref)).last_seen_at).toBeDefined();
    agent.beat();
    await until('online again', async () => (await presence()) === 'online');
    await until('the facts', async () => {
      const facts = await world.facts(install.id);
      return facts.slice(-3).join() === 'agent.online,agent.offline,agent.online';
    });
  });

  it('that is revoked gets no JWT and no job, and its tokens are void', async () => {
    const { install, agent } = await world.install(shop, 'revoked');
    const ref = { vendor_id: shop.vendor, agent_id: install.agent_id };
    const token = await world.token(ref);
    expect((await world.gateway.call(revokeAgent, ref)).presence).toBe('revoked');
    expect(await agent.knock()).toMatch(/authorization/i);
    expect(await codeOf(world.gateway.call(enrolAgent, request(token)))).toBe('enrolment_refused');
    expect((await world.gateway.call(getAgent, ref)).presence).toBe('revoked');
    const fresh = await world.token(ref);
    await (await ScriptedAgent.enrol(world.gateway, fresh)).stop();
  });
});

describe('a vendor', () => {
  it('is made once under its name and under an id that the caller chose', async () => {
    const id = newId('vendor');
    const made = await world.gateway.call(createVendor, {
      vendor: { name: 'chosen' },
      vendor_id: id,
      enrolment: enrolment(),
    });
    expect(made.vendor.id).toBe(id);
    for (const again of [{ vendor: { name: 'chosen' } }, { vendor: { name: 'other' }, vendor_id: id }]) {
      expect(await codeOf(world.gateway.call(createVendor, { ...again, enrolment: enrolment() }))).toBe(
        'already_exists',
      );
    }
    expect(await world.sql(`SELECT kind FROM agents WHERE vendor_id = $1`, [id])).toEqual([{ kind: 'build' }]);
  });
});

describe('another vendor', () => {
  it('finds nothing of the first one', async () => {
    const stranger = await world.shop({});
    const { install, agent } = await world.install(shop, 'stranger');
    const release = await world.release(shop, '1.0.0');
    const deployment = await world.deploy(shop, install, release);
    const job = [...(await world.jobs(shop, deployment)).values()][0]!;
    const [build] = await world.build(shop);
    const { data: components } = await world.gateway.call(listComponents, {
      vendor_id: shop.vendor,
      app_id: shop.app.id,
    });
    const vendor_id = stranger.vendor;
    const app_id = shop.app.id;
    const agent_id = agent.id;
    const spec = { kind: 'terraform-module' as const, source: { url: 'https://x.test/x.git' } };
    const { call } = world.gateway;
    const ask = call.bind(world.gateway);
    const tries: Record<string, Promise<unknown>> = {
      getApp: ask(getApp, { vendor_id, app_id }),
      listComponents: ask(listComponents, { vendor_id, app_id }),
      getComponent: ask(getComponent, { vendor_id, component_id: components[0]!.id }),
      updateComponent: ask((await import('#contracts')).updateComponent, {
        vendor_id,
        component_id: components[0]!.id,
        spec,
      }),
      createBuilds: ask(createBuilds, { vendor_id, app_id, builds: {} }),
      getBuild: ask(getBuild, { vendor_id, build_id: build!.id }),
      createRelease: ask(createRelease, { vendor_id, app_id, release: { version: '1.0.0' } }),
      getRelease: ask(getRelease, { vendor_id, release_id: release.id }),
      createInstall: ask(createInstall, { vendor_id, install: { app_id, name: 'x' } }),
      getInstall: ask(getInstall, { vendor_id, install_id: install.id }),
      createDeployment: ask(createDeployment, {
        vendor_id,
        install_id: install.id,
        deployment: { kind: 'teardown' },
      }),
      listDeployments: ask(listDeployments, { vendor_id, install_id: install.id }),
      getDeployment: ask(getDeployment, { vendor_id, deployment_id: deployment.id }),
      getJob: ask(getJob, { vendor_id, job_id: job.id }),
      listAttempts: ask(listAttempts, { vendor_id, job_id: job.id }),
      cancelJob: ask(cancelJob, { vendor_id, job_id: job.id, cancel: {} }),
      getAgent: ask(getAgent, { vendor_id, agent_id }),
      createEnrolmentToken: ask(createEnrolmentToken, { vendor_id, agent_id, enrolment: enrolment() }),
      revokeAgent: ask(revokeAgent, { vendor_id, agent_id }),
    };
    for (const [name, work] of Object.entries(tries)) expect(`${name} ${await codeOf(work)}`).toBe(`${name} not_found`);
    expect(await codeOf(world.gateway.call(getVendor, { vendor_id: newId('vendor') }))).toBe('not_found');
  });
});

describe('lists', () => {
  it('are pages, newest first, that skip and repeat nothing', async () => {
    const vendor_id = (await world.shop({})).vendor;
    for (let i = 0; i < 7; i++) await world.gateway.call(createApp, { vendor_id, app: { name: `app-${i}` } });
    const names: string[] = [];
    let cursor: string | undefined;
    do {
      const next = cursor === undefined ? {} : { cursor };
      const page = await world.gateway.call(listApps, { vendor_id, limit: 3, ...next });
      expect(page.data.length).toBeLessThanOrEqual(3);
      names.push(...page.data.map(({ name }) => name));
      cursor = page.next_cursor;
    } while (cursor !== undefined);
    expect(names).toHaveLength(8);
    expect(new Set(names).size).toBe(8);
    expect(names.at(-1)).toBe('shop');
    expect(await codeOf(world.gateway.call(listApps, { vendor_id, cursor: 'nonsense' }))).toBe('invalid_request');
    expect(await codeOf(world.gateway.call(createApp, { vendor_id, app: { name: 'app-1' } }))).toBe('already_exists');
  });
});
