import { Body, Controller, Header, HttpCode, Post } from '@nestjs/common';
import { Envelope, ImsError, LIMITS, parse, type IssuedPullToken, type RegistryAccess } from '#contracts';
import { Authorisation, type ProvenRequest } from './authorisation.js';
import { Presentations } from './presentations.js';
import { PullTokens } from './pull-tokens.js';
import { VendorRegistry } from './registries/port.js';

/** The door of our own agents: one signed request, one answer. */
@Controller('v1/agent-requests')
export class AgentRequestsController {
  constructor(
    private readonly authorisation: Authorisation,
    private readonly tokens: PullTokens,
    private readonly presentations: Presentations,
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
    const { token, lifeMs } = await this.presentations.redeem(request.token, { key, requestId: request.request_id });
    const { id: subject, repository, digest } = token;
    return this.registry.pullAccess({ subject, repository, digest, lifeMs });
  }

  private async pushAccess(proven: ProvenRequest, now: Date): Promise<RegistryAccess> {
    const job = this.authorisation.jobOf(proven, 'build', now);
    await this.tokens.assertRunning(job);
    const { agent_id: subject, vendor_id: vendorId, repository } = job;
    await this.registry.ensureRepository(repository, vendorId);
    return this.registry.pushAccess({ subject, repository, lifeMs: LIMITS.registryTokenMs });
  }
}
