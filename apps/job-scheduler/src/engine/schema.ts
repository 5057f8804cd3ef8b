import { type MigrationInterface, type QueryRunner } from 'typeorm';

/** Holds of jobs, and the customer's policy that they come from. */
export class JobHolds1700000000020 implements MigrationInterface {
  readonly name = 'JobHolds1700000000020';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE agents
        ADD COLUMN policy jsonb,
        ADD COLUMN policy_digest text,
        -- How often the agent has reported its policy: what a hold is measured with, not with a clock.
        ADD COLUMN policy_serial bigint NOT NULL DEFAULT 0;
      -- The serial when the attempt was granted: whatever the agent decides in it, it decides after that report.
      ALTER TABLE attempts ADD COLUMN policy_serial bigint NOT NULL DEFAULT 0;
      ALTER TABLE jobs
        ADD COLUMN hold jsonb,
        ADD COLUMN hold_until timestamptz,
        -- A hold of the customer: the serial of the attempt that was deferred. Behind the agent's own: a report has come since, the agent looks again.
        ADD COLUMN hold_serial bigint;
      CREATE INDEX jobs_held ON jobs (agent_id) WHERE hold IS NOT NULL;`);
  }

  down(): Promise<void> {
    return Promise.reject(new Error('jobs that are held would be offered'));
  }
}

/** The trace in which a job was asked for: what its agent does, days later and after any crash, belongs to it. */
export class JobTraces1700000000045 implements MigrationInterface {
  readonly name = 'JobTraces1700000000045';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE jobs ADD COLUMN traceparent text;
      -- Few of a million: they are counted whenever the metrics are read.
      CREATE INDEX jobs_open ON jobs (status) WHERE status IN ('blocked', 'queued', 'running', 'cancelling')`);
  }
  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE jobs DROP COLUMN traceparent');
  }
}

/** What the latest attempt of a job would do. */
export class JobPlans1700000000040 implements MigrationInterface {
  readonly name = 'JobPlans1700000000040';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE job_plans (
        job_id text PRIMARY KEY REFERENCES jobs,
        attempt integer NOT NULL,
        plan jsonb NOT NULL,
        planned_at timestamptz NOT NULL DEFAULT now()
      );`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE job_plans');
  }
}

/** Order, locks and limits of what is queued; agents that take no jobs; work that people ask for. */
export class Scheduling1700000000140 implements MigrationInterface {
  readonly name = 'Scheduling1700000000140';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE agents
        -- Null: the default.
        ADD COLUMN slots integer,
        ADD COLUMN labels jsonb NOT NULL DEFAULT '{}',
        -- Null: it takes jobs.
        ADD COLUMN intake jsonb;
      CREATE INDEX agents_draining ON agents (id) WHERE intake->>'state' = 'draining';
      ALTER TABLE jobs
        ADD COLUMN key text,
        ADD COLUMN priority integer NOT NULL DEFAULT 0,
        -- The place in the queue (\`rankOf\` of the domain): when it was made, less what its priority is worth.
        ADD COLUMN rank timestamptz NOT NULL DEFAULT now(),
        ADD COLUMN expires_at timestamptz,
        ADD COLUMN allow_failure boolean NOT NULL DEFAULT false,
        ADD COLUMN waived boolean NOT NULL DEFAULT false,
        -- Both begin with the install (or vendor) that they count in.
        ADD COLUMN singleton text,
        ADD COLUMN lock text;
      UPDATE jobs SET rank = created_at;
      UPDATE jobs SET lock = install_id || '/component:' || component_name WHERE kind IN ('apply', 'destroy');
      CREATE INDEX jobs_in_queue ON jobs (agent_id, rank) WHERE status = 'queued';
      CREATE INDEX jobs_of_lock ON jobs (lock) WHERE status = 'queued' AND lock IS NOT NULL;
      CREATE INDEX jobs_expiring ON jobs (expires_at)
        WHERE expires_at IS NOT NULL AND attempt = 0 AND status IN ('blocked', 'queued');
      -- The last line: of one singleton only one waits.
      CREATE UNIQUE INDEX jobs_singleton ON jobs (singleton)
        WHERE singleton IS NOT NULL AND attempt = 0 AND status IN ('blocked', 'queued');
      -- What an attempt has for itself; gone with the attempt, in the same transaction.
      CREATE TABLE locks (
        key text PRIMARY KEY,
        vendor_id text NOT NULL,
        install_id text,
        job_id text NOT NULL REFERENCES jobs,
        attempt integer NOT NULL,
        agent_id text NOT NULL,
        taken_at timestamptz NOT NULL DEFAULT now()
      );
      CREATE INDEX locks_of_job ON locks (job_id);
      CREATE INDEX locks_of_vendor ON locks (vendor_id, key);
      -- Attempts that run already have what they need.
      INSERT INTO locks (key, vendor_id, install_id, job_id, attempt, agent_id)
        SELECT j.lock, j.vendor_id, j.install_id, j.id, j.attempt, j.agent_id
        FROM jobs j JOIN leases l ON l.job_id = j.id WHERE j.lock IS NOT NULL ON CONFLICT DO NOTHING;
      -- A person has taken the lock of this attempt away: it is not renewed any more.
      ALTER TABLE leases ADD COLUMN unlocking boolean NOT NULL DEFAULT false;
      ALTER TABLE deployments ADD COLUMN retry_of text REFERENCES deployments;
      DROP INDEX deployments_one_at_a_time;
      CREATE UNIQUE INDEX deployments_one_at_a_time ON deployments (install_id)
        WHERE status IN ('running', 'cancelling') AND kind <> 'work';`);
  }

  down(): Promise<void> {
    return Promise.reject(new Error('jobs that wait for a lock would run together'));
  }
}

/** Messages that no service could take. */
export class DeadLetterTable1700000000150 implements MigrationInterface {
  readonly name = 'DeadLetterTable1700000000150';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE dead_letters (
        id text PRIMARY KEY,
        -- Sequence and time in the stream: a delivery that is repeated is no second row.
        message_id text NOT NULL UNIQUE,
        vendor_id text,
        status text NOT NULL DEFAULT 'open',
        service text NOT NULL,
        contract text NOT NULL,
        subject text NOT NULL,
        code text NOT NULL,
        cause text NOT NULL,
        agent_id text,
        job_id text,
        at timestamptz NOT NULL,
        payload bytea NOT NULL,
        settled_at timestamptz,
        settled_by text,
        note text
      );
      CREATE INDEX dead_letters_of_vendor ON dead_letters (vendor_id, id);`);
  }

  down(): Promise<void> {
    return Promise.reject(new Error('what could not be taken would be forgotten'));
  }
}
