import { type Attempt, type Deployment, type Event, type Job } from '#contracts';

/**
 * What an agent did, by one witness: `reported` (steps as the IMS has them), `journal` and `record` (the agent's own
 * disk; the record speaks of whole attempts, as step `*`), or a test's own eyes. Times are the agent's clock.
 */
export interface Effect {
  readonly witness: string;
  readonly job_id: string;
  readonly attempt: number;
  readonly step: string;
  /** `done`: it counts as done, which must not happen twice. `failed`: it ended otherwise. */
  readonly phase: 'began' | 'done' | 'failed';
  readonly at: string;
}
export interface JobAttempt extends Pick<Attempt, 'number' | 'status' | 'agent_id' | 'granted_at' | 'ended_at'> {
  readonly job_id: string;
}

/** What is known of some jobs, from whatever sources. Resources are as the API shows them, at one moment after the facts. */
export interface History {
  /** Ids of jobs and deployments that the API has accepted: each must be there. */
  readonly accepted: readonly string[];
  readonly deployments: readonly Pick<Deployment, 'id' | 'status'>[];
  readonly jobs: readonly Pick<
    Job,
    'id' | 'status' | 'attempt' | 'depends_on' | 'deployment_id' | 'waiting_reason' | 'kind' | 'allow_failure'
  >[];
  readonly attempts: readonly JobAttempt[];
  readonly events: readonly Event[];
  readonly effects: readonly Effect[];
  /** The facts are those of a part of their chains (one deployment of an install): gaps are no fault. */
  readonly partialChains: boolean;
}

export interface HistoryLimits {
  /** How far the clocks of agents and database may be apart, in ms. */
  readonly skewMs: number;
  /** So long after a cancel an agent may still begin a step: the order has to arrive, or the lease to end. */
  readonly cancelMs: number;
}

export type RuleName = 'ended_or_waiting' | 'one_at_a_time' | 'fences' | 'once' | 'cancel' | 'order' | 'chain';
/** A counterexample, with the ids that somebody needs to look further. */
export interface HistoryFault {
  readonly text: string;
  readonly ids: readonly string[];
}
export interface RuleReport {
  readonly rule: RuleName;
  /** What holds, for people. */
  readonly title: string;
  /** How many things the rule was held against; 0 proves nothing. */
  readonly checked: number;
  readonly faults: readonly HistoryFault[];
}

/** The facts of one job in the order of their chain, and all else that is known of it. */
export interface JobStory {
  readonly id: string;
  readonly job: History['jobs'][number] | undefined;
  readonly facts: readonly Event[];
  readonly attempts: readonly JobAttempt[];
  readonly effects: readonly Effect[];
}
