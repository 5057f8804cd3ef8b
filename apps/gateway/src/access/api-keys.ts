import { Injectable } from '@nestjs/common';
import { type KeyId, type VendorId } from '#contracts';
import { Database } from '#persistence';
import { mintApiKey, sameSecret } from './api-key.js';

interface StoredKey {
  readonly vendorId: VendorId;
  readonly secretHash: Buffer;
  readonly revoked: boolean;
  readonly readAt: number;
}

/** A revoked key works for at most this long at a replica that has just used it. */
const CACHE_MS = 3_000;
const CACHE_ENTRIES = 10_000;

/** The API keys of vendors: hashes only. */
@Injectable()
export class ApiKeys {
  private readonly cache = new Map<KeyId, StoredKey>();

  constructor(private readonly database: Database) {}

  /**
   * Makes the key of an id and answers its text, the only time that it is known. The same id again replaces the
   * secret: a sign-up that was interrupted before its answer leaves no second, unknown key behind.
   */
  async create(id: KeyId, vendorId: VendorId): Promise<string> {
    const { text, secretHash } = mintApiKey(id);
    await this.database.query(
      `INSERT INTO api_keys (id, vendor_id, secret_hash) VALUES ($1, $2, $3)
       ON CONFLICT (id) DO UPDATE SET secret_hash = excluded.secret_hash WHERE api_keys.vendor_id = excluded.vendor_id`,
      [id, vendorId, secretHash],
    );
    this.cache.delete(id);
    return text;
  }

  /** The vendor whose key this is; undefined when the key is unknown, revoked, or the secret is another. */
  async vendorOf(id: KeyId, secret: string): Promise<VendorId | undefined> {
    const stored = this.cached(id) ?? (await this.read(id));
    if (stored === undefined || stored.revoked || !sameSecret(stored.secretHash, secret)) return undefined;
    return stored.vendorId;
  }

  private cached(id: KeyId): StoredKey | undefined {
    const stored = this.cache.get(id);
    return stored !== undefined && performance.now() - stored.readAt < CACHE_MS ? stored : undefined;
  }

  private async read(id: KeyId): Promise<StoredKey | undefined> {
    const rows = await this.database.query<{ vendor_id: VendorId; secret_hash: Buffer; revoked: boolean }>(
      'SELECT vendor_id, secret_hash, revoked_at IS NOT NULL AS revoked FROM api_keys WHERE id = $1',
      [id],
    );
    const row = rows[0];
    this.cache.delete(id);
    if (row === undefined) return undefined;
    if (this.cache.size >= CACHE_ENTRIES) this.cache.clear();
    const stored = {
      vendorId: row.vendor_id,
      secretHash: row.secret_hash,
      revoked: row.revoked,
      readAt: performance.now(),
    };
    this.cache.set(id, stored);
    return stored;
  }
}
