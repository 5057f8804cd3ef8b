import { Injectable } from '@nestjs/common';
import { ImsError, isId, type TokenId } from '#contracts';
import { Database, GroupCommit, storableText, type NewEvent, type Tx } from '#persistence';
import { RegistryTokenConfig } from './config.js';
import { accessLifeMs, isOwnAgent, judge, type Presentation, type Presenter, type Verdict } from './judgement.js';
import { TamperedJobs, type Tampering } from './tampering.js';
import { factOf, secretHash, type TokenRow } from './token-row.js';

/** What a redemption gives. */
export interface Redemption {
  readonly token: TokenRow;
  /** What is left of the credential's life: a repeated answer ends when the first one would have ended. */
  readonly lifeMs: number;
}

interface Known extends Presentation {
  readonly id: TokenId;
}
/** A row while a group is dealt with: its later presentations see what the earlier ones have made of it. */
type Draft = { -readonly [K in keyof TokenRow]: TokenRow[K] };

/** More than the callers of one replica at a time; the statements grow with it. */
const GROUP_ITEMS = 256;
/** Two, so that the database works on one group while the other is being made; more only wait for one another's chains. */
const GROUPS = 2;
/** Looks and refusals of one token that become facts; then only the row counts on, or a flood would fill the chain. */
const RECORDED = 100;

/**
 * What happens when a token is presented. What decides between any number of racers on any number of replicas is the
 * lock on the token's row and `judge`, in one transaction with the facts; what a refused one learns is only that it is
 * refused.
 */
@Injectable()
export class Presentations {
  private readonly groups = new GroupCommit<Known, Redemption | undefined>((group) => this.commit(group), {
    groups: GROUPS,
    items: GROUP_ITEMS,
  });

  constructor(
    private readonly database: Database,
    private readonly config: RegistryTokenConfig,
    private readonly tampered: TamperedJobs,
  ) {}

  /**
   * Burns a token and answers what it is for. The same agent with the same request id may ask again for a few seconds,
   * since its answer may have been lost. Anything else is `pull_token_refused`, whatever the cause. `unavailable`: it
   * may have been burned; the same request tells.
   */
  redeem(token: string, by: Presenter): Promise<Redemption> {
    return this.present(token, by, 'redeem');
  }

  /** Resolves when the token could be redeemed now, and burns nothing: for logins of stock clients. */
  async look(token: string): Promise<void> {
    await this.present(token, 'bearer', 'look');
  }

  private async present(token: string, by: Presenter, purpose: Presentation['purpose']): Promise<Redemption> {
    const dot = token.indexOf('.');
    const id = token.slice(0, dot);
    if (!isId('token', id)) throw new ImsError('pull_token_refused');
    const hash = secretHash(this.config.TOKEN_HASH_KEY, id, token.slice(dot + 1));
    const presenter = by === 'bearer' ? by : { key: by.key, requestId: storableText(by.requestId) };
    const redemption = await this.groups.add({ id, purpose, by: presenter, hash });
    if (!redemption) throw new ImsError('pull_token_refused');
    return redemption;
  }

  private commit(group: readonly Known[]): Promise<(Redemption | undefined)[]> {
    return this.database.transaction(async (tx) => {
      const rows = await tx.query<Draft & { now: Date }>(
        'SELECT *, clock_timestamp() AS now FROM pull_tokens WHERE id = ANY($1) ORDER BY id FOR UPDATE',
        [[...new Set(group.map(({ id }) => id))]],
      );
      const drafts = new Map(rows.map((row) => [row.id, row]));
      const facts: NewEvent[] = [];
      const tamperings: Tampering[] = [];
      const answers = group.map((presentation) => {
        const token = drafts.get(presentation.id);
        if (!token) return undefined;
        const verdict = judge(token, presentation, token.now);
        const seen = apply(token, presentation, verdict, token.now);
        facts.push(...seen.facts);
        if (seen.tampering) {
          tamperings.push(seen.tampering);
          // Of the same job and in this same group: not even the right agent gets it any more.
          for (const other of rows) if (other.job_id === token.job_id && other.status === 'issued') stop(other, facts);
        }
        if (verdict.kind === 'refuse') return undefined;
        const age = token.now.getTime() - (token.redeemed_at ?? token.now).getTime();
        return { token, lifeMs: Math.max(1_000, accessLifeMs(token.size_bytes) - age) };
      });
      await store(tx, [...drafts.values()]);
      facts.push(...(await this.tampered.ends(tx, tamperings)));
      await tx.recordAll(facts);
      return answers;
    });
  }
}

function stop(token: Draft, facts: NewEvent[]): void {
  token.status = 'revoked';
  facts.push(factOf(token, 'token.revoked', 'service:registry-token', { reason: 'tampered' }));
}

/** Changes the token as the verdict says, and answers what is to be recorded of it. */
function apply(
  token: Draft,
  { by, purpose }: Presentation,
  verdict: Verdict,
  now: Date,
): { facts: NewEvent[]; tampering?: Tampering } {
  const who = by === 'bearer' ? 'bearer' : isOwnAgent(token, by) ? 'agent' : `key:${by.key}`;
  const actor = who === 'agent' ? `agent:${token.agent_id}` : who === 'bearer' ? 'bearer' : `nkey:${who.slice(4)}`;
  if (verdict.kind === 'burn') {
    token.status = 'redeemed';
    token.redeemed_at = now;
    token.redeem_request = by === 'bearer' ? null : by.requestId;
    return { facts: [factOf(token, 'token.redeemed', actor, { by: who, digest: token.digest })] };
  }
  token.presentations += 1;
  const facts: NewEvent[] = [];
  const recorded = token.presentations <= RECORDED;
  if (verdict.kind === 'repeat' && recorded) facts.push(factOf(token, 'token.repeated', actor, { by: who }));
  if (verdict.kind === 'open' && recorded) facts.push(factOf(token, 'token.looked', actor, { by: who }));
  if (verdict.kind !== 'refuse') return { facts };
  const { reason, tampering } = verdict;
  const data = { reason, by: who, purpose, status: token.status };
  if (recorded) facts.push(factOf(token, 'token.refused', actor, data));
  // Once a token: who goes on with a dead one must not be able to stop the job again after a person let it go on.
  if (!tampering || token.tampered_at) return { facts };
  token.tampered_at = now;
  facts.push(factOf(token, 'token.tampered', actor, data));
  return { facts, tampering: { token, detail: `pull token ${token.id} was presented by ${who}: ${reason}` } };
}

async function store(tx: Tx, rows: readonly TokenRow[]): Promise<void> {
  if (rows.length === 0) return;
  await tx.query(
    `UPDATE pull_tokens AS t SET status = r.status, redeemed_at = r.redeemed_at, redeem_request = r.redeem_request,
            tampered_at = r.tampered_at, presentations = r.presentations
       FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::timestamptz[], $6::int[])
         AS r (id, status, redeemed_at, redeem_request, tampered_at, presentations)
      WHERE t.id = r.id AND (t.status = r.status OR t.status = 'issued')`,
    [
      rows.map(({ id }) => id),
      rows.map(({ status }) => status),
      rows.map(({ redeemed_at }) => redeemed_at),
      rows.map(({ redeem_request }) => redeem_request),
      rows.map(({ tampered_at }) => tampered_at),
      rows.map(({ presentations }) => presentations),
    ],
  );
}
