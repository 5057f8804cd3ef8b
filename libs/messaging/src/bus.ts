import { jetstream, type JetStreamClient } from '@nats-io/jetstream';
import { errors, headers, type NatsConnection } from '@nats-io/transport-node';
import {
  HEADERS,
  ImsError,
  parse,
  subjectFilter,
  subjectOf,
  subjectParts,
  type Call,
  type Class,
  type Signal,
  type StreamMessage,
  type SubjectParts,
  type WireError,
} from '#contracts';
import { createLogger, runInContext } from '#platform';
import { signCall, type CallerSigner } from './callers.js';
import { linkOf } from './link.js';
import { checkSize, contextOf, decode, encode, headersFor, labelOf, type MessageContext } from './wire.js';

/** How a call is answered. */
export type Reply = { readonly ok: true; readonly value: unknown } | { readonly ok: false; readonly error: WireError };

/** Acknowledged by JetStream within this time, or the sender keeps the message. */
const PUBLISH_TIMEOUT_MS = 5_000;

const log = createLogger('messaging');

/** The error itself and what it was made from: the client wraps what happened to a request up to twice. */
function* causes(thrown: unknown): Generator {
  for (let error = thrown; error !== undefined; error = error instanceof Error ? error.cause : undefined) yield error;
}
const isNobody = (thrown: unknown): boolean =>
  [...causes(thrown)].some((error) => error instanceof errors.NoRespondersError);

/** Why a request did not get through, as a catalogue error: `forbidden` by the server's permissions, else `unavailable`. */
function failure(thrown: unknown, what: string, whenNobody: string): ImsError {
  const options = { cause: thrown };
  const denied = [...causes(thrown)].find((error) => error instanceof errors.PermissionViolationError);
  if (denied instanceof errors.PermissionViolationError) {
    const detail = `${what}: NATS does not permit ${denied.operation} on ${denied.subject}`;
    return new ImsError('forbidden', detail, [], options);
  }
  const why = isNobody(thrown) ? whenNobody : thrown instanceof Error ? thrown.message : 'failed';
  return new ImsError('unavailable', `${what}: ${why}`, [], options);
}

/** Typed sending, for services and agents alike; what may be sent where follows from the contract. */
export class Bus {
  readonly #stream: JetStreamClient;
  readonly #onMissingStream: () => void;
  readonly #signer: CallerSigner | undefined;

  constructor(
    readonly connection: NatsConnection,
    options: { readonly onMissingStream?: () => void; readonly signer?: CallerSigner } = {},
  ) {
    this.#stream = jetstream(connection);
    this.#onMissingStream = options.onMissingStream ?? (() => undefined);
    this.#signer = options.signer;
  }

  /**
   * Asks the one service that serves the contract. Throws the service's ImsError by its code; `unavailable` when
   * nobody serves it now or no answer came within the contract's time (the work may have been done all the same).
   */
  async call<B extends object, R extends object>(contract: Call<B, R>, body: B, parts: SubjectParts = {}): Promise<R> {
    const subject = subjectOf(contract, parts);
    const data = encode(labelOf(contract), body);
    const sent = headersFor(contract);
    let answer: Reply;
    try {
      const send = (timeout: number) => {
        // Anew for each try: one that was seen before is refused.
        if (this.#signer)
          sent.set(HEADERS.caller, signCall(this.#signer, { subject, data, actor: sent.get(HEADERS.actor) }));
        return this.connection.request(subject, data, { timeout, headers: sent });
      };
      answer = (await linkOf(this.connection).request(contract.timeoutMs, send)).json<Reply>();
    } catch (thrown) {
      throw failure(thrown, `${contract.servedBy} (${contract.name})`, 'nobody answers');
    }
    if (!answer.ok) throw ImsError.fromWire(answer.error);
    return readReply(contract, answer.value);
  }

  /**
   * Puts a message into its stream; resolves when JetStream has stored it. The same message id again within two
   * minutes is dropped by JetStream and resolves alike. Throws `unavailable` when it may not be stored: send again.
   */
  async publish<B extends object>(
    contract: StreamMessage<B>,
    parts: SubjectParts,
    body: B,
    messageId: string,
  ): Promise<void> {
    const data = encode(labelOf(contract), body);
    await this.store(subjectOf(contract, parts), headersFor(contract), data, messageId);
  }

  /** @internal The stream side of `publish`, for messages whose bytes and headers already exist. */
  async store(subject: string, sent: ReturnType<typeof headers>, data: Uint8Array, messageId: string): Promise<void> {
    checkSize(subject, data.length);
    try {
      const send = (timeout: number) =>
        this.#stream.publish(subject, data, { msgID: messageId, headers: sent, timeout });
      await linkOf(this.connection).persist(PUBLISH_TIMEOUT_MS, send);
    } catch (thrown) {
      if (isNobody(thrown)) this.#onMissingStream();
      // A full stream (10077) refuses; the sender keeps the message until there is room.
      throw failure(thrown, `publish to ${subject}`, 'no stream takes it');
    }
  }

  /** Tells whoever listens now. Lost when nobody does, or when the connection is closing: never the only carrier. */
  signal<B extends object>(contract: Signal<B>, parts: SubjectParts, body: B): void {
    const data = encode(labelOf(contract), body);
    if (this.connection.isClosed() || this.connection.isDraining()) return;
    this.connection.publish(subjectOf(contract, parts), data, { headers: headersFor(contract) });
  }

  /**
   * Hears signals until stopped; `parts` narrows to one agent, one job. A body that does not parse, and a handler
   * that throws, are logged and dropped.
   */
  onSignal<B extends object>(
    contract: Signal<B>,
    parts: SubjectParts,
    handler: (body: B, context: MessageContext) => void,
  ): { stop(): void } {
    const subscription = this.connection.subscribe(subjectFilter(contract, parts), {
      callback: (error, message) => {
        if (error) {
          log.error({ contract: labelOf(contract), error: error.message }, 'cannot hear this signal');
          return;
        }
        const found = subjectParts(contract, message.subject) ?? {};
        const request = contextOf(contract, message.headers);
        try {
          const body = decode(contract, message.data, found);
          runInContext(request, () => handler(body, { parts: found, ...request, deliveries: 1 }));
        } catch (thrown) {
          const { code, detail } = ImsError.of(thrown);
          log.warn({ contract: labelOf(contract), subject: message.subject, code, detail }, 'signal dropped');
        }
      },
    });
    return { stop: () => subscription.unsubscribe() };
  }
}

function readReply<R extends object>(
  contract: { name: string; version: number; reply: Class<R>; readReply?: (value: unknown) => R },
  value: unknown,
): R {
  try {
    return contract.readReply ? contract.readReply(value) : parse(contract.reply, value, 'tolerant');
  } catch (thrown) {
    throw new ImsError('internal', `the reply of ${labelOf(contract)} has not its shape`, [], { cause: thrown });
  }
}

/** What an outbox relays: bytes that were made in the transaction, published as they are. */
export class RawPublisher {
  constructor(private readonly bus: Bus) {}

  /** Resolves when JetStream has stored it; throws as `Bus.publish` does. */
  async publish(
    subject: string,
    given: Readonly<Record<string, string>>,
    body: string | Uint8Array,
    messageId: string,
  ): Promise<void> {
    const sent = headers();
    for (const [name, value] of Object.entries(given)) sent.set(name, value);
    await this.bus.store(subject, sent, Buffer.from(body), messageId);
  }
}
