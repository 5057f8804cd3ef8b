import { type ProposedPlan } from '#agent-kit';
import { type Artifact, type ComponentKind, type JobKind, type JsonObject } from '#contracts';
import { COMPONENT_NEEDS } from '../src/job-permissions.js';
import { Attempt } from './attempt.js';
import { APP, IMAGE_DIGEST, inCluster, orderOf, publish, startWorld, type Source, type World } from './world.js';

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.stop());

const MARKER = 'sensitive-marker-77c2';
interface Subject {
  readonly name: string;
  readonly component: ComponentKind;
  readonly artifact: Artifact;
  readonly values?: JsonObject;
}
async function subject(
  name: string,
  component: ComponentKind,
  source: Source | JsonObject,
  values?: JsonObject,
): Promise<Subject> {
  const artifact = await publish(world, { name, kind: component, source });
  return { name, component, artifact, ...(values === undefined ? {} : { values }) };
}
const attempt = (kind: JobKind, from: Subject, color = 'red'): Attempt =>
  new Attempt(
    world.dir,
    kind === 'apply' ? world.apply : world.destroy,
    orderOf(world, { kind, ...from, namespace: from.name, inputs: { color } }),
  );
/** What the customer is asked, by an attempt that goes no further. */
async function planOf(kind: JobKind, from: Subject, color?: string): Promise<ProposedPlan> {
  const { proposed } = await attempt(kind, from, color).runBefore(kind);
  return proposed!;
}
const counts = ({ changed, created, updated, deleted }: ProposedPlan): unknown[] => [
  changed,
  created,
  updated,
  deleted,
];

/** The same question in each attempt until something is another, and another one then. */
async function holdsItsDigest(
  from: Subject,
): Promise<Record<'create' | 'change' | 'nothing' | 'remove', ProposedPlan>> {
  const create = await planOf('apply', from);
  expect((await planOf('apply', from)).digest).toBe(create.digest);
  expect((await planOf('apply', from, 'blue')).digest).not.toBe(create.digest);
  await attempt('apply', from).run();
  const nothing = await planOf('apply', from);
  expect(counts(nothing)).toEqual([false, 0, 0, 0]);
  const change = await planOf('apply', from, 'blue');
  expect((await planOf('apply', from, 'blue')).digest).toBe(change.digest);
  expect(change.digest).not.toBe(create.digest);
  const remove = await planOf('destroy', from);
  expect((await planOf('destroy', from)).digest).toBe(remove.digest);
  expect(remove.deleted).toBeGreaterThan(0);
  const all = { create, change, nothing, remove };
  for (const { digest, text, changes } of Object.values(all)) {
    expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/);
    expect(text).not.toContain(MARKER);
    expect(JSON.stringify(changes)).not.toContain(MARKER);
  }
  return all;
}
async function isGoneAfter(from: Subject): Promise<void> {
  const gone = attempt('destroy', from);
  await gone.run();
  expect(counts(await planOf('destroy', from))).toEqual([false, 0, 0, 0]);
}

it('terraform: the change set, with sensitive values hidden', async () => {
  const db = await subject(
    'database',
    'terraform-module',
    {
      'main.tf': `
variable "color" { type = string }
variable "password" {
  type      = string
  sensitive = true
}
resource "terraform_data" "one" { input = var.color }
resource "terraform_data" "two" { triggers_replace = [var.color, var.password] }
`,
    },
    { color: '{{ install.inputs.color }}', password: MARKER },
  );
  const { create, change, remove } = await holdsItsDigest(db);
  expect(counts(create)).toEqual([true, 2, 0, 0]);
  expect(create.text).toContain('terraform_data.one will be created');
  // A replacement is a deletion, too.
  expect(counts(change)).toEqual([true, 1, 1, 1]);
  expect(change.text).toContain('"red" -> "blue"');
  expect(remove.text).toContain('terraform_data.two will be destroyed');
  // A value that nobody can see is part of what the yes is to.
  const other = { ...db, values: { ...db.values, password: 'another-password' } };
  expect((await planOf('apply', other, 'blue')).digest).not.toBe(change.digest);
  await isGoneAfter(db);
});

const CONFIG = `
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { color: "COLOR", size: "1" }
`;
const SECRET = `
apiVersion: v1
kind: Secret
metadata: { name: hidden }
stringData: { password: "${MARKER}-COLOR" }
`;

it('manifests: objects, changed lines, what is no longer wanted', async () => {
  const color = '{{ install.inputs.color }}';
  const web = await subject('plain', 'kubernetes-manifests', {
    'a.yaml': CONFIG.replace('COLOR', color),
    'b.yaml': SECRET.replace('COLOR', color),
    'c.yaml': CONFIG.replace('settings', 'old'),
  });
  const { create, change, remove } = await holdsItsDigest(web);
  expect(counts(create)).toEqual([true, 3, 0, 0]);
  expect(create.text).toContain('create ConfigMap/settings\n  metadata:');
  expect(create.text).toContain('create Secret/hidden\n  keys: password');
  expect(counts(change)).toEqual([true, 0, 2, 0]);
  expect(change.text).toBe(
    [
      'update ConfigMap/settings',
      '  data.color: "red" -> "blue"',
      'update Secret/hidden',
      '  data.password: (hidden) -> (hidden)',
    ].join('\n'),
  );
  expect(remove.text).toContain('delete ConfigMap/settings\n');
  // Somebody changes what is there: the same manifests are another change now.
  await inCluster(world, 'PATCH', '/namespaces/plain/configmaps/settings', { data: { size: '2' } });
  const drifted = await planOf('apply', web, 'blue');
  expect(drifted.digest).not.toBe(change.digest);
  // And it is told who did.
  expect(drifted.text).toContain('  data.size: "2" -> "1" (set by stranger)');
  const less = await subject('plain', 'kubernetes-manifests', { 'a.yaml': CONFIG.replace('COLOR', color) });
  const fewer = await planOf('apply', less);
  expect(counts(fewer)).toEqual([true, 0, 1, 2]);
  expect(fewer.text).toMatch(/^delete Secret\/hidden\ndelete ConfigMap\/old\nupdate ConfigMap\/settings\n/);
  await isGoneAfter(web);
});

it('charts: parts of the release, and each value that changes', async () => {
  const web = await subject(
    'chart',
    'helm-chart',
    {
      'Chart.yaml': 'apiVersion: v2\nname: web\nversion: 0.1.0\n',
      'templates/a.yaml': CONFIG.replace('COLOR', '{{ .Values.color }}'),
      'templates/b.yaml': SECRET.replace('COLOR', '{{ .Values.color }}'),
    },
    { color: '{{ install.inputs.color }}' },
  );
  const { create, change, remove } = await holdsItsDigest(web);
  expect(counts(create)).toEqual([true, 2, 0, 0]);
  expect(counts(change)).toEqual([true, 0, 2, 0]);
  expect(change.text).toBe(
    [
      'update Secret/hidden',
      '  data.password: (hidden) -> (hidden)',
      'update ConfigMap/settings',
      '  data.color: "red" -> "blue"',
    ].join('\n'),
  );
  expect(remove.text).toContain('uninstall release chart\n');
  await isGoneAfter(web);
});

const jobOf = (): { image: string; command: string[]; args: string[]; timeout_seconds: number } => ({
  image: `${world.registry.host}/${APP}/job@${IMAGE_DIGEST}`,
  command: ['sh', '-c', 'exit 0'],
  args: [],
  timeout_seconds: 20,
});

it('jobs: what is run', async () => {
  const job = await subject('migrate', 'job', jobOf(), { COLOR: '{{ install.inputs.color }}' });
  const { create, change } = await holdsItsDigest(job);
  expect(create.text).toMatch(/^run Job\/shop-migrate-\w+\n/);
  expect(create.text).toContain(jobOf().image);
  // The finished Job of the old colour is removed for the new one.
  expect(counts(change)).toEqual([true, 1, 0, 1]);
  await isGoneAfter(job);
});

/** What a request is in RBAC's words: `get configmaps`. Discovery is left out. */
function rightOf({ method, path }: { readonly method: string; readonly path: string }): string | undefined {
  const [place = '', query = ''] = path.split('?');
  const found =
    /^\/(?:api|apis\/[^/]+)\/v[^/]+\/(?:namespaces\/[^/]+\/(?=.))?([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(place);
  if (found === null) return undefined;
  const [, resource = '', name, sub] = found;
  const read = query.includes('watch=') ? 'watch' : name === undefined ? 'list' : 'get';
  const remove = name === undefined ? 'deletecollection' : 'delete';
  const verb = { GET: read, POST: 'create', PUT: 'update', PATCH: 'patch', DELETE: remove }[method] ?? method;
  return `${verb} ${resource}${sub === undefined ? '' : `/${sub}`}`;
}

it('the cluster is asked for nothing but what the page of permissions says', async () => {
  const color = '{{ install.inputs.color }}';
  const cases: [ComponentKind, Subject][] = [
    [
      'kubernetes-manifests',
      await subject('rights', 'kubernetes-manifests', { 'a.yaml': CONFIG.replace('COLOR', color) }),
    ],
    ['job', await subject('rights-job', 'job', jobOf())],
    [
      'helm-chart',
      await subject(
        'rights-chart',
        'helm-chart',
        {
          'Chart.yaml': 'apiVersion: v2\nname: web\nversion: 0.1.0\n',
          'templates/a.yaml': CONFIG.replace('COLOR', '{{ .Values.color }}'),
        },
        { color },
      ),
    ],
  ];
  for (const [kind, each] of cases) {
    const before = world.kube.requests().length;
    await attempt('apply', each).run();
    await attempt('apply', each, 'blue').run();
    await attempt('destroy', each).run();
    const used = new Set(world.kube.requests().slice(before).map(rightOf));
    const own = ['configmaps', ...(kind === 'job' ? ['jobs'] : [])];
    const allowed = COMPONENT_NEEDS[kind].cluster.flatMap(({ resources, verbs }) =>
      verbs.flatMap((verb) => resources.flatMap((one) => (one === '*' ? own : [one])).map((one) => `${verb} ${one}`)),
    );
    expect([kind, ...[...used].filter((right) => right !== undefined && !allowed.includes(right))]).toEqual([kind]);
    expect(used.size).toBeGreaterThan(3);
  }
});

it('images: nothing to ask about, as nothing of the customer changes', async () => {
  const base = await subject('base', 'container-image', {});
  const plan = await planOf('apply', base);
  expect(counts(plan)).toEqual([false, 0, 0, 0]);
  expect(await attempt('apply', base).run()).toMatchObject({ changed: true, created: 1 });
  expect(counts(await planOf('destroy', base))).toEqual([false, 0, 0, 0]);
});
