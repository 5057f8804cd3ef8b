import 'reflect-metadata';
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { copyArtifact, pushArtifact, RegistryClient } from '#oci';
import { requireTool, startRegistry, type ToolName } from '#stack';
import { median } from './median.js';

/**
 * Registry to registry, beside the tools that people know, in one run: one image of 500 MB in 8 layers, and 100 small
 * artifacts. Each tool copies into repositories of its own in a registry of its own, so that nobody finds the blobs of
 * another; rounds take turns.
 */

const MIB = 2 ** 20;
const REPOSITORY = 'bench/image';
const run = promisify(execFile);
const { values: options } = parseArgs({
  options: {
    ours: { type: 'string', multiple: true },
    rounds: { type: 'string', default: '3' },
    mib: { type: 'string', default: '500' },
    small: { type: 'string', default: '100' },
  },
});

interface Copied {
  readonly ms: number;
  readonly rssMib: number;
}
interface Job {
  readonly from: string;
  readonly to: string;
  /** Repository and digest. */
  readonly artifacts: readonly (readonly [string, string])[];
}

/** What the child process does: all artifacts of a list, four at a time, and what it took. */
async function copyAll(file: string): Promise<void> {
  const { from, to, artifacts } = JSON.parse(await readFile(file, 'utf8')) as Job;
  const [source, target] = [from, to].map((baseUrl) => new RegistryClient({ baseUrl })) as [
    RegistryClient,
    RegistryClient,
  ];
  const began = performance.now();
  const queue = artifacts.values();
  let bytes = 0;
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      for (const [repository, digest] of queue) {
        const copied = await copyArtifact({
          from: { client: source, repository, digest },
          to: { client: target, repository },
        });
        bytes += copied.bytesCopied;
      }
    }),
  );
  const ms = Math.round(performance.now() - began);
  console.log(JSON.stringify({ ms, bytes, rssMib: Math.round(process.resourceUsage().maxRSS / 1024) }));
}

/** Wall clock of a program and the peak of its resident memory, which the kernel keeps. */
async function measured(command: string, args: readonly string[]): Promise<Copied> {
  const began = performance.now();
  const child = spawn(command, [...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  let rssMib = 0;
  const timer = setInterval(() => {
    void readFile(`/proc/${child.pid}/status`, 'utf8').then(
      (status) => (rssMib = Math.max(rssMib, Math.round(Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024))),
      () => undefined,
    );
  }, 10);
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  clearInterval(timer);
  if (code !== 0) throw new Error(`${command} ended with ${code}: ${said.slice(-500)}`);
  return { ms: Math.round(performance.now() - began), rssMib };
}

/** The arguments with which each tool copies one artifact over plain HTTP. */
const PEERS: Readonly<Partial<Record<ToolName, (from: string, to: string) => string[]>>> = {
  skopeo: (from, to) => [
    ...[
      '--insecure-policy',
      'copy',
      '--all',
      '--preserve-digests',
      '--src-tls-verify=false',
      '--dest-tls-verify=false',
    ],
    ...[`docker://${from}`, `docker://${to.replace(/@.*/, ':copied')}`],
  ],
  oras: (from, to) => ['cp', '--from-plain-http', '--to-plain-http', from, to.replace(/@.*/, ':copied')],
  crane: (from, to) => ['copy', '--insecure', from, to.replace(/@.*/, ':copied')],
};

async function main(): Promise<void> {
  const dir = await mkdtemp(join(tmpdir(), 'bench-copy-'));
  const servers: { stop(): Promise<void> }[] = [];
  const start = async (name: string): Promise<string> => {
    const server = await startRegistry({ dir: join(dir, name) });
    servers.push(server);
    return server.url;
  };
  try {
    const from = await start('from');
    const { large, small } = await filled(from, dir);
    const peers = new Map<string, { path: string; args: (from: string, to: string) => string[] }>();
    for (const [name, args] of Object.entries(PEERS)) {
      await requireTool(name as ToolName).then(
        ({ path }) => peers.set(name, { path, args }),
        (fault: unknown) => console.log(`without ${name}: ${fault instanceof Error ? fault.message : String(fault)}`),
      );
    }
    for (const [what, artifacts] of [
      [`${options.mib} MiB in 8 layers`, [large]],
      [`${options.small} artifacts of 4 KiB`, small],
    ] as const) {
      const seen = new Map<string, Copied[]>();
      const note = (name: string, copied: Copied): void => void seen.set(name, [...(seen.get(name) ?? []), copied]);
      for (let round = 0; round < Number(options.rounds); round++) {
        const ours = await start(`ours-${what.length}-${round}`);
        note('ours', await oursInChild(dir, { from, to: ours, artifacts }));
        const again = await oursInChild(dir, { from, to: ours, artifacts });
        if (again.bytes !== 0) throw new Error(`a second copy sent ${again.bytes} bytes`);
        for (const [name, { path, args }] of peers) {
          const to = await start(`${name}-${what.length}-${round}`);
          let [ms, rssMib] = [0, 0];
          for (const [repository, digest] of artifacts) {
            const at = (url: string): string => `${new URL(url).host}/${repository}@${digest}`;
            const copied = await measured(path, args(at(from), at(to)));
            [ms, rssMib] = [ms + copied.ms, Math.max(rssMib, copied.rssMib)];
          }
          note(name, { ms, rssMib });
        }
      }
      report(what, seen);
    }
  } finally {
    for (const server of servers) await server.stop();
    await rm(dir, { recursive: true, force: true });
  }
}

async function oursInChild(dir: string, job: Job): Promise<Copied & { readonly bytes: number }> {
  const file = join(dir, 'job.json');
  await writeFile(file, JSON.stringify(job));
  const { stdout } = await run(process.execPath, [fileURLToPath(import.meta.url), '--ours', file]);
  return JSON.parse(stdout) as Copied & { readonly bytes: number };
}

/** The source registry's content: random bytes, which no disk and no wire makes smaller. */
async function filled(
  url: string,
  dir: string,
): Promise<{ large: readonly [string, string]; small: (readonly [string, string])[] }> {
  const client = new RegistryClient({ baseUrl: url });
  const config = { mediaType: 'application/vnd.oci.image.config.v1+json', bytes: Buffer.from('{"os":"linux"}') };
  const mediaType = 'application/vnd.oci.image.layer.v1.tar';
  const folder = join(dir, 'layers');
  await mkdir(folder);
  const layers = [];
  for (let i = 0; i < 8; i++) {
    const file = join(folder, String(i));
    const stream = createWriteStream(file);
    for (let mib = 0; mib < Number(options.mib) / 8; mib++) {
      if (!stream.write(randomBytes(MIB))) await new Promise<void>((resolve) => stream.once('drain', () => resolve()));
    }
    await new Promise<void>((resolve) => stream.end(resolve));
    layers.push({ mediaType, file });
  }
  const { digest } = await pushArtifact({ client, repository: REPOSITORY, config, layers });
  await rm(folder, { recursive: true });
  const small: (readonly [string, string])[] = [];
  for (let i = 0; i < Number(options.small); i++) {
    const repository = `bench/small-${i}`;
    const one = [{ mediaType, bytes: randomBytes(4096) }];
    small.push([repository, (await pushArtifact({ client, repository, config, layers: one })).digest]);
  }
  return { large: [REPOSITORY, digest], small };
}

function report(what: string, seen: ReadonlyMap<string, readonly Copied[]>): void {
  console.log(`${what}; medians of ${options.rounds} rounds, peak of resident memory`);
  for (const [name, all] of seen) {
    const ms = median(all.map((each) => each.ms));
    const rss = Math.max(...all.map(({ rssMib }) => rssMib));
    console.log(`  ${name.padEnd(8)} ${(ms / 1000).toFixed(2).padStart(7)} s  ${String(rss).padStart(5)} MiB`);
  }
}

if (options.ours?.[0] !== undefined) await copyAll(options.ours[0]);
else await main();
