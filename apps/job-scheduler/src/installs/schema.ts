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
