import { Injectable } from '@nestjs/common';
import { LIMITS, type RegistryAccess } from '#contracts';
import { createRegistryTokenSigner, type Access, type RegistryTokenSigner } from '#oci';
import { RegistryTokenConfig } from './config.js';

/** What a redemption or a build may do: one repository. */
export interface AccessRequest {
  /** For the registry's own log: the token or the agent. */
  readonly subject: string;
  readonly repository: string;
  readonly actions: readonly ('pull' | 'push')[];
  readonly lifeMs: number;
}

/** The vendor's registry as this service sees it. A registry of another kind is another implementation of this port. */
export abstract class VendorRegistry {
  /** A credential for one repository that ends by itself. */
  abstract access(request: AccessRequest): Promise<RegistryAccess>;
  /** The token that a stock client gets: `access` may be empty (a login). */
  abstract token(subject: string, access: readonly Access[], lifeMs: number): Promise<string>;
}

/** A distribution registry with token authentication: the credential is a JWT. */
@Injectable()
export class DistributionRegistry extends VendorRegistry {
  private readonly signer: RegistryTokenSigner;

  constructor(private readonly config: RegistryTokenConfig) {
    super();
    this.signer = createRegistryTokenSigner({
      privateKeyPem: config.REGISTRY_SIGNING_KEY,
      certificatePem: config.REGISTRY_CERT,
      issuer: config.REGISTRY_ISSUER,
      service: config.REGISTRY_SERVICE,
    });
  }

  async access({ subject, repository, actions, lifeMs }: AccessRequest): Promise<RegistryAccess> {
    return {
      registry_url: this.config.VENDOR_REGISTRY_URL,
      repository,
      registry_token: await this.token(subject, [{ type: 'repository', name: repository, actions }], lifeMs),
      expires_at: new Date(Date.now() + lifeMs).toISOString(),
    };
  }

  token(subject: string, access: readonly Access[], lifeMs: number): Promise<string> {
    return this.signer.sign({
      subject,
      access,
      lifeSeconds: Math.max(1, Math.min(lifeMs, LIMITS.registryTokenMs) / 1000),
    });
  }
}
