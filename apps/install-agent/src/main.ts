import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import {
  agentMain,
  AgentModule,
  customerCommands,
  parseAgentCommand,
  untilStopped,
  type AgentProgram,
  type Finding,
  type Identity,
} from '#agent-kit';
import { createLogger, loadConfig, NestLogger } from '#platform';
import { ComponentStore } from './component-store.js';
import { InstallAgentConfig } from './config.js';
import { InstallRegistry, makeRegistryKeys } from './install-registry.js';
import { ObserveHandler } from './observe-handler.js';
import { ApplyHandler, DestroyHandler, Provisioning } from './provision-handlers.js';
import { AwsSecrets, EnvironmentSecrets } from './secret-stores.js';
import { SyncHandler } from './sync-handler.js';

const VERSION = '0.1.0';
const logger = createLogger('install-agent');
const argv = process.argv.slice(2);

async function run(identity: Identity, stateDir: string, policyFile?: string): Promise<void> {
  const config = loadConfig(InstallAgentConfig, process.env);
  await makeRegistryKeys(stateDir);
  const caFile = config.CA_FILE ?? identity.caFile;
  const registry = await InstallRegistry.open(config.INSTALL_REGISTRY_URL, stateDir, caFile);
  const realm = await registry.serve(config.HTTP_HOST, config.HTTP_PORT);
  const secretStores = { env: new EnvironmentSecrets(process.env), aws_secret: new AwsSecrets() };
  const module = AgentModule.forAgent({
    agent: {
      stateDir,
      version: VERSION,
      customer: policyFile === undefined ? {} : { policyFile },
      ...(caFile === undefined ? {} : { caFile }),
    },
    identity,
    handlers: [SyncHandler, ApplyHandler, DestroyHandler, ObserveHandler],
    providers: [
      { provide: InstallAgentConfig, useValue: config },
      { provide: InstallRegistry, useValue: registry },
      { provide: ComponentStore, useValue: new ComponentStore(stateDir, secretStores) },
      Provisioning,
    ],
  });
  const app = await NestFactory.createApplicationContext(module, {
    logger: new NestLogger(logger),
    abortOnError: false,
  });
  logger.info({ agent_id: identity.agentId, registry_realm_port: realm.port }, 'ready');
  await untilStopped();
  await app.close();
  await realm.close();
}

/** For `doctor`: what this agent runs, and the registry that it alone writes to. */
function needs(stateDir: string): ReturnType<NonNullable<AgentProgram['needs']>> {
  const config = loadConfig(InstallAgentConfig, process.env);
  const tools = [
    { name: 'terraform', bin: config.TERRAFORM_BIN, args: ['version'] },
    { name: 'kubectl', bin: config.KUBECTL_BIN, args: ['version', '--client'] },
    { name: 'helm', bin: config.HELM_BIN, args: ['version', '--short'] },
  ];
  const more = async (): Promise<Finding[]> => {
    const check = 'install registry';
    const { INSTALL_REGISTRY_URL: url, CA_FILE: ca } = config;
    try {
      await makeRegistryKeys(stateDir);
      const registry = await InstallRegistry.open(url, stateDir, ca);
      await registry.checkPush();
      return [{ check, status: 'ok', said: `${url} takes what this agent writes` }];
    } catch (error) {
      const said = `${url}: ${error instanceof Error ? error.message : String(error)}`;
      const remedy = 'Start it with the certificate that is in the state directory, so that it trusts this agent.';
      return [{ check, status: 'fail', said, remedy }];
    }
  };
  return Promise.resolve({ tools, caFile: config.CA_FILE, more });
}

/** The install's registry is started with the certificate that enrolment leaves in the state directory. */
async function prepareEnrolment(): Promise<void> {
  const asked = argv[0] === 'enrol' ? parseAgentCommand(argv) : undefined;
  if (asked) await makeRegistryKeys(asked.stateDir);
}

// Wrong usage is agentMain's to explain.
await prepareEnrolment().catch((error: unknown) => logger.debug({ err: error }, 'no registry keys were made'));
process.exitCode = await agentMain({
  program: 'install-agent',
  kind: 'install',
  version: VERSION,
  argv,
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  run,
  needs,
  commands: customerCommands,
});
// What goes into a pipe is written later: an export must not lose its end.
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
process.exit();
