import 'reflect-metadata';
import { readFile } from 'node:fs/promises';
import { NestFactory } from '@nestjs/core';
import { agentMain, AgentModule, untilStopped } from '#agent-kit';
import { loadConfig, NestLogger, createLogger } from '#platform';
import { BuildAgentConfig } from './config.js';
import { BuildHandler, BuildHost } from './build-handler.js';
import { signingKeyOf } from './signing-key.js';

const VERSION = '0.1.0';
const logger = createLogger('build-agent');

process.exitCode = await agentMain({
  program: 'build-agent',
  kind: 'build',
  version: VERSION,
  argv: process.argv.slice(2),
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  signingPublicKey: async (stateDir) => (await signingKeyOf(stateDir)).publicKeyPem,
  needs: () => {
    const config = loadConfig(BuildAgentConfig, process.env);
    const tools = [
      { name: 'git', bin: config.GIT_BIN, args: ['--version'] },
      { name: 'buildah', bin: config.BUILDAH_BIN, args: ['--version'] },
      { name: 'runc', bin: config.RUNC_BIN, args: ['--version'] },
      { name: 'terraform', bin: config.TERRAFORM_BIN, args: ['version'] },
      { name: 'helm', bin: config.HELM_BIN, args: ['version', '--short'] },
      { name: 'kubectl', bin: config.KUBECTL_BIN, args: ['version', '--client'] },
    ];
    return Promise.resolve({ tools, caFile: config.CA_FILE });
  },
  run: async (identity, stateDir) => {
    const config = loadConfig(BuildAgentConfig, process.env);
    const caFile = config.CA_FILE ?? identity.caFile;
    // Of the registries only where it is said: public ones that images are copied from have public certificates.
    const ca = config.CA_FILE === undefined ? undefined : await readFile(config.CA_FILE, 'utf8');
    const host = new BuildHost(config, stateDir, await signingKeyOf(stateDir), ca);
    const module = AgentModule.forAgent({
      agent: { stateDir, version: VERSION, ...(caFile === undefined ? {} : { caFile }) },
      identity,
      handlers: [BuildHandler],
      providers: [{ provide: BuildHost, useValue: host }],
    });
    const app = await NestFactory.createApplicationContext(module, {
      logger: new NestLogger(logger),
      abortOnError: false,
    });
    logger.info({ agent_id: identity.agentId }, 'ready');
    await untilStopped();
    await app.close();
  },
});
// A tool that hangs in a closed pipe must not keep a process that has said goodbye.
process.exit();
