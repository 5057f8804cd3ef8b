import { type MigrationInterface, type QueryRunner } from 'typeorm';
import {
  JobHolds1700000000020,
  JobPlans1700000000040,
  JobTraces1700000000045,
  Scheduling1700000000140,
  DeadLetterTable1700000000150,
} from './engine/schema.js';
import {
  Observations1700000000130,
  PlanApprovals1700000000110,
  ReleaseInputs1700000000120,
  Rollbacks1700000000030,
} from './installs/schema.js';
import { Rollouts1700000000100 } from './rollouts/schema.js';

/** Every table of the job-scheduler. Each row carries its vendor: a foreign id is never found. */
export class SchedulerTables1700000000001 implements MigrationInterface {
  readonly name = 'SchedulerTables1700000000001';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(CATALOGUE);
    await runner.query(AGENTS);
    await runner.query(INSTALLS);
    await runner.query(ENGINE);
  }

  down(): Promise<void> {
    return Promise.reject(new Error('the tables hold the truth; restore a backup instead'));
  }
}

const CATALOGUE = `
  CREATE TABLE vendors (
    id text PRIMARY KEY,
    name text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE TABLE apps (
    id text PRIMARY KEY,
    vendor_id text NOT NULL REFERENCES vendors,
    name text NOT NULL,
    inputs jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (vendor_id, name)
  );
  CREATE INDEX apps_of_vendor ON apps (vendor_id, id);
  CREATE TABLE components (
    id text PRIMARY KEY,
    vendor_id text NOT NULL,
    app_id text NOT NULL REFERENCES apps,
    name text NOT NULL,
    spec jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app_id, name)
  );
  CREATE INDEX components_of_app ON components (app_id, id);
  CREATE TABLE builds (
    id text PRIMARY KEY,
    vendor_id text NOT NULL,
    app_id text NOT NULL REFERENCES apps,
    component_id text NOT NULL REFERENCES components,
    component_name text NOT NULL,
    job_id text NOT NULL,
    -- The spec at the time of the build: a component may change while its build waits.
    spec jsonb NOT NULL,
    -- Set when the job has succeeded, never before.
    source_commit text,
    artifact jsonb,
    "references" jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE INDEX builds_of_app ON builds (app_id, id);
  CREATE INDEX builds_of_component ON builds (component_id, id) WHERE artifact IS NOT NULL;
  CREATE TABLE releases (
    id text PRIMARY KEY,
    vendor_id text NOT NULL,
    app_id text NOT NULL REFERENCES apps,
    version text NOT NULL,
    components jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (app_id, version)
  );
  CREATE INDEX releases_of_app ON releases (app_id, id);`;

const AGENTS = `
  CREATE TABLE agents (
    id text PRIMARY KEY,
    vendor_id text NOT NULL REFERENCES vendors,
    kind text NOT NULL,
    install_id text,
    presence text NOT NULL DEFAULT 'never_enrolled',
    last_seen_at timestamptz,
    version text,
    public_key text,
    created_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE INDEX agents_of_vendor ON agents (vendor_id, id);
  CREATE INDEX agents_online ON agents (id) WHERE presence = 'online';
  CREATE TABLE enrolment_tokens (
    id text PRIMARY KEY,
    agent_id text NOT NULL REFERENCES agents,
    -- The verifier: hash of the hash of a secret with 256 random bits, so a slow hash would add nothing.
    secret_hash bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
  );
  CREATE INDEX enrolment_tokens_of_agent ON enrolment_tokens (agent_id);
  -- Public keys that the vendor's artifacts are signed with. Never removed: old artifacts stay valid.
  CREATE TABLE vendor_keys (
    vendor_id text NOT NULL REFERENCES vendors,
    public_key text NOT NULL,
    agent_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (vendor_id, public_key)
  );`;

const INSTALLS = `
  CREATE TABLE installs (
    id text PRIMARY KEY,
    vendor_id text NOT NULL,
    app_id text NOT NULL REFERENCES apps,
    name text NOT NULL,
    inputs jsonb NOT NULL,
    agent_id text NOT NULL REFERENCES agents,
    release_id text REFERENCES releases,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (vendor_id, name)
  );
  CREATE INDEX installs_of_vendor ON installs (vendor_id, id);
  CREATE TABLE install_components (
    install_id text NOT NULL REFERENCES installs,
    name text NOT NULL,
    component_id text NOT NULL,
    kind text NOT NULL,
    status text NOT NULL,
    digest text,
    -- The release whose component was applied last: what a teardown destroys.
    release_id text NOT NULL REFERENCES releases,
    outputs jsonb,
    sensitive_outputs text[],
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (install_id, name)
  );
  CREATE TABLE deployments (
    id text PRIMARY KEY,
    vendor_id text NOT NULL,
    install_id text NOT NULL REFERENCES installs,
    release_id text REFERENCES releases,
    kind text NOT NULL,
    status text NOT NULL,
    error jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
  );
  CREATE INDEX deployments_of_install ON deployments (install_id, id);
  CREATE UNIQUE INDEX deployments_one_at_a_time ON deployments (install_id) WHERE status IN ('running', 'cancelling');`;

const ENGINE = `
  CREATE TABLE jobs (
    id text PRIMARY KEY,
    vendor_id text NOT NULL,
    app_id text NOT NULL,
    kind text NOT NULL,
    status text NOT NULL,
    -- The fence: number of the latest attempt.
    attempt integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    agent_id text NOT NULL REFERENCES agents,
    install_id text,
    deployment_id text REFERENCES deployments,
    build_id text,
    release_id text,
    component_id text NOT NULL,
    component_name text NOT NULL,
    component_kind text NOT NULL,
    depends_on text[] NOT NULL DEFAULT '{}',
    -- Offers since the job was queued, and when the last was made. Null: to be made when not_before has passed.
    offers integer NOT NULL DEFAULT 0,
    offered_at timestamptz,
    not_before timestamptz,
    error jsonb,
    result jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    finished_at timestamptz
  ) WITH (fillfactor = 70);
  CREATE INDEX jobs_of_vendor ON jobs (vendor_id, id);
  CREATE INDEX jobs_of_deployment ON jobs (deployment_id, id) WHERE deployment_id IS NOT NULL;
  CREATE INDEX jobs_of_install ON jobs (install_id, id) WHERE install_id IS NOT NULL;
  CREATE INDEX jobs_queued ON jobs (agent_id, offered_at) WHERE status = 'queued';
  -- One row a running attempt, narrow and without an index on the time, so that a renewal is a heap-only update.
  CREATE TABLE leases (
    job_id text PRIMARY KEY REFERENCES jobs,
    attempt integer NOT NULL,
    agent_id text NOT NULL,
    session_id text NOT NULL,
    until timestamptz NOT NULL,
    cancelling boolean NOT NULL DEFAULT false,
    force boolean NOT NULL DEFAULT false,
    reason text NOT NULL DEFAULT ''
  ) WITH (fillfactor = 50);
  CREATE INDEX leases_of_agent ON leases (agent_id);
  ALTER TABLE leases SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
  CREATE TABLE attempts (
    job_id text NOT NULL REFERENCES jobs,
    number integer NOT NULL,
    agent_id text NOT NULL,
    session_id text NOT NULL,
    status text NOT NULL,
    error jsonb,
    granted_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    PRIMARY KEY (job_id, number)
  );
  CREATE UNIQUE INDEX attempts_one_at_a_time ON attempts (job_id) WHERE status = 'running';
  CREATE TABLE steps (
    job_id text NOT NULL,
    attempt integer NOT NULL,
    name text NOT NULL,
    status text NOT NULL,
    started_at timestamptz NOT NULL,
    duration_ms bigint,
    tool_ms bigint,
    detail jsonb,
    PRIMARY KEY (job_id, attempt, name),
    FOREIGN KEY (job_id, attempt) REFERENCES attempts (job_id, number)
  );`;

/** Keys that NATS has to refuse. Never removed: a revoked key is not taken again. */
export class RevokedKeys1700000000010 implements MigrationInterface {
  readonly name = 'RevokedKeys1700000000010';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE revoked_keys (
        public_key text PRIMARY KEY,
        agent_id text NOT NULL REFERENCES agents,
        revoked_at timestamptz NOT NULL DEFAULT now(),
        -- When NATS had taken it.
        pushed_at timestamptz
      );
      CREATE INDEX revoked_keys_open ON revoked_keys (public_key) WHERE pushed_at IS NULL;
      CREATE INDEX revoked_keys_recent ON revoked_keys (revoked_at);
      CREATE INDEX agents_of_key ON agents (public_key);
      INSERT INTO revoked_keys (public_key, agent_id)
        SELECT public_key, id FROM agents WHERE presence = 'revoked' AND public_key IS NOT NULL
        ON CONFLICT DO NOTHING;`);
  }

  down(): Promise<void> {
    return Promise.reject(new Error('a key that was revoked must not come back'));
  }
}

export const MIGRATIONS = [
  SchedulerTables1700000000001,
  RevokedKeys1700000000010,
  JobHolds1700000000020,
  Rollbacks1700000000030,
  JobPlans1700000000040,
  JobTraces1700000000045,
  Rollouts1700000000100,
  PlanApprovals1700000000110,
  ReleaseInputs1700000000120,
  Observations1700000000130,
  Scheduling1700000000140,
  DeadLetterTable1700000000150,
];
