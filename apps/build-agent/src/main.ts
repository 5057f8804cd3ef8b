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
  run: async (identity, stateDir) => {
    const config = loadConfig(BuildAgentConfig, process.env);
    const ca = config.CA_FILE === undefined ? undefined : await readFile(config.CA_FILE, 'utf8');
    const host = new BuildHost(config, stateDir, await signingKeyOf(stateDir), ca);
    const module = AgentModule.forAgent({
      agent: { stateDir, version: VERSION, ...(config.CA_FILE === undefined ? {} : { caFile: config.CA_FILE }) },
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
