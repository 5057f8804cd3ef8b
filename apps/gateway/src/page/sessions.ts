import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { LIMITS } from '#contracts';
import { Database } from '#persistence';
import { sha256 } from '../access/api-key.js';

/** `session`: what a browser's cookie holds. `code`: what a sign-in link holds, good for one session. */
type Kind = 'session' | 'code';
const LIFE_MS: Readonly<Record<Kind, number>> = { session: LIMITS.sessionMs, code: LIMITS.signInCodeMs };

interface Opened {
  readonly apiKey: string;
  readonly expiresAt: Date;
}

/** A session that was ended works for at most this long at another replica that has just used it. */
const CACHE_MS = 3_000;
const CACHE_ENTRIES = 1_000;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * The sessions of the web page. A browser holds a random token in a cookie; the row that it names holds the API key,
 * sealed with a key derived from the token. So a request of a session is in every respect a request with that API key
 * (what the key loses, the session loses at once), scripts of the page never see a key, and who has only the database
 * has neither tokens nor keys.
 */
@Injectable()
export class Sessions {
  private readonly cache = new Map<string, Opened & { readonly readAt: number }>();

  constructor(private readonly database: Database) {}

  /** Keeps an API key (proven by the caller) and answers the token that names it, the only time that it is known. */
  async open(kind: Kind, apiKey: string): Promise<{ token: string; expiresAt: Date }> {
    const token = randomBytes(32).toString('base64url');
    const expiresAt = new Date(Date.now() + LIFE_MS[kind]);
    await this.database.query('DELETE FROM page_sessions WHERE expires_at < now()');
    await this.database.query(
      'INSERT INTO page_sessions (token_hash, kind, sealed_key, expires_at) VALUES ($1, $2, $3, $4)',
      [sha256(token), kind, seal(token, apiKey), expiresAt],
    );
    return { token, expiresAt };
  }

  /** The API key behind a session's token; undefined when there is no such session, or no longer. */
  async find(token: string): Promise<Opened | undefined> {
    const cached = this.cache.get(token);
    if (cached !== undefined && performance.now() - cached.readAt < CACHE_MS && cached.expiresAt > new Date()) {
      return cached;
    }
    this.cache.delete(token);
    const rows = await this.database.query<{ sealed_key: Buffer; expires_at: Date }>(
      `SELECT sealed_key, expires_at FROM page_sessions
       WHERE token_hash = $1 AND kind = 'session' AND expires_at > now()`,
      [sha256(token)],
    );
    const row = rows[0];
    if (row === undefined) return undefined;
    if (this.cache.size >= CACHE_ENTRIES) this.cache.clear();
    const opened = { apiKey: unseal(token, row.sealed_key), expiresAt: row.expires_at };
    this.cache.set(token, { ...opened, readAt: performance.now() });
    return opened;
  }

  /** The API key behind the code of a sign-in link, which is spent with it: one statement decides between racers. */
  async redeem(code: string): Promise<string | undefined> {
    const rows = await this.database.query<{ sealed_key: Buffer }>(
      `WITH spent AS (
         DELETE FROM page_sessions WHERE token_hash = $1 AND kind = 'code' AND expires_at > now() RETURNING sealed_key
       ) SELECT sealed_key FROM spent`,
      [sha256(code)],
    );
    return rows[0] === undefined ? undefined : unseal(code, rows[0].sealed_key);
  }

  async end(token: string): Promise<void> {
    this.cache.delete(token);
    await this.database.query('DELETE FROM page_sessions WHERE token_hash = $1', [sha256(token)]);
  }
}

const sealingKey = (token: string): Buffer => Buffer.from(hkdfSync('sha256', token, '', 'ims page session v1', 32));

function seal(token: string, text: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', sealingKey(token), nonce);
  const sealed = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), sealed]);
}

function unseal(token: string, stored: Buffer): string {
  const nonce = stored.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', sealingKey(token), nonce, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(stored.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
  return Buffer.concat([decipher.update(stored.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]).toString('utf8');
}
