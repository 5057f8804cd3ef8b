import { randomUUID } from 'node:crypto';
import {
  AgentRequest,
  ImsError,
  IssuedPullToken,
  LIMITS,
  PAYLOAD_TYPES,
  RegistryAccess,
  parse,
  signEnvelope,
  type Class,
  type Envelope,
} from '#contracts';
import { backoffMs, registerSecret, sleep } from '#platform';
import { postJson, secureUrl, type HttpOptions } from './http.js';
import { type Identity } from './identity.js';

export interface RegistryTokensOptions extends HttpOptions {
  /** The server's time as far as known: a request that is more than a minute off is refused. Default: this clock. */
  readonly now?: () => Date;
  /** How long a request whose answer was lost is repeated; the server remembers an answer for LIMITS.redeemRetryMs. */
  readonly retryForMs?: number;
}

/**
 * Asks registry-token, over HTTPS and not over NATS, so that no token is ever in a message. Each request is signed with
 * this agent's key and carries the job's signed statement, which names that key. An answer that was lost is asked for
 * again with the very same bytes, which the server takes as the same request.
 */
export class RegistryTokens {
  constructor(
    private readonly identity: Pick<Identity, 'enrolment' | 'publicKey' | 'sign' | 'allowPlainHttp'>,
    private readonly options: RegistryTokensOptions = {},
  ) {}

  /** A token that fetches the artifact of this job once. Throws `stale_attempt`, `pull_token_refused`, `unavailable`. */
  async requestPullToken(statement: Envelope, signal?: AbortSignal): Promise<IssuedPullToken> {
    const issued = await this.ask(IssuedPullToken, { action: 'issue_pull_token', statement }, signal);
    registerSecret(issued.token);
    return issued;
  }

  /**
   * Burns the token for the right to fetch its artifact: a credential of the registry, or a download plan. `requestId` is the caller's, so that a retry after a
   * crash within LIMITS.redeemRetryMs is still the same request.
   */
  async redeemPullToken(token: string, requestId: string, signal?: AbortSignal): Promise<RegistryAccess> {
    registerSecret(token);
    return this.access({ action: 'redeem_pull_token', token, request_id: requestId }, signal);
  }

  /** A credential of the registry with which the build of this job may push to its repository. */
  async requestPushToken(statement: Envelope, signal?: AbortSignal): Promise<RegistryAccess> {
    return this.access({ action: 'issue_push_token', statement }, signal);
  }

  private async access(request: Partial<AgentRequest>, signal?: AbortSignal): Promise<RegistryAccess> {
    const access = await this.ask(RegistryAccess, request, signal);
    // URLs of a download plan are many and are never logged: they would only make every log line of this process slower.
    for (const secret of [access.registry_token, access.password]) if (secret !== undefined) registerSecret(secret);
    return access;
  }

  private async ask<T extends object>(
    type: Class<T>,
    request: Partial<AgentRequest>,
    signal?: AbortSignal,
  ): Promise<T> {
    const plain = this.options.allowPlainHttp ?? this.identity.allowPlainHttp;
    const options: HttpOptions = { ...this.options, allowPlainHttp: plain };
    const url = secureUrl(
      `${this.identity.enrolment.registry_token_url.replace(/\/+$/, '')}/v1/agent-requests`,
      options,
    );
    const statement: AgentRequest = Object.assign(new AgentRequest(), {
      request_id: randomUUID(),
      at: (this.options.now?.() ?? new Date()).toISOString(),
      ...request,
    });
    const envelope = signEnvelope(PAYLOAD_TYPES.agentRequest, statement, this.identity);
    const until = performance.now() + (this.options.retryForMs ?? LIMITS.redeemRetryMs - 1_000);
    for (let tries = 1; ; tries++) {
      signal?.throwIfAborted();
      try {
        return parse(type, await postJson(url, envelope, options), 'tolerant');
      } catch (error) {
        const wait = backoffMs(tries, { baseMs: 100, maxMs: 2_000 });
        const again = error instanceof ImsError && error.code === 'unavailable' && performance.now() + wait < until;
        if (!again) throw error;
        await sleep(wait, signal);
      }
    }
  }
}
