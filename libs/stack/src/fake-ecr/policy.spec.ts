import { allows, MalformedPolicy, parsePolicy, type Policy, type Statement } from './policy.js';

const policyOf = (...statements: readonly Statement[]): Policy => ({ Version: '2012-10-17', Statement: statements });
const allow = (Action: Statement['Action'], Resource: Statement['Resource']): Statement => ({
  Effect: 'Allow',
  Action,
  Resource,
});
const NOW = new Date('2026-01-01T00:00:00Z');
const may = (policies: readonly Policy[], action: string, resource = 'arn:aws:ecr:r:1:repository/a/b'): boolean =>
  allows(policies, { action, resource, now: NOW });

describe('allows', () => {
  it('allows nothing by default, and what one statement says', () => {
    expect(may([], 'ecr:PutImage')).toBe(false);
    expect(may([policyOf(allow(['ecr:PutImage', 'ecr:BatchGetImage'], '*'))], 'ecr:PutImage')).toBe(true);
    expect(may([policyOf(allow('ecr:BatchGetImage', '*'))], 'ecr:PutImage')).toBe(false);
  });

  it.each([
    ['arn:aws:ecr:r:1:repository/a/b', true],
    ['arn:aws:ecr:r:1:repository/a/*', true],
    ['arn:aws:ecr:r:1:repository/a/?', true],
    ['arn:aws:ecr:r:1:repository/a', false],
    // A dot is a dot, and not any character.
    ['arn:aws:ecr:r:1:repository/a.b', false],
    ['arn:aws:ecr:r:1:repository/A/B', false],
  ])('compares the resource %s: %s', (resource, expected) => {
    expect(may([policyOf(allow('ecr:*', resource))], 'ECR:PutImage')).toBe(expected);
  });

  it('lets a Deny win, wherever it stands', () => {
    const deny: Statement = { Effect: 'Deny', Action: 'ecr:Put*', Resource: '*' };
    expect(may([policyOf(allow('*', '*')), policyOf(deny)], 'ecr:PutImage')).toBe(false);
    expect(may([policyOf(deny, allow('*', '*'))], 'ecr:BatchGetImage')).toBe(true);
  });

  it('ends an Allow at its time', () => {
    const until = (time: string): Policy =>
      policyOf({ ...allow('*', '*'), Condition: { DateLessThan: { 'aws:CurrentTime': time } } });
    expect(may([until('2026-01-01T00:00:01Z')], 'ecr:PutImage')).toBe(true);
    expect(may([until('2026-01-01T00:00:00Z')], 'ecr:PutImage')).toBe(false);
  });
});

it.each([
  ['no JSON', '{'],
  ['another version', { Version: '2008-10-17', Statement: [allow('*', '*')] }],
  ['no statement', { Version: '2012-10-17', Statement: [] }],
  ['NotAction', policyOf({ ...allow('*', '*'), NotAction: 'x' } as Statement)],
  ['a condition that is not known', policyOf({ ...allow('*', '*'), Condition: { Bool: {} } } as unknown as Statement)],
  ['a number', policyOf(allow(1 as unknown as string, '*'))],
])('refuses %s, so that nothing is passed over', (_, document) => {
  const text = typeof document === 'string' ? document : JSON.stringify(document);
  expect(() => parsePolicy(text)).toThrow(MalformedPolicy);
});
