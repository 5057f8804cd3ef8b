import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Injectable } from '@nestjs/common';
import { RegistryTokens, type JobHandler, type StepContext, type StepDefinition } from '#agent-kit';
import {
  ImsError,
  LIMITS,
  type Artifact,
  type ComponentKind,
  type JobStatement,
  type JsonObject,
  type RegistryAccess,
} from '#contracts';
import { builderIdOf, buildTypeOf, type ExternalParameters } from '#domain';
import {
  attestArtifact,
  authorizationOf,
  RegistryClient,
  secretsOf,
  type ArtifactSigner,
  type Provenance,
  type ResourceDescriptor,
  sizeOfArtifact,
} from '#oci';
import { BuildAgentConfig } from './config.js';
import { type BuildContext, type KindBuilder, type PushTarget } from './kind.js';
import { Buildah, ContainerImage } from './kinds/container-image.js';
import { ExternalImage } from './kinds/external-image.js';
import { HelmChart } from './kinds/helm-chart.js';
import { JobComponent } from './kinds/job.js';
import { OutsideRegistries } from './kinds/outside.js';
import { VendoredImages } from './kinds/vendored-images.js';
import { KubernetesManifests } from './kinds/kubernetes-manifests.js';
import { TerraformModule } from './kinds/terraform-module.js';
import { splitUrl } from './git.js';
import { checkout } from './source.js';

/** A token is used for four fifths of its life, on our own clock: the server's may be another. */
const TOKEN_USE_MS = LIMITS.registryTokenMs * 0.8;

/** What the build agent has on its host besides its identity. */
export class BuildHost {
  constructor(
    readonly config: BuildAgentConfig,
    readonly stateDir: string,
    readonly signer: ArtifactSigner,
    /** PEM of a private CA. */
    readonly ca?: string,
  ) {}
}

/** Turns one component at one commit into a signed artifact: checkout, build, push, sign. */
@Injectable()
export class BuildHandler implements JobHandler {
  readonly kind = 'build';
  private readonly builders: Readonly<Record<ComponentKind, KindBuilder>>;

  constructor(
    private readonly host: BuildHost,
    private readonly tokens: RegistryTokens,
  ) {
    const { config, stateDir, ca } = host;
    const outside = new OutsideRegistries(ca, config.REGISTRY_AUTH_FILE);
    const vendored = new VendoredImages(outside);
    this.builders = {
      'container-image': new ContainerImage(new Buildah(config, stateDir)),
      'external-image': new ExternalImage(outside),
      'terraform-module': new TerraformModule(config),
      'kubernetes-manifests': new KubernetesManifests(config, vendored),
      'helm-chart': new HelmChart(config, vendored),
      job: new JobComponent(),
    };
  }

  steps({ spec, component }: JobStatement): readonly StepDefinition[] {
    const builder = this.builders[component.kind];
    return [
      ...(spec.source ? [{ name: 'checkout', run: (step: StepContext) => this.checkout(step) }] : []),
      { name: 'build', run: async (step) => builder.build(await this.contextOf(step)) },
      { name: 'push', run: async (step) => this.push(step, builder) },
      { name: 'sign', run: (step) => this.sign(step) },
    ];
  }

  result(outputs: Readonly<Record<string, JsonObject>>): { result: JsonObject } {
    const { artifact, source_commit: commit } = outputs['push'] ?? {};
    const { references, images } = outputs['build'] ?? {};
    const more = { ...(references ? { references } : {}), ...(images ? { images } : {}) };
    return { result: { artifact, source_commit: commit, ...more } as JsonObject };
  }

  private async checkout(step: StepContext): Promise<JsonObject> {
    const { config, stateDir } = this.host;
    const { source } = step.statement.spec;
    if (!source) throw new ImsError('source_invalid', 'the component has no source');
    return checkout(source, join(step.workspace, 'source'), step, {
      git: config.GIT_BIN,
      timeoutMs: config.CHECKOUT_SECONDS * 1000,
      maxBytes: config.SOURCE_MIB * 2 ** 20,
      stateDir,
      roots: config.SOURCE_ROOTS?.split(':').filter((root) => root !== '') ?? [],
    });
  }

  private async contextOf(step: StepContext): Promise<BuildContext> {
    const outDir = join(step.workspace, 'out');
    await mkdir(outDir, { recursive: true });
    const directory = step.outputOf('checkout')?.['directory'];
    return { step, outDir, sourceDir: join(step.workspace, 'source', typeof directory === 'string' ? directory : '.') };
  }

  private async push(step: StepContext, builder: KindBuilder): Promise<JsonObject> {
    const target = await this.target(step);
    const { digest, mediaType } = await builder.push(await this.contextOf(step), target);
    const artifact = {
      repository: target.repository,
      digest,
      media_type: mediaType,
      // Of all of it: a pull of it is given time accordingly.
      size_bytes: await sizeOfArtifact({ ...target, digest, signal: step.signal }),
    } satisfies Artifact;
    step.log('info', `pushed ${target.repository}@${digest}`);
    return { artifact, source_commit: commitOf(step, digest) };
  }

  /**
   * The registry, with the right to push to this component's repository. The token is never written down: a step that
   * runs again asks anew, and so does a push that outlives a token.
   */
  private async target(step: StepContext): Promise<PushTarget> {
    const ask = async (): Promise<{ access: RegistryAccess; until: number }> => {
      const until = performance.now() + TOKEN_USE_MS;
      const access = await this.tokens.requestPushToken(step.envelope, step.signal);
      for (const secret of secretsOf(access)) step.secrets.add(secret);
      return { access, until };
    };
    let held = ask();
    const { access } = await held;
    const value = async (): Promise<string> => {
      if ((await held).until < performance.now()) held = ask();
      return authorizationOf((await held).access);
    };
    const { ca } = this.host;
    const credential = { kind: 'header', value } as const;
    const client = new RegistryClient({
      baseUrl: access.registry_url,
      credential,
      ...(ca === undefined ? {} : { ca }),
    });
    return { client, repository: access.repository };
  }

  private async sign(step: StepContext): Promise<JsonObject> {
    const { artifact } = step.outputOf('push') as unknown as { artifact: Artifact };
    const signature = await attestArtifact({
      ...(await this.target(step)),
      digest: artifact.digest,
      signer: this.host.signer,
      provenance: provenanceOf(step, artifact.digest),
      signal: step.signal,
    });
    return { signature: signature.digest };
  }
}

/** The commit; for a component without a source, what it was made from: the image's digest, or the artifact itself. */
function commitOf(step: StepContext, digest: string): string {
  const commit = step.outputOf('checkout')?.['commit'] ?? step.outputOf('build')?.['digest'];
  return typeof commit === 'string' ? commit : digest;
}

/** What the build says of itself. No times: a build that is tried again says the same. */
function provenanceOf(step: StepContext, digest: string): Provenance {
  const { statement } = step;
  const { source, image, dockerfile } = statement.spec;
  const url = source && splitUrl(source.url).shown;
  const commit = commitOf(step, digest);
  const dependencies: ResourceDescriptor[] = [
    ...(url ? [{ uri: url, digest: commitDigest(commit) }] : []),
    ...(image ? [{ uri: image, digest: { sha256: commit.replace('sha256:', '') } }] : []),
  ];
  const externalParameters: ExternalParameters = {
    app: statement.app_name,
    component: statement.component.name,
    kind: statement.component.kind,
    source_commit: commit,
    ...(dockerfile ? { dockerfile } : {}),
    ...(source ? { source: { url, ref: source.ref ?? 'HEAD', directory: source.directory ?? '.' } } : {}),
    ...(image ? { image } : {}),
  };
  return {
    buildType: buildTypeOf(statement.component.kind),
    externalParameters,
    resolvedDependencies: dependencies,
    builderId: builderIdOf(statement.vendor_id),
  };
}

const commitDigest = (commit: string): Record<string, string> =>
  commit.startsWith('sha256:') ? { sha256: commit.slice('sha256:'.length) } : { gitCommit: commit };
