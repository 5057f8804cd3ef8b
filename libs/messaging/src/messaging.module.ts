import { Inject, Injectable, Module, type DynamicModule, type OnApplicationBootstrap } from '@nestjs/common';
import { DiscoveryModule, DiscoveryService, MetadataScanner } from '@nestjs/core';
import { type NatsConnection } from '@nats-io/transport-node';
import { CONTRACTS, inboxPrefix, type AnyContract, type ServiceName } from '#contracts';
import { createLogger, Lifecycle, Metrics, ServiceHealth, withTimeout } from '#platform';
import { Bus, RawPublisher } from './bus.js';
import { CallerCheck } from './callers.js';
import { connectNats } from './connection.js';
import { checkHandlers, findHandlers, type BoundHandler } from './handlers.js';
import { linkOf } from './link.js';
import { nkeyFromSeed } from './nkeys.js';
import { observerOf } from './observer.js';
import { Responder } from './responder.js';
import { CONSUMER_DEFAULTS, StreamConsumer, type ConsumerOptions } from './stream-consumer.js';
import { declaredConsumers, Topology } from './topology.js';
import { serviceToken } from './wire.js';

const log = createLogger('messaging');

export interface MessagingOptions {
  readonly service: ServiceName;
  readonly servers: readonly string[];
  readonly jwt: string;
  readonly seed: string;
  readonly caFile?: string;
  /**
   * `gateway=U…,job-scheduler=U…`: calls between services count only when one of these has signed them. Undefined:
   * whoever may publish to the subject is believed, so the owner of the broker can speak as the gateway.
   */
  readonly callerKeys?: string | undefined;
  /** Contracts that name the service but are not handled by a decorated method, e.g. signals heard by `Bus.onSignal`. */
  readonly unhandled?: readonly AnyContract[];
  /** Copies of each stream: 1 on a single server, 3 in a cluster. Undefined: existing streams keep what they have. */
  readonly replicas?: number;
  /** Defaults: CONSUMER_DEFAULTS. `ackWaitMs` is a setting of the shared durable: the same in every replica. */
  readonly consumers?: Partial<ConsumerOptions>;
}

const OPTIONS = Symbol('messaging options');
/** The connection of the service, for what the Bus does not cover (claims updates of accounts, say). */
export const NATS_CONNECTION = Symbol('NatsConnection');

/** Deleted streams that nobody here consumes (the JOBS shards) are noticed after this time at the latest. */
const TOPOLOGY_CHECK_MS = 30_000;
const CONNECT_NOTICE_MS = 5_000;
/** Below the 3 s that the platform gives to the last phase. */
const DRAIN_TIMEOUT_MS = 2_000;

async function connectService(options: MessagingOptions): Promise<NatsConnection> {
  const { service, servers, jwt, seed, caFile } = options;
  const notice = setInterval(() => log.warn({ servers }, 'still waiting for NATS'), CONNECT_NOTICE_MS);
  try {
    return await connectNats({
      servers,
      name: service,
      inboxPrefix: inboxPrefix(serviceToken(service)),
      credentials: { jwt, seed },
      ...(caFile === undefined ? {} : { caFile }),
      onStatus: (status) => log.info({ status }, 'NATS connection'),
    });
  } finally {
    clearInterval(notice);
  }
}

/** Sends what is buffered and closes; when the server is away, there is nobody to wait for. */
async function closeConnection(connection: NatsConnection): Promise<void> {
  if (connection.isClosed()) return;
  if (!linkOf(connection).up) return connection.close();
  await withTimeout('drain', DRAIN_TIMEOUT_MS, connection.drain()).catch(() => connection.close());
}

/** Binds the handlers of the application to the broker at boot, and unbinds them in order when the process drains. */
@Injectable()
class MessagingRuntime implements OnApplicationBootstrap {
  constructor(
    @Inject(OPTIONS) private readonly options: MessagingOptions,
    private readonly bus: Bus,
    private readonly topology: Topology,
    private readonly discovery: DiscoveryService,
    private readonly scanner: MetadataScanner,
    private readonly lifecycle: Lifecycle,
    private readonly health: ServiceHealth,
    private readonly metrics: Metrics,
  ) {}

  async onApplicationBootstrap(): Promise<void> {
    const { connection } = this.bus;
    try {
      const handlers = findHandlers(this.discovery, this.scanner);
      checkHandlers(this.options.service, handlers, CONTRACTS, this.options.unhandled);
      await this.topology.ensure();
      this.#bind(connection, handlers);
      // Ready means that the server knows the subscriptions: a call in between would find nobody.
      await withTimeout('subscribe', DRAIN_TIMEOUT_MS, connection.flush()).catch((thrown: unknown) => {
        log.warn({ err: thrown }, 'NATS has not confirmed the subscriptions yet');
      });
    } catch (thrown) {
      // Nobody may be left to close it: an application context that fails to start is never handed out.
      await closeConnection(connection);
      throw thrown;
    }
    this.lifecycle.onDrain('close', 'nats', () => closeConnection(connection));
    this.health.addCheck('nats', async () => {
      if (!linkOf(connection).up) throw new Error('not connected');
      await connection.flush();
    });
    void this.#watch(connection);
  }

  #bind(connection: NatsConnection, handlers: readonly BoundHandler[]): void {
    const { service, callerKeys } = this.options;
    const serves = handlers.some(({ contract }) => contract.type === 'call');
    if (serves && callerKeys === undefined) log.warn('CALLER_KEYS is not set: callers are proven by the broker alone');
    const callers = callerKeys === undefined ? undefined : new CallerCheck(callerKeys);
    const observe = observerOf(this.metrics);
    const responder = new Responder(connection, service, observe, callers);
    const consumers = declaredConsumers().flatMap((durable) => {
      const own = handlers.filter(({ contract }) => contract.type === 'stream' && contract.stream === durable.stream);
      if (durable.service !== service || own.length === 0) return [];
      const options = { ...CONSUMER_DEFAULTS, ...this.options.consumers };
      return [new StreamConsumer(this.bus, this.topology, durable, own, observe, options)];
    });
    this.#consumers = consumers;
    for (const part of [responder, ...consumers]) {
      this.lifecycle.onDrain('stop-intake', 'messages', () => part.stopIntake());
      this.lifecycle.onDrain('finish-work', 'messages', () => part.finish());
    }
    responder.start(handlers);
    for (const consumer of consumers) consumer.start();
  }

  #consumers: readonly StreamConsumer[] = [];

  /** A server that comes back may have lost its streams, and has forgotten every pull request. */
  async #watch(connection: NatsConnection): Promise<void> {
    const timer = setInterval(() => this.#check(), TOPOLOGY_CHECK_MS).unref();
    for await (const status of connection.status()) {
      if (status.type !== 'reconnect') continue;
      this.#check();
      for (const consumer of this.#consumers) consumer.restart();
    }
    clearInterval(timer);
  }

  #check(): void {
    this.topology.ensure().catch((thrown: unknown) => {
      log.warn({ err: thrown }, 'streams cannot be checked now');
    });
  }
}

/**
 * Messaging of one service. Provides `Bus`, `RawPublisher` and `NATS_CONNECTION` to the whole application; at boot
 * makes the streams and durables, and refuses to start unless every contract that names the service has exactly one
 * handler. Needs the platform's Lifecycle, ServiceHealth and Metrics.
 */
@Module({})
export class MessagingModule {
  static forService(options: MessagingOptions): DynamicModule {
    const { replicas, consumers } = options;
    return {
      module: MessagingModule,
      global: true,
      imports: [DiscoveryModule],
      providers: [
        { provide: OPTIONS, useValue: options },
        { provide: NATS_CONNECTION, useFactory: () => connectService(options) },
        {
          provide: Topology,
          inject: [NATS_CONNECTION],
          useFactory: (connection: NatsConnection) =>
            new Topology(connection, {
              ...(replicas === undefined ? {} : { replicas }),
              ...(consumers?.ackWaitMs === undefined ? {} : { ackWaitMs: consumers.ackWaitMs }),
            }),
        },
        {
          provide: Bus,
          inject: [NATS_CONNECTION, Topology],
          useFactory: (connection: NatsConnection, topology: Topology) =>
            new Bus(connection, {
              onMissingStream: () => void topology.ensure().catch(() => undefined),
              signer: { service: options.service, key: nkeyFromSeed(options.seed) },
            }),
        },
        { provide: RawPublisher, inject: [Bus], useFactory: (bus: Bus) => new RawPublisher(bus) },
        MessagingRuntime,
      ],
      exports: [Bus, RawPublisher, NATS_CONNECTION],
    };
  }
}
