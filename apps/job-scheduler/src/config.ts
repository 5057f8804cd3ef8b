import { LIMITS } from '#contracts';
import { EnvInt, EnvList, EnvSecret, EnvText, EnvUrl, EnvUrls } from '#platform';

const NATS_PROTOCOLS = ['nats', 'tls', 'ws', 'wss'];

/** The job-scheduler's environment. Every name also has a `…_FILE` form that names a file with the value. */
export class SchedulerConfig {
  @EnvUrl({ protocols: ['postgres', 'postgresql'] }) DATABASE_URL: string;
  @EnvUrls({ protocols: NATS_PROTOCOLS }) NATS_URLS: string[];
  /** Names each subject that the service may use. */
  @EnvText({ max: 64 * 1024 }) NATS_JWT: string;
  @EnvSecret() NATS_SEED: string;
  /** PEM of the private CA of the NATS servers. */
  @EnvText({ optional: true }) NATS_CA_FILE?: string;
  /** Copies of each stream: 3 in a cluster of NATS servers. Unset: 1 for a new stream, an existing one keeps what it has. */
  @EnvInt({ optional: true, min: 1, max: 5 }) NATS_STREAM_REPLICAS?: number;
  /** `gateway=U…,job-scheduler=U…,registry-token=U…`: public halves of NATS_SEED of the services whose calls count. */
  @EnvText({ optional: true }) CALLER_KEYS?: string;
  /** A user of the system account that may restate the account below, and do nothing else. */
  @EnvText() NATS_SYSTEM_JWT: string;
  @EnvSecret() NATS_SYSTEM_SEED: string;
  /** Signing key of the operator, of no use without the user above: states which agents are revoked. */
  @EnvSecret() OPERATOR_REVOCATION_SEED: string;
  @EnvText({ default: '127.0.0.1' }) HTTP_HOST: string;
  /** 0: any free port; it is in the `ready` log line. */
  @EnvInt({ default: 8081, min: 0, max: 65_535 }) HTTP_PORT: number;

  /** Signs job statements (nkey seed); the public key is what agents trust. */
  @EnvSecret() JOB_SIGNING_SEED: string;
  /** Public keys (nkey) that agents shall trust beside the one above: the old or the next one, while a key is replaced. */
  @EnvList({ optional: true }) JOB_KEYS_ALSO?: string[];
  /** JSON list of statements by which an older job key vouches for a newer one; `npm run keys` writes it. */
  @EnvText({ optional: true, max: 64 * 1024 }) JOB_KEY_VOUCHERS?: string;
  /** Scoped signing key that can mint build agents, and nothing else. */
  @EnvSecret() BUILD_AGENT_SIGNING_SEED: string;
  /** Scoped signing key that can mint install agents, and nothing else. */
  @EnvSecret() INSTALL_AGENT_SIGNING_SEED: string;
  /** The NATS account that the agents belong to. */
  @EnvText({ pattern: /^A[A-Z2-7]{55}$/ }) NATS_ACCOUNT_PUBLIC_KEY: string;

  /** What agents are told. */
  @EnvUrl() REGISTRY_TOKEN_URL: string;
  @EnvUrl() VENDOR_REGISTRY_URL: string;
  /** NATS as agents reach it; default: NATS_URLS. */
  @EnvUrls({ protocols: NATS_PROTOCOLS, optional: true }) PUBLIC_NATS_URLS?: string[];

  /** Lease of an attempt from its grant or last renewal. Agents learn it with each grant. */
  @EnvInt({ default: LIMITS.leaseMs, min: 1_000, max: 600_000 }) LEASE_MS: number;
  /** How often ended leases and unclaimed offers are looked for. */
  @EnvInt({ default: LIMITS.sweepMs, min: 20, max: 60_000 }) SWEEP_MS: number;
  /** An offer that nobody claims is made again after this time. */
  @EnvInt({ default: LIMITS.reofferMs, min: 100, max: 600_000 }) REOFFER_MS: number;
  /** An agent that is not heard for this long is offline. */
  @EnvInt({ default: LIMITS.offlineAfterMs, min: 500, max: 600_000 }) OFFLINE_AFTER_MS: number;
  @EnvInt({ default: 10, min: 2, max: 200 }) DATABASE_POOL: number;
}
