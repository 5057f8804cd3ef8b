import { Inject, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { type FastifyReply, type FastifyRequest } from 'fastify';
import { ImsError } from '#contracts';
import { GatewayConfig } from '../config.js';
import { keepCaller, type Caller } from '../edge/ask.js';
import { routeOf, type RouteOptions } from '../edge/routes.js';
import { ApiKeys } from './api-keys.js';
import { Audit } from './audit.js';
import { readApiKey, sameSecret, sha256 } from './api-key.js';
import { RateLimits, type Taken } from './rate-limits.js';
import { mayDo, rightOf } from './roles.js';

/** Proves who calls, that this route is for such a caller, and that it does not call too often. One place for all routes. */
@Injectable()
export class AccessGuard implements CanActivate {
  private readonly operatorHash: Buffer;

  constructor(
    private readonly keys: ApiKeys,
    private readonly audit: Audit,
    private readonly limits: RateLimits,
    @Inject(GatewayConfig) config: GatewayConfig,
  ) {
    this.operatorHash = sha256(config.OPERATOR_KEY);
  }

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const route = routeOf(context);
    const { access } = route;
    const http = context.switchToHttp();
    const request = http.getRequest<FastifyRequest>();
    const reply = http.getResponse<FastifyReply>();
    if (access === 'public') {
      await this.limits.take(reply, bucketsOf(route, request.ip));
      keepCaller(context, { kind: 'public' });
      return true;
    }
    const caller = await this.identify(request.headers.authorization).catch(async (error: unknown) => {
      // Counted when it is wrong only: who has a key is not locked out by a neighbour behind the same address.
      if (error instanceof ImsError && error.code === 'unauthenticated') {
        await this.limits.take(reply, [['sign_in', request.ip]]);
      }
      throw error;
    });
    await this.limits.take(reply, bucketsOf(route, caller.kind === 'vendor' ? caller.keyId : caller.kind));
    if (caller.kind !== access) {
      throw new ImsError(
        'forbidden',
        access === 'operator'
          ? 'this needs the key of the operator, not a vendor’s'
          : 'this needs a vendor’s API key, not the operator’s',
      );
    }
    const right = rightOf(route);
    if (caller.kind === 'vendor' && !mayDo(caller.role, right)) {
      await this.audit.record(request, { caller, action: route.handler, status: 403, code: 'forbidden' });
      throw new ImsError('forbidden', `a key of the role ${caller.role} may not ${right}`);
    }
    keepCaller(context, caller);
    return true;
  }

  private async identify(authorization: string | undefined): Promise<Caller> {
    if (authorization === undefined) throw new ImsError('unauthenticated', 'there is no Authorization header');
    const token = /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
    if (token === undefined)
      throw new ImsError('unauthenticated', 'the Authorization header is not `Bearer <API key>`');
    if (sameSecret(this.operatorHash, token)) return { kind: 'operator' };
    const key = readApiKey(token);
    if (key === undefined) {
      throw new ImsError('unauthenticated', 'this is not an API key, or a part of it is missing: copy all of it');
    }
    const holder = await this.keys.holderOf(key.id, key.secret);
    if (holder === undefined)
      throw new ImsError('unauthenticated', 'the API key is not known, has ended or was revoked');
    return { kind: 'vendor', ...holder, keyId: key.id };
  }
}

/** What a request of this route is counted in: everything, and its own bucket if it has one. */
const bucketsOf = ({ rate }: Pick<RouteOptions, 'rate'>, holder: string): Taken[] => [
  ['requests', holder],
  ...(rate === undefined ? [] : [[rate, holder] as const]),
];
