import { setTimeout as delay } from 'node:timers/promises';
import {
  cancelDeployment,
  cancelJob,
  createApp,
  createBuilds,
  createComponent,
  createDeployment,
  createEnrolmentToken,
  createInstall,
  createRelease,
  createVendor,
  ImsError,
  listDeployments,
  mintEnrolmentToken,
  newId,
  type Deployment,
  type DeploymentId,
  type Install,
  type JobId,
  type Release,
  type TokenId,
  type VendorId,
} from '#contracts';
import { jobMachine } from '#domain';
import { Random, seedOf } from '../random.js';
import { type Ground } from './ground.js';

export interface WorkOptions {
  readonly installs: number;
  readonly components: number;
  /** Deployments of each install, the last one a teardown. */
  readonly waves: number;
}
/** Part of the deployments that are cancelled, whole or one job of them, at a drawn moment. */
const CANCELLED = 0.25;

/** An enrolment token as the gateway makes it, and what the scheduler is told of it. */
function newToken(): { token: string; enrolment: { token_id: TokenId; verifier: string } } {
  const token_id = newId('token');
  const { text, verifier } = mintEnrolmentToken(token_id);
  return { token: text, enrolment: { token_id, verifier } };
}

/** How far the work has come, by job status; `deployments`: not yet ended. */
export interface Standing {
  readonly total: number;
  readonly ended: number;
  readonly deployments: number;
}

/** A vendor with customers who deploy again and again, and now and then change their mind. */
export class Work {
  /** Everything that the scheduler has accepted. */
  readonly accepted: string[] = [];
  private readonly stopping = new AbortController();
  private vendor: VendorId | undefined;
  readonly releases: Release[] = [];
  readonly installs: Install[] = [];

  constructor(
    private readonly ground: Ground,
    private readonly options: WorkOptions,
  ) {}

  get vendorId(): VendorId {
    if (this.vendor === undefined) throw new Error('nothing was prepared');
    return this.vendor;
  }

  /** Vendor, app, releases, installs and agents, in fair weather. */
  async prepare(): Promise<void> {
    const { ground, options } = this;

    const first = newToken();
    const account = await ground.call(createVendor, { vendor: { name: 'storm' }, enrolment: first.enrolment });
    const vendor_id = account.vendor.id;
    this.vendor = vendor_id;
    const app = await ground.call(createApp, { vendor_id, app: { name: 'shop', inputs: [] } });
    for (let i = 0; i < options.components; i++) {
      const random = new Random(seedOf(ground.options.seed, `component-${i}`));
      const depends_on = Array.from({ length: i }, (_, j) => `c${j}`).filter(() => random.chance(0.4));
      const source = { url: 'https://git.example.test/shop.git', directory: `c${i}` };
      const component = { name: `c${i}`, kind: 'terraform-module' as const, source, depends_on };
      await ground.call(createComponent, { vendor_id, app_id: app.id, component });
    }
    await ground.enrol('build', first.token, 0);
    for (let i = 0; i < options.installs; i++) {
      const install = await ground.call(createInstall, {
        vendor_id,
        install: { app_id: app.id, name: `customer-${i}` },
      });
      const { token, enrolment } = newToken();
      await ground.call(createEnrolmentToken, { vendor_id, agent_id: install.agent_id, enrolment });
      await ground.enrol('install', token, i % ground.options.hosts);
      this.installs.push(install);
    }
    await ground.startHosts();
    for (const version of ['1.0.0', '2.0.0']) {
      const { data } = await ground.call(createBuilds, { vendor_id, app_id: app.id, builds: {} });
      const ids = data.map(({ job_id }) => job_id);
      await this.until(async () => {
        const text = `SELECT 1 FROM jobs WHERE id = ANY($1) AND status = 'succeeded'`;
        return (await ground.sql(text, [ids])).length === ids.length;
      });
      this.releases.push(await ground.call(createRelease, { vendor_id, app_id: app.id, release: { version } }));
    }
  }

  /** Every customer deploys; resolves when each deployment has ended, or at `giveUp`. */
  async run(giveUp: AbortSignal): Promise<void> {
    giveUp.addEventListener('abort', () => this.stopping.abort(), { once: true });
    await Promise.all(this.installs.map((install) => this.customer(install)));
  }

  async standing(): Promise<Standing> {
    const [row] = await this.ground.sql<Standing>(
      `SELECT count(*)::int AS total, (count(*) FILTER (WHERE status = ANY($1)))::int AS ended,
         (SELECT count(*)::int FROM deployments WHERE finished_at IS NULL) AS deployments FROM jobs`,
      [jobMachine.finals],
    );
    return row ?? { total: 0, ended: 0, deployments: 0 };
  }

  private async customer(install: Install): Promise<void> {
    const random = new Random(seedOf(this.ground.options.seed, install.name));
    for (let wave = 0; wave < this.options.waves; wave++) {
      const last = wave === this.options.waves - 1 && wave > 0;
      const release = this.releases[wave % this.releases.length];
      const order =
        last || !release
          ? { kind: 'teardown' as const }
          : { kind: 'deploy' as const, release_id: release.id, rollback: true };
      const deployment = await this.order(install, order);
      if (!deployment) return;
      this.accepted.push(deployment.id);
      const changes = random.chance(CANCELLED) ? this.changeMind(deployment.id, random) : undefined;
      await this.until(async () => {
        const text = 'SELECT 1 FROM deployments WHERE id = $1 AND finished_at IS NOT NULL';
        return (await this.ground.sql(text, [deployment.id])).length > 0;
      });
      await changes;
      if (this.stopping.signal.aborted) return;
    }
  }

  /** The answer may be lost after the deployment was made: then it is the install's newest. */
  private async order(install: Install, deployment: { kind: 'deploy' | 'teardown' }): Promise<Deployment | undefined> {
    const { ground } = this;
    const vendor_id = this.vendorId;
    while (!this.stopping.signal.aborted) {
      try {
        return await ground.call(createDeployment, { vendor_id, install_id: install.id, deployment });
      } catch (error) {
        const newest = await ground
          .call(listDeployments, { vendor_id, install_id: install.id, limit: 1 })
          .then(({ data }) => data[0])
          .catch(() => undefined);
        if (newest && !this.accepted.includes(newest.id)) return newest;
        const { code, detail } = ImsError.of(error);
        // Nothing was deployed (all was cancelled): nothing to tear down.
        if (code === 'conflict' && deployment.kind === 'teardown') return undefined;
        if (code === 'invalid_request') throw new Error(`${code}: ${detail}`);
        await delay(200);
      }
    }
    return undefined;
  }

  private async changeMind(deployment_id: DeploymentId, random: Random): Promise<void> {
    const { ground } = this;
    const vendor_id = this.vendorId;
    const [afterMs, all, force, one] = [random.int(0, 4_000), random.chance(0.6), random.chance(0.3), random.next()];
    await delay(afterMs);
    const cancel = { reason: 'the customer has changed its mind', force };
    for (let tries = 0; tries < 100 && !this.stopping.signal.aborted; tries++) {
      try {
        if (all) await ground.call(cancelDeployment, { vendor_id, deployment_id, cancel });
        else {
          const jobs = await this.ground.sql<{ id: JobId }>(
            'SELECT id FROM jobs WHERE deployment_id = $1 ORDER BY id',
            [deployment_id],
          );
          const job = jobs[Math.floor(one * jobs.length)];
          if (job) await ground.call(cancelJob, { vendor_id, job_id: job.id, cancel });
        }
        return;
      } catch (error) {
        // It has ended before.
        if (ImsError.of(error).code === 'conflict') return;
        await delay(200);
      }
    }
  }

  /** Looks again and again; what cannot be seen now (PostgreSQL is down) is not yet so. */
  private async until(look: () => Promise<boolean>): Promise<void> {
    while (!this.stopping.signal.aborted) {
      if (await look().catch(() => false)) return;
      await delay(250);
    }
  }
}
