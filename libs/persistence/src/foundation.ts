import { type MigrationInterface, type QueryRunner } from 'typeorm';

/** What every service's schema has: the outbox and its own hash-chained facts. Always the first migration. */
export class Foundation1700000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE outbox (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        subject text NOT NULL,
        headers jsonb NOT NULL,
        body text NOT NULL,
        message_id text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        attempts integer NOT NULL DEFAULT 0,
        next_at timestamptz NOT NULL DEFAULT now() + interval '1 second'
      );
      -- Rows live for milliseconds: with the default (20 % of the table) the dead ones would outnumber them by far.
      ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

      CREATE TABLE event_chains (
        chain text PRIMARY KEY,
        seq bigint NOT NULL,
        hash text NOT NULL
      ) WITH (fillfactor = 70);

      CREATE TABLE events (
        id text PRIMARY KEY,
        chain text NOT NULL,
        seq bigint NOT NULL,
        prev_hash text NOT NULL,
        hash text NOT NULL,
        type text NOT NULL,
        at timestamptz NOT NULL,
        vendor_id text NOT NULL,
        install_id text,
        deployment_id text,
        job_id text,
        agent_id text,
        actor text NOT NULL,
        data jsonb NOT NULL,
        UNIQUE (chain, seq)
      );
      CREATE FUNCTION events_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'events are append-only'; END $$;
      CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events
        FOR EACH STATEMENT EXECUTE FUNCTION events_append_only();
    `);
  }

  async down(): Promise<void> {
    return Promise.reject(new Error('facts are not dropped by a migration'));
  }
}
