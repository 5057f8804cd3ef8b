import { EnvInt, EnvSecret, EnvText, EnvUrl, EnvUrls } from '#platform';

/** Telemetry's environment. Every name also has a `…_FILE` form that names a file with the value. */
export class TelemetryConfig {
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
  @EnvInt({ default: 8082, min: 0, max: 65_535 }) HTTP_PORT: number;
  /** Agent vitals older than this are deleted. */
  @EnvInt({ default: 7, min: 1, max: 365 }) VITALS_DAYS: number;
  /** Logs are deleted so many days after they began, where the vendor has not chosen another time. */
  @EnvInt({ default: 30, min: 1, max: 3650 }) LOG_DAYS: number;
  /** Logs, vitals and traces are also sent there: OTLP over HTTP as JSON. Not set: nothing leaves. */
  @EnvUrl({ protocols: ['http', 'https'], optional: true }) OTLP_ENDPOINT?: string;
  /** Sent with it as `authorization`, e.g. `Bearer …`. */
  @EnvSecret({ optional: true }) OTLP_AUTHORIZATION?: string;
}
