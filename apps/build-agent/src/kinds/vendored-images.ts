import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ImsError, type JsonObject } from '#contracts';
import { fullImageName } from '#domain';
import { copyFrom, pushParcel, type ParcelImage, type Descriptor } from '#oci';
import { type BuildContext, type PushTarget } from '../kind.js';
import { type OutsideRegistries, parseImage } from './outside.js';

/** An image that a chart or a manifest names, and where it does. */
export interface FoundImage {
  readonly where: string;
  readonly image: string;
}
interface Vendored {
  /** As it is named, where it stands now, and by what it will be known. */
  readonly name: string;
  readonly digest: string;
}

const FILE = 'images.json';
const IMAGES_MAX = 200;

/**
 * Images of others that a component names: known by digest from the moment of the build, copied into the component's own
 * repository, and part of what is signed. Names with templates in them, which nobody can resolve now, are refused.
 */
export class VendoredImages {
  constructor(private readonly outside: OutsideRegistries) {}

  /** Looks each image up and keeps the list for `push`; what is there no more fails the build with its place. */
  async resolve({ step, outDir }: BuildContext, found: readonly FoundImage[]): Promise<JsonObject> {
    const open = found.filter(({ image }) => /[{}\s]/.test(image));
    if (open.length > 0) {
      const named = open.map(({ where, image }) => `${where}: ${image}`).join('; ');
      throw new ImsError('external_reference', named.slice(0, 2_000));
    }
    const places = new Map<string, string>();
    for (const { image, where } of found) places.set(image, places.get(image) ?? where);
    if (places.size > IMAGES_MAX) throw new ImsError('source_invalid', `more than ${IMAGES_MAX} images are named`);
    const vendored: Vendored[] = [];
    for (const [name, where] of places) {
      try {
        const digest = await this.outside.digestOf(parseImage(fullImageName(name)), step.signal);
        step.log('info', `${where}: ${name} is ${digest}`);
        vendored.push({ name, digest });
      } catch (thrown) {
        const { code, detail } = ImsError.of(thrown);
        throw new ImsError(code, `${where}: ${detail}`, [], { cause: thrown });
      }
    }
    vendored.sort((one, other) => (one.name < other.name ? -1 : 1));
    await writeFile(join(outDir, FILE), JSON.stringify(vendored));
    return vendored.length === 0 ? {} : { images: vendored.map(({ name, digest }) => ({ name, digest })) };
  }

  /** Copies them beside the artifact, and answers what stands for all of it: the artifact alone when there are none. */
  async push({ step, outDir }: BuildContext, target: PushTarget, artifact: Descriptor): Promise<Descriptor> {
    const vendored = JSON.parse(await readFile(join(outDir, FILE), 'utf8')) as Vendored[];
    if (vendored.length === 0) return artifact;
    const images = new Map<string, ParcelImage>();
    for (const { name, digest } of vendored) {
      const before = images.get(digest);
      if (before) {
        images.set(digest, { ...before, names: [...before.names, name] });
        continue;
      }
      const source = this.outside.source(parseImage(fullImageName(name)));
      const copied = await copyFrom(source, digest, target, { referrers: false, signal: step.signal });
      step.log('info', `${name}: ${copied.blobsCopied} blobs copied, ${copied.blobsSkipped} were there`);
      images.set(digest, { names: [name], image: copied });
    }
    return pushParcel({ ...target, artifact, images: [...images.values()], signal: step.signal });
  }
}
