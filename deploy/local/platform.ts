import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SERVICES, type ServiceName } from '#contracts';
import { createNkey, nkeyFromSeed } from '#messaging';
import { createRegistryCertificate } from '#oci';
import {
  freePort,
  keptCertificates,
  keptSecret,
  startKubeApi,
  startNats,
  startPostgres,
  startRegistry,
  startService,
  type RegistryServer,
  type RunningService,
} from '#stack';

/** Ports that the processes of an installation keep for life: agents remember the addresses that they enrolled with. */
const PORTS = [
  'postgres',
  'nats',
  'natsWebsocket',
  'vendorRegistry',
  'upstreamRegistry',
  'kubeApi',
  'installRegistry',
  'installAgent',
  ...SERVICES,
] as const;
export type PortName = (typeof PORTS)[number];

const ISSUER = 'registry-token';
const REGISTRY_SERVICE = 'vendor-registry';

export interface PlatformOptions {
  /** Everything lives below it and is reused when it is there. */
  readonly dir: string;
  readonly onStep?: (what: string) => void;
  /** More of the gateway's environment. */
  readonly gateway?: Readonly<Record<string, string>>;
}

type Running<T> = T extends Promise<infer R> ? R : never;

/**
 * An IMS on this machine: PostgreSQL, NATS, the vendor's registry, a registry that stands for the outside world, a
 * Kubernetes API server for tests, and the four services, each a process of its own on loopback. What differs from
 * production is the environment that the processes get, not the processes.
 */
export interface Platform {
  readonly dir: string;
  readonly ports: Readonly<Record<PortName, number>>;
  readonly gatewayUrl: string;
  /** PEM of the authority that NATS is trusted by. */
  readonly caFile: string;
  readonly operatorKey: string;
  readonly postgres: Running<ReturnType<typeof startPostgres>>;
  readonly nats: Running<ReturnType<typeof startNats>>;
  readonly vendorRegistry: RegistryServer;
  /** Open to everyone: the outside world that external images are copied from. */
  readonly upstreamRegistry: RegistryServer;
  readonly kubeApi: Running<ReturnType<typeof startKubeApi>>;
  readonly services: Readonly<Record<ServiceName, RunningService>>;
  stop(): Promise<void>;
}

/** What is needed to use a platform, whoever has started it. */
export type PlatformAccess = Pick<Platform, 'dir' | 'ports' | 'gatewayUrl' | 'caFile' | 'operatorKey'>;

/** The ports of an installation: chosen at the first start, the same ever after. */
async function keptPorts(dir: string): Promise<Record<PortName, number>> {
  const file = join(dir, 'ports.json');
  const ports: Partial<Record<PortName, number>> = existsSync(file)
    ? (JSON.parse(readFileSync(file, 'utf8')) as Record<PortName, number>)
    : {};
  for (const name of PORTS) ports[name] ??= await freePort();
  writeFileSync(file, JSON.stringify(ports, null, 2));
  return ports as Record<PortName, number>;
}

/** Key and certificate of a registry's token issuer, made at the first start. */
async function keptCertificate(dir: string): Promise<{ keyFile: string; certificateFile: string }> {
  const files = { keyFile: join(dir, 'registry-key.pem'), certificateFile: join(dir, 'registry-cert.pem') };
  if (!existsSync(files.certificateFile)) {
    const { privateKeyPem, certificatePem } = await createRegistryCertificate();
    writeFileSync(files.keyFile, privateKeyPem, { mode: 0o600 });
    writeFileSync(files.certificateFile, certificatePem);
  }
  return files;
}

/** Starts all of it, or what is missing of it. Throws with the end of the log of what did not start. */
export async function startPlatform({
  dir,
  onStep = () => undefined,
  gateway = {},
}: PlatformOptions): Promise<Platform> {
  mkdirSync(join(dir, 'logs'), { recursive: true });
  const keys = join(dir, 'keys');
  mkdirSync(keys, { recursive: true, mode: 0o700 });
  const ports = await keptPorts(dir);
  const url = (name: PortName): string => `http://127.0.0.1:${ports[name]}`;
  const started: { stop(): Promise<void> }[] = [];
  const begun = async <T extends { stop(): Promise<void> }>(what: string, start: Promise<T>): Promise<T> => {
    const server = await start;
    started.push(server);
    onStep(what);
    return server;
  };
  const stop = async (): Promise<void> => {
    // Services before the servers that they use, so that they can drain.
    for (const server of started.splice(0).reverse()) await server.stop();
  };

  try {
    const certificate = await keptCertificate(keys);
    const tls = await keptCertificates(join(dir, 'tls'));
    const [postgres, nats, vendorRegistry, upstreamRegistry, kubeApi] = await Promise.all([
      begun(`PostgreSQL on ${ports.postgres}`, startPostgres({ dir: join(dir, 'postgres'), port: ports.postgres })),
      begun(
        `nats-server (JetStream, JWT auth, TLS; WebSocket too) on ${ports.nats}`,
        startNats({
          dir: join(dir, 'nats'),
          port: ports.nats,
          tls,
          websocket: true,
          websocketPort: ports.natsWebsocket,
        }),
      ),
      begun(
        `vendor registry on ${ports.vendorRegistry}`,
        startRegistry({
          dir: join(dir, 'vendor-registry'),
          port: ports.vendorRegistry,
          auth: {
            realm: `${url('registry-token')}/token`,
            service: REGISTRY_SERVICE,
            issuer: ISSUER,
            certPem: readFileSync(certificate.certificateFile, 'utf8'),
          },
        }),
      ),
      begun(
        `a registry that stands for the outside world on ${ports.upstreamRegistry}`,
        startRegistry({ dir: join(dir, 'upstream-registry'), port: ports.upstreamRegistry }),
      ),
      begun(
        `Kubernetes API server for tests on ${ports.kubeApi} (no container runs behind it)`,
        startKubeApi({
          dir: join(dir, 'kube-api'),
          port: ports.kubeApi,
          // Like a cluster whose nodes may pull from the install's registry and from nowhere else.
          allowedImageHosts: [`127.0.0.1:${ports.installRegistry}`],
        }),
      ),
    ]);
    mkdirSync(join(dir, 'kube-api'), { recursive: true });
    kubeApi.kubeconfig(join(dir, 'kubeconfig'));

    const secret = (name: string): Promise<string> =>
      keptSecret(join(keys, name), () => randomBytes(32).toString('base64url'));
    const operatorKey = await secret('operator-key');
    await secret('token-hash-key');
    const jobSeed = await keptSecret(join(keys, 'job-signing.nk'), () => createNkey('user').seed);

    const system = await nats.systemCreds();
    await keptSecret(join(keys, 'nats-system.nk'), () => system.seed);

    const environment: Record<ServiceName, Record<string, string>> = {
      gateway: {
        OPERATOR_KEY_FILE: join(keys, 'operator-key'),
        PUBLIC_URL: url('gateway'),
        VENDOR_REGISTRY_URL: url('vendorRegistry'),
        ...gateway,
      },
      'job-scheduler': {
        JOB_SIGNING_SEED_FILE: join(keys, 'job-signing.nk'),
        BUILD_AGENT_SIGNING_SEED_FILE: nats.keys.paths.buildAgentSigning,
        INSTALL_AGENT_SIGNING_SEED_FILE: nats.keys.paths.installAgentSigning,
        NATS_ACCOUNT_PUBLIC_KEY: nats.keys.account,
        PUBLIC_NATS_URLS: [nats.url, nats.websocketUrl].join(','),
        NATS_SYSTEM_JWT: system.jwt,
        NATS_SYSTEM_SEED_FILE: join(keys, 'nats-system.nk'),
        OPERATOR_REVOCATION_SEED_FILE: nats.keys.paths.operatorRevocation,
        REGISTRY_TOKEN_URL: url('registry-token'),
        VENDOR_REGISTRY_URL: url('vendorRegistry'),
      },
      telemetry: {},
      'registry-token': {
        JOB_KEYS: nkeyFromSeed(jobSeed).publicKey,
        TOKEN_HASH_KEY_FILE: join(keys, 'token-hash-key'),
        REGISTRY_SIGNING_KEY_FILE: certificate.keyFile,
        REGISTRY_CERT_FILE: certificate.certificateFile,
        REGISTRY_ISSUER: ISSUER,
        REGISTRY_SERVICE,
        VENDOR_REGISTRY_URL: url('vendorRegistry'),
      },
    };
    const callers = await Promise.all(
      SERVICES.map(async (name) => `${name}=${nkeyFromSeed((await nats.serviceCreds(name)).seed).publicKey}`),
    );
    const startOne = async (name: ServiceName): Promise<RunningService> => {
      const [databaseUrl, creds] = await Promise.all([postgres.provisionService(name), nats.serviceCreds(name)]);
      await keptSecret(join(keys, `${name}-nats.nk`), () => creds.seed);
      return startService({
        name,
        env: {
          DATABASE_URL: databaseUrl,
          NATS_URLS: nats.url,
          NATS_CA_FILE: tls.caFile,
          NATS_JWT: creds.jwt,
          NATS_SEED_FILE: join(keys, `${name}-nats.nk`),
          ...(name === 'gateway' ? {} : { CALLER_KEYS: callers.join(',') }),
          HTTP_HOST: '127.0.0.1',
          HTTP_PORT: String(ports[name]),
          ...environment[name],
        },
        logFile: join(dir, 'logs', `${name}.log`),
        readyUrl: `${url(name)}/readyz`,
      });
    };
    const services = Object.fromEntries(
      await Promise.all(
        SERVICES.map(async (name) => [name, await begun(`${name} on ${ports[name]}`, startOne(name))] as const),
      ),
    ) as Record<ServiceName, RunningService>;
    return {
      dir,
      ports,
      gatewayUrl: url('gateway'),
      caFile: tls.caFile,
      operatorKey,
      postgres,
      nats,
      vendorRegistry,
      upstreamRegistry,
      kubeApi,
      services,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}
