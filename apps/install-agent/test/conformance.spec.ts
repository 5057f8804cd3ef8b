import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Artifact, type ComponentKind, type JobKind, type JsonObject } from '#contracts';
import { Attempt } from './attempt.js';
import { APP, IMAGE_DIGEST, inCluster, orderOf, publish, startWorld, type Source, type World } from './world.js';

/** What every executor promises, asked of each in the same words, over real tools. */

let world: World;
let dir: string;
beforeAll(async () => {
  world = await startWorld();
  dir = join(world.dir, 'effects');
  await mkdir(dir);
  await world.store.write('vault', { digest: IMAGE_DIGEST, kind: 'x', outputs: { key: MARKER }, sensitive: ['key'] });
});
afterAll(() => world.stop());

/** Planted where each kind takes its values from. It may be in the product, and in nothing that leaves the install. */
const MARKER = 'planted-marker-3e91';
/** Some twenty runs of a tool: seconds on a free machine. */
const LONG_MS = 180_000;
const NEVER = { READY_SECONDS: 2, TERRAFORM_SECONDS: 2 };

const LABELS = '{ app: web }';
const objects = (color: string, image: string, secret: string): string => `
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { color: "${color}" }
---
apiVersion: v1
kind: Secret
metadata: { name: hidden }
stringData: { password: "${secret}" }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 1
  selector: { matchLabels: ${LABELS} }
  template:
    metadata: { labels: ${LABELS}, annotations: { color: "${color}" } }
    spec: { containers: [{ name: main, image: "${image}", command: [sh, -c, 'sleep 1000'], env: [{ name: KEY, value: "${secret}" }] }] }
`;
const MODULE = `
variable "color" { type = string }
variable "dir" { type = string }
variable "password" {
  type      = string
  sensitive = true
}
resource "terraform_data" "thing" {
  input            = { color = var.color, dir = var.dir }
  triggers_replace = [var.color]
  provisioner "local-exec" {
    command = "test \${self.input.color} != slow || sleep 100; echo \${self.input.color} > \${self.input.dir}/thing"
  }
  provisioner "local-exec" {
    when    = destroy
    command = "rm -f \${self.input.dir}/thing"
  }
}
resource "terraform_data" "secret" { input = var.password }
output "password" {
  value     = var.password
  sensitive = true
}
output "url" { value = "postgres://shop:\${nonsensitive(var.password)}@db" }
`;
const INPUT = { color: '{{ install.inputs.color }}', image: '{{ install.inputs.image }}' };
const SECRET = '{{ components.vault.outputs.key }}';

interface Subject {
  readonly name: string;
  readonly kind: ComponentKind;
  /** How many things are there when it is deployed, the namespace included. */
  readonly parts: number;
  readonly source: Source | JsonObject;
  readonly values?: JsonObject;
  /** Signed, and of no use: the same artifact with this in it. */
  readonly broken?: Source | JsonObject;
  /** Whether plan and destroy leave something to be seen, and a slow apply something to be waited for. */
  readonly inert?: boolean;
  /** Changes by hand what is there; the plan must name this. */
  readonly drift?: { readonly make: () => Promise<void>; readonly named: string };
}
const patchSettings = (namespace: string) => (): Promise<void> =>
  inCluster(world, 'PATCH', `/namespaces/${namespace}/configmaps/settings`, { data: { color: 'mauve' } });
const SUBJECTS: readonly Subject[] = [
  {
    name: 'module',
    kind: 'terraform-module',
    parts: 1,
    source: { 'main.tf': MODULE },
    values: { color: INPUT.color, dir: '{{ install.inputs.dir }}', password: SECRET },
    broken: { 'main.tf': 'resource "terraform_data" {' },
  },
  {
    name: 'manifests',
    kind: 'kubernetes-manifests',
    parts: 4,
    source: { 'all.yaml': objects(INPUT.color, INPUT.image, SECRET) },
    broken: { 'all.yaml': 'kind: [' },
    drift: { make: patchSettings('manifests'), named: 'ConfigMap/settings' },
  },
  {
    name: 'chart',
    kind: 'helm-chart',
    parts: 5,
    source: {
      'Chart.yaml': 'apiVersion: v2\nname: chart\nversion: 0.1.0\n',
      'templates/all.yaml': objects('{{ .Values.color }}', '{{ .Values.image }}', '{{ .Values.password }}'),
    },
    values: { ...INPUT, password: SECRET },
    broken: { 'Chart.yaml': 'apiVersion: v2\nname: chart\nversion: 0.1.0\n', 'templates/all.yaml': '{{ .Values.' },
    drift: { make: patchSettings('chart'), named: 'ConfigMap/settings' },
  },
  {
    name: 'task',
    kind: 'job',
    parts: 2,
    source: { image: INPUT.image, command: ['sh', '-c', 'exit 0'], args: [INPUT.color], timeout_seconds: 5 },
    values: { KEY: SECRET },
    broken: { image: '{{ components.nobody.outputs.image }}', command: [], args: [], timeout_seconds: 5 },
  },
  { name: 'picture', kind: 'container-image', parts: 0, source: {}, inert: true },
];

describe.each(SUBJECTS)('$kind', ({ name, kind, parts, source, values, broken, inert = false, drift }) => {
  let artifact: Artifact;
  const attempts: Attempt[] = [];
  const attempt = (job: JobKind, color = 'red', from = artifact): Attempt => {
    // Of the registry, as it must be, and not to be had.
    const app = color === 'slow' ? 'nowhere' : APP;
    const inputs = { color, dir, image: `${world.registry.host}/${app}/web@${IMAGE_DIGEST}` };
    const handler = job === 'observe' ? world.observe : job === 'apply' ? world.apply : world.destroy;
    const order = { kind: job, name, component: kind, artifact: from, namespace: name, inputs };
    const made = new Attempt(world.dir, handler, orderOf(world, { ...order, ...(values ? { values } : {}) }));
    attempts.push(made);
    return made;
  };
  /** What of the component the world has. */
  const there = async (): Promise<string[]> => {
    const made = world.kube
      .objects()
      .filter(
        ({ kind: its, metadata }) => metadata.namespace === name || (its === 'Namespace' && metadata.name === name),
      )
      .map(({ kind: its, metadata }) => `${its}/${metadata.name}`)
      .filter((each) => !/^(Pod|ReplicaSet|Event)\/|kube-root-ca.crt$|^ServiceAccount\/default$/.test(each));
    const effects = kind === 'terraform-module' ? await readdir(dir) : [];
    return [...made, ...effects].sort();
  };
  const withLimits = async <T>(limits: Partial<World['config']>, work: () => Promise<T>): Promise<T> => {
    const before = { ...world.config };
    Object.assign(world.config, limits);
    return work().finally(() => Object.assign(world.config, before));
  };

  beforeAll(async () => {
    artifact = await publish(world, { name, kind, source });
  });

  it('is not there before: the probe says so, and a plan that is refused leaves it so', async () => {
    expect(await attempt('observe').run()).toMatchObject({ drifted: false, health: 'missing' });
    const refused = await attempt('apply').runBefore('apply');
    expect(refused.proposed?.changed).toBe(!inert);
    expect(refused.proposed?.changes ?? []).not.toHaveLength(inert ? 1 : 0);
    expect(await there()).toEqual([]);
  });

  it('refuses an artifact that nobody signed, and one that is of no use, and changes nothing', async () => {
    const signedAsAnother = await publish(world, { name, kind, source: broken ?? { other: 'x' } }, undefined, {
      component: 'x',
    });
    expect((await attempt('apply', 'red', signedAsAnother).failure()).code).toMatch(/^(provenance|signature)_/);
    expect(await there()).toEqual([]);
    // The same artifact again would be the same digest; images have no content that this agent reads.
    if (broken === undefined) return;
    const useless = await publish(world, { name, kind, source: { ...broken, 'again.txt': 'x' } });
    expect((await attempt('apply', 'red', useless).failure()).code).toMatch(/^(plan_failed|unknown_reference)$/);
    expect(await there()).toEqual([]);
  });

  it(
    'comes whole through a crash in each step, once, and a second plan is empty',
    async () => {
      const first = attempt('apply');
      for (const step of ['fetch', 'plan', 'apply', 'observe']) await first.crashAt(step, step === 'apply' ? 2 : 1);
      const result = await first.run();
      expect(result['changed']).toBe(true);
      const made = await there();
      expect(made).toHaveLength(parts);
      expect(await attempt('apply').run()).toMatchObject({ changed: false, created: 0, updated: 0, deleted: 0 });
      expect(await there()).toEqual(made);
      const probe = await attempt('observe').run();
      expect(probe).toMatchObject({ drifted: false, health: 'healthy', reasons: [] });
      expect(probe['difference']).toBeUndefined();
    },
    LONG_MS,
  );

  it(
    'is cancelled in each step, and goes where it was told by the next job',
    async () => {
      for (const step of ['plan', 'apply']) {
        const code = await attempt('apply', 'blue').cancelAt(step, 1);
        expect(code).toMatch(inert ? /^(done|cancelled)$/ : /^cancelled$/);
      }
      const next = await attempt('apply', 'blue').run();
      expect(JSON.stringify(await attempt('observe', 'blue').run())).toContain('"drifted":false');
      expect(next['sensitive_outputs']).toEqual(kind === 'terraform-module' ? ['password', 'url'] : []);
      if (kind === 'terraform-module') expect(await readFile(join(dir, 'thing'), 'utf8')).toBe('blue\n');
    },
    LONG_MS,
  );

  it(
    'shows what somebody has changed, and takes it back',
    async () => {
      if (drift === undefined) return;
      await drift.make();
      const probe = await attempt('observe', 'blue').run();
      expect(probe).toMatchObject({
        drifted: true,
        health: 'healthy',
        difference: {
          updated: 1,
          changes: [
            {
              action: 'update',
              resource: drift.named,
              fields: [{ path: 'data.color', before: '"mauve"', after: '"blue"', set_by: 'stranger' }],
            },
          ],
        },
      });
      expect(await attempt('apply', 'blue').run()).toMatchObject({ changed: true, updated: 1 });
      expect(await attempt('observe', 'blue').run()).toMatchObject({ drifted: false });
    },
    LONG_MS,
  );

  it(
    'gives up in time, says why, and is well again by the next job',
    async () => {
      if (inert) return;
      const slow = await attempt('apply', 'slow').runBefore('apply');
      const { code, detail } = await withLimits(NEVER, () => slow.failure());
      expect(code).toMatch(/^(timed_out|apply_failed)$/);
      expect(detail).toMatch(kind === 'terraform-module' ? /longer than 2000 ms/ : /ImagePullBackOff|deadline/);
      await attempt('apply').run();
      expect(await attempt('observe').run()).toMatchObject({ drifted: false, health: 'healthy' });
    },
    LONG_MS,
  );

  it('goes, through a crash in each step, and leaves nothing', async () => {
    const gone = attempt('destroy');
    for (const step of ['fetch', 'plan', 'destroy']) await gone.crashAt(step, 1);
    await gone.run();
    expect(await there()).toEqual([]);
    expect(existsSync(world.store.placeOf(name))).toBe(false);
    expect(gone.log.filter((line) => line.includes('left in place'))).toEqual([]);
    expect(await attempt('destroy').run()).toMatchObject({ changed: false, deleted: 0 });
  });

  it('has shown the planted value to nobody', () => {
    expect(attempts.length).toBeGreaterThan(8);
    for (const { log, outputs, proposed, commands } of attempts) {
      expect(JSON.stringify([log, outputs, proposed, commands])).not.toContain(MARKER);
    }
  });
});
