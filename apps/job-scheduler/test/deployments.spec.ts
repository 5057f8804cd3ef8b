import {
  createComponent,
  createRelease,
  deprovisionInstall,
  getInstall,
  listAttempts,
  listComponentStates,
  listDeployments,
  listObservations,
  observeInstall,
  updateComponent,
  updateInstall,
  etagOf,
  getComponent,
  listFleet,
  newId,
  type Deployment,
  type FleetInstall,
  type ListFleet,
} from '#contracts';
import { findChainBreak, eventOfRow } from '#persistence';
import { freshDatabase, startNats } from '#stack';
import { until, World, type Shop } from './world.js';

let world: World;
beforeAll(async () => {
  world = await World.start({ startNats, freshDatabase });
});
afterAll(() => world.stop());

const THREE = {
  web: { depends_on: ['api'] },
  api: { values: { url: '{{ components.db.outputs.url }}', region: '{{ install.inputs.region }}' } },
  db: {},
};

describe('a deployment of three components', () => {
  let shop: Shop;
  beforeAll(async () => {
    shop = await world.shop(THREE);
  });

  it('runs from the builds to the install, in order, and keeps what happened', async () => {
    const release = await world.release(shop, '1.0.0');
    expect(release.components.map(({ name }) => name)).toEqual(['api', 'db', 'web']);
    expect(release.components[0]?.artifact.repository).toBe(`${shop.account.vendor.name}/shop/api`);

    const { install, agent } = await world.install(shop, 'acme');
    const deployment = await world.deploy(shop, install, release);
    expect(deployment.jobs).toEqual({ total: 6, succeeded: 0, failed: 0, unfinished: 6 });
    const jobs = await world.jobs(shop, deployment);
    expect(jobs.get('apply:web')?.waiting_reason).toMatchObject({ code: 'blocked_by_job' });
    expect(jobs.get('apply:web')?.waiting_reason?.detail).toContain('apply of api');

    const order = await agent.work([...jobs.values()].map(({ id }) => id));
    expect(order.slice(0, 3).toSorted()).toEqual(['sync:api', 'sync:db', 'sync:web']);
    expect(order.slice(3)).toEqual(['apply:db', 'apply:api', 'apply:web']);
    const done = await world.deployment(shop, deployment.id, 'succeeded');
    expect(done.jobs).toEqual({ total: 6, succeeded: 6, failed: 0, unfinished: 0 });
    await until('six receipts', () => agent.receipts.length === 6);
    expect(agent.receipts.every(({ accepted }) => accepted)).toBe(true);

    const after = await world.gateway.call(getInstall, { vendor_id: shop.vendor, install_id: install.id });
    expect(after.release_id).toBe(release.id);
    expect(after.inputs).toEqual({ region: 'eu' });
    const db = release.components.find(({ name }) => name === 'db');
    expect(after.components.find(({ name }) => name === 'db')).toMatchObject({
      status: 'deployed',
      digest: db?.artifact.digest,
      outputs: { url: 'of-db' },
      sensitive_outputs: ['password'],
    });

    const rows = await world.sql('SELECT * FROM events WHERE chain = $1 ORDER BY seq', [`job-scheduler:${install.id}`]);
    expect(findChainBreak(rows.map(eventOfRow))).toBeUndefined();
    const types = rows.map((row) => row['type']);
    expect(types.filter((type) => type === 'job.granted')).toHaveLength(6);
    expect(types.at(-1)).toBe('deployment.succeeded');
  });

  it('makes the same graph for the same release again, and a teardown the reverse', async () => {
    const release = await world.release(shop, '1.1.0');
    const { install, agent } = await world.install(shop, 'again');
    for (let i = 0; i < 2; i++) {
      const deployment = await world.deploy(shop, install, release);
      const jobs = await world.jobs(shop, deployment);
      expect(jobs.size).toBe(6);
      await agent.work([...jobs.values()].map(({ id }) => id));
      await world.deployment(shop, deployment.id, 'succeeded');
    }
    const teardown = await world.deploy(shop, install);
    const jobs = await world.jobs(shop, teardown);
    expect(await agent.work([...jobs.values()].map(({ id }) => id))).toEqual([
      'destroy:web',
      'destroy:api',
      'destroy:db',
    ]);
    await world.deployment(shop, teardown.id, 'succeeded');
    const after = await world.gateway.call(getInstall, { vendor_id: shop.vendor, install_id: install.id });
    expect(after.release_id).toBeUndefined();
    expect(after.components.map(({ status }) => status)).toEqual(['removed', 'removed', 'removed']);
    expect((await world.deploy(shop, install)).status).toBe('succeeded');
  });

  it('goes back to an older release only when somebody says so, and the signed jobs say it too', async () => {
    const [old, now] = [await world.release(shop, '1.1.1'), await world.release(shop, '1.1.2')];
    const { install, agent } = await world.install(shop, 'back');
    const finish = async (deployment: Deployment): Promise<void> => {
      await agent.work([...(await world.jobs(shop, deployment)).values()].map(({ id }) => id));
      await world.deployment(shop, deployment.id, 'succeeded');
    };
    await finish(await world.deploy(shop, install, now));
    await expect(world.deploy(shop, install, old)).rejects.toMatchObject({
      code: 'release_downgraded',
      detail: expect.stringContaining('1.1.2') as string,
    });
    // A teardown between them changes nothing.
    await finish(await world.deploy(shop, install));
    await expect(world.deploy(shop, install, old)).rejects.toMatchObject({ code: 'release_downgraded' });

    const back = await world.deploy(shop, install, old, true);
    expect(back.rollback).toBe(true);
    const first = (await world.jobs(shop, back)).get('sync:db')!;
    const { statement } = await agent.run(first.id);
    expect(statement).toMatchObject({ rollback: true, release: { id: old.id, version: '1.1.1' } });
  });

  it('is one at a time for an install, whoever asks', async () => {
    const release = await world.release(shop, '1.2.0');
    const { install } = await world.bareInstall(shop, 'alone');
    const tries = await Promise.allSettled(Array.from({ length: 5 }, () => world.deploy(shop, install, release)));
    expect(tries.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
    for (const refused of tries.filter((one) => one.status === 'rejected')) {
      expect(refused.reason).toMatchObject({ code: 'deployment_in_progress' });
    }
    const jobs = await world.jobs(
      shop,
      (
        await world.gateway.call((await import('#contracts')).listDeployments, {
          vendor_id: shop.vendor,
          install_id: install.id,
        })
      ).data[0]!,
    );
    expect(jobs.get('sync:db')?.waiting_reason?.code).toBe('agent_never_enrolled');
  });

  it('goes on in the branches that do not depend on what failed', async () => {
    const two = await world.shop({ a: {}, b: { depends_on: ['a'] }, c: { depends_on: ['b'] }, other: {} });
    const release = await world.release(two, '1.0.0');
    const { install, agent } = await world.install(two, 'branches');
    const deployment = await world.deploy(two, install, release);
    const jobs = await world.jobs(two, deployment);
    const wanted = ['sync:a', 'sync:b', 'sync:c', 'sync:other', 'apply:a', 'apply:other'];
    await agent.work(
      wanted.map((key) => jobs.get(key)?.id ?? ''),
      (statement) =>
        statement.kind === 'apply' && statement.component.name === 'a'
          ? { outcome: 'failed', error: { code: 'apply_failed', detail: 'no such subnet' } }
          : { outcome: 'succeeded' },
    );
    const done = await world.deployment(two, deployment.id, 'failed');
    expect(done.error).toEqual({ code: 'apply_failed', detail: 'apply of a failed: no such subnet' });
    const after = await world.jobs(two, deployment);
    expect(after.get('apply:other')?.status).toBe('succeeded');
    for (const key of ['apply:b', 'apply:c']) {
      expect(after.get(key)).toMatchObject({ status: 'skipped', error: { code: 'dependency_failed' } });
      expect(after.get(key)?.error?.detail).toContain('apply of a (job_');
    }
    const { components } = await world.gateway.call(getInstall, { vendor_id: two.vendor, install_id: install.id });
    expect(components.map(({ name, status }) => `${name} ${status}`)).toEqual([
      'a failed',
      'b absent',
      'c absent',
      'other deployed',
    ]);
    // What may be there is removed, what never was is not.
    const teardown = await world.deploy(two, install);
    expect([...(await world.jobs(two, teardown)).keys()].toSorted()).toEqual(['destroy:a', 'destroy:other']);
  });
});

describe('the fleet', () => {
  it('shows every install once, by pages, in one word each, and finds them', async () => {
    const shop = await world.shop({ a: {} });
    const vendor_id = shop.vendor;
    const all = async (query: Partial<ListFleet>): Promise<FleetInstall[]> => {
      const rows: FleetInstall[] = [];
      for (let cursor: string | undefined; ;) {
        const page = await world.gateway.call(listFleet, { vendor_id, limit: 2, ...query, ...(cursor && { cursor }) });
        rows.push(...page.data);
        cursor = page.next_cursor;
        if (cursor === undefined) return rows;
      }
    };
    const release = await world.release(shop, '7.0.0');
    const { install: there, agent } = await world.install(shop, 'there');
    const deployment = await world.deploy(shop, there, release);
    await agent.work([...(await world.jobs(shop, deployment)).values()].map(({ id }) => id));
    await world.deployment(shop, deployment.id, 'succeeded');
    await world.release(shop, '7.1.0');
    for (const name of ['empty', 'fifty-1', 'fifty-2']) await world.bareInstall(shop, name);
    const { install: busy } = await world.bareInstall(shop, 'busy');
    await world.deploy(shop, busy, release);

    const rows = await all({});
    expect(rows.map(({ name, health, version, behind }) => [name, health, version, behind])).toEqual([
      ['busy', 'deploying', undefined, 0],
      ['fifty-2', 'absent', undefined, 0],
      ['fifty-1', 'absent', undefined, 0],
      ['empty', 'absent', undefined, 0],
      ['there', 'healthy', '7.0.0', 1],
    ]);
    const found = async (query: Partial<ListFleet>) => (await all(query)).map(({ name }) => name);
    expect(await found({ q: 'FIFTY' })).toEqual(['fifty-2', 'fifty-1']);
    expect(await found({ q: '7.0' })).toEqual(['there']);
    expect(await found({ q: there.id })).toEqual(['there']);
    expect(await found({ q: '%' })).toEqual([]);
    expect(await found({ health: 'absent', q: 'e' })).toEqual(['empty']);
    expect(await found({ app_id: newId('app') })).toEqual([]);
  });
});

describe('what is watched', () => {
  it('is probed by its time table; a difference is told once, kept over time and taken back once', async () => {
    const shop = await world.shop({ db: {} });
    const release = await world.release(shop, '1.0.0');
    const { install, agent } = await world.install(shop, 'watched');
    const first = await world.deploy(shop, install, release);
    await agent.work([...(await world.jobs(shop, first)).values()].map(({ id }) => id));
    await world.deployment(shop, first.id, 'succeeded');
    const ref = { vendor_id: shop.vendor, install_id: install.id };
    const settings = {
      observe: { cron: '30 3 * * *', time_zone: 'Europe/Berlin', fix: true },
      inputs: { region: 'us' },
    };
    const often = { observe: { ...settings.observe, cron: '* * * * *' } };
    await expect(world.gateway.call(updateInstall, { ...ref, settings: often })).rejects.toMatchObject({
      code: 'invalid_request',
    });
    await world.gateway.call(updateInstall, { ...ref, settings });

    const difference = {
      digest: `sha256:${'e'.repeat(64)}`,
      changed: true,
      created: 0,
      updated: 1,
      deleted: 0,
      changes: [{ action: 'update' as const, resource: 'aws_db_instance.main' }],
      omitted: 0,
    };
    const found = { drifted: true, difference, health: 'degraded' as const, reasons: ['db: 0 of 1 are available'] };
    await world.sql(`UPDATE installs SET observe_at = now() - interval '1 minute' WHERE id = $1`, [install.id]);
    const probe = await until('the probe', () => agent.offer(1_000));
    const { statement } = await agent.run(probe, () => ({ outcome: 'succeeded', result: found }));
    // The values are those of the deployment, not the ones that the install was given since.
    expect(statement).toMatchObject({ kind: 'observe', inputs: { region: 'eu' }, release: { version: '1.0.0' } });
    const fixing = await until('the fix', async () => {
      const { data } = await world.gateway.call(listDeployments, ref);
      return data.length === 2 && data[0];
    });
    expect(fixing.release_id).toBe(release.id);
    const { data: states } = await world.gateway.call(listComponentStates, ref);
    expect(states).toMatchObject([{ name: 'db', health: 'degraded', drifted: true, difference: { updated: 1 } }]);
    const order = [...(await world.jobs(shop, fixing)).values()].map(({ id }) => id);
    const statements: (string | undefined)[] = [];
    await agent.work(order, ({ inputs }) => {
      statements.push(inputs?.['region'] as string);
      return { outcome: 'succeeded' };
    });
    expect(statements).toEqual(['us', 'us']);
    await world.deployment(shop, fixing.id, 'succeeded');

    // On demand; the same difference once more is told again, and not mended again.
    const { data: asked } = await world.gateway.call(observeInstall, ref);
    const { data: again } = await world.gateway.call(observeInstall, ref);
    expect(again.map(({ id }) => id)).toEqual(asked.map(({ id }) => id));
    await agent.work(
      asked.map(({ id }) => id),
      () => ({ outcome: 'succeeded', result: found }),
    );
    await world.job(shop, asked[0]?.id ?? '', 'succeeded');
    const { data: history } = await world.gateway.call(listObservations, { ...ref, component: 'db' });
    expect(history.map(({ health, drifted }) => [health, drifted])).toEqual([
      ['degraded', true],
      ['degraded', true],
    ]);
    // A deployment does not wait for a probe.
    const { data: open } = await world.gateway.call(observeInstall, ref);
    const last = await world.deploy(shop, install);
    expect((await world.readJob(shop, open[0]?.id ?? '')).status).toBe('cancelled');
    await expect(world.gateway.call(observeInstall, ref)).rejects.toMatchObject({ code: 'deployment_in_progress' });
    expect((await world.gateway.call(listDeployments, ref)).data).toHaveLength(3);
    const types = await world.facts(install.id);
    expect(types.filter((type) => /^(component|install)\./.test(type))).toEqual([
      'install.created',
      'install.updated',
      'component.drifted',
      'component.health_changed',
      'install.drift_fix',
      'component.drifted',
      'component.health_changed',
    ]);

    // Its agent dies for good.
    agent.silence();
    const gone = { reason: 'the account is closed' };
    await until('offline', async () => (await world.facts(install.id)).includes('agent.offline'));
    const marked = await world.gateway.call(deprovisionInstall, { ...ref, deprovision: gone });
    expect(marked.deprovisioned).toMatchObject({ reason: 'the account is closed', leftovers: ['db'] });
    await world.deployment(shop, last.id, 'cancelled');
    await expect(world.deploy(shop, install, release)).rejects.toMatchObject({ code: 'conflict' });
    expect(await world.facts(install.id)).toEqual(expect.arrayContaining(['install.deprovisioned', 'agent.revoked']));
  });
});

describe('what is refused', () => {
  it('a circle of components, with its path, and nothing is written', async () => {
    const shop = await world.shop({ a: { depends_on: ['b'] } });
    const source = { url: 'https://git.example.test/x.git' };
    const component = { name: 'b', kind: 'terraform-module' as const, source, depends_on: ['a'] };
    const scope = { vendor_id: shop.vendor, app_id: shop.app.id };
    await expect(world.gateway.call(createComponent, { ...scope, component })).rejects.toMatchObject({
      code: 'dependency_cycle',
      detail: 'a -> b -> a',
    });
    expect(await world.sql('SELECT name FROM components WHERE app_id = $1', [shop.app.id])).toEqual([{ name: 'a' }]);
  });

  it('a release of what is not built, or refers to nothing', async () => {
    const shop = await world.shop({ a: {}, b: { values: { x: '{{ components.gone.outputs.y }}' } } });
    const scope = { vendor_id: shop.vendor, app_id: shop.app.id };
    const [first] = await world.build(shop, ['a']);
    await shop.builder.work([first?.job_id ?? '']);
    await world.job(shop, first?.job_id ?? '', 'succeeded');
    await expect(world.gateway.call(createRelease, { ...scope, release: { version: '1.0.0' } })).rejects.toMatchObject({
      code: 'nothing_built',
      detail: 'no successful build of b',
    });
    await expect(world.release(shop, '1.0.0')).rejects.toMatchObject({ code: 'unknown_component' });
    expect(await world.sql('SELECT 1 FROM releases WHERE app_id = $1', [shop.app.id])).toEqual([]);
  });

  it('an update of a component that has changed meanwhile', async () => {
    const shop = await world.shop({ a: {} });
    const [row] = await world.sql<{ id: string }>('SELECT id FROM components WHERE app_id = $1', [shop.app.id]);
    const ref = { vendor_id: shop.vendor, component_id: row?.id ?? '' };
    const before = await world.gateway.call(getComponent, ref);
    const spec = { kind: before.kind, source: { url: 'https://git.example.test/new.git' } };
    const change = { ...ref, spec, if_match: etagOf(before) };
    expect((await world.gateway.call(updateComponent, change)).source?.url).toBe(spec.source.url);
    await expect(world.gateway.call(updateComponent, change)).rejects.toMatchObject({ code: 'precondition_failed' });
  });

  it('a result that does not fit its job becomes a failure of the agent', async () => {
    const shop = await world.shop({ a: {} });
    const [build] = await world.build(shop);
    const job_id = build?.job_id ?? '';
    await shop.builder.work([job_id], () => ({
      outcome: 'succeeded',
      result: {
        artifact: { repository: 'other/shop/a', digest: `sha256:${'0'.repeat(64)}`, media_type: 'x', size_bytes: 1 },
        source_commit: 'c',
      },
    }));
    const job = await world.job(shop, job_id, 'failed');
    expect(job.error?.code).toBe('agent_error');
    expect(job.error?.detail).toContain('other/shop/a');
    const { data } = await world.gateway.call(listAttempts, { vendor_id: shop.vendor, job_id });
    expect(data).toHaveLength(1);
  });
});
