import { type JobId } from '#contracts';
import { barOf } from '#domain';
import { unscoped, type JobRow } from './rows.js';

/** A person lets an agent take no jobs: `agents.intake`. */
export interface StoredIntake {
  readonly state: 'paused' | 'draining' | 'drained';
  readonly by: string;
  readonly note: string;
  readonly since: string;
}

/** Why the agent may not have the job now; undefined when nothing bars it. `holder`: who has the lock that it needs. */
export function barFor(job: JobRow, intake: StoredIntake | null, holder: JobId | null): string | undefined {
  const taken = job.lock !== null && holder !== null && holder !== job.id;
  return barOf({
    intake: intake ?? undefined,
    lock: taken ? { name: unscoped(job.lock), holder } : undefined,
  });
}
