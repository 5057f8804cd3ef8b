import { type MigrationInterface, type QueryRunner } from 'typeorm';
import { partitionSql } from './log-partitions.js';

export class LogsFactsVitals1700000000001 implements MigrationInterface {
  readonly name = 'LogsFactsVitals1700000000001';

  async up(runner: QueryRunner): Promise<void> {
    // A frame as the agent sent it. Its bounds are part of the key: an agent that lost its place after a crash cuts
    // the same lines into other frames, and which lines are new is decided when they are read.
    await runner.query(`
      CREATE TABLE log_chunks (
        job_id text NOT NULL,
        agent_id text NOT NULL,
        attempt integer NOT NULL,
        first_seq bigint NOT NULL,
        last_seq bigint NOT NULL,
        last boolean NOT NULL,
        lines jsonb NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (job_id, agent_id, attempt, first_seq, last_seq, last)
      )`);
    await runner.query(`
      CREATE TABLE facts (
        id text PRIMARY KEY,
        chain text NOT NULL,
        seq bigint NOT NULL,
        vendor_id text NOT NULL,
        install_id text,
        deployment_id text,
        job_id text,
        event jsonb NOT NULL,
        UNIQUE (chain, seq, id)
      )`);
    await runner.query('CREATE INDEX facts_vendor ON facts (vendor_id, id)');
    await runner.query('CREATE INDEX facts_install ON facts (install_id, id) WHERE install_id IS NOT NULL');
    await runner.query('CREATE INDEX facts_deployment ON facts (deployment_id, id) WHERE deployment_id IS NOT NULL');
    await runner.query('CREATE INDEX facts_job ON facts (job_id, id) WHERE job_id IS NOT NULL');
    await runner.query(`
      CREATE TABLE fact_chains (
        chain text PRIMARY KEY,
        last_seq bigint NOT NULL,
        facts bigint NOT NULL
      )`);
    await runner.query(`
      CREATE TABLE vitals (
        agent_id text NOT NULL,
        at timestamptz NOT NULL,
        vitals jsonb NOT NULL,
        PRIMARY KEY (agent_id, at)
      )`);
    await runner.query('CREATE INDEX vitals_age ON vitals (at)');
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE vitals, fact_chains, facts, log_chunks');
  }
}

/** Logs by day and time to live, so that they are deleted by dropping tables; a row per attempt that says where they are. */
export class LogPartitions1700000000002 implements MigrationInterface {
  readonly name = 'LogPartitions1700000000002';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- Whose an agent is: from the facts, which come from the services and not from the agent.
      CREATE TABLE agents (
        agent_id text PRIMARY KEY,
        vendor_id text NOT NULL,
        install_id text
      );
      INSERT INTO agents (agent_id, vendor_id, install_id)
        SELECT DISTINCT ON (event->>'agent_id') event->>'agent_id', vendor_id, install_id FROM facts
         WHERE event ? 'agent_id' ORDER BY event->>'agent_id', id DESC;
      CREATE TABLE retention (
        vendor_id text PRIMARY KEY,
        log_days integer NOT NULL
      );
      -- Chosen at the attempt's first frame: all its chunks lie in one partition, so reading it opens one table.
      CREATE TABLE log_attempts (
        job_id text NOT NULL,
        agent_id text NOT NULL,
        attempt integer NOT NULL,
        keep_days integer NOT NULL,
        day date NOT NULL,
        began_at timestamptz NOT NULL DEFAULT now(),
        first_at timestamptz,
        last_at timestamptz,
        lines bigint NOT NULL DEFAULT 0,
        bytes bigint NOT NULL DEFAULT 0,
        stored_bytes bigint NOT NULL DEFAULT 0,
        ended boolean NOT NULL DEFAULT false,
        PRIMARY KEY (job_id, agent_id, attempt)
      );
      CREATE INDEX log_attempts_agent ON log_attempts (agent_id, began_at DESC, job_id, attempt);
      CREATE INDEX log_attempts_place ON log_attempts (keep_days, day);
      ALTER TABLE log_chunks RENAME TO log_chunks_before;
      ALTER INDEX log_chunks_pkey RENAME TO log_chunks_before_pkey;
      CREATE TABLE log_chunks (
        job_id text NOT NULL,
        agent_id text NOT NULL,
        attempt integer NOT NULL,
        first_seq bigint NOT NULL,
        last_seq bigint NOT NULL,
        last boolean NOT NULL,
        keep_days integer NOT NULL,
        day date NOT NULL,
        -- Bit n: a line of level n is in it.
        levels smallint NOT NULL,
        first_at timestamptz,
        last_at timestamptz,
        bytes integer NOT NULL,
        hash text NOT NULL,
        prev text,
        received_at timestamptz NOT NULL DEFAULT now(),
        -- The frame as the agent sent it: JSON, or zlib of it.
        frame bytea STORAGE EXTERNAL NOT NULL,
        PRIMARY KEY (job_id, agent_id, attempt, first_seq, last_seq, last, keep_days, day)
      ) PARTITION BY RANGE (keep_days, day);
      INSERT INTO log_attempts (job_id, agent_id, attempt, keep_days, day, began_at, first_at, last_at, lines, bytes, stored_bytes, ended)
        SELECT job_id, agent_id, attempt, 30, current_date, min(received_at), min(received_at), max(received_at),
               sum(last_seq - first_seq + 1), sum(octet_length(lines::text)), sum(octet_length(lines::text)), bool_or(last)
          FROM log_chunks_before GROUP BY job_id, agent_id, attempt;`);
    const [old] = (await runner.query('SELECT current_date::text AS day FROM log_chunks_before LIMIT 1')) as {
      day: string;
    }[];
    if (old !== undefined) {
      await runner.query(`
        ${partitionSql({ keepDays: 30, day: old.day })};
        INSERT INTO log_chunks (job_id, agent_id, attempt, first_seq, last_seq, last, keep_days, day, levels, first_at,
                                last_at, bytes, hash, received_at, frame)
          SELECT job_id, agent_id, attempt, first_seq, last_seq, last, 30, '${old.day}', 15, received_at, received_at,
                 octet_length(lines::text), '', received_at,
                 convert_to(jsonb_build_object('lines', lines)::text, 'UTF8')
            FROM log_chunks_before`);
    }
    await runner.query('DROP TABLE log_chunks_before');
  }

  down(): Promise<void> {
    return Promise.reject(new Error('compressed logs cannot be turned back into rows of JSON'));
  }
}

/** The order in which facts came, for readers that come back for more. */
export class FactsInOrder1700000000003 implements MigrationInterface {
  readonly name = 'FactsInOrder1700000000003';

  async up(runner: QueryRunner): Promise<void> {
    // A number alone is not the order of the commits: a reader could pass one that is not visible yet. With the
    // transaction's id it stops before the oldest that is still running.
    await runner.query(`
      ALTER TABLE facts
        ADD COLUMN position bigint GENERATED ALWAYS AS IDENTITY,
        ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
        ADD COLUMN trace_id text;
      CREATE INDEX facts_install_order ON facts (install_id, xid, position) WHERE install_id IS NOT NULL`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('ALTER TABLE facts DROP COLUMN position, DROP COLUMN xid, DROP COLUMN trace_id');
  }
}

export const MIGRATIONS = [LogsFactsVitals1700000000001, LogPartitions1700000000002, FactsInOrder1700000000003];
