import { EnvInt, EnvText, EnvUrl } from '#platform';

/** The install agent's environment: the customer's side of things. Everything else comes with its enrolment. */
export class InstallAgentConfig {
  /** The install's own registry. Only this agent can write to it. */
  @EnvUrl() INSTALL_REGISTRY_URL: string;
  /** Where nodes get pull tokens for it; loopback unless the nodes are elsewhere. */
  @EnvText({ default: '127.0.0.1' }) HTTP_HOST: string;
  @EnvInt({ default: 8090, min: 0, max: 65_535 }) HTTP_PORT: number;
  @EnvText({ default: 'terraform' }) TERRAFORM_BIN: string;
  @EnvText({ default: 'kubectl' }) KUBECTL_BIN: string;
  @EnvText({ default: 'helm' }) HELM_BIN: string;
  /** The cluster; without it only components that need none can be provisioned. */
  @EnvText({ optional: true }) KUBECONFIG?: string;
  /** Workloads must be ready, and jobs done, within this time. */
  @EnvInt({ default: 300, min: 1, max: 86_400 }) READY_SECONDS: number;
  /** One run of terraform. */
  @EnvInt({ default: 3_600, min: 1, max: 86_400 }) TERRAFORM_SECONDS: number;
  /** `s3://bucket/folder?region=eu-central-1`: where terraform's state is. Without it: in the state directory. */
  @EnvUrl({ optional: true, protocols: ['s3'] }) TERRAFORM_STATE?: string;
  /** Something else that speaks S3, with paths for buckets. */
  @EnvUrl({ optional: true }) TERRAFORM_STATE_ENDPOINT?: string;
  /** A file of AWS credentials for the state alone. Without it: the role of this machine. */
  @EnvText({ optional: true }) TERRAFORM_STATE_CREDENTIALS?: string;
  /** PEM of a private CA for the server, NATS, registry-token and both registries. */
  @EnvText({ optional: true }) CA_FILE?: string;
}
