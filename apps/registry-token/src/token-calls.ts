import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import {
  getPullToken,
  listPullTokens,
  revokeJobTokens,
  revokePullToken,
  type ListTokens,
  type PullToken,
  type PullTokenPage,
  type PullTokenRef,
  type RevokeJobTokens,
} from '#contracts';
import { RawPublisher, Serves, type MessageContext } from '#messaging';
import { Database, decodeCursor, limitOf, pageOf } from '#persistence';
import { createLogger, Lifecycle } from '#platform';
import { PullTokens } from './pull-tokens.js';
import { toPullToken } from './token-row.js';

const SWEEP_MS = 5_000;

/** What other services ask, and what happens by itself. */
@Injectable()
export class TokenCalls implements OnApplicationBootstrap {
  private readonly logger = createLogger('pull-tokens');

  constructor(
    private readonly tokens: PullTokens,
    private readonly database: Database,
    private readonly publisher: RawPublisher,
    private readonly lifecycle: Lifecycle,
  ) {}

  onApplicationBootstrap(): void {
    this.database.startRelay(this.publisher);
    const timer = setInterval(() => {
      this.tokens.expire().catch((error: unknown) => this.logger.warn({ err: error }, 'tokens were not expired'));
    }, SWEEP_MS);
    this.lifecycle.onDrain('stop-intake', 'token sweep', () => {
      clearInterval(timer);
      return Promise.resolve();
    });
  }

  @Serves(listPullTokens)
  async list(query: ListTokens): Promise<PullTokenPage> {
    const [before] = decodeCursor(query.cursor, 1) ?? [];
    const limit = limitOf(query);
    const rows = await this.tokens.list(query.vendor_id, query.install_id, before, limit + 1);
    const { data, ...rest } = pageOf(rows, limit, ({ id }) => [id]);
    return { data: data.map(toPullToken), ...rest };
  }

  @Serves(revokeJobTokens)
  async revoke({ vendor_id, job_id, attempt }: RevokeJobTokens): Promise<PullTokenPage> {
    return { data: (await this.tokens.revokeOf(vendor_id, job_id, attempt)).map(toPullToken) };
  }

  @Serves(getPullToken)
  async get({ vendor_id, token_id }: PullTokenRef): Promise<PullToken> {
    return toPullToken(await this.tokens.get(vendor_id, token_id));
  }

  @Serves(revokePullToken)
  async revokeOne({ vendor_id, token_id }: PullTokenRef, context: MessageContext): Promise<PullToken> {
    return toPullToken(await this.tokens.revoke(vendor_id, token_id, context.actor ?? 'service:gateway'));
  }
}
