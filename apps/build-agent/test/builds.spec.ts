import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Artifact, type ComponentSpec } from '#contracts';
import { builderIdOf, buildTypeOf } from '#domain';
import {
  digestOf,
  MEDIA_TYPE,
  openParcel,
  pullLayer,
  pushArtifact,
  RegistryClient,
  untarTo,
  verifyArtifact,
  type Descriptor,
  type ImageManifest,
} from '#oci';
import { startRegistry, type RegistryServer } from '#stack';
import { type ScriptedJob, BuildWorld, folder, VENDOR } from './harness.js';

const NO_DIGEST = `sha256:${'0'.repeat(64)}`;
const POD = (image: string): string => `apiVersion: v1
kind: Pod
metadata: { name: web }
spec:
  containers:
    - name: web
      image: ${image}
`;
const OUTPUT = '"{{ components.web.outputs.image }}"';
const CHART = {
  'Chart.yaml': 'apiVersion: v2\nname: web\nversion: 1.2.3\n',
  'values.yaml': 'image: ""\nreplicas: 2\n',
  'templates/pod.yaml': POD('{{ .Values.image | quote }}'),
};
const IMAGE = {
  Dockerfile: 'FROM scratch\nCOPY app /app\nENV MODE=live\n',
  app: 'the program\n',
  'lib/more.txt': 'more\n',
};

let world: BuildWorld;
let outside: RegistryServer;

beforeAll(async () => {
  world = await BuildWorld.start(['git', 'buildah', 'runc', 'terraform', 'helm', 'kubectl']);
  outside = await startRegistry({ dir: join(world.dir, 'outside') });
});
afterAll(async () => {
  await outside.stop();
  await world.stop();
});
beforeEach(() => {
  world.tap.cut = () => false;
  world.tap.requests.length = 0;
});

/** The job of a component whose source is these files. */
async function sourceJob(
  kind: ComponentSpec['kind'],
  files: Readonly<Record<string, string>>,
  more: Partial<ComponentSpec> = {},
  options: Parameters<BuildWorld['job']>[1] = {},
): Promise<ScriptedJob> {
  return world.job({ kind, source: { url: await folder(world.dir, files) }, ...more }, options);
}

/** An image at the outside registry. */
async function outsideImage(): Promise<Descriptor> {
  return pushArtifact({
    client: new RegistryClient({ baseUrl: outside.url }),
    repository: 'library/base',
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', bytes: Buffer.from('{"os":"linux"}') },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', bytes: randomBytes(3_000_000) }],
    tag: 'v1',
  });
}

/** Reads the vendor's registry as an auditor would, with the job's own right. */
function reader(job: ScriptedJob): Promise<RegistryClient> {
  const target = job.handler as unknown as {
    target(step: object): Promise<{ client: RegistryClient }>;
  };
  const step = { envelope: (job as unknown as { envelope: object }).envelope, secrets: { add: () => undefined } };
  return target.target(step).then(({ client }) => client);
}

describe('each kind', () => {
  const kinds: [ComponentSpec['kind'], Readonly<Record<string, string>>, Partial<ComponentSpec>, string][] = [
    ['container-image', IMAGE, {}, MEDIA_TYPE.manifest],
    ['helm-chart', CHART, { values: { image: '{{ components.web.outputs.image }}' } }, MEDIA_TYPE.manifest],
    ['terraform-module', { 'main.tf': 'output "url" {\n  value = "x"\n}\n', 'sub/x.tf': '' }, {}, MEDIA_TYPE.manifest],
    ['kubernetes-manifests', { 'a/pod.yaml': POD(OUTPUT), 'README.md': '# web\n' }, {}, MEDIA_TYPE.manifest],
  ];
  it.each(kinds)('gives the same digest for the same %s, and pushes it once', async (kind, files, more, mediaType) => {
    const name = `same-${kind}`;
    const first = await sourceJob(kind, files, more, { name });
    const artifact = await first.artifact();
    expect(artifact).toMatchObject({ repository: `acme/shop/${name}`, media_type: mediaType });
    const before = world.tap.stored();
    expect(before.blobs).toBeGreaterThan(1);

    // Other host, other folder, other times, files made in another order.
    const reversed = Object.fromEntries(Object.entries(files).reverse());
    const second = await sourceJob(kind, reversed, more, { name, host: 'other-host' });
    expect(await second.artifact()).toEqual(artifact);
    // One signature more: the folder has another path, which the provenance tells.
    expect(world.tap.stored().blobs - before.blobs).toBe(1);
    expect(first.handler.result(first.outputs).result['source_commit']).toBe(
      second.handler.result(second.outputs).result['source_commit'],
    );

    const changed = await sourceJob(kind, { ...files, ...change(kind, files) }, more, { name });
    expect((await changed.artifact()).digest).not.toBe(artifact.digest);
  });

  const change = (kind: string, files: Readonly<Record<string, string>>): Record<string, string> => {
    const file = { 'container-image': 'app', 'helm-chart': 'values.yaml', 'terraform-module': 'main.tf' }[kind];
    return { [file ?? 'a/pod.yaml']: `${files[file ?? 'a/pod.yaml'] ?? ''}# changed\n` };
  };

  it('is signed by the vendor with what it was made of, once', async () => {
    const job = await sourceJob('kubernetes-manifests', { 'pod.yaml': POD(OUTPUT) });
    const { artifact, source_commit, references } = (await job.run()) as unknown as {
      artifact: { digest: string; repository: string };
      source_commit: string;
      references: string[];
    };
    expect(references).toEqual(['web']);
    const verified = await verifyArtifact({
      client: await reader(job),
      ...artifact,
      publicKeyPem: world.signingKey.publicKeyPem,
      expect: { builderId: builderIdOf(VENDOR), buildType: buildTypeOf('kubernetes-manifests') },
    });
    expect(verified.predicate.buildDefinition.externalParameters).toEqual({
      app: 'shop',
      component: job.statement.component.name,
      kind: 'kubernetes-manifests',
      source_commit,
      source: { url: job.statement.spec.source?.url, ref: 'HEAD', directory: '.' },
    });
    const stored = world.tap.stored();
    delete job.outputs['push'];
    delete job.outputs['sign'];
    await job.run({ crashed: true });
    expect(world.tap.stored()).toEqual({ ...stored, manifests: stored.manifests + 1 });
  });
});

describe('container-image', () => {
  it('tells the step of a Dockerfile that fails', async () => {
    const job = await sourceJob('container-image', { Dockerfile: 'FROM scratch\nCOPY Dockerfile /x\nRUN ["/nope"]\n' });
    const error = await job.failure();
    expect(error.code).toBe('image_build_failed');
    expect(error.detail).toContain('STEP 3/3: RUN ["/nope"]');
    expect(error.detail).toContain('no such file or directory');
  });

  it('pulls no base image and fetches no URL', async () => {
    const base = await sourceJob('container-image', { Dockerfile: 'FROM registry.example.com/base:1\n' });
    expect(await base.failure()).toMatchObject({
      code: 'image_build_failed',
      detail: expect.stringContaining('registry.example.com/base:1: image not known') as string,
    });
    const url = `${outside.url}/v2/`;
    const add = await sourceJob('container-image', { Dockerfile: `FROM scratch\nADD ${url} /x\n` });
    expect((await add.failure()).detail).toContain('network is unreachable');
  });

  it('keeps the layers of the last build of a component, and nothing of one that failed', async () => {
    const handler = world.handler();
    const Dockerfile = 'FROM scratch\nCOPY a /a\nCOPY b /b\n';
    const build = async (files: Readonly<Record<string, string>>, of?: ScriptedJob): Promise<ScriptedJob> => {
      const job = await sourceJob('container-image', files);
      if (of) job.statement.component.id = of.statement.component.id;
      job.handler = handler;
      await job.run().catch(() => undefined);
      return job;
    };
    const first = await build({ Dockerfile, a: '1', b: '1' });
    await build({ Dockerfile: 'FROM scratch\nRUN ["/nope"]\n' });
    const [second, third] = await Promise.all([
      build({ Dockerfile, a: '1', b: '2' }, first),
      build({ Dockerfile, a: '3', b: '3' }),
    ]);
    expect(second.lines.filter((line) => line.includes('Using cache'))).toHaveLength(1);
    expect(Object.keys(third.outputs)).toContain('sign');
    const last = await build({ Dockerfile: 'FROM scratch\nCOPY none /x\n' });
    // `rm --all` and `rmi --prune` print the ids of what they drop: the failed container, the first build's second layer.
    const dropped = (job: ScriptedJob): number => job.lines.filter((line) => /^[0-9a-f]{64}$/.test(line)).length;
    expect(dropped(last)).toBe(1);
    expect(dropped(second) + dropped(third)).toBe(1);
  });

  it('takes the Dockerfile that the component names, but from the source alone', async () => {
    const files = { 'deploy/web.Dockerfile': 'FROM scratch\nCOPY app /app\n', app: 'x' };
    const named = await sourceJob('container-image', files, { dockerfile: 'deploy/web.Dockerfile' });
    expect((await named.artifact()).digest).toMatch(/^sha256:/);
    for (const dockerfile of ['../../../etc/passwd', 'link', 'none']) {
      const job = await sourceJob('container-image', files, { dockerfile });
      await symlink('/etc/passwd', join(job.statement.spec.source?.url ?? '', 'link'));
      expect(await job.failure()).toMatchObject({
        code: 'source_invalid',
        detail: `there is no ${dockerfile} in the source`,
      });
    }
  });
});

describe('terraform-module', () => {
  it.each([
    ['does not parse', 'output "a" {\n  value = "x"\n}\nresource {\n', /main\.tf:4: /],
    ['names what is not there', 'output "a" {\n  value = var.gone\n}\n', /main\.tf:2: Reference to undeclared input/],
  ])('that %s is refused with file and line', async (_, text, detail) => {
    const error = await (await sourceJob('terraform-module', { 'main.tf': text })).failure();
    expect(error.code).toBe('source_invalid');
    expect(error.detail).toMatch(detail);
  });

  it('is packed without state and without what terraform left behind', async () => {
    const clean = { 'main.tf': 'output "a" {\n  value = "x"\n}\n' };
    const left = { ...clean, 'terraform.tfstate': '{"secret":1}', '.terraform/providers/x': 'x' };
    const [a, b] = [await sourceJob('terraform-module', clean), await sourceJob('terraform-module', left)];
    expect((await a.artifact()).digest).toBe((await b.artifact()).digest);
  });
});

describe('kubernetes-manifests', () => {
  it.each([
    ['YAML that does not parse', 'a: [\nb: c\n', 'source_invalid', /^x\.yaml:\d: /],
    ['no name', '---\napiVersion: v1\nkind: Pod\n', 'source_invalid', /^x\.yaml:2: .*metadata\.name/],
    ['a template that does not parse', POD('"{{ env.HOME }}"'), 'source_invalid', /^x\.yaml:1: .*env\.HOME/],
    [
      'an image that is not to be had',
      POD('127.0.0.1:1/nginx:1'),
      'external_image_unavailable',
      /^x\.yaml:1 Pod\/web .*0\/image: 127\.0\.0\.1:1\/nginx:1: /,
    ],
    [
      'an image that only an install knows',
      POD('"127.0.0.1:1/{{ install.inputs.x }}:1"'),
      'external_reference',
      /^x\.yaml:1 Pod\/web .*0\/image: 127/,
    ],
    ['a mixed image', POD('"quay.io/{{ components.a.outputs.image }}"'), 'external_reference', /quay\.io/],
    ['a template without quotes', POD('{{ components.a.outputs.image }}'), 'external_reference', /needs quotes/],
    [
      'an image in a custom resource',
      'apiVersion: a/v1\nkind: Db\nmetadata: { name: x }\nspec: { image: "127.0.0.1:1/pg:17" }\n',
      'external_image_unavailable',
      /Db\/x \/spec\/image: 127\.0\.0\.1:1\/pg:17/,
    ],
  ])('with %s are refused with the place', async (_, text, code, detail) => {
    const error = await (await sourceJob('kubernetes-manifests', { 'x.yaml': text })).failure();
    expect(error.code).toBe(code);
    expect(error.detail).toMatch(detail);
  });

  it('are refused when a link leads out of the source, and when there are none', async () => {
    const job = await sourceJob('kubernetes-manifests', { 'x.yaml': POD(OUTPUT) });
    await symlink('/etc/passwd', join(job.statement.spec.source?.url ?? '', 'y.yaml'));
    expect((await job.failure()).detail).toContain('the link leaves the directory');
    const none = await sourceJob('kubernetes-manifests', { 'x.txt': '' });
    expect((await none.failure()).detail).toContain('no manifest');
  });

  it('may have a field that is called image and is none', async () => {
    const text = 'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: x }\ndata: { image: logo.png }\n';
    const job = await sourceJob('kubernetes-manifests', { 'x.yaml': text });
    expect((await job.artifact()).size_bytes).toBeGreaterThan(0);
  });
});

describe('a kustomization', () => {
  const BASE = {
    'base/kustomization.yaml':
      'resources: [pod.yaml]\nconfigMapGenerator: [{ name: settings, literals: [color=red] }]\ncommonLabels: { env: live }\n',
    'base/pod.yaml': POD(OUTPUT),
  };
  const overlay = (text: string): Promise<ScriptedJob> => overlayOf({ ...BASE, 'live/kustomization.yaml': text });
  const overlayOf = async (files: Readonly<Record<string, string>>): Promise<ScriptedJob> => {
    const source = { url: await folder(world.dir, files), directory: 'live' };
    return world.job({ kind: 'kubernetes-manifests', source });
  };

  it('becomes the objects that kustomize makes, with images found and copied, and the same again is the same', async () => {
    const { digest } = await outsideImage();
    const image = `${new URL(outside.url).host}/library/base`;
    const files = {
      ...BASE,
      'live/kustomization.yaml': `resources: [../base, ../base/sidecar]\nnamePrefix: live-\nimages: [{ name: sidecar, newName: ${image}, newTag: v1 }]\n`,
      'base/sidecar/kustomization.yaml': 'resources: [side.yaml]\n',
      'base/sidecar/side.yaml': POD('sidecar').replaceAll('web', 'side'),
    };
    const job = await overlayOf(files);
    const result = await job.run();
    expect(result).toMatchObject({ references: ['web'], images: [{ name: `${image}:v1`, digest }] });
    const { repository, digest: made } = result['artifact'] as unknown as Artifact;
    const client = await reader(job);
    const parcel = await openParcel({ client, repository, digest: made });
    const { content } = await client.getManifest(repository, parcel.digest);
    const [layer] = (content as ImageManifest).layers;
    const file = join(world.dir, 'kustomized.tgz');
    await pullLayer({ client, repository, digest: parcel.digest, mediaType: layer?.mediaType ?? '', file });
    await untarTo(file, join(world.dir, 'kustomized'));
    const text = await readFile(join(world.dir, 'kustomized/kustomized.yaml'), 'utf8');
    expect(text).toMatch(/name: live-settings-\w+/);
    expect(text).toContain("image: '{{ components.web.outputs.image }}'");
    const again = world.job(job.statement.spec, { name: job.statement.component.name, host: 'other-host' });
    expect((await again.artifact()).digest).toBe(made);
  });

  it.each([
    [
      'a URL',
      'resources: [../base, "https://127.0.0.1:1/x.yaml"]',
      'external_reference',
      /live\/kust\S+: resources: ht/,
    ],
    ['a repository', 'resources: ["github.com/acme/base?ref=v1"]', 'external_reference', /github\.com\/acme/],
    ['a file that is elsewhere', 'resources: [../../../../../etc/passwd]', 'source_invalid', /is not in the source/],
    [
      'a file of the generator',
      'configMapGenerator: [{ name: x, files: [a=/etc/passwd] }]',
      'source_invalid',
      /\.files/,
    ],
    ['what is not there', 'resources: [gone.yaml]', 'source_invalid', /resources: gone\.yaml is not in the source/],
    ['a chart', 'helmCharts: [{ name: x, repo: "https://127.0.0.1:1" }]', 'source_invalid', /helmCharts: a chart is/],
    [
      'a patch beside its root',
      'resources: [../base]\npatches: [{ path: ../base/pod.yaml }]',
      'source_invalid',
      /security/,
    ],
    ['an error of YAML', 'resources: [', 'source_invalid', /live\/kustomization\.yaml: /],
    ['a field that is none', 'resources: [../base]\nresourcess: []', 'source_invalid', /resourcess/],
  ])('that names %s is refused with the place', async (_, text, code, detail) => {
    const error = await (await overlay(`${text}\n`)).failure();
    expect(error.code).toBe(code);
    expect(error.detail).toMatch(detail);
    expect(error.detail).not.toContain(world.dir);
  });
});

describe('helm-chart', () => {
  const values = { image: '{{ components.web.outputs.image }}', region: '{{ install.inputs.region }}' };

  it('that does not lint is refused with template and line', async () => {
    const files = { ...CHART, 'templates/bad.yaml': 'a: {{ .Values.x | nope }}\n' };
    const error = await (await sourceJob('helm-chart', files, { values })).failure();
    expect(error.code).toBe('source_invalid');
    expect(error.detail).toContain('web/templates/bad.yaml:1');
  });

  it('that names an image of others is refused when that is not to be had', async () => {
    const error = await (await sourceJob('helm-chart', CHART, { values: { image: '127.0.0.1:1/nginx:1' } })).failure();
    expect(error).toMatchObject({ code: 'external_image_unavailable' });
    expect(error.detail).toContain('Pod/web /spec/containers/0/image: 127.0.0.1:1/nginx:1');
    const job = await sourceJob('helm-chart', { 'Chart.yaml': 'a: [' });
    expect((await job.failure()).code).toBe('source_invalid');
  });

  it('is checked as it is shipped: without what .helmignore leaves out', async () => {
    const files = { ...CHART, '.helmignore': 'notes/\n', 'notes/secret.txt': 'x' };
    const job = await sourceJob('helm-chart', files, { values });
    const { digest, repository } = await job.artifact();
    const client = await reader(job);
    const { content } = await client.getManifest(repository, digest);
    const [layer] = (content as ImageManifest).layers;
    const file = join(world.dir, 'chart.tgz');
    await pullLayer({ client, repository, digest, mediaType: layer?.mediaType ?? '', file });
    await untarTo(file, join(world.dir, 'chart'));
    expect(await readFile(join(world.dir, 'chart/web/values.yaml'), 'utf8')).toBe(CHART['values.yaml']);
    await expect(readFile(join(world.dir, 'chart/web/notes/secret.txt'))).rejects.toThrow('ENOENT');
    const bytes = await client.getBlobBytes(repository, (content as ImageManifest).config, 10_000);
    expect(JSON.parse(bytes.toString())).toMatchObject({ name: 'web', version: '1.2.3', apiVersion: 'v2' });
  });
});

describe('a chart that depends on others', () => {
  const dependency = (name: string, repository: string): string =>
    `${CHART['Chart.yaml']}dependencies: [{ name: ${name}, version: 0.1.0, repository: "${repository}" }]\n`;
  const lock = (name: string, repository: string, digest: string): string =>
    `dependencies:\n- name: ${name}\n  repository: ${repository}\n  version: 0.1.0\ndigest: ${digest}\ngenerated: "2026-01-01T00:00:00Z"\n`;
  const sub = (image: string): Readonly<Record<string, string>> => ({
    'Chart.yaml': 'apiVersion: v2\nname: cache\nversion: 0.1.0\n',
    'templates/pod.yaml': POD(image).replaceAll('web', 'cache'),
  });
  const inside = (at: string, files: Readonly<Record<string, string>>): Record<string, string> =>
    Object.fromEntries(Object.entries(files).map(([name, text]) => [`${at}/${name}`, text]));
  const image = '{{ components.web.outputs.image }}';
  const values = { image, global: { image } };
  const built = async (files: Readonly<Record<string, string>>, config = {}): Promise<ScriptedJob> => {
    const source = { url: await folder(world.dir, files), directory: 'web' };
    return world.job({ kind: 'helm-chart', source, values }, { config });
  };
  /** Helm on this host, as the vendor runs it before a commit. */
  const helm = async (...args: string[]): Promise<void> => {
    const home = join(world.dir, 'helm-home');
    const env = { ...process.env, HELM_CACHE_HOME: home, HELM_CONFIG_HOME: home, HELM_DATA_HOME: home };
    await promisify(execFile)(world.config.HELM_BIN, args, { env });
  };

  it('in its source has them in its archive, their images with them, and the same again is the same', async () => {
    const { digest } = await outsideImage();
    const image = `${new URL(outside.url).host}/library/base:v1`;
    const files = {
      ...inside('web', { ...CHART, 'Chart.yaml': dependency('cache', 'file://../cache') }),
      ...inside('cache', sub(image)),
    };
    const first = await (await built(files)).run();
    expect(first['images']).toEqual([{ name: image, digest }]);
    const again = await (await built(files)).run();
    expect((again['artifact'] as { digest: string }).digest).toBe((first['artifact'] as { digest: string }).digest);
  });

  it('in a registry takes the version of its lock, and none without one, or from where it may not', async () => {
    const registry = `oci://${new URL(outside.url).host}/charts`;
    const dir = await folder(world.dir, sub('{{ .Values.global.image | quote }}'));
    await helm('package', dir, '--destination', world.dir);
    await helm('push', join(world.dir, 'cache-0.1.0.tgz'), registry, '--plain-http');
    const chart = { ...CHART, 'Chart.yaml': dependency('cache', registry), 'values.yaml': 'image: ""\nglobal: {}\n' };
    const source = await folder(world.dir, chart);
    await helm('dependency', 'update', source, '--plain-http');
    const locked = await readFile(join(source, 'Chart.lock'), 'utf8');
    const withLock = inside('web', { ...chart, 'Chart.lock': locked });
    const job = await built(withLock);
    const { digest, repository } = await job.artifact();
    const client = await reader(job);
    const [layer] = ((await client.getManifest(repository, digest)).content as ImageManifest).layers;
    const file = join(world.dir, 'with-cache.tgz');
    await pullLayer({ client, repository, digest, mediaType: layer?.mediaType ?? '', file });
    await untarTo(file, join(world.dir, 'with-cache'));
    expect(await readFile(join(world.dir, 'with-cache/web/charts/cache/Chart.yaml'), 'utf8')).toContain('cache');
    expect((await (await built(withLock)).artifact()).digest).toBe(digest);

    const refusals: [Readonly<Record<string, string>>, object, RegExp][] = [
      [inside('web', chart), {}, /web\/Chart\.yaml: dependency cache: .*no Chart\.lock/],
      [withLock, { CHART_REPOSITORIES: 'oci://charts.example.com' }, /takes none from oci:.*CHART_REPOSITORIES/],
      [inside('web', { ...chart, 'Chart.yaml': dependency('cache', '@alias') }), {}, /@alias is no URL/],
    ];
    for (const [files, config, detail] of refusals) {
      const error = await (await built(files, config)).failure();
      expect(error.code).toBe('external_reference');
      expect(error.detail).toMatch(detail);
    }
    const stale = inside('web', { ...chart, 'Chart.lock': lock('cache', registry, NO_DIGEST) });
    expect(await (await built(stale)).failure()).toMatchObject({
      code: 'source_invalid',
      detail: expect.stringContaining('out of sync') as string,
    });
    const away = inside('web', { ...CHART, 'Chart.yaml': dependency('cache', 'file://../../../../../etc') });
    expect((await (await built(away)).failure()).detail).toContain('is not in the source');
  });

  it('in a repository with an index gets them from there', async () => {
    const dir = join(world.dir, 'repository');
    await mkdir(dir, { recursive: true });
    await helm('package', await folder(world.dir, sub('{{ .Values.global.image | quote }}')), '--destination', dir);
    const server = createServer((request, response) => {
      readFile(join(dir, (request.url ?? '').split('/').at(-1) ?? '')).then(
        (bytes) => response.end(bytes),
        () => response.writeHead(404).end(),
      );
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await helm('repo', 'index', dir, '--url', url);
    const chart = { ...CHART, 'Chart.yaml': dependency('cache', url), 'values.yaml': 'image: ""\nglobal: {}\n' };
    const source = await folder(world.dir, chart);
    await helm('repo', 'add', 'test', url);
    await helm('dependency', 'update', source);
    const files = inside('web', { ...chart, 'Chart.lock': await readFile(join(source, 'Chart.lock'), 'utf8') });
    expect((await (await built(files)).artifact()).digest).toMatch(/^sha256:/);
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
});

describe('images of others', () => {
  it('come with the chart that names them, each profile of it too, by digest, and the same again is the same', async () => {
    const { digest } = await outsideImage();
    const host = new URL(outside.url).host;
    const tagged = `${host}/library/base:v1`;
    const files = {
      ...CHART,
      'values-large.yaml': `sidecar: ${host}/library/base@${digest}\n`,
      'templates/sidecar.yaml': `{{ if .Values.sidecar }}\n${POD('{{ .Values.sidecar | quote }}').replace('web', 'side')}{{ end }}\n`,
    };
    const job = await sourceJob('helm-chart', files, { values: { image: tagged } }, { name: 'with-images' });
    const result = await job.run();
    expect(result['images']).toEqual([
      { name: tagged, digest },
      { name: `${host}/library/base@${digest}`, digest },
    ]);
    const artifact = result['artifact'] as unknown as Artifact;
    const client = await reader(job);
    const { repository } = artifact;
    const parcel = await openParcel({ client, repository, digest: artifact.digest });
    expect(parcel.digest).not.toBe(artifact.digest);
    expect([...parcel.images]).toEqual(expect.arrayContaining([[tagged, digest]]));
    // What is signed is the whole; the image is here, and a second build stores nothing new.
    await verifyArtifact({
      ...{ client, repository, digest: artifact.digest, publicKeyPem: world.signingKey.publicKeyPem },
      expect: { builderId: builderIdOf(VENDOR), buildType: buildTypeOf('helm-chart') },
    });
    expect((await client.headManifest(repository, digest))?.digest).toBe(digest);
    world.tap.requests.length = 0;
    const again = await sourceJob('helm-chart', files, { values: { image: tagged } }, { name: 'with-images' });
    expect((await again.artifact()).digest).toBe(artifact.digest);
    // Its provenance alone: the source is in another folder.
    expect(world.tap.stored().blobs).toBe(1);
  });

  it('come with manifests, also from a registry that wants a login', async () => {
    const { digest } = await outsideImage();
    const login = Buffer.from('robot:secret-of-the-registry').toString('base64');
    const guarded = createServer((request, response) => {
      if (request.headers.authorization !== `Basic ${login}`) {
        response.writeHead(401, { 'www-authenticate': 'Basic realm="guarded"' }).end();
        return;
      }
      const { method = 'GET', url = '' } = request;
      void fetch(`${outside.url}${url}`, { method, headers: { accept: request.headers.accept ?? '*/*' } }).then(
        async (answer) => {
          response.writeHead(answer.status, Object.fromEntries(answer.headers));
          response.end(method === 'HEAD' ? undefined : Buffer.from(await answer.arrayBuffer()));
        },
      );
    });
    await new Promise<void>((resolve) => guarded.listen(0, '127.0.0.1', resolve));
    const host = `127.0.0.1:${(guarded.address() as AddressInfo).port}`;
    const files = { 'x.yaml': POD(`${host}/library/base:v1`) };
    expect((await (await sourceJob('kubernetes-manifests', files)).failure()).code).toBe('external_image_unavailable');
    const file = join(world.dir, 'auth.json');
    await writeFile(file, JSON.stringify({ auths: { [host]: { auth: login } } }));
    const job = await sourceJob('kubernetes-manifests', files, {}, { config: { REGISTRY_AUTH_FILE: file } });
    expect((await job.run())['images']).toEqual([{ name: `${host}/library/base:v1`, digest }]);
    expect(JSON.stringify([job.lines, job.outputs])).not.toContain('secret-of-the-registry');
    guarded.closeAllConnections();
    await new Promise((resolve) => guarded.close(resolve));
  });
});

describe('external-image', () => {
  it('is copied by digest, from a digest or a tag, and once', async () => {
    const { digest } = await outsideImage();
    const name = 'base';
    const byTag = world.job({ kind: 'external-image', image: `${outside.host}/library/base:v1` }, { name });
    const outcome = await byTag.run();
    expect(outcome).toMatchObject({ source_commit: digest, artifact: { digest, repository: 'acme/shop/base' } });
    const { blobs } = world.tap.stored();
    const again = world.job({ kind: 'external-image', image: `${outside.host}/library/base@${digest}` }, { name });
    expect((await again.artifact()).digest).toBe(digest);
    expect(again.lines).toContain('0 blobs pushed');
    // Its own signature, as the image was named in another way.
    expect(world.tap.stored().blobs).toBe(blobs + 1);
  });

  it.each([
    ['library/none:v1', /library\/none:v1 is not there/],
    [`library/none@${NO_DIGEST}`, /is not there/],
    ['library/Bad Name:v1', /library\/Bad Name:v1/],
  ])('that is not there is told by name: %s', async (image, detail) => {
    const error = await world.job({ kind: 'external-image', image: `${outside.host}/${image}` }).failure();
    expect(error.code).toBe('external_image_unavailable');
    expect(error.detail).toMatch(detail);
  });

  it('needs its host by name', async () => {
    expect((await world.job({ kind: 'external-image', image: 'nginx' }).failure()).detail).toContain(
      'nginx is not host/',
    );
  });

  it('tells a fault of the source from one of the own registry', async () => {
    const { digest } = await outsideImage();
    const job = world.job({ kind: 'external-image', image: `${outside.host}/library/base@${digest}` });
    world.tap.cut = (request) => request.startsWith('PUT');
    expect((await job.failure()).code).toBe('registry_unavailable');
    world.tap.cut = () => false;
    const [layer] = (
      (await new RegistryClient({ baseUrl: outside.url }).getManifest('library/base', digest)).content as ImageManifest
    ).layers;
    await fetch(`${outside.url}/v2/library/base/blobs/${layer?.digest ?? ''}`, { method: 'DELETE' });
    const gone = world.job({ kind: 'external-image', image: `${outside.host}/library/base@${digest}` });
    expect((await gone.failure()).code).toBe('external_image_unavailable');
  });
});

describe('job', () => {
  it('is what to run, of an image that is a component', async () => {
    const image = '{{ components.web.outputs.image }}';
    const job = world.job({ kind: 'job', run: { image, command: ['/app'], args: ['migrate'], timeout_seconds: 60 } });
    const { digest, repository } = await job.artifact();
    const { content } = await (await reader(job)).getManifest(repository, digest);
    const [layer] = (content as ImageManifest).layers;
    expect(layer?.digest).toBe(
      digestOf(Buffer.from(JSON.stringify({ image, command: ['/app'], args: ['migrate'], timeout_seconds: 60 }))),
    );
    const other = await world.job({ kind: 'job', run: { image: 'busybox' } }).failure();
    expect(other).toMatchObject({ code: 'external_reference' });
    expect(other.detail).toContain('busybox');
  });
});

describe('an agent', () => {
  it('that ends in the middle of a push goes on with it', async () => {
    const job = await sourceJob('container-image', IMAGE);
    let blobs = 0;
    // One blob gets through, then the agent is gone.
    world.tap.cut = (request) => {
      if (!/^(PUT|PATCH) .*\/blobs\/uploads\//.test(request)) return false;
      blobs += 1;
      if (blobs === 1) return false;
      job.abort.abort();
      return true;
    };
    await expect(job.run()).rejects.toBeDefined();
    expect(Object.keys(job.outputs)).toEqual(['checkout', 'build']);
    world.tap.cut = () => false;
    world.tap.requests.length = 0;

    const resumed = Object.assign(await sourceJob('container-image', IMAGE), { outputs: job.outputs });
    Object.assign(resumed, { statement: job.statement, workspace: job.workspace, handler: world.handler() });
    Object.assign(resumed, { envelope: (job as unknown as { envelope: object }).envelope });
    const { artifact } = (await resumed.run({ crashed: true })) as unknown as { artifact: { digest: string } };
    const whole = await sourceJob('container-image', IMAGE);
    expect((await whole.artifact()).digest).toBe(artifact.digest);
  });

  it('that ended in the middle of a checkout or a build begins that step anew', async () => {
    const job = await sourceJob('helm-chart', CHART, { values: { image: '{{ components.web.outputs.image }}' } });
    await mkdir(join(job.workspace, 'source/templates'), { recursive: true });
    await writeFile(join(job.workspace, 'source/templates/half.yaml'), 'half a fi');
    await mkdir(join(job.workspace, 'out/packed'), { recursive: true });
    await writeFile(join(job.workspace, 'out/packed/aaa.tgz'), 'half a fi');
    const twin = await sourceJob('helm-chart', CHART, { values: { image: '{{ components.web.outputs.image }}' } });
    expect((await job.run({ crashed: true }))['artifact']).toMatchObject({ digest: (await twin.artifact()).digest });
  });

  it.each([
    ['container-image', 'BUILDAH_BIN', IMAGE],
    ['container-image', 'RUNC_BIN', IMAGE],
    ['terraform-module', 'TERRAFORM_BIN', { 'main.tf': '' }],
    ['helm-chart', 'HELM_BIN', CHART],
    ['kubernetes-manifests', 'KUBECTL_BIN', { 'kustomization.yaml': 'resources: [x.yaml]\n', 'x.yaml': POD(OUTPUT) }],
  ] as const)('names the program that a %s needs and it has not: %s', async (kind, variable, files) => {
    const job = await sourceJob(kind, files, {}, { config: { [variable]: 'no-such-program' } });
    expect(await job.failure()).toMatchObject({
      code: 'tool_missing',
      detail: expect.stringContaining('no-such-program') as string,
    });
  });
});
