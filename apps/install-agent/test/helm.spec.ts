import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Artifact, type JobKind, type JsonObject } from '#contracts';
import { Attempt } from './attempt.js';
import { IMAGE_DIGEST, inCluster, orderOf, publish, startWorld, type Source, type World } from './world.js';

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.stop());

const MARKER = 'sensitive-marker-55d1';
const CHART = { 'Chart.yaml': 'apiVersion: v2\nname: web\nversion: 0.1.0\n' };
const CONFIG = `
apiVersion: v1
kind: ConfigMap
metadata: { name: "{{ .Release.Name }}-settings" }
data: { color: "{{ .Values.color }}", password: "{{ .Values.password }}" }
`;
const DEPLOYMENT = `
apiVersion: apps/v1
kind: Deployment
metadata: { name: "{{ .Release.Name }}" }
spec:
  replicas: {{ .Values.replicas }}
  selector: { matchLabels: { app: "{{ .Release.Name }}" } }
  template:
    metadata: { labels: { app: "{{ .Release.Name }}" } }
    spec: { containers: [{ name: main, image: "{{ .Values.image }}", command: [serve] }] }
`;
/** Looks into the cluster for what it made before, as charts with generated passwords do. */
const GENERATED = `
{{- $old := lookup "v1" "Secret" .Release.Namespace "generated" }}
apiVersion: v1
kind: Secret
metadata: { name: generated }
stringData: { password: "{{ if $old }}{{ $old.data.password | b64dec }}{{ else }}{{ randAlphaNum 20 }}{{ end }}" }
`;
const hook = (command: string): string => `
apiVersion: batch/v1
kind: Job
metadata: { name: "{{ .Release.Name }}-migrate", annotations: { "helm.sh/hook": "pre-install,pre-upgrade" } }
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{ name: migrate, image: "{{ .Values.image }}", command: ["sh", "-c", "${command}"] }]
`;

const image = (host = world.registry.host): string => `${host}/shop/web@${IMAGE_DIGEST}`;
const valuesOf = (more: JsonObject = {}): JsonObject => ({
  color: '{{ install.inputs.color }}',
  password: '{{ components.vault.outputs.key }}',
  image: image(),
  replicas: 1,
  ...more,
});
const chart = (name: string, templates: Source): Promise<Artifact> =>
  publish(world, {
    name,
    kind: 'helm-chart',
    source: {
      ...CHART,
      ...Object.fromEntries(Object.entries(templates).map(([file, text]) => [`templates/${file}`, text])),
    },
  });
const run = (kind: JobKind, name: string, artifact: Artifact, values = valuesOf(), color = 'red'): Attempt =>
  new Attempt(
    world.dir,
    kind === 'apply' ? world.apply : world.destroy,
    orderOf(world, { kind, name, component: 'helm-chart', artifact, values, inputs: { color }, namespace: name }),
  );
const object = (kind: string, name: string): Record<string, unknown> | undefined =>
  world.kube.objects().find((each) => each.kind === kind && each.metadata.name === name);
const revisions = (name: string): number =>
  world.kube.objects().filter(({ metadata }) => metadata.name.startsWith(`sh.helm.release.v1.${name}.`)).length;

beforeAll(() =>
  world.store.write('vault', { digest: IMAGE_DIGEST, kind: 'x', outputs: { key: MARKER }, sensitive: ['key'] }),
);

describe('a chart', () => {
  it('is installed with its hooks, the same again changes nothing, a change is one, a teardown leaves nothing', async () => {
    const templates = { 'a.yaml': CONFIG, 'b.yaml': DEPLOYMENT, 'c.yaml': GENERATED, 'hook.yaml': hook('true') };
    const artifact = await chart('web', templates);
    const first = run('apply', 'web', artifact);
    expect(await first.run()).toEqual({
      changed: true,
      created: 4,
      updated: 0,
      deleted: 0,
      outputs: { release: 'web', namespace: 'web', revision: 1 },
      sensitive_outputs: [],
    });
    expect(object('Deployment', 'web')).toMatchObject({ status: { availableReplicas: 1 } });
    expect(object('Job', 'web-migrate')).toMatchObject({ status: { succeeded: 1 } });

    const again = run('apply', 'web', artifact);
    expect(await again.run()).toMatchObject({ changed: false, created: 0, updated: 0, outputs: { revision: 1 } });
    expect(again.calls).toEqual(['helm status', 'helm upgrade', 'kubectl get', 'kubectl apply']);

    const change = run('apply', 'web', artifact, valuesOf({ replicas: 2 }), 'blue');
    expect(await change.run()).toMatchObject({ changed: true, created: 0, updated: 2, outputs: { revision: 2 } });
    expect(object('ConfigMap', 'web-settings')).toMatchObject({ data: { color: 'blue', password: MARKER } });

    // Another migration and nothing else is a change too.
    const next = await chart('web', { ...templates, 'hook.yaml': hook('true; true') });
    const hooked = run('apply', 'web', next, valuesOf({ replicas: 2 }), 'blue');
    expect(await hooked.run()).toMatchObject({ changed: true, updated: 1, outputs: { revision: 3 } });
    for (const { log, outputs, commands } of [first, again, change, hooked])
      expect(JSON.stringify([log, outputs, commands])).not.toContain(MARKER);

    expect(await run('destroy', 'web', next).run()).toMatchObject({ changed: true, deleted: 3 });
    expect(world.kube.objects().filter(({ metadata }) => metadata.namespace === 'web')).toEqual([]);
    expect(object('Namespace', 'web')).toBeUndefined();
    expect(await run('destroy', 'web', next).run()).toMatchObject({ changed: false, deleted: 0 });
  });

  it('goes on after a crash in apply: one install, no rollback in between', async () => {
    const artifact = await chart('cut', { 'a.yaml': CONFIG, 'b.yaml': DEPLOYMENT, 'hook.yaml': hook('sleep 2') });
    const attempt = run('apply', 'cut', artifact);
    // In the hook: the release is pending.
    await attempt.crashIn('apply', () => object('Job', 'cut-migrate') !== undefined);
    expect(revisions('cut')).toBe(1);
    expect(await attempt.run()).toMatchObject({ changed: true, outputs: { revision: 1 } });
    expect(revisions('cut')).toBe(1);
    expect(attempt.calls).not.toContain('helm rollback');
    expect(await run('apply', 'cut', artifact).run()).toMatchObject({ changed: false });

    // The agent was lost for good: another attempt finds an upgrade that is pending.
    await run('apply', 'cut', artifact, valuesOf(), 'blue').crashIn('apply', () => revisions('cut') === 2);
    const other = run('apply', 'cut', artifact, valuesOf(), 'blue');
    expect(await other.run()).toMatchObject({ changed: true, outputs: { revision: 2 } });
    expect(object('ConfigMap', 'cut-settings')).toMatchObject({ data: { color: 'blue' } });
  });

  it('that was upgraded before the crash is not upgraded again', async () => {
    const artifact = await chart('done', { 'a.yaml': CONFIG });
    const attempt = await run('apply', 'done', artifact).runBefore('apply');
    const planned = attempt.calls.length;
    await attempt.crashIn('apply', () => attempt.calls.length > planned);
    // What the attempt would have done by now, had it been cut a moment later.
    await run('apply', 'done', artifact).run();
    expect(await attempt.run()).toMatchObject({ changed: true, outputs: { revision: 1 } });
    expect(attempt.calls.slice(planned)).toEqual(['kubectl get', 'helm status']);
    expect(revisions('done')).toBe(1);
  });

  it('heals what others changed or removed', async () => {
    const artifact = await chart('drift', { 'a.yaml': CONFIG, 'b.yaml': DEPLOYMENT });
    await run('apply', 'drift', artifact).run();
    await inCluster(world, 'DELETE', '/namespaces/drift/configmaps/drift-settings');
    expect(await run('apply', 'drift', artifact).run()).toMatchObject({ changed: true, created: 1 });
    expect(object('ConfigMap', 'drift-settings')).toBeDefined();
  });

  it('that does not get ready is rolled back, and the failure says what it was', async () => {
    const artifact = await chart('bad', { 'a.yaml': CONFIG, 'b.yaml': DEPLOYMENT });
    await run('apply', 'bad', artifact).run();
    world.config.READY_SECONDS = 5;
    const outside = valuesOf({ image: image(`${world.registry.host}/elsewhere`) });
    const failure = await run('apply', 'bad', artifact, outside).failure();
    world.config.READY_SECONDS = 20;
    expect(failure.code).toBe('apply_failed');
    expect(failure.detail).toMatch(
      /^UPGRADE FAILED: .*rolled back.*Deployment\/bad.*container main: ImagePullBackOff: .*elsewhere/,
    );
    expect(JSON.stringify(object('Deployment', 'bad'))).toContain(image());
    expect(await run('apply', 'bad', artifact).run()).toMatchObject({ changed: false });
  });

  it('runs the images that came with it, in hooks too, and no others', async () => {
    const source = { ...CHART, 'templates/a.yaml': DEPLOYMENT, 'templates/b.yaml': hook('exit 0') };
    const images = ['quay.io/acme/web:1.2'];
    const artifact = await publish(world, { name: 'carried', kind: 'helm-chart', source, images });
    const asked = (image: string): JsonObject => valuesOf({ image });
    const install = run('apply', 'carried', artifact, asked('quay.io/acme/web:1.2'));
    expect(await install.run()).toMatchObject({ changed: true, created: 2 });
    const here = new RegExp(`"image":"${world.registry.host}/shop/carried@sha256:[0-9a-f]{64}"`);
    expect(JSON.stringify(object('Deployment', 'carried'))).toMatch(here);
    expect(JSON.stringify(object('Job', 'carried-migrate'))).toMatch(here);
    expect(await run('apply', 'carried', artifact, asked('quay.io/acme/web:1.2')).run()).toMatchObject({
      changed: false,
    });
    expect(await run('apply', 'carried', artifact, asked('quay.io/acme/web:1.3')).failure()).toMatchObject({
      code: 'external_reference',
      detail: 'Deployment/carried /spec/template/spec/containers/0/image: quay.io/acme/web:1.3',
    });
    await run('destroy', 'carried', artifact).run();
  });

  it('is refused when values were swapped between plan and apply', async () => {
    const artifact = await chart('swapped', { 'a.yaml': CONFIG });
    const attempt = await run('apply', 'swapped', artifact).runBefore('apply');
    const file = join(attempt.workspace, 'private', 'values.json');
    await writeFile(file, (await readFile(file, 'utf8')).replace('red', 'pink'));
    expect(await attempt.failure()).toMatchObject({ code: 'stale_plan' });
  });

  it('is refused without helm, before anything is changed', async () => {
    const artifact = await chart('toolless', { 'a.yaml': CONFIG });
    const { HELM_BIN } = world.config;
    world.config.HELM_BIN = '/nowhere/helm';
    expect(await run('apply', 'toolless', artifact).failure()).toMatchObject({ code: 'tool_missing' });
    world.config.HELM_BIN = HELM_BIN;
    expect(object('Namespace', 'toolless')).toBeUndefined();
  });
});
