import {
  ApplyOutcome,
  BuildOutcome,
  Hold,
  ImsError,
  ObserveOutcome,
  parse,
  SyncOutcome,
  type JobId,
  type JobResult,
  type JsonObject,
  type Problem,
} from '#contracts';
import { type Fault, type JobEvent } from '#domain';
import { storableJson, storableText, type NewEvent, type Tx } from '#persistence';
import { wire } from '../wire.js';
import { storeObservation } from './observations.js';
import { type JobRow } from './rows.js';

/** What a finished attempt left behind, checked against the shape of its kind. */
export type Outcome =
  | { readonly kind: 'build'; readonly outcome: BuildOutcome }
  | { readonly kind: 'sync'; readonly outcome: SyncOutcome }
  | { readonly kind: 'noop' }
  | { readonly kind: 'apply' | 'destroy'; readonly outcome: ApplyOutcome }
  | { readonly kind: 'observe'; readonly outcome: ObserveOutcome };

export interface ReadResult {
  readonly event: Extract<JobEvent, { type: 'result' }>;
  readonly outcome?: Outcome;
  readonly result: JsonObject;
}

/** What the job says that a result must fit. */
interface Expected {
  readonly repository?: string;
  readonly digest?: string;
}

/**
 * An agent's result as an event for the rules. A success whose content does not have the shape of its kind, or speaks
 * of another artifact than the job's, is a failure of the agent: it must not become a release or a deployed component.
 */
export function readResult(job: JobRow, body: JobResult, expected: Expected): ReadResult {
  const result = storableJson(body.result);
  const base = { type: 'result', attempt: body.attempt } as const;
  if (body.outcome === 'deferred') {
    const hold = holdOf(body.hold);
    const fault = { code: 'agent_error', detail: 'the agent deferred the job without a hold of its customer' };
    return { event: hold ? { ...base, outcome: 'deferred', hold } : { ...base, outcome: 'failed', fault }, result };
  }
  if (body.outcome !== 'succeeded') {
    const fault = faultOf(body.error);
    return { event: { ...base, outcome: body.outcome, ...(fault ? { fault } : {}) }, result };
  }
  try {
    return { event: { ...base, outcome: 'succeeded' }, outcome: outcomeOf(job, result, expected), result };
  } catch (error) {
    const { code, detail } = ImsError.of(error);
    const fault: Fault =
      code === 'digest_mismatch'
        ? { code, detail }
        : { code: 'agent_error', detail: `the agent's result is not valid: ${detail}` };
    return { event: { ...base, outcome: 'failed', fault }, result };
  }
}

/** A hold that an agent may set: its customer's, or the one that it was answered about its plan. */
function holdOf(hold: Hold | undefined): Hold | undefined {
  return hold && hold.code !== 'token_tampered'
    ? wire(Hold, { ...hold, detail: storableText(hold.detail) })
    : undefined;
}

function faultOf(error: Problem | undefined): Fault | undefined {
  return error && { code: storableText(error.code), detail: storableText(error.detail) };
}

function outcomeOf(job: JobRow, result: JsonObject, expected: Expected): Outcome {
  switch (job.kind) {
    case 'build': {
      const outcome = parse(BuildOutcome, result, 'tolerant');
      if (outcome.artifact.repository !== expected.repository) {
        throw new ImsError(
          'agent_error',
          `the artifact is in ${outcome.artifact.repository}, not ${expected.repository}`,
        );
      }
      return { kind: 'build', outcome };
    }
    case 'sync': {
      const outcome = parse(SyncOutcome, result, 'tolerant');
      if (expected.digest !== undefined && outcome.digest !== expected.digest) {
        throw new ImsError('digest_mismatch', `the agent stored ${outcome.digest}, not ${expected.digest}`);
      }
      return { kind: 'sync', outcome };
    }
    case 'apply':
    case 'destroy':
      return { kind: job.kind, outcome: parse(ApplyOutcome, result, 'tolerant') };
    case 'noop':
      return { kind: 'noop' };
    case 'observe':
      return { kind: 'observe', outcome: parse(ObserveOutcome, result, 'tolerant') };
  }
}

/** What is left of an attempt that has ended its job; without an outcome it did not succeed. */
export interface StoredOutcome {
  readonly job: JobRow;
  readonly outcome?: Outcome | undefined;
}

/**
 * Writes what attempts left behind, in the transaction that ends their jobs. An apply or destroy that was begun and did
 * not succeed leaves the component in a state that nobody knows: `failed` means "something may be there", so a teardown
 * takes it along. What was never begun changed nothing. Answers the facts that follow from it.
 */
export async function storeOutcomes(tx: Tx, left: readonly StoredOutcome[]): Promise<NewEvent[]> {
  const facts: NewEvent[] = [];
  const builds: object[] = [];
  const components: object[] = [];
  const begun = await begunAmong(tx, left);
  for (const { job, outcome } of left) {
    if (outcome?.kind === 'build') {
      const { artifact, source_commit, references } = outcome.outcome;
      builds.push({ id: job.build_id, artifact, source_commit, references });
    } else if (outcome?.kind === 'apply') {
      components.push(componentOf(job, 'deployed', outcome.outcome));
    } else if (outcome?.kind === 'destroy') {
      components.push(componentOf(job, 'removed'));
    } else if (outcome?.kind === 'observe') {
      facts.push(...(await storeObservation(tx, job, outcome.outcome)));
    } else if (begun.has(job.id)) {
      components.push(componentOf(job, 'failed'));
    }
  }
  if (builds.length > 0) {
    await tx.query(
      `UPDATE builds b SET artifact = r.artifact, source_commit = r.source_commit, "references" = r."references"
         FROM jsonb_to_recordset($1) AS r (id text, artifact jsonb, source_commit text, "references" jsonb)
        WHERE b.id = r.id AND b.artifact IS NULL`,
      [JSON.stringify(builds)],
    );
  }
  if (components.length > 0) await writeComponents(tx, components);
  return facts;
}

/** Of the applies and destroys that did not succeed those that were begun: attempts that were given back touched nothing. */
async function begunAmong(tx: Tx, left: readonly StoredOutcome[]): Promise<ReadonlySet<JobId>> {
  const failed = left.filter(
    ({ job, outcome }) => !outcome && job.attempt > 0 && (job.kind === 'apply' || job.kind === 'destroy'),
  );
  if (failed.length === 0) return new Set();
  const rows = await tx.query<{ job_id: JobId }>(
    `SELECT DISTINCT job_id FROM attempts WHERE job_id = ANY($1) AND status <> 'deferred'`,
    [failed.map(({ job }) => job.id)],
  );
  return new Set(rows.map(({ job_id }) => job_id));
}

function componentOf(job: JobRow, status: 'deployed' | 'failed' | 'removed', outcome?: ApplyOutcome): object {
  const { install_id, component_name: name, component_id, component_kind: kind, release_id } = job;
  const { outputs, sensitive_outputs } = outcome ?? {};
  return { install_id, name, component_id, kind, status, release_id, outputs, sensitive_outputs };
}

async function writeComponents(tx: Tx, components: readonly object[]): Promise<void> {
  await tx.query(
    `INSERT INTO install_components AS c
       (install_id, name, component_id, kind, status, release_id, outputs, sensitive_outputs, digest)
     SELECT r.install_id, r.name, r.component_id, r.kind, r.status, r.release_id, r.outputs, r.sensitive_outputs,
       (SELECT part->'artifact'->>'digest' FROM releases, jsonb_array_elements(components) part
        WHERE id = r.release_id AND part->>'name' = r.name)
       FROM jsonb_to_recordset($1) AS r (install_id text, name text, component_id text, kind text, status text,
         release_id text, outputs jsonb, sensitive_outputs text[])
     ON CONFLICT (install_id, name) DO UPDATE SET
       -- What a probe found before is no more true.
       health = NULL, reasons = NULL, drifted = NULL, difference = NULL, observed_at = NULL,
       component_id = EXCLUDED.component_id, kind = EXCLUDED.kind, status = EXCLUDED.status,
       release_id = EXCLUDED.release_id, updated_at = now(),
       -- After a failure the old outputs are still the best that is known; after a removal there are none.
       outputs = CASE EXCLUDED.status WHEN 'failed' THEN c.outputs ELSE EXCLUDED.outputs END,
       sensitive_outputs =
         CASE EXCLUDED.status WHEN 'failed' THEN c.sensitive_outputs ELSE EXCLUDED.sensitive_outputs END,
       digest = CASE EXCLUDED.status WHEN 'failed' THEN c.digest WHEN 'removed' THEN NULL ELSE EXCLUDED.digest END`,
    [JSON.stringify(components)],
  );
}
