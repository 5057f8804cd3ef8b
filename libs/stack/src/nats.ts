import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Certificates } from './certificates.js';
import { natsIdentities, resolverDir, type NatsIdentities } from './nats-identities.js';
import { freePort } from './ports.js';
import { StartError, supervise } from './process.js';
import { requireTool, type ToolOptions } from './tools.js';

export interface NatsOptions extends ToolOptions {
  /** Streams, keys, configuration and log; reused when it exists. */
  readonly dir: string;
  readonly port?: number;
  /** Also listens for WebSocket connections, on a port of its own. */
  readonly websocket?: boolean;
  readonly websocketPort?: number;
  /** Both listeners speak TLS, and nothing else. */
  readonly tls?: Certificates;
  /** One of a cluster: its name, its port for the others, and where they are. Keys are those of the cluster. */
  readonly member?: NatsMember;
  /** Prints every protocol line to the log. Shows payloads; for a debugging hour only. */
  readonly trace?: boolean;
}

export interface NatsMember {
  readonly name: string;
  readonly port: number;
  readonly routes: readonly string[];
  readonly keysDir: string;
}

export interface NatsServer extends Omit<NatsIdentities, 'operatorJwt' | 'preload' | 'accountStatement'> {
  readonly url: string;
  readonly port: number;
  readonly websocketUrl: string | undefined;
  /** PEM of the authority that clients have to trust. */
  readonly caFile: string | undefined;
  /** `/varz`, `/connz`, `/jsz`, `/healthz`. */
  readonly monitorUrl: string;
  readonly pid: number | undefined;
  readonly logFile: string;
  stop(): Promise<void>;
  kill(): Promise<void>;
  /** On the same ports. */
  restart(): Promise<void>;
}

interface Ports {
  readonly client: number;
  readonly monitor: number;
  readonly websocket: number | undefined;
}

/** Strings of the configuration language are JSON strings. */
const quoted = (text: string): string => JSON.stringify(text);

/** The part of a server's configuration that says whom it trusts. No secret in it. */
export const natsAuthConfig = (ids: Pick<NatsIdentities, 'operatorJwt' | 'preload'>, dir: string): string =>
  `operator: ${quoted(ids.operatorJwt)}
# A service's user names each subject that it may use, and comes in one line: with the default of 4 KB the server hangs up.
max_control_line: 64KB
resolver: { type: full, dir: ${quoted(resolverDir(dir))}, allow_delete: false, interval: "2m" }
resolver_preload: {
${Object.entries(ids.preload)
  .map(([account, jwt]) => `  ${account}: ${quoted(jwt)}`)
  .join('\n')}
}
`;

/** On two busy cores a handshake takes longer than the 2 s that the server gives it. */
const tlsBlock = ({ certFile, keyFile }: Certificates): string =>
  `{ cert_file: ${quoted(certFile)}, key_file: ${quoted(keyFile)}, timeout: 10 }`;

const clusterBlock = ({ port, routes }: NatsMember): string =>
  `cluster { name: ims, listen: "127.0.0.1:${port}", routes: [${routes.map(quoted).join(', ')}] }\n`;

function configText(options: NatsOptions, ports: Ports, ids: NatsIdentities): string {
  const { tls, member } = options;
  return `server_name: ${member?.name ?? 'ims'}
listen: "127.0.0.1:${ports.client}"
http: "127.0.0.1:${ports.monitor}"
max_payload: 1MB
logtime: true
${options.trace === true ? 'debug: true\ntrace: true\n' : ''}${natsAuthConfig(ids, options.dir)}jetstream {
  store_dir: ${quoted(join(options.dir, 'jetstream'))}
  # An acknowledged message survives a power cut: 1,840 acks a second instead of 3,210.
  sync_interval: always
  # The server sets aside the maximum of every stream, 23 GiB for ours, and by default has only what the disk has free.
  # What is really written is bounded by the streams.
  max_file_store: 256GB
  max_memory_store: 256MB
}
${member === undefined ? '' : clusterBlock(member)}${tls === undefined ? '' : `tls ${tlsBlock(tls)}\n`}${
    ports.websocket === undefined
      ? ''
      : `websocket { listen: "127.0.0.1:${ports.websocket}", ${tls === undefined ? 'no_tls: true' : `tls ${tlsBlock(tls)}`} }\n`
  }`;
}

/**
 * Starts a NATS server on loopback: JetStream in files, decentralised auth (operator, account, users). Ready in about
 * 100 ms. Needs nats-server 2.10 or newer, which is fetched when it is not there.
 */
export async function startNats(options: NatsOptions): Promise<NatsServer> {
  const { path: bin } = await requireTool('nats-server', options);
  const { dir } = options;
  await mkdir(resolverDir(dir), { recursive: true, mode: 0o700 });
  const configFile = join(dir, 'nats.conf');
  const server = supervise(() => ({
    name: 'nats-server',
    bin,
    args: ['-c', configFile],
    logFile: join(dir, 'nats.log'),
    pidFile: join(dir, 'nats.pid.json'),
    ready: (log) => log.includes('Server is ready'),
    // After a kill it replays its consumers: 9.5 s for 5,000 of them.
    startMs: 60_000,
    stopMs: 60_000,
  }));
  const choosePorts = async (): Promise<Ports> => ({
    client: options.port ?? (await freePort()),
    monitor: await freePort(),
    websocket: options.websocket === true ? (options.websocketPort ?? (await freePort())) : undefined,
  });

  let ids = await natsIdentities(options.member?.keysDir ?? dir);
  let ports = await choosePorts();
  const configure = (): Promise<void> => writeFile(configFile, configText(options, ports, ids), { mode: 0o600 });
  for (let attempt = 1; ; attempt++) {
    await configure();
    try {
      await server.start();
      break;
    } catch (error) {
      const taken = error instanceof StartError && error.log.includes('address already in use');
      if (!taken || attempt === 3) throw error;
      ports = await choosePorts();
    }
  }
  return {
    url: `${options.tls ? 'tls' : 'nats'}://127.0.0.1:${ports.client}`,
    port: ports.client,
    websocketUrl:
      ports.websocket === undefined ? undefined : `${options.tls ? 'wss' : 'ws'}://127.0.0.1:${ports.websocket}`,
    caFile: options.tls?.caFile,
    monitorUrl: `http://127.0.0.1:${ports.monitor}`,
    get pid() {
      return server.pid;
    },
    logFile: server.logFile,
    keys: ids.keys,
    serviceCreds: ids.serviceCreds,
    systemCreds: ids.systemCreds,
    agentCreds: ids.agentCreds,
    stop: server.stop,
    kill: server.kill,
    restart: async () => {
      await server.stop();
      // Otherwise the preloaded statement would be older than a revocation that was pushed meanwhile. The members of a
      // cluster learn it from one another.
      if (options.member === undefined) {
        ids = await natsIdentities(dir);
        await configure();
      }
      await server.start();
    },
  };
}

/** Servers of one cluster, with the same identities: streams of three replicas survive the loss of one. */
export async function startNatsCluster(options: {
  readonly dir: string;
  readonly size: number;
}): Promise<NatsServer[]> {
  const { dir, size } = options;
  // Made once, before the members look for them at the same time.
  await natsIdentities(dir);
  const ports: number[] = [];
  while (ports.length < size) ports.push(await freePort());
  const routes = ports.map((port) => `nats://127.0.0.1:${port}`);
  const members = ports.map((port, i) => ({ name: `ims-${i}`, port, routes, keysDir: dir }));
  // Each is ready only when the cluster has chosen a leader, so they start together.
  return Promise.all(members.map((member) => startNats({ dir: join(dir, member.name), member })));
}
