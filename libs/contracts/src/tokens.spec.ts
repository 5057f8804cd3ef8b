import { randomBytes } from 'node:crypto';
import { grantOf, LIMITS, parse, RegistryAccess, type DownloadPlan } from './index.js';

const digest = (n: number): string => `sha256:${n.toString(16).padStart(64, '0')}`;
const access = (more: Partial<RegistryAccess>): RegistryAccess => ({
  registry_url: 'https://123456789012.dkr.ecr.eu-central-1.amazonaws.com',
  repository: 'acme/shop/web',
  expires_at: new Date().toISOString(),
  ...more,
});
const planOf = (manifests: number, blobs: number, bytes = 10): DownloadPlan => ({
  digest: digest(0),
  manifests: Array.from({ length: manifests }, (_, n) => ({
    digest: digest(n),
    media_type: 'application/vnd.oci.image.manifest.v1+json',
    content_base64: randomBytes(bytes).toString('base64'),
  })),
  blobs: Array.from({ length: blobs }, (_, n) => ({ digest: digest(n), url: `https://s3/${'x'.repeat(1_500)}` })),
});

describe('a registry access', () => {
  it('of the largest plan that may be made is read', () => {
    const bytes = Math.floor(LIMITS.planManifestBytes / LIMITS.planManifests);
    const plan = planOf(LIMITS.planManifests, LIMITS.planBlobs, bytes);
    const text = JSON.stringify(access({ kind: 'download_plan', plan }));
    // What the agents read at most.
    expect(text.length).toBeLessThan(16 * 1024 * 1024);
    const read = parse(RegistryAccess, JSON.parse(text), 'strict');
    expect(grantOf(read)).toEqual({ kind: 'download_plan', plan });
  });

  it.each([
    ['more manifests than may be', planOf(LIMITS.planManifests + 1, 1)],
    ['more blobs than may be', planOf(1, LIMITS.planBlobs + 1)],
    ['a tag for a digest', { ...planOf(1, 1), digest: 'latest' }],
  ])('with %s is refused', (_, plan) => {
    expect(() => parse(RegistryAccess, access({ kind: 'download_plan', plan }), 'strict')).toThrow('/plan');
  });

  it('of a server that knows one kind only holds a bearer token', () => {
    expect(grantOf(parse(RegistryAccess, access({ registry_token: 'jwt' }), 'strict'))).toEqual({
      kind: 'bearer',
      token: 'jwt',
    });
    expect(() => grantOf(access({}))).toThrow('lacks what its kind needs');
  });
});
