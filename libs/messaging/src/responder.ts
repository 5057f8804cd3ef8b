import { type Msg, type NatsConnection, type Subscription } from '@nats-io/transport-node';
import {
  AGENT_KINDS,
  HEADERS,
  ImsError,
  inboxPrefix,
  SERVICES,
  subjectFilter,
  subjectParts,
  type AnyContract,
  type Call,
  type ServiceName,
  type SubjectParts,
} from '#contracts';
import { createLogger, runInContext } from '#platform';
import { type Reply } from './bus.js';
import { type CallerCheck } from './callers.js';
import { type BoundHandler } from './handlers.js';
import { linkOf } from './link.js';
import { type Observe } from './observer.js';
import { contextOf, decode, encode, labelOf, serviceToken } from './wire.js';

const log = createLogger('messaging');

/**
 * Whether a caller of this contract may be answered there. NATS does not check the reply subject of a request, so an
 * agent could have a service deliver to another agent's control subject: only the caller's own inbox is answered.
 */
export function mayReplyTo(contract: Call<object, object>, parts: SubjectParts, reply: string): boolean {
  if (!/^[\w.-]+$/.test(reply)) return false;
  const agents = AGENT_KINDS.some((kind) => contract.from.includes(kind));
  const services = SERVICES.filter((service) => contract.from.includes(service));
  const owners = [...(agents && parts['agent'] ? [parts['agent']] : []), ...services.map(serviceToken)];
  return owners.some((owner) => reply.startsWith(`${inboxPrefix(owner)}.`));
}

/** Serves the calls and hears the signals of one service on core NATS. */
export class Responder {
  readonly #subscriptions: Subscription[] = [];
  readonly #running = new Set<Promise<void>>();

  constructor(
    private readonly connection: NatsConnection,
    private readonly service: ServiceName,
    private readonly observe: Observe,
    /** Undefined: callers are proven by the broker alone. */
    private readonly callers?: CallerCheck,
  ) {}

  /** Calls go to one replica each (queue group = the service); signals go to every replica. */
  start(handlers: readonly BoundHandler[]): void {
    for (const handler of handlers) {
      const { contract } = handler;
      if (contract.type === 'stream') continue;
      const subscription = this.connection.subscribe(subjectFilter(contract), {
        ...(contract.type === 'call' ? { queue: this.service } : {}),
        callback: (error, message) => {
          if (error) log.error({ err: error, contract: labelOf(contract) }, 'cannot receive this contract');
          else if (contract.type === 'call') this.#track(this.#answer(contract, handler, message));
          else this.#track(this.#hear(contract, handler, message));
        },
      });
      this.#subscriptions.push(subscription);
    }
  }

  /** Takes no new message; what has arrived is still handled. */
  async stopIntake(): Promise<void> {
    // A drain asks the server; when it is away, nothing can arrive either.
    const { up } = linkOf(this.connection);
    const subscriptions = this.#subscriptions.splice(0);
    if (up) await Promise.all(subscriptions.map((subscription) => subscription.drain()));
    else for (const subscription of subscriptions) subscription.unsubscribe();
  }

  async finish(): Promise<void> {
    while (this.#running.size > 0) await Promise.all(this.#running);
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#running.delete(tracked));
    this.#running.add(tracked);
  }

  async #answer(contract: Call<object, object>, handler: BoundHandler, message: Msg): Promise<void> {
    const startedMs = performance.now();
    const parts = subjectParts(contract, message.subject) ?? {};
    if (!message.reply || !mayReplyTo(contract, parts, message.reply)) {
      // Not even handled: whoever sends this is not one of our clients.
      log.warn(
        { contract: labelOf(contract), subject: message.subject },
        'call ignored: the reply is not the caller’s own inbox',
      );
      this.observe(contract, 'foreign_reply', startedMs);
      return;
    }
    const request = contextOf(contract, message.headers);
    const reply = await runInContext(request, async (): Promise<Reply> => {
      try {
        const { subject, data, headers } = message;
        this.callers?.check(
          contract,
          { subject, data, actor: headers?.get(HEADERS.actor) },
          headers?.get(HEADERS.caller),
        );
        const body = decode(contract, message.data, parts);
        const value = await handler.invoke(body, { parts, ...request, deliveries: 1 });
        return { ok: true, value };
      } catch (thrown) {
        return this.#refusal(contract, handler, thrown);
      }
    });
    this.observe(contract, reply.ok ? 'ok' : reply.error.code, startedMs);
    this.#respond(contract, message, reply);
  }

  /** The wire form of what a handler threw. The cause of a fault of ours stays in the log. */
  #refusal(contract: AnyContract, handler: BoundHandler, thrown: unknown): Reply {
    const error = ImsError.of(thrown);
    if (error.code === 'internal')
      log.error({ err: thrown, contract: labelOf(contract), at: handler.at }, 'call failed');
    return { ok: false, error: error.toWire() };
  }

  #respond(contract: Call<object, object>, message: Msg, reply: Reply): void {
    try {
      message.respond(encode(`the reply of ${labelOf(contract)}`, reply));
    } catch (thrown) {
      log.error({ err: thrown, contract: labelOf(contract) }, 'reply not sent');
      const { code, detail } = ImsError.of(thrown);
      // The connection may be closed by now; then the caller times out, which is the truth.
      if (!this.connection.isClosed()) message.respond(encode('error', { ok: false, error: { code, detail } }));
    }
  }

  async #hear(contract: AnyContract, handler: BoundHandler, message: Msg): Promise<void> {
    const startedMs = performance.now();
    const parts = subjectParts(contract, message.subject) ?? {};
    const request = contextOf(contract, message.headers);
    try {
      const body = decode(contract, message.data, parts);
      await runInContext(request, () => handler.invoke(body, { parts, ...request, deliveries: 1 }));
      this.observe(contract, 'ok', startedMs);
    } catch (thrown) {
      log.warn({ err: thrown, contract: labelOf(contract), at: handler.at }, 'signal dropped');
      this.observe(contract, ImsError.of(thrown).code, startedMs);
    }
  }
}
