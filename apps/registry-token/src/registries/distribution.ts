import { LIMITS, type RegistryAccess } from '#contracts';
import { createRegistryTokenSigner } from '#oci';
import { checkRepository, VendorRegistry, type AccessRequest, type PullRequest, type StockTokens } from './port.js';

export interface DistributionSettings {
  readonly url: string;
  /** PEM of the key that signs tokens, and its certificate, which the registry trusts. */
  readonly privateKeyPem: string;
  readonly certificatePem: string;
  readonly issuer: string;
  readonly service: string;
}

/** A distribution registry with token authentication: the credential is a JWT for one repository. */
export class DistributionRegistry extends VendorRegistry {
  readonly stockTokens: StockTokens;

  constructor(private readonly settings: DistributionSettings) {
    super();
    const signer = createRegistryTokenSigner(settings);
    this.stockTokens = {
      sign: ({ lifeMs, ...grant }) =>
        signer.sign({ ...grant, lifeSeconds: Math.max(1, Math.min(lifeMs, LIMITS.registryTokenMs) / 1000) }),
    };
  }

  /** A repository is there as soon as something is pushed to it. */
  ensureRepository(): Promise<void> {
    return Promise.resolve();
  }

  pushAccess(request: AccessRequest): Promise<RegistryAccess> {
    return this.access(request, ['pull', 'push']);
  }

  pullAccess(request: PullRequest): Promise<RegistryAccess> {
    return this.access(request, ['pull']);
  }

  private async access(
    { subject, repository, lifeMs }: AccessRequest,
    actions: readonly string[],
  ): Promise<RegistryAccess> {
    checkRepository(repository);
    return {
      registry_url: this.settings.url,
      repository,
      kind: 'bearer',
      registry_token: await this.stockTokens.sign({
        subject,
        access: [{ type: 'repository', name: repository, actions }],
        lifeMs,
      }),
      expires_at: new Date(Date.now() + lifeMs).toISOString(),
    };
  }
}
