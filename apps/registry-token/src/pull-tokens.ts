import { createHmac, randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import {
  ImsError,
  isId,
  LIMITS,
  newId,
  type AgentId,
  type DeploymentId,
  type InstallId,
  type IssuedPullToken,
  type JobId,
  type JobStatement,
  type JsonObject,
  type PullToken,
  type TokenId,
  type VendorId,
} from '#contracts';
import { Database, type Tx } from '#persistence';
import { RegistryTokenConfig } from './config.js';

/** A stored token. The secret is not in it, nor anywhere else but with its agent. */
export interface TokenRow {
  readonly id: TokenId;
  readonly vendor_id: VendorId;
  readonly install_id: InstallId;
  readonly deployment_id: DeploymentId | null;
  readonly job_id: JobId;
  readonly attempt: number;
  readonly agent_id: AgentId;
  readonly agent_key: string;
  readonly repository: string;
  readonly digest: string;
  readonly status: PullToken['status'];
  readonly issued_at: Date;
  readonly expires_at: Date;
  readonly redeemed_at: Date | null;
}

/** Who presents a token: its agent, by a signed request that it may repeat, or whoever holds it, once. */
export type Presenter = { readonly key: string; readonly requestId: string } | 'bearer';

const REFUSED = (): ImsError => new ImsError('pull_token_refused');
const SWEEP_ROWS = 100;

/**
 * Pull tokens: each fetches one artifact digest, for one job of one install, once. What decides between any number of
 * racers on any number of replicas is one UPDATE; what a refused one learns is only that it is refused.
 */
@Injectable()
export class PullTokens {
  constructor(
    private readonly database: Database,
    private readonly config: RegistryTokenConfig,
  ) {}

  /** A new token for the artifact of a sync job. An open one of the same job ends; an earlier attempt is refused. */
  async issue(job: JobStatement, key: string): Promise<IssuedPullToken> {
    const { install_id: installId, artifact } = job;
    if (!installId || !artifact) throw new ImsError('statement_refused', 'the job names no install or no artifact');
    const id = newId('token');
    const secret = randomBytes(32).toString('base64url');
    const row = await this.database.transaction(async (tx) => {
      // Two requests of one job wait for one another here, so that the later one ends the earlier one's token.
      await tx.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [job.job_id]);
      const [newest] = await tx.query<{ attempt: number }>(
        'SELECT coalesce(max(attempt), 0) AS attempt FROM pull_tokens WHERE job_id = $1',
        [job.job_id],
      );
      if ((newest?.attempt ?? 0) > job.attempt) throw new ImsError('stale_attempt');
      const ended = await this.endOpen(tx, 'job_id = $1', [job.job_id]);
      const [issued] = await tx.query<TokenRow>(
        `INSERT INTO pull_tokens (id, vendor_id, install_id, deployment_id, job_id, attempt, agent_id, agent_key,
                                  repository, digest, secret_hash, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, now() + make_interval(secs => $12)) RETURNING *`,
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
          this.hash(id, secret),
          LIMITS.pullTokenMs / 1000,
        ],
      );
      if (!issued) throw new Error('the token was not stored');
      for (const each of ended) await record(tx, each, 'token.revoked', { reason: 'superseded' });
      await record(tx, issued, 'token.issued', {
        attempt: issued.attempt,
        digest: issued.digest,
        repository: issued.repository,
      });
      return issued;
    });
    return { token_id: id, token: `${id}.${secret}`, expires_at: row.expires_at.toISOString() };
  }

  /**
   * Burns a token and answers what it is for. The same agent with the same request id may ask again for a few seconds,
   * since its answer may have been lost. Anything else is `pull_token_refused`, whatever the cause.
   */
  async redeem(token: string, by: Presenter): Promise<TokenRow> {
    const { id, hash } = this.split(token);
    const [key, requestId] = by === 'bearer' ? [null, null] : [by.key, by.requestId];
    const won = await this.database.transaction(async (tx) => {
      const [burned] = await tx.query<TokenRow>(
        `UPDATE pull_tokens SET status = 'redeemed', redeemed_at = now(), redeem_request = $4
          WHERE id = $1 AND secret_hash = $2 AND status = 'issued' AND expires_at > now()
            AND ($3::text IS NULL OR agent_key = $3) RETURNING *`,
        [id, hash, key, requestId],
      );
      if (burned) {
        await record(tx, burned, 'token.redeemed', { by: key === null ? 'bearer' : 'agent', digest: burned.digest });
        return burned;
      }
      const [same] = await tx.query<TokenRow>(
        `SELECT * FROM pull_tokens WHERE id = $1 AND secret_hash = $2 AND status = 'redeemed' AND agent_key = $3
            AND redeem_request = $4 AND redeemed_at > now() - make_interval(secs => $5)`,
        [id, hash, key, requestId, LIMITS.redeemRetryMs / 1000],
      );
      if (same) return same;
      const [known] = await tx.query<TokenRow>('SELECT * FROM pull_tokens WHERE id = $1', [id]);
      if (known)
        await record(tx, known, 'token.refused', { status: known.status, by: key === null ? 'bearer' : `key:${key}` });
      return undefined;
    });
    if (!won) throw REFUSED();
    return won;
  }

  /** True when the token could be redeemed now. Burns nothing: for logins of stock clients. */
  async look(token: string): Promise<boolean> {
    const { id, hash } = this.split(token);
    const rows = await this.database.query(
      `SELECT 1 FROM pull_tokens WHERE id = $1 AND secret_hash = $2 AND status = 'issued' AND expires_at > now()`,
      [id, hash],
    );
    return rows.length > 0;
  }

  /** Ends what is open of a job. */
  async revokeOf(vendorId: VendorId, jobId: JobId): Promise<TokenRow[]> {
    return this.database.transaction(async (tx) => {
      const ended = await this.endOpen(tx, 'vendor_id = $1 AND job_id = $2', [vendorId, jobId]);
      for (const each of ended) await record(tx, each, 'token.revoked', { reason: 'the job is over' });
      return ended;
    });
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
      const ended = await tx.query<TokenRow>(
        `UPDATE pull_tokens SET status = 'expired' WHERE id IN (
           SELECT id FROM pull_tokens WHERE status = 'issued' AND expires_at <= now()
            ORDER BY install_id LIMIT $1 FOR UPDATE SKIP LOCKED) RETURNING *`,
        [SWEEP_ROWS],
      );
      // Chains are locked in one order, or two replicas would wait for one another.
      for (const each of ended.sort((a, b) => a.install_id.localeCompare(b.install_id))) {
        await record(tx, each, 'token.expired', { reason: 'not redeemed in time' });
      }
      return ended.length;
    });
  }

  private async endOpen(tx: Tx, where: string, params: unknown[]): Promise<TokenRow[]> {
    return tx.query<TokenRow>(
      `UPDATE pull_tokens SET status = 'revoked' WHERE status = 'issued' AND ${where} RETURNING *`,
      params,
    );
  }

  private split(token: string): { id: string; hash: Buffer } {
    const dot = token.indexOf('.');
    const id = token.slice(0, dot);
    // A malformed token takes the same way as a wrong one: no row has an empty id.
    return isId('token', id) ? { id, hash: this.hash(id, token.slice(dot + 1)) } : { id: '', hash: Buffer.alloc(0) };
  }

  private hash(id: string, secret: string): Buffer {
    return createHmac('sha256', this.config.TOKEN_HASH_KEY).update(`${id}.${secret}`).digest();
  }
}

async function record(tx: Tx, token: TokenRow, type: string, data: JsonObject): Promise<void> {
  await tx.record({
    chainOf: token.install_id,
    type,
    vendor_id: token.vendor_id,
    install_id: token.install_id,
    deployment_id: token.deployment_id ?? undefined,
    job_id: token.job_id,
    agent_id: token.agent_id,
    actor: type === 'token.expired' || type === 'token.revoked' ? 'service:registry-token' : `agent:${token.agent_id}`,
    data: { token_id: token.id, ...data },
  });
}

/** A token as people see it. */
export function toPullToken(row: TokenRow): PullToken {
  const { id, install_id, job_id, status, repository, digest } = row;
  return {
    id,
    install_id,
    job_id,
    status,
    repository,
    digest,
    issued_at: row.issued_at.toISOString(),
    expires_at: row.expires_at.toISOString(),
    ...(row.redeemed_at ? { redeemed_at: row.redeemed_at.toISOString() } : {}),
  };
}
