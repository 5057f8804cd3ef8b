import { ImsError, type Deployment, type Install, type Job } from '#contracts';
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
