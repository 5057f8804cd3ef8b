import fc from 'fast-check';
import { ImsError, type RolloutInstallStatus } from '#contracts';
import { checkVersion, compareReleases, refuseMove, type ReleaseFacts } from './releases.js';
import { groupOf, rolloutMachine, stepRollout, type RolloutMember, type RolloutState } from './rollout.js';

const release = (version: string, more: Partial<ReleaseFacts> = {}): ReleaseFacts => ({
  id: `rel_${version}`,
  version,
  created_at: '2026-01-01T00:00:00.000Z',
  ...more,
});

describe('releases', () => {
  it.each(['1.4.0', '2.0.0-rc.1', '1.0.0+build.7'])('%s is a version', (version) => {
    expect(() => checkVersion(version, '/version')).not.toThrow();
  });
  it.each(['1', 'v1.2.3', '1.2', ' 1.2.3', 'latest', '01.2.3'])('%s is none', (version) => {
    expect(() => checkVersion(version, '/version')).toThrow(ImsError);
  });

  it('are in one order, whatever they are called', () => {
    const version = fc.oneof(
      fc.tuple(fc.nat(3), fc.nat(3), fc.nat(3)).map((parts) => parts.join('.')),
      fc.constantFrom('1.0.0-rc.1', 'first', 'second', '1'),
    );
    const one = fc.record({
      version,
      created_at: fc.nat(9).map((day) => new Date(Date.UTC(2026, 0, 1 + day)).toISOString()),
    });
    fc.assert(
      fc.property(one, one, one, (a, b, c) => {
        expect(Math.sign(compareReleases(a, b))).toBe(-Math.sign(compareReleases(b, a)) + 0);
        if (compareReleases(a, b) <= 0 && compareReleases(b, c) <= 0) {
          expect(compareReleases(a, c)).toBeLessThanOrEqual(0);
        }
      }),
    );
    const hotfix = release('1.4.1', { created_at: '2026-02-01T00:00:00.000Z' });
    expect(compareReleases(hotfix, release('2.0.0'))).toBeLessThan(0);
  });

  const [v1, v2, v3] = [release('1.0.0'), release('2.0.0', { required: true }), release('3.0.0')];
  const move = (target: ReleaseFacts, installed?: ReleaseFacts, more: object = {}) =>
    refuseMove({
      target,
      installed,
      had: installed ? [installed] : [],
      required: [v2],
      rollback: false,
      ...more,
    })?.code;

  it('a required release is not skipped; a new install begins with the newest', () => {
    expect([move(v3, v1), move(v2, v1), move(v3, v2), move(v3)]).toEqual([
      'release_required',
      undefined,
      undefined,
      undefined,
    ]);
    expect(move(v3, v1, { required: [{ ...v2, bad: { reason: 'x' } }] })).toBeUndefined();
  });
  it('going back is said, and ends at the floor', () => {
    expect(move(v1, v2)).toBe('release_downgraded');
    expect(move(v1, v2, { rollback: true })).toBeUndefined();
    const floored = release('3.0.0', { rollback_floor: '2.0.0' });
    expect(move(v1, floored, { rollback: true })).toBe('rollback_refused');
    expect(move(v2, floored, { rollback: true })).toBeUndefined();
    // Also what it had before the one that it has now.
    expect(move(v1, v2, { rollback: true, had: [floored, v2] })).toBe('rollback_refused');
  });
  it('a bad one is refused, but not to whom has it', () => {
    const bad = release('2.0.0', { bad: { reason: 'loses orders' } });
    expect([move(bad, v1), move(bad, bad)]).toEqual(['release_bad', undefined]);
  });
});

describe('groups', () => {
  it('take an install once, the first that fits', () => {
    const groups = [
      { name: 'canary', labels: { ring: 'canary' } },
      { name: 'eu', labels: { region: 'eu' } },
      { name: 'rest', labels: {} },
    ];
    expect(groupOf(groups, { ring: 'canary', region: 'eu' })).toBe(0);
    expect(groupOf(groups, { region: 'eu' })).toBe(1);
    expect(groupOf(groups, {})).toBe(2);
    expect(groupOf(groups.slice(0, 2), { region: 'us' })).toBeUndefined();
    expect(groupOf([{ name: 'x', labels: { toString: 'x' } }], {})).toBeUndefined();
  });
});

/** A world in which installs come and go and deployments end as chance has it. */
class Model {
  state: RolloutState;
  now = 1_000;
  began: string[] = [];
  constructor(sizes: readonly number[], maxParallel: number, soakMs: number, maxFailures: number) {
    this.state = {
      status: 'running',
      groups: sizes.map((_, i) => ({ name: `g${i}`, soakMs })),
      group: 0,
      maxParallel,
      maxFailures,
      forgiven: 0,
      members: sizes.flatMap((size, group) =>
        Array.from({ length: size }, (_, i) => ({ id: `${group}.${i}`, group, status: 'pending' as const })),
      ),
    };
  }
  set(id: string, change: Partial<RolloutMember>): void {
    const members = this.state.members.map((member) => (member.id === id ? { ...member, ...change } : member));
    this.state = { ...this.state, members };
  }
  count(...statuses: RolloutInstallStatus[]): number {
    return this.state.members.filter(({ status }) => statuses.includes(status)).length;
  }
  step(): void {
    const before = this.state;
    const step = stepRollout(before, this.now);
    for (const { id, status, begin } of step.changes) {
      if (begin) this.began.push(id);
      const waitingSince = status === 'waiting' ? this.now : undefined;
      this.set(id, { status, waitingSince, ...(begin ? { deployment: { status: 'running' as const } } : {}) });
    }
    this.state = { ...this.state, status: step.status, group: step.group, soakUntil: step.soakUntil };
    expect(step.reason === undefined).toBe(rolloutMachine.isFinal(step.status));
  }
}

describe('a rollout', () => {
  const act = fc.record({
    what: fc.constantFrom('ok', 'fail', 'offline', 'online', 'stall', 'go on', 'later', 'pause', 'resume'),
    at: fc.nat(11),
  });
  const plan = fc.record({
    sizes: fc.array(fc.nat(4), { minLength: 1, maxLength: 3 }),
    maxParallel: fc.integer({ min: 1, max: 3 }),
    soakMs: fc.constantFrom(0, 50),
    maxFailures: fc.nat(2),
    acts: fc.array(act, { maxLength: 60 }),
  });

  function play(model: Model, { what, at }: { what: string; at: number }): void {
    const member = model.state.members[at % Math.max(1, model.state.members.length)];
    const running = member?.deployment?.status === 'running';
    if (member && what === 'ok' && running) model.set(member.id, { deployment: { status: 'succeeded' } });
    if (member && what === 'fail' && running) model.set(member.id, { deployment: { status: 'failed' } });
    if (member && what === 'offline') model.set(member.id, { obstacle: { code: 'agent_offline', detail: '' } });
    if (member && what === 'online') model.set(member.id, { obstacle: undefined });
    if (member && what === 'stall' && running) {
      model.set(member.id, { deployment: { status: 'running', stalled: { code: 'held', detail: '' } } });
    }
    if (member && what === 'go on' && running) model.set(member.id, { deployment: { status: 'running' } });
    if (what === 'later') model.now += 30;
    const verb = what === 'pause' || what === 'resume' ? rolloutMachine.next(model.state.status, what) : undefined;
    if (verb) model.state = { ...model.state, status: verb, forgiven: model.count('failed') };
  }

  it('keeps its promises whatever happens, and ends when everything does', () => {
    fc.assert(
      fc.property(plan, ({ sizes, maxParallel, soakMs, maxFailures, acts }) => {
        const model = new Model(sizes, maxParallel, soakMs, maxFailures);
        for (const one of acts) {
          play(model, one);
          const before = { running: model.state.status === 'running', began: model.began.length };
          const at = model.count('deploying');
          model.step();
          const fresh = model.began.slice(before.began);
          if (!before.running) expect(fresh).toEqual([]);
          // What was parked and goes on by itself may be one too many; nothing is begun on top of it.
          if (fresh.length > 0) expect(model.count('deploying')).toBeLessThanOrEqual(Math.max(maxParallel, at));
          for (const id of fresh) {
            const group = Number(id.split('.')[0]);
            const earlier = model.state.members.filter((member) => member.group < group);
            expect(earlier.filter(({ status }) => status === 'pending' || status === 'deploying')).toEqual([]);
          }
          expect(new Set(model.began).size).toBe(model.began.length);
        }
        // All come back, all work ends well, people resume: it ends.
        for (let i = 0; i < 200 && model.state.status !== 'succeeded'; i++) {
          for (const { id, deployment } of model.state.members) {
            model.set(id, { obstacle: undefined, ...(deployment ? { deployment: { status: 'succeeded' } } : {}) });
          }
          play(model, { what: 'resume', at: 0 });
          play(model, { what: 'later', at: 0 });
          model.step();
        }
        expect([model.state.status, model.count('pending', 'waiting', 'deploying', 'parked')]).toEqual([
          'succeeded',
          0,
        ]);
      }),
      { numRuns: 400 },
    );
  });

  it('stops at the first failure, watches a group, and lets nobody wait for who is away', () => {
    const model = new Model([2, 2], 1, 100, 0);
    model.set('0.0', { obstacle: { code: 'agent_offline', detail: 'away' } });
    model.step();
    expect(model.began).toEqual(['0.1']);
    model.set('0.1', { deployment: { status: 'succeeded' } });
    model.step();
    expect(stepRollout(model.state, model.now).reason?.code).toBe('soaking');
    model.now += 100;
    model.step();
    expect(model.began).toEqual(['0.1', '1.0']);
    model.set('1.0', { deployment: { status: 'failed', detail: 'no such host' } });
    model.step();
    expect(model.state.status).toBe('stopped');
    expect(stepRollout(model.state, model.now).reason?.code).toBe('stopped');
  });

  it('counts an install that is unwell while it is watched as a failure', () => {
    const model = new Model([1, 1], 1, 100, 0);
    model.step();
    model.set('0.0', { deployment: { status: 'succeeded' } });
    model.step();
    model.set('0.0', { unhealthy: 'web has failed' });
    model.step();
    expect([model.state.status, model.count('failed'), model.began]).toEqual(['stopped', 1, ['0.0']]);
  });

  it('does not go past a group of which nobody could be changed; gives up when told to', () => {
    const model = new Model([1, 1], 1, 0, 0);
    model.set('0.0', { obstacle: { code: 'agent_offline', detail: 'away' } });
    model.step();
    model.step();
    expect([model.began, stepRollout(model.state, model.now).reason?.code]).toEqual([[], 'installs_waiting']);
    model.state = { ...model.state, giveUpMs: 50 };
    model.now += 60;
    model.step();
    expect([model.count('skipped'), model.began]).toEqual([1, ['1.0']]);
  });
});
