import { EnvInt, EnvList, EnvSecret, EnvText, EnvUrl, EnvUrls } from '#platform';

/** The environment of registry-token. Every name also has a `…_FILE` form that names a file with the value. */
export class RegistryTokenConfig {
  @EnvUrl({ protocols: ['postgres', 'postgresql'] }) DATABASE_URL: string;
  @EnvUrls({ protocols: ['nats', 'tls', 'ws', 'wss'] }) NATS_URLS: string[];
  @EnvText() NATS_JWT: string;
  @EnvSecret() NATS_SEED: string;
  @EnvText({ default: '127.0.0.1' }) HTTP_HOST: string;
  /** 0: any free port; it is in the `ready` log line. */
  @EnvInt({ default: 8083, min: 0, max: 65_535 }) HTTP_PORT: number;
  /** Public keys (nkey form) whose job statements authorise a token; two during a rotation. */
  @EnvList() JOB_KEYS: string[];
  /** Key of the hash under which the secrets of pull tokens are stored. */
  @EnvSecret({ min: 32 }) TOKEN_HASH_KEY: string;
  /** PEM of the key that signs registry tokens, and its certificate, which the vendor registry trusts. */
  @EnvSecret() REGISTRY_SIGNING_KEY: string;
  @EnvText() REGISTRY_CERT: string;
  /** As the registry's configuration names them. */
  @EnvText({ default: 'registry-token' }) REGISTRY_ISSUER: string;
  @EnvText({ default: 'vendor-registry' }) REGISTRY_SERVICE: string;
  @EnvUrl() VENDOR_REGISTRY_URL: string;
}
