import { Injectable } from '@nestjs/common';
import { type FastifyRequest } from 'fastify';
import { newId, type JsonObject, type VendorId } from '#contracts';
import { createLogger, currentContext } from '#platform';
import { Database, decodeCursor, limitOf, pageOf, storableJson } from '#persistence';
import { type Caller } from '../edge/ask.js';

/** Of a body or an answer so much is kept. */
const MAX_BYTES = 16 * 1024;

export interface Deed {
  readonly caller: Caller;
  /** Operation id of the route. */
  readonly action: string;
  readonly status: number;
  /** Of a refusal. */
  readonly code?: string;
  /** The vendor that it is about, where the caller is the operator. */
  readonly vendorId?: VendorId;
  readonly before?: object;
  /** What it became; never of a route whose answer holds a secret. */
  readonly after?: object;
}
interface Row {
  readonly id: string;
  readonly at: Date;
  readonly actor: string;
  readonly action: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly code: string | null;
  readonly request_id: string;
  readonly ip: string;
  readonly user_agent: string | null;
  readonly request: JsonObject | null;
  readonly before: JsonObject | null;
  readonly after: JsonObject | null;
}

/** Who changed what, from where, what it was and what it became: rows that the database lets nobody change. */
@Injectable()
export class Audit {
  private readonly logger = createLogger('audit');

  constructor(private readonly database: Database) {}

  /** Keeps one deed. What is done is done: a database that is away here is told in the log, not to the caller. */
  async record(request: FastifyRequest, deed: Deed): Promise<void> {
    const vendorId = deed.caller.kind === 'vendor' ? deed.caller.vendorId : deed.vendorId;
    if (vendorId === undefined) return;
    const actor = deed.caller.kind === 'vendor' ? `key:${deed.caller.keyId}` : deed.caller.kind;
    const values = [
      newId('audit'),
      vendorId,
      actor,
      deed.action,
      request.method,
      request.url.slice(0, 500),
      deed.status,
      deed.code ?? null,
      currentContext()?.requestId ?? '',
      request.ip,
      request.headers['user-agent']?.slice(0, 200) ?? null,
      bounded(request.body),
      bounded(deed.before),
      bounded(deed.after),
    ];
    try {
      await this.database.query(
        `INSERT INTO audit (id, vendor_id, actor, action, method, path, status, code, request_id, ip, user_agent,
                            request, before, after)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
        values,
      );
    } catch (error) {
      this.logger.error({ err: error, actor, action: deed.action, status: deed.status }, 'a deed is not in the audit');
    }
  }

  /** Newest first. */
  async list(
    vendorId: VendorId,
    query: { cursor?: string; limit?: number; actor?: string; action?: string },
  ): Promise<{ data: JsonObject[]; next_cursor?: string }> {
    const [before] = decodeCursor(query.cursor, 1) ?? [];
    const limit = limitOf(query);
    const rows = await this.database.query<Row>(
      `SELECT id, at, actor, action, method, path, status, code, request_id, ip, user_agent, request, before, after
       FROM audit
       WHERE vendor_id = $1 AND ($2::text IS NULL OR id < $2) AND ($3::text IS NULL OR actor = $3)
         AND ($4::text IS NULL OR action = $4)
       ORDER BY id DESC LIMIT $5`,
      [vendorId, before ?? null, query.actor ?? null, query.action ?? null, limit + 1],
    );
    const page = pageOf(rows, limit, ({ id }) => [id]);
    return { ...page, data: page.data.map(plain) };
  }
}

/** JSON text of an object; of one that is too large its size alone. */
function bounded(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return null;
  try {
    // What PostgreSQL refuses to store is replaced, or such a text would keep a deed out of the audit.
    const text = JSON.stringify(storableJson(value as JsonObject));
    return text.length <= MAX_BYTES ? text : JSON.stringify({ omitted_bytes: text.length });
  } catch {
    return JSON.stringify({ omitted: 'nested too deeply' });
  }
}

const plain = (row: Row): JsonObject =>
  Object.fromEntries(Object.entries({ ...row, at: row.at.toISOString() }).filter(([, value]) => value !== null));
