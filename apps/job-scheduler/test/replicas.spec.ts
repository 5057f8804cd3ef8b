import {
  createWork,
  getDeployment,
  ImsError,
  type Deployment,
  type Install,
  type Job,
  type NewWorkJob,
} from '#contracts';
import { freshDatabase, startNats } from '#stack';
import { type ScriptedAgent } from './agent.js';
import { World, type Shop } from './world.js';

let world: World;
let shop: Shop;
beforeAll(async () => {
  world = await World.start({ startNats, freshDatabase }, 3);
  shop = await world.shop({ a: {}, b: { depends_on: ['a'] }, c: {} });
});
afterAll(() => world.stop());

interface Customer {
  readonly install: Install;
  readonly agent: ScriptedAgent;
  readonly deployment: Deployment;
}

describe('a rolling restart under load', () => {
  it('of every replica in turn loses nothing and doubles nothing', async () => {
    const { install, agent } = await world.install(shop, 'rolling');
    const size = 30;
    const jobs = Array.from({ length: size }, (_, i): NewWorkJob => ({
      key: `j${i}`,
      kind: 'noop',
      component: 'a',
      // Some of them wait for others, some for a lock.
      ...(i % 5 === 4 ? { depends_on: [`j${i - 1}`] } : {}),
      ...(i % 7 === 0 ? { lock: 'shared' } : {}),
    }));
    const graph = await world.gateway.call(createWork, {
      vendor_id: shop.vendor,
      install_id: install.id,
      work: { jobs },
    });
    let rolling = true;
    const restarts = (async () => {
      for (const app of [...world.schedulers]) {
        await world.addScheduler();
        await world.removeScheduler(app);
      }
      rolling = false;
    })();
    let done = 0;
    const read = () => world.gateway.call(getDeployment, { vendor_id: shop.vendor, deployment_id: graph.id });
    // Calls that meet a replica that is leaving fail with `unavailable` and are made again, as an agent does.
    while (done < size) {
      const id = await agent.offer(1_000).catch(() => undefined);
      if (id === undefined) {
        done = (await read().catch(() => graph)).jobs.succeeded;
        continue;
      }
      const grant = await agent.claim(id).catch((error: unknown) => ImsError.of(error));
      if (grant instanceof ImsError) {
        // The grant may have been made all the same: the same session gets it again.
        if (grant.code !== 'unavailable') continue;
        const again = await agent.claim(id).catch((error: unknown) => ImsError.of(error));
        if (again instanceof ImsError) continue;
        await agent.send({ job_id: id, attempt: again.attempt }, { outcome: 'succeeded' });
      } else await agent.send({ job_id: id, attempt: grant.attempt }, { outcome: 'succeeded' });
    }
    await restarts;
    expect(rolling).toBe(false);
    await world.deployment(shop, graph.id, 'succeeded');
    const facts = await world.facts(install.id);
    expect(facts.filter((type) => type === 'job.succeeded')).toHaveLength(size);
    const ended = await world.sql<{ status: string; count: number }>(
      `SELECT a.status, count(*) FROM attempts a JOIN jobs j ON j.id = a.job_id WHERE j.deployment_id = $1 GROUP BY 1`,
      [graph.id],
    );
    expect(ended.find(({ status }) => status === 'succeeded')?.count).toBe(size);
    expect(ended.filter(({ status }) => status !== 'succeeded' && status !== 'lost')).toEqual([]);
    expect(await world.sql('SELECT 1 FROM leases UNION ALL SELECT 1 FROM locks')).toEqual([]);
  });
});

describe('three replicas', () => {
  it('grant each job exactly once, however many processes of the agent ask', async () => {
    const release = await world.release(shop, '1.0.0');
    const { install, agent } = await world.install(shop, 'racing');
    const deployment = await world.deploy(shop, install, release);
    const jobs = await world.jobs(shop, deployment);
    for (const key of ['sync:a', 'sync:b', 'sync:c']) {
      const { id } = jobs.get(key)!;
      const claims = await Promise.allSettled(Array.from({ length: 12 }, (_, i) => agent.claim(id, `session-${i}`)));
      expect(claims.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      for (const one of claims.filter((claim) => claim.status === 'rejected')) {
        expect(ImsError.of(one.reason).code).toBe('job_not_claimable');
      }
    }
    expect(await world.sql('SELECT 1 FROM attempts WHERE agent_id = $1', [agent.id])).toHaveLength(3);
  });

  it('take results that end at the same time, one goes and one comes meanwhile, and nothing is lost or doubled', async () => {
    const release = await world.release(shop, '2.0.0');
    const customers: Customer[] = [];
    for (let i = 0; i < 4; i++) {
      const { install, agent } = await world.install(shop, `customer-${i}`);
      customers.push({ install, agent, deployment: await world.deploy(shop, install, release) });
    }
    const all = await Promise.all(customers.map(({ deployment }) => world.jobs(shop, deployment)));
    const working = customers.map(async ({ agent }, i) => {
      const ids = [...(all[i] ?? new Map<string, Job>()).values()].map(({ id }) => id);
      return agent.work(ids);
    });
    await world.removeScheduler(world.schedulers.at(-1)!);
    await world.addScheduler();
    await Promise.all(working);
    for (const { install, deployment } of customers) {
      await world.deployment(shop, deployment.id, 'succeeded');
      const facts = await world.facts(install.id);
      expect(facts.filter((type) => type === 'job.succeeded')).toHaveLength(6);
      expect(facts.filter((type) => type === 'job.granted')).toHaveLength(6);
      expect(facts.filter((type) => type === 'deployment.succeeded')).toHaveLength(1);
    }
  });
});
