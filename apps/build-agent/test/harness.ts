import { randomUUID } from 'node:crypto';
import { mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import http from 'node:http';
import { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Processes, Redactor, RegistryTokens, type JobHandler, type StepContext } from '#agent-kit';
import {
  ImsError,
  newId,
  openEnvelope,
  PAYLOAD_TYPES,
  signEnvelope,
  type Artifact,
  type ComponentSpec,
  type Envelope,
  type JobStatement,
  type JsonObject,
  type RegistryAccess,
} from '#contracts';
import { createNkey, nkeyFromSeed, verifyNkey } from '#messaging';
import { createRegistryCertificate, createRegistryTokenSigner, createSigningKey, localSigner } from '#oci';
import { requireTool, startRegistry, type RegistryServer, type ToolName } from '#stack';
import { BuildAgentConfig } from '../src/config.js';
import { BuildHandler, BuildHost } from '../src/build-handler.js';

const SERVICE = 'test-registry';
const ISSUER = 'test-registry-token';

export const VENDOR = newId('vendor');

/** Writes files (by path) into a new folder. Each call gives them other times. */
let clock = 1_000_000;
export async function folder(dir: string, files: Readonly<Record<string, string>>): Promise<string> {
  const root = join(dir, randomUUID());
  for (const [name, text] of Object.entries(files)) {
    const file = join(root, name);
    await mkdir(dirname(file), { recursive: true });
    await writeFile(file, text);
    clock += 86_400;
    await utimes(file, clock, clock);
  }
  return root;
}

/** Between the agent and the registry: counts, and can break a connection. */
export interface Tap {
  readonly url: string;
  /** `PUT /v2/…`, without the query. */
  readonly requests: string[];
  /** Called before a request is passed on; true cuts the connection instead. */
  cut: (request: string) => boolean;
  /** Blobs and manifests that were stored. */
  stored(): { blobs: number; manifests: number };
  close(): Promise<void>;
}

async function tap(target: string): Promise<Tap> {
  const { hostname, port } = new URL(target);
  const server = http.createServer((request, response) => {
    const { method = '', url = '', headers } = request;
    const line = `${method} ${url.split('?')[0] ?? ''}`;
    self.requests.push(line);
    if (self.cut(line)) {
      request.socket.destroy();
      return;
    }
    const onward = http.request({ hostname, port, method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const count = (pattern: RegExp): number => self.requests.filter((line) => pattern.test(line)).length;
  const self: Tap = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: [],
    cut: () => false,
    stored: () => ({ blobs: count(/^PUT .*\/blobs\/uploads\//), manifests: count(/^PUT .*\/manifests\//) }),
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
  return self;
}

/** A registry that takes nothing without a token, the endpoint that gives tokens, and a build agent before them. */
export class BuildWorld {
  readonly schedulerKey = nkeyFromSeed(createNkey('account').seed);
  readonly agentKey = nkeyFromSeed(createNkey('user').seed);
  readonly agentId = newId('agent');
  readonly signingKey = createSigningKey();
  config!: BuildAgentConfig;
  registry!: RegistryServer;
  tap!: Tap;
  private tokenServer!: http.Server;

  private constructor(readonly dir: string) {}

  static async start(tools: readonly ToolName[]): Promise<BuildWorld> {
    const world = new BuildWorld(await mkdtemp(join(tmpdir(), 'build-agent-')));
    const [certificate, ...paths] = await Promise.all([
      createRegistryCertificate(),
      ...tools.map(async (name) => [`${name.toUpperCase()}_BIN`, (await requireTool(name)).path] as const),
    ]);
    world.config = Object.assign(new BuildAgentConfig(), {
      ...{ GIT_BIN: 'git', BUILDAH_BIN: 'buildah', RUNC_BIN: 'runc', TERRAFORM_BIN: 'terraform', HELM_BIN: 'helm' },
      ...{ KUBECTL_BIN: 'kubectl' },
      ...{ BUILDAH_STORAGE_DRIVER: 'overlay', CHECKOUT_SECONDS: 60, BUILD_SECONDS: 120, SOURCE_MIB: 16 },
      ...Object.fromEntries(paths),
    });
    await mkdir(join(world.dir, 'state'));
    const auth = { realm: 'http://127.0.0.1:9/token', service: SERVICE, issuer: ISSUER };
    world.registry = await startRegistry({
      dir: join(world.dir, 'registry'),
      auth: { ...auth, certPem: certificate.certificatePem },
    });
    world.tap = await tap(world.registry.url);
    const signer = createRegistryTokenSigner({ ...certificate, ...auth });
    world.tokenServer = http.createServer((request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const asked = JSON.parse(Buffer.concat(chunks).toString()) as Envelope;
        void world.grant(asked, signer).then(
          (access) => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(access)),
          (error: unknown) => response.writeHead(403).end(JSON.stringify(ImsError.of(error).toWire())),
        );
      });
    });
    await new Promise<void>((resolve) => world.tokenServer.listen(0, '127.0.0.1', resolve));
    return world;
  }

  async stop(): Promise<void> {
    this.tokenServer.closeAllConnections();
    await new Promise((resolve) => this.tokenServer.close(resolve));
    await this.tap.close();
    await this.registry.stop();
    await rm(this.dir, { recursive: true, force: true });
  }

  /** A handler as a freshly started agent has it. */
  handler(config: Partial<BuildAgentConfig> = {}, stateDir = join(this.dir, 'state')): BuildHandler {
    const tokens = new RegistryTokens({
      enrolment: { registry_token_url: `http://127.0.0.1:${(this.tokenServer.address() as AddressInfo).port}` },
      publicKey: this.agentKey.publicKey,
      sign: (bytes: Uint8Array) => this.agentKey.sign(bytes),
      allowPlainHttp: true,
    } as unknown as ConstructorParameters<typeof RegistryTokens>[0]);
    const host = new BuildHost(
      Object.assign(new BuildAgentConfig(), this.config, config),
      stateDir,
      localSigner(this.signingKey.privateKeyPem),
    );
    return new BuildHandler(host, tokens);
  }

  /** A build job of a component of this kind; the name makes the repository. `host`: another one, with empty caches. */
  job(
    spec: ComponentSpec,
    options: { name?: string; host?: string; config?: Partial<BuildAgentConfig> } = {},
  ): ScriptedJob {
    const name = options.name ?? `c-${randomUUID().slice(0, 8)}`;
    const statement: JobStatement = {
      job_id: newId('job'),
      attempt: 1,
      kind: 'build',
      vendor_id: VENDOR,
      agent_id: this.agentId,
      agent_key: this.agentKey.publicKey,
      build_id: newId('build'),
      app_name: 'shop',
      component: { id: newId('component'), name, kind: spec.kind },
      spec,
      repository: `acme/shop/${name}`,
      issued_at: new Date().toISOString(),
      expires_at: new Date(Date.now() + 3_600_000).toISOString(),
    };
    const envelope = signEnvelope(PAYLOAD_TYPES.job, statement, this.schedulerKey);
    const stateDir = join(this.dir, options.host ?? 'state');
    const handler = this.handler(options.config, stateDir);
    return new ScriptedJob(handler, statement, envelope, join(stateDir, statement.job_id));
  }

  private async grant(asked: Envelope, signer: ReturnType<typeof createRegistryTokenSigner>): Promise<RegistryAccess> {
    const request = openEnvelope(asked, PAYLOAD_TYPES.agentRequest, [this.agentKey.publicKey], verifyNkey) as {
      action: string;
      statement: Envelope;
    };
    if (request.action !== 'issue_push_token') throw new ImsError('forbidden', 'a build only pushes');
    const { repository } = openEnvelope(
      request.statement,
      PAYLOAD_TYPES.job,
      [this.schedulerKey.publicKey],
      verifyNkey,
    ) as JobStatement;
    const access = [{ type: 'repository', name: repository, actions: ['pull', 'push'] }] as const;
    const registry_token = await signer.sign({ subject: this.agentId, access, lifeSeconds: 300 });
    const expires_at = new Date(Date.now() + 300_000).toISOString();
    return { registry_url: this.tap.url, repository, registry_token, expires_at };
  }
}

/** One attempt of a job without the loop around it: the steps run in order, by real processes, until one throws. */
export class ScriptedJob {
  readonly outputs: Record<string, JsonObject> = {};
  /** As the handler and the programs wrote them: before redaction. */
  readonly lines: string[] = [];
  readonly redactor = new Redactor();
  readonly abort = new AbortController();

  constructor(
    /** Another one: the agent was started anew. */
    public handler: JobHandler,
    readonly statement: JobStatement,
    private readonly envelope: Envelope,
    readonly workspace: string,
  ) {}

  /** Runs the steps that are not done. `crashed`: the first of them was begun before. */
  async run(options: { crashed?: boolean } = {}): Promise<JsonObject> {
    await mkdir(this.workspace, { recursive: true });
    const processes = new Processes({ home: this.workspace });
    let crashed = options.crashed ?? false;
    for (const step of await this.handler.steps(this.statement)) {
      if (this.outputs[step.name] !== undefined) continue;
      this.outputs[step.name] = (await step.run(this.context(processes, crashed))) ?? {};
      crashed = false;
    }
    return this.handler.result(this.outputs).result;
  }

  async artifact(): Promise<Artifact> {
    return (await this.run())['artifact'] as unknown as Artifact;
  }

  /** The error of a job that must fail. */
  async failure(): Promise<ImsError> {
    try {
      await this.run();
    } catch (error) {
      if (error instanceof ImsError) return error;
      throw error;
    }
    throw new Error('the job succeeded');
  }

  private context(processes: Processes, crashed: boolean): StepContext {
    return {
      statement: this.statement,
      envelope: this.envelope,
      attempt: 1,
      workspace: this.workspace,
      signal: this.abort.signal,
      crashed,
      secrets: { add: (value) => this.redactor.add(value), hide: (text) => this.redactor.redact(text) },
      log: (_, text) => void this.lines.push(text),
      outputOf: (name) => this.outputs[name],
      propose: () => Promise.reject(new Error('a build has no plan')),
      run: ({ onLine, ...command }) =>
        processes.run({
          cwd: this.workspace,
          ...command,
          signal: this.abort.signal,
          onLine: (stream, line) => {
            const shown = onLine ? onLine(line, stream) : line;
            if (shown !== undefined) this.lines.push(shown);
          },
        }),
    };
  }
}
