import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type JobId, type JsonObject } from '#contracts';
import { createNkey, nkeyFromSeed } from '#messaging';
import { startNats } from '#stack';
import { Approvals, signApproval } from '../src/approvals.js';
import { readRecord, verifyRecord } from '../src/record.js';
import { type FakeScheduler } from './fake-scheduler.js';
import { Lab } from './lab.js';
import { ScriptHandler, type ScriptStep } from './script-handler.js';
import { waitFor } from './wait.js';

let lab: Lab;
let scheduler: FakeScheduler;
let approvals: Approvals;
beforeAll(async () => {
  lab = await Lab.open(startNats);
  ({ scheduler } = lab);
});
afterAll(() => lab.close());
beforeEach(async () => {
  await lab.begin();
  scheduler.policies.length = 0;
  // Held jobs of an earlier test would be offered to this one's agent.
  scheduler.jobs.clear();
  approvals = new Approvals(lab.stateDir);
});
afterEach(() => lab.end());

const DIGEST = `sha256:${'d'.repeat(64)}`;
const OTHER = `sha256:${'e'.repeat(64)}`;
const customer = { pollMs: 200 };
const write = (text: string): Promise<void> => writeFile(join(lab.stateDir, 'policy.yaml'), text, { mode: 0o600 });
const start = (more: Parameters<Lab['startAgent']>[0] = {}): ReturnType<Lab['startAgent']> =>
  lab.startAgent({ customer, ...more });
const steps = (digest = DIGEST, deleted = 0): ScriptStep[] => [
  { name: 'plan', script: 'true', plan: { digest, changed: true, created: 2, updated: 1, deleted } },
  { name: 'act', script: `echo done >> ${join(lab.stateDir, 'effect')}` },
];
const effects = async (): Promise<number> =>
  (await readFile(join(lab.stateDir, 'effect'), 'utf8').catch(() => '')).split('\n').length - 1;
const outcomes = (job: JobId): string[] =>
  scheduler.results
    .filter(({ job_id }) => job_id === job)
    .map(({ outcome, hold, error }) => [outcome, hold?.code ?? error?.code].filter(Boolean).join(' '));
const ended = (job: JobId, times = 1): Promise<void> => waitFor(() => outcomes(job).length >= times);
/** `type` of the entries about a job, in order. */
async function recordOf(job?: JobId): Promise<string[]> {
  const types: string[] = [];
  for await (const { entry } of readRecord(join(lab.stateDir, 'record'))) {
    if (entry && (job === undefined || entry.data['job_id'] === job)) types.push(entry.type);
  }
  return types;
}
async function answer(digest: string, decision: 'approved' | 'rejected' = 'approved'): Promise<void> {
  await approvals.decide(await approvals.find(digest), { decision, by: 'ann' }, new Date());
}

it('lets everything through without a policy, says so, and puts all of it on record', async () => {
  await start();
  const job = await scheduler.offer(...steps());
  await ended(job);
  expect(outcomes(job)).toEqual(['succeeded']);
  expect(scheduler.policies[0]).toMatchObject({ file: { state: 'defaults' }, pending: [] });
  await lab.settled();
  expect(await recordOf(job)).toEqual(['job.received', 'job.started', 'plan.permitted', 'job.succeeded']);
  expect((await verifyRecord(join(lab.stateDir, 'record'))).fault).toBeUndefined();
  const all: JsonObject[] = [];
  for await (const { entry } of readRecord(join(lab.stateDir, 'record'))) all.push(entry?.data ?? {});
  expect(all.find((data) => data['kind'] === 'apply')).toMatchObject({
    job_id: job,
    attempt: 1,
    component: 'db',
    statement_digest: expect.stringMatching(/^sha256:/) as string,
  });
});

it.each([
  ['allow: { jobs: [sync] }', 'does not allow apply jobs'],
  ['allow: { components: [web] }', 'does not allow component db'],
  ['mode: read_only', 'read-only, and the plan has 2 to create, 1 to change, 0 to delete'],
])('refuses under %s, before any effect, and both sides see it', async (policy, detail) => {
  await write(policy);
  await start();
  const job = await scheduler.offer(...steps());
  await ended(job);
  expect(outcomes(job)).toEqual(['failed policy_refused']);
  expect(scheduler.resultOf(job)!.error!.detail).toContain(detail);
  expect(await effects()).toBe(0);
  expect((await recordOf(job)).at(-1)).toBe('job.refused');
});

it('read_only lets a plan through that changes nothing', async () => {
  await write('mode: read_only');
  await start();
  const nothing = { digest: DIGEST, changed: false, created: 0, updated: 0, deleted: 0 };
  const job = await scheduler.offer({ name: 'plan', script: 'true', plan: nothing }, { name: 'act', script: 'true' });
  await ended(job);
  expect(outcomes(job)).toEqual(['succeeded']);
});

it('refuses what cannot show a plan when the policy is about plans', async () => {
  await write('approve: on_delete');
  await lab.startAgent({ customer }, [new ScriptHandler('apply', false)]);
  const job = await scheduler.offer({ name: 'act', script: 'true' });
  await ended(job);
  expect(outcomes(job)).toEqual(['failed policy_refused']);
  expect(scheduler.stepsOf(job)).toEqual([]);
});

it('puts a job off while it is paused, and goes on when the pause is taken back', async () => {
  await start();
  await waitFor(() => scheduler.policies.length === 1);
  const until = new Date(Date.now() + 3_600_000).toISOString();
  await approvals.pause({ note: 'stocktaking', until, by: 'ann', at: new Date().toISOString() });
  const job = await scheduler.offer(...steps());
  await ended(job);
  expect(outcomes(job)).toEqual(['deferred customer_paused']);
  expect(scheduler.resultOf(job)!.hold).toEqual({ code: 'customer_paused', detail: 'paused: stocktaking', until });
  expect(scheduler.stepsOf(job)).toEqual([]);
  await waitFor(() => scheduler.policies.at(-1)?.['pause'] !== undefined);
  await approvals.unpause();
  await waitFor(() => outcomes(job).at(-1) === 'succeeded');
  expect(await effects()).toBe(1);
});

it('waits for a window, and lets work that has begun go on when it closes', async () => {
  const clock = (at: number): string => new Date(at).toISOString().slice(11, 16);
  const soon = Date.now() + 3_600_000;
  await write(`windows: [{ from: "${clock(soon)}", to: "${clock(soon + 3_600_000)}", time_zone: UTC }]`);
  await start();
  const job = await scheduler.offer(...steps());
  await ended(job);
  expect(outcomes(job)).toEqual(['deferred customer_window']);
  const opens = Date.parse(scheduler.resultOf(job)!.hold!.until!);
  expect(clock(opens)).toBe(clock(soon));
  const gate = join(lab.stateDir, 'gate');
  await write('');
  await waitFor(() => outcomes(job).at(-1) === 'succeeded');
  const slow = await scheduler.offer({ name: 'act', script: `while [ ! -e ${gate} ]; do sleep 0.02; done` });
  await waitFor(() => scheduler.stepsOf(slow).length === 1);
  await write('pause: { note: closed }');
  await waitFor(() => scheduler.policies.at(-1)?.['pause'] !== undefined);
  await writeFile(gate, '');
  await ended(slow);
  expect(outcomes(slow)).toEqual(['succeeded']);
});

describe('a plan that needs a yes', () => {
  beforeEach(() => write('approve: on_change'));

  it('is shown to the operator, waits without a slot, and is carried out after the yes', async () => {
    await start();
    const job = await scheduler.offer(...steps());
    await ended(job);
    expect(outcomes(job)).toEqual(['deferred awaiting_customer_approval']);
    expect(scheduler.resultOf(job)!.hold!.plan_digest).toBe(DIGEST);
    expect(await approvals.pending()).toMatchObject([
      { digest: DIGEST, job_id: job, what: 'apply of db (job)', created: 2 },
    ]);
    expect(await approvals.planText('dddddd')).toContain('what plan would do');
    await lab.settled();
    await answer(DIGEST);
    await waitFor(() => outcomes(job).at(-1) === 'succeeded');
    expect(await effects()).toBe(1);
    expect(await recordOf(job)).toEqual([
      ...['job.received', 'job.started', 'job.deferred'],
      ...['job.received', 'job.started', 'plan.approved', 'job.succeeded'],
    ]);
    await waitFor(async () => (await approvals.pending()).length === 0);
    // The yes was for that job: the same plan of another is asked about anew.
    const second = await scheduler.offer(...steps());
    await ended(second);
    expect(outcomes(second)).toEqual(['deferred awaiting_customer_approval']);
  });

  it('asks again when the plan is another: the old yes is not used', async () => {
    await start();
    const job = await scheduler.offer(...steps());
    await ended(job);
    await lab.settled();
    const given = scheduler.job(job).values;
    given['steps'] = steps(OTHER) as unknown as JsonObject[];
    await answer(DIGEST);
    await ended(job, 2);
    expect(scheduler.resultOf(job)!.hold).toMatchObject({ code: 'awaiting_customer_approval', plan_digest: OTHER });
    expect((await approvals.pending()).map(({ digest }) => digest)).toEqual([OTHER]);
    expect(await effects()).toBe(0);
  });

  it('fails as refused after a no, with the note', async () => {
    await start();
    const job = await scheduler.offer(...steps());
    await ended(job);
    await approvals.decide(
      await approvals.find(DIGEST),
      { decision: 'rejected', by: 'ann', note: 'not now' },
      new Date(),
    );
    await waitFor(() => outcomes(job).at(-1) === 'failed policy_refused');
    expect(scheduler.resultOf(job)!.error!.detail).toBe(`ann has rejected plan ${DIGEST}: not now`);
    expect(await effects()).toBe(0);
  });

  it('does not take an old yes', async () => {
    await start();
    const job = await scheduler.offer(...steps());
    await ended(job);
    const yesterday = new Date(Date.now() - 25 * 3_600_000);
    await approvals.decide(await approvals.find(DIGEST), { decision: 'approved', by: 'ann' }, yesterday);
    await ended(job, 2);
    expect(outcomes(job)[1]).toBe('deferred awaiting_customer_approval');
  });

  it('takes a yes that came while the agent was away', async () => {
    const first = await start();
    const job = await scheduler.offer(...steps());
    await ended(job);
    await first.drain();
    await answer(DIGEST);
    await start();
    await waitFor(() => outcomes(job).at(-1) === 'succeeded');
  });

  it('is asked about again after a yes that was given before the scheduler held the job', async () => {
    scheduler.dropReceipts = 2;
    await start();
    const job = await scheduler.offer(...steps());
    await waitFor(async () => (await approvals.pending()).length === 1);
    await answer(DIGEST);
    await waitFor(() => outcomes(job).at(-1) === 'succeeded');
  });
});

it('with approvers counts only what one of them has signed for this plan', async () => {
  const { seed, publicKey } = createNkey('user');
  await write(`approve: always\napprovers: [${publicKey}]`);
  await start();
  const job = await scheduler.offer(...steps());
  await ended(job);
  const question = await approvals.find(DIGEST);
  const give = async (envelope?: ReturnType<typeof signApproval>): Promise<string> => {
    const before = outcomes(job).length;
    const signed = envelope === undefined ? {} : { envelope };
    await approvals.decide(question, { decision: 'approved', by: 'root', ...signed }, new Date());
    await ended(job, before + 1);
    return outcomes(job).at(-1) ?? '';
  };
  const stranger = nkeyFromSeed(createNkey('user').seed);
  const approver = nkeyFromSeed(seed);
  const waits = 'deferred awaiting_customer_approval';
  expect(await give()).toBe(waits);
  expect(await give(signApproval(DIGEST, stranger, new Date()))).toBe(waits);
  expect(await give(signApproval(OTHER, approver, new Date()))).toBe(waits);
  expect(await give(signApproval(DIGEST, approver, new Date(Date.now() - 48 * 3_600_000)))).toBe(waits);
  expect(await give(signApproval(DIGEST, approver, new Date()))).toBe('succeeded');
  expect(await effects()).toBe(1);
});

describe('a policy file', () => {
  it('that becomes invalid keeps the one before it in force, and everybody is told', async () => {
    await write('allow: { jobs: [sync] }');
    await start();
    await waitFor(() => scheduler.policies.length === 1);
    await write('allow:\n  jobs: [sync, dance]\nmood: good\n');
    await waitFor(() => scheduler.policies.length === 2);
    expect(scheduler.policies[1]).toMatchObject({
      allow: { jobs: ['sync'] },
      file: {
        faults: [
          '3: /mood unknown field',
          '2: /allow/jobs must be a list of build, sync, apply, destroy, observe, noop',
        ],
      },
    });
    const job = await scheduler.offer(...steps());
    await ended(job);
    expect(outcomes(job)).toEqual(['failed policy_refused']);
    expect(await recordOf()).toContain('policy.invalid');
  });

  it.each([
    ['is not valid', async () => write('mode: maybe')],
    [
      'can be changed by others',
      async () => {
        await write('');
        await chmod(join(lab.stateDir, 'policy.yaml'), 0o666);
      },
    ],
  ])('that %s when the agent starts holds everything', async (_, prepare) => {
    await prepare();
    await start();
    const job = await scheduler.offer(...steps());
    await ended(job);
    expect(outcomes(job)).toEqual(['deferred customer_paused']);
    expect(scheduler.resultOf(job)!.hold!.detail).toContain('the policy file is not valid');
    await chmod(join(lab.stateDir, 'policy.yaml'), 0o600);
    await write('');
    await waitFor(() => outcomes(job).at(-1) === 'succeeded');
  });

  it('limits slots, minutes and log of an attempt, also while the agent runs', async () => {
    await start();
    await write('limits: { slots: 1, log_bytes: 1024 }');
    await waitFor(() => scheduler.policies.at(-1)?.['limits'] !== undefined);
    const gate = join(lab.stateDir, 'gate');
    const wait = `for i in $(seq 200); do echo line $i; done; while [ ! -e ${gate} ]; do sleep 0.02; done`;
    const jobs = [
      await scheduler.offer({ name: 'a', script: wait }),
      await scheduler.offer({ name: 'b', script: wait }),
    ];
    const running = (): number => jobs.filter((job) => scheduler.stepsOf(job).length > 0).length;
    await waitFor(() => running() === 1);
    await writeFile(gate, '');
    await waitFor(() => jobs.every((job) => outcomes(job)[0] === 'succeeded'));
    const done = scheduler.steps
      .filter(({ job_id }) => jobs.includes(job_id))
      .flatMap((report) => report.steps.filter(({ status }) => status === 'done'));
    const [one, two] = done.map((step) => ({ from: Date.parse(step.started_at), ms: step.duration_ms! }));
    expect(two!.from).toBeGreaterThanOrEqual(one!.from + one!.ms);
    const log = (job: JobId): string[] => scheduler.linesOf(job);
    await waitFor(() => jobs.every((job) => scheduler.logEnded(job)));
    for (const job of jobs) {
      expect(log(job).length).toBeLessThan(30);
      expect(log(job).at(-1)).toContain('limits.log_bytes');
    }
  });
});

it('fails an attempt that takes longer than the policy gives it', async () => {
  await write('limits: { attempt_minutes: 1 }');
  const { setTimeout: real } = globalThis;
  // A minute is 100 ms here.
  globalThis.setTimeout = ((run: () => void, ms?: number) => real(run, ms === 60_000 ? 100 : ms)) as typeof setTimeout;
  try {
    await start();
    const job = await scheduler.offer({ name: 'act', script: 'sleep 30' });
    await ended(job);
    expect(outcomes(job)).toEqual(['failed timed_out']);
    expect(scheduler.resultOf(job)!.error!.detail).toContain('limits.attempt_minutes');
  } finally {
    globalThis.setTimeout = real;
  }
});

it('has no ear for anybody but the files of its host', async () => {
  await write('allow: { jobs: [sync] }');
  await start();
  await waitFor(() => scheduler.policies.length === 1);
  // Whatever the scheduler puts into its messages: the statement, a renewal, the welcome.
  scheduler.forge = (statement) =>
    ({ ...statement, policy: { allow: {} }, approved: true, plan_digest: DIGEST }) as never;
  scheduler.welcome = () => ({ policy: {}, approve: 'never' }) as never;
  const job = await scheduler.offer(...steps());
  await ended(job);
  expect(outcomes(job)).toEqual(['failed policy_refused']);
  expect(await readFile(join(lab.stateDir, 'policy.yaml'), 'utf8')).toBe('allow: { jobs: [sync] }');
});

it('puts a statement that nobody trusted signed on record', async () => {
  await start();
  scheduler.forgeEnvelope = (envelope) => ({ ...envelope, signature: Buffer.alloc(64).toString('base64') });
  const job = await scheduler.offer(...steps());
  await ended(job);
  expect(await recordOf(job)).toEqual(['job.refused']);
});

it('shows the vendor what it would do, without secrets, and waits for its word before the customer is asked', async () => {
  await write('approve: always');
  await start();
  const secret = 'a-secret-of-the-install';
  const field = { path: 'data.url', before: '"x"', after: `"https://user:${secret}@host"` };
  const changes = [{ action: 'update' as const, resource: 'ConfigMap/web', fields: [field] }];
  const plan = { digest: DIGEST, changed: true, created: 0, updated: 1, deleted: 0, changes };
  const [first, second] = steps();
  const held = { code: 'awaiting_customer_approval', detail: 'the vendor thinks about it' } as const;
  scheduler.verdict = () => ({ decision: 'hold', hold: held });
  const job = await scheduler.offer({ ...first!, secret, plan }, second!);
  await ended(job);
  expect(outcomes(job)).toEqual(['deferred awaiting_customer_approval']);
  expect(await approvals.pending()).toEqual([]);
  expect(scheduler.plans.at(-1)).toMatchObject({ job_id: job, attempt: 1, plan: { digest: DIGEST, updated: 1 } });
  expect(JSON.stringify(scheduler.plans)).not.toContain(secret);
  scheduler.verdict = () => ({ decision: 'refuse', detail: 'bob said no' });
  const refused = await scheduler.offer({ ...first!, secret, plan }, second!);
  await ended(refused);
  expect(outcomes(refused)).toEqual(['failed plan_rejected']);
  scheduler.verdict = () => ({ decision: 'go' });
  const asked = await scheduler.offer({ ...first!, secret, plan }, second!);
  await ended(asked);
  expect((await approvals.pending()).map(({ job_id }) => job_id)).toEqual([asked]);
  expect(await effects()).toBe(0);
});
