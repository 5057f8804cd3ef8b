import { ImsError, type RegistryAccess, type VendorId } from '#contracts';
import { isRepositoryName, type Access } from '#oci';

/** Who gets a right, on what, for how long. */
export interface AccessRequest {
  /** For the registry's own log: the token or the agent. */
  readonly subject: string;
  readonly repository: string;
  readonly lifeMs: number;
}
/** What a redemption is about. */
export interface PullRequest extends AccessRequest {
  readonly digest: string;
}
/** The token endpoint of the distribution protocol, for docker, skopeo, oras, crane and helm. */
export interface StockTokens {
  /** `access` may be empty: a login. */
  sign(grant: {
    readonly subject: string;
    readonly access: readonly Access[];
    readonly lifeMs: number;
  }): Promise<string>;
}

/**
 * The vendor's registry as this service sees it: the one place that differs by its kind. What leaves it ends by itself,
 * is for one repository, and never pushes unless it is `pushAccess`; one suite holds every kind to that
 * (`test/registry-conformance.ts`).
 */
export abstract class VendorRegistry {
  /** Makes what a build of this vendor pushes to, where a registry wants that. Any number of times. */
  abstract ensureRepository(repository: string, vendorId: VendorId): Promise<void>;
  /** Pull and push on one repository, for a build. */
  abstract pushAccess(request: AccessRequest): Promise<RegistryAccess>;
  /** The right to fetch an artifact: at least that digest, at most its repository. `artifact_missing`. */
  abstract pullAccess(request: PullRequest): Promise<RegistryAccess>;
  /** Undefined where the registry does not speak that protocol. */
  abstract readonly stockTokens: StockTokens | undefined;
}

/** A `*` in a name would be a wildcard in a policy: what becomes a right must be a plain repository name. */
export function checkRepository(repository: string): void {
  if (!isRepositoryName(repository)) throw new ImsError('invalid_request', 'the job names no valid repository');
}
