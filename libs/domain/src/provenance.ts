import { type ComponentKind, type VendorId } from '#contracts';

/** Who may have built an artifact of a vendor: the identity that its provenance names (SLSA `builder.id`). */
export const builderIdOf = (vendorId: VendorId): string => `https://vendor-cloud.dev/build-agent/${vendorId}`;

/** How an artifact of a kind was built, which tells how to read the parameters (SLSA `buildType`). */
export const buildTypeOf = (kind: ComponentKind): string => `https://vendor-cloud.dev/build/${kind}/v1`;

/** What a vendor can choose of a build (SLSA `externalParameters`); an agent refuses a build with any other. */
export const EXTERNAL_PARAMETERS = [
  'app',
  'component',
  'kind',
  'source_commit',
  'dockerfile',
  'source',
  'image',
] as const;
export type ExternalParameters = Partial<Record<(typeof EXTERNAL_PARAMETERS)[number], unknown>>;

/** True when a text is exactly one reference to the image of another component: the only way to name an image. */
export const isImageReference = (text: string): boolean =>
  /^\{\{\s*components\.[a-z0-9-]+\.outputs\.image\s*\}\}$/.test(text.trim());
