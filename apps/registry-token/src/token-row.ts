import { createHmac } from 'node:crypto';
import {
  type AgentId,
  type DeploymentId,
  type InstallId,
  type JobId,
  type JsonObject,
  type PullToken,
  type TokenId,
  type VendorId,
} from '#contracts';
import { type NewEvent } from '#persistence';
import { type TokenState } from './judgement.js';

/** A stored token. The secret is not in it, nor anywhere else but with its agent. */
export interface TokenRow extends TokenState {
  readonly id: TokenId;
  readonly vendor_id: VendorId;
  readonly install_id: InstallId;
  readonly deployment_id: DeploymentId | null;
  readonly job_id: JobId;
  readonly attempt: number;
  readonly agent_id: AgentId;
  readonly repository: string;
  readonly digest: string;
  readonly size_bytes: number | null;
  readonly issued_at: Date;
  readonly tampered_at: Date | null;
  /** Looks and refusals so far. */
  readonly presentations: number;
}

/** Under which a token's secret is stored: whoever has the table, but not the key, can neither use nor guess it. */
export function secretHash(key: string, id: string, secret: string): Buffer {
  return createHmac('sha256', key).update(`${id}.${secret}`).digest();
}

/** A fact about a token, in the chain of its install. */
export function factOf(token: TokenRow, type: string, actor: string, data: JsonObject): NewEvent {
  return {
    chainOf: token.install_id,
    type,
    vendor_id: token.vendor_id,
    install_id: token.install_id,
    deployment_id: token.deployment_id ?? undefined,
    job_id: token.job_id,
    agent_id: token.agent_id,
    actor,
    data: { token_id: token.id, ...data },
  };
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
    ...(row.tampered_at ? { tampered_at: row.tampered_at.toISOString() } : {}),
  };
}
