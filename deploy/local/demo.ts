import 'reflect-metadata';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Job, type Release } from '#contracts';
import { PROJECT_ROOT, requireTool, ToolMissing } from '#stack';
import { AGENT_TOOLS, startBuildAgent, startCustomer, type Customer } from './agents.js';
import { startPlatform, type Platform } from './platform.js';
import { jobMs, timeShares, type JobHistory } from './progress.js';
import { RestProblem, type RestClient } from './rest.js';
import { screen } from './screen.js';
import {
  buildAll,
  declareProduct,
  deploy,
  enrolmentToken,
  installOf,
  releaseOf,
  shopProduct,
  vendorOf,
  type Teller,
} from './shop.js';

const USAGE = `usage: npm run demo [-- --exit] [-- --dir DIR] [-- down]
  --exit   end after the run, with exit code 0 or 1
  --dir    where everything is kept (default .demo)
  down     remove everything that the demo made`;

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { exit: { type: 'boolean' }, dir: { type: 'string' }, help: { type: 'boolean' } },
});
const dir = flags.dir ?? join(PROJECT_ROOT, '.demo');

const tell: Teller = {
  step: (job, step) =>
    screen.step(
      `${job.kind} ${job.component.name}: ${step.name} ${step.status === 'done' ? '' : 'failed '}${step.duration_ms ?? 0} ms`,
    ),
  end: (job, history) =>
    job.status === 'succeeded'
      ? screen.done(`${job.kind} ${job.component.name} in ${screen.seconds(jobMs(history))}`)
      : screen.failed(
          `${job.kind} ${job.component.name} ${job.status}: ${job.error?.code ?? ''} ${job.error?.detail ?? ''}`,
        ),
};

/** Which programs are needed is said before anything is started, with the command that brings a missing one. */
async function bringTools(): Promise<void> {
  screen.title('Tools');
  const names = [
    ...new Set(['nats-server' as const, 'docker-registry' as const, ...AGENT_TOOLS.build, ...AGENT_TOOLS.install]),
  ];
  const missing: string[] = [];
  for (const name of names) {
    try {
      const tool = await requireTool(name, { onProgress: (line) => screen.step(line) });
      screen.done(`${name} ${tool.version}`);
    } catch (error) {
      if (!(error instanceof ToolMissing)) throw error;
      missing.push(error.message);
      screen.failed(error.message);
    }
  }
  if (missing.length > 0) throw new Error('install the programs above and start the demo again');
}

interface Outcome {
  readonly rest: RestClient;
  readonly succeeded: boolean;
  readonly installId: string;
  readonly deploymentId: string;
}

async function runMainJob(
  platform: Platform,
  customers: Customer[],
  stoppers: { stop(): Promise<void> }[],
): Promise<Outcome> {
  screen.title('The vendor signs up');
  const { rest, account } = await vendorOf(platform, 'acme');
  screen.done(
    `vendor ${account.vendor.name} (${account.vendor.id}), registry ${account.registry.url}/${account.registry.namespace}`,
  );
  stoppers.push(await startBuildAgent(platform, () => Promise.resolve(account.build_agent)));
  screen.done(`build agent ${account.build_agent.agent_id} enrolled and connected`);

  const product = await shopProduct(platform);
  const app = await declareProduct(rest, product);
  screen.done(
    `app ${app.name} (${app.id}) with ${product.components.length} components, source commit ${product.commit.slice(0, 12)}`,
  );

  let release = await releaseOf(rest, app, product, product.commit);
  let builds: JobHistory[] = [];
  if (release) {
    screen.title(`Release ${release.version} holds these sources already`);
  } else {
    screen.title('Build, sign and push');
    const built = await buildAll(rest, app, tell);
    builds = built.histories;
    if (built.builds.some(({ status }) => status !== 'succeeded'))
      throw new Error('not every component could be built');
    const count = (await rest.all<Release>(`/v1/apps/${app.id}/releases`)).length;
    release = await rest.post<Release>(`/v1/apps/${app.id}/releases`, { version: `1.${count}.0` });
    screen.done(`release ${release.version} (${release.id})`);
  }

  screen.title('A customer installs it');
  const install = await installOf(rest, app, 'globex', { region: 'eu-central-1', replicas: 2 });
  const customer = await startCustomer(platform, 'globex', () => enrolmentToken(rest, install));
  customers.push(customer);
  screen.done(`install ${install.name} (${install.id}), agent ${install.agent_id} connected outbound`);
  screen.done(`its own registry on ${customer.registry.host}, which only the agent can write to`);

  screen.title(`Deploy release ${release.version}`);
  const { deployment, histories } = await deploy(rest, install, { kind: 'deploy', release_id: release.id }, tell);
  report(release, builds, histories);
  const { wallMs, toolMs, transferMs, restMs } = timeShares(deployment, histories);
  screen.note(
    `\n  deployment ${deployment.status} in ${screen.seconds(wallMs)}: ${screen.seconds(toolMs)} in terraform and kubectl, ` +
      `${transferMs} ms copying between registries, ${Math.max(0, restMs)} ms orchestration`,
  );
  return { rest, succeeded: deployment.status === 'succeeded', installId: install.id, deploymentId: deployment.id };
}

function report(release: Release, builds: readonly JobHistory[], histories: readonly JobHistory[]): void {
  screen.title('What was done');
  const of = (list: readonly JobHistory[], kind: Job['kind'], name: string): JobHistory | undefined =>
    list.find(({ job }) => job.kind === kind && job.component.name === name);
  const time = (history: JobHistory | undefined): string => (history ? screen.seconds(jobMs(history)) : '-');
  screen.table(
    ['component', 'kind', 'digest', 'build', 'sync', 'copied', 'apply', 'changes'],
    release.components.map(({ name, kind, artifact }) => {
      const sync = of(histories, 'sync', name);
      const apply = of(histories, 'apply', name);
      const { bytes_copied: copied = 0 } = (sync?.job.result ?? {}) as Record<string, number>;
      const { created = 0, updated = 0, deleted = 0 } = (apply?.job.result ?? {}) as Record<string, number>;
      return [
        name,
        kind,
        artifact.digest.slice(0, 19),
        time(of(builds, 'build', name)),
        time(sync),
        `${copied} B`,
        time(apply),
        apply?.job.result?.changed === false ? 'none' : `+${created} ~${updated} -${deleted}`,
      ];
    }),
  );
}

async function whereToLook(platform: Platform, { rest, installId, deploymentId }: Outcome): Promise<void> {
  const key = join(platform.dir, 'keys', 'api-key-acme');
  const { url } = await rest.post<{ url: string }>('/v1/sign-in-links');
  screen.title('Where to look next');
  screen.note(`The web page; this link signs you in once, later the API key does:`);
  screen.command(url);
  screen.note(`REST ${platform.gatewayUrl}/v1, described at ${platform.gatewayUrl}/openapi.json`);
  screen.note(`The vendor's API key is in ${key}; try:`);
  screen.command(`export IMS=${platform.gatewayUrl} IMS_API_KEY=$(cat ${key})`);
  for (const path of [
    `deployments/${deploymentId}`,
    `jobs?deployment_id=${deploymentId}`,
    `installs/${installId}/events`,
    `installs/${installId}/pull-tokens`,
  ]) {
    screen.command(`curl -sH "Authorization: Bearer $IMS_API_KEY" "$IMS/v1/${path}"`);
  }
  screen.command(`kubectl --kubeconfig ${join(platform.dir, 'kubeconfig')} get all --namespace shop`);
  screen.note(`Logs of every process: ${join(platform.dir, 'logs')}`);
}

async function main(): Promise<number> {
  if (flags.help === true) return (console.log(USAGE), 0);
  if (positionals[0] === 'down') {
    rmSync(dir, { recursive: true, force: true });
    console.log(`removed ${dir}`);
    return 0;
  }
  if (positionals.length > 0) return (console.error(USAGE), 2);

  const stoppers: { stop(): Promise<void> }[] = [];
  const customers: Customer[] = [];
  let interrupted: () => void = () => undefined;
  const interruption = new Promise<void>((resolve) => (interrupted = resolve));
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted());
  const stop = async (): Promise<void> => {
    for (const each of [...customers, ...stoppers.reverse()]) await each.stop();
  };
  try {
    await bringTools();
    screen.title(existsSync(dir) ? 'Infrastructure (from an earlier run)' : 'Infrastructure');
    const platform = await startPlatform({ dir, onStep: (what) => screen.done(what) });
    stoppers.unshift(platform);
    const outcome = await Promise.race([runMainJob(platform, customers, stoppers), interruption.then(() => undefined)]);
    if (!outcome) return 130;
    await whereToLook(platform, outcome);
    if (flags.exit !== true) {
      screen.note('\n  Everything stays up until Ctrl-C. Remove it all: npm run demo -- down');
      await interruption;
    }
    return outcome.succeeded ? 0 : 1;
  } catch (error) {
    screen.failed(error instanceof Error ? error.message : String(error));
    if (error instanceof RestProblem && error.next) screen.note(error.next);
    return 1;
  } finally {
    screen.note('stopping');
    await stop();
  }
}

process.exit(await main());
