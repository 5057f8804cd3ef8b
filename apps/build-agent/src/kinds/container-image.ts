import { mkdir, rm, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ImsError, type JsonObject } from '#contracts';
import { pushOciLayout, type Descriptor } from '#oci';
import { type BuildAgentConfig } from '../config.js';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';

/** What builds a Dockerfile into an OCI image layout. buildah is the one that needs no daemon; BuildKit can be another. */
export interface ImageBuilder {
  build(context: BuildContext, dockerfile: string, layoutDir: string): Promise<void>;
}

/**
 * buildah with real isolation: own namespaces by runc and no network, where chroot isolation would show the host's
 * processes and loopback services. `--timestamp 0` makes the same source give the same digest.
 */
export class Buildah implements ImageBuilder {
  constructor(
    private readonly config: BuildAgentConfig,
    private readonly stateDir: string,
  ) {}

  async build({ step, sourceDir }: BuildContext, dockerfile: string, layoutDir: string): Promise<void> {
    const home = join(this.stateDir, 'buildah');
    const policy = join(home, 'policy.json');
    await mkdir(join(home, 'run'), { recursive: true });
    // What is pulled is pinned by digest or refused (--pull-never); a policy file must exist all the same.
    await writeFile(policy, '{"default":[{"type":"insecureAcceptAnything"}]}');
    const tag = `localhost/build:${step.statement.job_id}`;
    const storage = [
      '--root',
      join(home, 'storage'),
      '--runroot',
      join(home, 'run'),
      '--storage-driver',
      this.config.BUILDAH_STORAGE_DRIVER,
    ];
    const said: string[] = [];
    const buildah = async (args: string[]): Promise<number> => {
      const { exitCode } = await step.run({
        command: this.config.BUILDAH_BIN,
        args: [...storage, ...args],
        timeoutMs: this.config.BUILD_SECONDS * 1000,
        onLine: (line) => {
          said.push(line);
          return line;
        },
      });
      return exitCode;
    };
    const built = await buildah([
      'build',
      ...['--isolation', 'oci', '--runtime', this.config.RUNC_BIN, '--network', 'none', '--pull-never'],
      ...['--timestamp', '0', '--layers', '--format', 'oci', '--signature-policy', policy],
      ...['--file', dockerfile, '--tag', tag, sourceDir],
    ]);
    if (built !== 0) throw failed(said);
    const pushed = await buildah(['push', '--signature-policy', policy, tag, `oci:${layoutDir}:image`]);
    // The layers stay as a cache; only the name of this build goes.
    await buildah(['rmi', tag]);
    if (pushed !== 0) throw failed(said);
  }
}

/** The step that failed and why, from the last lines that buildah printed. */
function failed(said: readonly string[]): ImsError {
  const cause = [...said].reverse().find((line) => /error|no such|not found|failed|unknown/i.test(line)) ?? said.at(-1);
  const at = [...said].reverse().find((line) => /^(\[\d+\/\d+\] )?STEP \d+/.test(line));
  return new ImsError('image_build_failed', [at, cause].filter(Boolean).join(': ').slice(0, 2_000));
}

export class ContainerImage implements KindBuilder {
  constructor(private readonly builder: ImageBuilder) {}

  async build(context: BuildContext): Promise<JsonObject> {
    const { dockerfile = 'Dockerfile' } = context.step.statement.spec;
    const file = join(context.sourceDir, dockerfile);
    if (!existsSync(file)) throw new ImsError('source_invalid', `there is no ${dockerfile} in the source`);
    const layout = join(context.outDir, 'image');
    await rm(layout, { recursive: true, force: true });
    await this.builder.build(context, file, layout);
    return {};
  }

  async push({ step, outDir }: BuildContext, target: PushTarget): Promise<Descriptor> {
    const { digest, mediaType, size } = await pushOciLayout({
      ...target,
      layoutDir: join(outDir, 'image'),
      signal: step.signal,
    });
    return { digest, mediaType, size };
  }
}
