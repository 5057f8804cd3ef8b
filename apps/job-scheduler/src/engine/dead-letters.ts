import {
  jetstream,
  jetstreamManager,
  AckPolicy,
  DeliverPolicy,
  type ConsumerMessages,
  type JsMsg,
} from '@nats-io/jetstream';
import { type NatsConnection } from '@nats-io/transport-node';
import { Inject, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import {
  CONTRACTS,
  DeadLetter,
  DeadLetterPage,
  getDeadLetter,
  HEADERS,
  ImsError,
  isId,
  listDeadLetters,
  newId,
  settleDeadLetter,
  subjectParts,
  type AgentId,
  type DeadLetterId,
  type DeadLetterRef,
  type JobId,
  type JsonObject,
  type ListDeadLetters,
  type SettleDeadLetter,
  type StreamMessage,
  type VendorId,
} from '#contracts';
import { NATS_CONNECTION, Serves } from '#messaging';
import { Database, storableText } from '#persistence';
import { backoffMs, createLogger, Lifecycle, sleep } from '#platform';
import { found, page, position } from '../catalogue/lists.js';
import { caller, iso, isoOrNull, wire } from '../wire.js';

const STREAM = 'DEAD';
const DURABLE = 'job_scheduler_dead';
const PULL = { max_messages: 20, expires: 6_000, idle_heartbeat: 2_000, abort_on_missing_resource: true } as const;
const CAUSE_MAX = 1_000;

interface DeadRow {
  readonly id: DeadLetterId;
  readonly vendor_id: VendorId | null;
  readonly status: DeadLetter['status'];
  readonly service: string;
  readonly contract: string;
  readonly subject: string;
  readonly code: string;
  readonly cause: string;
  readonly agent_id: AgentId | null;
  readonly job_id: JobId | null;
  readonly at: Date;
  readonly settled_at: Date | null;
  readonly settled_by: string | null;
  readonly note: string | null;
  readonly size_bytes: number;
  readonly payload?: Buffer;
}
const COLUMNS = `id, vendor_id, status, service, contract, subject, code, cause, agent_id, job_id, at, settled_at,
  settled_by, note, octet_length(payload) AS size_bytes`;

/**
 * Messages that some service could not take, as rows: the stream keeps them too, but a stream cannot be asked, and it
 * can be lost. They belong to the vendor whose agent or install their subject names; of what names none, the log and the
 * stream are all there is.
 */
@Injectable()
export class DeadLetters implements OnApplicationBootstrap {
  private readonly logger = createLogger('dead-letters');
  private readonly stopping = new AbortController();
  private messages: ConsumerMessages | undefined;

  constructor(
    private readonly database: Database,
    private readonly lifecycle: Lifecycle,
    @Inject(NATS_CONNECTION) private readonly connection: NatsConnection,
  ) {}

  onApplicationBootstrap(): void {
    const loop = this.run();
    this.lifecycle.onDrain('stop-intake', 'dead letters', () => {
      this.stopping.abort();
      void this.messages?.close();
      return loop;
    });
  }

  @Serves(listDeadLetters)
  async listDeadLetters(query: ListDeadLetters): Promise<DeadLetterPage> {
    const { before, take, limit } = position(query);
    const rows = await this.database.query<DeadRow>(
      `SELECT ${COLUMNS} FROM dead_letters WHERE vendor_id = $1 AND ($2::text IS NULL OR status = $2)
         AND ($3::text IS NULL OR id < $3) ORDER BY id DESC LIMIT $4`,
      [query.vendor_id, query.status ?? null, before ?? null, take],
    );
    return page(DeadLetterPage, rows, limit, view);
  }

  @Serves(getDeadLetter)
  async getDeadLetter({ vendor_id, dead_id }: DeadLetterRef): Promise<DeadLetter> {
    const [row] = await this.database.query<DeadRow>(
      `SELECT ${COLUMNS}, payload FROM dead_letters WHERE id = $1 AND vendor_id = $2`,
      [dead_id, vendor_id],
    );
    return view(found(row, `dead letter ${dead_id}`));
  }

  /**
   * Sends the message again to where it came from, in the transaction that says so, or puts it away. Whoever has dealt
   * with it meanwhile drops it: every consumer is idempotent. Throws `conflict` when that was done before, or when the
   * message is of no contract that this version knows.
   */
  @Serves(settleDeadLetter)
  async settleDeadLetter({ vendor_id, dead_id, how, request }: SettleDeadLetter): Promise<DeadLetter> {
    await this.database.transaction(async (tx) => {
      const [row] = await tx.query<DeadRow>(
        `SELECT ${COLUMNS}, payload FROM dead_letters WHERE id = $1 AND vendor_id = $2 FOR UPDATE`,
        [dead_id, vendor_id],
      );
      const dead = found(row, `dead letter ${dead_id}`);
      if (dead.status !== 'open') throw new ImsError('conflict', `it was ${dead.status} by ${dead.settled_by ?? ''}`);
      if (how === 'redrive') {
        const { contract, parts, body } = again(dead);
        tx.publish(contract, parts, body, `${dead.id}.redriven`);
      }
      const status = how === 'redrive' ? 'redriven' : 'discarded';
      await tx.query(
        'UPDATE dead_letters SET status = $2, settled_at = now(), settled_by = $3, note = $4 WHERE id = $1',
        [dead_id, status, caller(), request.reason === undefined ? null : storableText(request.reason)],
      );
      await tx.record({
        chainOf: vendor_id,
        type: `dead_letter.${status}`,
        vendor_id,
        job_id: dead.job_id ?? undefined,
        agent_id: dead.agent_id ?? undefined,
        actor: caller(),
        data: { dead_id, contract: dead.contract, code: dead.code, reason: request.reason ?? '' },
      });
    });
    return this.getDeadLetter({ vendor_id, dead_id });
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    for (let failures = 0; !signal.aborted;) {
      try {
        await this.pull();
        failures = 0;
      } catch (error) {
        failures += 1;
        if (failures % 20 === 1) this.logger.warn({ err: error, failures }, 'dead letters cannot be read now');
      }
      await sleep(backoffMs(Math.max(1, failures), { baseMs: 100, maxMs: 5_000 }), signal);
    }
  }

  private async pull(): Promise<void> {
    const manager = await jetstreamManager(this.connection, { checkAPI: false });
    await manager.consumers.add(STREAM, {
      durable_name: DURABLE,
      ack_policy: AckPolicy.Explicit,
      deliver_policy: DeliverPolicy.All,
    });
    const consumer = await jetstream(this.connection).consumers.get(STREAM, DURABLE);
    this.messages = await consumer.consume(PULL);
    if (this.stopping.signal.aborted) void this.messages.close();
    for await (const message of this.messages) {
      await this.keep(message);
      message.ack();
    }
  }

  /** Once, however often it is delivered: its own message id tells. */
  private async keep(message: JsMsg): Promise<void> {
    const { headers } = message;
    const subject = headers?.get(HEADERS.deadSubject) ?? '';
    const contract = headers?.get(HEADERS.contract) ?? '';
    const parts = partsOf(contract, subject);
    const agent = isId('agent', parts['agent']) ? parts['agent'] : null;
    await this.database.query(
      `INSERT INTO dead_letters (id, message_id, vendor_id, service, contract, subject, code, cause, agent_id, job_id, at, payload)
       SELECT $1, $2, coalesce((SELECT vendor_id FROM agents WHERE id = $3), (SELECT id FROM vendors WHERE id = $4)),
         $5, $6, $7, $8, $9, $3, $10, $11, $12
       ON CONFLICT (message_id) DO NOTHING`,
      [
        newId('dead'),
        `${message.seq}.${message.timestampNanos}`,
        agent,
        parts['vendor'] ?? null,
        message.subject.split('.')[3] ?? '',
        contract,
        storableText(subject),
        headers?.get(HEADERS.deadCode) ?? 'internal',
        storableText(headers?.get(HEADERS.deadCause) ?? '').slice(0, CAUSE_MAX),
        isId('job', parts['job']) ? parts['job'] : null,
        new Date(Number(message.timestampNanos / 1_000_000n)),
        Buffer.from(message.data),
      ],
    );
  }
}

const streamContract = (label: string): StreamMessage<object> | undefined =>
  CONTRACTS.filter((one) => one.type === 'stream').find((one) => `${one.name}/${one.version}` === label);

const partsOf = (label: string, subject: string): Readonly<Record<string, string>> => {
  const contract = streamContract(label);
  return (contract && subjectParts(contract, subject)) ?? {};
};

/** The message as it was sent. */
function again({ contract: label, subject, payload }: DeadRow): {
  contract: StreamMessage<object>;
  parts: Readonly<Record<string, string>>;
  body: object;
} {
  const contract = streamContract(label);
  const parts = contract && subjectParts(contract, subject);
  const body = bodyOf(payload);
  if (!contract || !parts || !body) throw new ImsError('conflict', `${label} cannot be sent again; discard it`);
  return { contract, parts, body };
}

/** Undefined when it is no JSON object. */
function bodyOf(payload: Buffer | undefined): JsonObject | undefined {
  try {
    const value = JSON.parse((payload ?? Buffer.of()).toString('utf8')) as JsonObject | null;
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

const view = (row: DeadRow): DeadLetter =>
  wire(DeadLetter, {
    id: row.id,
    status: row.status,
    service: row.service,
    contract: row.contract,
    subject: row.subject,
    code: row.code,
    cause: row.cause,
    agent_id: row.agent_id,
    job_id: row.job_id,
    at: iso(row.at),
    settled_at: isoOrNull(row.settled_at),
    settled_by: row.settled_by,
    note: row.note,
    size_bytes: row.size_bytes,
    body: bodyOf(row.payload),
  });
