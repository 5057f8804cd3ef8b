import { timingSafeEqual } from 'node:crypto';
import { LIMITS, type PullToken } from '#contracts';

/** Who presents a token: its agent, by a signed request that it may repeat, or whoever holds it, once. */
export type Presenter = { readonly key: string; readonly requestId: string } | 'bearer';

/** What somebody does with a token: `redeem` burns it, `look` (the login of a stock client) does not. */
export interface Presentation {
  readonly purpose: 'redeem' | 'look';
  readonly by: Presenter;
  /** Of the secret that was presented. */
  readonly hash: Buffer;
}

/** What decides, as it is stored; times by the database's clock. */
export interface TokenState {
  readonly status: PullToken['status'];
  readonly agent_key: string;
  readonly secret_hash: Buffer;
  readonly expires_at: Date;
  readonly redeemed_at: Date | null;
  readonly redeem_request: string | null;
}

export type Refusal = 'wrong_secret' | 'other_key' | 'used' | 'expired' | 'revoked';
/** `repeat`: the winner asks again, since its answer was lost. `open`: a look at a token that could be redeemed. */
export type Verdict =
  | { readonly kind: 'burn' | 'repeat' | 'open' }
  | { readonly kind: 'refuse'; readonly reason: Refusal; readonly tampering: boolean };

/** True for the agent that the token was issued to, proven by its signature. */
export const isOwnAgent = (token: Pick<TokenState, 'agent_key'>, by: Presenter): boolean =>
  by !== 'bearer' && by.key === token.agent_key;

/**
 * What a presentation of a known token comes to. Everything that its own agent has no reason to do is tampering: a
 * wrong secret, another key, a second use, and whatever a bearer does with a dead token. A bearer may be the agent's
 * own client, but nobody can tell; the agent itself being late (its token expired, or was ended) is no tampering.
 */
export function judge(token: TokenState, { purpose, by, hash }: Presentation, now: Date): Verdict {
  const refuse = (reason: Refusal, tampering: boolean): Verdict => ({ kind: 'refuse', reason, tampering });
  const rightSecret = token.secret_hash.length === hash.length && timingSafeEqual(token.secret_hash, hash);
  const own = isOwnAgent(token, by);
  if (!rightSecret) return refuse('wrong_secret', true);
  if (by !== 'bearer' && !own) return refuse('other_key', true);
  switch (token.status) {
    case 'issued':
      if (token.expires_at <= now) return refuse('expired', !own);
      return { kind: purpose === 'look' ? 'open' : 'burn' };
    case 'redeemed': {
      const sinceMs = now.getTime() - (token.redeemed_at?.getTime() ?? 0);
      const same = by !== 'bearer' && purpose === 'redeem' && by.requestId === token.redeem_request;
      return same && sinceMs < LIMITS.redeemRetryMs ? { kind: 'repeat' } : refuse('used', true);
    }
    case 'expired':
    case 'revoked':
      return refuse(token.status, !own);
  }
}

/**
 * How long a credential for an artifact lives, from the redemption on. It cannot be recalled, so it is no longer than
 * the pull needs; rows that are older than the column have no size and get the longest.
 */
export function accessLifeMs(sizeBytes: number | null): number {
  if (sizeBytes === null) return LIMITS.registryTokenMs;
  return Math.min(LIMITS.registryTokenMs, LIMITS.registryTokenMinMs + Math.ceil(sizeBytes / LIMITS.pullBytesPerMs));
}
