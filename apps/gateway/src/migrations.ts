import { type MigrationInterface, type QueryRunner } from 'typeorm';

/** The only tables of this service. */
class KeysAndIdempotency1700000000001 implements MigrationInterface {
  readonly name = 'KeysAndIdempotency1700000000001';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE api_keys (
        id text PRIMARY KEY,
        vendor_id text NOT NULL,
        secret_hash bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        revoked_at timestamptz
      )`);
    await runner.query('CREATE INDEX api_keys_vendor ON api_keys (vendor_id)');
    // answer: encrypted (edge/idempotency.ts); null while the request runs, and after it failed.
    await runner.query(`
      CREATE TABLE idempotency (
        actor text NOT NULL,
        key_hash bytea NOT NULL,
        request_hash bytea NOT NULL,
        run integer NOT NULL DEFAULT 1,
        running_until timestamptz,
        id_suffix text NOT NULL,
        answer bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (actor, key_hash)
      )`);
    await runner.query('CREATE INDEX idempotency_age ON idempotency (created_at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE idempotency');
    await runner.query('DROP TABLE api_keys');
  }
}

/** Sessions of the web page, and codes of sign-in links (page/sessions.ts). */
class PageSessions1700000000002 implements MigrationInterface {
  readonly name = 'PageSessions1700000000002';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE page_sessions (
        token_hash bytea PRIMARY KEY,
        kind text NOT NULL,
        sealed_key bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        expires_at timestamptz NOT NULL
      )`);
    await runner.query('CREATE INDEX page_sessions_end ON page_sessions (expires_at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE page_sessions');
  }
}

export const MIGRATIONS = [KeysAndIdempotency1700000000001, PageSessions1700000000002];
