import 'reflect-metadata';
import fc from 'fast-check';
import { APPROVAL_BY, APPROVAL_WHEN, COMPONENT_KINDS, JOB_KINDS, type ApprovalPolicy, type ImsError } from '#contracts';
import { judgePlan } from './approval.js';
import {
  POLICY_APPROVE,
  POLICY_MODES,
  decidePlan,
  decidePolicy,
  readPolicy,
  type CustomerPolicy,
  type JobFacts,
  type PlanFacts,
} from './policy.js';

const NOW = new Date('2026-06-01T12:00:00Z');
const APPLY: JobFacts = { kind: 'apply', component: 'db-main', componentKind: 'terraform-module' };
const DIGEST = `sha256:${'a'.repeat(64)}`;
const KEY = `U${'A'.repeat(55)}`;
const plan = (created = 0, updated = 0, deleted = 0): PlanFacts => ({
  digest: DIGEST,
  changed: created + updated + deleted > 0,
  created,
  updated,
  deleted,
});

const faultsOf = (value: unknown): string[] => {
  try {
    readPolicy(value);
  } catch (error) {
    return (error as ImsError).errors.map(({ pointer, message }) => `${pointer} ${message}`);
  }
  return [];
};

it('names every fault at once, and knows no other key', () => {
  expect(
    faultsOf({
      alow: {},
      mode: 'off',
      approve: 'yes',
      allow: { kinds: ['vm'], jobs: ['apply', 'dance'] },
      approvers: ['ssh-ed25519'],
      windows: [{ from: '8:00', to: '24:00', time_zone: 'Mars', days: ['monday'] }],
      pause: { until: 'tomorrow' },
      limits: { slots: 0 },
    }),
  ).toEqual([
    '/alow unknown field',
    `/allow/kinds must be a list of ${COMPONENT_KINDS.join(', ')}`,
    `/allow/jobs must be a list of ${JOB_KINDS.join(', ')}`,
    '/mode must be one of normal, read_only',
    '/approve must be one of never, on_change, on_delete, always',
    expect.stringContaining('/approvers must be a list of Ed25519 public keys'),
    '/windows/0/days must be a list of sun, mon, tue, wed, thu, fri, sat',
    '/windows/0/from must be a time of day in quotes, "00:00" to "23:59"',
    '/windows/0/time_zone must be an IANA time zone, as Europe/Berlin or UTC',
    expect.stringContaining('/pause/note'),
    expect.stringContaining('/pause/until'),
    '/limits/slots slots must not be less than 1',
  ]);
  const twelve = { from: '12:00', to: '12:00', time_zone: 'UTC', days: [] };
  expect(faultsOf({ windows: [twelve] })).toEqual([
    '/windows/0/to is its start: a whole day is 00:00 to 24:00',
    '/windows/0/days names no day',
  ]);
});

it('is empty by default, and then everything is allowed', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(...JOB_KINDS),
      fc.constantFrom(...COMPONENT_KINDS),
      fc.nat(),
      (kind, componentKind, n) => {
        const policy = readPolicy(undefined);
        expect(decidePolicy(policy, { kind, componentKind, component: 'x' }, NOW).decision).toBe('allow');
        expect(decidePlan(policy, plan(n, n, n)).decision).toBe('allow');
      },
    ),
  );
});

it.each([
  [{ allow: { kinds: ['job'] } }, 'does not allow terraform-module (allow.kinds: job)'],
  [{ allow: { jobs: ['sync'] } }, 'does not allow apply jobs (allow.jobs: sync)'],
  [{ allow: { components: ['web', 'd?-*'] } }, 'does not allow component db-main (allow.components: web, d?-*)'],
  [{ allow: { kinds: [] } }, 'does not allow terraform-module'],
])('refuses what %j does not allow, also while it is paused', (allow, detail) => {
  const policy = readPolicy({ ...allow, pause: { note: 'audit' } });
  expect(decidePolicy(policy, APPLY, NOW)).toEqual({
    decision: 'refuse',
    code: 'policy_refused',
    detail: expect.stringContaining(detail) as string,
  });
});

it('takes * in a name for any characters, and everything else as it is', () => {
  const allows = (glob: string): boolean =>
    decidePolicy({ allow: { components: [glob] } }, APPLY, NOW).decision === 'allow';
  expect(['db-main', 'db-*', '*', '*main', 'd*n'].filter((glob) => !allows(glob))).toEqual([]);
  expect(['db', 'db-mai.', '.*', 'b-*', 'DB-MAIN', '(db-main)'].filter(allows)).toEqual([]);
});

it('puts everything off while it is paused, until the time that it names', () => {
  const until = '2026-06-01T13:00:00.000Z';
  const policy = readPolicy({ pause: { note: 'stocktaking', until } });
  const hold = { code: 'customer_paused', detail: 'paused: stocktaking', until };
  for (const kind of JOB_KINDS) expect(decidePolicy(policy, { ...APPLY, kind }, NOW)).toMatchObject({ hold });
  expect(decidePolicy(policy, APPLY, new Date(until)).decision).toBe('allow');
  expect(decidePolicy({ pause: { note: 'for ever' } }, APPLY, NOW)).toEqual({
    decision: 'defer',
    hold: { code: 'customer_paused', detail: 'paused: for ever' },
  });
});

it('puts off what changes the product until a window opens', () => {
  const policy = readPolicy({ windows: [{ from: '22:00', to: '02:00', time_zone: 'Europe/Berlin' }] });
  const until = '2026-06-01T20:00:00.000Z';
  expect(decidePolicy(policy, APPLY, NOW)).toMatchObject({ hold: { code: 'customer_window', until } });
  expect(decidePolicy(policy, { ...APPLY, kind: 'destroy' }, NOW).decision).toBe('defer');
  expect(decidePolicy(policy, { ...APPLY, kind: 'sync' }, NOW).decision).toBe('allow');
  expect(decidePolicy(policy, APPLY, new Date(until)).decision).toBe('allow');
});

it.each([
  ['never', plan(1, 1, 1), 'allow'],
  ['on_change', plan(), 'allow'],
  ['on_change', plan(0, 1), 'defer'],
  ['on_delete', plan(3, 4), 'allow'],
  ['on_delete', plan(0, 0, 1), 'defer'],
  ['always', plan(), 'defer'],
] as const)('approve: %s asks about %j: %s', (approve, facts, decision) => {
  expect(decidePlan({ approve }, facts).decision).toBe(decision);
});

it('says what waits, and takes a yes or a no to this plan', () => {
  const policy = readPolicy({ approve: 'on_change', approvers: [KEY] });
  expect(decidePlan(policy, plan(2, 0, 1))).toEqual({
    decision: 'defer',
    hold: {
      code: 'awaiting_customer_approval',
      detail: `plan ${DIGEST} (2 to create, 0 to change, 1 to delete) waits for the customer's yes`,
      plan_digest: DIGEST,
    },
  });
  expect(decidePlan(policy, plan(1), { decision: 'approved', by: 'ann' }).decision).toBe('allow');
  expect(decidePlan(policy, plan(1), { decision: 'rejected', by: 'ann', note: 'not today' })).toMatchObject({
    detail: `ann has rejected plan ${DIGEST}: not today`,
  });
});

it('read_only lets an empty plan through and no other, whoever has said yes', () => {
  const policy = readPolicy({ mode: 'read_only' });
  expect(decidePlan(policy, plan()).decision).toBe('allow');
  expect(decidePlan(policy, { ...plan(), changed: true }).decision).toBe('refuse');
  expect(decidePlan(policy, plan(0, 1), { decision: 'approved', by: 'ann' })).toMatchObject({ decision: 'refuse' });
});

it('never lets through more by a further restriction', () => {
  const part = fc.record(
    {
      mode: fc.constantFrom(...POLICY_MODES),
      approve: fc.constantFrom(...POLICY_APPROVE),
      pause: fc.record({ note: fc.constant('x') }),
      allow: fc.record(
        { kinds: fc.subarray([...COMPONENT_KINDS]), jobs: fc.subarray([...JOB_KINDS]) },
        { requiredKeys: [] },
      ),
    },
    { requiredKeys: [] },
  );
  const rank = { allow: 0, defer: 1, refuse: 2 };
  const all = (policy: CustomerPolicy, facts: PlanFacts): number =>
    Math.max(rank[decidePolicy(policy, APPLY, NOW).decision], rank[decidePlan(policy, facts).decision]);
  fc.assert(
    fc.property(part, part, fc.nat(2), fc.nat(2), (one, more, updated, deleted) => {
      const facts = plan(0, updated, deleted);
      const both = { ...more, ...one };
      // What both name is the first's; what only the second names comes on top.
      expect(all(both, facts)).toBeGreaterThanOrEqual(all(one, facts));
      expect(readPolicy(JSON.parse(JSON.stringify(both)))).toEqual(both);
    }),
  );
});

describe('a vendor’s approval', () => {
  const who = fc.constantFrom('key:a', 'key:b', 'key:c');
  const vote = fc.record({
    by: who,
    decision: fc.constantFrom('approved' as const, 'rejected' as const),
    expiresAt: fc.integer({ min: -5, max: 5 }),
  });
  const policy = fc.record({
    when: fc.constantFrom(...APPROVAL_WHEN),
    by: fc.constantFrom(...APPROVAL_BY),
    needed: fc.integer({ min: 1, max: 3 }),
    approvers: fc.option(fc.subarray(['a', 'b', 'c']), { nil: undefined }),
  });

  it('lets a plan go on only with as many different yeses as are asked for, none of them late, and never after a no', () => {
    fc.assert(
      fc.property(policy, fc.array(vote, { maxLength: 6 }), fc.nat(2), fc.nat(2), (given, votes, updated, deleted) => {
        const proposed = plan(0, updated, deleted);
        const asked = given as ApprovalPolicy;
        const judged = judgePlan(asked, proposed, votes, 0);
        const no = votes.some(({ decision }) => decision === 'rejected');
        expect(judged.decision === 'refuse').toBe(no);
        const yes = new Set(
          votes
            .filter((one) => one.expiresAt > 0 && (asked.approvers?.includes(one.by.slice(4)) ?? true))
            .map((one) => one.by),
        );
        const asks = { never: false, on_change: updated + deleted > 0, on_delete: deleted > 0, always: true }[
          asked.when
        ];
        const needed = asks && asked.by !== 'customer' ? (asked.needed ?? 1) : 0;
        if (!no) expect(judged.decision).toBe(yes.size >= needed ? 'go' : 'hold');
        if (judged.decision === 'go') expect(judged.askCustomer).toBe(asks && asked.by !== 'vendor');
        if (judged.decision === 'hold') expect(judged.hold.plan_digest).toBe(proposed.digest);
      }),
    );
    expect(judgePlan(undefined, plan(1), [], 0)).toEqual({ decision: 'go', askCustomer: false });
  });
});
