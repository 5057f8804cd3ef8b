import { decideJob, judgeRenewal, selfFenceAt, settleDeployment, type RuleName } from '#domain';
import { KEPT_SEEDS } from './seeds.js';
import { simulate, type SimulationOptions, type SimulationReport } from './simulate.js';

const faultsOf = ({ reports, stuck }: SimulationReport): string[] => [
  ...reports.flatMap(({ faults }) => faults.map(({ text }) => text)),
  ...stuck,
];
/** What is found in the first worlds, until it is the wanted rule. */
function found(wanted: RuleName | 'stuck', rules: SimulationOptions['rules']): string[] {
  const all = new Set<string>();
  for (let seed = 1; seed <= 6 && !all.has(wanted); seed++) {
    const report = simulate({ seed, jobs: 150, ...(rules ? { rules } : {}) });
    for (const { rule, faults } of report.reports) if (faults.length > 0) all.add(rule);
    if (report.stuck.length > 0) all.add('stuck');
  }
  return [...all];
}

it('loses nothing and doubles nothing in worlds of their own weather', () => {
  let lost = 0;
  for (let seed = 101; seed <= 106; seed++) {
    const report = simulate({ seed, jobs: 200 });
    expect({ seed, faults: faultsOf(report) }).toEqual({ seed, faults: [] });
    expect(report.reports.every(({ checked }) => checked > 0)).toBe(true);
    lost += report.lost;
  }
  expect(lost).toBeGreaterThan(0);
});

it('plays the same world twice, and worlds in which something was found before', () => {
  expect(simulate({ seed: 7, jobs: 100 })).toEqual(simulate({ seed: 7, jobs: 100 }));
  for (const [seed, jobs] of KEPT_SEEDS) expect(faultsOf(simulate({ seed, jobs }))).toEqual([]);
});

describe('finds a rule that is broken:', () => {
  it.each<[string, RuleName | 'stuck', SimulationOptions['rules']]>([
    [
      'an agent that works to the end of its lease and beyond',
      'one_at_a_time',
      { selfFenceAt: (at, lease) => selfFenceAt(at, lease, -5_000) },
    ],
    [
      'a lease that is renewed after its end',
      'one_at_a_time',
      {
        judgeRenewal: (lease, _claim, now) => (lease && now > lease.until + 3_000 ? 'stale' : 'renewed'),
        selfFenceAt: () => Infinity,
      },
    ],
    [
      'the result of an earlier attempt that counts',
      'fences',
      {
        decideJob: (state, event, now) =>
          decideJob(event.type === 'claim' ? { ...state, attempt: Math.max(0, state.attempt - 1) } : state, event, now),
      },
    ],
    [
      'a job that starts beside what it depends on',
      'order',
      {
        settleDeployment: (status, jobs) =>
          settleDeployment(
            status,
            jobs.map((job) => ({ ...job, dependsOn: job.dependsOn.slice(1) })),
          ),
      },
    ],
    [
      'a cancelled attempt whose lost lease queues the job again',
      'cancel',
      {
        decideJob: (state, event, now) =>
          decideJob(
            event.type === 'lease_ended' && state.status === 'cancelling' ? { ...state, status: 'running' } : state,
            event,
            now,
          ),
      },
    ],
    [
      'a failure after which nobody is told',
      'stuck',
      { settleDeployment: (status, jobs) => ({ ...settleDeployment(status, jobs), skip: [] }) },
    ],
    [
      'a job that says no reason',
      'ended_or_waiting',
      { waitingReason: () => undefined, settleDeployment: () => ({ unblock: [], skip: [] }) },
    ],
    [
      'judgement without the session',
      'one_at_a_time',
      {
        judgeRenewal: (lease, claim, now) => judgeRenewal(lease && { ...lease, ...claim, until: Infinity }, claim, now),
        selfFenceAt: () => Infinity,
      },
    ],
  ])('%s', (_, rule, rules) => {
    expect(found(rule, rules)).toContain(rule);
  });
});
