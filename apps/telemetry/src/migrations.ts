import { type MigrationInterface, type QueryRunner } from 'typeorm';

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

export const MIGRATIONS = [LogsFactsVitals1700000000001];
