import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ImsError, type JsonObject } from '#contracts';
import { imagesOf, isImageReference, referencesOf } from '#domain';
import { tarGzDirectory, type Descriptor } from '#oci';
import { type BuildAgentConfig } from '../config.js';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';
import { kustomizationOf, kustomized } from './kustomization.js';
import { nameOf, objectsOf, type KubernetesObject } from './kubernetes-objects.js';
import { keepLayer, pushLayer } from './packaged.js';
import { type FoundImage, type VendoredImages } from './vendored-images.js';

const KUSTOMIZED = 'kustomized.yaml';
const invalid = (detail: string): ImsError => new ImsError('source_invalid', detail);

/** Manifests, plain or made by kustomize, checked one by one, in Flux's artifact form. */
export class KubernetesManifests implements KindBuilder {
  constructor(
    private readonly config: BuildAgentConfig,
    private readonly vendored: VendoredImages,
  ) {}

  async build(context: BuildContext): Promise<JsonObject> {
    const { step } = context;
    // Packed first: it refuses links that leave the source, before anything is read through one.
    const plain = await tarGzDirectory(context.sourceDir);
    const isKustomized = kustomizationOf(context.sourceDir) !== undefined;
    const sourceDir = isKustomized ? await this.kustomize(context) : context.sourceDir;
    const layer = isKustomized ? await tarGzDirectory(sourceDir) : plain;
    const files = (await readdir(sourceDir, { recursive: true })).filter((name) => /\.ya?ml$/.test(name)).sort();
    const images: FoundImage[] = [];
    const references = new Set<string>();
    let manifests = 0;
    for (const file of files) {
      for (const { object, line } of objectsOf(await readFile(join(sourceDir, file), 'utf8'), file)) {
        manifests += 1;
        assertNamed(object, `${file}:${line}`);
        for (const component of componentsOf(object, `${file}:${line}`)) references.add(component);
        for (const { place, image } of imagesOf(object)) {
          if (isImageReference(image)) continue;
          images.push({ where: `${file}:${line} ${nameOf(object)} ${place}`, image });
        }
      }
    }
    if (manifests === 0) {
      throw invalid(`no manifest (*.yaml, *.yml) in ${step.statement.spec.source?.directory ?? 'the source'}`);
    }
    const vendored = await this.vendored.resolve(context, images);
    await keepLayer(context, layer, {});
    return { manifests, references: [...references].sort(), ...vendored };
  }

  async push(context: BuildContext, target: PushTarget): Promise<Descriptor> {
    return this.vendored.push(context, target, await pushLayer(context, target, 'kubernetesManifests'));
  }

  /** A folder with what kustomize makes of the source: the artifact has the objects, and needs no kustomize any more. */
  private async kustomize(context: BuildContext): Promise<string> {
    const text = await kustomized(context, this.config.KUBECTL_BIN);
    const dir = join(context.outDir, 'kustomized');
    await rm(dir, { recursive: true, force: true });
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, KUSTOMIZED), text);
    return dir;
  }
}

function assertNamed({ apiVersion, kind, metadata }: KubernetesObject, where: string): void {
  if ([apiVersion, kind, metadata?.name].every((field) => typeof field === 'string' && field !== '')) return;
  throw invalid(`${where}: a manifest needs apiVersion, kind and metadata.name`);
}

/** The components whose outputs an object names: it depends on them. */
function componentsOf(object: KubernetesObject, where: string): string[] {
  try {
    return referencesOf(object).flatMap(({ reference }) => (reference.kind === 'output' ? [reference.component] : []));
  } catch (thrown) {
    throw invalid(`${where}: ${ImsError.of(thrown).detail}`);
  }
}
