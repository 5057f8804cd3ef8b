import { join } from 'node:path';
import { LIMITS } from '#contracts';
import { EnvFlag, EnvInt, EnvList, EnvSecret, EnvText, EnvUrl, EnvUrls, loadConfig } from '#platform';

/** The gateway's environment. Every name also has a `…_FILE` form that names a file with the value. */
export class GatewayConfig {
  @EnvUrl({ protocols: ['postgres', 'postgresql'] }) DATABASE_URL: string;
  @EnvUrls({ protocols: ['nats', 'tls', 'ws', 'wss'] }) NATS_URLS: string[];
  /** Names each subject that the service may use. */
  @EnvText({ max: 64 * 1024 }) NATS_JWT: string;
  @EnvSecret() NATS_SEED: string;
  /** PEM of the private CA of the NATS servers. */
  @EnvText({ optional: true }) NATS_CA_FILE?: string;
  @EnvText({ default: '127.0.0.1' }) HTTP_HOST: string;
  /** 0: any free port; it is in the `ready` log line. */
  @EnvInt({ default: 8080, min: 0, max: 65_535 }) HTTP_PORT: number;
  /** PEM files: HTTPS instead of HTTP. Both or none. */
  @EnvText({ optional: true }) TLS_CERT_FILE?: string;
  @EnvText({ optional: true }) TLS_KEY_FILE?: string;
  /** Who knows it may sign up vendors and make their API keys. */
  @EnvSecret({ min: 20 }) OPERATOR_KEY: string;
  /** Where clients reach this gateway, as the OpenAPI document names it. */
  @EnvUrl() PUBLIC_URL: string;
  /** The vendors' registry, as the account that sign-up answers names it. */
  @EnvUrl() VENDOR_REGISTRY_URL: string;
  /** Proxies whose `X-Forwarded-For` is believed, as addresses or networks; without them every caller behind one is one. */
  @EnvList({ default: [] }) TRUSTED_PROXIES: string[];
  /** Seals the secrets of webhooks in the database. Default: OPERATOR_KEY. Another one later makes them unreadable. */
  @EnvSecret({ optional: true, min: 20 }) WEBHOOK_KEY?: string;
  /** Webhooks may lead to private addresses, and to http: for development. */
  @EnvFlag({ default: false }) WEBHOOK_PRIVATE_ADDRESSES: boolean;
  /** Requests a minute of one API key at this replica. */
  @EnvInt({ default: LIMITS.rateRequests, min: 1, max: 1e9 }) RATE_REQUESTS: number;
  /** Of these, searches and exports. */
  @EnvInt({ default: LIMITS.rateExpensive, min: 1, max: 1e9 }) RATE_EXPENSIVE: number;
  /** Sign-ins and wrong keys a minute of one address, at all replicas together. */
  @EnvInt({ default: LIMITS.rateSignIns, min: 1, max: 1e9 }) RATE_SIGN_INS: number;
  /** Enrolments and renewals of agents a minute behind one address, at all replicas together. */
  @EnvInt({ default: LIMITS.rateEnrolments, min: 1, max: 1e9 }) RATE_ENROLMENTS: number;
  /** The built files of the web page. */
  @EnvText({ default: join(import.meta.dirname, '../../dashboard') }) DASHBOARD_DIR: string;
}

/** The configuration of this process. Throws ConfigError naming every fault. */
export const readConfig = (env: NodeJS.ProcessEnv = process.env): GatewayConfig => loadConfig(GatewayConfig, env);
