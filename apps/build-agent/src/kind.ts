import { type StepContext } from '#agent-kit';
import { type JsonObject } from '#contracts';
import { type Descriptor, type RegistryClient } from '#oci';

/** What the builder of a kind works with. Paths are absolute. */
export interface BuildContext {
  readonly step: StepContext;
  /** The component's source directory, when it has one. */
  readonly sourceDir: string;
  /** What `build` makes and `push` reads; kept over a restart of the agent. */
  readonly outDir: string;
}

export interface PushTarget {
  readonly client: RegistryClient;
  readonly repository: string;
}

/**
 * How one kind of component becomes an artifact. `build` checks the source and writes into `outDir`, the same bytes for
 * the same source; `push` stores that in the vendor's registry. Both may run again after a crash.
 */
export interface KindBuilder {
  /** Answers what people may want to know of the build: `digest` of what came from outside, `references` to components. */
  build(context: BuildContext): Promise<JsonObject>;
  push(context: BuildContext, target: PushTarget): Promise<Descriptor>;
}
