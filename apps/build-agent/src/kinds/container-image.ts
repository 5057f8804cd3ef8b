import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ImsError, type JsonObject } from '#contracts';
import { pushOciLayout, type Descriptor } from '#oci';
import { type BuildAgentConfig } from '../config.js';
import { type BuildContext, type KindBuilder, type PushTarget } from '../kind.js';
import { insideOf } from '../source.js';

/** What builds a Dockerfile into an OCI image layout. buildah is the one that needs no daemon; BuildKit can be another. */
export interface ImageBuilder {
  /** Throws `image_build_failed` with the step that failed. */
  build(context: BuildContext, dockerfile: string, layoutDir: string): Promise<void>;
}

/** A build whose output ends in a stack of progress lines is told by its last ones. */
const TOLD_LINES = 3;
const SHORT_MS = 300_000;

/**
 * buildah with real isolation: own namespaces by runc and no network, where chroot isolation would show the host's
 * processes and loopback services. `unshare -n` takes the network from buildah itself too: `ADD <url>` is fetched
 * outside of the container, and what is fetched in a build is an external reference that no digest holds. `--mount`
 * ends the mounts of the overlay driver with the command; without it one stays in the host for ever.
 * `--timestamp 0` makes the same source give the same digest (for one version of buildah, which is in a label).
 */
export class Buildah implements ImageBuilder {
  private running = 0;
  private tidied: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly config: BuildAgentConfig,
    private readonly stateDir: string,
  ) {}

  async build(context: BuildContext, dockerfile: string, layoutDir: string): Promise<void> {
    // Asked by name, so that a program that is not there is `tool_missing`; and the log tells the versions.
    for (const command of [this.config.BUILDAH_BIN, this.config.RUNC_BIN]) {
      await context.step.run({ command, args: ['--version'], timeoutMs: SHORT_MS });
    }
    // Never while another build has containers, and layers that are not tagged yet.
    if (this.running === 0) this.tidied = this.tidy(context).catch(() => undefined);
    this.running += 1;
    try {
      await this.tidied;
      await this.buildAndExport(context, dockerfile, layoutDir);
    } finally {
      this.running -= 1;
    }
  }

  /** Drops what earlier builds have left: working containers of failed and killed ones, layers that no tag holds. */
  private async tidy(context: BuildContext): Promise<void> {
    await this.buildah(context, ['rm', '--all'], []);
    await this.buildah(context, ['rmi', '--prune'], []);
  }

  private async buildAndExport(context: BuildContext, dockerfile: string, layoutDir: string): Promise<void> {
    const policy = join(this.stateDir, 'buildah', 'policy.json');
    await mkdir(dirname(policy), { recursive: true });
    // Nothing is pulled (--pull-never); a policy file must exist all the same.
    await writeFile(policy, '{"default":[{"type":"insecureAcceptAnything"}]}');
    const idFile = join(context.outDir, 'image-id');
    const said: string[] = [];
    const built = await this.buildah(
      context,
      [
        'build',
        ...['--isolation', 'oci', '--runtime', this.config.RUNC_BIN, '--network', 'none', '--http-proxy=false'],
        ...['--pull-never', '--timestamp', '0', '--layers', '--format', 'oci', '--signature-policy', policy],
        // The tag keeps the layers of the component's last build as its cache; `rmi` of a tag would drop them all.
        ...['--tag', `localhost/${context.step.statement.component.id}`, '--iidfile', idFile],
        ...['--file', dockerfile, context.sourceDir],
      ],
      said,
    );
    if (built !== 0) throw failed(said);
    // By id: the tag may be another build's by now.
    const id = (await readFile(idFile, 'utf8')).trim();
    const push = ['push', '--signature-policy', policy, id, `oci:${layoutDir}:image`];
    if ((await this.buildah(context, push, said)) !== 0) throw failed(said);
  }

  private async buildah({ step }: BuildContext, args: readonly string[], said: string[]): Promise<number> {
    const home = join(this.stateDir, 'buildah');
    const storage = ['--root', join(home, 'storage'), '--runroot', join(home, 'run')];
    const { exitCode } = await step.run({
      command: 'unshare',
      args: [
        ...['--net', '--mount', '--', this.config.BUILDAH_BIN, ...storage],
        ...['--storage-driver', this.config.BUILDAH_STORAGE_DRIVER, ...args],
      ],
      timeoutMs: args[0] === 'build' ? this.config.BUILD_SECONDS * 1000 : SHORT_MS,
      onLine: (line) => {
        said.push(line);
        return line;
      },
    });
    return exitCode;
  }
}

/** The step that failed and the last lines that were printed. */
function failed(said: readonly string[]): ImsError {
  const isStep = (line: string): boolean => /^(\[\d+\/\d+\] )?STEP \d+/.test(line);
  const step = said.findLast(isStep);
  const told = said.filter((line) => line.trim() !== '' && !isStep(line) && !line.startsWith('time="'));
  const lines = [...(step ? [step] : []), ...told.slice(-TOLD_LINES)];
  return new ImsError('image_build_failed', lines.join('\n').slice(0, 2_000));
}

export class ContainerImage implements KindBuilder {
  constructor(private readonly builder: ImageBuilder) {}

  async build(context: BuildContext): Promise<JsonObject> {
    const { dockerfile = 'Dockerfile' } = context.step.statement.spec;
    const file = await insideOf(context.sourceDir, dockerfile);
    if (!file) throw new ImsError('source_invalid', `there is no ${dockerfile} in the source`);
    const layout = join(context.outDir, 'image');
    await rm(layout, { recursive: true, force: true });
    await this.builder.build(context, file, layout);
    return {};
  }

  async push({ step, outDir }: BuildContext, target: PushTarget): Promise<Descriptor> {
    const pushed = await pushOciLayout({ ...target, layoutDir: join(outDir, 'image'), signal: step.signal });
    step.log('info', `${pushed.blobsCopied} blobs pushed`);
    return { digest: pushed.digest, mediaType: pushed.mediaType, size: pushed.size };
  }
}
