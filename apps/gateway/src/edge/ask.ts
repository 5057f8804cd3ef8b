import { type ExecutionContext } from '@nestjs/common';
import { type FastifyRequest } from 'fastify';
import { ID_PREFIX, ImsError, isId, newId, type Id, type IdKind, type KeyId, type VendorId } from '#contracts';
import { type Role } from '../access/roles.js';

/** Who calls, proven by the guard. */
export type Caller =
  | { readonly kind: 'vendor'; readonly vendorId: VendorId; readonly keyId: KeyId; readonly role: Role }
  | { readonly kind: 'operator' }
  | { readonly kind: 'public' };

/** One request as a handler sees it. */
export class Ask<B extends object = object, Q extends object = object> {
  #idSuffix: (() => string) | undefined;
  /** What a change replaces, for the audit; set by the handler that reads it anyway. */
  before: object | undefined;

  constructor(
    readonly caller: Caller,
    readonly params: Readonly<Record<string, string>>,
    readonly query: Q,
    readonly body: B,
    /** `If-Match`, checked to be there on routes that need it. */
    readonly ifMatch: string,
    /** Milliseconds that the caller is ready to wait for the end of the work (`Prefer: wait`); 0: not at all. */
    readonly waitMs: number,
    readonly header: (name: string) => string | undefined,
    /** Aborted when the client has gone. */
    readonly gone: AbortSignal,
    /** Puts a header on the answer; routes that are `repeatable` or no POST only, since a record keeps none. */
    readonly setHeader: (name: string, value: string) => void,
  ) {}

  /** The vendor whose key was used. Only routes with access `vendor` have one. */
  get vendorId(): VendorId {
    if (this.caller.kind !== 'vendor') throw new Error('only a route with access `vendor` has a vendor');
    return this.caller.vendorId;
  }

  /** The id in the path, e.g. `id('app')` for `{app_id}`. A malformed one names nothing: `not_found`. */
  id<K extends IdKind>(kind: K): Id<K> {
    const text = this.params[`${kind}_id`];
    if (!isId(kind, text)) throw new ImsError('not_found', `there is no ${kind} ${text ?? ''}`);
    return text;
  }

  /**
   * A new id that is the same again when this request is repeated under its Idempotency-Key: a handler of several
   * calls, interrupted between them, finds with it what it has made already.
   */
  reserve<K extends IdKind>(kind: K): Id<K> {
    return this.#idSuffix === undefined ? newId(kind) : `${ID_PREFIX[kind]}_${this.#idSuffix()}`;
  }

  /** Where reserved ids come from: the record of the request's Idempotency-Key. */
  reserveWith(idSuffix: () => string): void {
    this.#idSuffix = idSuffix;
  }
}

/** What guard, pipeline and handler of one request hand on to one another. */
interface Carrier extends FastifyRequest {
  imsCaller?: Caller;
  imsAsk?: Ask;
}
const carrier = (context: ExecutionContext): Carrier => context.switchToHttp().getRequest<Carrier>();

export function keepCaller(context: ExecutionContext, caller: Caller): void {
  carrier(context).imsCaller = caller;
}
export function callerOf(context: ExecutionContext): Caller {
  const caller = carrier(context).imsCaller;
  if (caller === undefined) throw new Error('the guard did not run before the pipeline');
  return caller;
}
export function keepAsk(context: ExecutionContext, ask: Ask): void {
  carrier(context).imsAsk = ask;
}
export function askOf(context: ExecutionContext): Ask {
  const ask = carrier(context).imsAsk;
  if (ask === undefined) throw new Error('the pipeline did not run before the handler');
  return ask;
}
