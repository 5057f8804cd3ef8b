import { Page, VendorScope, ListInVendor } from './catalogue.js';
import { Envelope } from './envelope.js';
import { ImsError } from './errors.js';
import { Digest, IdOf, Int, ListOf, Nested, OneOf, Optional, Text, Time } from './fields.js';
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
  /** Somebody presented it twice, late, elsewhere or with a wrong secret: its job is held. */
  @Optional() @Time() tampered_at?: string;
}
export class IssuedPullToken {
  @IdOf('token') token_id: TokenId;
  /** `<token id>.<secret>`: works once, in the agent's memory only. As user name and password: id and secret. */
  @Text(20, 200) token: string;
  @Time() expires_at: string;
}
/** A manifest of a plan with the exact bytes that its digest is made of. */
export class PlannedManifest {
  @Digest() digest: string;
  @Text(1, 200) media_type: string;
  /** At most 4 MiB of bytes. */
  @Text(1, 5_600_000) content_base64: string;
}
export class PlannedBlob {
  @Digest() digest: string;
  /** Gives the bytes to whoever holds it until the plan ends: as good as a credential, never in a log. */
  @Text(1, 8000) url: string;
}
/**
 * Everything that one artifact consists of, without a credential: its manifests (an index's children and what refers
 * to them included, so that the signature can be checked first), and a pre-signed URL for each blob.
 */
export class DownloadPlan {
  @Digest() digest: string;
  @ListOf(() => PlannedManifest, LIMITS.planManifests) manifests: PlannedManifest[];
  @ListOf(() => PlannedBlob, LIMITS.planBlobs) blobs: PlannedBlob[];
}

const ACCESS_KINDS = ['bearer', 'basic', 'download_plan'] as const;
/** What an exchange yields, for one repository: pull only, or pull and push for a build. `grantOf` reads it. */
export class RegistryAccess {
  @Text(1, 300) registry_url: string;
  @Text(1, 200) repository: string;
  /** Which of the fields below are set. Without it: `bearer`. */
  @Optional() @OneOf(ACCESS_KINDS) kind?: (typeof ACCESS_KINDS)[number];
  /** bearer: a registry JWT. */
  @Optional() @Text(1, 8000) registry_token?: string;
  /** basic: user name and password of the registry (ECR). */
  @Optional() @Text(1, 200) username?: string;
  @Optional() @Text(1, 8000) password?: string;
  /** download_plan: no credential at all, but one artifact. */
  @Optional() @Nested(() => DownloadPlan) plan?: DownloadPlan;
  /** From then on credential, or URLs, are of no use: ask for new ones. */
  @Time() expires_at: string;
}

export type RegistryGrant =
  | { readonly kind: 'bearer'; readonly token: string }
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | { readonly kind: 'download_plan'; readonly plan: DownloadPlan };

/** What an access holds, by its kind. `invalid_request` when it lacks what its kind needs. */
export function grantOf(access: RegistryAccess): RegistryGrant {
  const { kind = 'bearer', registry_token: token, username, password, plan } = access;
  switch (kind) {
    case 'bearer':
      if (token !== undefined) return { kind, token };
      break;
    case 'basic':
      if (username !== undefined && password !== undefined) return { kind, username, password };
      break;
    case 'download_plan':
      if (plan !== undefined) return { kind, plan };
      break;
  }
  throw new ImsError('invalid_request', `a registry access of kind ${kind} lacks what its kind needs`);
}

export class ListTokens extends ListInVendor {
  @IdOf('install') install_id: InstallId;
}
export class PullTokenPage extends Page {
  @ListOf(() => PullToken, LIMITS.pageMax) data: PullToken[];
}
export class PullTokenRef extends VendorScope {
  @IdOf('token') token_id: TokenId;
}
export class RevokeJobTokens extends VendorScope {
  @IdOf('job') job_id: JobId;
  /** It is over: its statement, and those of earlier ones, give no right any more, whoever holds them. */
  @Optional() @Int(1, 1_000_000) attempt?: number;
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
/** An attempt is over, or its job cancelled: every token of the job that is not redeemed ends. */
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
const forPeople = { version: 1, from: ['gateway'], servedBy: 'registry-token', timeoutMs: 5_000 } as const;
/** What became of one token. Looking burns nothing. */
export const getPullToken = call({
  ...forPeople,
  name: 'registry_token.get',
  subject: 'ims.v1.svc.registry_token.get',
  body: PullTokenRef,
  reply: PullToken,
});
/** A person ends a token that is not redeemed; `conflict` when it is: what it gave cannot be recalled, it ends by itself. */
export const revokePullToken = call({
  ...forPeople,
  name: 'registry_token.revoke_token',
  subject: 'ims.v1.svc.registry_token.revoke_token',
  body: PullTokenRef,
  reply: PullToken,
});
