import { Event, hashEvent, LIMITS, type AgentId, type DeploymentId, type VendorId } from '#contracts';
import { checkHistory, jobMachine, type Effect, type History, type RuleReport } from '#domain';
import { Random, seedOf } from '../random.js';
import { AGENT_RULES, ModelAgent, type AgentRules } from './agent.js';
import { Clock } from './clock.js';
import { ModelScheduler, RULES, type Rules } from './scheduler.js';

export interface SimulationOptions {
  readonly seed: number;
  /** About so many jobs. */
  readonly jobs: number;
  /** Instead of the product's own, to see that the checker finds what they break. */
  readonly rules?: Partial<Rules & AgentRules>;
}
export interface SimulationReport {
  readonly reports: readonly RuleReport[];
  /** What did not end, although every fault had ended long before. */
  readonly stuck: readonly string[];
  readonly jobs: number;
  readonly attempts: number;
  readonly lost: number;
  readonly faults: number;
  readonly virtualMs: number;
}

const DEPLOYMENTS_OF_AGENT = 4;
const COMPONENTS_MAX = 5;
/** After the last fault: the longest back-off, and leases. */
const CALM_MS = 30 * 60_000;

/**
 * One world: scheduler, agents and the wire between them in virtual time, with faults drawn from the seed, played to
 * its end and held against the rules. The same seed is the same world, to the last message.
 */
export function simulate({ seed, jobs: wanted, rules: broken = {} }: SimulationOptions): SimulationReport {
  const random = new Random(seed);
  const clock = new Clock();
  const effects: Effect[] = [];
  const agents = new Map<AgentId, ModelAgent>();
  let faults = 0;
  let calm = false;
  // Each world has its own weather: some know no crash, some hardly anything else.
  const weather = {
    loss: random.pick([0, 0.01, 0.05, 0.2]),
    twice: random.pick([0, 0.02, 0.1]),
    latencyMs: random.pick([1, 5, 50]),
    tail: random.pick([0, 0.01, 0.05]),
    everyMs: random.pick([200, 1_000, 5_000]),
  };
  let brokerDownUntil = 0;
  const latency = (): number =>
    random.int(1, weather.latencyMs) + (random.chance(weather.tail) ? random.int(100, 8_000) : 0);
  const lost = (agent: ModelAgent): boolean =>
    clock.now < agent.cutUntil || clock.now < brokerDownUntil || (!calm && random.chance(weather.loss));
  const toAgent = (id: AgentId, deliver: (agent: ModelAgent) => void): void => {
    const agent = agents.get(id);
    if (!agent) return;
    for (let copy = random.chance(weather.twice) ? 2 : 1; copy > 0; copy--) {
      clock.after(latency(), () => {
        if (!lost(agent)) deliver(agent);
      });
    }
  };
  const scheduler = new ModelScheduler(
    clock,
    { ...RULES, ...broken },
    {
      offer: (id, job) => toAgent(id, (agent) => agent.offered(job)),
      stop: (id, job, attempt) => toAgent(id, (agent) => agent.told(job, attempt)),
    },
  );
  const wire = {
    ask: <T>(agent: ModelAgent, request: () => T, answer: (reply: T | undefined) => void): void => {
      // At least once: a request may arrive twice, late, and after its answer was given up.
      for (let copy = random.chance(weather.twice) ? 2 : 1; copy > 0; copy--) {
        if (lost(agent)) continue;
        clock.after(latency(), () => {
          const reply = request();
          clock.after(latency(), () => {
            if (!lost(agent)) answer(reply);
          });
        });
      }
    },
  };

  const perAgent = DEPLOYMENTS_OF_AGENT * COMPONENTS_MAX;
  const count = Math.max(1, Math.round(wanted / perAgent));
  for (let i = 0; i < count; i++) {
    const id = `agt_${i}` as AgentId;
    const agent = new ModelAgent(id, clock, new Random(seedOf(seed, id)), scheduler, wire, effects, {
      ...AGENT_RULES,
      ...broken,
    });
    agents.set(id, agent);
    agent.start();
    for (let n = 0; n < DEPLOYMENTS_OF_AGENT; n++) {
      const deployment = `dep_${i}_${n}` as DeploymentId;
      const components = Array.from({ length: random.int(1, COMPONENTS_MAX) }, (_, c) => ({
        name: `c${c}`,
        dependsOn: Array.from({ length: c }, (__, p) => `c${p}`).filter(() => random.chance(0.3)),
        templates: {},
      }));
      clock.after(random.int(0, 20_000), () => scheduler.deploy(deployment, id, components));
      if (random.chance(0.15)) clock.after(random.int(0, 40_000), () => scheduler.cancel(deployment));
      if (random.chance(0.15)) {
        const which = random.next();
        clock.after(random.int(0, 40_000), () => {
          const jobs = scheduler.deployments.get(deployment)?.jobs ?? [];
          const job = jobs[Math.floor(which * jobs.length)];
          if (job) scheduler.cancelJob(job.id);
        });
      }
    }
  }
  const sweep = (): void => {
    scheduler.sweep();
    clock.after(LIMITS.sweepMs, sweep);
  };
  sweep();

  const stormMs = random.int(20_000, 120_000);
  const list = [...agents.values()];
  const strike = (): void => {
    if (clock.now > stormMs) {
      calm = true;
      list.forEach((agent) => agent.start());
      return;
    }
    faults += 1;
    const agent = random.pick(list);
    const forMs = random.int(50, 25_000);
    random.pick([
      () => {
        agent.crash();
        clock.after(forMs / 4, () => agent.start());
      },
      () => agent.pause(forMs),
      () => {
        agent.cutUntil = clock.now + forMs;
      },
      () => {
        brokerDownUntil = clock.now + forMs / 5;
      },
    ])();
    clock.after(random.int(1, 2 * weather.everyMs), strike);
  };
  clock.after(weather.everyMs, strike);

  const deployments = count * DEPLOYMENTS_OF_AGENT;
  const over = (): boolean =>
    scheduler.deployments.size === deployments &&
    [...scheduler.deployments.values()].every(({ status }) => status !== 'running' && status !== 'cancelling') &&
    list.every(({ settled }) => settled);
  for (let events = 0; clock.step(stormMs + CALM_MS); events++)
    if (events % 1_000 === 0 && clock.now > 40_000 && over()) break;

  const history = historyOf(scheduler, effects);
  const stuck = [...scheduler.jobs.values()]
    .filter(({ state }) => !jobMachine.isFinal(state.status))
    .map(({ id, state }) => `${id} is ${state.status}`);
  for (const agent of list)
    if (!agent.settled) stuck.push(`${agent.id} still holds ${[...agent.journal.keys()].join(', ')}`);
  const attempts = history.attempts;
  return {
    reports: checkHistory(history, { skewMs: 0, cancelMs: LIMITS.leaseMs }),
    stuck,
    jobs: history.jobs.length,
    attempts: attempts.length,
    lost: attempts.filter(({ status }) => status === 'lost').length,
    faults,
    virtualMs: clock.now,
  };
}

function historyOf(scheduler: ModelScheduler, effects: readonly Effect[]): History {
  const iso = (ms: number): string => new Date(ms).toISOString();
  let prev = '';
  const events = scheduler.facts.map(({ type, at, job, deployment, data }, i) => {
    const { lease_until: until } = data;
    const own = {
      id: `evt_${i}` as Event['id'],
      chain: 'job-scheduler:ins_model',
      seq: i + 1,
      type,
      at: iso(at),
      vendor_id: 'ven_model' as VendorId,
      deployment_id: deployment,
      ...(job === undefined ? {} : { job_id: job }),
      actor: 'service:job-scheduler',
      data: typeof until === 'number' ? { ...data, lease_until: iso(until) } : data,
    };
    const event = Object.assign(new Event(), own, { prev_hash: prev, hash: hashEvent(prev, own) });
    prev = event.hash;
    return event;
  });
  return {
    accepted: [...scheduler.deployments.keys()],
    deployments: [...scheduler.deployments].map(([id, { status }]) => ({ id, status: status as 'running' })),
    jobs: [...scheduler.jobs.values()].map((job) => {
      const reason = scheduler.reasonOf(job);
      const { id, state, dependsOn, deployment } = job;
      return {
        id,
        kind: state.kind,
        status: state.status,
        attempt: state.attempt,
        depends_on: [...dependsOn],
        deployment_id: deployment,
        ...(reason ? { waiting_reason: reason } : {}),
      };
    }),
    attempts: [...scheduler.attempts.values()].flat().map(({ job, number, status, grantedAt, endedAt }) => ({
      job_id: job,
      number,
      status: status as 'running',
      agent_id: 'agt_model',
      granted_at: iso(grantedAt),
      ...(endedAt === undefined ? {} : { ended_at: iso(endedAt) }),
    })),
    events,
    effects,
    partialChains: false,
  };
}
