import { type MigrationInterface, type QueryRunner } from 'typeorm';

export class PullTokens1700000000001 implements MigrationInterface {
  readonly name = 'PullTokens1700000000001';

  async up(runner: QueryRunner): Promise<void> {
    // secret_hash: HMAC, never the secret. redeem_request: with it and its own key the winner may ask again for a lost answer.
    await runner.query(`
      CREATE TABLE pull_tokens (
        id text PRIMARY KEY,
        vendor_id text NOT NULL,
        install_id text NOT NULL,
        deployment_id text,
        job_id text NOT NULL,
        attempt integer NOT NULL,
        agent_id text NOT NULL,
        agent_key text NOT NULL,
        repository text NOT NULL,
        digest text NOT NULL,
        secret_hash bytea NOT NULL,
        status text NOT NULL DEFAULT 'issued' CHECK (status IN ('issued', 'redeemed', 'expired', 'revoked')),
        issued_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL,
        redeemed_at timestamptz,
        redeem_request text
      )`);
    await runner.query('CREATE INDEX pull_tokens_install ON pull_tokens (vendor_id, install_id, id)');
    await runner.query('CREATE INDEX pull_tokens_job ON pull_tokens (job_id, attempt)');
    await runner.query(`CREATE INDEX pull_tokens_open ON pull_tokens (expires_at) WHERE status = 'issued'`);
    // One token of a job is open at a time, whatever races.
    await runner.query(`CREATE UNIQUE INDEX pull_tokens_one_open ON pull_tokens (job_id) WHERE status = 'issued'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE pull_tokens');
  }
}

export class Tampering1764000000000 implements MigrationInterface {
  readonly name = 'Tampering1764000000000';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE pull_tokens
        ADD COLUMN size_bytes bigint,
        ADD COLUMN tampered_at timestamptz,
        ADD COLUMN presentations integer NOT NULL DEFAULT 0`);
    // attempt: nothing is issued for it or an earlier one any more. told_at: the scheduler knows; without it, it is
    // told until it does. tampered_at in milliseconds: a JavaScript date has no more, and it is compared with one.
    await runner.query(`
      CREATE TABLE tampered_jobs (
        job_id text PRIMARY KEY,
        vendor_id text NOT NULL,
        attempt integer NOT NULL,
        detail text NOT NULL,
        tampered_at timestamptz NOT NULL DEFAULT date_trunc('milliseconds', clock_timestamp()),
        told_at timestamptz,
        next_at timestamptz NOT NULL DEFAULT now(),
        tries integer NOT NULL DEFAULT 0
      )`);
    await runner.query('CREATE INDEX tampered_jobs_untold ON tampered_jobs (next_at) WHERE told_at IS NULL');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE tampered_jobs');
    await runner.query(
      'ALTER TABLE pull_tokens DROP COLUMN size_bytes, DROP COLUMN tampered_at, DROP COLUMN presentations',
    );
  }
}

/** Attempts that are over while their signed statements are still valid. */
class EndedAttempts1764000000001 implements MigrationInterface {
  readonly name = 'EndedAttempts1764000000001';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE ended_attempts (
        job_id text PRIMARY KEY,
        attempt integer NOT NULL,
        ended_at timestamptz NOT NULL DEFAULT now()
      )`);
    await runner.query('CREATE INDEX ended_attempts_age ON ended_attempts (ended_at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE ended_attempts');
  }
}

export const MIGRATIONS = [PullTokens1700000000001, Tampering1764000000000, EndedAttempts1764000000001];
