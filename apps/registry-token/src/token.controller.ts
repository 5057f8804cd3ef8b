import { Body, Controller, Get, Headers, HttpCode, Post, Query, Res } from '@nestjs/common';
import { type FastifyReply } from 'fastify';
import { ImsError, LIMITS } from '#contracts';
import { intersectAccess, parseScopes } from '#oci';
import { PullTokens } from './pull-tokens.js';
import { VendorRegistry } from './registry.js';

/** What a stock client (docker, skopeo, oras, crane, helm) sends, by GET or as a form. */
interface TokenRequest {
  readonly scope?: string | string[];
  readonly grant_type?: string;
  readonly username?: string;
  readonly password?: string;
  readonly refresh_token?: string;
}

/**
 * The token endpoint of the distribution protocol (https://distribution.github.io/distribution/spec/auth/token/ and
 * …/oauth/). User name and password are the two halves of a pull token; the exchange burns it.
 */
@Controller('token')
export class TokenController {
  constructor(
    private readonly tokens: PullTokens,
    private readonly registry: VendorRegistry,
  ) {}

  @Get()
  async get(
    @Query() query: TokenRequest,
    @Headers('authorization') authorization: string | undefined,
    @Res() reply: FastifyReply,
  ): Promise<void> {
    await this.answer(basicToken(authorization), query.scope, reply);
  }

  @Post()
  @HttpCode(200)
  async post(@Body() form: TokenRequest | undefined, @Res() reply: FastifyReply): Promise<void> {
    const { grant_type: grantType, username, password, refresh_token: refreshToken, scope } = form ?? {};
    const byPassword = grantType === 'password' && username !== undefined && password !== undefined;
    await this.answer(byPassword ? `${username}.${password}` : refreshToken, scope, reply);
  }

  private async answer(token: string | undefined, scope: TokenRequest['scope'], reply: FastifyReply): Promise<void> {
    try {
      if (token === undefined) throw new ImsError('pull_token_refused');
      const jwt = await this.exchange(token, scope);
      // distribution says `token`, OAuth2 says `access_token`; clients read either.
      await reply.header('cache-control', 'no-store').send({
        token: jwt,
        access_token: jwt,
        expires_in: LIMITS.registryTokenMs / 1000,
        issued_at: new Date().toISOString(),
        scope: typeof scope === 'string' ? scope : (scope ?? []).join(' '),
      });
    } catch (error) {
      if (!(error instanceof ImsError) || error.code !== 'pull_token_refused') throw error;
      await reply
        .status(401)
        .header('www-authenticate', 'Basic realm="registry-token"')
        .header('cache-control', 'no-store')
        .send({ errors: [{ code: 'UNAUTHORIZED', message: error.detail }] });
    }
  }

  private async exchange(token: string, scope: TokenRequest['scope']): Promise<string> {
    const asked = parseScopes(scope);
    // `docker login`, `skopeo login` and `helm registry login` ask for nothing. Burning here would eat the pull's token.
    if (asked.length === 0) {
      if (!(await this.tokens.look(token))) throw new ImsError('pull_token_refused');
      return this.registry.token('login', [], 60_000);
    }
    const { id, repository } = await this.tokens.redeem(token, 'bearer');
    const held = [{ type: 'repository' as const, name: repository, actions: ['pull'] }];
    return this.registry.token(id, intersectAccess(held, asked), LIMITS.registryTokenMs);
  }
}

function basicToken(authorization: string | undefined): string | undefined {
  const match = /^basic ([A-Za-z0-9+/=]+)$/i.exec(authorization ?? '');
  if (!match?.[1]) return undefined;
  const [user = '', ...password] = Buffer.from(match[1], 'base64').toString('utf8').split(':');
  return `${user}.${password.join(':')}`;
}
