import { readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Identity, RegistryTokens, writePrivate } from '#agent-kit';
import {
  newId,
  PAYLOAD_TYPES,
  signEnvelope,
  type Artifact,
  type ComponentKind,
  type Enrolment,
  type Envelope,
  type JobKind,
  type JobStatement,
  type JsonObject,
} from '#contracts';
import { builderIdOf, buildTypeOf } from '#domain';
import { createNkey, nkeyFromSeed } from '#messaging';
import {
  ARTIFACT_FORM,
  attestArtifact,
  createSigningKey,
  localSigner,
  pushArtifact,
  pushParcel,
  tarGzDirectory,
  zipDirectory,
  type RegistryClient,
} from '#oci';
import { freePort, requireTool, startKubeApi, startRegistry, type KubeApi, type RegistryServer } from '#stack';
import { ComponentStore } from '../src/component-store.js';
import { InstallAgentConfig } from '../src/config.js';
import { InstallRegistry, makeRegistryKeys } from '../src/install-registry.js';
import { ObserveHandler } from '../src/observe-handler.js';
import { ApplyHandler, DestroyHandler, Provisioning } from '../src/provision-handlers.js';
import { startVendor, type Vendor } from './vendor.js';

export const APP = 'shop';
const KUBE_TOKEN = 'sesame';
export const COMMIT = 'c'.repeat(40);
export const IMAGE_DIGEST = `sha256:${'b'.repeat(64)}`;

/** What an artifact says of itself, as far as a test does not say otherwise. */
export interface Claims {
  readonly key?: string;
  readonly builder?: string;
  readonly kind?: ComponentKind;
  readonly app?: string;
  readonly component?: string;
  readonly commit?: string;
  readonly parameters?: JsonObject;
}

export interface World {
  readonly dir: string;
  readonly stateDir: string;
  readonly enrolment: Enrolment;
  readonly vendor: Vendor;
  /** PEM of the key that the agent has pinned. */
  readonly signingKey: string;
  readonly registry: InstallRegistry;
  readonly registryServer: RegistryServer;
  readonly realmUrl: string;
  readonly kube: KubeApi;
  readonly config: InstallAgentConfig;
  readonly identity: Identity;
  readonly tokens: RegistryTokens;
  readonly store: ComponentStore;
  readonly apply: ApplyHandler;
  readonly destroy: DestroyHandler;
  readonly observe: ObserveHandler;
  stop(): Promise<void>;
}

/** A customer's account with the agent's parts in this process, and a vendor: two real registries, a cluster, the tools. */
export async function startWorld({ readySeconds = 20 } = {}): Promise<World> {
  const dir = await mkdtemp(join(tmpdir(), 'install-agent-'));
  const stateDir = join(dir, 'state');
  await makeRegistryKeys(stateDir);
  const vendor = await startVendor(join(dir, 'vendor'));
  const { seed, publicKey } = createNkey('user');
  const signing = createSigningKey();
  const enrolment: Enrolment = {
    agent_id: newId('agent'),
    kind: 'install',
    vendor_id: newId('vendor'),
    install_id: newId('install'),
    nats_urls: ['nats://127.0.0.1:1'],
    nats_jwt: 'jwt',
    nats_jwt_expires_at: new Date(Date.now() + 3_600_000).toISOString(),
    job_keys: [createNkey('account').publicKey],
    registry_token_url: vendor.tokenUrl,
    vendor_registry: { url: vendor.registry.url, namespace: 'acme' },
    vendor_keys: [signing.publicKeyPem],
  };
  vendor.agentKey = publicKey;
  await writePrivate(join(stateDir, 'key.seed'), seed);
  const stored = { server: 'http://127.0.0.1:1', allow_plain_http: false, enrolment };
  await writePrivate(join(stateDir, 'identity.json'), JSON.stringify(stored));
  const identity = await Identity.load(stateDir);
  if (!identity) throw new Error('the identity was not loaded');

  const port = await freePort();
  const registry = await InstallRegistry.open(`http://127.0.0.1:${port}`, stateDir);
  const realm = await registry.serve('127.0.0.1', 0);
  const realmUrl = `http://127.0.0.1:${realm.port}/token`;
  const registryServer = await startRegistry({
    dir: join(dir, 'registry'),
    port,
    auth: {
      realm: realmUrl,
      service: 'install-registry',
      issuer: 'install-agent',
      certPem: readFileSync(join(stateDir, 'registry.crt'), 'utf8'),
    },
  });
  const kube = await startKubeApi({ token: KUBE_TOKEN, allowedImageHosts: [`${registry.host}/${APP}`] });
  const [terraform, kubectl, helm] = await Promise.all([
    requireTool('terraform'),
    requireTool('kubectl'),
    requireTool('helm'),
  ]);
  const config = Object.assign(new InstallAgentConfig(), {
    INSTALL_REGISTRY_URL: registryServer.url,
    TERRAFORM_BIN: terraform.path,
    KUBECTL_BIN: kubectl.path,
    HELM_BIN: helm.path,
    KUBECONFIG: kube.kubeconfig(join(dir, 'kubeconfig')),
    READY_SECONDS: readySeconds,
    TERRAFORM_SECONDS: 60,
  });
  const store = new ComponentStore(stateDir);
  const provisioning = new Provisioning(config, identity, registry, store);
  return {
    dir,
    stateDir,
    enrolment,
    vendor,
    signingKey: signing.privateKeyPem,
    registry,
    registryServer,
    realmUrl,
    kube,
    config,
    identity,
    tokens: new RegistryTokens(identity),
    store,
    apply: new ApplyHandler(provisioning),
    destroy: new DestroyHandler(provisioning),
    observe: new ObserveHandler(provisioning),
    stop: async () => {
      await kube.stop();
      await registryServer.stop();
      await realm.close();
      await vendor.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}

/** What the component is made of: files of a module, chart or manifests by name, or what a job runs. */
export type Source = Readonly<Record<string, string>>;

/** Packs and signs a component as the vendor's build agent does, and puts it into a repository. */
export async function publish(
  world: World,
  component: {
    readonly name: string;
    readonly kind: ComponentKind;
    readonly source: Source | JsonObject;
    /** Names of images that come with it. */
    readonly images?: readonly string[];
  },
  to: { readonly client: RegistryClient; readonly repository: string } = {
    client: world.registry.client,
    repository: `${APP}/${component.name}`,
  },
  claims: Claims = {},
): Promise<Artifact> {
  const { name, kind, source, images } = component;
  const tree = join(world.dir, 'sources', newId('build'));
  await mkdir(tree, { recursive: true });
  for (const [file, text] of Object.entries(source as Source)) {
    if (kind === 'job' || kind.endsWith('image')) break;
    await mkdir(dirname(join(tree, file)), { recursive: true });
    await writeFile(join(tree, file), text);
  }
  const artifact = await pushArtifact({ ...to, ...(await formOf(kind, name, tree, source)) });
  const image = images && (await pushArtifact({ ...to, ...(await formOf('external-image', name, tree, source)) }));
  const { digest, mediaType, size } =
    images && image ? await pushParcel({ ...to, artifact, images: [{ names: images, image }] }) : artifact;
  await attestArtifact({
    ...to,
    digest,
    signer: localSigner(claims.key ?? world.signingKey),
    provenance: {
      builderId: claims.builder ?? builderIdOf(world.enrolment.vendor_id),
      buildType: buildTypeOf(claims.kind ?? kind),
      externalParameters: {
        component: claims.component ?? name,
        app: claims.app ?? APP,
        source_commit: claims.commit ?? COMMIT,
        ...claims.parameters,
      },
    },
  });
  return { repository: `acme/${APP}/${name}`, digest, media_type: mediaType, size_bytes: size };
}

async function formOf(
  kind: ComponentKind,
  name: string,
  tree: string,
  source: Source | JsonObject,
): Promise<Pick<Parameters<typeof pushArtifact>[0], 'artifactType' | 'config' | 'layers'>> {
  const oneLayer = (
    form: keyof typeof ARTIFACT_FORM,
    bytes: Buffer,
  ): Pick<Parameters<typeof pushArtifact>[0], 'artifactType' | 'config' | 'layers'> => {
    const { artifactType, configMediaType, layerMediaType } = ARTIFACT_FORM[form];
    const layers = [{ mediaType: layerMediaType, bytes }];
    if (artifactType !== undefined) return { artifactType, layers };
    return { layers, config: { mediaType: configMediaType, bytes: Buffer.from('{}') } };
  };
  if (kind === 'terraform-module') return oneLayer('terraformModule', await zipDirectory(tree));
  if (kind === 'kubernetes-manifests') return oneLayer('kubernetesManifests', await tarGzDirectory(tree));
  if (kind === 'helm-chart') return oneLayer('helmChart', await tarGzDirectory(tree, { prefix: name }));
  if (kind === 'job') return oneLayer('job', Buffer.from(JSON.stringify(source)));
  return {
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', bytes: Buffer.from('{"os":"linux"}') },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', bytes: Buffer.from(JSON.stringify(source)) }],
  };
}

export interface Order {
  readonly kind: JobKind;
  readonly name: string;
  readonly component: ComponentKind;
  readonly artifact?: Artifact;
  readonly values?: JsonObject;
  readonly namespace?: string;
  readonly inputs?: JsonObject;
  readonly install?: string;
}

/** The job as the scheduler signs it. */
export function orderOf(world: World, order: Order): { statement: JobStatement; envelope: Envelope } {
  const { enrolment, identity } = world;
  const statement = {
    job_id: newId('job'),
    attempt: 1,
    kind: order.kind,
    vendor_id: enrolment.vendor_id,
    agent_id: enrolment.agent_id,
    agent_key: identity.publicKey,
    install_id: order.install ?? enrolment.install_id,
    install_name: 'globex',
    app_name: APP,
    component: { id: newId('component'), name: order.name, kind: order.component },
    spec: {
      kind: order.component,
      ...(order.values ? { values: order.values } : {}),
      ...(order.namespace === undefined ? {} : { namespace: order.namespace }),
    },
    repository: `acme/${APP}/${order.name}`,
    ...(order.artifact ? { artifact: order.artifact } : {}),
    source_commit: COMMIT,
    inputs: order.inputs ?? {},
    issued_at: new Date().toISOString(),
    expires_at: new Date(Date.now() + 3_600_000).toISOString(),
  } as JobStatement;
  const scheduler = nkeyFromSeed(createNkey('account').seed);
  return { statement, envelope: signEnvelope(PAYLOAD_TYPES.job, statement, scheduler) };
}

/** Somebody else in the cluster changes something of the core group. */
export function inCluster({ kube }: World, method: string, path: string, body: object = {}): Promise<void> {
  const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
  const headers = { 'content-type': type, authorization: `Bearer ${KUBE_TOKEN}` };
  return new Promise((resolve, reject) => {
    const url = `${kube.url}/api/v1${path}?fieldManager=stranger`;
    const call = request(url, { method, headers, ca: kube.ca }, (response) => {
      const { statusCode = 500 } = response;
      response.resume();
      response.on('end', () => {
        if (statusCode < 300) resolve();
        else reject(new Error(`${method} ${path}: ${statusCode}`));
      });
    });
    call.on('error', reject);
    call.end(method === 'DELETE' ? undefined : JSON.stringify(body));
  });
}
