import { AppRef, ListInApp, ListInVendor, Page, Problem, toScheduler, VendorScope } from './catalogue.js';
import { Flag, IdOf, Int, Labels, ListOf, Name, Nested, OneOf, Optional, Text, Time } from './fields.js';
import {
  type AppId,
  type ChannelId,
  type DeploymentId,
  type InstallId,
  type ReleaseId,
  type RolloutId,
} from './ids.js';
import { LIMITS } from './limits.js';

// ---- rollouts: one release to many installs

/** Installs that are taken together: all whose labels have these texts. */
export class RolloutGroup {
  @Name() name: string;
  /** Empty: every install that no earlier group has taken. */
  @Labels() labels: Record<string, string>;
  /** How long the group is watched, after its last install has got the release, before the next group begins. */
  @Optional() @Int(0, 30 * 86_400) soak_seconds?: number;
}
/** How a release goes to many installs. */
export class RolloutStrategy {
  /** In this order; an install belongs to the first whose labels it has, and one that fits none is left out. Default: all. */
  @Optional() @ListOf(() => RolloutGroup, LIMITS.rolloutGroups) groups?: RolloutGroup[];
  /** At most so many installs are changed at the same time. Default 1. */
  @Optional() @Int(1, 1000) max_parallel?: number;
  /** The rollout stops when more installs than this have failed, or were unhealthy while they were watched. Default 0. */
  @Optional() @Int(0, 10_000) max_failures?: number;
  /** An install that cannot be reached, or is outside its window, for so long is left out for good. Default: never. */
  @Optional() @Int(60, 90 * 86_400) give_up_seconds?: number;
}
export class NewRollout extends RolloutStrategy {
  @IdOf('release') release_id: ReleaseId;
  /** Only installs of this channel. Default: all of the app. */
  @Optional() @IdOf('channel') channel_id?: ChannelId;
  /** Needed when installs have had a newer release. */
  @Optional() @Flag() rollback?: boolean;
}

/**
 * `paused` by a person, `stopped` by itself because of failures: in both no further install is begun, those that are
 * under way go on, and a person resumes or cancels.
 */
export const ROLLOUT_STATUSES = ['running', 'paused', 'stopped', 'succeeded', 'cancelled'] as const;
export type RolloutStatus = (typeof ROLLOUT_STATUSES)[number];
/**
 * `waiting`: its turn has come, and something keeps it back (see the reason); it is tried again behind the others.
 * `parked`: its deployment was begun and is held by its customer or an agent that is away; it takes no place meanwhile.
 */
export const ROLLOUT_INSTALL_STATUSES = [
  'pending',
  'waiting',
  'deploying',
  'parked',
  'succeeded',
  'failed',
  'skipped',
] as const;
export type RolloutInstallStatus = (typeof ROLLOUT_INSTALL_STATUSES)[number];

export const ROLLOUT_REASONS = [
  // of one install
  'agent_never_enrolled',
  'agent_offline',
  'agent_revoked',
  'customer_paused',
  'customer_window',
  'deployment_in_progress',
  'held',
  'up_to_date',
  'removed',
  'refused',
  'given_up',
  'unhealthy',
  // of the rollout
  'deploying',
  'soaking',
  'installs_waiting',
  'paused',
  'stopped',
] as const;
export type RolloutReasonCode = (typeof ROLLOUT_REASONS)[number];
/** Why a rollout, or an install in it, does not go on, and what would let it. */
export class RolloutReason {
  @OneOf(ROLLOUT_REASONS) code: RolloutReasonCode;
  @Text(0, 500) detail: string;
  @Text(0, 500) unblock: string;
  /** When it is looked at again at the latest, where that is known. */
  @Optional() @Time() until?: string;
}
export class RolloutInstall {
  @IdOf('install') install_id: InstallId;
  @Text(1, 40) name: string;
  @Text(1, 40) group: string;
  @OneOf(ROLLOUT_INSTALL_STATUSES) status: RolloutInstallStatus;
  @Optional() @Nested(() => RolloutReason) reason?: RolloutReason;
  @Optional() @IdOf('deployment') deployment_id?: DeploymentId;
  @Optional() @Nested(() => Problem) error?: Problem;
  @Time() updated_at: string;
}
export class RolloutCounts {
  @Int(0, 1_000_000) total: number;
  @Int(0, 1_000_000) pending: number;
  @Int(0, 1_000_000) waiting: number;
  @Int(0, 1_000_000) deploying: number;
  @Int(0, 1_000_000) parked: number;
  @Int(0, 1_000_000) succeeded: number;
  @Int(0, 1_000_000) failed: number;
  @Int(0, 1_000_000) skipped: number;
}
export class Rollout extends NewRollout {
  @IdOf('rollout') id: RolloutId;
  @IdOf('app') app_id: AppId;
  @Text(1, 100) version: string;
  @OneOf(ROLLOUT_STATUSES) status: RolloutStatus;
  /** The group that is on. */
  @Optional() @Text(1, 40) group?: string;
  @Nested(() => RolloutCounts) installs: RolloutCounts;
  @Optional() @Nested(() => RolloutReason) waiting_reason?: RolloutReason;
  @Time() created_at: string;
  @Optional() @Time() finished_at?: string;
}

// ---- channels: which release installs are meant to have

export class ChannelSettings {
  /** Every install of the channel gets the channel's release, by rollouts that follow `strategy`. */
  @Optional() @Flag() auto_deploy?: boolean;
  @Optional() @Nested(() => RolloutStrategy) strategy?: RolloutStrategy;
}
export class NewChannel extends ChannelSettings {
  @Name() name: string;
}
export class Channel extends NewChannel {
  @IdOf('channel') id: ChannelId;
  @IdOf('app') app_id: AppId;
  /** Promoted last, and not marked bad. */
  @Optional() @IdOf('release') release_id?: ReleaseId;
  @Optional() @Text(1, 100) version?: string;
  @Time() created_at: string;
}
export class Promotion {
  @IdOf('release') release_id: ReleaseId;
  /** Needed for a release that is older than the channel's. */
  @Optional() @Flag() rollback?: boolean;
}

// ---- calls

export class CreateChannel extends AppRef {
  @Nested(() => NewChannel) channel: NewChannel;
}
export class ChannelRef extends VendorScope {
  @IdOf('channel') channel_id: ChannelId;
}
export class UpdateChannel extends ChannelRef {
  @Nested(() => ChannelSettings) settings: ChannelSettings;
  /** `etagOf` the channel that the change was made on. */
  @Optional() @Text(1, 100) if_match?: string;
}
export class PromoteRelease extends ChannelRef {
  @Nested(() => Promotion) promotion: Promotion;
}
export class ChannelPage extends Page {
  @ListOf(() => Channel, LIMITS.pageMax) data: Channel[];
}

export class CreateRollout extends VendorScope {
  @Nested(() => NewRollout) rollout: NewRollout;
}
export class ListRollouts extends ListInVendor {
  @Optional() @IdOf('app') app_id?: AppId;
  @Optional() @OneOf(ROLLOUT_STATUSES) status?: RolloutStatus;
}
export class RolloutPage extends Page {
  @ListOf(() => Rollout, LIMITS.pageMax) data: Rollout[];
}
export class RolloutRef extends VendorScope {
  @IdOf('rollout') rollout_id: RolloutId;
}
export class ListRolloutInstalls extends ListInVendor {
  @IdOf('rollout') rollout_id: RolloutId;
  @Optional() @OneOf(ROLLOUT_INSTALL_STATUSES) status?: RolloutInstallStatus;
}
export class RolloutInstallPage extends Page {
  @ListOf(() => RolloutInstall, LIMITS.pageMax) data: RolloutInstall[];
}
/** Why, and for `resume` of a stopped one: what becomes of the installs that failed. */
export class RolloutChange {
  @Optional() @Text(0, 500) reason?: string;
  /** resume: installs that failed are tried again; otherwise they stay failed and are not counted any more. */
  @Optional() @Flag() retry_failed?: boolean;
}
export const ROLLOUT_VERBS = ['pause', 'resume', 'cancel'] as const;
export class ChangeRollout extends RolloutRef {
  @OneOf(ROLLOUT_VERBS) verb: (typeof ROLLOUT_VERBS)[number];
  @Nested(() => RolloutChange) change: RolloutChange;
}

export const createChannel = toScheduler('create_channel', CreateChannel, Channel);
export const listChannels = toScheduler('list_channels', ListInApp, ChannelPage);
export const getChannel = toScheduler('get_channel', ChannelRef, Channel);
export const updateChannel = toScheduler('update_channel', UpdateChannel, Channel);
export const promoteRelease = toScheduler('promote_release', PromoteRelease, Channel);
export const createRollout = toScheduler('create_rollout', CreateRollout, Rollout);
export const listRollouts = toScheduler('list_rollouts', ListRollouts, RolloutPage);
export const getRollout = toScheduler('get_rollout', RolloutRef, Rollout);
export const listRolloutInstalls = toScheduler('list_rollout_installs', ListRolloutInstalls, RolloutInstallPage);
export const changeRollout = toScheduler('change_rollout', ChangeRollout, Rollout);
