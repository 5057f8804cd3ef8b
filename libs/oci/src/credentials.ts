import { ImsError } from '#contracts';
import { isRecord } from './descriptor.js';
import { discardBody, readBody, type HttpResponse, type HttpTransport } from './http.js';
import { formatScope, type Access } from './registry-token.js';

/**
 * How a client proves itself to one registry.
 * - `anonymous`: nothing, or a token exchange without a password where the registry asks for one (public registries).
 * - `basic`: HTTP Basic (ECR), or an exchange of the password for a token where the registry answers with a Bearer
 *   challenge (distribution). Pin `realm` where the password is worth more than the registry is trusted: the address
 *   of the token endpoint comes from the registry.
 * - `bearer`: a token for the rights that the call needs. It is asked for on each request; the giver may cache.
 * - `header`: the whole Authorization header, asked for on each request: a password that is renewed while it is used.
 */
export type Credential =
  | { readonly kind: 'anonymous' }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string; readonly realm?: string }
  | { readonly kind: 'bearer'; readonly token: (access: readonly Access[]) => Promise<string> }
  | { readonly kind: 'header'; readonly value: () => Promise<string> };

interface Challenge {
  readonly scheme: 'basic' | 'bearer';
  readonly realm: string;
  readonly service: string | undefined;
  readonly error: string | undefined;
}

interface CachedToken {
  readonly access: readonly Access[];
  readonly token: Promise<string>;
  /** On the clock of performance.now(); until the exchange has answered, infinite. */
  expiresAtMs: number;
}

const MAX_TOKEN_BYTES = 64 * 1024;
/** The token specification: a token without expires_in lives for 60 s. */
const DEFAULT_TOKEN_SECONDS = 60;

/** Makes the Authorization header of each request, and answers challenges. One for each registry client. */
export class Authorizer {
  private challenge: Challenge | undefined;
  private cache: CachedToken[] = [];

  constructor(
    private readonly credential: Credential,
    private readonly registry: URL,
    private readonly transport: HttpTransport,
  ) {}

  /** The header for these rights, or undefined as long as the registry has not asked for one. */
  async header(access: readonly Access[]): Promise<string | undefined> {
    const { credential, challenge } = this;
    if (credential.kind === 'bearer') return `Bearer ${await credential.token(access)}`;
    if (credential.kind === 'header') return credential.value();
    if (challenge === undefined) return undefined;
    if (challenge.scheme === 'bearer') return `Bearer ${await this.token(challenge, access)}`;
    return credential.kind === 'basic' ? basic(credential.username, credential.password) : undefined;
  }

  /**
   * Learns from a 401. True when the same request is worth sending once more: the first challenge, or a cached token
   * that the registry no longer takes (expired early, keys rotated).
   */
  learn(response: HttpResponse, access: readonly Access[], sentHeader: string | undefined): boolean {
    if (this.credential.kind === 'bearer' || this.credential.kind === 'header') return false;
    const challenge = parseChallenge(response.headers['www-authenticate']);
    if (challenge === undefined) return false;
    this.checkRealm(challenge);
    this.challenge = challenge;
    if (sentHeader === undefined) return challenge.scheme === 'bearer' || this.credential.kind === 'basic';
    // A token that holds too little would hold no more after another exchange, and that one may be refused for good.
    if (challenge.scheme !== 'bearer' || challenge.error === 'insufficient_scope') return false;
    const before = this.cache.length;
    this.cache = this.cache.filter((cached) => !covers(cached.access, access));
    return this.cache.length < before;
  }

  /**
   * A token for these rights. An exchange runs once however many requests wait for the same rights: the password may
   * be one that works a single time. It is therefore not bound to the abort signal of the request that began it.
   */
  private token(challenge: Challenge, access: readonly Access[]): Promise<string> {
    const now = performance.now();
    this.cache = this.cache.filter((cached) => cached.expiresAtMs > now);
    const cached = this.cache.find((entry) => covers(entry.access, access));
    if (cached !== undefined) return cached.token;
    const exchange = this.exchange(challenge, access).then(
      ({ token, lifeSeconds }) => {
        // A tenth before its end, so that a request that starts with it does not end without it.
        entry.expiresAtMs = now + lifeSeconds * 900;
        return token;
      },
      (error: unknown) => {
        this.cache = this.cache.filter((other) => other !== entry);
        throw error;
      },
    );
    const entry: CachedToken = { access, token: exchange, expiresAtMs: Infinity };
    this.cache.push(entry);
    return exchange;
  }

  private async exchange(
    challenge: Challenge,
    access: readonly Access[],
  ): Promise<{ token: string; lifeSeconds: number }> {
    const url = new URL(challenge.realm);
    if (challenge.service !== undefined) url.searchParams.set('service', challenge.service);
    for (const one of access) url.searchParams.append('scope', formatScope(one));
    const headers: Record<string, string> = { accept: 'application/json' };
    if (this.credential.kind === 'basic') {
      headers['authorization'] = basic(this.credential.username, this.credential.password);
    }
    const response = await this.transport.send({ method: 'GET', url, headers });
    if (response.status !== 200) {
      await discardBody(response);
      const code = response.status >= 500 || response.status === 429 ? 'registry_unavailable' : 'registry_denied';
      throw new ImsError(code, `the token endpoint ${url.host}${url.pathname} answered ${response.status}`);
    }
    let answer: unknown;
    try {
      answer = JSON.parse((await readBody(response, MAX_TOKEN_BYTES)).toString('utf8'));
    } catch (error) {
      if (error instanceof ImsError) throw error;
    }
    const token = isRecord(answer) ? (answer['token'] ?? answer['access_token']) : undefined;
    if (!isRecord(answer) || typeof token !== 'string' || !/^[\x21-\x7e]+$/.test(token)) {
      throw new ImsError('registry_denied', `the token endpoint ${url.host}${url.pathname} gave no token`);
    }
    const life = answer['expires_in'];
    return { token, lifeSeconds: typeof life === 'number' && life > 0 ? life : DEFAULT_TOKEN_SECONDS };
  }

  private checkRealm(challenge: Challenge): void {
    if (challenge.scheme !== 'bearer') return;
    const pinned = this.credential.kind === 'basic' ? this.credential.realm : undefined;
    const realm = URL.canParse(challenge.realm) ? new URL(challenge.realm) : undefined;
    const allowed =
      realm !== undefined &&
      (pinned === undefined || pinned === challenge.realm) &&
      (realm.protocol === 'https:' || (realm.protocol === 'http:' && this.registry.protocol === 'http:'));
    if (!allowed) {
      throw new ImsError('registry_denied', `${this.registry.host} sends us to a token endpoint that is not allowed`);
    }
  }
}

/** True when every right asked for is among the ones held. */
function covers(held: readonly Access[], asked: readonly Access[]): boolean {
  return asked.every((want) =>
    held.some(
      (have) =>
        have.type === want.type &&
        have.name === want.name &&
        want.actions.every((action) => have.actions.includes(action)),
    ),
  );
}

/** Reads `Bearer realm="…",service="…"` or `Basic realm="…"`; undefined for anything else. */
function parseChallenge(header: string | undefined): Challenge | undefined {
  const match = /^\s*(bearer|basic)\s+(.*)$/i.exec(header ?? '');
  if (match === null) return undefined;
  const [, scheme = '', rest = ''] = match;
  const parameters = new Map<string, string>();
  for (const [, key = '', value = ''] of rest.matchAll(/([a-z_]+)="([^"]*)"/gi))
    parameters.set(key.toLowerCase(), value);
  return {
    scheme: scheme.toLowerCase() === 'bearer' ? 'bearer' : 'basic',
    realm: parameters.get('realm') ?? '',
    service: parameters.get('service'),
    error: parameters.get('error'),
  };
}

export function basic(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
}
