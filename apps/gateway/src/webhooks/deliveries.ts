import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { Webhook as Signature } from 'standardwebhooks';
import {
  factRecorded,
  ImsError,
  LIMITS,
  newId,
  type DeliveryId,
  type Event,
  type EventId,
  type JsonObject,
  type VendorId,
  type WebhookId,
} from '#contracts';
import { Consumes } from '#messaging';
import { Database, decodeCursor, limitOf, pageOf } from '#persistence';
import { createLogger, Lifecycle, Metrics } from '#platform';
import { GatewayConfig } from '../config.js';
import { post } from './post.js';
import { type DeliveryStatus, type WebhookDelivery, type WebhookDeliveryPage } from './shapes.js';
import { Webhooks } from './webhooks.js';

/** Seconds before the second try, the third, …: together 27 h. The last one has failed for good. */
const RETRY_AFTER_S = [5, 30, 120, 600, 1_800, 3_600, 7_200, 14_400, 28_800, 43_200];
/** A delivery whose replica died is taken over after this time: longer than a try may take. */
const TRY_LEASE_S = 60;
const LOOK_EVERY_MS = 1_000;
const SWEEP_EVERY_MS = 60 * 60_000;
/** Tries at a time of one replica, and of these to one webhook: an endpoint that hangs holds up itself alone. */
const TRIES_AT_A_TIME = 32;
const TRIES_AT_ONE_WEBHOOK = 4;

interface Row {
  readonly id: DeliveryId;
  readonly webhook_id: WebhookId;
  readonly event_id: EventId | null;
  readonly event_type: string;
  readonly status: DeliveryStatus;
  readonly attempts: number;
  readonly last_status: number | null;
  readonly last_error: string | null;
  readonly next_attempt_at: Date | null;
  readonly finished_at: Date | null;
  readonly created_at: Date;
  readonly payload: JsonObject;
}
const COLUMNS = `id, webhook_id, event_id, event_type, status, attempts, last_status, last_error, next_attempt_at,
  finished_at, created_at, payload`;
interface Due {
  readonly id: DeliveryId;
  readonly webhook_id: WebhookId;
  readonly attempts: number;
  readonly tries: number;
  readonly payload: JsonObject;
  readonly url: string;
  readonly sealed_secret: Buffer;
}

/**
 * Facts on their way to webhooks. A fact is written down once for each webhook that wants it, and sent until the
 * endpoint says 2xx: at least once, in no promised order. Any replica sends what is due; the number of the attempt is
 * the fence between them.
 */
@Injectable()
export class Deliveries implements OnModuleInit {
  private readonly logger = createLogger('webhooks');
  private readonly busy = new Map<WebhookId, number>();
  private readonly running = new Set<Promise<void>>();
  private looking: Promise<void> | undefined;
  private stopped = false;
  private readonly tries;

  constructor(
    private readonly database: Database,
    private readonly webhooks: Webhooks,
    private readonly lifecycle: Lifecycle,
    metrics: Metrics,
    @Inject(GatewayConfig) private readonly config: GatewayConfig,
  ) {
    this.tries = metrics.counter({
      name: 'ims_gateway_webhook_tries_total',
      help: 'Tries to deliver a fact to a webhook.',
      labels: ['outcome'],
    });
  }

  onModuleInit(): void {
    const look = setInterval(() => this.look(), LOOK_EVERY_MS);
    const sweep = setInterval(() => {
      this.sweep().catch((error: unknown) => this.logger.warn({ err: error }, 'old deliveries stay for now'));
    }, SWEEP_EVERY_MS);
    look.unref();
    sweep.unref();
    this.lifecycle.onDrain('stop-intake', 'webhooks', () => {
      this.stopped = true;
      clearInterval(look);
      clearInterval(sweep);
      return Promise.resolve();
    });
    this.lifecycle.onDrain('finish-work', 'webhooks', async () => {
      await this.looking;
      await Promise.all(this.running);
    });
  }

  /** Writes the fact down for each webhook of its vendor that asks for it; seen again, it is there already. */
  @Consumes(factRecorded)
  async onFact(event: Event): Promise<void> {
    const { type, at, vendor_id, hash: _hash, prev_hash: _prev, chain: _chain, seq: _seq, ...rest } = event;
    const payload = { type, timestamp: at, data: { ...rest, vendor_id } };
    const noun = `${type.split('.')[0] ?? ''}.*`;
    const wanting = await this.database.query<{ id: WebhookId }>(
      `SELECT id FROM webhooks WHERE vendor_id = $1 AND enabled AND events && $2::text[]`,
      [vendor_id, [type, noun, '*']],
    );
    for (const webhook of wanting) await this.write(vendor_id, webhook.id, type, payload, event.id);
  }

  /** A delivery of type `webhook.test`, whatever the filter says. */
  async test(vendorId: VendorId, webhookId: WebhookId): Promise<WebhookDelivery> {
    const { enabled } = await this.webhooks.get(vendorId, webhookId);
    if (!enabled) throw new ImsError('conflict', 'this webhook is off');
    const payload = { type: 'webhook.test', timestamp: new Date().toISOString(), data: { webhook_id: webhookId } };
    return this.get(vendorId, await this.write(vendorId, webhookId, 'webhook.test', payload));
  }

  async list(
    vendorId: VendorId,
    webhookId: WebhookId,
    query: { cursor?: string; limit?: number; status?: DeliveryStatus },
  ): Promise<WebhookDeliveryPage> {
    await this.webhooks.get(vendorId, webhookId);
    const [before] = decodeCursor(query.cursor, 1) ?? [];
    const limit = limitOf(query);
    const rows = await this.database.query<Row>(
      `SELECT ${COLUMNS} FROM webhook_deliveries
       WHERE webhook_id = $1 AND ($2::text IS NULL OR id < $2) AND ($3::text IS NULL OR status = $3)
       ORDER BY id DESC LIMIT $4`,
      [webhookId, before ?? null, query.status ?? null, limit + 1],
    );
    return pageOf(rows.map(factsOf), limit, ({ id }) => [id]);
  }

  async get(vendorId: VendorId, id: DeliveryId): Promise<WebhookDelivery> {
    const [row] = await this.database.query<Row>(
      `SELECT ${COLUMNS} FROM webhook_deliveries WHERE vendor_id = $1 AND id = $2`,
      [vendorId, id],
    );
    if (row === undefined) throw new ImsError('not_found', `there is no delivery ${id}`);
    return factsOf(row);
  }

  /** Sends it again, with as many tries as a new one, under the same `webhook-id`. */
  async redeliver(vendorId: VendorId, id: DeliveryId): Promise<WebhookDelivery> {
    const delivery = await this.get(vendorId, id);
    const { enabled } = await this.webhooks.get(vendorId, delivery.webhook_id);
    if (!enabled) throw new ImsError('conflict', 'its webhook is off');
    await this.database.query(
      `UPDATE webhook_deliveries SET status = 'pending', tries = 0, next_attempt_at = now(), finished_at = NULL
       WHERE id = $1 AND status <> 'pending'`,
      [id],
    );
    this.look();
    return this.get(vendorId, id);
  }

  private async write(
    vendorId: VendorId,
    webhookId: WebhookId,
    type: string,
    payload: object,
    eventId: EventId | null = null,
  ): Promise<DeliveryId> {
    const id = newId('delivery');
    // A webhook that was deleted meanwhile wants nothing more; the lock waits for a deletion that is under way.
    await this.database.query(
      `INSERT INTO webhook_deliveries (id, webhook_id, vendor_id, event_id, event_type, payload, next_attempt_at)
       SELECT $1, id, $3, $4, $5, $6, now() FROM webhooks WHERE id = $2 FOR KEY SHARE ON CONFLICT DO NOTHING`,
      [id, webhookId, vendorId, eventId, type, JSON.stringify(payload)],
    );
    this.look();
    return id;
  }

  /** Begins to send what is due. One look at a time; a call during one is seen by its next round or by the clock. */
  private look(): void {
    if (this.stopped || this.looking !== undefined) return;
    this.looking = this.sendDue()
      .catch((error: unknown) => this.logger.warn({ err: error }, 'deliveries wait: they cannot be read'))
      .finally(() => {
        this.looking = undefined;
      });
  }

  private async sendDue(): Promise<void> {
    while (!this.stopped && this.running.size < TRIES_AT_A_TIME) {
      const full = [...this.busy].filter(([, tries]) => tries >= TRIES_AT_ONE_WEBHOOK).map(([id]) => id);
      const due = await this.claim(full);
      if (due.length === 0) return;
      for (const delivery of due) {
        this.busy.set(delivery.webhook_id, (this.busy.get(delivery.webhook_id) ?? 0) + 1);
        const sent: Promise<void> = this.send(delivery)
          .catch((error: unknown) => this.logger.warn({ err: error, delivery: delivery.id }, 'a try is not noted'))
          .finally(() => {
            this.running.delete(sent);
            const left = (this.busy.get(delivery.webhook_id) ?? 1) - 1;
            if (left > 0) this.busy.set(delivery.webhook_id, left);
            else this.busy.delete(delivery.webhook_id);
            this.look();
          });
        this.running.add(sent);
      }
    }
  }

  /** Takes some that are due, for the time of a lease; their next time is moved, so no other replica sees them. */
  private claim(full: readonly WebhookId[]): Promise<Due[]> {
    return this.database.query<Due>(
      `WITH due AS (
         SELECT d.id FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id
         WHERE d.status = 'pending' AND d.next_attempt_at <= now() AND w.enabled AND d.webhook_id <> ALL ($1::text[])
         ORDER BY d.next_attempt_at LIMIT ${TRIES_AT_ONE_WEBHOOK} FOR UPDATE OF d SKIP LOCKED)
       UPDATE webhook_deliveries d SET attempts = attempts + 1, tries = tries + 1,
              next_attempt_at = now() + make_interval(secs => $2)
       FROM due, webhooks w WHERE d.id = due.id AND w.id = d.webhook_id
       RETURNING d.id, d.webhook_id, d.attempts, d.tries, d.payload, w.url, w.sealed_secret`,
      [full, TRY_LEASE_S],
    );
  }

  private async send(delivery: Due): Promise<void> {
    let status: number | null = null;
    let problem: string | null = null;
    try {
      const body = JSON.stringify(delivery.payload);
      const at = new Date();
      const signature = new Signature(this.webhooks.unseal(delivery.webhook_id, delivery.sealed_secret));
      const headers = {
        'content-type': 'application/json',
        'user-agent': 'vendor-cloud-webhooks/1',
        'webhook-id': delivery.id,
        'webhook-timestamp': String(Math.floor(at.getTime() / 1000)),
        'webhook-signature': signature.sign(delivery.id, at, body),
      };
      const options = { allowPrivate: this.config.WEBHOOK_PRIVATE_ADDRESSES, timeoutMs: LIMITS.webhookTimeoutMs };
      status = await post(delivery.url, body, headers, options);
      if (status < 200 || status > 299) problem = `the endpoint answered ${status}`;
    } catch (error) {
      problem = `not sent: ${error instanceof Error ? error.message : String(error)}`.slice(0, 300);
    }
    this.tries.inc({ outcome: problem === null ? 'delivered' : 'failed' });
    await this.note(delivery, status, problem);
  }

  private async note(delivery: Due, status: number | null, problem: string | null): Promise<void> {
    const wait = RETRY_AFTER_S[delivery.tries - 1];
    const next: DeliveryStatus = problem === null ? 'delivered' : wait === undefined ? 'failed' : 'pending';
    await this.database.transaction(async (tx) => {
      const [noted] = await tx.query(
        `UPDATE webhook_deliveries SET status = $3, last_status = $4, last_error = $5,
                next_attempt_at = CASE WHEN $3 = 'pending' THEN now() + make_interval(secs => $6) END,
                finished_at = CASE WHEN $3 <> 'pending' THEN now() END
         WHERE id = $1 AND attempts = $2 AND status = 'pending' RETURNING id`,
        [delivery.id, delivery.attempts, next, status, problem, wait ?? 0],
      );
      // Another replica has taken it over, or it was deleted: the word is not ours any more.
      if (noted === undefined) return;
      if (problem === null) {
        await tx.query('UPDATE webhooks SET failing_since = NULL WHERE id = $1 AND failing_since IS NOT NULL', [
          delivery.webhook_id,
        ]);
        return;
      }
      const reason = status === 410 ? 'the endpoint answered 410: it is gone for good' : 'nothing arrived for a day';
      const [off] = await tx.query(
        `UPDATE webhooks SET failing_since = coalesce(failing_since, now()),
                enabled = enabled AND NOT $3 AND coalesce(failing_since, now()) > now() - make_interval(secs => $2),
                disabled_reason = CASE
                  WHEN $3 OR failing_since <= now() - make_interval(secs => $2) THEN $4 ELSE disabled_reason END
         WHERE id = $1 AND enabled RETURNING id, enabled`,
        [delivery.webhook_id, LIMITS.webhookOffAfterMs / 1000, status === 410, reason],
      );
      if (off?.['enabled'] !== false) return;
      await tx.query(
        `UPDATE webhook_deliveries SET status = 'failed', next_attempt_at = NULL, finished_at = now(),
                last_error = coalesce(last_error, 'the webhook was turned off')
         WHERE webhook_id = $1 AND status = 'pending'`,
        [delivery.webhook_id],
      );
      this.logger.warn({ webhook: delivery.webhook_id, reason }, 'a webhook was turned off');
    });
  }

  /** Drops what ended long ago. Any replica, any number of times. */
  private async sweep(): Promise<void> {
    await this.database.query(`DELETE FROM webhook_deliveries WHERE finished_at < now() - make_interval(secs => $1)`, [
      LIMITS.webhookKeptMs / 1000,
    ]);
  }
}

const factsOf = (row: Row): WebhookDelivery => ({
  id: row.id,
  webhook_id: row.webhook_id,
  ...(row.event_id === null ? {} : { event_id: row.event_id }),
  event_type: row.event_type,
  status: row.status,
  attempts: row.attempts,
  ...(row.last_status === null ? {} : { last_status: row.last_status }),
  ...(row.last_error === null ? {} : { last_error: row.last_error }),
  ...(row.next_attempt_at === null ? {} : { next_attempt_at: row.next_attempt_at.toISOString() }),
  ...(row.finished_at === null ? {} : { finished_at: row.finished_at.toISOString() }),
  created_at: row.created_at.toISOString(),
  payload: row.payload,
});
