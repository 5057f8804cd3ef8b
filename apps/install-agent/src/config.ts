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
  /** PEM of a private CA for the server, NATS, registry-token and both registries. */
  @EnvText({ optional: true }) CA_FILE?: string;
}
