import { ApiError } from '#client';

/** What a script can tell from how the command ended. `ims help exit-codes` prints this table. */
export const EXIT = {
  ok: [0, 'done'],
  failed: [1, 'the job, or the check, failed'],
  usage: [2, 'wrong usage, or input that is refused; `plan --detailed-exitcode`: there are changes'],
  denied: [3, 'not signed in, or not allowed'],
  notFound: [4, 'there is no such thing'],
  conflict: [5, 'the state does not allow it now, or the plan is stale'],
  unavailable: [6, 'the service does not answer, or asks to slow down'],
  timedOut: [7, 'the time given by --timeout has passed; the work goes on'],
  waitsForApproval: [8, 'the work waits for somebody’s yes'],
  interrupted: [130, 'Ctrl-C; the work goes on'],
} as const satisfies Record<string, readonly [number, string]>;
type ExitName = keyof typeof EXIT;
export const codeOf = (name: ExitName): number => EXIT[name][0];

/** A failure that the user can do something about: what, and what to do next. */
export class CliError extends Error {
  override readonly name = 'CliError';

  constructor(
    readonly exit: ExitName,
    message: string,
    /** What to do next; one line each. */
    readonly next: readonly string[] = [],
    readonly requestId?: string,
  ) {
    super(message);
  }
}

const BY_STATUS: Readonly<Record<number, ExitName>> = {
  0: 'unavailable',
  401: 'denied',
  403: 'denied',
  404: 'notFound',
  409: 'conflict',
  412: 'conflict',
  428: 'conflict',
  429: 'unavailable',
};
/** For whoever sits at a terminal: the step after a code, as a command. Stands for what the API says, in its own words. */
const COMMANDS: Readonly<Record<string, string>> = {
  unauthenticated: 'ims login --url URL      (or set IMS_URL and IMS_API_KEY)',
  unreachable: 'Check the URL, and that the gateway is up:  ims doctor',
  nothing_built: 'ims build',
  deployment_in_progress: 'ims deployments INSTALL  (then wait for it, or: ims cancel DEPLOYMENT)',
  release_downgraded: 'ims rollback INSTALL VERSION',
};

/** Any thrown value as what is shown and how the command ends. */
export function explain(thrown: unknown): CliError {
  if (thrown instanceof CliError) return thrown;
  if (thrown instanceof ApiError) {
    const exit = BY_STATUS[thrown.status] ?? (thrown.status >= 500 ? 'unavailable' : 'usage');
    const command = COMMANDS[thrown.code];
    return new CliError(
      exit,
      `${thrown.code}: ${thrown.detail}`,
      [command ?? thrown.next].filter((line) => line !== ''),
      thrown.requestId,
    );
  }
  if (thrown instanceof Error) return new CliError('failed', thrown.message, []);
  return new CliError('failed', String(thrown), []);
}
