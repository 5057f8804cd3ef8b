import fc from 'fast-check';
import { CHANGE_ACTIONS, LIMITS, parse, PlanSummary, type JsonObject } from '#contracts';
import { countsOf, planSummary, renderPlan, type Change } from './index.js';

const DIGEST = `sha256:${'a'.repeat(64)}`;
const text = (max: number): fc.Arbitrary<string> => fc.string({ minLength: 1, maxLength: max });
const field = fc.record(
  { path: text(600), before: text(600), after: text(600), hidden: fc.boolean(), set_by: text(200) },
  { requiredKeys: ['path'] },
);
const change: fc.Arbitrary<Change> = fc.record(
  {
    action: fc.constantFrom(...CHANGE_ACTIONS),
    resource: text(600),
    namespace: text(200),
    fields: fc.array(field, { maxLength: 60 }),
  },
  { requiredKeys: ['action', 'resource'] },
);
const summaryOf = (changes: readonly Change[]): PlanSummary =>
  planSummary({ digest: DIGEST, changed: true, ...countsOf(changes) }, changes);

test('whatever an executor tells fits the wire, and what has no room is counted', () => {
  fc.assert(
    fc.property(fc.array(change, { maxLength: 120 }), (changes) => {
      const summary = summaryOf(changes);
      expect(() => parse(PlanSummary, JSON.parse(JSON.stringify(summary)) as JsonObject, 'strict')).not.toThrow();
      const told = (list: readonly Pick<Change, 'fields'>[]): number =>
        list.length + list.reduce((sum, { fields = [] }) => sum + fields.length, 0);
      const kept = summary.changes.length;
      // A change that is left out takes its fields with it uncounted; nothing else is lost.
      if (kept === changes.length) expect(told(summary.changes) + summary.omitted).toBe(told(changes));
      else expect(summary.omitted).toBeGreaterThanOrEqual(changes.length - kept);
      const order = summary.changes.map(({ action }) => CHANGE_ACTIONS.indexOf(action));
      expect(order).toEqual([...order].sort((one, other) => one - other));
    }),
  );
});

test('a plan of very many changes keeps its deletions', () => {
  const many = Array.from({ length: 3_000 }, (_, i): Change => ({
    action: i % 10 ? 'create' : 'delete',
    resource: `r${i}`,
  }));
  const { changes, omitted, deleted, created } = summaryOf(many);
  expect([changes.length, omitted, deleted, created]).toEqual([LIMITS.planChanges, 2_500, 300, 2_700]);
  expect(changes.filter(({ action }) => action === 'delete')).toHaveLength(300);
});

test('a plan reads with deletions first, and never shows what is hidden', () => {
  const changes: Change[] = [
    {
      action: 'update',
      resource: 'Deployment/web',
      fields: [{ path: 'spec.replicas', before: '1', after: '2', set_by: 'ann' }],
    },
    { action: 'replace', resource: 'x.y', fields: [{ path: 'password', before: '"a"', after: '"b"', hidden: true }] },
    { action: 'delete', resource: 'ConfigMap/old', namespace: 'other' },
  ];
  expect(renderPlan(summaryOf(changes))).toBe(
    [
      'delete ConfigMap/old (namespace other)',
      'replace x.y',
      '  password: (hidden) -> (hidden)',
      'update Deployment/web',
      '  spec.replicas: 1 -> 2 (set by ann)',
    ].join('\n'),
  );
  expect(countsOf(changes)).toEqual({ created: 1, updated: 1, deleted: 2 });
  expect(renderPlan({ changes: [], omitted: 0 })).toBe('no changes');
});
