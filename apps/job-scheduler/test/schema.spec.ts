import { newId } from '#contracts';
import { openDataSource } from '#persistence';
import { freshDatabase } from '#stack';
import { MIGRATIONS } from '../src/schema.js';

describe('the schema', () => {
  it('of the first release is brought up to date with what is in it', async () => {
    const database = await freshDatabase();
    const url = await database.provisionService('job-scheduler');
    const [vendor, app, agent, component, job] = (['vendor', 'app', 'agent', 'component', 'job'] as const).map(newId);
    const old = await openDataSource({ service: 'job-scheduler', url, migrations: MIGRATIONS.slice(0, 1) });
    await old.query(`INSERT INTO vendors (id, name) VALUES ($1, 'acme')`, [vendor]);
    await old.query(`INSERT INTO agents (id, vendor_id, kind, presence) VALUES ($1, $2, 'install', 'offline')`, [
      agent,
      vendor,
    ]);
    await old.query(
      `INSERT INTO jobs (id, vendor_id, app_id, kind, status, attempt, agent_id, component_id, component_name, component_kind)
       VALUES ($1, $2, $3, 'apply', 'running', 1, $4, $5, 'db', 'terraform-module')`,
      [job, vendor, app, agent, component],
    );
    await old.query(
      `INSERT INTO attempts (job_id, number, agent_id, session_id, status) VALUES ($1, 1, $2, 's', 'running')`,
      [job, agent],
    );
    await old.destroy();

    const now = await openDataSource({ service: 'job-scheduler', url, migrations: MIGRATIONS });
    const rows: unknown = await now.query(
      `SELECT j.status, j.hold, t.policy_serial AS then, a.policy_serial AS now
       FROM jobs j JOIN attempts t ON t.job_id = j.id JOIN agents a ON a.id = j.agent_id`,
    );
    expect(rows).toEqual([{ status: 'running', hold: null, then: 0, now: 0 }]);
    await now.destroy();
    await database.drop();
  });
});
