import { readFile, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { ImsError, type JsonObject, type JsonValue } from '#contracts';
import { tarGzDirectory, type Descriptor } from '#oci';
import { type BuildAgentConfig } from '../config.js';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';
import { assertNoExternalImages, imagesOf } from './images.js';
import { keepLayer, pushLayer } from './packaged.js';

const TIMEOUT_MS = 120_000;
/** Stands for the image of a component while the chart is rendered; whatever begins otherwise comes from outside. */
const PLACEHOLDER = 'component.invalid/image';
const NO_DIGEST = `sha256:${'0'.repeat(64)}`;

/** A chart, linted and rendered with the component's values, as Helm's own artifact form. */
export class HelmChart implements KindBuilder {
  constructor(private readonly config: BuildAgentConfig) {}

  async build(context: BuildContext): Promise<JsonObject> {
    const { step, sourceDir, outDir } = context;
    const chartFile = join(sourceDir, 'Chart.yaml');
    if (!existsSync(chartFile)) throw new ImsError('source_invalid', 'there is no Chart.yaml in the source');
    const chart = parse(await readFile(chartFile, 'utf8')) as { name?: string; version?: string };
    if (!chart.name || !chart.version) throw new ImsError('source_invalid', 'Chart.yaml needs name and version');
    const values = join(outDir, 'values.yaml');
    await writeFile(values, stringify(placeholders(step.statement.spec.values ?? {})));
    const said: string[] = [];
    const helm = (args: string[], keep: boolean) =>
      step.run({
        command: this.config.HELM_BIN,
        args,
        env: {
          HELM_CACHE_HOME: join(outDir, 'helm'),
          HELM_CONFIG_HOME: join(outDir, 'helm'),
          HELM_DATA_HOME: join(outDir, 'helm'),
        },
        timeoutMs: TIMEOUT_MS,
        onLine: (line) => {
          said.push(line);
          return line;
        },
        ...(keep ? { maxOutputBytes: 32 * 2 ** 20 } : {}),
      });
    if ((await helm(['lint', sourceDir, '--values', values], false)).exitCode !== 0) throw refused(said);
    const rendered = await helm(['template', chart.name, sourceDir, '--values', values], true);
    if (rendered.exitCode !== 0) throw refused(said);
    const images = parseAllDocuments(rendered.stdout ?? '').flatMap((document) =>
      imagesOf(document.toJS()).map(({ place, image }) => ({ where: `${describe(document.toJS())} ${place}`, image })),
    );
    assertNoExternalImages(images, (image) => image.startsWith(PLACEHOLDER));
    // A packed chart is a tar.gz of its folder; helm's own would carry the times of the files.
    await keepLayer(context, await tarGzDirectory(sourceDir, { prefix: chart.name }), chart);
    return { chart: chart.name, version: chart.version };
  }

  push(context: BuildContext, target: PushTarget): Promise<Descriptor> {
    return pushLayer(context, target, 'helmChart');
  }
}

/** The values with something in the place of each template, since nothing is deployed yet. */
function placeholders(value: JsonValue): JsonValue {
  if (typeof value === 'string') {
    return value
      .replace(/\{\{\s*components\.[\w-]+\.outputs\.image\s*\}\}/g, `${PLACEHOLDER}@${NO_DIGEST}`)
      .replace(/\{\{\s*components\.[\w-]+\.outputs\.repository\s*\}\}/g, PLACEHOLDER)
      .replace(/\{\{\s*components\.[\w-]+\.outputs\.digest\s*\}\}/g, NO_DIGEST)
      .replace(/\{\{[^}]*\}\}/g, '1');
  }
  if (Array.isArray(value)) return value.map(placeholders);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, placeholders(inner)]));
}

const describe = (object: unknown): string => {
  const { kind, metadata } = object as { kind?: string; metadata?: { name?: string } };
  return `${kind ?? '?'}/${metadata?.name ?? '?'}`;
};

const refused = (said: readonly string[]): ImsError =>
  new ImsError(
    'source_invalid',
    (said.filter((line) => /error/i.test(line)).join('\n') || (said.at(-1) ?? 'helm failed')).slice(0, 2_000),
  );
