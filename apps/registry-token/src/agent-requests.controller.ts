import { Body, Controller, Header, HttpCode, Post } from '@nestjs/common';
import { Envelope, ImsError, LIMITS, parse, type IssuedPullToken, type RegistryAccess } from '#contracts';
import { Authorisation, type ProvenRequest } from './authorisation.js';
import { PullTokens } from './pull-tokens.js';
import { VendorRegistry } from './registry.js';

/** The door of our own agents: one signed request, one answer. */
@Controller('v1/agent-requests')
export class AgentRequestsController {
  constructor(
    private readonly authorisation: Authorisation,
    private readonly tokens: PullTokens,
    private readonly registry: VendorRegistry,
  ) {}

  @Post()
  @HttpCode(200)
  @Header('cache-control', 'no-store')
  async answer(@Body() body: unknown): Promise<IssuedPullToken | RegistryAccess> {
    const now = new Date();
    const proven = this.authorisation.open(parse(Envelope, body, 'strict'), now);
    switch (proven.request.action) {
      case 'issue_pull_token':
        return this.tokens.issue(this.authorisation.jobOf(proven, 'sync', now), proven.key);
      case 'redeem_pull_token':
        return this.redeem(proven);
      case 'issue_push_token':
        return this.pushAccess(proven, now);
    }
  }

  private async redeem({ key, request }: ProvenRequest): Promise<RegistryAccess> {
    if (request.token === undefined) {
      throw new ImsError('invalid_request', '/token is missing', [{ pointer: '/token', message: 'is missing' }]);
    }
    const {
      id,
      repository,
      redeemed_at: redeemedAt,
    } = await this.tokens.redeem(request.token, {
      key,
      requestId: request.request_id,
    });
    // A repeated answer ends when the first one would have ended.
    const lifeMs = LIMITS.registryTokenMs - Math.max(0, Date.now() - (redeemedAt?.getTime() ?? Date.now()));
    return this.registry.access({ subject: id, repository, actions: ['pull'], lifeMs });
  }

  private pushAccess(proven: ProvenRequest, now: Date): Promise<RegistryAccess> {
    const { agent_id: agentId, repository } = this.authorisation.jobOf(proven, 'build', now);
    return this.registry.access({
      subject: agentId,
      repository,
      actions: ['pull', 'push'],
      lifeMs: LIMITS.registryTokenMs,
    });
  }
}
