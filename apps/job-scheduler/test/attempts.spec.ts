import { createHash } from 'node:crypto';
import { jetstreamManager } from '@nats-io/jetstream';
import {
  cancelDeployment,
  cancelJob,
  decidePlanOfJob,
  getInstall,
  getPlan,
  jobStreamName,
  listAttempts,
  newId,
  shardOf,
  updateInstall,
  type Deployment,
  type Install,
  type Job,
  type PlanSummary,
  type Release,
} from '#contracts';
import { judgeRenewal } from '#domain';
import { newContext, runInContext } from '#platform';
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

const attemptsOf = (job: Job): Promise<string[]> => world.attempts(shop, job);

let counter = 0;
interface Scene {
  readonly install: Install;
  readonly agent: ScriptedAgent;
  readonly deployment: Deployment;
  /** The sync of `a`, offered and not yet claimed. */
  readonly job: Job;
}
async function scene(): Promise<Scene> {
  const { install, agent } = await world.install(shop, `install-${++counter}`);
  const deployment = await world.deploy(shop, install, release);
  const job = (await world.jobs(shop, deployment)).get('sync:a')!;
  return { install, agent, deployment, job };
}

describe('a grant', () => {
  it('is the same for the same session, and for nobody else', async () => {
    const { agent, job } = await scene();
    const first = await agent.claim(job.id);
    expect(await agent.claim(job.id)).toEqual(first);
    expect(await codeOf(agent.claim(job.id, 'another-session'))).toBe('job_not_claimable');
    expect(await codeOf(shop.builder.claim(job.id))).toBe('job_not_claimable');
    const statement = agent.statement(first);
    expect(statement).toMatchObject({
      job_id: job.id,
      attempt: 1,
      kind: 'sync',
      agent_id: agent.id,
      install_name: expect.stringMatching(/^install-/) as string,
      inputs: { region: 'eu' },
      repository: `${shop.account.vendor.name}/shop/a`,
    });
    expect(agent.enrolment.job_keys).toEqual([world.jobKey]);
    expect(await world.sql('SELECT 1 FROM attempts WHERE job_id = $1', [job.id])).toHaveLength(1);
  });

  it('waits for dependencies', async () => {
    const { agent, deployment } = await scene();
    const blocked = (await world.jobs(shop, deployment)).get('apply:b')!;
    expect(await codeOf(agent.claim(blocked.id))).toBe('job_not_claimable');
  });
});

describe('a lease', () => {
  it('that ends makes the job free: it is offered again, and the old attempt is refused', async () => {
    const { install, agent, job } = await scene();
    const { grant } = await agent.run(job.id, () => undefined);
    await until('the attempt is lost', async () => (await attemptsOf(job)).includes('1 lost'));
    await until('another offer', async () => (await agent.offer(1_000)) === job.id);
    const held = { job_id: job.id, attempt: grant.attempt };
    expect((await agent.renew([held])).stop).toMatchObject([{ code: 'stale_attempt' }]);
    expect(await codeOf(agent.resume(job.id, 1))).toBe('stale_attempt');
    // Late word of the lost attempt: refused, told so, recorded, and it changes nothing.
    await agent.send(held, { outcome: 'succeeded', result: {} });
    const refused = await until('a receipt', () => agent.receipts.find(({ attempt }) => attempt === 1));
    expect(refused).toMatchObject({ accepted: false, code: 'stale_attempt' });
    expect(await world.facts(install.id)).toEqual(expect.arrayContaining(['job.lost', 'job.refused']));

    const second = await agent.run(job.id);
    expect(second.grant.attempt).toBe(2);
    await world.job(shop, job.id, 'succeeded');
    expect(await attemptsOf(job)).toEqual(['1 lost', '2 succeeded']);
  });

  it('that is renewed lasts, and one message renews all', async () => {
    const { agent, deployment } = await scene();
    const jobs = await world.jobs(shop, deployment);
    const held = ['sync:a', 'sync:b'].map((key) => ({ job_id: jobs.get(key)!.id, attempt: 1 }));
    for (const { job_id } of held) await agent.claim(job_id);
    const ending = performance.now() + 3_500;
    await until('more time than a lease has', async () => {
      const answer = await agent.renew([...held, { job_id: held[0]!.job_id, attempt: 7 }]);
      expect(answer.stop).toMatchObject([{ attempt: 7, code: 'stale_attempt' }]);
      return performance.now() > ending;
    });
    for (const { job_id } of held) expect((await world.readJob(shop, job_id)).attempt).toBe(1);
  });

  it('is judged in SQL as the rule says', async () => {
    const { agent, job } = await scene();
    await agent.claim(job.id);
    const holder = { attempt: 1, agentId: agent.id, sessionId: agent.session };
    const cases = [
      { until: 60, cancelling: false, attempt: 1 },
      { until: 60, cancelling: true, attempt: 1 },
      { until: -1, cancelling: false, attempt: 1 },
      { until: 60, cancelling: false, attempt: 2 },
    ];
    const meaning = { renewed: undefined, stop_cancelled: 'cancelled', stale: 'stale_attempt' };
    for (const { until: seconds, cancelling, attempt } of cases) {
      await world.sql(
        `UPDATE leases SET until = clock_timestamp() + $2 * interval '1 second', cancelling = $3 WHERE job_id = $1`,
        [job.id, seconds, cancelling],
      );
      const verdict = judgeRenewal({ ...holder, until: seconds, cancelling }, { ...holder, attempt }, 0);
      const { stop } = await agent.renew([{ job_id: job.id, attempt }]);
      expect(stop[0]?.code).toBe(meaning[verdict]);
    }
  });

  it('is taken up by the restarted agent, and the process before it is stale', async () => {
    const { install, agent, job } = await scene();
    await agent.claim(job.id);
    const before = agent.session;
    agent.restart();
    const grant = await agent.resume(job.id, 1);
    expect(agent.statement(grant).attempt).toBe(1);
    expect((await agent.renew([{ job_id: job.id, attempt: 1 }])).stop).toEqual([]);
    agent.session = before;
    expect((await agent.renew([{ job_id: job.id, attempt: 1 }])).stop).toMatchObject([{ code: 'stale_attempt' }]);
    expect(await world.facts(install.id)).toContain('job.resumed');
  });
});

describe('a result', () => {
  it('that comes twice counts once and gets two receipts', async () => {
    const { install, agent, job } = await scene();
    const { grant } = await agent.run(job.id);
    await world.job(shop, job.id, 'succeeded');
    await agent.send({ job_id: job.id, attempt: grant.attempt }, { outcome: 'succeeded' });
    await until('the second receipt', () => agent.receipts.length === 2);
    expect(agent.receipts.every(({ accepted }) => accepted)).toBe(true);
    expect((await world.facts(install.id)).filter((type) => type === 'job.succeeded')).toHaveLength(1);
  });

  it('with an error that may pass is tried again after a while, up to three times', async () => {
    const { agent, job } = await scene();
    const error = { code: 'registry_unavailable', detail: 'connection refused' };
    for (let attempt = 1; attempt <= 4; attempt++) {
      await agent.run(job.id, () => ({ outcome: 'failed', error }));
      await until(`attempt ${attempt} failed`, async () => (await attemptsOf(job)).includes(`${attempt} failed`));
      if (attempt === 4) break;
      const waiting = await world.readJob(shop, job.id);
      expect(waiting.waiting_reason?.code).toBe('retry_delayed');
      expect(await codeOf(agent.claim(job.id))).toBe('job_not_claimable');
      await world.sql('UPDATE jobs SET not_before = now() WHERE id = $1', [job.id]);
      await until(
        'the next offer',
        async () => (await world.readJob(shop, job.id)).waiting_reason?.code === 'awaiting_claim',
      );
    }
    expect((await world.job(shop, job.id, 'failed')).error).toEqual(error);
  });

  it('of an attempt that was never granted, or of a foreign job, goes to the dead letters', async () => {
    const { agent, job } = await scene();
    const manager = await jetstreamManager(world.gateway.connection);
    const before = (await manager.streams.info('DEAD')).state.messages;
    await agent.send({ job_id: job.id, attempt: 3 }, { outcome: 'succeeded' });
    await shop.builder.send({ job_id: job.id, attempt: 1 }, { outcome: 'succeeded' });
    await until('two dead letters', async () => (await manager.streams.info('DEAD')).state.messages === before + 2);
    expect((await world.readJob(shop, job.id)).status).toBe('queued');
  });

  it('comes with its steps, in any order, and a finished step never turns back', async () => {
    const { agent, job } = await scene();
    const grant = await agent.claim(job.id);
    const held = { job_id: job.id, attempt: grant.attempt };
    const at = new Date().toISOString();
    await agent.step(held, 'pull', 'done', at);
    await agent.step(held, 'pull', 'started', at);
    await agent.step(held, 'verify', 'started', at);
    const attempts = await until('both steps', async () => {
      const { data } = await world.gateway.call(listAttempts, { vendor_id: shop.vendor, job_id: job.id });
      return data[0]?.steps.length === 2 && data;
    });
    expect(attempts[0]?.steps.map(({ name, status }) => `${name} ${status}`)).toEqual(['pull done', 'verify started']);
    expect(attempts[0]?.steps[0]).toMatchObject({ duration_ms: 5, tool_ms: 3 });
  });
});

describe('a cancel', () => {
  const cancel = { reason: 'not wanted any more' };
  const ask = (job: Job): Promise<Job> =>
    world.gateway.call(cancelJob, { vendor_id: shop.vendor, job_id: job.id, cancel });

  it('of what does not run is done at once, and skips what waits for it', async () => {
    const { agent, deployment, job } = await scene();
    expect((await ask(job)).status).toBe('cancelled');
    expect((await ask(job)).status).toBe('cancelled');
    expect(await codeOf(agent.claim(job.id))).toBe('job_not_claimable');
    const jobs = await world.jobs(shop, deployment);
    expect(jobs.get('apply:a')?.status).toBe('skipped');
    expect(jobs.get('apply:b')?.error?.detail).toContain('sync of a');
    expect(jobs.get('sync:b')?.status).toBe('queued');
  });

  it('of what runs is signalled, said again by renewals, and ends when the agent confirms', async () => {
    const { agent, job } = await scene();
    await agent.claim(job.id);
    const held = { job_id: job.id, attempt: 1 };
    expect((await ask(job)).status).toBe('cancelling');
    const signal = await until('the signal', () => agent.cancels[0]);
    expect(signal).toMatchObject({ ...held, code: 'cancelled', force: false, reason: cancel.reason });
    expect((await agent.renew([held])).stop).toMatchObject([{ code: 'cancelled', reason: cancel.reason }]);
    const forced = { ...cancel, force: true };
    await world.gateway.call(cancelJob, { vendor_id: shop.vendor, job_id: job.id, cancel: forced });
    expect((await agent.renew([held])).stop).toMatchObject([{ force: true }]);
    await agent.send(held, { outcome: 'cancelled', error: { code: 'cancelled', detail: 'group 4711 is gone' } });
    const done = await world.job(shop, job.id, 'cancelled');
    expect(done.error?.detail).toBe('group 4711 is gone');
    expect(await codeOf(ask((await scene()).job))).toBe('nothing');
  });

  it('that meets a result that was on its way: it happened', async () => {
    const { agent, job } = await scene();
    const grant = await agent.claim(job.id);
    await ask(job);
    const digest = agent.statement(grant).artifact?.digest;
    const result = { digest: digest ?? '', bytes_copied: 0, blobs_copied: 0, blobs_skipped: 1 };
    await agent.send({ job_id: job.id, attempt: 1 }, { outcome: 'succeeded', result });
    await world.job(shop, job.id, 'succeeded');
    expect(await codeOf(ask(job))).toBe('conflict');
  });

  it('of an agent that is gone ends with its lease, and the job is never offered again', async () => {
    const { agent, job } = await scene();
    await agent.claim(job.id);
    await ask(job);
    const done = await world.job(shop, job.id, 'cancelled');
    expect(done.error?.code).toBe('lease_expired');
    expect(await attemptsOf(job)).toEqual(['1 lost']);
    expect(await codeOf(agent.claim(job.id))).toBe('job_not_claimable');
  });

  it('of a deployment cancels all that is not finished', async () => {
    const { agent, deployment } = await scene();
    const jobs = await world.jobs(shop, deployment);
    await agent.claim(jobs.get('sync:b')!.id);
    const request = { vendor_id: shop.vendor, deployment_id: deployment.id, cancel };
    expect((await world.gateway.call(cancelDeployment, request)).status).toBe('cancelling');
    await agent.send({ job_id: jobs.get('sync:b')!.id, attempt: 1 }, { outcome: 'cancelled' });
    const done = await world.deployment(shop, deployment.id, 'cancelled');
    expect(done.jobs).toMatchObject({ failed: 4, unfinished: 0 });
    expect(await codeOf(world.gateway.call(cancelDeployment, request))).toBe('nothing');
  });
});

describe('what JetStream loses', () => {
  it('a deleted stream: the jobs are offered again from PostgreSQL', async () => {
    const { install, agent, deployment } = await scene();
    const jobs = await world.jobs(shop, deployment);
    const manager = await jetstreamManager(world.gateway.connection);
    await manager.streams.delete(jobStreamName(shardOf(agent.id)));
    await agent.hello();
    await agent.work([...jobs.values()].map(({ id }) => id));
    await world.deployment(shop, deployment.id, 'succeeded');
    expect((await world.facts(install.id)).filter((type) => type === 'job.granted')).toHaveLength(4);
  });

  it('an outage of the broker while results are on their way', async () => {
    const { agent, deployment } = await scene();
    const jobs = await world.jobs(shop, deployment);
    const restarted = world.restartNats();
    await restarted;
    await until('the agent is back', async () => (await codeOf(agent.hello())) === 'nothing');
    await agent.work([...jobs.values()].map(({ id }) => id));
    await world.deployment(shop, deployment.id, 'succeeded');
  });
});

describe('a plan', () => {
  it('is kept with its attempt, shown to its vendor alone, and a fact once', async () => {
    const { install, agent, deployment, job } = await scene();
    await agent.run(job.id);
    const apply = (await world.jobs(shop, deployment)).get('apply:a')!;
    await until('the apply', async () => (await agent.offer(1_000)) === apply.id);
    await agent.claim(apply.id);
    const held = { job_id: apply.id, attempt: 1 };
    const read = { vendor_id: shop.vendor, job_id: apply.id };
    expect(await codeOf(world.gateway.call(getPlan, read))).toBe('not_found');
    const fields = [{ path: 'data.color', before: '"red"', after: '"blue"' }];
    const changes = [
      { action: 'update' as const, resource: 'ConfigMap/web', fields },
      { action: 'delete' as const, resource: 'Secret/old\u0000', namespace: 'shop' },
    ];
    const digest = `sha256:${'d'.repeat(64)}`;
    const plan: PlanSummary = { digest, changed: true, created: 0, updated: 1, deleted: 1, changes, omitted: 0 };
    expect(await agent.plan(held, plan)).toEqual({ decision: 'go' });
    await agent.plan(held, plan);
    expect(await world.gateway.call(getPlan, read)).toMatchObject({
      attempt: 1,
      install_id: install.id,
      component: { name: 'a' },
      digest,
      text: 'delete Secret/old\uFFFD (namespace shop)\nupdate ConfigMap/web\n  data.color: "red" -> "blue"',
    });
    expect((await world.facts(install.id)).filter((type) => type === 'job.planned')).toHaveLength(1);
    expect(await codeOf(world.gateway.call(getPlan, { ...read, vendor_id: newId('vendor') }))).toBe('not_found');
    expect(await codeOf(agent.plan({ ...held, attempt: 2 }, plan))).toBe('stale_attempt');
    const { agent: other } = await scene();
    expect(await codeOf(other.plan(held, plan))).toBe('not_found');
    await agent.send(held, { outcome: 'cancelled' });
  });

  it('waits for as many yeses as its install asks for, each for this very plan; a no ends the job', async () => {
    const { install, agent, deployment, job } = await scene();
    const approval = { when: 'on_delete' as const, needed: 2, by: 'both' as const };
    const change = { vendor_id: shop.vendor, install_id: install.id, settings: { approval } };
    await world.gateway.call(updateInstall, change);
    await agent.run(job.id);
    const apply = (await world.jobs(shop, deployment)).get('apply:a')!;
    const planned = (digit: string): PlanSummary => ({
      digest: `sha256:${digit.repeat(64)}`,
      changed: true,
      created: 0,
      updated: 0,
      deleted: 1,
      changes: [{ action: 'delete', resource: 'aws_db_instance.main' }],
      omitted: 0,
    });
    const say = (key: string, plan: PlanSummary, decision: 'approved' | 'rejected' = 'approved') =>
      runInContext({ ...newContext(), actor: `key:${key}` }, () => {
        const { digest } = plan;
        return world.gateway.call(decidePlanOfJob, { vendor_id: shop.vendor, job_id: apply.id, digest, decision });
      });
    /** Takes the offer, plans, and gives the job back when it is told to. */
    const attempt = async (plan: PlanSummary) => {
      await until('the offer', async () => (await agent.offer(1_000)) === apply.id);
      const { attempt: number } = await agent.claim(apply.id);
      const held = { job_id: apply.id, attempt: number };
      return { held, verdict: await agent.plan(held, plan) };
    };
    const giveBack = async ({ held, verdict }: Awaited<ReturnType<typeof attempt>>) => {
      const { hold } = verdict;
      await agent.send(held, { outcome: 'deferred', ...(hold ? { hold } : {}) });
    };
    const first = await attempt(planned('1'));
    expect(first.verdict).toMatchObject({ decision: 'hold', hold: { code: 'awaiting_approval' } });
    // A yes that is quicker than the agent counts all the same.
    await say('a', planned('1'));
    await giveBack(first);
    const waits = await world.job(shop, apply.id, 'queued');
    expect(waits.waiting_reason).toMatchObject({
      code: 'awaiting_approval',
      detail: expect.stringContaining('0 of 2') as string,
    });
    expect(await codeOf(say('b', planned('2')))).toBe('stale_plan');
    const read = await say('a', planned('1'));
    expect(read.approvals).toMatchObject([{ by: 'key:a', decision: 'approved' }]);
    await say('b', planned('1'));
    // What it finds now is not what was approved: it waits again.
    const second = await attempt(planned('3'));
    expect(second.verdict).toMatchObject({ decision: 'hold' });
    await giveBack(second);
    await world.job(shop, apply.id, 'queued');
    await say('a', planned('3'));
    await say('b', planned('3'));
    const third = await attempt(planned('3'));
    expect(third.verdict).toEqual({ decision: 'go', ask_customer: true });
    expect(await codeOf(say('c', planned('3')))).toBe('conflict');
    await agent.send(third.held, { outcome: 'cancelled' });
    const types = await world.facts(install.id);
    expect(types.filter((type) => type === 'job.plan_approved')).toHaveLength(5);

    const other = await scene();
    await world.gateway.call(updateInstall, {
      ...change,
      install_id: other.install.id,
      settings: { approval: { when: 'always' } },
    });
    await other.agent.run(other.job.id);
    const end = (await world.jobs(shop, other.deployment)).get('apply:a')!;
    await until('the apply', async () => (await other.agent.offer(1_000)) === end.id);
    await other.agent.claim(end.id);
    const held = { job_id: end.id, attempt: 1 };
    const { hold } = await other.agent.plan(held, planned('5'));
    await other.agent.send(held, { outcome: 'deferred', ...(hold ? { hold } : {}) });
    await until('held', async () => (await world.readJob(shop, end.id)).hold !== undefined);
    const { digest } = planned('5');
    const no = {
      vendor_id: shop.vendor,
      job_id: end.id,
      digest,
      decision: 'rejected' as const,
      note: 'not on a Friday',
    };
    await world.gateway.call(decidePlanOfJob, no);
    expect(await world.job(shop, end.id, 'failed')).toMatchObject({ error: { code: 'plan_rejected' } });
    expect((await world.jobs(shop, other.deployment)).get('apply:b')?.status).toBe('skipped');
    const left = await world.gateway.call(getInstall, { vendor_id: shop.vendor, install_id: other.install.id });
    expect(left.components[0]?.status).toBe('absent');
  });
});

it('keeps no secret in clear: tokens are hashed, statements are not stored', async () => {
  const { install } = await world.bareInstall(shop, 'secretive');
  const rows = await world.sql<{ secret_hash: Buffer; text: string }>(
    'SELECT secret_hash, to_json(t)::text AS text FROM enrolment_tokens t WHERE agent_id = $1',
    [install.agent_id],
  );
  expect(rows[0]?.secret_hash).toHaveLength(createHash('sha256').digest().length);
  expect(rows[0]?.text).not.toContain('ims_enr_');
});
