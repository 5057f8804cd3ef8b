import { Body, Controller, Get, Headers, HttpCode, Post, Query, Res } from '@nestjs/common';
import { type FastifyReply } from 'fastify';
import { ImsError } from '#contracts';
import { intersectAccess, parseScopes } from '#oci';
import { Presentations } from './presentations.js';
import { VendorRegistry, type StockTokens } from './registries/port.js';

/** What a stock client (docker, skopeo, oras, crane, helm) sends, by GET or as a form. */
interface TokenRequest {
  readonly scope?: string | string[];
  readonly grant_type?: string;
  readonly username?: string;
  readonly password?: string;
  readonly refresh_token?: string;
}

const LOGIN_MS = 60_000;

/**
 * The token endpoint of the distribution protocol (https://distribution.github.io/distribution/spec/auth/token/ and
 * …/oauth/). User name and password are the two halves of a pull token; the exchange burns it.
 */
@Controller('token')
export class TokenController {
  constructor(
    private readonly presentations: Presentations,
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
    const { stockTokens } = this.registry;
    // Before anything is burned: a registry that takes no tokens of this protocol sends nobody here.
    if (!stockTokens) throw new ImsError('not_found', 'the vendor registry does not speak the token protocol');
    try {
      if (token === undefined) throw new ImsError('pull_token_refused');
      const { jwt, lifeMs } = await this.exchange(token, scope, stockTokens);
      // distribution says `token`, OAuth2 says `access_token`; clients read either.
      await reply.header('cache-control', 'no-store').send({
        token: jwt,
        access_token: jwt,
        expires_in: Math.floor(lifeMs / 1000),
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

  private async exchange(
    secret: string,
    scope: TokenRequest['scope'],
    stockTokens: StockTokens,
  ): Promise<{ readonly jwt: string; readonly lifeMs: number }> {
    const asked = parseScopes(scope);
    // `docker login`, `skopeo login` and `helm registry login` ask for nothing. Burning here would eat the pull's token.
    if (asked.length === 0) {
      await this.presentations.look(secret);
      return { jwt: await stockTokens.sign({ subject: 'login', access: [], lifeMs: LOGIN_MS }), lifeMs: LOGIN_MS };
    }
    const { token, lifeMs } = await this.presentations.redeem(secret, 'bearer');
    const held = [{ type: 'repository' as const, name: token.repository, actions: ['pull'] }];
    const access = intersectAccess(held, asked);
    return { jwt: await stockTokens.sign({ subject: token.id, access, lifeMs }), lifeMs };
  }
}

function basicToken(authorization: string | undefined): string | undefined {
  const match = /^basic ([A-Za-z0-9+/=]+)$/i.exec(authorization ?? '');
  if (!match?.[1]) return undefined;
  const [user = '', ...password] = Buffer.from(match[1], 'base64').toString('utf8').split(':');
  return `${user}.${password.join(':')}`;
}
