import 'reflect-metadata';
import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import { pushArtifact, RegistryClient } from '#oci';
import { loadConfig } from '#platform';
import { findTools, requireTool, type ToolName } from '#stack';
import { RegistryTokenConfig } from '../../apps/registry-token/src/config.js';
import { startRegistryToken } from '../../apps/registry-token/src/registry-token.module.js';
import { until, World } from '../../apps/registry-token/test/world.js';

const run = promisify(execFile);
/** Fetched where they are not there, a package each; skopeo is installed into the machine, so only TEST_INTEROP=1 brings it. */
const FETCHED: readonly ToolName[] = ['crane', 'oras', 'helm'];
const INSTALLED: readonly ToolName[] = ['skopeo'];
const BROUGHT = process.env['TEST_INTEROP'] === '1' ? [...FETCHED, ...INSTALLED] : FETCHED;

/** What people pull with, each against the distribution door of registry-token: a real registry sends it there. */
describe('a one-time token and a stock client', () => {
  let world: World;
  let app: NestFastifyApplication;
  const tools = new Map<ToolName, string>();
  let reference: string;
  let chart: string;

  beforeAll(async () => {
    world = await World.start(1);
    app = await startRegistryToken(loadConfig(RegistryTokenConfig, { ...world.replicas[0] }), { ownsProcess: false });
    for (const name of BROUGHT) {
      const tool = await requireTool(name).catch((error: unknown) => {
        console.warn(`skipped ${name}: ${String(error)}`);
        return undefined;
      });
      if (tool) tools.set(name, tool.path);
    }
    for (const [name, tool] of Object.entries(await findTools(INSTALLED))) tools.set(name as ToolName, tool.path);
    const push = async (repository: string): Promise<RegistryClient> => {
      const { body } = await world.ask({
        action: 'issue_push_token',
        statement: world.statement('build', { repository }),
      });
      const token = (): Promise<string> => Promise.resolve(String(body['registry_token']));
      return new RegistryClient({ baseUrl: world.registry.url, credential: { kind: 'bearer', token } });
    };
    const image = await pushArtifact({
      client: await push(world.repository),
      repository: world.repository,
      artifactType: 'application/vnd.example.note',
      layers: [{ mediaType: 'text/plain', bytes: Buffer.from('hello') }],
    });
    reference = `${world.registry.host}/${world.repository}@${image.digest}`;
    chart = await pushChart(await push('acme/shop/chart'));
  }, 240_000);
  afterAll(async () => {
    await app?.close();
    await world?.stop();
  });

  /** A chart as helm itself packs it. */
  async function pushChart(client: RegistryClient): Promise<string> {
    const helm = tools.get('helm');
    if (helm === undefined) return '';
    const folder = join(world.dir, 'chart');
    mkdirSync(folder);
    writeFileSync(join(folder, 'Chart.yaml'), 'apiVersion: v2\nname: chart\nversion: 1.0.0\n');
    await run(helm, ['package', folder, '-d', world.dir], { env: environment('helm-package') });
    const config = Buffer.from('{"apiVersion":"v2","name":"chart","version":"1.0.0"}');
    const bytes = readFileSync(join(world.dir, 'chart-1.0.0.tgz'));
    await pushArtifact({
      client,
      repository: 'acme/shop/chart',
      config: { mediaType: 'application/vnd.cncf.helm.config.v1+json', bytes: config },
      layers: [{ mediaType: 'application/vnd.cncf.helm.chart.content.v1.tar+gzip', bytes }],
      tag: '1.0.0',
    });
    return `oci://${world.registry.host}/acme/shop/chart`;
  }

  /** A home of its own: nobody's stored login helps. */
  const environment = (name: string): NodeJS.ProcessEnv => {
    const home = join(world.dir, `home-${name}`);
    mkdirSync(join(home, '.docker'), { recursive: true });
    return { PATH: process.env['PATH'], HOME: home, DOCKER_CONFIG: join(home, '.docker'), XDG_RUNTIME_DIR: home };
  };
  const login = (env: NodeJS.ProcessEnv, id: string, secret: string): void => {
    const auth = Buffer.from(`${id}:${secret}`).toString('base64');
    const config = JSON.stringify({ auths: { [world.registry.host]: { auth } } });
    writeFileSync(join(env['DOCKER_CONFIG'] ?? '', 'config.json'), config, { mode: 0o600 });
  };

  interface Client {
    readonly name: ToolName;
    readonly pull: (into: string, id: string, secret: string) => readonly string[];
    readonly withConfig?: boolean;
    readonly repository?: string;
  }
  const CLIENTS: readonly Client[] = [
    { name: 'crane', withConfig: true, pull: () => ['manifest', '--insecure', reference] },
    {
      name: 'oras',
      pull: (into, id, secret) => ['pull', '--plain-http', '-u', id, '-p', secret, '-o', into, reference],
    },
    {
      name: 'skopeo',
      pull: (into, id, secret) => [
        'copy',
        '--src-tls-verify=false',
        '--src-creds',
        `${id}:${secret}`,
        `docker://${reference}`,
        `dir:${into}`,
      ],
    },
    {
      name: 'helm',
      repository: 'acme/shop/chart',
      pull: (into, id, secret) => [
        ...['pull', chart, '--version', '1.0.0', '--plain-http', '-d', into],
        ...['--username', id, '--password', secret],
      ],
    },
  ];

  it.each(CLIENTS)(
    '$name pulls once; its second pull is refused and holds the job',
    async (client) => {
      const tool = tools.get(client.name);
      if (tool === undefined) {
        console.warn(`skipped: ${client.name} is not on this machine`);
        return;
      }
      const { repository = world.repository } = client;
      const artifact = { repository, digest: world.digest, media_type: 'x', size_bytes: 1 };
      const { token, token_id: id } = await world.issue({ artifact });
      const secret = token.split('.')[1]!;
      const env = environment(client.name);
      const into = join(world.dir, `pulled-${client.name}`);
      mkdirSync(into);
      const pull = (): Promise<unknown> => {
        if (client.withConfig) login(env, id, secret);
        return run(tool, [...client.pull(into, id, secret)], { env, cwd: into, timeout: 60_000 });
      };
      await pull();
      await expect(pull()).rejects.toThrow();
      await until('it is seen', async () => (await world.factsOf(id)).includes('tampered'));
      const facts = await world.factsOf(id);
      expect(facts.filter((type) => type === 'redeemed')).toHaveLength(1);
      expect(facts.slice(0, 2)).toEqual(['issued', 'redeemed']);
    },
    120_000,
  );
});
