import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { requireTool, startRegistry, type RegistryServer, type ToolName } from '#stack';
import { clientOf, inOwnFolder, temporaryDirectory } from './harness.js';
import {
  ARTIFACT_FORM,
  attestArtifact,
  copyArtifact,
  createSigningKey,
  localSigner,
  pushArtifact,
  tarGzDirectory,
  untarTo,
  unzipTo,
  verifyArtifact,
  zipDirectory,
  type RegistryClient,
} from '../src/index.js';

/**
 * What other people's tools make of our artifacts, and we of theirs. Asked for by TEST_INTEROP=1, as it fetches cosign
 * and oras (22 MB) where they are not installed.
 */
const suite = process.env['TEST_INTEROP'] === '1' ? describe : describe.skip;
const run = promisify(execFile);

suite('with the tools of others', () => {
  const key = createSigningKey();
  const builderId = 'agt_builder';
  const provenance = { buildType: 'https://ims.example/build', externalParameters: { ref: 'main' }, builderId };
  let dir: string;
  let registry: RegistryServer;
  let client: RegistryClient;
  const tools = new Map<ToolName, string>();

  beforeAll(async () => {
    dir = await temporaryDirectory();
    registry = await inOwnFolder((dir) => startRegistry({ dir }));
    client = clientOf(registry.url);
    for (const name of ['cosign', 'oras', 'helm'] as const) tools.set(name, (await requireTool(name)).path);
    await mkdir(path.join(dir, 'module'));
    await writeFile(path.join(dir, 'module', 'main.tf'), 'output "a" { value = 1 }\n');
  }, 180_000);
  afterAll(async () => {
    client.close();
    await registry.stop();
    await rm(dir, { recursive: true, force: true });
  });

  /** Runs a tool with a home of its own; resolves with what it printed. */
  async function tool(name: ToolName, ...args: string[]): Promise<string> {
    const env = { PATH: process.env['PATH'], HOME: dir };
    const { stdout, stderr } = await run(tools.get(name)!, args, { env, cwd: dir, timeout: 60_000 });
    return stdout + stderr;
  }

  async function signedModule(
    repository: string,
  ): Promise<{ client: RegistryClient; repository: string; digest: string }> {
    const { artifactType, layerMediaType } = ARTIFACT_FORM.terraformModule;
    const bytes = await zipDirectory(path.join(dir, 'module'));
    const layers = [
      { mediaType: layerMediaType, bytes, annotations: { 'org.opencontainers.image.title': 'module.zip' } },
    ];
    const { digest } = await pushArtifact({ client, repository, artifactType, layers, tag: 'v1' });
    await attestArtifact({ client, repository, digest, signer: localSigner(key.privateKeyPem), provenance });
    return { client, repository, digest };
  }

  it('cosign verifies our provenance, and refuses it with another key', async () => {
    const { repository, digest } = await signedModule('v/cosign');
    await writeFile(path.join(dir, 'vendor.pub'), key.publicKeyPem);
    await writeFile(path.join(dir, 'other.pub'), createSigningKey().publicKeyPem);
    const verify = (pub: string) =>
      tool(
        'cosign',
        ...[
          'verify-attestation',
          '--key',
          pub,
          '--type',
          'slsaprovenance1',
          '--insecure-ignore-tlog',
          '--allow-http-registry',
        ],
        `${registry.host}/${repository}@${digest}`,
      );
    const lines = (await verify('vendor.pub')).split('\n');
    const envelope = JSON.parse(lines.find((line) => line.startsWith('{'))!) as { payload: string };
    const statement = JSON.parse(Buffer.from(envelope.payload, 'base64').toString()) as { subject: unknown };
    expect(statement.subject).toEqual([{ name: repository, digest: { sha256: digest.slice(7) } }]);
    await expect(verify('other.pub')).rejects.toThrow();
  });

  it('oras finds the signature, and a copy that it makes still verifies', async () => {
    const { repository, digest } = await signedModule('v/oras');
    const found = await tool(
      'oras',
      'discover',
      '--plain-http',
      '--format',
      'json',
      `${registry.host}/${repository}@${digest}`,
    );
    expect(found).toContain('application/vnd.dev.sigstore.bundle.v0.3+json');
    const [from, to] = [`${registry.host}/${repository}@${digest}`, `${registry.host}/v/oras-copy:v1`];
    await tool('oras', 'cp', '-r', '--from-plain-http', '--to-plain-http', from, to);
    await verifyArtifact({
      client,
      repository: 'v/oras-copy',
      digest,
      publicKeyPem: key.publicKeyPem,
      expect: { builderId },
    });
  });

  it('oras pulls a module of ours, and we copy and unpack what it pushed', async () => {
    const { repository, digest } = await signedModule('v/pull');
    await mkdir(path.join(dir, 'pulled'));
    await tool('oras', 'pull', '--plain-http', '-o', 'pulled', `${registry.host}/${repository}@${digest}`);
    await unzipTo(path.join(dir, 'pulled/module.zip'), path.join(dir, 'unzipped'));
    expect(await readdir(path.join(dir, 'unzipped'))).toEqual(['main.tf']);

    await tool('oras', 'push', '--plain-http', `${registry.host}/v/theirs:v1`, 'pulled/module.zip:archive/zip');
    const theirs = (await client.headManifest('v/theirs', 'v1'))!;
    const from = { client, repository: 'v/theirs', digest: theirs.digest };
    expect(await copyArtifact({ from, to: { client, repository: 'v/ours' } })).toMatchObject({ digest: theirs.digest });
  });

  it('helm pulls a chart of ours', async () => {
    const chart = path.join(dir, 'chart');
    await mkdir(path.join(chart, 'templates'), { recursive: true });
    await writeFile(path.join(chart, 'Chart.yaml'), 'apiVersion: v2\nname: api\nversion: 0.1.0\n');
    await writeFile(path.join(chart, 'templates/cm.yaml'), 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n');
    const { configMediaType, layerMediaType } = ARTIFACT_FORM.helmChart;
    await pushArtifact({
      client,
      repository: 'v/charts/api',
      config: { mediaType: configMediaType, bytes: Buffer.from('{"name":"api","version":"0.1.0","apiVersion":"v2"}') },
      layers: [{ mediaType: layerMediaType, bytes: await tarGzDirectory(chart, { prefix: 'api' }) }],
      tag: '0.1.0',
    });
    await tool('helm', 'pull', `oci://${registry.host}/v/charts/api`, '--version', '0.1.0', '--plain-http');
    expect(await tool('helm', 'template', 'x', 'api-0.1.0.tgz')).toContain('kind: ConfigMap');
    await untarTo(path.join(dir, 'api-0.1.0.tgz'), path.join(dir, 'untarred'));
    expect(await readFile(path.join(dir, 'untarred/api/Chart.yaml'), 'utf8')).toContain('name: api');
  });
});
