import { randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import {
  ImsError,
  LIMITS,
  newId,
  type InstallId,
  type IssuedPullToken,
  type JobId,
  type JobStatement,
  type TokenId,
  type VendorId,
} from '#contracts';
import { Database, type Tx } from '#persistence';
import { RegistryTokenConfig } from './config.js';
import { lockJobs, TamperedJobs } from './tampering.js';
import { factOf, secretHash, type TokenRow } from './token-row.js';

const SELF = 'service:registry-token';
const SWEEP_ROWS = 100;

/** Pull tokens from their issue to their end, but for their presentation: each is for one artifact digest and one job. */
@Injectable()
export class PullTokens {
  constructor(
    private readonly database: Database,
    private readonly config: RegistryTokenConfig,
    private readonly tampered: TamperedJobs,
  ) {}

  /** A new token for the artifact of a sync job. An open one of the same job ends; an earlier attempt is refused. */
  async issue(job: JobStatement, key: string): Promise<IssuedPullToken> {
    const { install_id: installId, artifact } = job;
    if (!installId || !artifact) throw new ImsError('statement_refused', 'the job names no install or no artifact');
    const id = newId('token');
    const secret = randomBytes(32).toString('base64url');
    const row = await this.database.transaction(async (tx) => {
      // Two requests of one job wait for one another here, so that the later one ends the earlier one's token.
      await lockJobs(tx, [job.job_id]);
      const [newest] = await tx.query<{ attempt: number }>(
        'SELECT coalesce(max(attempt), 0) AS attempt FROM pull_tokens WHERE job_id = $1',
        [job.job_id],
      );
      await this.assertRunning(job, tx);
      const stopped = await this.tampered.stopped(tx, job.job_id, job.attempt);
      if (stopped || (newest?.attempt ?? 0) > job.attempt) throw new ImsError('stale_attempt');
      const ended = await this.endOpen(tx, 'job_id = $1', [job.job_id]);
      const [issued] = await tx.query<TokenRow>(
        `INSERT INTO pull_tokens (id, vendor_id, install_id, deployment_id, job_id, attempt, agent_id, agent_key,
                                  repository, digest, size_bytes, secret_hash, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, now() + make_interval(secs => $13)) RETURNING *`,
        [
          id,
          job.vendor_id,
          installId,
          job.deployment_id ?? null,
          job.job_id,
          job.attempt,
          job.agent_id,
          key,
          artifact.repository,
          artifact.digest,
          artifact.size_bytes,
          secretHash(this.config.TOKEN_HASH_KEY, id, secret),
          LIMITS.pullTokenMs / 1000,
        ],
      );
      if (!issued) throw new Error('the token was not stored');
      await tx.recordAll([
        ...ended.map((each) => factOf(each, 'token.revoked', SELF, { reason: 'superseded' })),
        factOf(issued, 'token.issued', `agent:${issued.agent_id}`, {
          attempt: issued.attempt,
          digest: issued.digest,
          repository: issued.repository,
        }),
      ]);
      return issued;
    });
    return { token_id: id, token: `${id}.${secret}`, expires_at: row.expires_at.toISOString() };
  }

  /**
   * `stale_attempt` when the scheduler has said that the attempt is over. A statement is valid for an hour, and its
   * attempt rarely runs so long: who keeps one, after its agent was revoked say, must get nothing for it.
   */
  async assertRunning(
    job: Pick<JobStatement, 'job_id' | 'attempt'>,
    from: Pick<Tx, 'query'> = this.database,
  ): Promise<void> {
    const ended = await from.query('SELECT 1 FROM ended_attempts WHERE job_id = $1 AND attempt >= $2', [
      job.job_id,
      job.attempt,
    ]);
    if (ended.length > 0) throw new ImsError('stale_attempt');
  }

  /** Ends what is open of a job; an attempt that is named is over, and gets nothing any more. */
  async revokeOf(vendorId: VendorId, jobId: JobId, attempt?: number): Promise<TokenRow[]> {
    return this.database.transaction(async (tx) => {
      await lockJobs(tx, [jobId]);
      if (attempt !== undefined) {
        await tx.query(
          `INSERT INTO ended_attempts AS e (job_id, attempt) VALUES ($1, $2)
           ON CONFLICT (job_id) DO UPDATE SET attempt = greatest(e.attempt, excluded.attempt), ended_at = now()`,
          [jobId, attempt],
        );
      }
      const ended = await this.endOpen(tx, 'vendor_id = $1 AND job_id = $2', [vendorId, jobId]);
      await tx.recordAll(ended.map((each) => factOf(each, 'token.revoked', SELF, { reason: 'the job is over' })));
      return ended;
    });
  }

  /** A person ends one token. Again: the same answer. `conflict` when it is redeemed or expired: nothing is left to end. */
  async revoke(vendorId: VendorId, id: TokenId, by: string): Promise<TokenRow> {
    return this.database.transaction(async (tx) => {
      const [ended] = await this.endOpen(tx, 'vendor_id = $1 AND id = $2', [vendorId, id]);
      if (ended) {
        await tx.record(factOf(ended, 'token.revoked', by, { reason: 'by a person' }));
        return ended;
      }
      const token = await this.get(vendorId, id, tx);
      if (token.status === 'revoked') return token;
      throw new ImsError('conflict', `the token is ${token.status}: nothing is left to revoke`);
    });
  }

  /** `not_found` for a token of another vendor too. */
  async get(vendorId: VendorId, id: TokenId, from: Pick<Tx, 'query'> = this.database): Promise<TokenRow> {
    const [token] = await from.query<TokenRow>('SELECT * FROM pull_tokens WHERE vendor_id = $1 AND id = $2', [
      vendorId,
      id,
    ]);
    if (!token) throw new ImsError('not_found', `there is no token ${id}`);
    return token;
  }

  /** Newest first, after the id if given. */
  async list(vendorId: VendorId, installId: InstallId, before: string | undefined, limit: number): Promise<TokenRow[]> {
    return this.database.query<TokenRow>(
      `SELECT * FROM pull_tokens WHERE vendor_id = $1 AND install_id = $2 AND ($3::text IS NULL OR id < $3)
        ORDER BY id DESC LIMIT $4`,
      [vendorId, installId, before ?? null, limit],
    );
  }

  /** Marks tokens that nobody redeemed in time. Safe on any number of replicas at once; returns how many. */
  async expire(): Promise<number> {
    return this.database.transaction(async (tx) => {
      // By then no statement of such an attempt is valid any more.
      await tx.query(`DELETE FROM ended_attempts WHERE ended_at < now() - make_interval(secs => $1)`, [
        (2 * LIMITS.jobStatementMs) / 1000,
      ]);
      const ended = await tx.query<TokenRow>(
        `UPDATE pull_tokens SET status = 'expired' WHERE id IN (
           SELECT id FROM pull_tokens WHERE status = 'issued' AND expires_at <= now()
            ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING *`,
        [SWEEP_ROWS],
      );
      await tx.recordAll(ended.map((each) => factOf(each, 'token.expired', SELF, { reason: 'not redeemed in time' })));
      return ended.length;
    });
  }

  private async endOpen(tx: Tx, where: string, params: unknown[]): Promise<TokenRow[]> {
    return tx.query<TokenRow>(
      `UPDATE pull_tokens SET status = 'revoked' WHERE status = 'issued' AND ${where} RETURNING *`,
      params,
    );
  }
}
