import { type MigrationInterface, type QueryRunner } from 'typeorm';

/** What a release asks of those who get it, channels, labels of installs, and rollouts. */
export class Rollouts1700000000100 implements MigrationInterface {
  readonly name = 'Rollouts1700000000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE releases
        ADD COLUMN required boolean NOT NULL DEFAULT false,
        ADD COLUMN rollback_floor text,
        ADD COLUMN bad jsonb;
      CREATE TABLE channels (
        id text PRIMARY KEY,
        vendor_id text NOT NULL,
        app_id text NOT NULL REFERENCES apps,
        name text NOT NULL,
        auto_deploy boolean NOT NULL DEFAULT false,
        strategy jsonb,
        release_id text REFERENCES releases,
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (app_id, name)
      );
      CREATE INDEX channels_of_app ON channels (app_id, id);
      -- In order: where a channel goes back to when its release is marked bad.
      CREATE TABLE promotions (
        channel_id text NOT NULL REFERENCES channels,
        seq bigint GENERATED ALWAYS AS IDENTITY,
        release_id text NOT NULL REFERENCES releases,
        PRIMARY KEY (channel_id, seq)
      );
      ALTER TABLE installs
        ADD COLUMN labels jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN channel_id text REFERENCES channels;
      CREATE INDEX installs_of_app ON installs (app_id, id);
      CREATE INDEX installs_of_channel ON installs (channel_id, id) WHERE channel_id IS NOT NULL;
      CREATE TABLE rollouts (
        id text PRIMARY KEY,
        vendor_id text NOT NULL,
        app_id text NOT NULL REFERENCES apps,
        release_id text NOT NULL REFERENCES releases,
        channel_id text REFERENCES channels,
        -- Made for a channel that deploys by itself.
        auto boolean NOT NULL DEFAULT false,
        rollback boolean NOT NULL DEFAULT false,
        strategy jsonb NOT NULL,
        status text NOT NULL,
        group_index integer NOT NULL DEFAULT 0,
        soak_until timestamptz,
        forgiven integer NOT NULL DEFAULT 0,
        reason jsonb,
        next_look_at timestamptz NOT NULL DEFAULT now(),
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz
      );
      CREATE INDEX rollouts_of_vendor ON rollouts (vendor_id, id);
      CREATE INDEX rollouts_open ON rollouts (app_id) WHERE finished_at IS NULL;
      CREATE INDEX rollouts_due ON rollouts (next_look_at) WHERE finished_at IS NULL;
      CREATE TABLE rollout_installs (
        rollout_id text NOT NULL REFERENCES rollouts,
        install_id text NOT NULL REFERENCES installs,
        group_index integer NOT NULL,
        status text NOT NULL DEFAULT 'pending',
        reason jsonb,
        waiting_since timestamptz,
        deployment_id text,
        error jsonb,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (rollout_id, install_id)
      );
      CREATE INDEX rollout_installs_of_install ON rollout_installs (install_id, rollout_id);
      ALTER TABLE deployments ADD COLUMN rollout_id text REFERENCES rollouts;`);
  }

  down(): Promise<void> {
    return Promise.reject(new Error('what was rolled out is kept'));
  }
}
