import { LIMITS } from '#contracts';

/**
 * What a job's place in the queue is, the smaller the sooner. A step of priority is worth `LIMITS.priorityStepMs` of
 * waiting, so whoever waits gains on every newer job, and nothing starves: a job of the lowest priority is overtaken at
 * most by those of the highest that came within the next 2 × priorityMax steps (33 min). Being linear, the order of two
 * jobs never changes, and the database can keep it as a column with an index.
 */
export const rankOf = (queuedAt: number, priority: number): number => queuedAt - priority * LIMITS.priorityStepMs;

/** A queued job that might be offered to its agent. Times are milliseconds of one clock. */
export interface Candidate {
  readonly id: string;
  readonly rank: number;
  readonly notBefore: number;
  readonly held: boolean;
  /** The lock that an attempt of it needs. */
  readonly lock?: string;
  /** When it was offered last; absent: not since it was queued, or since its claim was refused. */
  readonly offeredAt?: number;
}
/** The agent that the candidates are for. */
export interface Intake {
  readonly slots: number;
  /** Attempts that run there. */
  readonly running: number;
  /** A person has paused it, or lets it run dry. */
  readonly closed: boolean;
}

/**
 * Which jobs are offered now, best first: no more than the agent has free slots, counting what it was offered and has
 * not claimed yet; none that is held, delayed, or needs a lock that is taken or on its way to another. An offer that
 * nobody has claimed for `reofferMs` is no longer on its way, and is made again.
 */
export function toOffer(
  agent: Intake,
  queue: readonly Candidate[],
  taken: ReadonlySet<string>,
  now: number,
  reofferMs: number,
): string[] {
  if (agent.closed) return [];
  const onItsWay = (job: Candidate): boolean => job.offeredAt !== undefined && job.offeredAt > now - reofferMs;
  const free = agent.slots - agent.running - queue.filter(onItsWay).length;
  const locks = new Set([...taken, ...queue.filter(onItsWay).flatMap(({ lock }) => lock ?? [])]);
  const chosen: string[] = [];
  const ready = queue.filter((job) => !job.held && job.notBefore <= now && !onItsWay(job));
  for (const { id, lock } of ready.toSorted((a, b) => a.rank - b.rank || (a.id < b.id ? -1 : 1))) {
    if (chosen.length >= free) break;
    if (lock !== undefined && locks.has(lock)) continue;
    if (lock !== undefined) locks.add(lock);
    chosen.push(id);
  }
  return chosen;
}

/** Why an agent may not take a job that is offered to it, for people; undefined when it may. */
export function barOf(facts: {
  readonly intake?: { readonly by: string; readonly note: string } | undefined;
  readonly lock?: { readonly name: string; readonly holder: string } | undefined;
}): string | undefined {
  const { intake, lock } = facts;
  if (intake) return `the agent takes no jobs: ${intake.note} (${intake.by})`;
  return lock && `the lock ${lock.name} is held by ${lock.holder}`;
}
