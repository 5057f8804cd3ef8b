import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { requireTool } from '../tools.js';
import { type KubeApi, startKubeApi } from './index.js';

/*
 * The real kubectl and helm, against the test server; with KUBE_TEST_KUBECONFIG (and KUBE_TEST_IMAGE, a busybox by
 * digest that its nodes can pull) the same flows against a real cluster, in a namespace of their own.
 */
const realCluster = process.env.KUBE_TEST_KUBECONFIG;
const image = process.env.KUBE_TEST_IMAGE ?? `registry.test:5000/busybox@sha256:${'b'.repeat(64)}`;
const WAIT = realCluster === undefined ? '10s' : '120s';

interface Ran {
  code: number;
  out: string;
  err: string;
}

const dir = mkdtempSync(join(tmpdir(), 'kube-clients-'));
const namespace = `clients-${String(process.pid)}`;
let api: KubeApi | undefined;
let kubeconfig: string;
let tools: { kubectl: string; helm: string };

function run(tool: 'kubectl' | 'helm', args: string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> {
  const options = { env: { PATH: process.env.PATH, HOME: dir, KUBECONFIG: kubeconfig, ...env }, cwd: dir };
  return new Promise((resolve) => {
    execFile(tools[tool], ['-n', namespace, ...args], options, (error, out, err) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, out, err });
    });
  });
}

/** Runs and expects success: the message of a failure is the tool's own. */
async function ok(tool: 'kubectl' | 'helm', ...args: string[]): Promise<string> {
  const { code, out, err } = await run(tool, args);
  if (code !== 0) throw new Error(`${tool} ${args.join(' ')} ended with ${code}: ${err}${out}`);
  return out;
}

const kubectl = (...args: string[]): Promise<string> => ok('kubectl', ...args);
const read = async (path: string, ...object: string[]): Promise<string> =>
  kubectl('get', ...object, '-o', `jsonpath=${path}`);

/** YAML 1.1, which Kubernetes' tools read: there a bare `yes` is a boolean. */
const yaml = (value: object): string => stringify(value, { version: '1.1' });

let files = 0;
function manifest(...objects: object[]): string {
  const path = join(dir, `manifest-${String((files += 1))}.yaml`);
  writeFileSync(path, objects.map((object) => yaml(object)).join('---\n'));
  return path;
}

const template = (name: string, env: Record<string, string> = {}) => ({
  metadata: { labels: { app: name } },
  spec: {
    terminationGracePeriodSeconds: 0,
    containers: [
      {
        name: 'main',
        image,
        command: ['sleep', '3600'],
        env: Object.entries(env).map(([key, value]) => ({ name: key, value })),
        ports: [{ containerPort: 80 }],
      },
    ],
  },
});

const workload = (kind: string, name: string, env: Record<string, string> = {}, spec: object = {}) => ({
  apiVersion: 'apps/v1',
  kind,
  metadata: { name, labels: { set: name } },
  spec: { selector: { matchLabels: { app: name } }, template: template(name, env), ...spec },
});

const deployment = (name: string, env: Record<string, string> = {}, spec: object = {}) =>
  workload('Deployment', name, env, { replicas: 2, ...spec });

const config = (name: string, data: Record<string, string>, labels: Record<string, string> = {}) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, labels },
  data,
});

const job = (name: string, command: string[]) => ({
  apiVersion: 'batch/v1',
  kind: 'Job',
  metadata: { name },
  spec: {
    backoffLimit: 0,
    template: { spec: { restartPolicy: 'Never', containers: [{ name: 'main', image, command }] } },
  },
});

beforeAll(async () => {
  tools = { kubectl: (await requireTool('kubectl')).path, helm: (await requireTool('helm')).path };
  api =
    realCluster === undefined
      ? await startKubeApi({ token: 'sesame', allowedImageHosts: ['registry.test:5000'] })
      : undefined;
  kubeconfig = realCluster ?? join(dir, 'kubeconfig');
  api?.kubeconfig(kubeconfig);
  await kubectl('create', 'namespace', namespace);
});

afterAll(async () => {
  await run('kubectl', ['delete', 'namespace', namespace, '--wait=false']);
  await api?.stop();
  rmSync(dir, { recursive: true, force: true });
});

describe('kubectl apply', () => {
  it('creates, repeats without a change, shows a change before making it', async () => {
    const before = manifest(deployment('web', { A: '1' }));
    const after = manifest(deployment('web', { A: '2' }));
    expect(await kubectl('apply', '-f', before)).toContain('web created');
    await kubectl('rollout', 'status', 'deployment/web', `--timeout=${WAIT}`);
    expect(await kubectl('apply', '-f', before)).toContain('web unchanged');
    expect((await run('kubectl', ['diff', '-f', before])).code).toBe(0);
    const diff = await run('kubectl', ['diff', '-f', after]);
    expect(diff.code).toBe(1);
    expect(diff.out).toContain('+          value: "2"');
    expect(await read('{.metadata.generation}', 'deployment', 'web')).toBe('1');
    expect(await kubectl('apply', '-f', after)).toContain('web configured');
    await kubectl('rollout', 'status', 'deployment/web', `--timeout=${WAIT}`);
    expect(await read('{.spec.template.spec.containers[0].env[0].value}', 'deployment', 'web')).toBe('2');
  });

  it('keeps what others set, removes what it no longer names', async () => {
    await kubectl('apply', '-f', manifest(deployment('merge', { A: '1', B: '1' })));
    await kubectl('set', 'env', 'deployment/merge', 'OTHER=kept');
    await kubectl('apply', '-f', manifest(deployment('merge', { A: '1' })));
    expect(await read('{.spec.template.spec.containers[0].env[*].name}', 'deployment', 'merge')).toBe('A OTHER');
  });

  it('rolls back to an earlier template', async () => {
    await kubectl('apply', '-f', manifest(deployment('undo', { A: '1' })));
    await kubectl('rollout', 'status', 'deployment/undo', `--timeout=${WAIT}`);
    await kubectl('set', 'env', 'deployment/undo', 'A=2');
    await kubectl('rollout', 'status', 'deployment/undo', `--timeout=${WAIT}`);
    await kubectl('rollout', 'undo', 'deployment/undo');
    await kubectl('rollout', 'status', 'deployment/undo', `--timeout=${WAIT}`);
    expect(await read('{.spec.template.spec.containers[0].env[0].value}', 'deployment', 'undo')).toBe('1');
  });

  it('leaves nothing behind after a dry run on the server', async () => {
    const file = manifest(config('dry', { a: '1' }));
    expect(await kubectl('apply', '--server-side', '--dry-run=server', '-f', file)).toContain('server dry run');
    expect((await run('kubectl', ['get', 'configmap', 'dry'])).err).toContain('NotFound');
  });

  it('refuses a change to an immutable field and names it', async () => {
    await kubectl('apply', '-f', manifest(deployment('fixed')));
    const labels = { matchLabels: { app: 'other' } };
    const other = deployment('fixed', {}, { selector: labels, template: template('other') });
    const refused = await run('kubectl', ['apply', '-f', manifest(other)]);
    expect(refused.code).toBe(1);
    expect(refused.err).toMatch(/spec\.selector: Invalid value.*field is immutable/);
  });

  it('refuses a write that is based on an old version', async () => {
    await kubectl('create', 'configmap', 'lock', '--from-literal=a=1');
    const old = JSON.parse(await kubectl('get', 'configmap', 'lock', '-o', 'json')) as object;
    await kubectl('patch', 'configmap', 'lock', '--type=merge', '-p', '{"data":{"a":"2"}}');
    const stale = await run('kubectl', ['replace', '-f', manifest({ ...old, data: { a: '3' } })]);
    expect(stale.err).toContain('the object has been modified');
    expect(await read('{.data.a}', 'configmap', 'lock')).toBe('2');
  });
});

describe('kubectl apply --server-side', () => {
  const apply = (manager: string, file: string, ...more: string[]): Promise<Ran> =>
    run('kubectl', ['apply', '--server-side', `--field-manager=${manager}`, '-f', file, ...more]);

  it('refuses to change what another manager owns, names it, and takes it by force', async () => {
    await apply('agent', manifest(config('owned', { a: 'agent', b: 'agent' })));
    const rival = manifest(config('owned', { a: 'rival' }));
    const refused = await apply('rival', rival);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('conflict with "agent"');
    expect(refused.err).toContain('.data.a');
    expect((await apply('rival', rival, '--force-conflicts')).code).toBe(0);
    expect(await read('{.data.a}{.data.b}', 'configmap', 'owned')).toBe('rivalagent');
    // The agent lost `a`: leaving it out now does not remove it.
    expect(await apply('agent', manifest(config('owned', { b: 'agent' })))).toMatchObject({ code: 0, err: '' });
    expect(await read('{.data.a}', 'configmap', 'owned')).toBe('rival');
  });

  it('removes what a manager no longer applies, and its defaults with it', async () => {
    const probe = { httpGet: { path: '/', port: 80 } };
    const full = deployment('pruned', { A: '1', B: '1' });
    const [main] = full.spec.template.spec.containers;
    const probed = { ...full, spec: { ...full.spec, template: template('pruned') } };
    probed.spec.template.spec.containers = [Object.assign({ ...main! }, { livenessProbe: probe })];
    await apply('agent', manifest(probed));
    expect(await read('{..livenessProbe.timeoutSeconds}', 'deployment', 'pruned')).toBe('1');
    await apply('agent', manifest(deployment('pruned', { A: '1' })));
    expect(await read('{..livenessProbe}', 'deployment', 'pruned')).toBe('');
    expect(await read('{..env[*].name}', 'deployment', 'pruned')).toBe('A');
  });

  it('prunes by applyset and by label', async () => {
    const both = manifest(config('one', { a: '1' }), config('two', { a: '1' }));
    const first = manifest(config('one', { a: '1' }));
    const set = ['apply', '--server-side', '--prune', '--applyset=inventory', '-f'];
    const env = { KUBECTL_APPLYSET: 'true' };
    expect((await run('kubectl', [...set, both], env)).code).toBe(0);
    expect((await run('kubectl', [...set, first], env)).out).toContain('configmap/two pruned');

    const labelled = ['three', 'four'].map((name) => config(name, { a: '1' }, { part: 'x' }));
    const prune = ['apply', '--prune', '-l', 'part=x', '--prune-allowlist=core/v1/ConfigMap', '-f'];
    await kubectl(...prune, manifest(...labelled));
    expect(await kubectl(...prune, manifest(labelled[0]!))).toContain('configmap/four pruned');
    expect(await kubectl('get', 'configmap', '-l', 'part in (x)', '-o', 'name')).toBe('configmap/three\n');
  });

  it('applies custom resources once their definition is established', async () => {
    const group = `${namespace}.example.test`;
    const definition = {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: `gadgets.${group}` },
      spec: {
        group,
        scope: 'Namespaced',
        names: { kind: 'Gadget', plural: 'gadgets', singular: 'gadget', listKind: 'GadgetList' },
        versions: [
          {
            name: 'v1',
            served: true,
            storage: true,
            schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
          },
        ],
      },
    };
    await kubectl('apply', '-f', manifest(definition));
    await kubectl('wait', '--for=condition=established', `crd/gadgets.${group}`, `--timeout=${WAIT}`);
    const gadget = { apiVersion: `${group}/v1`, kind: 'Gadget', metadata: { name: 'g' }, spec: { size: 3 } };
    expect((await apply('agent', manifest(gadget))).out).toContain('serverside-applied');
    expect(await read('{.spec.size}', 'gadgets', 'g')).toBe('3');
    await kubectl('delete', `crd/gadgets.${group}`);
  });
});

describe('kubectl on workloads', () => {
  it('waits for stateful and daemon sets', async () => {
    const spec = { serviceName: 'db', replicas: 2 };
    await kubectl('apply', '-f', manifest(workload('StatefulSet', 'db', {}, spec), workload('DaemonSet', 'node')));
    await kubectl('rollout', 'status', 'statefulset/db', `--timeout=${WAIT}`);
    await kubectl('rollout', 'status', 'daemonset/node', `--timeout=${WAIT}`);
    expect(await kubectl('get', 'pods', '-l', 'app=db', '-o', 'name')).toBe('pod/db-0\npod/db-1\n');
  });

  it('sees a job complete, with its log, and another one fail', async () => {
    await kubectl('apply', '-f', manifest(job('good', ['sh', '-c', 'echo done']), job('bad', ['false'])));
    await kubectl('wait', '--for=condition=complete', 'job/good', `--timeout=${WAIT}`);
    await kubectl('wait', '--for=condition=failed', 'job/bad', `--timeout=${WAIT}`);
    expect(await kubectl('logs', 'job/good')).toContain('done');
    expect(await read('{.status.conditions[?(@.type=="Failed")].reason}', 'job', 'bad')).toBe('BackoffLimitExceeded');
  });

  it('takes what an object owns with it', async () => {
    await kubectl('apply', '-f', manifest(deployment('tree')));
    await kubectl('rollout', 'status', 'deployment/tree', `--timeout=${WAIT}`);
    expect(await kubectl('get', 'replicasets,pods', '-l', 'app=tree', '-o', 'name')).not.toBe('');
    await kubectl('delete', 'deployment', 'tree', '--cascade=foreground');
    await kubectl('wait', '--for=delete', 'pods', '-l', 'app=tree', `--timeout=${WAIT}`);
    expect(await kubectl('get', 'replicasets,pods', '-l', 'app=tree', '-o', 'name')).toBe('');
  });

  it('needs the namespace, and empties it with its end', async () => {
    const other = `${namespace}-b`;
    const missing = await run('kubectl', ['-n', other, 'create', 'configmap', 'x']);
    expect(missing.err).toContain(`namespaces "${other}" not found`);
    await kubectl('create', 'namespace', other);
    await kubectl('-n', other, 'create', 'configmap', 'x');
    await kubectl('delete', 'namespace', other);
    expect((await run('kubectl', ['-n', other, 'get', 'configmap', 'x'])).err).toContain('NotFound');
  });

  it('lists in pages and as JSON', async () => {
    const names = ['page-1', 'page-2', 'page-3'];
    await kubectl('apply', '-f', manifest(...names.map((name) => config(name, {}, { page: 'yes' }))));
    const list = JSON.parse(await kubectl('get', 'cm', '-l', 'page', '--chunk-size=1', '-o', 'json')) as {
      items: { metadata: { name: string } }[];
    };
    expect(list.items.map((item) => item.metadata.name)).toEqual(names);
  });
});

describe('helm', () => {
  it('installs with a hook, upgrades, rolls back and uninstalls, waiting each time', async () => {
    const chart = join(dir, 'chart');
    mkdirSync(join(chart, 'templates'), { recursive: true });
    writeFileSync(join(chart, 'Chart.yaml'), yaml({ apiVersion: 'v2', name: 'shop', version: '1.0.0' }));
    writeFileSync(join(chart, 'values.yaml'), 'level: low\n');
    const hook = job('shop-migrate', ['true']);
    const annotations = { 'helm.sh/hook': 'pre-install', 'helm.sh/hook-delete-policy': 'hook-succeeded' };
    const hooked = { ...hook, metadata: { ...hook.metadata, annotations } };
    const service = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'shop' },
      spec: { selector: { app: 'shop' }, ports: [{ port: 80 }] },
    };
    const objects = [hooked, deployment('shop', { LEVEL: '{{ .Values.level }}' }), service];
    writeFileSync(join(chart, 'templates/all.yaml'), objects.map((object) => yaml(object)).join('---\n'));
    const level = (): Promise<string> => read('{..env[0].value}', 'deployment', 'shop');

    const wait = ['--wait', `--timeout=${WAIT}`];
    await ok('helm', 'install', 'shop', chart, ...wait);
    expect(await level()).toBe('low');
    expect(await read('{.status.availableReplicas}', 'deployment', 'shop')).toBe('2');
    await ok('helm', 'upgrade', 'shop', chart, '--set=level=high', ...wait);
    expect(await level()).toBe('high');
    await ok('helm', 'rollback', 'shop', '1', ...wait);
    expect(await level()).toBe('low');
    const history = JSON.parse(await ok('helm', 'history', 'shop', '-o', 'json')) as { status: string }[];
    expect(history.map((entry) => entry.status)).toEqual(['superseded', 'superseded', 'deployed']);
    expect(await ok('helm', 'list', '-q')).toBe('shop\n');
    await ok('helm', 'uninstall', 'shop', ...wait);
    expect(await ok('helm', 'list', '-q')).toBe('');
    expect(await kubectl('get', 'deployments,services', '-o', 'name')).not.toContain('shop');
  });
});
