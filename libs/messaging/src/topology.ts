import {
  AckPolicy,
  DeliverPolicy,
  JetStreamApiError,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  DiscardPolicy,
  type ConsumerConfig,
  type JetStreamManager,
  type StreamConfig,
} from '@nats-io/jetstream';
import { nanos, type NatsConnection } from '@nats-io/transport-node';
import {
  CONTRACTS,
  JOB_SHARD_NAMES,
  jobStream,
  jobStreamName,
  offersOf,
  SERVICES,
  STREAMS,
  subjectFilter,
  type ServiceName,
  type StreamDeclaration,
} from '#contracts';
import { createLogger } from '#platform';
import { linkOf } from './link.js';
import { serviceToken } from './wire.js';

const log = createLogger('topology');

/** JetStream's error codes that mean something here. */
export const JS_ERROR = {
  consumerNotFound: 10014,
  consumerExists: 10013,
  consumerNameInUse: 10148,
  storageExceeded: 10047,
  streamNameInUse: 10058,
  streamNotFound: 10059,
} as const;

const isCode = (thrown: unknown, ...codes: readonly number[]): boolean =>
  thrown instanceof JetStreamApiError && codes.includes(thrown.code);

/** A crashed consumer's messages go to another replica after this time; a live one says `working` three times within. */
export const ACK_WAIT_MS = 10_000;
/** An agent answers for an offer (claims or drops it) well within this time. */
const OFFER_ACK_WAIT_MS = 30_000;
/** Twenty streams in a cluster that is still choosing its leaders. */
const ENSURE_TIMEOUT_MS = 30_000;
/** Messages out at all replicas of a service at a time. Those that wait for a retry count. */
const MAX_ACK_PENDING = 1_000;

/** All that one service consumes of one stream, as one durable: so a job's steps and its result keep their order. */
export interface DurableConsumer {
  readonly service: ServiceName;
  readonly stream: string;
  readonly name: string;
  readonly filters: readonly string[];
}

export const durableName = (service: ServiceName, stream: string): string =>
  `${serviceToken(service)}_${stream.toLowerCase()}`;

/** The durables of every service. With interest retention, one that is not there yet loses what it should have got. */
export function declaredConsumers(): DurableConsumer[] {
  return Object.keys(STREAMS).flatMap((stream) =>
    SERVICES.flatMap((service) => {
      const filters = CONTRACTS.flatMap((contract) =>
        contract.type === 'stream' && contract.stream === stream && contract.consumers.includes(service)
          ? [subjectFilter(contract)]
          : [],
      );
      return filters.length > 0 ? [{ service, stream, name: durableName(service, stream), filters }] : [];
    }),
  );
}

/** Every stream by name. */
export function declaredStreams(): ReadonlyMap<string, StreamDeclaration> {
  const shards = JOB_SHARD_NAMES.map((shard) => [jobStreamName(shard), jobStream(shard)] as const);
  return new Map<string, StreamDeclaration>([...Object.entries(STREAMS), ...shards]);
}

type StreamSettings = Pick<
  StreamConfig,
  'subjects' | 'retention' | 'storage' | 'discard' | 'max_bytes' | 'max_consumers' | 'duplicate_window'
> &
  Partial<Pick<StreamConfig, 'num_replicas'>>;

function settingsOf(declared: StreamDeclaration, replicas: number | undefined, share: number): StreamSettings {
  return {
    subjects: [...declared.subjects],
    retention: {
      workqueue: RetentionPolicy.Workqueue,
      interest: RetentionPolicy.Interest,
      limits: RetentionPolicy.Limits,
    }[declared.retention],
    storage: StorageType.File,
    discard: DiscardPolicy.New,
    max_bytes: Math.floor(declared.maxBytes * share),
    max_consumers: declared.maxConsumers ?? -1,
    ...(replicas === undefined ? {} : { num_replicas: replicas }),
    duplicate_window: nanos(declared.duplicateWindowMs),
  };
}

/** Lists of subjects are sets: newer servers answer them sorted. */
const ordered = (value: unknown): unknown => (Array.isArray(value) ? value.map(String).sort() : value);
const same = (a: unknown, b: unknown): boolean => JSON.stringify(ordered(a)) === JSON.stringify(ordered(b));
/** What a server refuses to change on an existing stream; a difference needs an operator who decides about the content. */
const FIXED = ['storage', 'discard', 'max_consumers'] as const;

function refuseFixed(name: string, have: StreamConfig, want: StreamSettings): void {
  const queue = RetentionPolicy.Workqueue;
  const faults = FIXED.filter((key) => !same(have[key], want[key])).map(
    (key) => `${key} ${String(have[key])}, not ${String(want[key])}`,
  );
  if (have.retention !== want.retention && (have.retention === queue || want.retention === queue)) {
    faults.push(`retention ${have.retention}, not ${want.retention}`);
  }
  if (faults.length > 0) {
    throw new Error(`stream ${name} has ${faults.join('; ')}: drain and delete it, it is made anew at the next start`);
  }
}

/**
 * Streams and durables as the contracts declare them. Any service makes all of it, any number of times, several at
 * once; a stream or durable that somebody deleted is made again.
 */
export class Topology {
  #running: Promise<void> | undefined;
  /** Parts of the declared sizes that are tried when the server has not that much disk. */
  #share = 1;

  constructor(
    private readonly connection: NatsConnection,
    /** `replicas` undefined: 1 for a new stream, an existing one keeps what it has. */
    private readonly options: { readonly replicas?: number; readonly ackWaitMs?: number },
  ) {}

  /** Makes what is missing and updates what differs. Callers at the same time share one run. Throws JetStream's error. */
  ensure(): Promise<void> {
    this.#running ??= linkOf(this.connection)
      .request(ENSURE_TIMEOUT_MS, () => this.#ensure())
      .finally(() => {
        this.#running = undefined;
      });
    return this.#running;
  }

  async #ensure(): Promise<void> {
    const manager = await jetstreamManager(this.connection, { checkAPI: false });
    for (;;) {
      try {
        for (const [name, declared] of declaredStreams()) await this.#stream(manager, name, declared);
        return;
      } catch (thrown) {
        // JetStream reserves max_bytes in advance; the declared 23 GiB do not fit a small disk (10 GB in a CI job).
        if (!isCode(thrown, JS_ERROR.storageExceeded) || this.#share < 1 / 256) throw thrown;
        this.#share /= 4;
        log.warn(
          { share: this.#share },
          'the NATS server has too little disk for the declared stream sizes: smaller ones',
        );
      }
    }
  }

  /**
   * An interest stream forgets what no durable wants, so it begins with `limits` retention and turns to `interest`
   * when its durables are there: nothing that is published in between is lost.
   */
  async #stream(manager: JetStreamManager, name: string, declared: StreamDeclaration): Promise<void> {
    const want = settingsOf(declared, this.options.replicas, this.#share);
    const interest = want.retention === RetentionPolicy.Interest;
    const have = await existing(() => manager.streams.info(name), JS_ERROR.streamNotFound);
    if (!have) {
      const first = interest ? { ...want, retention: RetentionPolicy.Limits } : want;
      await raced(() => manager.streams.add({ name, ...first }), JS_ERROR.streamNameInUse);
    } else {
      refuseFixed(name, have.config, want);
    }
    for (const durable of declaredConsumers()) {
      if (durable.stream === name) await this.#durable(manager, durable);
    }
    const now = have ?? (await manager.streams.info(name));
    await updateStream(manager, now.config, want, this.#share < 1);
  }

  async #durable(manager: JetStreamManager, { stream, name, filters }: DurableConsumer): Promise<void> {
    await ensureConsumer(manager, stream, {
      durable_name: name,
      filter_subjects: [...filters],
      ack_policy: AckPolicy.Explicit,
      deliver_policy: DeliverPolicy.All,
      ack_wait: nanos(this.options.ackWaitMs ?? ACK_WAIT_MS),
      max_ack_pending: MAX_ACK_PENDING,
    });
  }
}

async function existing<T>(ask: () => Promise<T>, missing: number): Promise<T | undefined> {
  try {
    return await ask();
  } catch (thrown) {
    if (isCode(thrown, missing)) return undefined;
    throw thrown;
  }
}

/** Another replica may have made it a moment ago with the settings of an older or newer version: that is no failure. */
async function raced(make: () => Promise<unknown>, ...codes: readonly number[]): Promise<void> {
  try {
    await make();
  } catch (thrown) {
    if (!isCode(thrown, ...codes)) throw thrown;
  }
}

async function updateStream(
  manager: JetStreamManager,
  have: StreamConfig,
  want: StreamSettings,
  shrink: boolean,
): Promise<void> {
  const { max_bytes: size, ...others } = want;
  const changed = Object.entries(others).filter(([key, value]) => !same(have[key as keyof StreamConfig], value));
  let config = have;
  if (changed.length > 0) {
    config = (await manager.streams.update(have.name, { ...have, ...Object.fromEntries(changed) })).config;
    log.info({ stream: have.name, settings: changed.map(([key]) => key) }, 'stream updated');
  }
  if (size === config.max_bytes || (size < config.max_bytes && !shrink)) return;
  // Growing may not fit; the stream works as it is.
  await raced(() => manager.streams.update(have.name, { ...config, max_bytes: size }), JS_ERROR.storageExceeded);
}

type ConsumerSettings = Partial<ConsumerConfig> & { readonly durable_name: string };

/** `consumers.add` refuses changed settings of an existing durable, hence info first, then add or update. */
async function ensureConsumer(manager: JetStreamManager, stream: string, want: ConsumerSettings): Promise<void> {
  const have = await existing(() => manager.consumers.info(stream, want.durable_name), JS_ERROR.consumerNotFound);
  if (!have) {
    await raced(() => manager.consumers.add(stream, want), JS_ERROR.consumerExists, JS_ERROR.consumerNameInUse);
    return;
  }
  const changed = Object.entries(want).filter(([key, value]) => !same(have.config[key as keyof ConsumerConfig], value));
  if (changed.length > 0) {
    // The client lays this over what is there, and the server refuses both forms of a filter together.
    const { filter_subject: _old, ...config } = { ...have.config, ...want };
    const filter = want.filter_subject === undefined ? { filter_subject: '' } : { filter_subject: want.filter_subject };
    await manager.consumers.update(stream, want.durable_name, { ...config, ...filter });
    log.info({ stream, consumer: want.durable_name, settings: changed.map(([key]) => key) }, 'durable updated');
  }
}

/**
 * The agent's own durable, where its offers wait; `slots` offers at most are out at a time. Made or updated, also the
 * shard's stream when it is missing. Throws JetStream's error when the server does not answer.
 */
export async function ensureAgentConsumer(connection: NatsConnection, agentId: string, slots: number): Promise<void> {
  const { stream, consumer, filter } = offersOf(agentId);
  const manager = await jetstreamManager(connection, { checkAPI: false });
  const want: ConsumerSettings = {
    durable_name: consumer,
    filter_subject: filter,
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    ack_wait: nanos(OFFER_ACK_WAIT_MS),
    max_ack_pending: slots,
    // Long polls of processes that died stay until they expire; an agent that restarts often needs room beside them.
    max_waiting: 64,
  };
  try {
    await ensureConsumer(manager, stream, want);
  } catch (thrown) {
    if (!isCode(thrown, JS_ERROR.streamNotFound)) throw thrown;
    await new Topology(connection, {}).ensure();
    await ensureConsumer(manager, stream, want);
  }
}

/** Removes the durable of an agent that is revoked for good; what waits in it is offered again from PostgreSQL, or not. */
export async function removeAgentConsumer(connection: NatsConnection, agentId: string): Promise<void> {
  const { stream, consumer } = offersOf(agentId);
  const manager = await jetstreamManager(connection, { checkAPI: false });
  await existing(() => manager.consumers.delete(stream, consumer), JS_ERROR.consumerNotFound);
}
