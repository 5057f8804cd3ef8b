import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { ImsError, type JsonObject, type JsonValue } from '#contracts';
import { imagesOf, referencesOf, render, type Reference, type ReferenceScope } from '#domain';
import { tarGzDirectory, untarTo, type Descriptor } from '#oci';
import { type BuildAgentConfig } from '../config.js';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';
import { vendorDependencies } from './chart-dependencies.js';
import { nameOf, objectsOf } from './kubernetes-objects.js';
import { keepLayer, pushLayer } from './packaged.js';
import { type FoundImage, type VendoredImages } from './vendored-images.js';

const TIMEOUT_MS = 120_000;
const RENDERED_MAX_BYTES = 32 * 2 ** 20;
/** Stands for the image of a component while the chart is rendered; whatever is otherwise comes from outside. */
const PLACEHOLDER = 'component.invalid/image';
const NO_DIGEST = `sha256:${'0'.repeat(64)}`;
const isPlaceholder = (image: string): boolean => /^component\.invalid\/image([:@]|$)/.test(image);

/**
 * A chart as Helm's own artifact form, linted and rendered with the component's values. Helm packs it (it knows
 * `.helmignore`), we pack that again without times, and the checks look at the very archive that is pushed.
 */
export class HelmChart implements KindBuilder {
  constructor(
    private readonly config: BuildAgentConfig,
    private readonly vendored: VendoredImages,
  ) {}

  async build(context: BuildContext): Promise<JsonObject> {
    const { step, sourceDir, outDir } = context;
    if (!existsSync(join(sourceDir, 'Chart.yaml'))) {
      throw new ImsError('source_invalid', 'there is no Chart.yaml in the source');
    }
    // Helm packs what a link points to, wherever that is; this refuses links that leave the source.
    await tarGzDirectory(sourceDir);
    const helm = this.helm(context);
    const { CHART_REPOSITORIES: allowed, REGISTRY_AUTH_FILE: authFile } = this.config;
    await vendorDependencies(sourceDir, {
      checkout: join(step.workspace, 'source'),
      allowed: allowed?.split(',').map((each) => each.trim()),
      authFile,
      helm,
    });
    const packed = join(outDir, 'packed');
    const unpacked = join(outDir, 'unpacked');
    await Promise.all([packed, unpacked].map((dir) => rm(dir, { recursive: true, force: true })));
    await helm(['package', sourceDir, '--destination', packed]);
    const [archive = ''] = await readdir(packed);
    await untarTo(join(packed, archive), unpacked);
    const [folder = ''] = await readdir(unpacked);
    const chart = parse(await readFile(join(unpacked, folder, 'Chart.yaml'), 'utf8')) as JsonObject;
    const layer = await tarGzDirectory(unpacked);
    await keepLayer(context, layer, chart);

    // lint takes a file for a chart only when it has this ending.
    const shipped = join(outDir, 'chart.tgz');
    await writeFile(shipped, layer);
    const values = join(outDir, 'values.yaml');
    const { rendered, exact } = withPlaceholders(step.statement.spec.values ?? {});
    await writeFile(values, stringify(rendered));
    // A schema can only judge the values of an install; what stands for them here has any type.
    const given = ['--values', values, ...(exact ? [] : ['--skip-schema-validation'])];
    await helm(['lint', shipped, ...given]);
    const images: FoundImage[] = [];
    // A profile lies over the chart's own values and under the component's.
    for (const profile of [undefined, ...(await profilesOf(join(unpacked, folder)))]) {
      const over = profile === undefined ? [] : ['--values', join(unpacked, folder, profile)];
      const args = ['template', step.statement.component.name, shipped, ...over, ...given];
      const where = profile === undefined ? '' : `${profile}: `;
      images.push(...outsideImages(await helm(args, RENDERED_MAX_BYTES), where));
    }
    const vendored = await this.vendored.resolve(context, images);
    return { chart: chart['name'] ?? '', version: chart['version'] ?? '', ...vendored };
  }

  async push(context: BuildContext, target: PushTarget): Promise<Descriptor> {
    return this.vendored.push(context, target, await pushLayer(context, target, 'helmChart'));
  }

  /** Runs helm with nothing of the host's own settings. Answers stdout when it is asked for; a failure is the source's. */
  private helm({ step, outDir }: BuildContext) {
    const home = join(outDir, 'helm');
    return async (args: readonly string[], maxOutputBytes?: number): Promise<string> => {
      const said: string[] = [];
      const { exitCode, stdout } = await step.run({
        command: this.config.HELM_BIN,
        args,
        env: { HELM_CACHE_HOME: home, HELM_CONFIG_HOME: home, HELM_DATA_HOME: home },
        timeoutMs: TIMEOUT_MS,
        onLine: (line) => {
          said.push(line);
          return line;
        },
        ...(maxOutputBytes === undefined ? {} : { maxOutputBytes }),
      });
      if (exitCode !== 0) throw refused(said);
      return stdout ?? '';
    };
  }
}

/** `values-production.yaml` beside `values.yaml`: what the chart is meant to be installed with, too. */
async function profilesOf(chartDir: string): Promise<string[]> {
  return (await readdir(chartDir)).filter((name) => /^values-[\w.-]+\.ya?ml$/.test(name)).sort();
}

function outsideImages(text: string, where: string): FoundImage[] {
  return objectsOf(text, 'rendered chart').flatMap(({ object }) =>
    imagesOf(object)
      .filter(({ image }) => !isPlaceholder(image))
      .map(({ place, image }) => ({ where: `${where}${nameOf(object)} ${place}`, image })),
  );
}

/**
 * The values with something in the place of each template, since nothing is deployed yet. `exact`: only images were
 * filled in, so types are what they will be.
 */
function withPlaceholders(values: JsonObject): { rendered: JsonValue; exact: boolean } {
  const references = referencesOf(values).map(({ reference }) => reference);
  const components: Record<string, JsonObject> = {};
  const inputs: JsonObject = {};
  for (const reference of references) {
    if (reference.kind === 'output') (components[reference.component] ??= {})[reference.key] = placeholderOf(reference);
    if (reference.kind === 'input') inputs[reference.key] = '1';
  }
  const scope: ReferenceScope = { components, install: { id: 'install', name: 'install', inputs } };
  return { rendered: render(values, scope), exact: references.every(isImageOutput) };
}

const IMAGE_OUTPUTS: Readonly<Record<string, string>> = {
  image: `${PLACEHOLDER}@${NO_DIGEST}`,
  repository: PLACEHOLDER,
  digest: NO_DIGEST,
};
const placeholderOf = ({ key }: Reference): string =>
  Object.hasOwn(IMAGE_OUTPUTS, key) ? (IMAGE_OUTPUTS[key] ?? '1') : '1';
const isImageOutput = ({ kind, key }: Reference): boolean => kind === 'output' && Object.hasOwn(IMAGE_OUTPUTS, key);

/** Helm names template and line in its own words; lint marks faults with [ERROR]. */
function refused(said: readonly string[]): ImsError {
  const faults = said.filter((line) => line.startsWith('[ERROR]'));
  const told = faults.length > 0 ? faults : said.filter((line) => /error/i.test(line));
  return new ImsError('source_invalid', (told.join('\n') || (said.at(-1) ?? 'helm failed')).slice(0, 2_000));
}
