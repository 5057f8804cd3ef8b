import { randomBytes } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { keptSecret } from './files.js';
import { freePort } from './ports.js';
import { StartError, supervise } from './process.js';
import { requireTool, type ToolOptions } from './tools.js';

/** Who may pull and push: bearers of a JWT of that issuer, signed by a key certified in `certPem`. */
export interface RegistryAuth {
  /** URL of the token endpoint that the registry sends its clients to. */
  readonly realm: string;
  /** Audience of the JWT. */
  readonly service: string;
  readonly issuer: string;
  /** One or several certificates: during a rotation the old and the new one. The registry reads them at its start. */
  readonly certPem: string;
}

export interface RegistryOptions extends ToolOptions {
  /** Blobs, configuration and logs; reused when it exists. */
  readonly dir: string;
  readonly port?: number;
  /** Without it the registry is open to everyone on this machine. */
  readonly auth?: RegistryAuth;
}

export interface RegistryServer {
  /** `127.0.0.1:25000`, as it stands in image references. */
  readonly host: string;
  readonly url: string;
  readonly port: number;
  readonly pid: number | undefined;
  readonly logFile: string;
  /** One line a request, in the combined log format. */
  readonly accessLogFile: string;
  stop(): Promise<void>;
  kill(): Promise<void>;
  /** On the same port; with other certificates or another realm when they are given. */
  restart(auth?: RegistryAuth): Promise<void>;
}

/** Starts a distribution registry on loopback: filesystem storage, deletion allowed. Ready in about 50 ms. */
export async function startRegistry(options: RegistryOptions): Promise<RegistryServer> {
  const { path: bin } = await requireTool('docker-registry', options);
  const { dir } = options;
  await mkdir(join(dir, 'data'), { recursive: true });
  let port = options.port ?? (await freePort());
  let { auth } = options;
  const configFile = join(dir, 'registry.yml');
  const certFile = join(dir, 'token-issuers.pem');
  const accessLogFile = join(dir, 'access.log');
  const secret = await keptSecret(join(dir, 'http-secret'), () => randomBytes(32).toString('hex'));

  async function configure(): Promise<void> {
    if (auth) await writeFile(certFile, auth.certPem);
    const config = {
      version: '0.1',
      log: { level: 'info', fields: { service: 'registry' } },
      storage: { filesystem: { rootdirectory: join(dir, 'data') }, delete: { enabled: true } },
      http: { addr: `127.0.0.1:${port}`, secret },
      ...(auth
        ? {
            auth: {
              token: { realm: auth.realm, service: auth.service, issuer: auth.issuer, rootcertbundle: certFile },
            },
          }
        : {}),
    };
    await writeFile(configFile, stringify(config), { mode: 0o600 });
  }

  const server = supervise(() => ({
    name: 'registry',
    bin,
    args: ['serve', configFile],
    // One thread: a request costs 2.0 ms of CPU instead of 3.0 (two cores, distribution 2.8); it serves one install.
    env: { GOMAXPROCS: '1' },
    logFile: join(dir, 'registry.log'),
    stdoutFile: accessLogFile,
    pidFile: join(dir, 'registry.pid.json'),
    ready: (log) => log.includes(`listening on 127.0.0.1:${port}`),
  }));

  for (let attempt = 1; ; attempt++) {
    await configure();
    try {
      await server.start();
      break;
    } catch (error) {
      const taken = error instanceof StartError && error.log.includes('address already in use');
      if (!taken || options.port !== undefined || attempt === 3) throw error;
      port = await freePort();
    }
  }
  return {
    host: `127.0.0.1:${port}`,
    url: `http://127.0.0.1:${port}`,
    port,
    get pid() {
      return server.pid;
    },
    logFile: server.logFile,
    accessLogFile,
    stop: server.stop,
    kill: server.kill,
    restart: async (other) => {
      auth = other ?? auth;
      await server.stop();
      await configure();
      await server.start();
    },
  };
}
