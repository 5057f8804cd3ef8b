import { readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startRegistry, type RegistryServer } from '#stack';

/**
 * The registry of one install on this machine: distribution, trusting the certificate that the install agent made when
 * it enrolled. `realmPort` is the port at which that agent answers token requests of nodes.
 */
export function startInstallRegistry(options: {
  readonly agentState: string;
  readonly dir: string;
  readonly port: number;
  readonly realmPort: number;
}): Promise<RegistryServer> {
  return startRegistry({
    dir: options.dir,
    port: options.port,
    auth: {
      realm: `http://127.0.0.1:${options.realmPort}/token`,
      service: 'install-registry',
      issuer: 'install-agent',
      certPem: readFileSync(join(options.agentState, 'registry.crt'), 'utf8'),
    },
  });
}

/** By hand: `node dist/deploy/local/install-registry.js --state AGENT_STATE --port N --realm-port M`. Until Ctrl-C. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { state: { type: 'string' }, port: { type: 'string' }, 'realm-port': { type: 'string' } },
  });
  const { state, port, 'realm-port': realmPort } = values;
  if (!state || !port || !realmPort) throw new Error('usage: install-registry --state DIR --port N --realm-port M');
  const registry = await startInstallRegistry({
    agentState: state,
    dir: `${state}-registry`,
    port: Number(port),
    realmPort: Number(realmPort),
  });
  console.log(`registry on ${registry.url}`);
  const stopped = new Promise((resolve) => ['SIGINT', 'SIGTERM'].forEach((signal) => process.on(signal, resolve)));
  await stopped;
  await registry.stop();
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === import.meta.filename) await main();
