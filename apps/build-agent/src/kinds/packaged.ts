import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ARTIFACT_FORM, pushArtifact, type Descriptor } from '#oci';
import { type BuildContext, type PushTarget } from '../kind.js';

/** A component that is one file in one layer: how it lies in the out directory between `build` and `push`. */
export const LAYER = 'layer';
const CONFIG = 'config.json';

export async function keepLayer({ outDir }: BuildContext, bytes: Buffer, config?: object): Promise<void> {
  await writeFile(join(outDir, LAYER), bytes);
  if (config) await writeFile(join(outDir, CONFIG), JSON.stringify(config));
}

/** Pushes the kept layer in the public form of its kind; nothing in the manifest tells of time or builder. */
export async function pushLayer(
  { outDir, step }: BuildContext,
  target: PushTarget,
  form: keyof typeof ARTIFACT_FORM,
): Promise<Descriptor> {
  const { artifactType, configMediaType, layerMediaType } = ARTIFACT_FORM[form];
  const own = artifactType === undefined || form === 'helmChart';
  const config = own ? await readFile(join(outDir, CONFIG)).catch(() => Buffer.from('{}')) : undefined;
  return pushArtifact({
    ...target,
    artifactType,
    ...(config ? { config: { mediaType: configMediaType, bytes: config } } : {}),
    layers: [{ mediaType: layerMediaType, file: join(outDir, LAYER) }],
    signal: step.signal,
  });
}
