import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newId, type JobId } from '#contracts';
import { startNats } from '#stack';
import { type JobHandler } from '../src/index.js';
import { type FakeScheduler } from './fake-scheduler.js';
import { Lab, STUBBORN, alive, stubbornPids } from './lab.js';
import { waitFor } from './wait.js';

let lab: Lab;
let scheduler: FakeScheduler;
beforeAll(async () => {
  lab = await Lab.open(startNats);
  ({ scheduler } = lab);
});
afterAll(() => lab.close());
beforeEach(() => lab.begin());
afterEach(() => lab.end());

it('goes from offer to receipt: steps, log, result, and then nothing is kept', async () => {
  await lab.startAgent();
  const job = await scheduler.offer(
    { name: 'first', script: 'echo one' },
    { name: 'second', script: 'echo "got $SECRET" >&2', secret: 'swordfish-42' },
  );
  await waitFor(() => scheduler.resultOf(job) !== undefined);
  expect(scheduler.resultOf(job)).toMatchObject({
    attempt: 1,
    outcome: 'succeeded',
    result: { steps: ['first', 'second'] },
  });
  await waitFor(() => scheduler.logEnded(job));
  // `started` is left out where `done` came within the moment that reports wait for one another.
  expect(scheduler.stepsOf(job).filter((step) => !step.endsWith(':started'))).toEqual(['first:done', 'second:done']);
  const reported = scheduler.steps.filter(({ job_id }) => job_id === job).flatMap(({ steps }) => steps);
  const done = reported.find(({ status }) => status === 'done')!;
  expect(done.duration_ms).toBeGreaterThanOrEqual(done.tool_ms!);
  expect(done.tool_ms).toBeGreaterThan(0);
  expect(scheduler.linesOf(job)).toEqual(['step first', 'one', 'step second', 'got ***']);
  await lab.settled();
  await waitFor(async () => (await readdir(join(lab.stateDir, 'work'))).length === 0);
  await waitFor(async () => (await readdir(join(lab.stateDir, 'spool'))).length === 0);
  expect(await scheduler.pendingOffers()).toBe(0);
});

it('runs as many jobs at once as there are slots, and then one after another', async () => {
  scheduler.slots = 2;
  await lab.startAgent();
  const gate = join(lab.stateDir, 'gate');
  const wait = `while [ ! -e ${gate} ]; do sleep 0.02; done`;
  const jobs: JobId[] = [];
  for (let i = 0; i < 3; i++) jobs.push(await scheduler.offer({ name: 'wait', script: wait }));
  await waitFor(() => scheduler.steps.filter(({ job_id }) => jobs.includes(job_id)).length === 2);
  expect(scheduler.claims.filter(({ job_id }) => jobs.includes(job_id))).toHaveLength(2);
  await writeFile(gate, '');
  await waitFor(() => jobs.every((job) => scheduler.resultOf(job)?.outcome === 'succeeded'));
});
it('sends the result again until the receipt comes, once for the scheduler', async () => {
  scheduler.dropReceipts = 2;
  await lab.startAgent();
  const job = await scheduler.offer({ name: 'first', script: 'true' });
  await settledAfter(job, 3);
  const sent = scheduler.results.filter(({ job_id }) => job_id === job);
  expect(sent).toHaveLength(3);
  expect(new Set(sent.map((result) => JSON.stringify(result))).size).toBe(1);
});
async function settledAfter(job: string, results: number): Promise<void> {
  await waitFor(() => scheduler.results.filter(({ job_id }) => job_id === job).length === results);
  await lab.settled();
}

it('reports a failed step with its code and stops there', async () => {
  await lab.startAgent();
  const job = await scheduler.offer({ name: 'first', script: 'echo bad; exit 3' }, { name: 'second', script: 'true' });
  await waitFor(() => scheduler.resultOf(job) !== undefined);
  expect(scheduler.resultOf(job)).toMatchObject({
    outcome: 'failed',
    error: { code: 'apply_failed', detail: 'first ended with 3' },
  });
  expect(scheduler.stepsOf(job).at(-1)).toBe('first:failed');
  await waitFor(() => scheduler.logEnded(job));
  expect(scheduler.linesOf(job).at(-1)).toContain('apply_failed');
});

it('reports what nobody expected as agent_error, without its secrets', async () => {
  const broken: JobHandler = {
    kind: 'apply',
    steps: () => [
      {
        name: 'boom',
        run: (context) => {
          context.secrets.add('swordfish-43');
          throw new Error('cannot log in with swordfish-43');
        },
      },
    ],
    result: () => ({ result: {} }),
  };
  await lab.startAgent({}, [broken]);
  const job = await scheduler.offer();
  await waitFor(() => scheduler.resultOf(job) !== undefined);
  expect(scheduler.resultOf(job)!.error).toEqual({ code: 'agent_error', detail: 'cannot log in with ***' });
});

describe('a statement that is not good is refused, reported, and nothing runs', () => {
  const refused = async (detail: string): Promise<void> => {
    await lab.startAgent();
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    const result = scheduler.resultOf(job)!;
    expect(result).toMatchObject({ outcome: 'failed', error: { code: 'statement_refused' } });
    expect(result.error!.detail).toContain(detail);
    expect(scheduler.stepsOf(job)).toEqual([]);
  };
  it.each([
    ['another agent', { agent_id: newId('agent') }, 'its agent is'],
    ['another key', { agent_key: `U${'A'.repeat(55)}` }, 'its agent key is'],
    ['another install', { install_id: newId('install') }, 'its install is'],
    ['another job', { job_id: newId('job') }, 'its job is'],
    ['another attempt', { attempt: 7 }, 'its attempt is'],
    ['yesterday', { expires_at: new Date(Date.now() - 120_000).toISOString() }, 'it expired'],
  ])('for %s', async (_, change, detail) => {
    scheduler.forge = (statement) => ({ ...statement, ...change });
    await refused(detail);
  });
  it('with one changed byte', async () => {
    scheduler.forgeEnvelope = (envelope) => {
      const text = Buffer.from(envelope.payload, 'base64').toString().replace('acme/shop/db', 'acme/evil/db');
      return { ...envelope, payload: Buffer.from(text).toString('base64') };
    };
    await refused('not signed by a key that is trusted');
  });
  it('that was done before (a replay)', async () => {
    await lab.startAgent();
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await settledAfter(job, 1);
    scheduler.job(job).attempt = 0;
    await scheduler.offerAgain(job);
    await waitFor(() => scheduler.results.filter(({ job_id }) => job_id === job).length === 2);
    expect(scheduler.resultOf(job)).toMatchObject({ attempt: 1, error: { code: 'statement_refused' } });
    expect(scheduler.resultOf(job)!.error!.detail).toContain('replay');
  });
});

describe('cancel', () => {
  it('is confirmed when nothing runs any more, in spite of children that ignore it', async () => {
    await lab.startAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    const pids = await stubbornPids(scheduler, job);
    expect(pids.every(alive)).toBe(true);
    const from = performance.now();
    scheduler.cancel(job);
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    expect(pids.some(alive)).toBe(false);
    expect(scheduler.resultOf(job)).toMatchObject({
      outcome: 'cancelled',
      error: { code: 'cancelled', detail: 'a test' },
    });
    // 9 s and 11 s of the product are 0.4 s and 2.4 s here.
    expect(performance.now() - from).toBeLessThan(2_400);
    expect(scheduler.stepsOf(job)).toEqual(['first:started', 'first:failed']);
  });

  it('arrives by the renewal when the signal is lost, and by force at once', async () => {
    await lab.startAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    await stubbornPids(scheduler, job);
    scheduler.job(job).state = 'cancelling';
    await waitFor(() => scheduler.resultOf(job)?.outcome === 'cancelled');
    const other = await scheduler.offer({ name: 'first', script: STUBBORN });
    await stubbornPids(scheduler, other);
    const from = performance.now();
    scheduler.cancel(other, { force: true });
    await waitFor(() => scheduler.resultOf(other)?.outcome === 'cancelled');
    expect(performance.now() - from).toBeLessThan(1_500);
  });

  it('comes through at full log rate', async () => {
    await lab.startAgent();
    const job = await scheduler.offer({ name: 'first', script: 'echo started; yes' });
    await waitFor(() => scheduler.frames.some(({ job_id, lines }) => job_id === job && lines.length > 100));
    const from = performance.now();
    scheduler.cancel(job);
    await waitFor(() => scheduler.resultOf(job)?.outcome === 'cancelled');
    // What was in the pipe is still logged: 64,000 lines, a second and more on a busy machine.
    expect(performance.now() - from).toBeLessThan(6_000);
  });

  it('of another attempt is ignored', async () => {
    await lab.startAgent();
    const job = await scheduler.offer({ name: 'first', script: 'sleep 0.4' });
    await waitFor(() => scheduler.stepsOf(job).length === 1);
    scheduler.cancel(job, { attempt: 9 });
    scheduler.job(job).state = 'running';
    await waitFor(() => scheduler.resultOf(job)?.outcome === 'succeeded');
  });
});

describe('a lease that is not renewed', () => {
  it('ends the work before it ends, and nothing is reported', async () => {
    // Enough margin for a machine on which other tests run.
    scheduler.leaseMs = 6_000;
    await lab.startAgent({ leaseTimes: { beatMs: 150, marginMs: 4_000 } });
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    const pids = await stubbornPids(scheduler, job);
    scheduler.muteRenewals = true;
    await waitFor(() => !pids.some(alive));
    expect(performance.now()).toBeLessThan(scheduler.job(job).leaseEnd);
    await lab.settled();
    expect(scheduler.resultOf(job)).toBeUndefined();
    // Whether the start was still reported is a matter of milliseconds; an end never is.
    expect(scheduler.stepsOf(job).filter((step) => step !== 'first:started')).toEqual([]);
    // An offer that comes before the scheduler has noticed brings the same grant again: no word about that either.
    const claims = scheduler.claims.length;
    await scheduler.offerAgain(job, 'running');
    await waitFor(() => scheduler.claims.length > claims);
    // It is offered again, and this time it may.
    scheduler.muteRenewals = false;
    await scheduler.offerAgain(job);
    await waitFor(() => scheduler.job(job).attempt === 2);
    scheduler.cancel(job, { force: true });
    await waitFor(() => scheduler.resultOf(job)?.attempt === 2);
    const told = scheduler.results.filter(({ job_id }) => job_id === job);
    expect(told.map(({ attempt }) => attempt)).toEqual(told.map(() => 2));
  });

  it('also when the agent is stopped (SIGSTOP) and cannot do it', async () => {
    scheduler.leaseMs = 3_000;
    const { child } = await lab.spawnAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    const pids = await stubbornPids(scheduler, job);
    child.kill('SIGSTOP');
    await waitFor(() => !pids.some(alive));
    expect(performance.now()).toBeLessThan(scheduler.job(job).leaseEnd + 1_000);
    child.kill('SIGCONT');
    await lab.settled();
    expect(scheduler.resultOf(job)).toBeUndefined();
  });

  it('of an attempt that another has taken over: stopped, nothing reported', async () => {
    await lab.startAgent();
    const job = await scheduler.offer({ name: 'first', script: STUBBORN });
    const pids = await stubbornPids(scheduler, job);
    scheduler.takeAway(job);
    await waitFor(() => !pids.some(alive));
    await lab.settled();
    expect(scheduler.resultOf(job)).toBeUndefined();
  });
});
