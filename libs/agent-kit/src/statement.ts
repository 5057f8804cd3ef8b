import {
  ImsError,
  JobStatement,
  LIMITS,
  PAYLOAD_TYPES,
  openEnvelope,
  parse,
  type Enrolment,
  type Grant,
  type JobId,
} from '#contracts';
import { verifyNkey } from '#messaging';

export interface StatementExpectation {
  readonly jobId: JobId;
  readonly enrolment: Readonly<Enrolment>;
  readonly publicKey: string;
  /** The lowest attempt number that is not a replay. */
  readonly minAttempt: number;
  readonly now: Date;
}

/**
 * The statement of a grant, when everything in it is for this agent, now. Whoever only has the broker, or replays what
 * was said before, gets `statement_refused` with the reason. The keys are those that were pinned at enrolment.
 */
export function readStatement(grant: Grant, expected: StatementExpectation): JobStatement {
  const { enrolment } = expected;
  const signed = openEnvelope(grant.statement, PAYLOAD_TYPES.job, enrolment.job_keys, verifyNkey);
  let statement: JobStatement;
  try {
    statement = parse(JobStatement, signed, 'tolerant');
  } catch (error) {
    throw refused(`it has not the shape of a job statement: ${ImsError.of(error).detail}`);
  }
  const same = (what: string, said: unknown, wanted: unknown): void => {
    if (said !== wanted) throw refused(`its ${what} is ${String(said)}, expected ${String(wanted)}`);
  };
  same('job', statement.job_id, expected.jobId);
  same('attempt', statement.attempt, grant.attempt);
  same('agent', statement.agent_id, enrolment.agent_id);
  same('agent key', statement.agent_key, expected.publicKey);
  same('vendor', statement.vendor_id, enrolment.vendor_id);
  same('install', statement.install_id, enrolment.install_id);
  if (statement.attempt < expected.minAttempt) {
    throw refused(`attempt ${statement.attempt} was taken on before: this is a replay`);
  }
  // The customer's clock may be off by as much as registry-token tolerates.
  const late = expected.now.getTime() - Date.parse(statement.expires_at);
  if (late > LIMITS.requestSkewMs) {
    throw refused(`it expired at ${statement.expires_at}; the clock of this host says ${expected.now.toISOString()}`);
  }
  return statement;
}

const refused = (why: string): ImsError => new ImsError('statement_refused', `the job statement is refused: ${why}`);
