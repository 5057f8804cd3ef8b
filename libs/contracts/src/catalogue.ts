import {
  Flag,
  IdOf,
  Int,
  Json,
  ListOf,
  Name,
  Nested,
  OneOf,
  Optional,
  Text,
  TextList,
  Time,
  Digest,
  type JsonObject,
} from './fields.js';
import { LIMITS } from './limits.js';
import { AGENT_KINDS, call, type AgentKind, type Call } from './message.js';
import { type Class } from './fields.js';
import {
  type AgentId,
  type AppId,
  type BuildId,
  type ComponentId,
  type JobId,
  type KeyId,
  type ReleaseId,
  type TokenId,
  type VendorId,
} from './ids.js';

export const COMPONENT_KINDS = [
  'container-image',
  'external-image',
  'helm-chart',
  'terraform-module',
  'kubernetes-manifests',
  'job',
] as const;
export type ComponentKind = (typeof COMPONENT_KINDS)[number];

/** Where the source of a component is: a git URL, or a path on the build agent's host, at a ref, in a directory. */
export class SourceRef {
  /** https://, ssh://, file:// URL of a git repository, or an absolute path (a git repository or a plain folder). */
  @Text(1, 500) url: string;
  /** Branch, tag, commit, or `semver:` and a range, which is the newest tag in it; default HEAD. What was built is recorded. */
  @Optional() @Text(1, 200) ref?: string;
  @Optional() @Text(1, 300) directory?: string;
}

/** What a `job` component runs to completion. Text may have templates. */
export class RunSpec {
  /** Usually `{{ components.<name>.outputs.image }}`. */
  @Text(1, 500) image: string;
  @Optional() @TextList(50, 2000) command?: string[];
  @Optional() @TextList(100, 2000) args?: string[];
  @Optional() @Int(1, 86_400) timeout_seconds?: number;
}

export class ComponentSpec {
  @OneOf(COMPONENT_KINDS) kind: ComponentKind;
  @Optional() @Nested(() => SourceRef) source?: SourceRef;
  /** external-image: `host/repository@sha256:…` (or a tag, resolved to a digest at build). */
  @Optional() @Text(1, 500) image?: string;
  /** container-image: path in the source directory; default `Dockerfile`. */
  @Optional() @Text(1, 300) dockerfile?: string;
  /** Components that must be there first, by name. References in templates are added to these. */
  @Optional() @TextList(LIMITS.componentsPerApp, 40) depends_on?: string[];
  /** Terraform variables, Helm values, or the environment of a job; text may have templates. */
  @Optional() @Json() values?: JsonObject;
  @Optional() @Nested(() => RunSpec) run?: RunSpec;
  /** helm-chart, kubernetes-manifests, job: the namespace; default: the app's name. Made when missing. */
  @Optional() @Name() namespace?: string;
}

export class NewComponent extends ComponentSpec {
  @Name() name: string;
}
export class Component extends NewComponent {
  @IdOf('component') id: ComponentId;
  @IdOf('app') app_id: AppId;
  @Time() created_at: string;
}

export const INPUT_TYPES = ['string', 'number', 'boolean', 'list', 'enum', 'secret'] as const;
/** An input of an app, given for each install. */
export class InputDeclaration {
  @Text(1, 60) name: string;
  /** `list`: of strings. `enum`: one of `values`. `secret`: a text that never leaves the customer's account. */
  @OneOf(INPUT_TYPES) type: (typeof INPUT_TYPES)[number];
  @Optional() @Flag() required?: boolean;
  /** Of the input's type. */
  @Optional() default?: string | number | boolean | string[];
  /** enum: what may be chosen. */
  @Optional() @TextList(100, 200) values?: string[];
  /** string, secret: a regular expression that the whole text must match. */
  @Optional() @Text(1, 200) pattern?: string;
  /** Who gives it: the vendor with the install (the default), or the customer on its agent's host (all secrets). */
  @Optional() @OneOf(['vendor', 'customer']) set_by?: 'vendor' | 'customer';
  @Optional() @Text(0, 300) description?: string;
}

export class NewVendor {
  /** Also its namespace in the registry. */
  @Name() name: string;
}
export class Vendor extends NewVendor {
  @IdOf('vendor') id: VendorId;
  @Time() created_at: string;
}
export const APPROVAL_WHEN = ['never', 'on_change', 'on_delete', 'always'] as const;
export const APPROVAL_BY = ['vendor', 'customer', 'both'] as const;
/** Which plans need a yes before they are carried out, and whose. The customer may ask for its own besides. */
export class ApprovalPolicy {
  @OneOf(APPROVAL_WHEN) when: (typeof APPROVAL_WHEN)[number];
  /** Default `vendor`. */
  @Optional() @OneOf(APPROVAL_BY) by?: (typeof APPROVAL_BY)[number];
  /** So many different keys of the vendor must say yes. Default 1. */
  @Optional() @Int(1, 10) needed?: number;
  /** API keys whose word counts. Default: any of the vendor. */
  @Optional() @TextList(50, 40) approvers?: KeyId[];
  /** A yes that is older does not count. Default 24. */
  @Optional() @Int(1, 720) expires_hours?: number;
}
/** What a vendor may change on an app. */
export class AppSettings {
  /** Installs take a changed declaration with their next deployment. */
  @Optional() @ListOf(() => InputDeclaration, 100) inputs?: InputDeclaration[];
  /** For installs that have none of their own. */
  @Optional() @Nested(() => ApprovalPolicy) approval?: ApprovalPolicy;
}
export class NewApp extends AppSettings {
  @Name() name: string;
}
export class App extends NewApp {
  @IdOf('app') id: AppId;
  @Time() created_at: string;
}

export const BUILD_STATUSES = ['queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;
/** What the build agent made: an OCI manifest in the vendor's registry, known by digest for ever. */
export class Artifact {
  @Text(1, 200) repository: string;
  @Digest() digest: string;
  @Text(1, 200) media_type: string;
  @Int(0, Number.MAX_SAFE_INTEGER) size_bytes: number;
}
/** An image that a chart or a manifest names: copied by digest, and known by it from now on. */
export class VendoredImage {
  @Text(1, 500) name: string;
  @Digest() digest: string;
}
export class NewBuilds {
  /** Names of components; default: all of the app. */
  @Optional() @TextList(LIMITS.componentsPerApp, 40) components?: string[];
}
/** Why something failed, as a resource shows it. */
export class Problem {
  @Text(1, 60) code: string;
  @Text(0, 4000) detail: string;
}

export class Build {
  @IdOf('build') id: BuildId;
  @IdOf('app') app_id: AppId;
  @IdOf('component') component_id: ComponentId;
  @Text(1, 40) component_name: string;
  @IdOf('job') job_id: JobId;
  @OneOf(BUILD_STATUSES) status: (typeof BUILD_STATUSES)[number];
  /** Git commit, or `sha256:…` of the tree when the source is not a repository. */
  @Optional() @Text(1, 100) source_commit?: string;
  @Optional() @Nested(() => Artifact) artifact?: Artifact;
  @Optional() @Nested(() => Problem) error?: Problem;
  @Time() created_at: string;
  @Optional() @Time() finished_at?: string;
}

export class NewRelease {
  /** A semantic version: `1.4.0`, `2.0.0-rc.1`. Its order decides what is newer. */
  @Text(1, 40) version: string;
  /** Builds to take instead of the newest successful ones, at most one for a component. */
  @Optional() @TextList(LIMITS.componentsPerApp, 40) builds?: BuildId[];
  /** An install that is older must take this release before any newer one. */
  @Optional() @Flag() required?: boolean;
  /** The oldest version that an install which has had this release may go back to. */
  @Optional() @Text(1, 40) rollback_floor?: string;
}
/** Why nobody should get a release any more. */
export class BadRelease {
  @Text(1, 500) reason: string;
}
export class MarkedBad extends BadRelease {
  @Time() at: string;
}
export class ReleaseComponent extends ComponentSpec {
  @IdOf('component') component_id: ComponentId;
  @Name() name: string;
  @IdOf('build') build_id: BuildId;
  @Nested(() => Artifact) artifact: Artifact;
  @Text(1, 100) source_commit: string;
  /** Components that the built source names in templates. */
  @Optional() @TextList(LIMITS.componentsPerApp, 40) references?: string[];
}
/** An immutable set: one artifact digest for each component of an app. */
export class Release {
  @IdOf('release') id: ReleaseId;
  @IdOf('app') app_id: AppId;
  @Text(1, 100) version: string;
  @ListOf(() => ReleaseComponent, LIMITS.componentsPerApp) components: ReleaseComponent[];
  /** The app's inputs at the time: what an install needs to take this release. */
  @Optional() @ListOf(() => InputDeclaration, 100) inputs?: InputDeclaration[];
  @Optional() @Flag() required?: boolean;
  @Optional() @Text(1, 40) rollback_floor?: string;
  /** Set: it is deployed nowhere any more but where it is already. */
  @Optional() @Nested(() => MarkedBad) bad?: MarkedBad;
  @Time() created_at: string;
}

/** The dedicated vendor account that sign-up answers. Secrets are shown here once and never again. */
export class RegistryNamespace {
  @Text(1, 300) url: string;
  @Text(1, 60) namespace: string;
}
export class EnrolmentToken {
  @IdOf('agent') agent_id: AgentId;
  /** Works once; only its hash is stored. */
  @Text(20, 200) token: string;
  @Time() expires_at: string;
  /** What to run on the agent's host. The token goes in by standard input, never as an argument. */
  @Text(1, 2000) command: string;
}
/** An enrolment token on its way to the scheduler: what it is known by, and not the token. See `mintEnrolmentToken`. */
export class EnrolmentVerifier {
  @IdOf('token') token_id: TokenId;
  @Digest() verifier: string;
}
/** What the scheduler says of an enrolment token that it has stored. */
export class EnrolmentTicket {
  @IdOf('agent') agent_id: AgentId;
  @OneOf(AGENT_KINDS) kind: AgentKind;
  @Time() expires_at: string;
}
export class VendorAccount {
  @Nested(() => Vendor) vendor: Vendor;
  @Text(20, 200) api_key: string;
  @Nested(() => RegistryNamespace) registry: RegistryNamespace;
  @Nested(() => EnrolmentToken) build_agent: EnrolmentToken;
}

// ---- calls to the job-scheduler about the catalogue

export class VendorScope {
  @IdOf('vendor') vendor_id: VendorId;
}
export class PageQuery {
  @Optional() @Int(1, LIMITS.pageMax) limit?: number;
  @Optional() @Text(1, 500) cursor?: string;
}
/** A page of a list: `next_cursor` is absent on the last one. */
export abstract class Page {
  @Optional() @Text(1, 500) next_cursor?: string;
}
export class ListInVendor extends PageQuery {
  @IdOf('vendor') vendor_id: VendorId;
}
export class ListInApp extends ListInVendor {
  @IdOf('app') app_id: AppId;
}
export class AppPage extends Page {
  @ListOf(() => App, LIMITS.pageMax) data: App[];
}
export class ComponentPage extends Page {
  @ListOf(() => Component, LIMITS.pageMax) data: Component[];
}
export class BuildPage extends Page {
  @ListOf(() => Build, LIMITS.pageMax) data: Build[];
}
export class ReleasePage extends Page {
  @ListOf(() => Release, LIMITS.pageMax) data: Release[];
}
export class CreateVendor {
  @Nested(() => NewVendor) vendor: NewVendor;
  /** The id to use, chosen by the caller: after a lost reply it tells its own vendor from another of the same name. */
  @Optional() @IdOf('vendor') vendor_id?: VendorId;
  /** Of the token that its build agent will enrol with. */
  @Nested(() => EnrolmentVerifier) enrolment: EnrolmentVerifier;
}
export class CreatedVendor {
  @Nested(() => Vendor) vendor: Vendor;
  @Nested(() => EnrolmentTicket) build_agent: EnrolmentTicket;
}
export class CreateApp extends VendorScope {
  @Nested(() => NewApp) app: NewApp;
}
export class AppRef extends VendorScope {
  @IdOf('app') app_id: AppId;
}
/** Replaces all settings. */
export class UpdateApp extends AppRef {
  @Nested(() => AppSettings) settings: AppSettings;
  /** `etagOf` the app that the change was made on. Not equal under the row lock: `precondition_failed`. */
  @Optional() @Text(1, 100) if_match?: string;
}
export class CreateComponent extends AppRef {
  @Nested(() => NewComponent) component: NewComponent;
}
export class ComponentRef extends VendorScope {
  @IdOf('component') component_id: ComponentId;
}
export class UpdateComponent extends ComponentRef {
  @Nested(() => ComponentSpec) spec: ComponentSpec;
  /** `etagOf` the component that the change was made on. Not equal under the row lock: `precondition_failed`. */
  @Optional() @Text(1, 100) if_match?: string;
}
export class CreateBuilds extends AppRef {
  @Nested(() => NewBuilds) builds: NewBuilds;
}
export class BuildRef extends VendorScope {
  @IdOf('build') build_id: BuildId;
}
export class CreateRelease extends AppRef {
  @Nested(() => NewRelease) release: NewRelease;
}
export class ReleaseRef extends VendorScope {
  @IdOf('release') release_id: ReleaseId;
}
/** Without `bad` the mark is taken back. */
export class MarkRelease extends ReleaseRef {
  @Optional() @Nested(() => BadRelease) bad?: BadRelease;
}

/** A call from the gateway to the job-scheduler. */
export const toScheduler = <B extends object, R extends object>(
  method: string,
  body: Class<B>,
  reply: Class<R>,
): Call<B, R> =>
  call({
    name: `scheduler.${method}`,
    version: 1,
    subject: `ims.v1.svc.job_scheduler.${method}`,
    body,
    reply,
    from: ['gateway'],
    servedBy: 'job-scheduler',
    timeoutMs: 10_000,
  });

export const createVendor = toScheduler('create_vendor', CreateVendor, CreatedVendor);
export const getVendor = toScheduler('get_vendor', VendorScope, Vendor);
export const createApp = toScheduler('create_app', CreateApp, App);
export const updateApp = toScheduler('update_app', UpdateApp, App);
export const listApps = toScheduler('list_apps', ListInVendor, AppPage);
export const getApp = toScheduler('get_app', AppRef, App);
export const createComponent = toScheduler('create_component', CreateComponent, Component);
export const updateComponent = toScheduler('update_component', UpdateComponent, Component);
export const listComponents = toScheduler('list_components', ListInApp, ComponentPage);
export const getComponent = toScheduler('get_component', ComponentRef, Component);
export const createBuilds = toScheduler('create_builds', CreateBuilds, BuildPage);
export const listBuilds = toScheduler('list_builds', ListInApp, BuildPage);
export const getBuild = toScheduler('get_build', BuildRef, Build);
export const createRelease = toScheduler('create_release', CreateRelease, Release);
export const listReleases = toScheduler('list_releases', ListInApp, ReleasePage);
export const getRelease = toScheduler('get_release', ReleaseRef, Release);
export const markRelease = toScheduler('mark_release', MarkRelease, Release);
