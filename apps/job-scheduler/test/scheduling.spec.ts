import {
  type AGENT_INTAKES,
  cancelDeployment,
  createWork,
  extendWork,
  getAgent,
  getDeadLetter,
  getDeployment,
  listDeadLetters,
  listLocks,
  retryDeployment,
  retryJob,
  setAgentIntake,
  settleDeadLetter,
  skipJob,
  unlockJob,
  updateAgentSettings,
  type Agent,
  type Deployment,
  type Install,
  type Job,
  type NewWorkJob,
  type Release,
} from '#contracts';
import { rankOf, toOffer } from '#domain';
import { freshDatabase, startNats } from '#stack';
import { type ScriptedAgent } from './agent.js';
import { codeOf, until, World, type Shop } from './world.js';

let world: World;
let shop: Shop;
let release: Release;
beforeAll(async () => {
  world = await World.start({ startNats, freshDatabase });
  shop = await world.shop({ a: {}, b: { depends_on: ['a'] } });
  release = await world.release(shop, '1.0.0');
});
afterAll(() => world.stop());

let counter = 0;
interface Scene {
  readonly install: Install;
  readonly agent: ScriptedAgent;
}
const scene = (): Promise<Scene> => world.install(shop, `place-${++counter}`);
type Node = Omit<NewWorkJob, 'kind' | 'component'>;
const noop = (node: Node): NewWorkJob => ({ kind: 'noop', component: 'a', ...node });
const ask = (install: Install, nodes: readonly Node[]): Promise<Deployment> =>
  world.gateway.call(createWork, {
    vendor_id: shop.vendor,
    install_id: install.id,
    work: { jobs: nodes.map(noop) },
  });
const byKey = async (graph: Deployment): Promise<(key: string) => Job> => {
  const jobs = await world.sql<{ id: string; key: string }>('SELECT id, key FROM jobs WHERE deployment_id = $1', [
    graph.id,
  ]);
  const read = new Map<string, Job>();
  for (const { id, key } of jobs) read.set(key, await world.readJob(shop, id));
  return (key) => read.get(key)!;
};
const reasonOf = async (job: Job): Promise<string | undefined> =>
  (await world.readJob(shop, job.id)).waiting_reason?.code;
const about = (job: Job, reason = 'because') => ({ vendor_id: shop.vendor, job_id: job.id, request: { reason } });
const intake = (agent: ScriptedAgent, to: (typeof AGENT_INTAKES)[number], note = 'maintenance'): Promise<Agent> =>
  world.gateway.call(setAgentIntake, { vendor_id: shop.vendor, agent_id: agent.id, intake: to, request: { note } });
const agentOf = (agent: ScriptedAgent): Promise<Agent> =>
  world.gateway.call(getAgent, { vendor_id: shop.vendor, agent_id: agent.id });
const failed = { outcome: 'failed' as const, error: { code: 'agent_error', detail: 'broken' } };

describe('work that is asked for', () => {
  it('is made whole or not at all', async () => {
    const { install } = await scene();
    const bad: [Node[], string][] = [
      [
        [
          { key: 'x', depends_on: ['y'] },
          { key: 'y', depends_on: ['x'] },
        ],
        'dependency_cycle',
      ],
      [[{ key: 'x', depends_on: ['x'] }], 'invalid_request'],
      [[{ key: 'x' }, { key: 'y', depends_on: ['z'] }], 'invalid_request'],
      [[{ key: 'x' }, { key: 'x' }], 'invalid_request'],
    ];
    for (const [nodes, code] of bad) expect(await codeOf(ask(install, nodes))).toBe(code);
    const unknown = { jobs: [noop({ key: 'x' }), { ...noop({ key: 'y' }), component: 'nope' }] };
    const request = { vendor_id: shop.vendor, install_id: install.id };
    expect(await codeOf(world.gateway.call(createWork, { ...request, work: unknown }))).toBe('unknown_component');
    const undeployed = { jobs: [{ key: 'x', kind: 'sync' as const, component: 'a' }] };
    expect(await codeOf(world.gateway.call(createWork, { ...request, work: undeployed }))).toBe('unknown_component');
    const foreign = { ...request, vendor_id: (await world.shop({ a: {} })).vendor };
    expect(await codeOf(world.gateway.call(createWork, { ...foreign, work: { jobs: [noop({ key: 'x' })] } }))).toBe(
      'not_found',
    );
    expect(await world.sql('SELECT 1 FROM jobs WHERE install_id = $1', [install.id])).toEqual([]);
    expect(await world.sql('SELECT 1 FROM deployments WHERE install_id = $1', [install.id])).toEqual([]);
  });

  it('goes on behind a failure that is allowed, and not behind another; what comes too late fails at once', async () => {
    const { install, agent } = await scene();
    const graph = await ask(install, [
      { key: 'maybe', allow_failure: true },
      { key: 'must' },
      { key: 'after-maybe', depends_on: ['maybe'] },
      { key: 'after-must', depends_on: ['must'] },
    ]);
    const job = await byKey(graph);
    await agent.run(job('maybe').id, () => failed);
    await agent.run(job('must').id, () => failed);
    await world.job(shop, job('after-maybe').id, 'queued');
    expect((await world.job(shop, job('after-must').id, 'skipped')).error?.code).toBe('dependency_failed');
    const work = { jobs: [noop({ key: 'late', depends_on: ['must'] }), noop({ key: 'fine', depends_on: ['maybe'] })] };
    const more = { vendor_id: shop.vendor, deployment_id: graph.id, work };
    await world.gateway.call(extendWork, more);
    expect(await codeOf(world.gateway.call(extendWork, more))).toBe('invalid_request');
    const grown = await byKey(graph);
    expect(grown('late').status).toBe('skipped');
    expect(grown('fine').status).toBe('queued');
    for (const key of ['after-maybe', 'fine']) await agent.run(grown(key).id);
    const done = await world.deployment(shop, graph.id, 'failed');
    expect(done).toMatchObject({
      kind: 'work',
      jobs: { total: 6, succeeded: 2 },
      error: { detail: 'noop of a failed: broken' },
    });
    expect(await codeOf(world.gateway.call(extendWork, more))).toBe('conflict');
  });

  it('runs beside a deployment, and is cancelled whole', async () => {
    const { install, agent } = await scene();
    await world.deploy(shop, install, release);
    const graph = await ask(install, [{ key: 'x' }, { key: 'y', depends_on: ['x'] }]);
    const job = await byKey(graph);
    await agent.claim(job('x').id);
    const request = { vendor_id: shop.vendor, deployment_id: graph.id, cancel: { force: true } };
    expect((await world.gateway.call(cancelDeployment, request)).status).toBe('cancelling');
    await agent.send({ job_id: job('x').id, attempt: 1 }, { outcome: 'cancelled' });
    await world.deployment(shop, graph.id, 'cancelled');
  });

  it('waits for its time, begins at once when a person says so, and expires', async () => {
    const { install, agent } = await scene();
    const soon = new Date(Date.now() + 700).toISOString();
    const graph = await ask(install, [
      { key: 'later', delay_seconds: 3600 },
      { key: 'short', expires_at: soon },
      { key: 'child', depends_on: ['short'] },
    ]);
    const job = await byKey(graph);
    expect(await reasonOf(job('later'))).toBe('scheduled');
    expect(await codeOf(agent.claim(job('later').id))).toBe('job_not_claimable');
    expect((await world.job(shop, job('short').id, 'failed')).error?.code).toBe('job_expired');
    await world.job(shop, job('child').id, 'skipped');
    await world.gateway.call(retryJob, about(job('later')));
    expect(await codeOf(world.gateway.call(retryJob, about(job('later'))))).toBe('conflict');
    await agent.run(job('later').id);
    await world.deployment(shop, graph.id, 'failed');
  });

  it('of one singleton replaces what waits, whose dependents do not run, and not what has begun', async () => {
    const { install, agent } = await scene();
    const first = await ask(install, [{ key: 'x', singleton: 'nightly' }]);
    const begun = (await byKey(first))('x');
    await agent.claim(begun.id);
    const second = await ask(install, [
      { key: 'x', singleton: 'nightly' },
      { key: 'child', depends_on: ['x'] },
    ]);
    const waits = await byKey(second);
    expect(await reasonOf(waits('x'))).toBe('lock_held');
    const third = await ask(install, [{ key: 'x', singleton: 'nightly' }]);
    expect((await world.job(shop, waits('x').id, 'cancelled')).error).toMatchObject({ code: 'job_replaced' });
    await world.job(shop, waits('child').id, 'skipped');
    await world.deployment(shop, second.id, 'cancelled');
    await agent.send({ job_id: begun.id, attempt: 1 }, { outcome: 'succeeded' });
    await world.deployment(shop, first.id, 'succeeded');
    await agent.run((await byKey(third))('x').id);
    await world.deployment(shop, third.id, 'succeeded');
  });
});

describe('the queue of an agent', () => {
  it('is offered by priority, as many as there are slots', async () => {
    const { install, agent } = await scene();
    const settings = { slots: 1, labels: { region: 'eu' } };
    const of = { vendor_id: shop.vendor, agent_id: agent.id };
    expect(await world.gateway.call(updateAgentSettings, { ...of, settings })).toMatchObject(settings);
    await world.gateway.call(updateAgentSettings, { ...of, settings: {} });
    const graph = await ask(install, [
      { key: 'first' },
      { key: 'low', priority: -5 },
      { key: 'high', priority: 5 },
      { key: 'mid' },
    ]);
    const job = await byKey(graph);
    // Only one has gone out, so the rest is still in order.
    expect(await reasonOf(job('low'))).toBe('awaiting_claim');
    const order: string[] = [];
    while (order.length < 4) {
      const id = await until('an offer', () => agent.offer(1_000));
      const { key = '', status } = await world.readJob(shop, id);
      // An offer that was made again meanwhile.
      if (status !== 'queued') continue;
      order.push(key);
      const grant = await agent.claim(id);
      if (order.length === 1) expect(await reasonOf(job('low'))).toBe('agent_busy');
      await agent.send({ job_id: id, attempt: grant.attempt }, { outcome: 'succeeded' });
    }
    // Made in one statement, `first` and `mid` have one place; their ids decide.
    expect(order).toEqual(['high', 'first', 'mid', 'low']);
    expect(await codeOf(world.gateway.call(updateAgentSettings, { ...of, settings: { labels: { 'A B': 1 } } }))).toBe(
      'invalid_request',
    );
  });

  it('is chosen in SQL as the rule says', async () => {
    const { install, agent } = await scene();
    await intake(agent, 'paused');
    const now = Date.now();
    const nodes = Array.from({ length: 12 }, (_, i) => ({
      key: `n${i}`,
      priority: (i * 7) % 5,
      ...(i % 3 === 0 ? { lock: `l${i % 2}` } : {}),
      ...(i % 5 === 4 ? { delay_seconds: 3600 } : {}),
    }));
    const graph = await ask(install, nodes);
    const job = await byKey(graph);
    const queue = nodes.map(({ key, priority, ...rest }) => ({
      id: job(key).id,
      rank: rankOf(0, priority),
      notBefore: 'delay_seconds' in rest ? now + 3_600_000 : 0,
      held: false,
      ...('lock' in rest ? { lock: rest.lock } : {}),
    }));
    const wanted = toOffer({ slots: 4, running: 0, closed: false }, queue, new Set(), now, 400);
    await intake(agent, 'open', '');
    const offered = await world.sql<{ id: string }>(
      'SELECT id FROM jobs WHERE deployment_id = $1 AND offered_at IS NOT NULL',
      [graph.id],
    );
    expect(offered.map(({ id }) => id).toSorted()).toEqual(wanted.toSorted());
    const cancel = { vendor_id: shop.vendor, deployment_id: graph.id, cancel: {} };
    await world.gateway.call(cancelDeployment, cancel);
  });

  it('stands still while the agent is paused, and runs dry when it drains', async () => {
    const { install, agent } = await scene();
    const graph = await ask(install, [{ key: 'x' }, { key: 'y' }]);
    const job = await byKey(graph);
    await agent.claim(job('x').id);
    expect((await intake(agent, 'paused')).intake).toMatchObject({ state: 'paused', note: 'maintenance' });
    expect(await codeOf(agent.claim(job('y').id))).toBe('job_not_claimable');
    const waiting = await world.readJob(shop, job('y').id);
    expect(waiting.waiting_reason).toMatchObject({
      code: 'agent_paused',
      detail: expect.stringContaining('maintenance') as string,
    });
    await intake(agent, 'draining');
    // What runs is renewed and ends as always.
    expect((await agent.renew([{ job_id: job('x').id, attempt: 1 }])).stop).toEqual([]);
    expect((await agentOf(agent)).running).toBe(1);
    await agent.send({ job_id: job('x').id, attempt: 1 }, { outcome: 'succeeded' });
    await until('the agent is dry', async () => (await agentOf(agent)).intake?.state === 'drained');
    expect((await intake(agent, 'open', '')).intake).toBeUndefined();
    await until('an offer', async () => (await agent.offer(1_000)) === job('y').id);
    await agent.run(job('y').id);
    await world.deployment(shop, graph.id, 'succeeded');
    const facts = (await world.facts(install.id)).filter((type) =>
      /agent.(paused|draining|drained|resumed)/.test(type),
    );
    expect(facts).toEqual(['agent.paused', 'agent.draining', 'agent.drained', 'agent.resumed']);
  });
});

describe('a lock', () => {
  const locks = async (install: Install) =>
    (await world.gateway.call(listLocks, { vendor_id: shop.vendor, install_id: install.id })).data;

  it('is one job’s at a time, shows its holder, and passes on at once', async () => {
    const { install, agent } = await scene();
    const graph = await ask(install, [{ key: 'x', lock: 'shared' }, { key: 'y', lock: 'shared' }, { key: 'free' }]);
    const job = await byKey(graph);
    await agent.claim(job('x').id);
    expect(await locks(install)).toMatchObject([{ name: 'shared', job_id: job('x').id, attempt: 1, waiting: 1 }]);
    expect(await codeOf(agent.claim(job('y').id))).toBe('job_not_claimable');
    expect((await world.readJob(shop, job('y').id)).waiting_reason).toMatchObject({
      code: 'lock_held',
      unblock: expect.stringContaining(`/v1/jobs/${job('x').id}/unlock`) as string,
    });
    await agent.run(job('free').id);
    await agent.send({ job_id: job('x').id, attempt: 1 }, { outcome: 'succeeded' });
    await world.job(shop, job('x').id, 'succeeded');
    expect(await locks(install)).toEqual([]);
    await agent.run(job('y').id);
    await world.deployment(shop, graph.id, 'succeeded');
  });

  it('that is stuck is taken away by a person: the holder is told to stop, and the next begins after its lease', async () => {
    const { install, agent } = await scene();
    const graph = await ask(install, [
      { key: 'x', lock: 'stuck' },
      { key: 'y', lock: 'stuck' },
    ]);
    const job = await byKey(graph);
    await agent.claim(job('x').id);
    const held = [{ job_id: job('x').id, attempt: 1 }];
    expect((await agent.renew(held)).stop).toEqual([]);
    expect(await codeOf(world.gateway.call(unlockJob, about(job('y'))))).toBe('conflict');
    await world.gateway.call(unlockJob, about(job('x'), 'hangs'));
    await world.gateway.call(unlockJob, about(job('x'), 'hangs'));
    // Not free before the lease has ended: the holder may still be at work.
    expect(await locks(install)).toMatchObject([{ job_id: job('x').id, unlocking: true }]);
    expect(await codeOf(agent.claim(job('y').id))).toBe('job_not_claimable');
    expect((await agent.renew(held)).stop).toMatchObject([{ code: 'stale_attempt' }]);
    expect(await codeOf(agent.claim(job('x').id))).toBe('job_not_claimable');
    await until('the attempt is lost', async () => (await world.attempts(shop, job('x'))).includes('1 lost'));
    await agent.run(job('y').id);
    await world.job(shop, job('y').id, 'succeeded');
    await agent.run(job('x').id);
    await world.deployment(shop, graph.id, 'succeeded');
    expect((await world.facts(install.id)).filter((type) => type === 'lock.taken_away')).toHaveLength(1);
  });

  it('of a component is taken by what deploys it', async () => {
    const { install, agent } = await scene();
    const deployment = await world.deploy(shop, install, release);
    const jobs = await world.jobs(shop, deployment);
    await agent.run(jobs.get('sync:a')!.id);
    await agent.claim((await world.job(shop, jobs.get('apply:a')!.id, 'queued')).id);
    const graph = await ask(install, [{ key: 'x', lock: 'component:a' }]);
    expect(await reasonOf((await byKey(graph))('x'))).toBe('lock_held');
  });
});

describe('a dead letter', () => {
  it('is a row that is listed, inspected and sent again once', async () => {
    const { install, agent } = await scene();
    const graph = await ask(install, [{ key: 'x' }]);
    const x = (await byKey(graph))('x');
    // A result that comes before its grant: nobody can take it.
    await agent.send({ job_id: x.id, attempt: 1 }, { outcome: 'succeeded' });
    const mine = { vendor_id: shop.vendor, status: 'open' as const };
    const dead = await until('the row', async () => {
      const { data } = await world.gateway.call(listDeadLetters, mine);
      return data.find(({ job_id }) => job_id === x.id);
    });
    expect(dead).toMatchObject({ contract: 'job.result/1', code: 'stale_attempt', agent_id: agent.id });
    const ref = { vendor_id: shop.vendor, dead_id: dead.id };
    expect((await world.gateway.call(getDeadLetter, ref)).body).toMatchObject({ job_id: x.id, outcome: 'succeeded' });
    const foreign = { ...ref, vendor_id: (await world.shop({ a: {} })).vendor };
    expect(await codeOf(world.gateway.call(getDeadLetter, foreign))).toBe('not_found');
    await agent.claim(x.id);
    const settle = { ...ref, how: 'redrive' as const, request: { reason: 'granted now' } };
    expect(await world.gateway.call(settleDeadLetter, settle)).toMatchObject({
      status: 'redriven',
      note: 'granted now',
    });
    await world.job(shop, x.id, 'succeeded');
    expect(await codeOf(world.gateway.call(settleDeadLetter, settle))).toBe('conflict');
  });
});

describe('what a person does after a failure', () => {
  const retry = (deployment: Deployment, more: object = {}): Promise<Deployment> =>
    world.gateway.call(retryDeployment, { vendor_id: shop.vendor, deployment_id: deployment.id, retry: more });

  it('retries a deployment: what has succeeded is not made again', async () => {
    const { install, agent } = await scene();
    const deployment = await world.deploy(shop, install, release);
    const jobs = await world.jobs(shop, deployment);
    for (const key of ['sync:a', 'sync:b']) await agent.run(jobs.get(key)!.id);
    expect(await codeOf(retry(deployment))).toBe('conflict');
    await agent.run((await world.job(shop, jobs.get('apply:a')!.id, 'queued')).id, () => failed);
    await world.deployment(shop, deployment.id, 'failed');
    const again = await retry(deployment, { reason: 'mended' });
    expect(again).toMatchObject({
      retry_of: deployment.id,
      kind: 'deploy',
      release_id: release.id,
      jobs: { total: 2 },
    });
    const second = await world.jobs(shop, again);
    expect([...second.keys()].toSorted()).toEqual(['apply:a', 'apply:b']);
    await agent.work([...second.values()].map(({ id }) => id));
    await world.deployment(shop, again.id, 'succeeded');
    expect(await codeOf(retry(deployment))).toBe('conflict');
    // From a job that had succeeded: it and what depends on it.
    const from = await retry(again, { from: second.get('apply:a')!.id });
    expect(from.jobs.total).toBe(2);
    await agent.work([...(await world.jobs(shop, from)).values()].map(({ id }) => id));
    await world.deployment(shop, from.id, 'succeeded');
    expect(await codeOf(retry(from))).toBe('conflict');
  });

  it('leaves a job out, before it has begun or in another try', async () => {
    const { install, agent } = await scene();
    const graph = await ask(install, [{ key: 'x' }, { key: 'y', depends_on: ['x'] }, { key: 'z', depends_on: ['y'] }]);
    const job = await byKey(graph);
    await world.gateway.call(skipJob, about(job('x'), 'not here'));
    await world.gateway.call(skipJob, about(job('x'), 'not here'));
    expect((await world.readJob(shop, job('x').id)).error).toEqual({ code: 'job_skipped', detail: 'not here' });
    await agent.run((await world.job(shop, job('y').id, 'queued')).id, () => failed);
    await world.deployment(shop, graph.id, 'failed');
    expect(await codeOf(world.gateway.call(skipJob, about(job('y'))))).toBe('conflict');
    const again = await retry(graph, { skip: [job('y').id] });
    const second = await byKey(again);
    expect([second('x').status, second('y').status, second('z').status]).toEqual(['skipped', 'skipped', 'queued']);
    await agent.run(second('z').id);
    const done = await world.gateway.call(getDeployment, { vendor_id: shop.vendor, deployment_id: again.id });
    expect(done.status === 'running' || done.status === 'succeeded').toBe(true);
    await world.deployment(shop, again.id, 'succeeded');
  });

  it('makes a build again', async () => {
    const [build] = await world.build(shop, ['a']);
    await shop.builder.run(build!.job_id, () => failed);
    await world.job(shop, build!.job_id, 'failed');
    const next = await world.gateway.call(retryJob, about(await world.readJob(shop, build!.job_id)));
    expect(next.id).not.toBe(build!.job_id);
    await shop.builder.run(next.id);
    await world.job(shop, next.id, 'succeeded');
  });
});
