import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { inflateSync } from 'node:zlib';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect } from '@jest/globals';
import {
  type Agent,
  type App,
  type Attempt,
  type Deployment,
  type Event,
  type Install,
  type Job,
  type LogLine,
  type PullToken,
  type Release,
  type Vitals,
} from '#contracts';
import { findChainBreak } from '#persistence';
import { IMS_DATABASE, PROJECT_ROOT } from '#stack';
import { type Customer } from '../../deploy/local/agents.js';
import { type JobHistory } from '../../deploy/local/progress.js';
import { buildAll, declareProduct, deploy, installOf, shopProduct } from '../../deploy/local/shop.js';
import {
  ask,
  chapters,
  filesBelow,
  query,
  QUIET,
  readIfThere,
  START_MS,
  startWorld,
  until,
  type World,
} from './world.js';

/** An output that is not secret: found wherever a secret one must not be, so the search does find things. */
const OPEN_OUTPUT = 'shop.db.eu-central-1.internal';
const PULL_TOKEN = /tok_[0-9a-z]{26}\.[\w-]{20,}/;

describe('examples/shop, from source to a running install and away again', () => {
  const chapter = chapters();
  let world: World;
  let app: App;
  let release: Release;
  let install: Install;
  let customer: Customer;
  let first: JobHistory[];

  beforeAll(async () => {
    world = await startWorld();
  }, START_MS);
  afterAll(() => world.stop(), START_MS);

  const stateFile = (component: string): { outputs: Record<string, string>; sensitive: string[] } =>
    JSON.parse(readFileSync(join(customer.state, 'components', component, 'state.json'), 'utf8')) as ReturnType<
      typeof stateFile
    >;
  const kubeObjects = () =>
    world.platform.kubeApi
      .objects()
      .filter(({ metadata }) => metadata.labels?.['vendor-cloud.dev/install'] === install.id);
  const result = (histories: readonly JobHistory[], kind: Job['kind'], field: string): unknown[] =>
    histories.filter(({ job }) => job.kind === kind).map(({ job }) => job.result?.[field]);
  const tokens = () => world.rest.all<PullToken>(`/v1/installs/${install.id}/pull-tokens`);
  const events = () => world.rest.all<Event>(`/v1/installs/${install.id}/events`);

  chapter('builds, signs and releases every component', async () => {
    const { rest, platform } = world;
    const product = await shopProduct(platform);
    app = await declareProduct(rest, product);
    const { builds, histories } = await buildAll(rest, app, QUIET);
    expect(builds.map(({ component_name, status, error }) => [component_name, status, error])).toEqual(
      builds.map(({ component_name }) => [component_name, 'succeeded', undefined]),
    );
    expect(histories.every(({ attempts }) => attempts.length === 1)).toBe(true);
    release = await rest.post<Release>(`/v1/apps/${app.id}/releases`, { version: '1.0.0' });
    expect(release.components.map(({ name }) => name).sort()).toEqual(
      product.components.map(({ name }) => name).sort(),
    );
    const web = release.components.find(({ name }) => name === 'web');
    expect(web?.artifact).toMatchObject({ repository: 'acme/shop/web', digest: expect.stringMatching(/^sha256:/) });
    expect(web?.source_commit).toBe(product.commit);
  });

  chapter('deploys it, dependencies first', async () => {
    const { rest } = world;
    install = await installOf(rest, app, 'globex', { region: 'eu-central-1', replicas: 2 });
    customer = await world.customer(install);
    const { deployment, histories } = await deploy(rest, install, { kind: 'deploy', release_id: release.id }, QUIET);
    first = histories;
    expect(deployment).toMatchObject({ status: 'succeeded', jobs: { total: 10, succeeded: 10, failed: 0 } });
    expectInOrder(histories);
    expect(result(histories, 'apply', 'changed')).toEqual([true, true, true, true, true]);
    expect(result(histories, 'sync', 'bytes_copied').every((bytes) => Number(bytes) > 0)).toBe(true);
    install = await rest.get<Install>(`/v1/installs/${install.id}`);
    expect(install.release_id).toBe(release.id);
    expect(install.components.map(({ status }) => status)).toEqual(Array(5).fill('deployed'));
  });

  chapter('each pull token was burned once, by the sync that it was made for', async () => {
    const burned = await tokens();
    expect(burned.map(({ status }) => status)).toEqual(Array(5).fill('redeemed'));
    expect(burned.map(({ digest }) => digest).sort()).toEqual(release.components.map((c) => c.artifact.digest).sort());
    const syncs = first.filter(({ job }) => job.kind === 'sync').map(({ job }) => job.id);
    expect(burned.map(({ job_id }) => job_id).sort()).toEqual(syncs.sort());
  });

  chapter('what runs names images of the install’s own registry, by digest', () => {
    const objects = kubeObjects();
    const kinds = new Set(objects.map(({ kind }) => kind));
    for (const kind of ['Namespace', 'ConfigMap', 'Deployment', 'Service', 'Job']) expect(kinds).toContain(kind);
    const images = objects.flatMap((object) =>
      [...JSON.stringify(object).matchAll(/"image":"([^"]+)"/g)].map(([, i]) => i),
    );
    expect(images.length).toBeGreaterThanOrEqual(3);
    const own = new RegExp(`^${customer.registry.host}/shop/(web|cache)@sha256:[0-9a-f]{64}$`);
    expect(images.filter((image) => !own.test(image ?? ''))).toEqual([]);
    const config = objects.find(({ kind }) => kind === 'ConfigMap') as unknown as { data: Record<string, string> };
    expect(config.data).toMatchObject({ DATABASE_URL: `postgres://${OPEN_OUTPUT}:5432/shop`, REGION: 'eu-central-1' });
  });

  chapter('the history can be read: attempts, steps, logs, vitals, and facts in chains that are whole', async () => {
    const { rest, platform } = world;
    for (const { job } of first) {
      const attempts = await rest.all<Attempt>(`/v1/jobs/${job.id}/attempts`);
      expect(attempts.map(({ number, status }) => [number, status])).toEqual([[1, 'succeeded']]);
      expect(attempts[0]?.steps.map(({ status }) => status)).toEqual(attempts[0]?.steps.map(() => 'done'));
      const { text } = await ask(rest, 'GET', `/v1/jobs/${job.id}/logs?follow=true`);
      const lines = text.split('\n').filter((line) => line !== '');
      const seqs = lines.map((line) => (JSON.parse(line) as LogLine).seq);
      expect(seqs).toEqual(seqs.map((_, i) => i + 1));
      expect(seqs.length).toBeGreaterThan(0);
    }
    const stored = await query<{ n: number }>(
      platform.postgres.adminUrl(IMS_DATABASE),
      ['job_scheduler', 'registry_token']
        .map((schema) => `SELECT count(*)::int AS n FROM ${schema}.events WHERE install_id = '${install.id}'`)
        .join(' UNION ALL '),
    );
    const expected = stored.reduce((sum, { n }) => sum + n, 0);
    const facts = await until('telemetry has every fact', async () => {
      const now = await events();
      return now.length === expected && now;
    });
    const chains = Map.groupBy(facts, ({ chain }) => chain);
    expect([...chains.keys()].sort()).toEqual([`job-scheduler:${install.id}`, `registry-token:${install.id}`]);
    for (const chain of chains.values()) {
      const inOrder = chain.sort((a, b) => a.seq - b.seq);
      expect(findChainBreak(inOrder)).toBeUndefined();
      const tampered = inOrder.map((event, i) => (i === 1 ? { ...event, actor: 'somebody else' } : event));
      expect(findChainBreak(tampered)).toEqual({ seq: 2, reason: 'changed' });
    }
    const vitals = await until('the agent has told its vitals', async () => {
      const list = await rest.all<Vitals>(`/v1/installs/${install.id}/vitals`);
      return list.length > 0 && list;
    });
    expect(vitals[0]).toMatchObject({ memory_bytes: expect.any(Number), version: expect.any(String) });
  });

  chapter('secrets are at home and nowhere else: no log, table, message or registry has them', async () => {
    const { platform, heard, account } = world;
    const { outputs, sensitive } = stateFile('database');
    expect(sensitive).toEqual(['password']);
    expect(outputs['host']).toBe(OPEN_OUTPUT);
    const inState = (file: string): string => readFileSync(join(customer.state, file), 'utf8').trim();
    const seedOfBuilder = readFileSync(join(platform.dir, 'build-agent', 'key.seed'), 'utf8').trim();
    const keys = relative(platform.dir, join(platform.dir, 'keys'));
    const secrets: [what: string, value: string, home: string][] = [
      ['the sensitive output', outputs['password']!, relative(platform.dir, customer.state)],
      ['the install agent’s seed', inState('key.seed'), relative(platform.dir, customer.state)],
      ['the nodes’ pull secret', inState('node-pull-secret'), relative(platform.dir, customer.state)],
      ['the build agent’s seed', seedOfBuilder, 'build-agent'],
      ['the vendor’s API key', account.api_key, keys],
      ['the operator’s key', platform.operatorKey, keys],
    ];
    // PostgreSQL's own files hold its write-ahead log: what was in a row for a moment only is there too.
    const files = filesBelow(platform.dir).map((file) => ({
      file: relative(platform.dir, file),
      bytes: readIfThere(file),
    }));
    const placesOf = (needle: string): string[] =>
      files.filter(({ bytes }) => bytes.includes(needle)).map(({ file }) => file);

    const open = placesOf(OPEN_OUTPUT);
    for (const place of [/^postgres\//, /^kube-api\//]) expect(open.filter((file) => place.test(file))).not.toEqual([]);
    const ims = platform.postgres.adminUrl(IMS_DATABASE);
    expect(await tablesWith(ims, OPEN_OUTPUT)).toContain('job_scheduler.install_components');
    expect(await tablesWith(ims, 'is signed by the vendor')).toEqual(['telemetry.log_chunks']);
    expect(heard.some((bytes) => bytes.includes(OPEN_OUTPUT))).toBe(true);
    expect(heard.length).toBeGreaterThan(200);

    for (const [what, value, home] of secrets) {
      expect(value.length).toBeGreaterThan(20);
      const places = placesOf(value);
      expect([what, places.length > 0]).toEqual([what, true]);
      expect([what, places.filter((file) => !file.startsWith(`${home}/`))]).toEqual([what, []]);
      expect([what, await tablesWith(ims, value)]).toEqual([what, []]);
      expect([what, heard.filter((bytes) => bytes.includes(value)).length]).toEqual([what, 0]);
    }
    expect(heard.filter((bytes) => PULL_TOKEN.test(bytes.toString('latin1'))).length).toBe(0);
    expect(heard.filter((bytes) => bytes.includes('ims_enr_')).length).toBe(0);
    expect(files.filter(({ bytes }) => PULL_TOKEN.test(bytes.toString('latin1'))).map(({ file }) => file)).toEqual([]);
  });

  chapter('the same release again copies nothing, changes nothing and asks for no token', async () => {
    const before = (await tokens()).length;
    const what = { kind: 'deploy', release_id: release.id } as const;
    const { deployment, histories } = await deploy(world.rest, install, what, QUIET);
    expect(deployment.status).toBe('succeeded');
    expect(result(histories, 'sync', 'bytes_copied')).toEqual([0, 0, 0, 0, 0]);
    expect(result(histories, 'apply', 'changed')).toEqual([false, false, false, false, false]);
    expect((await tokens()).length).toBe(before);
  });

  chapter('a teardown takes everything away, dependents first', async () => {
    const { deployment, histories } = await deploy(world.rest, install, { kind: 'teardown' }, QUIET);
    expect(deployment).toMatchObject({ status: 'succeeded', jobs: { total: 5, succeeded: 5 } });
    expectInOrder(histories);
    const began = histories
      .map(({ job }) => job)
      .sort((a, b) => (a.started_at ?? '').localeCompare(b.started_at ?? ''));
    // Then migrate and cache are free at the same time; either may be first.
    expect(began[0]?.component.name).toBe('storefront');
    expect(result(histories, 'destroy', 'changed')).toEqual([true, true, true, true, true]);
    expect(kubeObjects()).toEqual([]);
    expect(readdirSync(join(customer.state, 'components'))).toEqual([]);
    expect(filesBelow(customer.state).filter((file) => /tfstate|inventory\.json|tfplan/.test(file))).toEqual([]);
    const now = await world.rest.get<Install>(`/v1/installs/${install.id}`);
    expect(now.release_id).toBeUndefined();
    expect(now.components.map(({ status, outputs }) => [status, outputs])).toEqual(
      Array(5).fill(['removed', undefined]),
    );
  });

  chapter('and it can be deployed again, from what the install’s registry has', async () => {
    const what = { kind: 'deploy', release_id: release.id } as const;
    const { deployment, histories } = await deploy(world.rest, install, what, QUIET);
    expect(deployment.status).toBe('succeeded');
    expect(result(histories, 'apply', 'changed')).toEqual([true, true, true, true, true]);
    expect(result(histories, 'sync', 'bytes_copied')).toEqual([0, 0, 0, 0, 0]);
    expect(existsSync(join(customer.state, 'components', 'database', 'terraform.tfstate'))).toBe(true);
    expect(kubeObjects().map(({ kind }) => kind)).toContain('Deployment');
  });

  chapter('the customer pauses the agent on its own host, and the vendor cannot lift that', async () => {
    const { rest } = world;
    expect(await operator('pause', '--note', 'audit week')).toContain('paused');
    const begun = await rest.post<Deployment>(`/v1/installs/${install.id}/deployments`, {
      kind: 'deploy',
      release_id: release.id,
    });
    const held = await until('a job is held', () => heldJob(begun, 'customer_paused'));
    expect(held.hold?.detail).toContain('audit week');
    const asked = await ask(rest, 'POST', `/v1/jobs/${held.id}/resume`, {});
    expect([asked.status, asked.body['code']]).toEqual([409, 'held_by_customer']);
    const shown = await rest.get<Agent>(`/v1/agents/${install.agent_id}`);
    expect(JSON.stringify(shown.customer_policy)).toContain('audit week');
    await operator('unpause');
    expect((await ended(begun)).status).toBe('succeeded');
  });

  chapter('nothing is removed without the customer’s yes to that very plan', async () => {
    const { rest } = world;
    writeFileSync(join(customer.state, 'policy.yaml'), 'approve: on_delete\n', { mode: 0o600 });
    const teardown = (): Promise<Deployment> =>
      rest.post<Deployment>(`/v1/installs/${install.id}/deployments`, { kind: 'teardown' });
    const objects = kubeObjects().length;

    const first = await teardown();
    const asked = await until('a plan waits', () => heldJob(first, 'awaiting_customer_approval'));
    const digest = asked.hold?.plan_digest ?? '';
    expect(await operator('pending')).toContain('destroy of storefront');
    expect(await operator('plan', digest)).toContain(digest);
    await operator('reject', digest, '--note', 'not this week');
    expect((await ended(first)).status).toBe('failed');
    expect((await rest.get<Job>(`/v1/jobs/${asked.id}`)).error).toMatchObject({ code: 'policy_refused' });
    expect(kubeObjects().length).toBe(objects);

    const second = await teardown();
    const approved = new Set<string>();
    const finished = await until('every plan has its yes', async () => {
      for (const job of await rest.all<Job>(`/v1/jobs?deployment_id=${second.id}`)) {
        const plan = job.hold?.plan_digest;
        if (plan === undefined || approved.has(plan)) continue;
        approved.add(plan);
        await operator('approve', plan);
      }
      const now = await rest.get<Deployment>(`/v1/deployments/${second.id}`);
      return now.status !== 'running' && now;
    });
    expect(finished.status).toBe('succeeded');
    expect(approved.size).toBeGreaterThanOrEqual(3);
    expect(kubeObjects()).toEqual([]);
    expect(await operator('audit', 'verify')).toContain('unbroken');
  });

  const heldJob = async (of: Deployment, code: string): Promise<Job | undefined> =>
    (await world.rest.all<Job>(`/v1/jobs?deployment_id=${of.id}`)).find(({ hold }) => hold?.code === code);
  const ended = (of: Deployment): Promise<Deployment> =>
    until('the deployment has ended', async () => {
      const now = await world.rest.get<Deployment>(`/v1/deployments/${of.id}`);
      return now.status !== 'running' && now;
    });
  /** A command of the customer's operator, on the agent's host, beside the running agent. */
  const operator = async (...args: string[]): Promise<string> => {
    const main = join(PROJECT_ROOT, 'dist/apps/install-agent/src/main.js');
    const { stdout } = await promisify(execFile)(process.execPath, [main, ...args, '--state', customer.state]);
    return stdout;
  };
});

/** No job was begun before all that it depends on had ended. */
function expectInOrder(histories: readonly JobHistory[]): void {
  const jobs = new Map(histories.map(({ job }) => [job.id, job]));
  for (const { job, attempts } of histories) {
    for (const parent of job.depends_on.map((id) => jobs.get(id))) {
      const ended = Date.parse(parent?.finished_at ?? '');
      expect(Date.parse(attempts[0]?.granted_at ?? '')).toBeGreaterThanOrEqual(ended);
    }
  }
  expect(histories.some(({ job }) => job.depends_on.length > 0)).toBe(true);
}

/** The tables that hold a text in any column, in any schema of the database. */
async function tablesWith(url: string, needle: string): Promise<string[]> {
  const tables = await query<{ name: string }>(
    url,
    `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
      WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`,
  );
  expect(tables.length).toBeGreaterThan(20);
  const counted = await query<{ name: string; n: number }>(
    url,
    tables
      .map(
        ({ name }) => `SELECT '${name}' AS name, count(*)::int AS n FROM ${name} t WHERE t::text LIKE '%' || $1 || '%'`,
      )
      .join(' UNION ALL '),
    [needle],
  );
  // Logs are packed there.
  const frames = await query<{ frame: Buffer }>(url, 'SELECT frame FROM telemetry.log_chunks');
  const logged = frames.some(({ frame }) => (frame[0] === 0x78 ? inflateSync(frame) : frame).includes(needle));
  return [...counted.filter(({ n }) => n > 0).map(({ name }) => name), ...(logged ? ['telemetry.log_chunks'] : [])];
}
