import { typeidUnboxed } from 'typeid-js';

/** Every kind of thing that has an id, and the prefix of that id. */
export const ID_PREFIX = {
  vendor: 'ven',
  app: 'app',
  component: 'cmp',
  build: 'bld',
  release: 'rel',
  install: 'ins',
  deployment: 'dep',
  job: 'job',
  agent: 'agt',
  token: 'tok',
  event: 'evt',
  key: 'key',
  audit: 'aud',
  channel: 'chn',
  rollout: 'rol',
  webhook: 'whk',
  delivery: 'whd',
  dead: 'ded',
} as const;

export type IdKind = keyof typeof ID_PREFIX;
/** A branded id: `job_01h455vb4pex5vsknk084sn02q`. Ids of two kinds do not mix at compile time. */
export type Id<K extends IdKind> = string & { readonly __kind?: K };

export type VendorId = Id<'vendor'>;
export type AppId = Id<'app'>;
export type ComponentId = Id<'component'>;
export type BuildId = Id<'build'>;
export type ReleaseId = Id<'release'>;
export type InstallId = Id<'install'>;
export type DeploymentId = Id<'deployment'>;
export type JobId = Id<'job'>;
export type AgentId = Id<'agent'>;
export type TokenId = Id<'token'>;
export type EventId = Id<'event'>;
export type KeyId = Id<'key'>;
export type AuditId = Id<'audit'>;
export type ChannelId = Id<'channel'>;
export type RolloutId = Id<'rollout'>;
export type WebhookId = Id<'webhook'>;
export type DeliveryId = Id<'delivery'>;
export type DeadLetterId = Id<'dead'>;

/** A new id: typed prefix + UUIDv7 in base32 (the TypeID specification), so ids sort by creation time. */
export function newId<K extends IdKind>(kind: K): Id<K> {
  return typeidUnboxed(ID_PREFIX[kind]);
}

/**
 * The form of an id of one kind. Nothing but `[a-z0-9_]`: ids become tokens of NATS subjects and tags of user JWTs,
 * where a `*`, a `.` or a blank would widen a permission.
 */
export function idPattern(kind: IdKind): RegExp {
  return new RegExp(`^${ID_PREFIX[kind]}_[0-7][0-9a-hjkmnp-tv-z]{25}$`);
}

/** True when the text is a well-formed id of that kind. Says nothing about whether it exists. */
export function isId<K extends IdKind>(kind: K, text: unknown): text is Id<K> {
  return typeof text === 'string' && idPattern(kind).test(text);
}
