import { Injectable } from '@nestjs/common';
import { ImsError, type KeyId, type VendorId } from '#contracts';
import { Database, decodeCursor, limitOf, pageOf, storableText } from '#persistence';
import { mintApiKey, sameSecret } from './api-key.js';
import { type Role } from './roles.js';

interface StoredKey {
  readonly vendorId: VendorId;
  readonly role: Role;
  readonly secretHash: Buffer;
  readonly revoked: boolean;
  readonly expiresAt: Date | null;
  readonly readAt: number;
}
interface KeyRow {
  readonly id: KeyId;
  readonly vendor_id: VendorId;
  readonly name: string;
  readonly role: Role;
  readonly created_at: Date;
  readonly created_by: string;
  readonly expires_at: Date | null;
  readonly revoked_at: Date | null;
  readonly last_used_at: Date | null;
}
/** A key as people see it, without its secret. */
export interface KeyFacts {
  readonly id: KeyId;
  readonly name: string;
  readonly role: Role;
  readonly created_at: string;
  readonly created_by: string;
  readonly expires_at?: string;
  readonly revoked_at?: string;
  readonly last_used_at?: string;
}
export interface KeyWish {
  readonly name: string;
  readonly role: Role;
  readonly createdBy: string;
  readonly expiresAt?: Date;
}
const FIRST_KEY: KeyWish = { name: 'first key', role: 'owner', createdBy: 'operator' };

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
  async create(id: KeyId, vendorId: VendorId, wish: KeyWish = FIRST_KEY): Promise<string> {
    const { text, secretHash } = mintApiKey(id);
    await this.database.query(
      `INSERT INTO api_keys (id, vendor_id, secret_hash, name, role, created_by, expires_at)
       VALUES ($1, $2, $3, $4, $5, $6, $7)
       ON CONFLICT (id) DO UPDATE SET secret_hash = excluded.secret_hash WHERE api_keys.vendor_id = excluded.vendor_id`,
      [id, vendorId, secretHash, storableText(wish.name), wish.role, wish.createdBy, wish.expiresAt ?? null],
    );
    this.cache.delete(id);
    return text;
  }

  /** Whose key this is and what it is for; undefined when it is unknown, has ended, or the secret is another. */
  async holderOf(id: KeyId, secret: string): Promise<{ vendorId: VendorId; role: Role } | undefined> {
    const stored = this.cached(id) ?? (await this.read(id));
    if (stored === undefined || stored.revoked || !sameSecret(stored.secretHash, secret)) return undefined;
    if (stored.expiresAt !== null && stored.expiresAt.getTime() <= Date.now()) return undefined;
    return { vendorId: stored.vendorId, role: stored.role };
  }

  /** The keys of a vendor, newest first, ended ones too. */
  async list(
    vendorId: VendorId,
    query: { cursor?: string; limit?: number },
  ): Promise<{ data: KeyFacts[]; next_cursor?: string }> {
    const [before] = decodeCursor(query.cursor, 1) ?? [];
    const limit = limitOf(query);
    const rows = await this.database.query<KeyRow>(
      `SELECT * FROM api_keys WHERE vendor_id = $1 AND ($2::text IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`,
      [vendorId, before ?? null, limit + 1],
    );
    return pageOf(rows.map(factsOf), limit, ({ id }) => [id]);
  }

  async get(vendorId: VendorId, id: KeyId): Promise<KeyFacts> {
    const rows = await this.database.query<KeyRow>('SELECT * FROM api_keys WHERE vendor_id = $1 AND id = $2', [
      vendorId,
      id,
    ]);
    const [row] = rows;
    if (row === undefined) throw new ImsError('not_found', `there is no key ${id}`);
    return factsOf(row);
  }

  /** Ends a key, once: the first time stands. `not_found` for a key of another vendor. */
  async revoke(vendorId: VendorId, id: KeyId): Promise<KeyFacts> {
    await this.database.query(
      'UPDATE api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE vendor_id = $1 AND id = $2',
      [vendorId, id],
    );
    this.cache.delete(id);
    return this.get(vendorId, id);
  }

  private cached(id: KeyId): StoredKey | undefined {
    const stored = this.cache.get(id);
    return stored !== undefined && performance.now() - stored.readAt < CACHE_MS ? stored : undefined;
  }

  /** Reads a key, and notes that it is used, to the minute: a write for each request would cost more than it tells. */
  private async read(id: KeyId): Promise<StoredKey | undefined> {
    const rows = await this.database.query<KeyRow & { secret_hash: Buffer; note_use: boolean }>(
      `SELECT *, last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS note_use
       FROM api_keys WHERE id = $1`,
      [id],
    );
    const row = rows[0];
    this.cache.delete(id);
    if (row === undefined) return undefined;
    if (row.note_use) await this.database.query('UPDATE api_keys SET last_used_at = now() WHERE id = $1', [id]);
    if (this.cache.size >= CACHE_ENTRIES) this.cache.clear();
    const stored = {
      vendorId: row.vendor_id,
      role: row.role,
      secretHash: row.secret_hash,
      revoked: row.revoked_at !== null,
      expiresAt: row.expires_at,
      readAt: performance.now(),
    };
    this.cache.set(id, stored);
    return stored;
  }
}

const factsOf = (row: KeyRow): KeyFacts => ({
  id: row.id,
  name: row.name,
  role: row.role,
  created_at: row.created_at.toISOString(),
  created_by: row.created_by,
  ...(row.expires_at === null ? {} : { expires_at: row.expires_at.toISOString() }),
  ...(row.revoked_at === null ? {} : { revoked_at: row.revoked_at.toISOString() }),
  ...(row.last_used_at === null ? {} : { last_used_at: row.last_used_at.toISOString() }),
});
