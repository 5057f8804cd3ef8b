import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { LineCounter, parseAllDocuments } from 'yaml';
import { ImsError, type JsonObject } from '#contracts';
import { isImageReference, referencesOf } from '#domain';
import { tarGzDirectory, type Descriptor } from '#oci';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';
import { assertNoExternalImages, imagesOf } from './images.js';
import { keepLayer, pushLayer } from './packaged.js';

interface Manifest {
  readonly apiVersion?: unknown;
  readonly kind?: unknown;
  readonly metadata?: { readonly name?: unknown };
}

const invalid = (detail: string): ImsError => new ImsError('source_invalid', detail);

/** Plain manifests, checked one by one, in Flux's artifact form. */
export class KubernetesManifests implements KindBuilder {
  async build(context: BuildContext): Promise<JsonObject> {
    const files = (await readdir(context.sourceDir, { recursive: true }))
      .filter((name) => /\.ya?ml$/.test(name))
      .sort();
    const images: { where: string; image: string }[] = [];
    const references = new Set<string>();
    let count = 0;
    for (const name of files) {
      const text = await readFile(join(context.sourceDir, name), 'utf8');
      for (const { object, line, components } of parseManifests(text, name)) {
        count += 1;
        for (const component of components) references.add(component);
        const what = `${name}:${line} ${String(object.kind)}/${String(object.metadata?.name)}`;
        for (const { place, image } of imagesOf(object)) images.push({ where: `${what} ${place}`, image });
      }
    }
    if (count === 0)
      throw invalid(`no manifest (*.yaml, *.yml) in ${relative(context.step.workspace, context.sourceDir) || '.'}`);
    assertNoExternalImages(images, isImageReference);
    await keepLayer(context, await tarGzDirectory(context.sourceDir), {});
    return { manifests: count, images: images.map(({ image }) => image), references: [...references].sort() };
  }

  push(context: BuildContext, target: PushTarget): Promise<Descriptor> {
    return pushLayer(context, target, 'kubernetesManifests');
  }
}

/** The objects of one file, each with the line that it begins at. Throws `source_invalid` with file and line. */
function parseManifests(text: string, file: string): { object: Manifest; line: number; components: string[] }[] {
  const lines = new LineCounter();
  return parseAllDocuments(text, { lineCounter: lines }).flatMap((document) => {
    const [error] = document.errors;
    if (error) throw invalid(`${file}:${lines.linePos(error.pos[0]).line}: ${error.message.split('\n')[0] ?? ''}`);
    const object = document.toJS() as Manifest | null;
    if (object === null) return [];
    const { line } = lines.linePos(document.contents?.range?.[0] ?? 0);
    const named =
      typeof object.apiVersion === 'string' &&
      typeof object.kind === 'string' &&
      typeof object.metadata?.name === 'string';
    if (!named) throw invalid(`${file}:${line}: a manifest needs apiVersion, kind and metadata.name`);
    return [{ object, line, components: componentsOf(object, `${file}:${line}`) }];
  });
}

/** The components whose outputs an object names: it depends on them. */
function componentsOf(object: Manifest, where: string): string[] {
  try {
    return referencesOf(object).flatMap(({ reference }) => (reference.kind === 'output' ? [reference.component] : []));
  } catch (thrown) {
    throw invalid(`${where}: ${ImsError.of(thrown).detail}`);
  }
}
