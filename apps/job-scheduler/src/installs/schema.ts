import { type MigrationInterface, type QueryRunner } from 'typeorm';

/** Whether a person asked for an older release. */
export class Rollbacks1700000000030 implements MigrationInterface {
  readonly name = 'Rollbacks1700000000030';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE deployments ADD COLUMN rollback boolean NOT NULL DEFAULT false');
  }

  down(): Promise<void> {
    return Promise.reject(new Error('what people asked for is kept'));
  }
}

/** What a release needs of an install, and what each deployment was made with. */
export class ReleaseInputs1700000000120 implements MigrationInterface {
  readonly name = 'ReleaseInputs1700000000120';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE releases ADD COLUMN inputs jsonb;
      ALTER TABLE deployments ADD COLUMN inputs jsonb;`);
  }

  down(): Promise<void> {
    return Promise.reject(new Error('what was deployed is kept'));
  }
}

/** When drift is looked for and what probes have found. */
export class Observations1700000000130 implements MigrationInterface {
  readonly name = 'Observations1700000000130';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE installs
        ADD COLUMN observe jsonb,
        ADD COLUMN observe_at timestamptz,
        ADD COLUMN deprovisioned jsonb;
      CREATE INDEX installs_to_observe ON installs (observe_at) WHERE observe_at IS NOT NULL;
      CREATE INDEX jobs_observing ON jobs (install_id) WHERE kind = 'observe' AND finished_at IS NULL;
      ALTER TABLE install_components
        ADD COLUMN health text,
        ADD COLUMN reasons text[],
        ADD COLUMN drifted boolean,
        ADD COLUMN difference jsonb,
        ADD COLUMN observed_at timestamptz,
        -- The difference that a deployment was made for: not again for the same.
        ADD COLUMN fix_digest text;
      CREATE TABLE observations (
        job_id text PRIMARY KEY REFERENCES jobs,
        install_id text NOT NULL REFERENCES installs,
        component text NOT NULL,
        health text NOT NULL,
        reasons text[] NOT NULL,
        drifted boolean NOT NULL,
        difference jsonb,
        at timestamptz NOT NULL DEFAULT now()
      );
      CREATE INDEX observations_of_install ON observations (install_id, job_id);`);
  }

  down(): Promise<void> {
    return Promise.reject(new Error('what was found is kept'));
  }
}

/** Whose yes plans need, and who has said what to one. */
export class PlanApprovals1700000000110 implements MigrationInterface {
  readonly name = 'PlanApprovals1700000000110';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE apps ADD COLUMN approval jsonb;
      ALTER TABLE installs ADD COLUMN approval jsonb;
      CREATE TABLE plan_approvals (
        job_id text NOT NULL REFERENCES jobs,
        plan_digest text NOT NULL,
        actor text NOT NULL,
        decision text NOT NULL,
        note text,
        at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        PRIMARY KEY (job_id, plan_digest, actor)
      );`);
  }

  down(): Promise<void> {
    return Promise.reject(new Error('what people have said is kept'));
  }
}
