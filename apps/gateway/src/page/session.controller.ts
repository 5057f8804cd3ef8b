import { Controller, Inject } from '@nestjs/common';
import { getVendor, ImsError, Nested, Optional, Text, Time, Vendor } from '#contracts';
import { Bus } from '#messaging';
import { readApiKey } from '../access/api-key.js';
import { ApiKeys } from '../access/api-keys.js';
import { GatewayConfig } from '../config.js';
import { type Ask } from '../edge/ask.js';
import { Route } from '../edge/route.js';
import { cookieOf, tokenIn } from './cookie.js';
import { Sessions } from './sessions.js';

/** One of the two. */
export class SignIn {
  @Optional() @Text(20, 200) api_key?: string;
  /** From a sign-in link; works once. */
  @Optional() @Text(43, 43) code?: string;
}
/** Who is signed in at the web page. */
export class Session {
  @Nested(() => Vendor) vendor: Vendor;
  /** Absent when the request came with an API key of its own. */
  @Optional() @Time() expires_at?: string;
}
export class SignedOut {
  @Time() at: string;
}
export class SignInLink {
  /** Opens the web page, signed in. Works once. */
  @Text(1, 500) url: string;
  @Time() expires_at: string;
}

/** Sign-in of the web page: an API key for a cookie that stands for it. */
@Controller()
export class SessionController {
  constructor(
    private readonly bus: Bus,
    private readonly keys: ApiKeys,
    private readonly sessions: Sessions,
    @Inject(GatewayConfig) private readonly config: GatewayConfig,
  ) {}

  @Route({
    method: 'POST',
    path: '/v1/session',
    summary:
      'For the web page: sign in with an API key, or with the code of a sign-in link. Sets the session’s cookie.',
    access: 'public',
    rate: 'sign_in',
    body: SignIn,
    reply: Session,
    status: 201,
    secret: true,
    repeatable: true,
  })
  async signIn(ask: Ask<SignIn>): Promise<Session> {
    const { api_key: given, code } = ask.body;
    if ((given === undefined) === (code === undefined)) {
      throw new ImsError('invalid_request', 'give either /api_key or /code');
    }
    const apiKey = given ?? (await this.sessions.redeem(code ?? ''));
    if (apiKey === undefined) throw new ImsError('unauthenticated', 'this sign-in link was used before, or is too old');
    const key = readApiKey(apiKey.trim());
    const holder = key === undefined ? undefined : await this.keys.holderOf(key.id, key.secret);
    if (holder === undefined) throw new ImsError('unauthenticated', 'this is not an API key that is in use');
    const vendor = await this.bus.call(getVendor, { vendor_id: holder.vendorId });
    const { token, expiresAt } = await this.sessions.open('session', apiKey.trim());
    ask.setHeader('set-cookie', cookieOf(this.config.PUBLIC_URL, token, expiresAt));
    return { vendor, expires_at: expiresAt.toISOString() };
  }

  @Route({
    method: 'GET',
    path: '/v1/session',
    summary: 'Who is signed in, and until when.',
    access: 'vendor',
    reply: Session,
    status: 200,
  })
  async getSession(ask: Ask): Promise<Session> {
    const token = tokenIn(ask.header('cookie'));
    const session = token === undefined ? undefined : await this.sessions.find(token);
    const vendor = await this.bus.call(getVendor, { vendor_id: ask.vendorId });
    return { vendor, ...(session === undefined ? {} : { expires_at: session.expiresAt.toISOString() }) };
  }

  @Route({
    method: 'DELETE',
    path: '/v1/session',
    summary: 'For the web page: sign out. The session ends everywhere.',
    access: 'public',
    reply: SignedOut,
    status: 200,
  })
  async signOut(ask: Ask): Promise<SignedOut> {
    const token = tokenIn(ask.header('cookie'));
    if (token !== undefined) await this.sessions.end(token);
    ask.setHeader('set-cookie', cookieOf(this.config.PUBLIC_URL, undefined));
    return { at: new Date().toISOString() };
  }

  @Route({
    method: 'POST',
    path: '/v1/sign-in-links',
    summary: 'A link that opens the web page signed in with the key of this request. It works once, for a few minutes.',
    access: 'vendor',
    // The link gives no more than the key that asks has already.
    needs: 'read',
    reply: SignInLink,
    status: 201,
    secret: true,
    repeatable: true,
  })
  async createSignInLink(ask: Ask): Promise<SignInLink> {
    const [, apiKey = ''] = /^Bearer +(\S+) *$/i.exec(ask.header('authorization') ?? '') ?? [];
    const { token, expiresAt } = await this.sessions.open('code', apiKey);
    // In the fragment: browsers send it to no server, so it is in no access log.
    return { url: `${this.config.PUBLIC_URL}/sign-in#${token}`, expires_at: expiresAt.toISOString() };
  }
}
