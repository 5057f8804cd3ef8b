import { Controller } from '@nestjs/common';
import {
  IdOf,
  ImsError,
  Int,
  Json,
  LIMITS,
  ListOf,
  OneOf,
  Optional,
  Page,
  PageQuery,
  Text,
  Time,
  type AuditId,
  type JsonObject,
  type KeyId,
} from '#contracts';
import { ApiKeys } from './access/api-keys.js';
import { Audit } from './access/audit.js';
import { ROLES, type Role } from './access/roles.js';
import { type Ask } from './edge/ask.js';
import { Route } from './edge/route.js';

// Keys and audit belong to this service alone, so their shapes are declared here.

export class NewApiKey {
  /** What it is for, e.g. `release pipeline`. */
  @Text(1, 100) name: string;
  @OneOf(ROLES) role: Role;
  /** Default: 90 days from now. */
  @Optional() @Time() expires_at?: string;
}
export class KeySummary {
  @IdOf('key') id: KeyId;
  @Text(1, 100) name: string;
  @OneOf(ROLES) role: Role;
  @Time() created_at: string;
  /** `operator`, or `key:<id>`. */
  @Text(1, 80) created_by: string;
  @Optional() @Time() expires_at?: string;
  @Optional() @Time() revoked_at?: string;
  /** To the minute. */
  @Optional() @Time() last_used_at?: string;
}
export class NewKeyShownOnce extends KeySummary {
  @Text(20, 200) api_key: string;
}
export class KeySummaryPage extends Page {
  @ListOf(() => KeySummary, LIMITS.pageMax) data: KeySummary[];
}
/** One change, or one that was refused. */
export class AuditRecord {
  @IdOf('audit') id: AuditId;
  @Time() at: string;
  /** `key:<id>` or `operator`. */
  @Text(1, 80) actor: string;
  /** Operation id, e.g. `createDeployment`. */
  @Text(1, 80) action: string;
  @Text(1, 10) method: string;
  @Text(1, 500) path: string;
  @Int(100, 599) status: number;
  @Optional() @Text(1, 60) code?: string;
  @Text(0, 80) request_id: string;
  @Text(1, 60) ip: string;
  @Optional() @Text(1, 200) user_agent?: string;
  /** What was asked for. */
  @Optional() @Json() request?: JsonObject;
  @Optional() @Json() before?: JsonObject;
  /** What it became; absent where the answer held a secret. */
  @Optional() @Json() after?: JsonObject;
}
export class AuditPage extends Page {
  @ListOf(() => AuditRecord, LIMITS.pageMax) data: AuditRecord[];
}
export class AuditQuery extends PageQuery {
  @Optional() @Text(1, 80) actor?: string;
  @Optional() @Text(1, 80) action?: string;
}

/** The keys of a vendor with their roles, and the record of what was done with them. */
@Controller()
export class KeysController {
  constructor(
    private readonly keys: ApiKeys,
    private readonly audit: Audit,
  ) {}

  @Route({
    method: 'POST',
    path: '/v1/api-keys',
    summary: 'Make an API key of a role, which ends by itself. It is shown once.',
    access: 'vendor',
    needs: 'administer',
    body: NewApiKey,
    reply: NewKeyShownOnce,
    status: 201,
    secret: true,
    location: ({ id }) => `/v1/api-keys/${id}`,
  })
  async createScopedApiKey(ask: Ask<NewApiKey>): Promise<NewKeyShownOnce> {
    const { name, role, expires_at: wanted } = ask.body;
    const expiresAt = wanted === undefined ? new Date(Date.now() + LIMITS.apiKeyMs) : new Date(wanted);
    if (expiresAt.getTime() <= Date.now()) {
      const message = 'must be in the future';
      throw new ImsError('invalid_request', `/expires_at ${message}`, [{ pointer: '/expires_at', message }]);
    }
    const id = ask.reserve('key');
    const createdBy = ask.caller.kind === 'vendor' ? `key:${ask.caller.keyId}` : ask.caller.kind;
    const text = await this.keys.create(id, ask.vendorId, { name, role, createdBy, expiresAt });
    return { ...(await this.keys.get(ask.vendorId, id)), api_key: text };
  }

  @Route({
    method: 'GET',
    path: '/v1/api-keys',
    summary: 'API keys of the vendor, newest first, ended ones too. Their secrets are nowhere.',
    access: 'vendor',
    query: PageQuery,
    reply: KeySummaryPage,
    status: 200,
  })
  listApiKeys(ask: Ask<object, PageQuery>): Promise<KeySummaryPage> {
    return this.keys.list(ask.vendorId, ask.query);
  }

  @Route({
    method: 'GET',
    path: '/v1/api-keys/{key_id}',
    summary: 'An API key: its role, its end, when it was used last.',
    access: 'vendor',
    reply: KeySummary,
    status: 200,
    etag: true,
  })
  getApiKey(ask: Ask): Promise<KeySummary> {
    return this.keys.get(ask.vendorId, ask.id('key'));
  }

  @Route({
    method: 'POST',
    path: '/v1/api-keys/{key_id}/revoke',
    summary: 'End an API key. It may work for 3 s more at a replica that has just used it.',
    access: 'vendor',
    needs: 'administer',
    reply: KeySummary,
    status: 200,
  })
  revokeApiKey(ask: Ask): Promise<KeySummary> {
    return this.keys.revoke(ask.vendorId, ask.id('key'));
  }

  @Route({
    method: 'GET',
    path: '/v1/audit',
    summary: 'Who changed what, from where, what it was and what it became; refusals too. Newest first, append-only.',
    access: 'vendor',
    query: AuditQuery,
    reply: AuditPage,
    status: 200,
  })
  async listAudit(ask: Ask<object, AuditQuery>): Promise<AuditPage> {
    const page = await this.audit.list(ask.vendorId, ask.query);
    return page as unknown as AuditPage;
  }
}
