import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { getDeployment, listJobs, type Attempt, type DeploymentId, type Event } from '#contracts';
import { type History } from '#domain';
import { eventOfRow } from '#persistence';
import { Gathered, readAgentState } from '../../deploy/operations/history/read.js';
import { type Ground } from './ground.js';
import { type Work } from './work.js';

interface AttemptRow extends Omit<Attempt, 'granted_at' | 'ended_at' | 'error' | 'steps'> {
  readonly job_id: string;
  readonly granted_at: Date;
  readonly ended_at: Date | null;
}

/** All that is known when the storm is over: the tables, the API, the agents' disks, and the world that jobs changed. */
export async function gather(ground: Ground, work: Work): Promise<History> {
  const gathered = new Gathered();

  const vendor_id = work.vendorId;
  gathered.accepted.push(...work.accepted);
  const events = await ground.sql<Record<string, unknown>>('SELECT * FROM events ORDER BY chain, seq');
  gathered.events.push(...events.map((row): Event => eventOfRow(row)));
  for (let cursor: string | undefined, more = true; more; more = cursor !== undefined) {
    const page = await ground.call(listJobs, { vendor_id, limit: 200, ...(cursor === undefined ? {} : { cursor }) });
    gathered.jobs.push(...page.data);
    cursor = page.next_cursor;
  }
  for (const { id } of await ground.sql<{ id: DeploymentId }>('SELECT id FROM deployments')) {
    gathered.deployments.push(await ground.call(getDeployment, { vendor_id, deployment_id: id }));
  }
  for (const row of await ground.sql<AttemptRow>('SELECT * FROM attempts')) {
    const { job_id, number, status, agent_id, granted_at, ended_at } = row;
    const ended = ended_at ? { ended_at: ended_at.toISOString() } : {};
    gathered.attempts.push({ job_id, number, status, agent_id, granted_at: granted_at.toISOString(), ...ended });
  }
  for (const state of ground.states.flat()) await readAgentState(gathered, state);
  for (const file of readdirSync(ground.effects)) {
    // `job attempt step phase seconds.micros`, as the steps themselves wrote it.
    for (const line of readFileSync(join(ground.effects, file), 'utf8').trim().split('\n')) {
      const [job_id = '', attempt, step = '', phase, at] = line.split(' ');
      const when = new Date(Math.floor(Number(at) * 1000)).toISOString();
      gathered.effects.push({
        witness: 'world',
        job_id,
        attempt: Number(attempt),
        step,
        phase: phase as 'began' | 'done',
        at: when,
      });
    }
  }
  return gathered.history;
}

/** Attempts that agents still hold though nothing is left to do: their receipts never came. */
export const heldByAgents = (ground: Ground): string[] =>
  ground.states
    .flat()
    .flatMap((state) => readdirSync(join(state, 'journal')).filter((name) => name.startsWith('job_')));
