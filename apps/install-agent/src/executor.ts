import { type StepContext } from '#agent-kit';
import { type Health, type JsonObject, type JsonValue } from '#contracts';
import { type Change } from '#domain';

export interface ExecutorContext {
  readonly step: StepContext;
  /** The artifact, unpacked; of this attempt. Images have none. */
  readonly artifactDir: string;
  /** Private files of this attempt: rendered values, plan files. */
  readonly workDir: string;
  /** Kept as long as the component is there: state, inventory. */
  readonly stateDir: string;
  /** Kept for all components, and only to be faster: discovery of the cluster, plugins of terraform. */
  readonly cacheDir: string;
  /** Images that came with the artifact: where they are in the install's registry, by the name that the artifact has for them. */
  readonly images: ReadonlyMap<string, string>;
  /** The artifact in the install's registry. */
  readonly image: { readonly host: string; readonly repository: string; readonly digest: string };
  readonly installId: string;
  readonly namespace: string;
  /** A look at what is there, beside which the component may be changed: no lock is taken, nothing that is kept is written. */
  readonly probe: boolean;
  /** Whether the artifact is in the install's registry. */
  readonly isStored: () => Promise<boolean>;
  /** Fills templates with inputs of the install and outputs of other components. */
  readonly render: (value: JsonValue) => JsonValue;
  /**
   * Digest of text that may hold secrets, under a key of this host: it goes to the outside, where a plain hash of a
   * short password could be found by trying.
   */
  readonly fingerprint: (text: string) => string;
}

/** What the customer is shown, and asked about, before it happens. */
export interface Proposal {
  /**
   * The same for the same change, over attempts and restarts, and another for any other change: a yes is bound to it.
   * What may hold secrets goes into it by `fingerprint`.
   */
  readonly identity: string;
  /** For the customer's operator to read; it stays on this host. */
  readonly text: string;
  /** The same for programs, and for the vendor. Values that are marked as hidden leave no executor's caller. */
  readonly changes: readonly Change[];
  /** True: only this agent's own files change, so that there is nothing to ask about. */
  readonly harmless?: boolean;
}

/** What an apply would do. */
export interface Plan extends Proposal {
  readonly changed: boolean;
  readonly created: number;
  readonly updated: number;
  readonly deleted: number;
  /** Of what was planned: apply takes exactly that. */
  readonly digest: string;
  /** False: what is there does not work (yet). An apply that changes nothing still has to wait for it. */
  readonly ready: boolean;
}

/** What a destroy would do. */
export interface RemovalPlan extends Proposal {
  readonly changed: boolean;
  readonly deleted: number;
}

export interface Observation {
  readonly outputs: JsonObject;
  readonly sensitive: readonly string[];
}

/** How what is deployed does, and what of it does not. */
export interface HealthReport {
  readonly health: Health;
  readonly reasons: readonly string[];
}

export interface Removal {
  readonly deleted: number;
  /** What was kept on purpose, or is not ours to remove. */
  readonly left: readonly string[];
}

export const NO_PLAN = {
  changed: false,
  created: 0,
  updated: 0,
  deleted: 0,
  ready: true,
  identity: '',
  text: 'no changes',
  changes: [],
} as const;

/**
 * How one kind of component is provisioned. Every method may run again after a crash in its middle. `plan` changes
 * nothing; `apply` does what the last plan of this attempt says and nothing else; `planDestroy` changes nothing and
 * comes before `destroy`, which leaves nothing behind.
 */
export interface Executor {
  /** Media type of the layer that is the artifact, and how it is packed; undefined for images. */
  readonly layer: { readonly mediaType: string; readonly form: 'zip' | 'tar+gzip' | 'file' } | undefined;
  /** Whether `destroy` has to read the artifact. What does not is removed although the registry has lost it. */
  destroyNeedsArtifact(stateDir: string): boolean;
  /** Renders what is needed and checks that it can work here. Changes nothing. */
  prepare(context: ExecutorContext): Promise<void>;
  plan(context: ExecutorContext): Promise<Plan>;
  /** Digest of what the plan left in the work directory, computed anew: `apply` takes it only when it is the same. */
  planned(context: ExecutorContext): Promise<string>;
  apply(context: ExecutorContext): Promise<void>;
  /** Waits until what is deployed does what it is for. */
  settle(context: ExecutorContext): Promise<void>;
  observe(context: ExecutorContext): Promise<Observation>;
  /** After `plan`: how what is there does. Changes nothing. */
  health(context: ExecutorContext): Promise<HealthReport>;
  planDestroy(context: ExecutorContext): Promise<RemovalPlan>;
  destroy(context: ExecutorContext): Promise<Removal>;
}

/** Rights in the cluster, as RBAC has them. */
export interface ClusterNeed {
  /** `*`: the kinds of objects that the component itself has, and no others. */
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly why: string;
}
/** What provisioning one kind of component takes from the customer's account: docs/reference/job-permissions.md. */
export interface Needs {
  readonly programs: readonly string[];
  readonly cluster: readonly ClusterNeed[];
  readonly cloud: string;
  /** Beside the component's directory and the attempt's workspace in the state directory. */
  readonly host: readonly string[];
}
