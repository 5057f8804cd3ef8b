import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { Inject, Injectable } from '@nestjs/common';
import { ImsError, LIMITS, type VendorId, type WebhookId } from '#contracts';
import { Database, decodeCursor, limitOf, pageOf, storableText } from '#persistence';
import { GatewayConfig } from '../config.js';
import { checkEndpoint } from './post.js';
import { type Webhook, type WebhookPage, type WebhookSettings, type WebhookWithSecret } from './shapes.js';

interface Row {
  readonly id: WebhookId;
  readonly url: string;
  readonly events: string[];
  readonly description: string | null;
  readonly enabled: boolean;
  readonly disabled_reason: string | null;
  readonly failing_since: Date | null;
  readonly created_at: Date;
  readonly version: number;
}
const COLUMNS = 'id, url, events, description, enabled, disabled_reason, failing_since, created_at, version';
const SECRET_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * Where vendors want to be told. A secret has to be there in clear to sign with, so it is stored encrypted with a key
 * that the database does not have (WEBHOOK_KEY; see ADR 0007).
 */
@Injectable()
export class Webhooks {
  private readonly sealingKey: Buffer;

  constructor(
    private readonly database: Database,
    @Inject(GatewayConfig) private readonly config: GatewayConfig,
  ) {
    const key = config.WEBHOOK_KEY ?? config.OPERATOR_KEY;
    this.sealingKey = Buffer.from(hkdfSync('sha256', key, '', 'ims webhook secret v1', 32));
  }

  /** The same id again (a repeated request) gets a new secret: the first answer was lost, and nobody knows the old one. */
  async create(vendorId: VendorId, id: WebhookId, settings: WebhookSettings): Promise<WebhookWithSecret> {
    this.check(settings);
    const { url, events, description, enabled } = storable(settings);
    const secret = randomBytes(SECRET_BYTES);
    const made = await this.database.query<Row>(
      `INSERT INTO webhooks (id, vendor_id, url, events, description, enabled, sealed_secret)
       SELECT $1, $2, $3, $4::text[], $5, $6, $7
       WHERE (SELECT count(*) FROM webhooks WHERE vendor_id = $2 AND id <> $1) < $8
       ON CONFLICT (id) DO UPDATE SET sealed_secret = excluded.sealed_secret WHERE webhooks.vendor_id = $2
       RETURNING ${COLUMNS}`,
      [id, vendorId, url, events, description, enabled, this.seal(id, secret), LIMITS.webhooksPerVendor],
    );
    const [row] = made;
    if (row === undefined) throw new ImsError('conflict', `there are ${LIMITS.webhooksPerVendor} webhooks already`);
    return { ...factsOf(row), secret: shown(secret) };
  }

  async list(vendorId: VendorId, query: { cursor?: string; limit?: number }): Promise<WebhookPage> {
    const [before] = decodeCursor(query.cursor, 1) ?? [];
    const limit = limitOf(query);
    const rows = await this.database.query<Row>(
      `SELECT ${COLUMNS} FROM webhooks WHERE vendor_id = $1 AND ($2::text IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`,
      [vendorId, before ?? null, limit + 1],
    );
    return pageOf(rows.map(factsOf), limit, ({ id }) => [id]);
  }

  async get(vendorId: VendorId, id: WebhookId): Promise<Webhook> {
    return factsOf(await this.row(vendorId, id));
  }

  /** Replaces the settings of the version that `isKnown` accepts. Turned on again it has a clean record. */
  async update(
    vendorId: VendorId,
    id: WebhookId,
    settings: WebhookSettings,
    isKnown: (now: Webhook) => boolean,
  ): Promise<Webhook> {
    const row = await this.row(vendorId, id);
    if (!isKnown(factsOf(row))) throw new ImsError('precondition_failed');
    this.check(settings);
    const { url, events, description, enabled } = storable(settings);
    const [changed] = await this.database.query<Row>(
      `UPDATE webhooks SET url = $4, events = $5, description = $6, enabled = $7, disabled_reason = NULL,
              failing_since = CASE WHEN $7 AND NOT enabled THEN NULL ELSE failing_since END, version = version + 1
       WHERE vendor_id = $1 AND id = $2 AND version = $3 RETURNING ${COLUMNS}`,
      [vendorId, id, row.version, url, events, description, enabled],
    );
    if (changed === undefined) throw new ImsError('precondition_failed');
    return factsOf(changed);
  }

  /** A new secret; the old one signs nothing from here on. */
  async rotate(vendorId: VendorId, id: WebhookId): Promise<WebhookWithSecret> {
    const secret = randomBytes(SECRET_BYTES);
    const [row] = await this.database.query<Row>(
      `UPDATE webhooks SET sealed_secret = $3, version = version + 1 WHERE vendor_id = $1 AND id = $2
       RETURNING ${COLUMNS}`,
      [vendorId, id, this.seal(id, secret)],
    );
    if (row === undefined) throw missing(id);
    return { ...factsOf(row), secret: shown(secret) };
  }

  /** Its deliveries go with it. */
  async remove(vendorId: VendorId, id: WebhookId): Promise<Webhook> {
    const [row] = await this.database.query<Row>(
      `DELETE FROM webhooks WHERE vendor_id = $1 AND id = $2 RETURNING ${COLUMNS}`,
      [vendorId, id],
    );
    if (row === undefined) throw missing(id);
    return factsOf(row);
  }

  /** The secret as the signing library wants it. Throws when it was sealed with another WEBHOOK_KEY. */
  unseal(id: WebhookId, stored: Buffer): string {
    const decipher = createDecipheriv('aes-256-gcm', this.sealingKey, stored.subarray(0, NONCE_BYTES), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(Buffer.from(id));
    decipher.setAuthTag(stored.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
    return shown(Buffer.concat([decipher.update(stored.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]));
  }

  /** Bound to its webhook, so a row that was copied to another one cannot be opened there. */
  private seal(id: WebhookId, secret: Buffer): Buffer {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv('aes-256-gcm', this.sealingKey, nonce);
    cipher.setAAD(Buffer.from(id));
    const sealed = Buffer.concat([cipher.update(secret), cipher.final()]);
    return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
  }

  private check({ url, events }: WebhookSettings): void {
    checkEndpoint(url, this.config.WEBHOOK_PRIVATE_ADDRESSES);
    const bad = (events ?? []).findIndex((filter) => !/^(\*|[a-z_]+\.(\*|[a-z_]+))$/.test(filter));
    if (bad < 0) return;
    const message = 'must be like job.failed, job.* or *';
    throw new ImsError('invalid_request', `/events/${bad} ${message}`, [{ pointer: `/events/${bad}`, message }]);
  }

  private async row(vendorId: VendorId, id: WebhookId): Promise<Row> {
    const [row] = await this.database.query<Row>(`SELECT ${COLUMNS} FROM webhooks WHERE vendor_id = $1 AND id = $2`, [
      vendorId,
      id,
    ]);
    if (row === undefined) throw missing(id);
    return row;
  }
}

/** With its defaults; a field that is null counts as one that is not there. */
const storable = ({ url, events, description, enabled }: WebhookSettings) => ({
  url: new URL(url).href,
  events: events ?? ['*'],
  description: storableText(description ?? '') || null,
  enabled: enabled ?? true,
});
const missing = (id: WebhookId): ImsError => new ImsError('not_found', `there is no webhook ${id}`);
const shown = (secret: Buffer): string => `whsec_${secret.toString('base64')}`;
const factsOf = (row: Row): Webhook => ({
  id: row.id,
  url: row.url,
  events: row.events,
  ...(row.description === null ? {} : { description: row.description }),
  enabled: row.enabled,
  ...(row.disabled_reason === null ? {} : { disabled_reason: row.disabled_reason }),
  ...(row.failing_since === null ? {} : { failing_since: row.failing_since.toISOString() }),
  created_at: row.created_at.toISOString(),
});
