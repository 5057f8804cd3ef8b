import {
  cancelJob,
  getAgent,
  getInstall,
  holdJob,
  newId,
  resumeHeldJob,
  type Deployment,
  type Hold,
  type Install,
  type Job,
  type JsonObject,
  type Release,
} from '#contracts';
import { type Bus } from '#messaging';
import { newContext, runInContext } from '#platform';
import { freshDatabase, startNats } from '#stack';
import { type ScriptedAgent } from './agent.js';
import { codeOf, until, World, type Shop } from './world.js';

let world: World;
let shop: Shop;
let release: Release;
let registryToken: Bus;
beforeAll(async () => {
  // Two replicas everywhere below: whatever one of them holds or lifts, the other sweeps over.
  world = await World.start({ startNats, freshDatabase }, 2);
  shop = await world.shop({ a: {}, b: { depends_on: ['a'] } });
  release = await world.release(shop, '1.0.0');
  registryToken = await world.busOf('registry-token');
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
  /** The sync of `b`, which nobody takes: the sweep offers it again and again. */
  readonly other: Job;
}
async function scene(): Promise<Scene> {
  const { install, agent } = await world.install(shop, `held-${++counter}`);
  const deployment = await world.deploy(shop, install, release);
  const jobs = await world.jobs(shop, deployment);
  return { install, agent, deployment, job: jobs.get('sync:a')!, other: jobs.get('sync:b')! };
}
/** Resolves when the sweeps have had their chance: the other job of the scene was offered twice more. */
async function swept({ other }: Scene): Promise<void> {
  const offers = async (): Promise<number> => {
    const [row] = await world.sql<{ offers: number }>('SELECT offers FROM jobs WHERE id = $1', [other.id]);
    return row!.offers;
  };
  const before = await offers();
  await until('two more offers', async () => (await offers()) >= before + 2);
}
/** Takes offers until one of this job comes that was not made before it ran or was held. */
const offered = (agent: ScriptedAgent, job: Job): Promise<true> =>
  until(`an offer of ${job.id}`, async () => {
    if ((await agent.offer(1_000)) !== job.id) return false;
    const { status, hold } = await world.readJob(shop, job.id);
    return status === 'queued' && hold === undefined;
  });

const tampered: Hold = { code: 'token_tampered', detail: 'a pull token of the job was presented by somebody else' };
const tamper = (job: Job): Promise<Job> =>
  registryToken.call(holdJob, { vendor_id: shop.vendor, job_id: job.id, hold: tampered });
const key_id = newId('key');
const resume = (job: Job): Promise<Job> =>
  runInContext({ ...newContext(), actor: `key:${key_id}` }, () =>
    world.gateway.call(resumeHeldJob, { vendor_id: shop.vendor, job_id: job.id, resume: { reason: 'checked' } }),
  );
const cancel = (job: Job): Promise<Job> =>
  world.gateway.call(cancelJob, { vendor_id: shop.vendor, job_id: job.id, cancel: {} });
const factsOf = async (job: Job, type: string): Promise<{ actor: string; data: JsonObject }[]> =>
  world.sql('SELECT actor, data FROM events WHERE job_id = $1 AND type = $2 ORDER BY seq', [job.id, type]);

describe('a tampered token', () => {
  it('holds a queued job where it stands, until a person resumes it', async () => {
    const all = await scene();
    const { agent, job } = all;
    await offered(agent, job);
    expect(await tamper(job)).toMatchObject({ status: 'queued', hold: tampered });
    expect((await world.readJob(shop, job.id)).waiting_reason).toMatchObject({
      code: 'token_tampered',
      detail: tampered.detail,
      unblock: expect.stringContaining('/resume') as string,
    });
    expect(await codeOf(agent.claim(job.id))).toBe('job_not_claimable');
    const before = await world.sql('SELECT offers FROM jobs WHERE id = $1', [job.id]);
    await swept(all);
    expect(await world.sql('SELECT offers FROM jobs WHERE id = $1', [job.id])).toEqual(before);

    expect((await resume(job)).hold).toBeUndefined();
    await offered(agent, job);
    await agent.run(job.id);
    await world.job(shop, job.id, 'succeeded');
    expect(await factsOf(job, 'job.held')).toMatchObject([
      { actor: 'service:registry-token', data: { code: 'token_tampered', detail: tampered.detail } },
    ]);
    expect(await factsOf(job, 'job.hold_lifted')).toMatchObject([
      { actor: `key:${key_id}`, data: { code: 'token_tampered', by: 'vendor', reason: 'checked' } },
    ]);
  });

  it('stops what runs within a second; the job waits held, and its next attempt can succeed', async () => {
    const { agent, job } = await scene();
    await agent.claim(job.id);
    const held = { job_id: job.id, attempt: 1 };
    const asked = performance.now();
    const answer = tamper(job);
    const order = await until('the stop order', () => agent.cancels[0]);
    expect(performance.now() - asked).toBeLessThan(1_000);
    expect(order).toMatchObject({ ...held, code: 'cancelled', force: false, reason: tampered.detail });
    expect(await answer).toMatchObject({ status: 'running', waiting_reason: { code: 'token_tampered' } });
    expect((await agent.renew([held])).stop).toMatchObject([{ code: 'cancelled', reason: tampered.detail }]);
    // A lost reply of the claim gives no second grant any more; and nobody resumes what has not stopped.
    expect(await codeOf(agent.claim(job.id))).toBe('job_not_claimable');
    expect(await codeOf(resume(job))).toBe('conflict');

    await agent.send(held, { outcome: 'cancelled', error: { code: 'cancelled', detail: 'group 4711 is gone' } });
    expect(await world.job(shop, job.id, 'queued')).toMatchObject({ hold: tampered });
    expect(await codeOf(agent.claim(job.id))).toBe('job_not_claimable');
    await resume(job);
    const { grant } = await agent.run(job.id);
    expect(grant.attempt).toBe(2);
    await world.job(shop, job.id, 'succeeded');
    expect(await attemptsOf(job)).toEqual(['1 cancelled', '2 succeeded']);
  });

  it('holds the job of an agent that is gone when its lease ends', async () => {
    const all = await scene();
    const { agent, job } = all;
    await agent.claim(job.id);
    await tamper(job);
    await until('the attempt is lost', async () => (await attemptsOf(job)).includes('1 lost'));
    await swept(all);
    expect(await world.readJob(shop, job.id)).toMatchObject({ status: 'queued', attempt: 1, hold: tampered });
  });

  it('meets a success that was on its way: it happened', async () => {
    const { agent, job } = await scene();
    const grant = await agent.claim(job.id);
    await tamper(job);
    const digest = agent.statement(grant).artifact?.digest ?? '';
    const result = { digest, bytes_copied: 0, blobs_copied: 0, blobs_skipped: 1 };
    await agent.send({ job_id: job.id, attempt: 1 }, { outcome: 'succeeded', result });
    expect((await world.job(shop, job.id, 'succeeded')).hold).toBeUndefined();
    // Nothing is left to hold, which is no error; nothing to resume, which is one.
    expect((await tamper(job)).status).toBe('succeeded');
    expect(await codeOf(resume(job))).toBe('conflict');
  });

  it('that is reported twice is held once; a foreign job is not found; a customer’s hold is no business of services', async () => {
    const { job } = await scene();
    await Promise.all([tamper(job), tamper(job)]);
    expect(await factsOf(job, 'job.held')).toHaveLength(1);
    const foreign = { vendor_id: newId('vendor'), job_id: job.id, hold: tampered };
    expect(await codeOf(registryToken.call(holdJob, foreign))).toBe('not_found');
    const paused: Hold = { code: 'customer_paused', detail: '' };
    const wrong = { vendor_id: shop.vendor, job_id: job.id, hold: paused };
    expect(await codeOf(registryToken.call(holdJob, wrong))).toBe('invalid_request');
  });

  it('does not stand against a cancel, queued or running', async () => {
    const { agent, job, other } = await scene();
    await tamper(job);
    expect(await cancel(job)).toMatchObject({ status: 'cancelled' });
    expect((await world.readJob(shop, job.id)).hold).toBeUndefined();
    await agent.claim(other.id);
    await tamper(other);
    expect((await cancel(other)).status).toBe('cancelling');
    await agent.send({ job_id: other.id, attempt: 1 }, { outcome: 'cancelled' });
    await world.job(shop, other.id, 'cancelled');
  });
});

const approval: Hold = {
  code: 'awaiting_customer_approval',
  detail: 'the plan deletes 2 resources',
  plan_digest: `sha256:${'ab'.repeat(32)}`,
};
/** Claims the job and gives it back at once. */
async function defer(agent: ScriptedAgent, job: Job, hold: Hold): Promise<void> {
  const { grant } = await agent.run(job.id, () => ({ outcome: 'deferred', hold }));
  await until('the receipt', () => agent.receipts.find((one) => one.attempt === grant.attempt && one.accepted));
}

describe('a hold of the customer', () => {
  it('with a time is over by itself then, and is no failure', async () => {
    const { agent, job } = await scene();
    const end = new Date(Date.now() + 2_500).toISOString();
    await defer(agent, job, { code: 'customer_window', detail: 'closed', until: end });
    const held = await world.readJob(shop, job.id);
    expect(held).toMatchObject({ status: 'queued', hold: { code: 'customer_window', until: end } });
    expect(held.waiting_reason).toMatchObject({ code: 'customer_window', detail: 'closed' });
    expect(held.waiting_reason?.unblock).toContain(end);
    expect(await codeOf(agent.claim(job.id))).toBe('job_not_claimable');
    expect(await codeOf(resume(job))).toBe('held_by_customer');
    await offered(agent, job);
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(end));
    await agent.run(job.id);
    await world.job(shop, job.id, 'succeeded');
    expect(await attemptsOf(job)).toEqual(['1 deferred', '2 succeeded']);
    expect(await world.sql('SELECT failures FROM jobs WHERE id = $1', [job.id])).toEqual([{ failures: 0 }]);
    expect(await factsOf(job, 'job.deferred')).toMatchObject([{ data: { hold: { code: 'customer_window' } } }]);
    expect(await factsOf(job, 'job.hold_lifted')).toMatchObject([{ data: { by: 'time' } }]);
  });

  it('without one waits for the agent to report its policy, which both sides can see', async () => {
    const all = await scene();
    const { install, agent, job } = all;
    const policy = { approve: 'on_delete', pending: [{ digest: approval.plan_digest ?? '' }] };
    expect(await agent.report(policy)).toEqual({ lifted: 0 });
    await defer(agent, job, approval);
    await swept(all);
    expect((await world.readJob(shop, job.id)).hold).toEqual(approval);
    expect((await world.readJob(shop, job.id)).waiting_reason?.unblock).toContain(approval.plan_digest);

    expect(await agent.report(policy)).toEqual({ lifted: 1 });
    await offered(agent, job);
    expect(await agent.report({ ...policy, pending: [] })).toEqual({ lifted: 0 });
    await agent.run(job.id);
    await world.job(shop, job.id, 'succeeded');
    expect(await factsOf(job, 'job.hold_lifted')).toMatchObject([
      { actor: `agent:${agent.id}`, data: { by: 'report' } },
    ]);
    // Three reports so far of one policy: what waits for approval is no part of it.
    const changes = async (): Promise<string[]> =>
      (await world.facts(install.id)).filter((type) => type === 'agent.policy_changed');
    expect(await changes()).toHaveLength(1);
    const shown = { approve: 'always', pending: [] };
    await agent.report(shown);
    expect(await changes()).toHaveLength(2);
    const scope = { vendor_id: shop.vendor, agent_id: install.agent_id };
    expect((await world.gateway.call(getAgent, scope)).customer_policy).toEqual(shown);
    const read = await world.gateway.call(getInstall, { vendor_id: shop.vendor, install_id: install.id });
    expect(read.customer_policy).toEqual(shown);
  });

  it('is not left behind by a report that overtakes the result: the agent is asked once more', async () => {
    const all = await scene();
    const { agent, job } = all;
    const { grant } = await agent.run(job.id, () => undefined);
    // The agent has decided; before its word arrives the customer approves, and that report is there first.
    expect(await agent.report({ approved: true })).toEqual({ lifted: 0 });
    await agent.send({ job_id: job.id, attempt: grant.attempt }, { outcome: 'deferred', hold: approval });
    await offered(agent, job);
    expect(await factsOf(job, 'job.hold_lifted')).toMatchObject([{ data: { by: 'report' } }]);
    // No report since the second grant: this deferral stands.
    await defer(agent, job, approval);
    await swept(all);
    expect((await world.readJob(shop, job.id)).hold).toEqual(approval);
    expect(await attemptsOf(job)).toEqual(['1 deferred', '2 deferred']);
  });

  it('and a report that race each other never leave a job asleep, and lift it once', async () => {
    const { agent, job } = await scene();
    const rounds = 12;
    for (let round = 1; round <= rounds; round++) {
      const { grant } = await agent.run(job.id, () => undefined);
      const held = { job_id: job.id, attempt: grant.attempt };
      await Promise.all([
        agent.send(held, { outcome: 'deferred', hold: approval }),
        agent.report({ round }),
        round % 2 === 0 ? agent.report({ round, again: true }) : undefined,
      ]);
      await offered(agent, job);
    }
    expect(await factsOf(job, 'job.deferred')).toHaveLength(rounds);
    expect(await factsOf(job, 'job.hold_lifted')).toHaveLength(rounds);
    await agent.run(job.id);
    await world.job(shop, job.id, 'succeeded');
  });

  it('is lifted for all jobs of the agent by one report, and not for another agent’s', async () => {
    const { agent, job, other } = await scene();
    const neighbour = await scene();
    for (const one of [job, other]) await defer(agent, one, approval);
    await defer(neighbour.agent, neighbour.job, approval);
    await tamper(other);
    expect(await agent.report({})).toEqual({ lifted: 1 });
    await offered(agent, job);
    expect((await world.readJob(shop, other.id)).hold).toEqual(tampered);
    expect((await world.readJob(shop, neighbour.job.id)).hold).toEqual(approval);
  });

  it('does not stand against a cancel, before it or after it', async () => {
    const { agent, job, other } = await scene();
    await defer(agent, job, approval);
    expect((await cancel(job)).status).toBe('cancelled');
    await agent.claim(other.id);
    await cancel(other);
    await agent.send({ job_id: other.id, attempt: 1 }, { outcome: 'deferred', hold: approval });
    expect((await world.job(shop, other.id, 'cancelled')).hold).toBeUndefined();
    expect(await attemptsOf(other)).toEqual(['1 deferred']);
  });

  it('is taken from an agent only as a customer’s', async () => {
    const { agent, job, other } = await scene();
    await agent.run(job.id, () => ({ outcome: 'deferred', hold: tampered }));
    expect((await world.job(shop, job.id, 'failed')).error?.code).toBe('agent_error');
    await agent.run(other.id, () => ({ outcome: 'deferred' }));
    expect((await world.job(shop, other.id, 'failed')).error?.code).toBe('agent_error');
  });
});
