export { RegistryClient, type OpenSource, type RegistryClientOptions, type UploadOutcome } from './client.js';
export { type Credential } from './credentials.js';
export { accessSource, authorizationOf, secretsOf } from './access.js';
export { openParcel, pushParcel, type ParcelImage } from './parcel.js';
export { planSource, type PlanOptions } from './download-plan.js';
export { type Call } from './session.js';
export {
  describe as describeBytes,
  digestOf,
  encodeManifest,
  isDigest,
  isIndex,
  MEDIA_TYPE,
  parseManifest,
  type Descriptor,
  type FetchedManifest,
  type ImageIndex,
  type ImageManifest,
  type Platform,
} from './descriptor.js';
export {
  copyArtifact,
  copyFrom,
  remembering,
  registrySource,
  type ArtifactSource,
  type CopyOptions,
  type CopyProgress,
  type CopyResult,
  type CopyTarget,
} from './copy.js';
export {
  ARTIFACT_FORM,
  pullLayer,
  pushArtifact,
  sizeOfArtifact,
  type ArtifactInput,
  type LayerInput,
} from './artifact.js';
export { pushOciLayout } from './layout.js';
export { fallbackTag, listReferrers, type ArtifactAddress } from './referrers.js';
export { tarGzDirectory, zipDirectory, type ArchiveLimits, type ArchiveOptions } from './archive.js';
export { untarTo, unzipTo, type UnpackLimits } from './unpack.js';
export {
  BUNDLE_MEDIA_TYPE,
  createSigningKey,
  keyHint,
  localSigner,
  openBundle,
  signBundle,
  type ArtifactSigner,
  type SignatureFault,
  isSignatureFault,
} from './signing.js';
export {
  attestArtifact,
  PROVENANCE_TYPE,
  STATEMENT_TYPE,
  verifyArtifact,
  verifyFrom,
  type Provenance,
  type ProvenanceStatement,
  type ResourceDescriptor,
} from './provenance.js';
export {
  createRegistryCertificate,
  createRegistryTokenSigner,
  formatScope,
  intersectAccess,
  isRepositoryName,
  parseScope,
  parseScopes,
  type Access,
  type RegistryTokenSigner,
} from './registry-token.js';
