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
