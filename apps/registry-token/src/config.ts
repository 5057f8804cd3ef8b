import { EnvInt, EnvList, EnvOneOf, EnvSecret, EnvText, EnvUrl, EnvUrls } from '#platform';

/** The environment of registry-token. Every name also has a `…_FILE` form that names a file with the value. */
export class RegistryTokenConfig {
  @EnvUrl({ protocols: ['postgres', 'postgresql'] }) DATABASE_URL: string;
  @EnvUrls({ protocols: ['nats', 'tls', 'ws', 'wss'] }) NATS_URLS: string[];
  /** Names each subject that the service may use. */
  @EnvText({ max: 64 * 1024 }) NATS_JWT: string;
  @EnvSecret() NATS_SEED: string;
  /** PEM of the private CA of the NATS servers. */
  @EnvText({ optional: true }) NATS_CA_FILE?: string;
  /** `gateway=U…,job-scheduler=U…,registry-token=U…`: public halves of NATS_SEED of the services whose calls count. */
  @EnvText({ optional: true }) CALLER_KEYS?: string;
  @EnvText({ default: '127.0.0.1' }) HTTP_HOST: string;
  /** 0: any free port; it is in the `ready` log line. */
  @EnvInt({ default: 8083, min: 0, max: 65_535 }) HTTP_PORT: number;
  /** PEM files: HTTPS instead of HTTP. Both or none. */
  @EnvText({ optional: true }) TLS_CERT_FILE?: string;
  @EnvText({ optional: true }) TLS_KEY_FILE?: string;
  /** Public keys (nkey form) whose job statements authorise a token; two during a rotation. */
  @EnvList() JOB_KEYS: string[];
  /** Key of the hash under which the secrets of pull tokens are stored. */
  @EnvSecret({ min: 32 }) TOKEN_HASH_KEY: string;
  @EnvOneOf(['distribution', 'ecr'], { default: 'distribution' }) VENDOR_REGISTRY_KIND: 'distribution' | 'ecr';
  @EnvUrl() VENDOR_REGISTRY_URL: string;

  /** distribution: PEM of the key that signs registry tokens, and its certificate, which the vendor registry trusts. */
  @EnvSecret({ optional: true }) REGISTRY_SIGNING_KEY?: string;
  @EnvText({ optional: true }) REGISTRY_CERT?: string;
  /** As the registry's configuration names them. */
  @EnvText({ default: 'registry-token' }) REGISTRY_ISSUER: string;
  @EnvText({ default: 'vendor-registry' }) REGISTRY_SERVICE: string;

  /** ecr: where the registry is, and the role that is assumed for what leaves this service. */
  @EnvText({ optional: true, pattern: /^[a-z0-9-]+$/ }) AWS_REGION?: string;
  @EnvText({ optional: true, pattern: /^\d{12}$/ }) ECR_ACCOUNT_ID?: string;
  @EnvText({ optional: true, pattern: /^arn:[\w:/+=,.@-]+$/ }) ECR_SESSION_ROLE_ARN?: string;
  /** plan: a pull gets URLs and no credential. session: a password for one repository, for stock clients. */
  @EnvOneOf(['plan', 'session'], { default: 'plan' }) ECR_PULL_MODE: 'plan' | 'session';
  /** Without the first two the SDK takes the role of the pod or the machine. */
  @EnvSecret({ optional: true }) AWS_ACCESS_KEY_ID?: string;
  @EnvSecret({ optional: true }) AWS_SECRET_ACCESS_KEY?: string;
  @EnvSecret({ optional: true }) AWS_SESSION_TOKEN?: string;
  /** Instead of AWS's own: a VPC endpoint. */
  @EnvUrl({ optional: true }) ECR_ENDPOINT?: string;
  @EnvUrl({ optional: true }) STS_ENDPOINT?: string;
}
