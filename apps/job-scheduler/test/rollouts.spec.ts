import {
  changeRollout,
  createChannel,
  createDeployment,
  createInstall,
  createRelease,
  createRollout,
  etagOf,
  getChannel,
  getInstall,
  getRelease,
  getRollout,
  listDeployments,
  listRolloutInstalls,
  listRollouts,
  markRelease,
  promoteRelease,
  updateInstall,
  type Install,
  type JobStatement,
  type NewRollout,
  type Release,
  type Rollout,
  type RolloutInstall,
} from '#contracts';
import { freshDatabase, startNats } from '#stack';
import { type Answer, type ScriptedAgent } from './agent.js';
import { codeOf, until, World, type Shop } from './world.js';

let world: World;
let shop: Shop;
const served: { stop: boolean; done: Promise<void> }[] = [];

beforeAll(async () => {
  world = await World.start({ startNats, freshDatabase }, 2);
  shop = await world.shop({ db: {} });
});
afterAll(async () => {
  for (const one of served) one.stop = true;
  await Promise.all(served.map(({ done }) => done));
  await world.stop();
});

/** Lets an agent take whatever it is offered. */
function serve(agent: ScriptedAgent, script: (job: JobStatement) => Answer = () => ({ outcome: 'succeeded' })): void {
  const one = { stop: false, done: Promise.resolve() };
  one.done = (async () => {
    while (!one.stop) {
      const job = await agent.offer(1_000).catch(() => undefined);
      if (job !== undefined) await agent.run(job, script).catch(() => undefined);
    }
  })();
  served.push(one);
}

async function install(name: string, labels: Record<string, string> = {}, of: Shop = shop): Promise<Install> {
  const install = { app_id: of.app.id, name, labels };
  return world.gateway.call(createInstall, { vendor_id: of.vendor, install });
}
async function enrolled(one: Install, of: Shop = shop): Promise<ScriptedAgent> {
  return world.enrol(await world.token({ vendor_id: of.vendor, agent_id: one.agent_id }));
}
const start = (rollout: NewRollout, of: Shop = shop): Promise<Rollout> =>
  world.gateway.call(createRollout, { vendor_id: of.vendor, rollout });
const read = ({ id }: Rollout, of: Shop = shop): Promise<Rollout> =>
  world.gateway.call(getRollout, { vendor_id: of.vendor, rollout_id: id });
const when = (rollout: Rollout, what: string, test: (now: Rollout) => boolean, of: Shop = shop): Promise<Rollout> =>
  until(
    `${rollout.id} ${what}`,
    async () => {
      const now = await read(rollout, of);
      return test(now) && now;
    },
    60_000,
  );
async function members({ id }: Rollout, of: Shop = shop): Promise<Map<string, RolloutInstall>> {
  const query = { vendor_id: of.vendor, rollout_id: id, limit: 200 };
  const { data } = await world.gateway.call(listRolloutInstalls, query);
  return new Map(data.map((member) => [member.name, member]));
}
const change = (rollout: Rollout, verb: 'pause' | 'resume' | 'cancel', more: object = {}, of = shop) =>
  world.gateway.call(changeRollout, { vendor_id: of.vendor, rollout_id: rollout.id, verb, change: more });

describe('two dozen installs', () => {
  let release: Release;
  const agents = new Map<string, ScriptedAgent>();
  beforeAll(async () => {
    release = await world.release(shop, '1.0.0');
    const names = Array.from({ length: 24 }, (_, i) => `i${String(i).padStart(2, '0')}`);
    await Promise.all(
      names.map(async (name, i) => {
        const one = await install(name, { ring: i < 3 ? 'canary' : 'wide' });
        agents.set(name, await enrolled(one));
      }),
    );
  });

  it('get a release: canaries first, six at a time, over a replica that dies; who is away comes later', async () => {
    for (const [name, agent] of agents) {
      if (name === 'i20') agent.silence();
      serve(agent, ({ kind }) =>
        kind === 'apply' && failing.has(name)
          ? { outcome: 'failed', error: { code: 'apply_failed', detail: 'no such host' } }
          : { outcome: 'succeeded' },
      );
    }
    await until('i20 offline', async () => (await world.facts(await idOf('i20'))).includes('agent.offline'));
    const rollout = await start({
      release_id: release.id,
      groups: [
        { name: 'canary', labels: { ring: 'canary' }, soak_seconds: 1 },
        { name: 'rest', labels: {} },
      ],
      max_parallel: 6,
    });
    expect(rollout.installs.total).toBe(24);
    expect(rollout.group).toBe('canary');
    await when(rollout, 'soaks', ({ waiting_reason }) => waiting_reason?.code === 'soaking');
    await when(rollout, 'is in its second group', ({ installs }) => installs.succeeded > 6);
    const [dies] = world.schedulers;
    if (dies) await world.removeScheduler(dies);
    const late = await when(
      rollout,
      'waits for one',
      ({ waiting_reason }) => waiting_reason?.code === 'installs_waiting',
    );
    expect(late.installs).toMatchObject({ total: 24, succeeded: 23, waiting: 1 });
    expect((await members(rollout)).get('i20')).toMatchObject({
      status: 'waiting',
      group: 'rest',
      reason: { code: 'agent_offline', unblock: expect.stringContaining('Start the agent') as string },
    });
    agents.get('i20')?.beat();
    const done = await when(rollout, 'has ended', ({ status }) => status === 'succeeded');
    expect(done).toMatchObject({ installs: { succeeded: 24, failed: 0 } });
    expect(done.waiting_reason).toBeUndefined();

    const spans = await world.sql<{ canary: boolean; created_at: Date; finished_at: Date }>(
      `SELECT i.labels->>'ring' = 'canary' AS canary, d.created_at, d.finished_at
       FROM deployments d JOIN installs i ON i.id = d.install_id WHERE d.rollout_id = $1`,
      [rollout.id],
    );
    expect(spans).toHaveLength(24);
    const overlap = spans.map(
      ({ created_at: at }) => spans.filter((one) => one.created_at <= at && at < one.finished_at).length,
    );
    expect(Math.max(...overlap)).toBeLessThanOrEqual(6);
    const tested = Math.max(...spans.filter(({ canary }) => canary).map(({ finished_at }) => finished_at.getTime()));
    const next = Math.min(...spans.filter(({ canary }) => !canary).map(({ created_at }) => created_at.getTime()));
    expect(next - tested).toBeGreaterThanOrEqual(1_000);
    const facts = (await world.facts(shop.vendor)).filter((type) => type.startsWith('rollout.'));
    expect(facts).toEqual(['rollout.created', 'rollout.group_begun', 'rollout.succeeded']);
    expect(await world.facts(await idOf('i20'))).toEqual(
      expect.arrayContaining(['rollout.install_waiting', 'rollout.install_succeeded']),
    );
    await world.addScheduler();
  }, 150_000);

  it('stop at a failure; a person pauses, resumes and cancels', async () => {
    const next = await world.release(shop, '1.1.0');
    await world.sql(`UPDATE agents SET policy = '{"pause":{"note":"audit"}}' WHERE id = $1`, [agents.get('i01')?.id]);
    failing.add('i00');
    const groups = [{ name: 'few', labels: { ring: 'canary' } }];
    const rollout = await start({ release_id: next.id, groups });
    expect(await codeOf(start({ release_id: next.id }))).toBe('conflict');
    const stopped = await when(rollout, 'stops', ({ status }) => status === 'stopped');
    expect(stopped).toMatchObject({ installs: { total: 3, failed: 1 } });
    expect(stopped.waiting_reason).toMatchObject({
      code: 'stopped',
      detail: expect.stringContaining('1 failed, 0 may') as string,
    });
    expect((await members(rollout)).get('i00')).toMatchObject({ status: 'failed', error: { code: 'apply_failed' } });
    failing.clear();
    expect(await codeOf(change(rollout, 'pause'))).toBe('conflict');
    await change(rollout, 'resume', { retry_failed: true, reason: 'mended' });
    const waits = await when(rollout, 'goes on', ({ installs }) => installs.succeeded === 2);
    await change(waits, 'pause');
    expect((await members(rollout)).get('i01')).toMatchObject({
      status: 'waiting',
      reason: { code: 'customer_paused' },
    });
    await world.sql('UPDATE agents SET policy = NULL WHERE id = $1', [agents.get('i01')?.id]);
    expect((await when(rollout, 'is paused', ({ status }) => status === 'paused')).waiting_reason?.code).toBe('paused');
    const ended = await change(rollout, 'cancel');
    expect(ended).toMatchObject({ status: 'cancelled', installs: { succeeded: 2, skipped: 1 } });
    expect(await codeOf(change(rollout, 'resume'))).toBe('conflict');
    const { data } = await world.gateway.call(listRollouts, { vendor_id: shop.vendor, status: 'cancelled' });
    expect(data.map(({ id }) => id)).toEqual([rollout.id]);
  }, 180_000);

  const idOf = async (name: string): Promise<string> => {
    const [row] = await world.sql<{ id: string }>('SELECT id FROM installs WHERE name = $1', [name]);
    return row?.id ?? '';
  };
});

/** Names of installs whose applies fail. */
const failing = new Set<string>();

describe('releases and channels', () => {
  let own: Shop;
  let one: Install;
  beforeAll(async () => {
    own = await world.shop({ db: {} });
    one = await install('solo', {}, own);
    serve(await enrolled(one, own));
  });
  const deploy = (release: Release, rollback?: true) => {
    const deployment = { kind: 'deploy' as const, release_id: release.id, ...(rollback ? { rollback } : {}) };
    return world.gateway.call(createDeployment, { vendor_id: own.vendor, install_id: one.id, deployment });
  };
  const cut = (version: string, more: object = {}) =>
    world.gateway.call(createRelease, { vendor_id: own.vendor, app_id: own.app.id, release: { version, ...more } });

  it('a channel that deploys by itself, a bad release, a required one, a floor', async () => {
    const v1 = await world.release(own, '1.0.0');
    const v2 = await cut('2.0.0', { required: true, rollback_floor: '1.0.0' });
    const v3 = await cut('3.0.0', { rollback_floor: '2.0.0', builds: [v1.components[0]?.build_id ?? ''] });
    const bad = await cut('3.1.0');
    expect(await codeOf(cut('not-a-version'))).toBe('invalid_request');
    expect(await codeOf(cut('4.0.0', { builds: [own.vendor.replace('ven', 'bld')] }))).toBe('invalid_request');

    const scope = { vendor_id: own.vendor, app_id: own.app.id };
    const settings = { name: 'stable', auto_deploy: true };
    const channel = await world.gateway.call(createChannel, { ...scope, channel: settings });
    const ref = { vendor_id: own.vendor, channel_id: channel.id };
    const promote = (release: Release, rollback?: true) =>
      world.gateway.call(promoteRelease, {
        ...ref,
        promotion: { release_id: release.id, ...(rollback ? { rollback } : {}) },
      });
    await promote(v1);
    const change = { vendor_id: own.vendor, install_id: one.id, settings: { channel_id: channel.id } };
    expect(await codeOf(world.gateway.call(updateInstall, { ...change, if_match: 'old' }))).toBe('precondition_failed');
    await world.gateway.call(updateInstall, { ...change, if_match: etagOf(one) });
    const has = (release: Release) =>
      until(`the install has ${release.version}`, async () => {
        const now = await world.gateway.call(getInstall, { vendor_id: own.vendor, install_id: one.id });
        return now.release_id === release.id && now;
      });
    expect(await has(v1)).toMatchObject({ channel_id: channel.id });

    // The required one in between is not skipped: the channel's rollout leaves the install out and says why.
    await promote(v3);
    const skipped = await until('left out', async () => {
      const { data } = await world.gateway.call(listRollouts, { vendor_id: own.vendor });
      const [newest] = data;
      return newest?.release_id === v3.id && newest.status === 'succeeded' && (await members(newest, own)).get('solo');
    });
    expect(skipped).toMatchObject({ status: 'skipped', reason: { code: 'refused' } });
    expect(skipped.reason?.detail).toContain('2.0.0');
    expect(await codeOf(deploy(v3))).toBe('release_required');
    await world.deployment(own, (await deploy(v2)).id, 'succeeded');
    await world.deployment(own, (await deploy(v3)).id, 'succeeded');
    expect(await codeOf(deploy(v2))).toBe('release_downgraded');
    expect(await codeOf(deploy(v1, true))).toBe('rollback_refused');
    await world.deployment(own, (await deploy(v2, true)).id, 'succeeded');

    // Marked bad before anybody has it: the channel goes back, and nobody gets it.
    const mark = { vendor_id: own.vendor, release_id: bad.id };
    await world.gateway.call(markRelease, { ...mark, bad: { reason: 'loses orders' } });
    expect(await codeOf(promote(bad))).toBe('release_bad');
    expect(await codeOf(deploy(bad))).toBe('release_bad');
    await world.gateway.call(markRelease, mark);
    await promote(bad);
    await has(bad);
    await world.gateway.call(markRelease, { ...mark, bad: { reason: 'loses orders' } });
    expect(await world.gateway.call(getChannel, ref)).toMatchObject({ release_id: v3.id, version: '3.0.0' });
    expect((await world.gateway.call(getRelease, mark)).bad).toMatchObject({ reason: 'loses orders' });
    // Who has it keeps it, until a person says otherwise.
    const { data } = await world.gateway.call(listDeployments, { vendor_id: own.vendor, install_id: one.id });
    expect(data[0]?.rollout_id).toBeDefined();
    expect(await codeOf(promote(v2))).toBe('release_downgraded');
    expect(await world.facts(own.vendor)).toEqual(
      expect.arrayContaining(['channel.created', 'channel.promoted', 'release.marked_bad', 'release.marked_good']),
    );
  }, 90_000);
});
