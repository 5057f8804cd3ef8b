import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { newId, type Artifact, type JobKind, type JsonObject } from '#contracts';
import { Attempt, waitFor } from './attempt.js';
import { IMAGE_DIGEST, inCluster, orderOf, publish, startWorld, type Order, type Source, type World } from './world.js';

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.stop());

const run = (kind: JobKind, order: Omit<Order, 'kind'>): Attempt =>
  new Attempt(world.dir, kind === 'apply' ? world.apply : world.destroy, orderOf(world, { kind, ...order }));
const image = (host = world.registry.host): string => `${host}/shop/web@${IMAGE_DIGEST}`;
/** What is in a namespace, as `Kind/name`; what Kubernetes puts there itself is left out. */
const inside = (namespace: string): string[] =>
  world.kube
    .objects()
    .filter(({ metadata }) => metadata.namespace === namespace)
    .map(({ kind, metadata }) => `${kind}/${metadata.name}`)
    .filter((name) => !/^(Pod|ReplicaSet|Event)\/|kube-root-ca.crt$|^ServiceAccount\/default$/.test(name))
    .sort();
const object = (kind: string, name: string): Record<string, unknown> | undefined =>
  world.kube.objects().find((each) => each.kind === kind && each.metadata.name === name);
const namespaceIsThere = (name: string): boolean => object('Namespace', name) !== undefined;

const config = (name: string, data: string): string =>
  `apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: ${name}\ndata:\n  color: "${data}"\n`;
const deployment = (name: string, from: string): string => `
apiVersion: apps/v1
kind: Deployment
metadata: { name: ${name} }
spec:
  replicas: "{{ install.inputs.replicas }}"
  selector: { matchLabels: { app: ${name} } }
  template:
    metadata: { labels: { app: ${name} } }
    spec: { containers: [{ name: main, image: "${from}", command: [serve] }] }
`;
const manifests = async (
  name: string,
  source: Source,
): Promise<{ name: string; component: 'kubernetes-manifests'; artifact: Artifact }> => ({
  name,
  component: 'kubernetes-manifests',
  artifact: await publish(world, { name, kind: 'kubernetes-manifests', source }),
});

describe('manifests', () => {
  const namespace = 'plain';
  const inputs = { color: 'red', replicas: 2 };

  it('are applied, the same again changes nothing, a change is one, a teardown leaves nothing', async () => {
    const source = {
      'a.yaml': `${config('settings', '{{ install.inputs.color }}')}---\n${config('old', '1')}`,
      'web/b.yml': deployment('web', image()),
    };
    const web = { ...(await manifests('web', source)), namespace };
    const first = run('apply', { ...web, inputs });
    expect(await first.run()).toEqual({
      changed: true,
      created: 3,
      updated: 0,
      deleted: 0,
      outputs: { namespace, objects: ['ConfigMap/settings', 'ConfigMap/old', 'Deployment/web'] },
      sensitive_outputs: [],
    });
    expect(object('Deployment', 'web')).toMatchObject({ spec: { replicas: 2 }, status: { availableReplicas: 2 } });
    expect(object('ConfigMap', 'settings')?.['metadata']).toMatchObject({
      labels: {
        'app.kubernetes.io/managed-by': 'vendor-cloud',
        'vendor-cloud.dev/install': world.enrolment.install_id,
      },
    });

    const again = run('apply', { ...web, inputs });
    expect(await again.run()).toMatchObject({ changed: false, created: 0, updated: 0, deleted: 0 });
    expect(again.calls).toEqual(['kubectl get', 'kubectl apply']);

    const { 'a.yaml': _, ...rest } = source;
    const next = await manifests('web', { ...rest, 'a.yaml': config('settings', '{{ install.inputs.color }}') });
    expect(await run('apply', { ...next, namespace, inputs: { ...inputs, color: 'blue' } }).run()).toMatchObject({
      changed: true,
      created: 0,
      updated: 1,
      deleted: 1,
    });
    expect(object('ConfigMap', 'settings')).toMatchObject({ data: { color: 'blue' } });
    expect(inside(namespace)).toEqual(['ConfigMap/settings', 'Deployment/web']);

    expect(await run('destroy', web).run()).toMatchObject({ changed: true, deleted: 2 });
    expect(namespaceIsThere(namespace)).toBe(false);
    expect(existsSync(world.store.placeOf('web'))).toBe(false);
    expect(await run('destroy', web).run()).toMatchObject({ changed: false, deleted: 0 });
  });

  it('are read as kubectl reads YAML: 1.1, and dates are texts', async () => {
    const text = `
apiVersion: v1
kind: Secret
metadata: { name: modes, annotations: { day: 2026-11-24, ratio: "1:30" } }
data: {}
---
apiVersion: example.test/v1
kind: CustomThing
metadata: { name: thing }
spec: { on: yes, mode: 0644, time: 12:30:45 }
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: { name: customthings.example.test }
spec:
  group: example.test
  scope: Namespaced
  names: { kind: CustomThing, plural: customthings, singular: customthing }
  versions: [{ name: v1, served: true, storage: true, schema: { openAPIV3Schema: { type: object } } }]
`;
    const web = { ...(await manifests('kinds', { 'a.yaml': text })), namespace: 'kinds' };
    // A kind and an object of it at once, too.
    expect(await run('apply', web).run()).toMatchObject({ created: 3 });
    expect(object('CustomThing', 'thing')?.['spec']).toEqual({ true: true, mode: 420, time: '12:30:45' });
    expect(object('Secret', 'modes')?.['metadata']).toMatchObject({ annotations: { day: '2026-11-24' } });
    expect(await run('apply', web).run()).toMatchObject({ changed: false });
    expect(await run('destroy', web).run()).toMatchObject({ deleted: 3 });
    expect(namespaceIsThere('kinds')).toBe(false);
  });

  it('go on after a crash between plan and apply, and in apply', async () => {
    const source = { 'a.yaml': config('settings', '1'), 'b.yaml': deployment('slow', image()) };
    const web = { ...(await manifests('crash', source)), namespace: 'crash' };
    const attempt = await run('apply', { ...web, inputs }).runBefore('apply');
    await attempt.crashIn('apply', () => object('ConfigMap', 'settings') !== undefined);
    expect(await attempt.run()).toMatchObject({ changed: true, created: 2 });
    expect(inside('crash')).toEqual(['ConfigMap/settings', 'Deployment/slow']);
    expect(object('Deployment', 'slow')).toMatchObject({ metadata: { generation: 1 } });
    await run('destroy', web).run();
    expect(namespaceIsThere('crash')).toBe(false);
  });

  it('that an attempt began and did not end are found again by the teardown', async () => {
    const web = { ...(await manifests('half', { 'a.yaml': config('half', '1') })), namespace: 'half' };
    await run('apply', web).crashIn('apply', () => object('ConfigMap', 'half') !== undefined);
    expect(await run('destroy', web).run()).toMatchObject({ deleted: 1 });
    expect(namespaceIsThere('half')).toBe(false);
  });

  it('apply nothing but what was planned', async () => {
    const web = { ...(await manifests('swapped', { 'a.yaml': config('swapped', '1') })), namespace: 'swapped' };
    const attempt = await run('apply', web).runBefore('apply');
    await writeFile(join(attempt.workspace, 'private', 'rendered.json'), '[]');
    expect(await attempt.failure()).toMatchObject({ code: 'stale_plan' });
  });

  it('win over changes that others made to their fields, and leave other fields alone', async () => {
    const web = { ...(await manifests('drift', { 'a.yaml': config('drift', 'red') })), namespace: 'drift' };
    await run('apply', web).run();
    const stranger = (data: object): Promise<unknown> =>
      inCluster(world, 'PATCH', '/namespaces/drift/configmaps/drift', { data });
    await stranger({ color: 'blue', theirs: 'kept' });
    expect(await run('apply', web).run()).toMatchObject({ changed: true, updated: 1 });
    expect(object('ConfigMap', 'drift')?.['data']).toEqual({ color: 'red', theirs: 'kept' });
  });

  it('with an image that is not to be had stay unready and say so; so they do when deployed again', async () => {
    world.config.READY_SECONDS = 2;
    const source = {
      'a.yaml': deployment('outside', `${world.registry.host}/elsewhere/nginx@sha256:${'c'.repeat(64)}`),
    };
    const web = { ...(await manifests('outside', source)), namespace: 'outside', inputs };
    const failure = await run('apply', web).failure();
    expect(failure).toMatchObject({ code: 'apply_failed' });
    expect(failure.detail).toMatch(/not ready after 2 s: Deployment\/outside: 0 of 2 pods are available/);
    expect(failure.detail).toMatch(/container main: ImagePullBackOff: .*elsewhere/);
    const again = run('apply', web);
    expect(await again.failure()).toMatchObject({ code: 'apply_failed' });
    expect(again.outputs['plan']).toMatchObject({ changed: false, ready: false });
    world.config.READY_SECONDS = 20;
  });

  it('run the images that came with them, and name those that would come from outside', async () => {
    const source = { 'a.yaml': deployment('carried', 'nginx:1.27') };
    const artifact = await publish(world, {
      name: 'carried',
      kind: 'kubernetes-manifests',
      source,
      images: ['nginx:1.27'],
    });
    const web = { name: 'carried', component: 'kubernetes-manifests' as const, artifact, namespace: 'carried', inputs };
    expect(await run('apply', web).run()).toMatchObject({ changed: true, created: 1 });
    expect(JSON.stringify(object('Deployment', 'carried'))).toContain(
      `"image":"${world.registry.host}/shop/carried@sha256:`,
    );
    await run('destroy', web).run();
    const outside = await manifests('outside', { 'a.yaml': deployment('outside', 'nginx:1.28') });
    expect(await run('apply', { ...outside, namespace: 'outside', inputs }).failure()).toMatchObject({
      code: 'external_reference',
      detail: 'Deployment/outside /spec/template/spec/containers/0/image: nginx:1.28',
    });
  });

  it('leave the namespace when it holds what is not theirs, and one that was there before', async () => {
    const web = { ...(await manifests('guest', { 'a.yaml': config('guest', '1') })), namespace: 'shared' };
    await run('apply', web).run();
    await inCluster(world, 'POST', '/namespaces/shared/configmaps', { metadata: { name: 'customers-own' } });
    const gone = run('destroy', web);
    expect(await gone.run()).toMatchObject({ deleted: 1 });
    expect(gone.log.join('\n')).toContain('left in place: ConfigMap/customers-own');
    expect(inside('shared')).toEqual(['ConfigMap/customers-own']);

    await inCluster(world, 'POST', '/namespaces', { metadata: { name: 'before' } });
    await run('apply', { ...web, namespace: 'before' }).run();
    await run('destroy', { ...web, namespace: 'before' }).run();
    expect(namespaceIsThere('before')).toBe(true);
  });

  it('move when their namespace changes, and refuse objects of another install', async () => {
    const web = await manifests('moving', { 'a.yaml': config('moving', '1') });
    await run('apply', { ...web, namespace: 'from' }).run();
    const other = run('apply', { ...web, name: 'moving', namespace: 'from', install: newId('install') });
    expect(await other.failure()).toMatchObject({
      code: 'plan_failed',
      detail: expect.stringMatching(/another install/) as string,
    });
    expect(await run('apply', { ...web, namespace: 'to' }).run()).toMatchObject({ created: 1, deleted: 1 });
    expect(inside('from')).toEqual([]);
  });

  it('need a cluster', async () => {
    const { KUBECONFIG } = world.config;
    const web = await manifests('clusterless', { 'a.yaml': config('x', '1') });
    delete world.config.KUBECONFIG;
    expect(await run('apply', web).failure()).toMatchObject({ code: 'tool_missing' });
    if (KUBECONFIG !== undefined) world.config.KUBECONFIG = KUBECONFIG;
  });
});

describe('a job', () => {
  const namespace = 'jobs';
  const MARKER = 'sensitive-marker-71c2';
  const spec = (command: string[], more: JsonObject = {}): JsonObject => ({
    image: image(),
    command,
    args: [],
    timeout_seconds: 60,
    ...more,
  });
  const job = async (name: string, source: JsonObject): Promise<Omit<Order, 'kind'>> => ({
    name,
    component: 'job',
    namespace,
    artifact: await publish(world, { name, kind: 'job', source }),
  });
  const jobs = (name: string): string[] => inside(namespace).filter((each) => each.startsWith(`Job/shop-${name}`));

  it('runs once for what it runs, again for anything else, and its log is shown', async () => {
    await world.store.write('vault', { digest: IMAGE_DIGEST, kind: 'x', outputs: { key: MARKER }, sensitive: ['key'] });
    const migrate = await job('migrate', spec(['migrate', `--key=${MARKER}`, 'to 7']));
    const values = { KEY: '{{ components.vault.outputs.key }}', VERSION: 7 };
    const first = run('apply', { ...migrate, values });
    expect(await first.run()).toMatchObject({ changed: true, created: 1, sensitive_outputs: [] });
    expect(first.log.join('\n')).toMatch(/command \["migrate","--key=\*\*\*","to 7"\]/);
    const [name = ''] = jobs('migrate');
    expect(JSON.stringify(object('Job', name.slice('Job/'.length)))).toContain(MARKER);

    const again = run('apply', { ...migrate, values });
    expect(await again.run()).toMatchObject({ changed: false });
    expect(again.calls).toEqual(['kubectl get']);

    const change = run('apply', { ...migrate, values: { ...values, VERSION: 8 } });
    expect(await change.run()).toMatchObject({ changed: true, created: 1, deleted: 1 });
    expect(jobs('migrate')).toHaveLength(1);
    expect(jobs('migrate')).not.toContain(name);
    for (const { log, outputs, commands } of [first, again, change])
      expect(JSON.stringify([log, outputs, commands])).not.toContain(MARKER);
    expect(await run('destroy', migrate).run()).toMatchObject({ deleted: 1 });
    expect(namespaceIsThere(namespace)).toBe(false);
    await world.store.remove('vault');
  });

  it('that fails says so, and is run again by the next deployment only', async () => {
    const failing = await job('failing', spec(['sh', '-c', 'sleep 0.5; exit 3']));
    const uid = (): unknown =>
      (object('Job', jobs('failing')[0]?.slice('Job/'.length) ?? '')?.['metadata'] as JsonObject | undefined)?.['uid'];
    const failure = await run('apply', failing).failure();
    expect(failure.code).toBe('apply_failed');
    expect(failure.detail).toMatch(/Job\/shop-failing-\w{10}: it failed .*container failing ended with exit code 3/);
    const first = uid();

    const again = run('apply', failing);
    await again.crashIn('apply', () => uid() !== undefined && uid() !== first);
    const second = uid();
    // The run that this attempt began fails while the agent is away: it is reported, not repeated.
    await waitFor(() =>
      JSON.stringify(object('Job', jobs('failing')[0]?.slice('Job/'.length) ?? '')).includes('Backoff'),
    );
    expect(await again.failure()).toMatchObject({ code: 'apply_failed' });
    expect(again.outputs['plan']).toMatchObject({ changed: true, updated: 1 });
    expect(uid()).toBe(second);
  });

  it('goes on after a crash while it runs, once', async () => {
    const slow = await job('slow', spec(['sleep', '1']));
    const attempt = await run('apply', slow).crashIn('apply', () => jobs('slow').length === 1);
    const before = world.kube.objects().filter(({ kind }) => kind === 'Job');
    expect(await attempt.run()).toMatchObject({ changed: true, created: 1 });
    const after = world.kube.objects().filter(({ kind }) => kind === 'Job');
    expect(after.map(({ metadata }) => metadata.uid)).toEqual(before.map(({ metadata }) => metadata.uid));
  });

  it('has its own time limit and says what kept it from running', async () => {
    const stuck = await job(
      'stuck',
      spec(['x'], { image: `${world.registry.host}/elsewhere/x@${IMAGE_DIGEST}`, timeout_seconds: 5 }),
    );
    const failure = await run('apply', stuck).failure();
    expect(failure.detail).toMatch(/longer than specified deadline.*ImagePullBackOff/);
  });
});
