import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type AgentKind, type EnrolmentToken } from '#contracts';
import {
  PROJECT_ROOT,
  requireTool,
  startService,
  type RegistryServer,
  type RunningService,
  type ToolName,
} from '#stack';
import { startInstallRegistry } from './install-registry.js';
import { type PlatformAccess } from './platform.js';

/** Programs that each kind of agent runs; they are found or brought before the agent starts. */
export const AGENT_TOOLS: Readonly<Record<AgentKind, readonly ToolName[]>> = {
  build: ['git', 'terraform', 'helm', 'kubectl', 'buildah', 'runc'],
  install: ['terraform', 'kubectl', 'helm'],
};

async function toolVariables(kind: AgentKind): Promise<Record<string, string>> {
  const tools = await Promise.all(AGENT_TOOLS[kind].map((name) => requireTool(name)));
  return Object.fromEntries(tools.map(({ name, path }) => [`${name.toUpperCase()}_BIN`, path]));
}

/** Runs `<agent> enrol` as a person on the agent's host would: the token goes in by standard input. */
async function enrol(
  platform: PlatformAccess,
  app: string,
  state: string,
  env: Record<string, string>,
  token: EnrolmentToken,
): Promise<void> {
  const main = join(PROJECT_ROOT, 'dist/apps', app, 'src/main.js');
  // The private authority of this machine's NATS: given by hand, as a customer would, and kept from then on.
  const args = ['enrol', '--server', platform.gatewayUrl, '--state', state, '--ca-file', platform.caFile];
  const child = spawn(process.execPath, [main, ...args], {
    env: { PATH: process.env.PATH ?? '', ...env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
  child.stdin.end(token.token);
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', resolve);
  });
  if (code !== 0) throw new Error(`${app} could not enrol:\n${output.trim().split('\n').slice(-10).join('\n')}`);
}

const isEnrolled = (state: string): boolean => existsSync(join(state, 'identity.json'));

async function startAgent(
  platform: PlatformAccess,
  app: string,
  name: string,
  state: string,
  env: Record<string, string>,
): Promise<RunningService> {
  return startService({
    name,
    app,
    args: ['run', '--state', state],
    env,
    logFile: join(platform.dir, 'logs', `${name}.log`),
    readyLog: /"msg":"ready"/,
  });
}

/** The vendor's build agent: enrolled at the first start (`token` is asked for then only), the same identity afterwards. */
export async function startBuildAgent(
  platform: PlatformAccess,
  token: () => Promise<EnrolmentToken>,
): Promise<RunningService> {
  const state = join(platform.dir, 'build-agent');
  const env = await toolVariables('build');
  if (!isEnrolled(state)) await enrol(platform, 'build-agent', state, env, await token());
  return startAgent(platform, 'build-agent', 'build-agent', state, env);
}

export interface Customer {
  readonly agent: RunningService;
  /** The install's own registry; only the agent can write to it. */
  readonly registry: RegistryServer;
  readonly state: string;
  stop(): Promise<void>;
}

/** A customer's account: the install agent and the install's own registry, which trusts the agent's certificate only. */
export async function startCustomer(
  platform: PlatformAccess,
  name: string,
  token: () => Promise<EnrolmentToken>,
  ports = { registry: platform.ports.installRegistry, agent: platform.ports.installAgent },
): Promise<Customer> {
  const state = join(platform.dir, `install-agent-${name}`);
  const env = {
    ...(await toolVariables('install')),
    KUBECONFIG: join(platform.dir, 'kubeconfig'),
    INSTALL_REGISTRY_URL: `http://127.0.0.1:${ports.registry}`,
    HTTP_HOST: '127.0.0.1',
    HTTP_PORT: String(ports.agent),
  };
  if (!isEnrolled(state)) await enrol(platform, 'install-agent', state, env, await token());
  const registry = await startInstallRegistry({
    agentState: state,
    dir: join(platform.dir, `install-registry-${name}`),
    port: ports.registry,
    realmPort: ports.agent,
  });
  try {
    const agent = await startAgent(platform, 'install-agent', `install-agent-${name}`, state, env);
    return {
      agent,
      registry,
      state,
      stop: async () => {
        await agent.stop();
        await registry.stop();
      },
    };
  } catch (error) {
    await registry.stop();
    throw error;
  }
}
