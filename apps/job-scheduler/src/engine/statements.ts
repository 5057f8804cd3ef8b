import { Injectable } from '@nestjs/common';
import {
  Artifact,
  Envelope,
  ImsError,
  InputDeclaration,
  JobComponent,
  JobStatement,
  LIMITS,
  parse,
  PAYLOAD_TYPES,
  signEnvelope,
  StatementRelease,
  type JobId,
  type JsonObject,
  type ReleaseComponent,
} from '#contracts';
import { isCustomerInput } from '#domain';
import { nkeyFromSeed, type NkeySigner } from '#messaging';
import { type Tx } from '#persistence';
import { SchedulerConfig } from '../config.js';
import { specOf } from '../catalogue/apps.js';
import { type Stored, type StoredSpec } from '../catalogue/entities.js';
import { iso, wire } from '../wire.js';
import { type StoredIntake } from './bars.js';
import { type JobRow } from './rows.js';

/** What is known beside a job: what its statement says, and who holds it. */
export interface JobFacts {
  readonly vendor_name: string;
  readonly app_name: string;
  readonly install_name: string | null;
  readonly inputs: JsonObject | null;
  readonly declared: InputDeclaration[] | null;
  readonly agent_key: string | null;
  readonly presence: string;
  readonly intake: StoredIntake | null;
  /** Who has the lock that the job needs. */
  readonly lock_holder: JobId | null;
  /** Of the component as it is now: what a `noop` speaks of. */
  readonly component_spec: StoredSpec | null;
  readonly build_spec: StoredSpec | null;
  readonly released: Stored<ReleaseComponent> | null;
  readonly version: string | null;
  readonly released_at: Date | null;
  readonly rollback: boolean | null;
  /** Of the running attempt, ended or not: until the sweep has taken it, nobody else has the job. */
  readonly lease:
    | { readonly attempt: number; readonly session_id: string; readonly granted_at: Date; readonly unlocking: boolean }
    | undefined;
}

interface FactsRow extends Omit<JobFacts, 'lease'> {
  readonly id: JobId;
  readonly lease_attempt: number | null;
  readonly session_id: string;
  readonly granted_at: Date;
  readonly unlocking: boolean;
}

/** The facts of jobs, in one round trip. */
export async function factsOf(tx: Tx, ids: readonly JobId[]): Promise<Map<JobId, JobFacts>> {
  const rows = await tx.query<FactsRow>(
    `SELECT j.id, v.name AS vendor_name, a.name AS app_name, g.public_key AS agent_key, g.presence, g.intake,
       k.job_id AS lock_holder, c.spec AS component_spec,
       i.name AS install_name, coalesce(d.inputs, (
         -- A probe compares with what was deployed, not with what the install was given since.
         SELECT l.inputs FROM deployments l WHERE j.kind = 'observe' AND l.install_id = j.install_id
           AND l.inputs IS NOT NULL ORDER BY l.id DESC LIMIT 1), i.inputs) AS inputs,
       coalesce(r.inputs, a.inputs) AS declared, b.spec AS build_spec, r.version, r.created_at AS released_at, d.rollback,
       (SELECT e FROM jsonb_array_elements(r.components) e WHERE e->>'name' = j.component_name) AS released,
       l.attempt AS lease_attempt, l.session_id, l.unlocking, t.granted_at
     FROM jobs j JOIN apps a ON a.id = j.app_id JOIN vendors v ON v.id = a.vendor_id JOIN agents g ON g.id = j.agent_id
       LEFT JOIN installs i ON i.id = j.install_id LEFT JOIN builds b ON b.id = j.build_id
       LEFT JOIN releases r ON r.id = j.release_id LEFT JOIN deployments d ON d.id = j.deployment_id
       LEFT JOIN components c ON c.id = j.component_id LEFT JOIN locks k ON k.key = j.lock
       LEFT JOIN leases l ON l.job_id = j.id LEFT JOIN attempts t ON t.job_id = l.job_id AND t.number = l.attempt
     WHERE j.id = ANY($1)`,
    [ids],
  );
  return new Map(
    rows.map(({ id, lease_attempt: attempt, session_id, granted_at, unlocking, ...facts }) => [
      id,
      { ...facts, lease: attempt === null ? undefined : { attempt, session_id, granted_at, unlocking } },
    ]),
  );
}

/** Where a component's artifacts are in the vendor's registry. */
export const repositoryOf = (vendor: string, app: string, component: string): string => `${vendor}/${app}/${component}`;

/** What a job is to do, signed: agents trust these keys and nothing that the broker says. */
@Injectable()
export class Statements {
  private readonly signer: NkeySigner;
  /** Public keys that agents shall trust. */
  readonly keys: readonly string[];
  /** By which agents that were enrolled with an older key learn a newer one. */
  readonly vouchers: readonly Envelope[];

  constructor(config: SchedulerConfig) {
    this.signer = nkeyFromSeed(config.JOB_SIGNING_SEED);
    this.keys = [...new Set([this.signer.publicKey, ...(config.JOB_KEYS_ALSO ?? [])])];
    this.vouchers = vouchersOf(config.JOB_KEY_VOUCHERS);
  }

  /** The statement of one attempt. The same `issuedAt` gives the same bytes. */
  sign(job: JobRow, facts: JobFacts, attempt: number, issuedAt: Date): Envelope {
    if (facts.agent_key === null) throw new ImsError('agent_revoked', `${job.agent_id} is not enrolled`);
    const noop = job.kind === 'noop' ? facts.component_spec : null;
    const spec = job.kind === 'build' ? facts.build_spec : (facts.released ?? noop);
    if (!spec) throw new ImsError('internal', `${job.id} has no spec`);
    const artifact = job.kind === 'build' ? undefined : facts.released?.artifact;
    const statement = wire(JobStatement, {
      job_id: job.id,
      attempt,
      kind: job.kind,
      vendor_id: job.vendor_id,
      agent_id: job.agent_id,
      agent_key: facts.agent_key,
      install_id: job.install_id,
      install_name: facts.install_name,
      deployment_id: job.deployment_id,
      build_id: job.build_id,
      app_name: facts.app_name,
      component: wire(JobComponent, { id: job.component_id, name: job.component_name, kind: job.component_kind }),
      spec: specOf(bare(spec)),
      repository: artifact?.repository ?? repositoryOf(facts.vendor_name, facts.app_name, job.component_name),
      artifact: artifact && wire(Artifact, artifact),
      release:
        job.release_id && facts.version && facts.released_at
          ? wire(StatementRelease, { id: job.release_id, version: facts.version, created_at: iso(facts.released_at) })
          : undefined,
      ...(facts.rollback === true ? { rollback: true } : {}),
      source_commit: facts.released?.source_commit,
      inputs: facts.inputs,
      customer_inputs: customerInputsOf(job, facts),
      issued_at: iso(issuedAt),
      expires_at: iso(new Date(issuedAt.getTime() + LIMITS.jobStatementMs)),
    });
    return signEnvelope(PAYLOAD_TYPES.job, statement, this.signer);
  }
}

/** Inputs of the release that the customer gives: the agent looks for their values on its host. */
function customerInputsOf({ install_id }: JobRow, { declared }: JobFacts): InputDeclaration[] | undefined {
  const own = install_id === null ? [] : (declared ?? []).filter(isCustomerInput);
  return own.length > 0 ? own.map((input) => wire(InputDeclaration, input)) : undefined;
}

/** What a result of this job must fit: the repository of a build, the digest of a sync. */
export function expectedOf(
  job: JobRow,
  { vendor_name, app_name, released }: JobFacts,
): { repository?: string; digest?: string } {
  if (job.kind !== 'build' && job.kind !== 'sync') return {};
  const repository = repositoryOf(vendor_name, app_name, job.component_name);
  return released ? { repository, digest: released.artifact.digest } : { repository };
}

/** The spec alone, without what a release adds to it. */
function bare(spec: StoredSpec): StoredSpec {
  const { kind, source, image, dockerfile, depends_on, values, run, namespace } = spec;
  const fields = { kind, source, image, dockerfile, depends_on, values, run, namespace };
  return JSON.parse(JSON.stringify(fields)) as StoredSpec;
}

/** Throws when the text is not a list of envelopes: the process must not start with half of a rotation. */
function vouchersOf(text: string | undefined): Envelope[] {
  if (text === undefined) return [];
  const list = JSON.parse(text) as object[];
  return list.map((each) => parse(Envelope, each, 'strict'));
}
