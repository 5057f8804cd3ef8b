import { jetstream, type ConsumerMessages, type JsMsg } from '@nats-io/jetstream';
import { type MsgHdrs, headers, type NatsConnection } from '@nats-io/transport-node';
import {
  HEADERS,
  subjectParts,
  type ErrorCode,
  type ServiceName,
  type StreamMessage,
  type SubjectParts,
} from '#contracts';
import { backoffMs, createLogger, runInContext, sleep, type RequestContext } from '#platform';
import { type Bus } from './bus.js';
import { type BoundHandler } from './handlers.js';
import { type Observe } from './observer.js';
import { linkOf } from './link.js';
import { RETRY_DELAYS, settleOutcome, settleThrown, type Outcome, type Settlement } from './settlement.js';
import { ACK_WAIT_MS, type DurableConsumer, type Topology } from './topology.js';
import { contextOf, decode, labelOf, serviceToken } from './wire.js';

const log = createLogger('messaging');

export interface ConsumerOptions {
  /** Messages in hand at a time, each with a different lane or waiting for its lane. */
  readonly concurrency: number;
  readonly ackWaitMs: number;
}
/** More than a database pool has connections, so that a lane that waits does not leave the pool idle. */
export const CONSUMER_DEFAULTS: ConsumerOptions = { concurrency: 32, ackWaitMs: ACK_WAIT_MS };

/**
 * A pull request lives so long; the server says within a heartbeat that it still has it. The client also waits the
 * whole expiry before it looks again for a consumer that did not answer, hence seconds and not its default 30 s.
 */
const PULL_EXPIRES_MS = 6_000;
const PULL_HEARTBEAT_MS = 2_000;
const LOOK_UP_TIMEOUT_MS = 5_000;
/** A pull that lasted so long was sound: its end is a first failure again. */
const SETTLED_MS = 10_000;
/** A message of a contract that nobody here handles (a replica of another version may) waits so long. */
const UNHANDLED_RETRY_MS = 30_000;

interface Found {
  readonly handler: BoundHandler;
  readonly contract: StreamMessage<object>;
  readonly parts: SubjectParts;
}

/** Header values must not break the header block, and a cause is for reading, not for storing a stack. */
const headerText = (text: string): string => text.replace(/[\r\n]+/g, ' ').slice(0, 500);

/** The subject of a dead letter: `ims.v1.dead.<service>.<contract>`, each one token. */
export const deadSubject = (service: ServiceName, contract: { name: string }): string =>
  `ims.v1.dead.${serviceToken(service)}.${contract.name.replaceAll('.', '_')}`;

/**
 * Pulls one durable of one service and settles each message in one place. Goes on for ever: a stream or durable that
 * is gone is made again, a connection that is lost comes back.
 */
export class StreamConsumer {
  readonly #stopping = new AbortController();
  readonly #held = new Set<JsMsg>();
  /** The last message of each lane; messages of one lane come one after the other. */
  readonly #lanes = new Map<string, Promise<void>>();
  #messages: ConsumerMessages | undefined;
  #loop: Promise<void> | undefined;
  #slotFree: (() => void) | undefined;
  #restarting = false;

  constructor(
    private readonly bus: Bus,
    private readonly topology: Topology,
    private readonly durable: DurableConsumer,
    private readonly handlers: readonly BoundHandler[],
    private readonly observe: Observe,
    private readonly options: ConsumerOptions = CONSUMER_DEFAULTS,
  ) {}

  start(): void {
    this.#loop ??= this.#run();
  }

  /** Takes no new message; what was pulled but not begun goes back for another replica. */
  async stopIntake(): Promise<void> {
    this.#stopping.abort();
    void this.#messages?.close();
    this.#slotFree?.();
    await this.#loop;
  }

  /** Resolves when every message in hand is settled. */
  async finish(): Promise<void> {
    while (this.#lanes.size > 0) await Promise.all(this.#lanes.values());
  }

  get #connection(): NatsConnection {
    return this.bus.connection;
  }

  /** Gives up the pull request that is out and makes a new one: after a reconnect the server does not know it. */
  restart(): void {
    this.#restarting = true;
    void this.#messages?.close();
  }

  async #run(): Promise<void> {
    const { stream, name } = this.durable;
    const beat = setInterval(() => this.#keep(), this.options.ackWaitMs / 3).unref();
    let failures = 0;
    while (!this.#stopping.signal.aborted && !this.#connection.isClosed()) {
      const startedMs = performance.now();
      try {
        this.#restarting = false;
        await this.#pull();
        if (!this.#restarting) failures += 1;
      } catch (thrown) {
        failures = performance.now() - startedMs > SETTLED_MS ? 1 : failures + 1;
        log.warn({ err: thrown, stream, consumer: name, failures }, 'consumer interrupted, it is made again');
      }
      if (this.#stopping.signal.aborted) break;
      if (failures > 0) await sleep(backoffMs(failures, { baseMs: 50, maxMs: 2_000 }), this.#stopping.signal);
      await this.topology.ensure().catch((thrown: unknown) => {
        log.warn({ err: thrown, stream }, 'streams cannot be made now');
      });
    }
    // The beat outlives the loop: messages in hand are still being handled.
    void this.finish().then(() => clearInterval(beat));
  }

  /** One subscription to the durable; returns when it was stopped, throws when the durable or the stream is gone. */
  async #pull(): Promise<void> {
    const { stream, name } = this.durable;
    const find = (timeout: number) => jetstream(this.#connection, { timeout }).consumers.get(stream, name);
    const consumer = await linkOf(this.#connection).request(LOOK_UP_TIMEOUT_MS, find);
    this.#messages = await consumer.consume({
      max_messages: this.options.concurrency,
      expires: PULL_EXPIRES_MS,
      idle_heartbeat: PULL_HEARTBEAT_MS,
      abort_on_missing_resource: true,
    });
    if (this.#stopping.signal.aborted) void this.#messages.close();
    for await (const message of this.#messages) {
      await this.#freeSlot();
      if (this.#stopping.signal.aborted) message.nak();
      else this.#take(message);
    }
  }

  async #freeSlot(): Promise<void> {
    while (this.#held.size >= this.options.concurrency && !this.#stopping.signal.aborted) {
      await new Promise<void>((resolve) => (this.#slotFree = resolve));
    }
  }

  /** Says `working` for every message in hand, so that none is given to another replica while it is dealt with. */
  #keep(): void {
    for (const message of this.#held) message.working();
  }

  #take(message: JsMsg): void {
    const found = this.#handlerOf(message.subject);
    // One lane a job; what belongs to no job (`_`) is in order by its subject.
    const job = found?.parts['job'];
    const ordered = job === undefined || job === '_' ? message.subject : job;
    const lane = found?.contract.unordered === true ? `${message.info.streamSequence}` : ordered;
    this.#held.add(message);
    const work = (this.#lanes.get(lane) ?? Promise.resolve())
      .then(() => this.#handle(message, found))
      .catch((thrown: unknown) => {
        // Not settled: it comes again after the ack wait.
        log.error({ err: thrown, subject: message.subject }, 'message not settled');
      })
      .finally(() => {
        this.#held.delete(message);
        if (this.#lanes.get(lane) === work) this.#lanes.delete(lane);
        this.#slotFree?.();
      });
    this.#lanes.set(lane, work);
  }

  #handlerOf(subject: string): Found | undefined {
    for (const handler of this.handlers) {
      if (handler.contract.type !== 'stream') continue;
      const parts = subjectParts(handler.contract, subject);
      if (parts) return { handler, contract: handler.contract, parts };
    }
    return undefined;
  }

  async #handle(message: JsMsg, found: Found | undefined): Promise<void> {
    if (!found) {
      log.warn({ subject: message.subject, consumer: this.durable.name }, 'nobody here handles this subject');
      message.nak(UNHANDLED_RETRY_MS);
      return;
    }
    const startedMs = performance.now();
    const request = contextOf(found.contract, message.headers);
    await runInContext(request, async () => {
      const settlement = await this.#settlement(message, found, request);
      const settled = await this.#settle(message, found, settlement);
      this.observe(found.contract, settled, startedMs);
    });
  }

  async #settlement(message: JsMsg, { handler, contract, parts }: Found, request: RequestContext): Promise<Settlement> {
    const deliveries = message.info.deliveryCount;
    try {
      const body = decode(contract, message.data, parts);
      const outcome = (await handler.invoke(body, { parts, ...request, deliveries, data: message.data })) as Outcome;
      return settleOutcome(outcome, deliveries);
    } catch (thrown) {
      const settlement = settleThrown(thrown, deliveries);
      const fields = { err: thrown, contract: labelOf(contract), at: handler.at, subject: message.subject, deliveries };
      log.warn(fields, settlement.kind === 'nak' ? 'message is retried' : 'message is rejected');
      return settlement;
    }
  }

  /** The one place that settles. A dead letter is stored before its message is given up, so nothing is dropped silently. */
  async #settle(message: JsMsg, { contract }: Found, settlement: Settlement): Promise<Settlement['kind']> {
    switch (settlement.kind) {
      case 'ack':
        message.ack();
        break;
      case 'nak':
        message.nak(settlement.afterMs);
        break;
      case 'dead': {
        const { code, cause } = settlement;
        const told = deadHeaders(message, code, cause);
        const { stream, streamSequence } = message.info;
        // The time is in the id because a stream that is made again counts from 1 again.
        const id = `${this.durable.name}.${stream}.${streamSequence}.${message.timestampNanos}`;
        try {
          await this.bus.store(deadSubject(this.durable.service, contract), told, message.data, id);
        } catch (thrown) {
          log.error({ err: thrown, subject: message.subject, code }, 'dead letter not stored, the message is kept');
          message.nak(RETRY_DELAYS.maxMs);
          return 'nak';
        }
        log.error(
          { contract: labelOf(contract), subject: message.subject, code, cause },
          'message put with the dead letters',
        );
        message.term(headerText(`${code}: ${cause}`));
      }
    }
    return settlement.kind;
  }
}

function deadHeaders(message: JsMsg, code: ErrorCode, cause: string): MsgHdrs {
  const told = headers();
  for (const name of [HEADERS.contract, HEADERS.requestId, HEADERS.traceparent]) {
    const value = message.headers?.get(name);
    if (value) told.set(name, value);
  }
  told.set(HEADERS.deadCode, code);
  told.set(HEADERS.deadCause, headerText(cause));
  told.set(HEADERS.deadSubject, message.subject);
  return told;
}
