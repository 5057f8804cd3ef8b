import { type Envelope, type JobKind, type JobStatement, type JsonObject } from '#contracts';
import { type LogLevel } from './log-shipper.js';
import { type ProposedPlan } from './policy-attempt.js';
import { type Command, type CommandResult } from './processes.js';

/** What an agent does for one kind of job. Status, time-outs, cancel, journal, logs and clean-up are the loop's. */
export interface JobHandler {
  readonly kind: JobKind;
  /** A step before the first effect proposes a plan. Without it the customer's policy cannot let the job wait for a yes. */
  readonly plans?: boolean;
  /** The same list for the same statement, after a restart too; names are unique and at most 40 characters long. */
  steps(job: JobStatement): readonly StepDefinition[] | Promise<readonly StepDefinition[]>;
  /** The body of a successful JobResult, from what the steps answered, by step name. */
  result(outputs: Readonly<Record<string, JsonObject>>): { readonly result: JsonObject };
}

export interface StepDefinition {
  readonly name: string;
  /**
   * Does it. What it answers is journalled, shown in the attempt and given to later steps: small, and never a secret.
   * After a crash in the middle it runs again with `context.crashed` set: it is idempotent, or looks first.
   * An ImsError fails the job with its code; anything else thrown is `agent_error`.
   */
  run(context: StepContext): Promise<JsonObject | undefined> | Promise<void>;
}

/** A command of a step. */
export interface StepCommand extends Pick<
  Command,
  'command' | 'args' | 'env' | 'stdin' | 'timeoutMs' | 'maxOutputBytes'
> {
  /** Default: the workspace. */
  readonly cwd?: string;
  /** Level of its lines in the log. Default `info`, for stderr too: most tools write their progress there. */
  readonly level?: LogLevel;
  /** Sees each line before it is logged (as the program wrote it); answers what to log instead, or undefined for nothing. */
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => string | undefined;
}

export interface StepContext {
  readonly statement: JobStatement;
  /** The statement as it was signed: what registry-token wants to see. */
  readonly envelope: Envelope;
  readonly attempt: number;
  /** A directory of this attempt alone; kept over a restart, removed when the attempt is over. */
  readonly workspace: string;
  /** Aborted on cancel, on the end of the lease and on shutdown; its reason is an ImsError. */
  readonly signal: AbortSignal;
  /** This step was started before, and the agent ended before the step did. */
  readonly crashed: boolean;
  /**
   * Values that must not be in any log; register one before it can be printed. In memory only: after a restart a step
   * registers again what it uses, also when an earlier step made it.
   */
  readonly secrets: {
    add(value: string): void;
    /** The text with each of them as `***`. */ hide(text: string): string;
  };
  log(level: LogLevel, text: string): void;
  /** Runs a program: its lines go to the log, its time is counted, its process group is journalled and ends with the step. */
  run(command: StepCommand): Promise<CommandResult>;
  /**
   * This step is a plan: the loop asks the customer's policy before it goes on to the next step, which does exactly this.
   * The text is for the customer's operator and stays on this host.
   */
  propose(plan: ProposedPlan): Promise<void>;
  /** What an earlier step of this attempt answered. */
  outputOf(step: string): JsonObject | undefined;
}
