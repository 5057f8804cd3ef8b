import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { holdJob, ImsError, type JobId, type VendorId } from '#contracts';
import { Bus } from '#messaging';
import { Database, type NewEvent, type Tx } from '#persistence';
import { createLogger, Lifecycle } from '#platform';
import { factOf, type TokenRow } from './token-row.js';

/** A token of a job was presented by somebody who should not have it, or not any more. */
export interface Tampering {
  readonly token: TokenRow;
  readonly detail: string;
}

interface PendingHold {
  readonly job_id: JobId;
  readonly vendor_id: VendorId;
  readonly detail: string;
  readonly tampered_at: Date;
  readonly tries: number;
}

const SWEEP_MS = 1_000;
const SWEEP_ROWS = 20;

/** Ends what was issued for a job whose token was tampered with, and has the scheduler hold the job, however long that takes. */
@Injectable()
export class TamperedJobs implements OnApplicationBootstrap {
  private readonly logger = createLogger('tampering');
  private telling: Promise<void> | undefined;
  private again = false;

  constructor(
    private readonly database: Database,
    private readonly bus: Bus,
    private readonly lifecycle: Lifecycle,
  ) {}

  onApplicationBootstrap(): void {
    const timer = setInterval(() => {
      this.tell();
    }, SWEEP_MS);
    this.lifecycle.onDrain('stop-intake', 'holds', () => {
      clearInterval(timer);
      return Promise.resolve();
    });
    this.lifecycle.onDrain('finish-work', 'holds', () => this.telling ?? Promise.resolve());
  }

  /** Part of the transaction that saw it. Answers the facts of the tokens that it ended. */
  async ends(tx: Tx, tamperings: readonly Tampering[]): Promise<NewEvent[]> {
    const jobs = new Map(tamperings.map((each) => [each.token.job_id, each]));
    const ids = [...jobs.keys()].sort();
    if (ids.length === 0) return [];
    await lockJobs(tx, ids);
    await tx.query(
      `INSERT INTO tampered_jobs AS t (job_id, vendor_id, detail, attempt)
       SELECT job_id, vendor_id, detail, (SELECT max(attempt) FROM pull_tokens p WHERE p.job_id = r.job_id)
         FROM unnest($1::text[], $2::text[], $3::text[]) AS r (job_id, vendor_id, detail)
       ON CONFLICT (job_id) DO UPDATE SET detail = excluded.detail, attempt = greatest(t.attempt, excluded.attempt),
         tampered_at = excluded.tampered_at, told_at = NULL, next_at = now(), tries = 0`,
      [ids, ids.map((id) => jobs.get(id)?.token.vendor_id), ids.map((id) => jobs.get(id)?.detail)],
    );
    const ended = await tx.query<TokenRow>(
      `UPDATE pull_tokens SET status = 'revoked' WHERE status = 'issued' AND job_id = ANY($1) RETURNING *`,
      [ids],
    );
    tx.afterCommit(() => {
      this.tell();
    });
    return ended.map((token) => factOf(token, 'token.revoked', 'service:registry-token', { reason: 'tampered' }));
  }

  /** True when the attempt, or a later one, has been stopped for tampering: nothing is issued for it any more. */
  async stopped(tx: Tx, job: JobId, attempt: number): Promise<boolean> {
    const rows = await tx.query('SELECT 1 FROM tampered_jobs WHERE job_id = $1 AND attempt >= $2', [job, attempt]);
    return rows.length > 0;
  }

  /** Tells the scheduler what it does not know yet. One round at a time; asked meanwhile, another one follows. */
  private tell(): void {
    this.again = true;
    this.telling ??= (async () => {
      while (this.again) {
        this.again = false;
        await this.tellDue();
      }
    })()
      .catch((error: unknown) => this.logger.warn({ err: error }, 'holds cannot be looked for now'))
      .finally(() => (this.telling = undefined));
  }

  private async tellDue(): Promise<void> {
    // Taking a row puts it off, so that no other replica calls for it meanwhile; a crash costs that time. The bound
    // keeps a hold quick after the scheduler has come back.
    const due = await this.database.query<PendingHold>(
      `UPDATE tampered_jobs SET tries = tries + 1, next_at = now() + least(5, 1 + tries) * interval '1 second'
        WHERE job_id IN (SELECT job_id FROM tampered_jobs WHERE told_at IS NULL AND next_at <= now()
                          ORDER BY next_at LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING *`,
      [SWEEP_ROWS],
    );
    await Promise.all(due.map((hold) => this.tellOne(hold)));
  }

  private async tellOne({ job_id, vendor_id, detail, tampered_at, tries }: PendingHold): Promise<void> {
    try {
      await this.bus.call(holdJob, { vendor_id, job_id, hold: { code: 'token_tampered', detail } });
      this.logger.warn({ job: job_id, detail }, 'a token was tampered with; its job is held');
    } catch (error) {
      const { code, detail: why } = ImsError.of(error);
      // The job is over, or never was one: nothing is left to hold.
      const final = code === 'conflict' || code === 'not_found';
      if (!final) {
        if (tries === 1) this.logger.warn({ err: error, job: job_id }, 'the scheduler does not take a hold yet');
        return;
      }
      this.logger.warn(
        { job: job_id, detail, code, why },
        'a token was tampered with; its job cannot be held any more',
      );
    }
    // Fenced: tampering that was seen meanwhile is to be told again.
    await this.database
      .query('UPDATE tampered_jobs SET told_at = now() WHERE job_id = $1 AND tampered_at = $2', [job_id, tampered_at])
      .catch((error: unknown) => this.logger.warn({ err: error, job: job_id }, 'a hold will be told again'));
  }
}

/** Until the end of the transaction nobody else issues a token of these jobs, or ends them for tampering. */
export async function lockJobs(tx: Tx, sortedIds: readonly JobId[]): Promise<void> {
  await tx.query('SELECT pg_advisory_xact_lock(hashtextextended(id, 0)) FROM unnest($1::text[]) AS id', [sortedIds]);
}
