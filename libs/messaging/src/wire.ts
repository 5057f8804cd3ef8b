import { headers, type MsgHdrs } from '@nats-io/transport-node';
import {
  HEADERS,
  ImsError,
  LIMITS,
  parse,
  type AnyContract,
  type Class,
  type ServiceName,
  type SubjectParts,
} from '#contracts';
import { currentContext, newContext, type RequestContext } from '#platform';

/** What a handler knows of a message besides its body. */
export interface MessageContext {
  /** The ids in the subject, by placeholder. `{agent}` is proven: NATS lets an agent publish under its own id only. */
  readonly parts: SubjectParts;
  readonly requestId: string;
  readonly traceparent: string;
  /** Who caused a call between services (`key:<id>`, `operator`); never known of what agents send. */
  readonly actor?: string;
  /** 1 for the first delivery of a stream message; always 1 for calls and signals. */
  readonly deliveries: number;
  /** The bytes of a stream message, as they were sent; absent for calls and signals. */
  readonly data?: Uint8Array;
}

/** `job.result/1`: the identity of a contract, in headers and in everything that people read. */
export const labelOf = (contract: { name: string; version: number }): string => `${contract.name}/${contract.version}`;

/** A service's name as one token of subjects, inbox prefixes and durable names. */
export const serviceToken = (service: ServiceName): string => service.replaceAll('-', '_');

/**
 * The JSON bytes of a body or a reply. Throws `payload_too_large` above LIMITS.messageBytes: NATS would close the
 * whole connection, not refuse the one message.
 */
export function encode(what: string, body: object): Uint8Array {
  const bytes = Buffer.from(JSON.stringify(body));
  checkSize(what, bytes.length);
  return bytes;
}

export function checkSize(what: string, bytes: number): void {
  if (bytes > LIMITS.messageBytes) {
    throw new ImsError(
      'payload_too_large',
      `${what} has ${bytes} bytes, a message carries at most ${LIMITS.messageBytes}`,
    );
  }
}

/** The headers of every message: what it is, and the request that it belongs to (a new one when there is none). */
export function headersFor(contract: AnyContract): MsgHdrs {
  const { requestId, traceparent, actor } = currentContext() ?? newContext();
  const sent = headers();
  sent.set(HEADERS.contract, labelOf(contract));
  sent.set(HEADERS.requestId, requestId);
  sent.set(HEADERS.traceparent, traceparent);
  if (actor !== undefined && isBetweenServices(contract)) sent.set(HEADERS.actor, actor);
  return sent;
}

/** Nobody but a service may publish there, so what such a message says of its cause is a service's word. */
const isBetweenServices = ({ subject }: AnyContract): boolean => subject.startsWith('ims.v1.svc.');

/** The request context that a message brings; its gaps are filled anew. */
export function contextOf(contract: AnyContract, received: MsgHdrs | undefined): RequestContext {
  const read = (name: string): string | undefined => received?.get(name) || undefined;
  const actor = isBetweenServices(contract) ? read(HEADERS.actor) : undefined;
  return newContext(read(HEADERS.requestId), read(HEADERS.traceparent), actor);
}

/**
 * The body of a message. Throws `malformed_body` when it is not JSON, `invalid_request` when it does not have the
 * contract's shape or names another id than its subject does (the subject is what NATS has checked).
 */
export function decode<B extends object>(
  contract: {
    readonly name: string;
    readonly version: number;
    readonly body: Class<B>;
    readonly read?: (value: unknown) => B;
  },
  data: Uint8Array,
  parts: SubjectParts,
): B {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(data).toString('utf8'));
  } catch {
    throw new ImsError('malformed_body', `the body of ${labelOf(contract)} is not JSON`);
  }
  const body = contract.read ? contract.read(value) : parse(contract.body, value, 'tolerant');
  for (const [part, id] of Object.entries(parts)) {
    const named = (body as Readonly<Record<string, unknown>>)[`${part}_id`];
    if (named !== undefined && named !== id) {
      const pointer = `/${part}_id`;
      throw new ImsError('invalid_request', `${pointer} is not the ${part} of the subject`, [
        { pointer, message: `is not the ${part} of the subject` },
      ]);
    }
  }
  return body;
}
