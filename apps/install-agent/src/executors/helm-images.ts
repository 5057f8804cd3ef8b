import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ExecutorContext } from '../executor.js';

const NAME = 'ims-images';
const PLUGIN = `apiVersion: v1
type: postrenderer/v1
name: ${NAME}
version: 0.1.0
runtime: subprocess
runtimeConfig:
  platformCommand:
    - command: sed
      args: ['-E', '-f', '\${HELM_PLUGIN_DIR}/images.sed']
`;

/**
 * What makes helm name the images that came with a chart as the install's registry has them: a post-renderer, which sees
 * hooks too, and what charts make of their values by any template. Helm 4 takes post-renderers as plugins only.
 */
export async function renamedImages({
  images,
  workDir,
}: ExecutorContext): Promise<{ readonly args: readonly string[]; readonly env: Readonly<Record<string, string>> }> {
  if (images.size === 0) return { args: [], env: {} };
  const plugins = join(workDir, 'helm-plugins');
  const home = join(plugins, NAME);
  await mkdir(home, { recursive: true });
  await writeFile(join(home, 'plugin.yaml'), PLUGIN);
  await writeFile(join(home, 'images.sed'), [...images].map(([name, here]) => substitution(name, here)).join(''));
  return { args: ['--post-renderer', NAME], env: { HELM_PLUGINS: plugins } };
}

/** In `image: NAME` and, of image volumes, `reference: NAME`; with quotes or without, in block and in flow style. */
function substitution(name: string, here: string): string {
  const literal = name.replace(/[.[\]*^$+?(){}|\\/#-]/g, '\\$&');
  return `s#("?(image|reference)"?:[[:space:]]*)["']?${literal}["']?([[:space:],}]|$)#\\1"${here}"\\3#g\n`;
}
