import { ListInVendor, Page, PageQuery, toScheduler } from './catalogue.js';
import { IdOf, Int, ListOf, Name, OneOf, Optional, Text, Time } from './fields.js';
import { type AgentId, type AppId, type InstallId, type ReleaseId } from './ids.js';
import { PRESENCES } from './installs.js';
import { LIMITS } from './limits.js';

/**
 * An install in one word, the first that is true: a deployment goes on; a component failed; nothing is deployed; its
 * agent is not there, so nobody knows; all is as it was deployed.
 */
export const FLEET_HEALTHS = ['deploying', 'failed', 'absent', 'unknown', 'healthy'] as const;
export type FleetHealth = (typeof FLEET_HEALTHS)[number];

/** An install as a row among thousands: what one looks for, and nothing that grows. */
export class FleetInstall {
  @IdOf('install') id: InstallId;
  @Name() name: string;
  @IdOf('app') app_id: AppId;
  @Name() app_name: string;
  @IdOf('agent') agent_id: AgentId;
  @Optional() @IdOf('release') release_id?: ReleaseId;
  @Optional() @Text(1, 100) version?: string;
  /** Releases of the app that were made after the one that is deployed. */
  @Int(0, 1_000_000) behind: number;
  @OneOf(FLEET_HEALTHS) health: FleetHealth;
  @OneOf(PRESENCES) presence: (typeof PRESENCES)[number];
  @Optional() @Time() last_seen_at?: string;
}
export class FleetQuery extends PageQuery {
  /** A part of the install's name, its app's name or its version; or the install's id. */
  @Optional() @Text(1, 100) q?: string;
  @Optional() @OneOf(FLEET_HEALTHS) health?: FleetHealth;
  @Optional() @IdOf('app') app_id?: AppId;
}
export class ListFleet extends ListInVendor {
  @Optional() @Text(1, 100) q?: string;
  @Optional() @OneOf(FLEET_HEALTHS) health?: FleetHealth;
  @Optional() @IdOf('app') app_id?: AppId;
}
export class FleetPage extends Page {
  @ListOf(() => FleetInstall, LIMITS.pageMax) data: FleetInstall[];
}
export const listFleet = toScheduler('list_fleet', ListFleet, FleetPage);
