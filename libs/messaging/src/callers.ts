import { randomBytes } from 'node:crypto';
import { AGENT_KINDS, ImsError, LIMITS, SERVICES, type Call, type ServiceName, type Signer } from '#contracts';
import { verifyNkey } from './nkeys.js';
import { labelOf } from './wire.js';

/** Who signs the calls that a service sends: its own NATS key, of which the broker has the public half only. */
export interface CallerSigner {
  readonly service: ServiceName;
  readonly key: Signer;
}
/** What a proof covers. */
export interface ProvenCall {
  readonly subject: string;
  readonly data: Uint8Array;
  /** Who caused it, as the header says: facts name him. */
  readonly actor?: string | undefined;
}
type CallerKeys = ReadonlyMap<string, ServiceName>;

/** A memory of so many calls is a flood; then the oldest are forgotten. */
const REMEMBERED = 100_000;

/** What is signed: for whom, when, once, on which subject, caused by whom, and every byte of the body. */
const signedBytes = (head: readonly string[], { subject, actor = '', data }: ProvenCall): Buffer =>
  Buffer.concat([Buffer.from(`ims-call-1\n${[...head, subject, actor].join('\n')}\n`), data]);

/** The proof of one call as one header: service, key, time, nonce, signature. */
export function signCall({ service, key }: CallerSigner, call: ProvenCall, now = Date.now()): string {
  const head = [service, key.publicKey, String(now), randomBytes(12).toString('base64url')];
  return [...head, Buffer.from(key.sign(signedBytes(head, call))).toString('base64url')].join(' ');
}

/** `gateway=U…,job-scheduler=U…`: a service may be there twice, during a change of its key. Throws what is wrong. */
function readCallerKeys(text: string): CallerKeys {
  return new Map(
    text.split(',').map((entry) => {
      const [name = '', key = ''] = entry.trim().split('=');
      const service = SERVICES.find((each) => each === name);
      if (!service || !/^U[A-Z2-7]{55}$/.test(key))
        throw new Error(`CALLER_KEYS: ${JSON.stringify(entry)} is not <service>=<public user key>`);
      return [key, service] as const;
    }),
  );
}

/**
 * Checks that a call between services comes from one that the contract names. The subject alone does not prove it:
 * whoever owns the account of the broker may publish to any.
 */
export class CallerCheck {
  readonly #keys: CallerKeys;
  /** Nonces until their calls are too old anyway, oldest first. Each replica has its own: one that is new to it passes. */
  readonly #seen = new Map<string, number>();

  constructor(keys: string) {
    this.#keys = readCallerKeys(keys);
  }

  /** Throws `forbidden`. Calls of agents are not its business: their subjects and job statements are. */
  check(contract: Call<object, object>, call: ProvenCall, header: string | undefined, now = Date.now()): void {
    if (AGENT_KINDS.some((kind) => contract.from.includes(kind))) return;
    const refuse = (why: string): ImsError => new ImsError('forbidden', `${labelOf(contract)}: the call ${why}`);
    const [service = '', key = '', at = '', nonce = '', signature = ''] = (header ?? '').split(' ');
    if (signature === '') throw refuse('is not signed by a service');
    const known = this.#keys.get(key);
    if (known === undefined || known !== service || !contract.from.includes(known))
      throw refuse(`is not signed by ${contract.from.join(' or ')}`);
    const bytes = signedBytes([service, key, at, nonce], call);
    if (!verifyNkey(key, bytes, Buffer.from(signature, 'base64url'))) throw refuse('was changed on its way');
    if (!(Math.abs(now - Number(at)) <= LIMITS.requestSkewMs)) throw refuse('is old: do the clocks agree?');
    this.#forget(now);
    if (this.#seen.has(nonce)) throw refuse('was there before: it is played back');
    this.#seen.set(nonce, Number(at) + LIMITS.requestSkewMs);
  }

  #forget(now: number): void {
    for (const [nonce, until] of this.#seen) {
      if (until >= now && this.#seen.size < REMEMBERED) return;
      this.#seen.delete(nonce);
    }
  }
}
