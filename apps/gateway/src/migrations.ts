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

/** Roles and ends of keys, and the audit (access/audit.ts), which nobody may change or shorten. */
class RolesAndAudit1700000000003 implements MigrationInterface {
  readonly name = 'RolesAndAudit1700000000003';

  async up(runner: QueryRunner): Promise<void> {
    // Keys that were there before roles had every right.
    await runner.query(`
      ALTER TABLE api_keys
        ADD COLUMN name text NOT NULL DEFAULT 'first key',
        ADD COLUMN role text NOT NULL DEFAULT 'owner',
        ADD COLUMN created_by text NOT NULL DEFAULT 'operator',
        ADD COLUMN expires_at timestamptz,
        ADD COLUMN last_used_at timestamptz`);
    await runner.query(`
      CREATE TABLE audit (
        id text PRIMARY KEY,
        vendor_id text NOT NULL,
        at timestamptz NOT NULL DEFAULT now(),
        actor text NOT NULL,
        action text NOT NULL,
        method text NOT NULL,
        path text NOT NULL,
        status integer NOT NULL,
        code text,
        request_id text NOT NULL,
        ip text NOT NULL,
        user_agent text,
        request jsonb,
        before jsonb,
        after jsonb
      )`);
    await runner.query('CREATE INDEX audit_vendor ON audit (vendor_id, id DESC)');
    await runner.query(`
      CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'the audit is append-only'; END $$`);
    await runner.query(`
      CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
      FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE audit');
    await runner.query('DROP FUNCTION audit_is_append_only');
    await runner.query(`
      ALTER TABLE api_keys DROP COLUMN name, DROP COLUMN role, DROP COLUMN created_by, DROP COLUMN expires_at,
        DROP COLUMN last_used_at`);
  }
}

/** What all replicas count together (access/rate-limits.ts). Unlogged: a crash may forget it, and a write costs no sync. */
class RateLimits1700000000004 implements MigrationInterface {
  readonly name = 'RateLimits1700000000004';

  async up(runner: QueryRunner): Promise<void> {
    // The columns and their order are those that the library writes.
    await runner.query(`
      CREATE UNLOGGED TABLE rate_limits (
        key varchar(255) PRIMARY KEY,
        points integer NOT NULL DEFAULT 0,
        expire bigint
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE rate_limits');
  }
}

/** Webhooks and what is on its way to them (webhooks/deliveries.ts). */
class Webhooks1700000000005 implements MigrationInterface {
  readonly name = 'Webhooks1700000000005';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE webhooks (
        id text PRIMARY KEY,
        vendor_id text NOT NULL,
        url text NOT NULL,
        events text[] NOT NULL,
        description text,
        enabled boolean NOT NULL,
        disabled_reason text,
        failing_since timestamptz,
        sealed_secret bytea NOT NULL,
        version integer NOT NULL DEFAULT 1,
        created_at timestamptz NOT NULL DEFAULT now()
      )`);
    await runner.query('CREATE INDEX webhooks_vendor ON webhooks (vendor_id, id DESC)');
    // attempts: all, the fence; tries: since it was last asked for, the place in the schedule.
    await runner.query(`
      CREATE TABLE webhook_deliveries (
        id text PRIMARY KEY,
        webhook_id text NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
        vendor_id text NOT NULL,
        event_id text,
        event_type text NOT NULL,
        payload jsonb NOT NULL,
        status text NOT NULL DEFAULT 'pending',
        attempts integer NOT NULL DEFAULT 0,
        tries integer NOT NULL DEFAULT 0,
        last_status integer,
        last_error text,
        next_attempt_at timestamptz,
        finished_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (webhook_id, event_id)
      )`);
    await runner.query(`
      CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_attempt_at) WHERE status = 'pending'`);
    await runner.query('CREATE INDEX webhook_deliveries_list ON webhook_deliveries (webhook_id, id DESC)');
    await runner.query('CREATE INDEX webhook_deliveries_age ON webhook_deliveries (finished_at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE webhook_deliveries');
    await runner.query('DROP TABLE webhooks');
  }
}

export const MIGRATIONS = [
  KeysAndIdempotency1700000000001,
  PageSessions1700000000002,
  RolesAndAudit1700000000003,
  RateLimits1700000000004,
  Webhooks1700000000005,
];
