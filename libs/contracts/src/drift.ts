import { ListInVendor, Page, toScheduler } from './catalogue.js';
import { Flag, IdOf, ListOf, Nested, OneOf, Optional, Text, TextList, Time } from './fields.js';
import { type InstallId, type JobId } from './ids.js';
import { InstallComponent, InstallRef } from './installs.js';
import { JobPage } from './jobs.js';
import { LIMITS } from './limits.js';
import { HEALTHS, PlanSummary, type Health } from './plans.js';

/** A component of an install with what the last drift probe found. */
export class ComponentState extends InstallComponent {
  @Optional() @OneOf(HEALTHS) health?: Health;
  /** What is not healthy and why. */
  @Optional() @TextList(50, 500) reasons?: string[];
  @Optional() @Flag() drifted?: boolean;
  @Optional() @Nested(() => PlanSummary) difference?: PlanSummary;
  @Optional() @Time() observed_at?: string;
}
export class ComponentStatePage extends Page {
  @ListOf(() => ComponentState, LIMITS.componentsPerApp) data: ComponentState[];
}
/** A change of what probes found: kept when it differs from what was found before. */
export class Observation {
  @IdOf('job') job_id: JobId;
  @Text(1, 40) component: string;
  @OneOf(HEALTHS) health: Health;
  @TextList(50, 500) reasons: string[];
  @Flag() drifted: boolean;
  @Optional() @Nested(() => PlanSummary) difference?: PlanSummary;
  @Time() at: string;
}
export class ObservationPage extends Page {
  @ListOf(() => Observation, LIMITS.pageMax) data: Observation[];
}
export class ListObservations extends ListInVendor {
  @IdOf('install') install_id: InstallId;
  @Optional() @Text(1, 40) component?: string;
}
/** A probe of every component that is there; those that are being probed already are answered too. */
export const observeInstall = toScheduler('observe_install', InstallRef, JobPage);
export const listComponentStates = toScheduler('list_component_states', InstallRef, ComponentStatePage);
export const listObservations = toScheduler('list_observations', ListObservations, ObservationPage);
