import { Injectable } from '@nestjs/common';
import {
  ImsError,
  listLocks,
  Lock,
  LockPage,
  type AgentId,
  type InstallId,
  type JobId,
  type JobReason,
  type ListLocks,
} from '#contracts';
import { Serves } from '#messaging';
import { Database, decodeCursor, limitOf, pageOf, storableText } from '#persistence';
import { caller, iso, wire } from '../wire.js';
import { lockJob, unscoped } from './rows.js';
import { Transitions } from './transitions.js';

interface LockRow {
  readonly key: string;
  readonly install_id: InstallId | null;
  readonly job_id: JobId;
  readonly attempt: number;
  readonly agent_id: AgentId;
  readonly taken_at: Date;
  readonly until: Date;
  readonly unlocking: boolean;
  readonly waiting: number;
}

/**
 * Locks as people see them. A lock is taken with the grant of an attempt and given back with its end, each in the same
 * statement as the attempt's own row; its lease is the attempt's.
 */
@Injectable()
export class Locks {
  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
  ) {}

  @Serves(listLocks)
  async listLocks(query: ListLocks): Promise<LockPage> {
    const limit = limitOf(query);
    const rows = await this.database.query<LockRow>(
      `SELECT k.*, l.until, l.unlocking,
         (SELECT count(*) FROM jobs j WHERE j.lock = k.key AND j.status = 'queued') AS waiting
       FROM locks k JOIN leases l ON l.job_id = k.job_id
       WHERE k.vendor_id = $1 AND ($2::text IS NULL OR k.install_id = $2) AND ($3::text IS NULL OR k.key > $3)
       ORDER BY k.key LIMIT $4`,
      [query.vendor_id, query.install_id ?? null, decodeCursor(query.cursor, 1)?.[0] ?? null, limit + 1],
    );
    const { data, next_cursor } = pageOf(rows, limit, (row) => [row.key]);
    return wire(LockPage, { data: data.map(view), next_cursor });
  }

  /**
   * Takes the lock of the running attempt away: the attempt is not renewed any more, so its agent ends it before its
   * lease does, and only then the lock is free. The job goes to the end of its queue. Throws `conflict` when the job has
   * no lock. Twice is no error.
   */
  async unlock({ vendor_id, job_id, request }: JobReason): Promise<void> {
    await this.transitions.run(async (change) => {
      const { tx } = change;
      const job = await lockJob(tx, job_id);
      if (job?.vendor_id !== vendor_id) throw new ImsError('not_found', `there is no job ${job_id}`);
      const taken = await tx.query<{ key: string }>('SELECT key FROM locks WHERE job_id = $1', [job_id]);
      const [{ key } = { key: '' }] = taken;
      if (key === '') throw new ImsError('conflict', `${job_id} is ${job.status} and has no lock`);
      const changed = await tx.query(
        'UPDATE leases SET unlocking = true WHERE job_id = $1 AND NOT unlocking RETURNING attempt',
        [job_id],
      );
      if (changed.length === 0) return;
      await tx.query('UPDATE jobs SET rank = now() WHERE id = $1', [job_id]);
      this.transitions.fact(change, job, 'lock.taken_away', caller(), {
        lock: unscoped(key),
        attempt: job.attempt,
        ...(request.reason === undefined ? {} : { reason: storableText(request.reason) }),
      });
    });
  }
}

const view = (row: LockRow): Lock =>
  wire(Lock, {
    name: unscoped(row.key),
    install_id: row.install_id,
    job_id: row.job_id,
    attempt: row.attempt,
    agent_id: row.agent_id,
    taken_at: iso(row.taken_at),
    lease_until: iso(row.until),
    ...(row.unlocking ? { unlocking: true } : {}),
    waiting: row.waiting,
  });
