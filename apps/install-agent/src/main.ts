import 'reflect-metadata';
import { NestFactory } from '@nestjs/core';
import { agentMain, AgentModule, customerCommands, parseAgentCommand, untilStopped, type Identity } from '#agent-kit';
import { createLogger, loadConfig, NestLogger } from '#platform';
import { ComponentStore } from './component-store.js';
import { InstallAgentConfig } from './config.js';
import { InstallRegistry, makeRegistryKeys } from './install-registry.js';
import { ApplyHandler, DestroyHandler, Provisioning } from './provision-handlers.js';
import { SyncHandler } from './sync-handler.js';

const VERSION = '0.1.0';
const logger = createLogger('install-agent');
const argv = process.argv.slice(2);

async function run(identity: Identity, stateDir: string, policyFile?: string): Promise<void> {
  const config = loadConfig(InstallAgentConfig, process.env);
  await makeRegistryKeys(stateDir);
  const registry = await InstallRegistry.open(config.INSTALL_REGISTRY_URL, stateDir, config.CA_FILE);
  const realm = await registry.serve(config.HTTP_HOST, config.HTTP_PORT);
  const module = AgentModule.forAgent({
    agent: {
      stateDir,
      version: VERSION,
      customer: policyFile === undefined ? {} : { policyFile },
      ...(config.CA_FILE === undefined ? {} : { caFile: config.CA_FILE }),
    },
    identity,
    handlers: [SyncHandler, ApplyHandler, DestroyHandler],
    providers: [
      { provide: InstallAgentConfig, useValue: config },
      { provide: InstallRegistry, useValue: registry },
      { provide: ComponentStore, useValue: new ComponentStore(stateDir) },
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
  commands: customerCommands,
});
// What goes into a pipe is written later: an export must not lose its end.
await new Promise<void>((resolve) => process.stdout.write('', () => resolve()));
process.exit();
