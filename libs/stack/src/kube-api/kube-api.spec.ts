import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requireTool } from '../tools.js';
import { type KubeApi, type KubeApiOptions, startKubeApi } from './index.js';
import type { KubeObject } from './objects.js';

const HOST = 'registry.test:5000';
const GOOD = `${HOST}/shop@sha256:${'a'.repeat(64)}`;

const dir = mkdtempSync(join(tmpdir(), 'kube-api-'));
const started: KubeApi[] = [];

async function start(options: KubeApiOptions = {}): Promise<KubeApi> {
  const api = await startKubeApi({ allowedImageHosts: [HOST], ...options });
  started.push(api);
  return api;
}

afterEach(async () => {
  await Promise.all(started.splice(0).map((api) => api.stop()));
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

interface Answer {
  code: number;
  body: KubeObject & { items: KubeObject[]; message: string; details: { causes?: { field: string }[] } };
}

async function call(
  api: KubeApi,
  method: string,
  path: string,
  body?: unknown,
  type = 'application/json',
): Promise<Answer> {
  const response = await fetch(api.url + path, {
    method,
    headers: { 'content-type': type },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { code: response.status, body: (await response.json()) as Answer['body'] };
}

const CONFIGS = '/api/v1/namespaces/default/configmaps';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/default/deployments';
const config = (name: string, labels: Record<string, string> = {}) => ({
  metadata: { name, labels },
  data: { a: '1' },
});
const deployment = (image: string, spec: object = {}) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'shop' },
  spec: {
    selector: { matchLabels: { app: 'shop' } },
    template: { metadata: { labels: { app: 'shop' } }, spec: { containers: [{ name: 'main', image }] } },
    ...spec,
  },
});

interface WatchEvent {
  type: string;
  object: KubeObject & { code?: number };
}

/** Follows a watch until it is left or cut; `events` fills while it goes. */
function watch(api: KubeApi, query: string): { events: WatchEvent[]; leave: () => void; ended: Promise<void> } {
  const abort = new AbortController();
  const events: WatchEvent[] = [];
  const follow = async (): Promise<void> => {
    const response = await fetch(`${api.url}${CONFIGS}?watch=true&${query}`, { signal: abort.signal });
    let rest = '';
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      const lines = (rest + Buffer.from(chunk).toString('utf8')).split('\n');
      rest = lines.pop() ?? '';
      events.push(...lines.map((line) => JSON.parse(line) as WatchEvent));
    }
  };
  return { events, leave: () => abort.abort(), ended: follow().catch(() => undefined) };
}

const shown = (events: WatchEvent[]): string[] => events.map(({ type, object }) => `${type} ${object.metadata.name}`);

async function until<T>(look: () => T | undefined | false): Promise<T> {
  for (let left = 400; left > 0; left -= 1) {
    const found = look();
    if (found !== undefined && found !== false) return found;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error('the condition did not come true in 4 s');
}

const find = (api: KubeApi, kind: string, name: string): KubeObject | undefined =>
  api.objects().find((object) => object.kind === kind && object.metadata.name === name);

describe('image policy', () => {
  const reasonOf = (api: KubeApi): Promise<unknown> =>
    until(() => {
      const pod = api.objects().find((object) => object.kind === 'Pod');
      const states = pod?.status?.containerStatuses as { state: { waiting?: { reason: string } } }[] | undefined;
      const state = states?.[0]?.state;
      return state === undefined ? undefined : (state.waiting?.reason ?? 'Running');
    });

  it.each([
    ['a tag', `${HOST}/shop:1.0`, 'ImagePullBackOff'],
    ['a name alone', 'nginx', 'ImagePullBackOff'],
    ['another host, by digest', `docker.io/library/nginx@sha256:${'a'.repeat(64)}`, 'ImagePullBackOff'],
    ['a digest of an allowed host', GOOD, 'Running'],
  ])('%s', async (_what, image, expected) => {
    const api = await start();
    await call(api, 'POST', DEPLOYMENTS, deployment(image));
    expect(await reasonOf(api)).toBe(expected);
  });

  it('never gets a bad version ready, keeps the old one up, and says why', async () => {
    const api = await start();
    await call(api, 'POST', DEPLOYMENTS, deployment(GOOD, { progressDeadlineSeconds: 1 }));
    const condition = (type: string): Record<string, unknown> | undefined =>
      (find(api, 'Deployment', 'shop')?.status?.conditions as Record<string, unknown>[] | undefined)?.find(
        (one) => one.type === type,
      );
    await until(() => condition('Progressing')?.reason === 'NewReplicaSetAvailable');
    await call(
      api,
      'PATCH',
      `${DEPLOYMENTS}/shop`,
      deployment('shop:2', { progressDeadlineSeconds: 1 }),
      'application/merge-patch+json',
    );
    await until(() => condition('Progressing')?.reason === 'ProgressDeadlineExceeded');
    expect(condition('Available')?.status).toBe('True');
    expect(find(api, 'Deployment', 'shop')?.status).toMatchObject({
      replicas: 2,
      readyReplicas: 1,
      unavailableReplicas: 1,
    });
    const event = api.objects().find((object) => object.kind === 'Event');
    expect(event?.message).toContain('"shop:2" is not named by digest');
  });
});

describe('helm with an image that cannot be pulled', () => {
  it('fails the upgrade and returns to the release before', async () => {
    const api = await start({ token: 'sesame' });
    const helm = (await requireTool('helm')).path;
    const env = { HOME: dir, KUBECONFIG: api.kubeconfig(join(dir, 'kubeconfig-helm')) };
    const chart = join(dir, 'chart');
    mkdirSync(join(chart, 'templates'), { recursive: true });
    writeFileSync(join(chart, 'Chart.yaml'), '{"apiVersion":"v2","name":"shop","version":"1.0.0"}');
    writeFileSync(join(chart, 'templates/all.yaml'), JSON.stringify(deployment('{{ .Values.image }}')));
    const run = (...args: string[]): Promise<string> =>
      new Promise((resolve, reject) => {
        execFile(helm, args, { env }, (error, out, err) =>
          error === null ? resolve(out) : reject(new Error(err.slice(0, 2_000))),
        );
      });
    await run('install', 'shop', chart, `--set=image=${GOOD}`, '--wait', '--timeout=10s');
    const upgrade = run('upgrade', 'shop', chart, '--set=image=nginx', '--rollback-on-failure', '--timeout=1s');
    await expect(upgrade).rejects.toThrow(/rolled back/);
    const history = JSON.parse(await run('history', 'shop', '-o', 'json')) as { status: string }[];
    expect(history.map((entry) => entry.status)).toEqual(['superseded', 'failed', 'deployed']);
    expect(JSON.stringify(find(api, 'Deployment', 'shop')?.spec)).toContain(GOOD);
  });
});

describe('watch', () => {
  it('starts with everything, marks the end of it, and follows', async () => {
    const api = await start();
    await call(api, 'POST', CONFIGS, config('one', { part: 'x' }));
    const query =
      'labelSelector=part&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan';
    const { events, leave, ended } = watch(api, query);
    await until(() => events.length === 2);
    await call(api, 'POST', CONFIGS, config('two', { part: 'x' }));
    // An object that leaves the selection is gone as far as this watcher can see.
    await call(api, 'PUT', `${CONFIGS}/two`, config('two'));
    await until(() => events.length === 4);
    expect(shown(events)).toEqual(['ADDED one', 'BOOKMARK undefined', 'ADDED two', 'DELETED two']);
    expect(events[1]?.object.metadata.annotations).toEqual({ 'k8s.io/initial-events-end': 'true' });
    leave();
    await ended;
  });

  it('resumes after a cut without losing an event, and refuses a revision that it cannot resume from', async () => {
    const api = await start();
    const first = await call(api, 'POST', CONFIGS, config('one', { part: 'x' }));
    const cut = watch(api, 'labelSelector=part&resourceVersion=0');
    await until(() => cut.events.length === 1);
    api.disconnect();
    await cut.ended;
    await call(api, 'POST', CONFIGS, config('two', { part: 'x' }));
    await call(api, 'DELETE', `${CONFIGS}/one`);
    const resumed = watch(api, `labelSelector=part&resourceVersion=${first.body.metadata.resourceVersion}`);
    await until(() => resumed.events.length === 2);
    expect(shown(resumed.events)).toEqual(['ADDED two', 'DELETED one']);
    resumed.leave();
    const refused = watch(api, 'resourceVersion=99999');
    await refused.ended;
    expect(refused.events).toMatchObject([{ type: 'ERROR', object: { code: 410, reason: 'Expired' } }]);
  });
});

describe('state', () => {
  it('survives a restart: objects, revision, certificate, and work that was under way', async () => {
    const state = join(dir, 'state');
    const options = { dir: state, token: 'sesame' };
    const before = await start(options);
    const port = Number(new URL(before.url).port);
    const kubeconfig = before.kubeconfig(join(dir, 'kubeconfig-restart'));
    const kubectl = (await requireTool('kubectl')).path;
    const run = (...args: string[]): Promise<string> =>
      new Promise((resolve, reject) => {
        const env = { HOME: dir, KUBECONFIG: kubeconfig };
        execFile(kubectl, args, { env }, (error, out, err) => (error === null ? resolve(out) : reject(new Error(err))));
      });
    writeFileSync(join(dir, 'shop.json'), JSON.stringify(deployment(GOOD, { replicas: 3 })));
    await run('apply', '-f', join(dir, 'shop.json'));
    const uid = find(before, 'Deployment', 'shop')?.metadata.uid;
    await before.stop();
    const latest = Math.max(...before.objects().map((object) => Number(object.metadata.resourceVersion)));

    const after = await start({ ...options, port });
    expect(find(after, 'Deployment', 'shop')?.metadata.uid).toBe(uid);
    await run('rollout', 'status', 'deployment/shop', '--timeout=5s');
    expect(await run('apply', '-f', join(dir, 'shop.json'))).toContain('unchanged');
    // Revisions go on from where they were: a client that still knows an old one must not take a new object for older.
    await run('create', 'configmap', 'later');
    expect(Number(find(after, 'ConfigMap', 'later')?.metadata.resourceVersion)).toBeGreaterThan(latest);
  });
});

describe('the door', () => {
  it('asks for the token, over TLS, and for nothing else', async () => {
    const api = await start({ token: 'sesame' });
    expect(api.url).toMatch(/^https:/);
    const kubectl = (await requireTool('kubectl')).path;
    const as = (token: string): Promise<string> =>
      new Promise((resolve) => {
        const env = { HOME: join(dir, token), KUBECONFIG: api.kubeconfig(join(dir, 'kubeconfig-door')) };
        execFile(kubectl, ['get', '--raw', '/api', '--token', token], { env }, (_error, out, err) =>
          resolve(out + err),
        );
      });
    expect(await as('wrong')).toContain('You must be logged in');
    expect(await as('sesame')).toContain('APIVersions');
    expect(JSON.stringify(api.requests())).not.toContain('sesame');
  });

  it('fails on demand, as often as asked', async () => {
    const api = await start();
    api.fail({ method: 'POST', path: /configmaps$/, code: 503, times: 2 });
    const codes = [];
    for (let i = 0; i < 3; i += 1) codes.push((await call(api, 'POST', CONFIGS, config('one'))).code);
    expect(codes).toEqual([503, 503, 201]);
  });

  it('keeps a record of requests without their bodies', async () => {
    const api = await start();
    await call(api, 'POST', `${CONFIGS}?fieldManager=me`, config('one'));
    const [record] = await until(() => api.requests()[0]?.status !== 0 && api.requests());
    expect(record).toMatchObject({ method: 'POST', path: CONFIGS, query: '?fieldManager=me', status: 201 });
  });
});

describe('objects', () => {
  it('makes names, pages, and refuses what is wrong with a cause for each field', async () => {
    const api = await start();
    const made = await call(api, 'POST', CONFIGS, { metadata: { generateName: 'x-' } });
    expect(made.body.metadata.name).toMatch(/^x-[a-z0-9]{5}$/);
    for (const name of ['p1', 'p2', 'p3']) await call(api, 'POST', CONFIGS, config(name, { page: 'a' }));
    const first = await call(api, 'GET', `${CONFIGS}?labelSelector=page%3Da&limit=2`);
    const next = (first.body.metadata as unknown as { continue: string }).continue;
    const second = await call(api, 'GET', `${CONFIGS}?labelSelector=page%3Da&limit=2&continue=${next}`);
    expect([...first.body.items, ...second.body.items].map((o) => o.metadata.name)).toEqual(['p1', 'p2', 'p3']);

    expect((await call(api, 'POST', CONFIGS, config('p1'))).body.message).toContain('already exists');
    const bad = await call(
      api,
      'POST',
      DEPLOYMENTS,
      deployment('', { replicas: -1, selector: { matchLabels: { app: 'x' } } }),
    );
    expect(bad.code).toBe(422);
    expect(bad.body.details.causes?.map((cause) => cause.field)).toEqual([
      'spec.template.spec.containers[0].image',
      'spec.replicas',
      'spec.template.metadata.labels',
    ]);
  });

  it('goes only when its finalizers are gone', async () => {
    const api = await start();
    await call(api, 'POST', CONFIGS, { metadata: { name: 'held', finalizers: ['ims.test/hold'] } });
    const marked = await call(api, 'DELETE', `${CONFIGS}/held`);
    expect(marked.body.metadata.deletionTimestamp).toBeDefined();
    expect(find(api, 'ConfigMap', 'held')).toBeDefined();
    await call(api, 'PATCH', `${CONFIGS}/held`, { metadata: { finalizers: null } }, 'application/merge-patch+json');
    expect(find(api, 'ConfigMap', 'held')).toBeUndefined();
  });

  it('takes its owner along only when it is gone itself, if the owner waits for it', async () => {
    const api = await start();
    const owner = (await call(api, 'POST', CONFIGS, config('owner'))).body;
    const { name, uid } = owner.metadata;
    const ownerReferences = [{ apiVersion: 'v1', kind: 'ConfigMap', name, uid, blockOwnerDeletion: true }];
    const finalizers = ['ims.test/hold'];
    await call(api, 'POST', CONFIGS, { metadata: { name: 'owned', ownerReferences, finalizers } });
    await call(api, 'DELETE', `${CONFIGS}/owner`, { propagationPolicy: 'Foreground' });
    await until(() => find(api, 'ConfigMap', 'owned')?.metadata.deletionTimestamp !== undefined);
    expect(find(api, 'ConfigMap', 'owner')).toBeDefined();
    await call(api, 'PATCH', `${CONFIGS}/owned`, { metadata: { finalizers: null } }, 'application/merge-patch+json');
    await until(() => find(api, 'ConfigMap', 'owned') === undefined && find(api, 'ConfigMap', 'owner') === undefined);
  });
});
