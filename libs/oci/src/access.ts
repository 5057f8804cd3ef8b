import { grantOf, ImsError, type RegistryAccess } from '#contracts';
import { RegistryClient } from './client.js';
import { registrySource, type ArtifactSource } from './copy.js';
import { basic } from './credentials.js';
import { planSource } from './download-plan.js';

/**
 * The Authorization header of an access. `registry_denied` when it holds no credential: a download plan gives the
 * bytes of one artifact and nothing else.
 */
export function authorizationOf(access: RegistryAccess): string {
  const grant = grantOf(access);
  switch (grant.kind) {
    case 'bearer':
      return `Bearer ${grant.token}`;
    case 'basic':
      return basic(grant.username, grant.password);
    case 'download_plan':
      throw new ImsError('registry_denied', `a download plan of ${access.repository} is no credential`);
  }
}

/** What the agent must keep out of its logs: the secrets of an access, URLs of a plan included. */
export function secretsOf(access: RegistryAccess): readonly string[] {
  const grant = grantOf(access);
  switch (grant.kind) {
    case 'bearer':
      return [grant.token];
    case 'basic':
      return [grant.password, authorizationOf(access).slice('Basic '.length)];
    case 'download_plan':
      return grant.plan.blobs.map(({ url }) => url);
  }
}

/** An access, of whatever kind, as the source of a copy or a check. `ca`: PEM of a private certificate authority. */
export function accessSource(access: RegistryAccess, options: { readonly ca?: string } = {}): ArtifactSource {
  const grant = grantOf(access);
  if (grant.kind === 'download_plan') {
    const url = new URL(access.registry_url);
    return planSource(grant.plan, {
      ...options,
      name: `${url.host}/${access.repository}`,
      secure: url.protocol === 'https:',
    });
  }
  const value = authorizationOf(access);
  const client = new RegistryClient({
    ...options,
    baseUrl: access.registry_url,
    credential: { kind: 'header', value: () => Promise.resolve(value) },
  });
  return registrySource({ client, repository: access.repository });
}
