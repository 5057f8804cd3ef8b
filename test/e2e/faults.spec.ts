import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import {
  type App,
  type Attempt,
  type Build,
  type Component,
  type Deployment,
  type Event,
  type Install,
  type Job,
  type LogLine,
} from '#contracts';
import { pushArtifact, RegistryClient } from '#oci';
import { findChainBreak } from '#persistence';
import { IMS_DATABASE } from '#stack';
import { type Customer } from '../../deploy/local/agents.js';
import { followJobs, type JobHistory } from '../../deploy/local/progress.js';
import { type RestClient } from '../../deploy/local/rest.js';
import { LogFollower } from './followers.js';
import {
  ask,
  buildWell,
  change,
  commit,
  declare,
  filesBelow,
  query,
  QUIET,
  readIfThere,
  release,
  START_MS,
  startWorld,
  until,
  type World,
} from './world.js';

/** One round takes 10 s on a quiet machine; a lost lease adds 13 s. */
const ROUND_MS = 240_000;
const LONG_LOG_MS = 600_000;
/** The moments at which processes are killed follow from it; another seed, other moments. */
const SEED = Number(process.env['FAULT_SEED'] ?? 1);

/**
 * Each resource writes one line into a ledger when it is made, and nothing else does: how often something was applied
 * is how often it is in there. `first` can be held in the middle of its apply: it waits for a file.
 */
const moduleOf = (component: string, round: number, held: boolean, chatter = 0): string => `
variable "ledger" { type = string }
variable "gate" { type = string }
resource "terraform_data" "entry" {
  count            = 2
  triggers_replace = ${round}
  provisioner "local-exec" {
    command = "echo ${round}/${component}/\${count.index} >> \${var.ledger}${held ? '; until [ -e ${var.gate}/${round} ]; do sleep 0.05; done'.replace('${round}', String(round)) : ''}${chatter === 0 ? '' : `; ${chatterOf(chatter)}`}"
  }
}
output "round" { value = "${round}-\${terraform_data.entry[0].id}" }
`;

/** The first resource writes so many numbered lines; each hundred takes so long that all of it lasts some 20 s. */
const chatterOf = (total: number): string =>
  `[ \${count.index} = 1 ] || { i=0; while [ $i -lt ${total} ]; do seq -f 'number %.0f' $((i+1)) $((i+100)); i=$((i+100)); sleep ${(1500 / total).toFixed(3)}; done; }`;
/** Lines of the long log; \`npm run test:logs\` takes 100,000. */
const LONG_LOG_LINES = Number(process.env['LONG_LOG_LINES'] ?? 4_000);

interface Round {
  readonly number: number;
  readonly deployment: Deployment;
  /** Lets the provisioners of `first` end. */
  open(): void;
}
type Moment = 'a job runs' | 'an apply is in its provisioner' | 'one apply is over';
const MOMENTS: readonly Moment[] = ['a job runs', 'an apply is in its provisioner', 'one apply is over'];

describe(`killed in the middle of a deployment and started again (seed ${SEED})`, () => {
  let world: World;
  let rest: RestClient;
  let app: App;
  let install: Install;
  let customer: Customer;
  let components: Record<string, Component>;
  let rounds = 0;
  let ledger: string;
  let gate: string;

  beforeAll(async () => {
    world = await startWorld();
    ({ rest } = world);
    ledger = join(world.platform.dir, 'ledger');
    gate = join(world.platform.dir, 'gate');
    mkdirSync(gate);
    const url = source(0);
    const values = { ledger, gate };
    app = await declare(rest, { name: 'ledger' }, [
      { name: 'first', kind: 'terraform-module', source: { url, directory: 'first' }, values },
      { name: 'second', kind: 'terraform-module', source: { url, directory: 'second' }, values, depends_on: ['first'] },
      { name: 'bulk', kind: 'external-image', image: await publishBulk(0, 1024) },
    ]);
    const made = await rest.all<Component>(`/v1/apps/${app.id}/components`);
    components = Object.fromEntries(made.map((component) => [component.name, component]));
    install = await rest.post<Install>('/v1/installs', { app_id: app.id, name: 'globex' });
    customer = await world.customer(install);
  }, START_MS);
  afterAll(() => world?.stop(), START_MS);

  // What a failed test left dead would fail all that follow.
  afterEach(async () => {
    const { platform, buildAgent } = world;
    for (const each of [platform.postgres, platform.nats, platform.vendorRegistry, customer.registry])
      if (each.pid === undefined) await each.restart();
    for (const each of [...Object.values(platform.services), buildAgent, customer.agent])
      if (each.pid === undefined) await each.start();
    writeFileSync(join(gate, String(rounds)), '');
    await until('no deployment is left unfinished', async () =>
      (await rest.all<Deployment>(`/v1/installs/${install.id}/deployments`)).every(
        ({ finished_at }) => finished_at !== undefined,
      ),
    );
  }, START_MS);

  const source = (round: number, chatter = 0): string =>
    commit(world, 'ledger', {
      'first/main.tf': moduleOf('first', round, true, chatter),
      'second/main.tf': moduleOf('second', round, false),
    });
  const jobsOf = ({ deployment }: Round): Promise<Job[]> => rest.all<Job>(`/v1/jobs?deployment_id=${deployment.id}`);
  const lines = (round: number): string[] =>
    readIfThere(ledger)
      .toString()
      .split('\n')
      .filter((line) => line.startsWith(`${round}/`))
      .sort();
  const once = (round: number): string[] =>
    ['first', 'second'].flatMap((name) => [0, 1].map((i) => `${round}/${name}/${i}`));

  /** An image from outside with one layer of that size, of bytes that no earlier round had. */
  async function publishBulk(round: number, bytes: number): Promise<string> {
    const { upstreamRegistry } = world.platform;
    const config = { architecture: 'amd64', os: 'linux', rootfs: { type: 'layers', diff_ids: [] }, round };
    const { digest } = await pushArtifact({
      client: new RegistryClient({ baseUrl: upstreamRegistry.url }),
      repository: 'library/bulk',
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', bytes: Buffer.from(JSON.stringify(config)) },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', bytes: Buffer.alloc(bytes, `${round} `) }],
    });
    return `${upstreamRegistry.host}/library/bulk@${digest}`;
  }

  /** The next round: new sources, built and released. Each deployment has work for every component that changed. */
  async function prepare(bulkBytes?: number, chatter = 0): Promise<{ round: number; releaseId: string }> {
    const round = ++rounds;
    source(round, chatter);
    if (bulkBytes !== undefined)
      await change(rest, components['bulk']!.id, { image: await publishBulk(round, bulkBytes) });
    await buildWell(rest, app);
    return { round, releaseId: (await release(rest, app, `${round}.0.0`)).id };
  }

  async function begin({ round, releaseId }: { round: number; releaseId: string }): Promise<Round> {
    const what = { kind: 'deploy', release_id: releaseId };
    const deployment = await rest.post<Deployment>(`/v1/installs/${install.id}/deployments`, what);
    return { number: round, deployment, open: () => writeFileSync(join(gate, String(round)), '') };
  }

  /** Follows a round to its end and checks it: all succeeded, each resource made once, whatever happened meanwhile. */
  async function finish(round: Round): Promise<JobHistory[]> {
    round.open();
    const histories = await followJobs(rest, () => jobsOf(round), QUIET);
    expect(histories.map(({ job }) => [job.component.name, job.kind, job.status, job.error])).toEqual(
      histories.map(({ job }) => [job.component.name, job.kind, 'succeeded', undefined]),
    );
    const ended = await rest.get<Deployment>(`/v1/deployments/${round.deployment.id}`, { prefer: 'wait=10' });
    expect(ended).toMatchObject({ status: 'succeeded', jobs: { total: 6, succeeded: 6 } });
    for (const { attempts } of histories) expectOneSuccess(attempts);
    return histories;
  }

  /** Waits for the moment. Returns with `first` held in its provisioner when that is the moment. */
  async function reach(moment: Moment, round: Round): Promise<void> {
    if (moment !== 'an apply is in its provisioner') round.open();
    await until(
      moment,
      async () => {
        if (moment === 'an apply is in its provisioner') return lines(round.number).length > 0;
        const jobs = await jobsOf(round);
        if (moment === 'a job runs') return jobs.some(({ status }) => status !== 'queued' && status !== 'blocked');
        return jobs.some(({ kind, status }) => kind === 'apply' && status === 'succeeded');
      },
      ROUND_MS,
    );
  }

  const processes = {
    gateway: () => world.platform.services.gateway,
    'job-scheduler': () => world.platform.services['job-scheduler'],
    telemetry: () => world.platform.services.telemetry,
    'registry-token': () => world.platform.services['registry-token'],
    nats: () => ({ ...world.platform.nats, start: world.platform.nats.restart }),
    postgres: () => ({ ...world.platform.postgres, start: world.platform.postgres.restart }),
  };
  const picks = Object.keys(processes).map((name, i) => [name, momentOf(SEED + i)] as const);

  it.each(picks)(
    '%s, when %s',
    async (name, moment) => {
      const server = processes[name as keyof typeof processes]();
      const round = await begin(await prepare());
      await reach(moment, round);
      await server.kill();
      // What is being applied ends while it is away: its result has to wait.
      round.open();
      await server.start();
      const histories = await finish(round);
      expectMadeOnce(round, histories);
      await expectWholeLogs(histories);
    },
    ROUND_MS,
  );

  it(
    'registry-token, away while tokens are asked for',
    async () => {
      const prepared = await prepare();
      const server = world.platform.services['registry-token'];
      await server.kill();
      const round = await begin(prepared);
      await until(
        'a sync wants its token',
        async () => {
          const syncs = (await jobsOf(round)).filter(({ kind, status }) => kind === 'sync' && status === 'running');
          const attempts = await Promise.all(syncs.map(({ id }) => rest.all<Attempt>(`/v1/jobs/${id}/attempts`)));
          return attempts.flat().some(({ steps }) => steps.some((step) => step.name === 'fetch'));
        },
        ROUND_MS,
      );
      await server.start();
      expectMadeOnce(round, await finish(round));
    },
    ROUND_MS,
  );

  it.each(['vendor', 'install'] as const)(
    'the %s registry, in the middle of a copy',
    async (which) => {
      const prepared = await prepare(96 * 2 ** 20);
      const registry = which === 'vendor' ? world.platform.vendorRegistry : customer.registry;
      const uploads = join(
        world.platform.dir,
        'install-registry-globex/data/docker/registry/v2/repositories/ledger/bulk/_uploads',
      );
      const round = await begin(prepared);
      await until('the layer is on its way', () => existsSync(uploads) && readdirSync(uploads).length > 0, ROUND_MS);
      await registry.kill();
      const cut = existsSync(uploads) && readdirSync(uploads).length > 0;
      await registry.restart();
      const histories = await finish(round);
      expectMadeOnce(round, histories);
      const sync = histories.find(({ job }) => job.kind === 'sync' && job.component.name === 'bulk');
      // On a fast disk the copy may have ended before the kill; then this round shows less, and says so.
      if (!cut) console.warn('the copy had ended before the kill');
      expect(Number(sync?.job.result?.['bytes_copied'])).toBeGreaterThan(0);
    },
    ROUND_MS,
  );

  it(
    'the build agent, in the middle of a build',
    async () => {
      const round = ++rounds;
      source(round);
      const { data } = await rest.post<{ data: Build[] }>(`/v1/apps/${app.id}/builds`, {});
      const jobs = (): Promise<Job[]> => Promise.all(data.map(({ job_id }) => rest.get<Job>(`/v1/jobs/${job_id}`)));
      await until(
        'a build runs',
        async () => {
          const running = (await jobs()).filter(({ status }) => status === 'running');
          const attempts = await Promise.all(running.map(({ id }) => rest.all<Attempt>(`/v1/jobs/${id}/attempts`)));
          return attempts
            .flat()
            .some(({ steps }) => steps.some(({ name, status }) => name === 'build' && status === 'started'));
        },
        ROUND_MS,
      );
      await world.buildAgent.kill();
      const unfinished = (await jobs()).filter(({ finished_at }) => finished_at === undefined);
      expect(unfinished.length).toBeGreaterThan(0);
      await world.buildAgent.start();
      const histories = await followJobs(rest, jobs, QUIET);
      expect(histories.map(({ job }) => [job.status, job.error])).toEqual(
        histories.map(() => ['succeeded', undefined]),
      );
      for (const { attempts } of histories) expectOneSuccess(attempts);
      const made = await release(rest, app, `${round}.0.0`);
      const deploying = await begin({ round, releaseId: made.id });
      expectMadeOnce(deploying, await finish(deploying));
    },
    ROUND_MS,
  );

  it(
    'the install agent, while it plans',
    async () => {
      const round = await begin(await prepare());
      round.open();
      await until(
        'a plan is being made',
        async () => {
          const running = (await jobsOf(round)).filter(({ kind, status }) => kind === 'apply' && status === 'running');
          const attempts = await Promise.all(running.map(({ id }) => rest.all<Attempt>(`/v1/jobs/${id}/attempts`)));
          return attempts
            .flat()
            .some(({ steps }) => steps.some(({ name, status }) => name === 'plan' && status === 'started'));
        },
        ROUND_MS,
      );
      await customer.agent.kill();
      // The journal on its disk is what it knew when it died. The kill may have come later than the plan.
      const inApply = filesBelow(join(customer.state, 'journal')).some((file) =>
        cutInApply(readFileSync(file, 'utf8')),
      );
      await customer.agent.start();
      await finish(round);
      if (inApply) console.warn('the kill came in the middle of an apply: once is not promised there');
      else expect(lines(round.number)).toEqual(once(round.number));
      expect([...new Set(lines(round.number))]).toEqual(once(round.number));
    },
    ROUND_MS,
  );

  it(
    'the install agent, in the middle of a provisioner: the one place where an effect may come twice',
    async () => {
      const round = await begin(await prepare());
      await reach('an apply is in its provisioner', round);
      await customer.agent.kill();
      await customer.agent.start();
      await finish(round);
      // Terraform had begun a command that it can not take back and has not recorded its end: it marks the resource as
      // tainted and makes it again. What had not begun, and what comes after, is made once.
      const counts = Map.groupBy(lines(round.number), (line) => line);
      expect([...counts.keys()]).toEqual(once(round.number));
      for (const [line, times] of counts) {
        expect([line, times.length <= (line.includes('/first/') ? 2 : 1)]).toEqual([line, true]);
      }
    },
    ROUND_MS,
  );

  // By command (npm run test:logs): it stops and starts five processes, which takes minutes.
  (process.env['LONG_LOG_LINES'] === undefined ? it.skip : it)(
    'a long log, while its agent, telemetry, NATS, PostgreSQL and the gateway are killed in turn: three readers have all of it',
    async () => {
      const round = await begin(await prepare(undefined, LONG_LOG_LINES));
      round.open();
      const job = await until('the job is there', async () =>
        (await jobsOf(round)).find(({ kind, component }) => kind === 'apply' && component.name === 'first'),
      );
      const url = `${rest.baseUrl}/v1/jobs/${job.id}/logs`;
      const stop = new AbortController();
      const readers = [Infinity, Infinity, 300].map((lines) => new LogFollower(url, world.account.api_key, lines));
      const followed = readers.map((reader) => reader.follow(stop.signal));
      const seen = (lines: number): Promise<unknown> =>
        until(`${lines} lines are read`, () => (readers[0]?.lines.length ?? 0) >= lines, LONG_LOG_MS);
      try {
        await seen(LONG_LOG_LINES * 0.05);
        await customer.agent.kill();
        await customer.agent.start();
        for (const [i, name] of (['telemetry', 'nats', 'postgres', 'gateway'] as const).entries()) {
          await seen(LONG_LOG_LINES * 0.1 * (i + 2));
          const server = processes[name]();
          await server.kill();
          await server.start();
        }
        await finish(round);
        await Promise.all(followed);
      } finally {
        stop.abort();
      }
      const whole = readers[0]?.lines ?? [];
      for (const reader of readers) {
        // Each line once, numbered from 1 in each attempt, attempts in order.
        let before = { attempt: 0, seq: 0 };
        for (const { attempt, seq } of reader.lines) {
          const next = attempt === before.attempt ? before.seq + 1 : 1;
          expect([attempt, seq, attempt >= before.attempt]).toEqual([attempt, next, true]);
          before = { attempt, seq };
        }
        expect(reader.lines.length).toBe(whole.length);
        expect(reader.lines.at(-1)).toEqual(whole.at(-1));
      }
      expect(readers[0]?.connections).toBeGreaterThan(1);
      expect(readers[2]?.connections).toBeGreaterThan(LONG_LOG_LINES / 300);
      expect(whole.filter(({ text }) => text.includes('missing here'))).toEqual([]);
      // The run of the program that was not cut: all it wrote, in its order.
      const numbers = whole.flatMap(({ text }) => /number (\d+)$/.exec(text)?.[1] ?? []).map(Number);
      const lastRun = numbers.slice(numbers.lastIndexOf(1));
      expect(lastRun).toEqual(Array.from({ length: LONG_LOG_LINES }, (_, i) => i + 1));
    },
    LONG_LOG_MS,
  );

  it(
    'and after all of it the history is whole, and the newest release again changes nothing',
    async () => {
      const now = await rest.get<Install>(`/v1/installs/${install.id}`);
      const what = { kind: 'deploy', release_id: now.release_id };
      const deployment = await rest.post<Deployment>(`/v1/installs/${install.id}/deployments`, what);
      const histories = await followJobs(rest, () => rest.all<Job>(`/v1/jobs?deployment_id=${deployment.id}`), QUIET);
      const changes = histories.map(({ job }) => job.result?.['changed'] ?? job.result?.['bytes_copied']);
      expect(new Set(changes)).toEqual(new Set([false, 0]));

      await until('telemetry has every fact', async () => {
        const facts = await rest.all<Event>(`/v1/installs/${install.id}/events`);
        if (!facts.some((fact) => fact.deployment_id === deployment.id && fact.type === 'deployment.succeeded'))
          return false;
        const chains = Map.groupBy(facts, ({ chain }) => chain);
        const breaks = [...chains.values()].map((chain) => findChainBreak(chain.sort((a, b) => a.seq - b.seq)));
        // A fact that is still on its way looks like one that is missing; what is changed or relinked never mends.
        if (breaks.some((found) => found !== undefined && found.reason !== 'missing'))
          throw new Error(JSON.stringify(breaks));
        return breaks.length === 2 && breaks.every((found) => found === undefined);
      });
    },
    ROUND_MS,
  );

  /**
   * One line for each resource. The exception is the one that cannot be helped: an attempt whose lease ended because
   * this machine was too slow to start a process within 10 s, and which was fenced in the middle of a provisioner.
   */
  function expectMadeOnce(round: Round, histories: readonly JobHistory[]): void {
    const cut = histories.filter(({ job, attempts }) => {
      const fenced = attempts.filter(({ status }) => status === 'lost').flatMap(({ steps }) => steps);
      return job.kind === 'apply' && fenced.some(({ name, status }) => name === 'apply' && status !== 'done');
    });
    if (cut.length === 0) expect(lines(round.number)).toEqual(once(round.number));
    else console.warn(`round ${round.number}: a lease ended in the middle of an apply`);
    expect([...new Set(lines(round.number))]).toEqual(once(round.number));
  }

  /** From the first line to the last of each job's last attempt, without a gap. */
  async function expectWholeLogs(histories: readonly JobHistory[]): Promise<void> {
    const ims = world.platform.postgres.adminUrl(IMS_DATABASE);
    for (const { job } of histories) {
      // What telemetry had taken and not stored when it was killed comes again 10 s later.
      await until('the last frame is stored', async () => {
        const last = 'SELECT FROM telemetry.log_chunks WHERE job_id = $1 AND attempt = $2 AND last';
        return (await query(ims, last, [job.id, job.attempt])).length > 0;
      });
      const { text } = await ask(rest, 'GET', `/v1/jobs/${job.id}/logs?follow=true`);
      const logged = text
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => JSON.parse(line) as LogLine);
      const last = logged.filter(({ attempt }) => attempt === job.attempt);
      expect([job.id, last.length > 0]).toEqual([job.id, true]);
      expect(last.map(({ seq }) => seq)).toEqual(last.map((_, i) => i + 1));
      expect(logged.filter((line) => line.text.includes('missing here'))).toEqual([]);
    }
  }
});

/** However often it was tried, one attempt succeeded, the last, and no two were there at the same time. */
function expectOneSuccess(listed: readonly Attempt[]): void {
  const attempts = [...listed].sort((a, b) => a.number - b.number);
  expect(attempts.filter(({ status }) => status === 'succeeded')).toHaveLength(1);
  expect(attempts.at(-1)?.status).toBe('succeeded');
  expect(attempts.map(({ number }) => number)).toEqual(attempts.map((_, i) => i + 1));
  for (const [i, attempt] of attempts.entries()) {
    const before = attempts[i - 1];
    if (before) expect(Date.parse(attempt.granted_at)).toBeGreaterThanOrEqual(Date.parse(before.ended_at ?? ''));
  }
}

/** True when the journal of an attempt tells that its step `apply` had begun and not ended. */
function cutInApply(journal: string): boolean {
  const has = (type: string): boolean => new RegExp(`"t":"${type}","name":"apply"`).test(journal);
  return has('step') && !has('done');
}

/** The moment for a number, spread so that neighbours differ and another seed gives another spread. */
function momentOf(n: number): Moment {
  const mixed = (Math.imul(n, 2_654_435_761) >>> 0) % MOMENTS.length;
  return MOMENTS[mixed] ?? 'a job runs';
}
