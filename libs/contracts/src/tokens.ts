import { Page, VendorScope, ListInVendor } from './catalogue.js';
import { Envelope } from './envelope.js';
import { Digest, IdOf, ListOf, Nested, OneOf, Optional, Text, Time } from './fields.js';
import { type InstallId, type JobId, type TokenId } from './ids.js';
import { LIMITS } from './limits.js';
import { call } from './message.js';

/**
 * What an agent sends to registry-token over HTTPS, inside an Envelope signed with its own key (payload type
 * `agentRequest`). HTTPS and not NATS, so that no token is ever in a message.
 */
export class AgentRequest {
  @OneOf(['issue_pull_token', 'redeem_pull_token', 'issue_push_token']) action:
    'issue_pull_token' | 'redeem_pull_token' | 'issue_push_token';
  /** The same id repeated within seconds is the same request, whose answer was lost. */
  @Text(8, 60) request_id: string;
  @Time() at: string;
  /** The signed job statement that this request is about; it names the only key that may ask. */
  @Optional() @Nested(() => Envelope) statement?: Envelope;
  /** redeem_pull_token: the one-time token. */
  @Optional() @Text(20, 200) token?: string;
}

export const TOKEN_STATUSES = ['issued', 'redeemed', 'expired', 'revoked'] as const;
/** A pull token as people see it; the secret is not part of it. */
export class PullToken {
  @IdOf('token') id: TokenId;
  @IdOf('install') install_id: InstallId;
  @IdOf('job') job_id: JobId;
  @OneOf(TOKEN_STATUSES) status: (typeof TOKEN_STATUSES)[number];
  @Text(1, 200) repository: string;
  @Digest() digest: string;
  @Time() issued_at: string;
  @Time() expires_at: string;
  @Optional() @Time() redeemed_at?: string;
}
export class IssuedPullToken {
  @IdOf('token') token_id: TokenId;
  /** `<token id>.<secret>`: works once, in the agent's memory only. As user name and password: id and secret. */
  @Text(20, 200) token: string;
  @Time() expires_at: string;
}
/** What an exchange yields: a registry JWT, for one repository, pull only (or push, for a build). */
export class RegistryAccess {
  @Text(1, 300) registry_url: string;
  @Text(1, 200) repository: string;
  @Text(1, 8000) registry_token: string;
  @Time() expires_at: string;
}

export class ListTokens extends ListInVendor {
  @IdOf('install') install_id: InstallId;
}
export class PullTokenPage extends Page {
  @ListOf(() => PullToken, LIMITS.pageMax) data: PullToken[];
}
export class RevokeJobTokens extends VendorScope {
  @IdOf('job') job_id: JobId;
}
export const listPullTokens = call({
  name: 'registry_token.list',
  version: 1,
  subject: 'ims.v1.svc.registry_token.list',
  body: ListTokens,
  reply: PullTokenPage,
  from: ['gateway'],
  servedBy: 'registry-token',
  timeoutMs: 5_000,
});
/** Ends every token of a job that is not redeemed: the job was cancelled or its attempt is over. */
export const revokeJobTokens = call({
  name: 'registry_token.revoke',
  version: 1,
  subject: 'ims.v1.svc.registry_token.revoke',
  body: RevokeJobTokens,
  reply: PullTokenPage,
  from: ['job-scheduler'],
  servedBy: 'registry-token',
  timeoutMs: 5_000,
});
