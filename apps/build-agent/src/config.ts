import { EnvInt, EnvOneOf, EnvText } from '#platform';

/** The build agent's environment. Everything else comes with its enrolment. */
export class BuildAgentConfig {
  @EnvText({ default: 'git' }) GIT_BIN: string;
  @EnvText({ default: 'buildah' }) BUILDAH_BIN: string;
  @EnvText({ default: 'runc' }) RUNC_BIN: string;
  @EnvText({ default: 'terraform' }) TERRAFORM_BIN: string;
  @EnvText({ default: 'helm' }) HELM_BIN: string;
  /** For its kustomize alone: a build has no cluster. */
  @EnvText({ default: 'kubectl' }) KUBECTL_BIN: string;
  /** `vfs` copies whole layers and works everywhere; `overlay` needs root or user namespaces. */
  @EnvOneOf(['overlay', 'vfs'], { default: 'overlay' }) BUILDAH_STORAGE_DRIVER: 'overlay' | 'vfs';
  @EnvInt({ default: 300, min: 1, max: 86_400 }) CHECKOUT_SECONDS: number;
  @EnvInt({ default: 1_800, min: 1, max: 86_400 }) BUILD_SECONDS: number;
  /** A source tree larger than this is refused. */
  @EnvInt({ default: 512, min: 1, max: 100_000 }) SOURCE_MIB: number;
  /** Folders, parted by `:`, that sources on this host may be in. Without it: everywhere but the state directory. */
  @EnvText({ optional: true }) SOURCE_ROOTS?: string;
  /** Beginnings, parted by `,`, of the URLs of repositories that charts may get their dependencies from. Without it: any. */
  @EnvText({ optional: true }) CHART_REPOSITORIES?: string;
  /** Logins of registries that images are copied from, as docker keeps them (`config.json`). */
  @EnvText({ optional: true }) REGISTRY_AUTH_FILE?: string;
  /** PEM of a private CA for the server, NATS, registry-token and the vendor's registry. */
  @EnvText({ optional: true }) CA_FILE?: string;
}
