import { parseManifests, identityOf, placeOf, type KubeObject } from './objects.js';
import { readinessOf, troublesOf } from './readiness.js';

const object = (kind: string, spec: object, status: object, generation = 1): KubeObject => ({
  apiVersion: 'apps/v1',
  kind,
  metadata: { name: 'x', generation },
  spec,
  status,
});
const condition = (type: string, more: object = {}): object => ({ type, status: 'True', ...more });
const two = { replicas: 2 };
const full = { observedGeneration: 1, replicas: 2, updatedReplicas: 2, availableReplicas: 2, readyReplicas: 2 };

describe('readiness', () => {
  it.each<[string, KubeObject, string, RegExp]>([
    ['another kind', object('ConfigMap', {}, {}), 'ready', /^$/],
    ['a deployment', object('Deployment', two, full), 'ready', /^$/],
    ['one scaled to none', object('Deployment', { replicas: 0 }, { observedGeneration: 1 }), 'ready', /^$/],
    ['an unseen change', object('Deployment', two, full, 2), 'waiting', /not seen/],
    ['a roll-out', object('Deployment', two, { ...full, updatedReplicas: 1 }), 'waiting', /1 of 2 pods are updated/],
    ['old pods', object('Deployment', two, { ...full, replicas: 3 }), 'waiting', /1 old pods/],
    ['no pods', object('Deployment', two, { ...full, availableReplicas: 0 }), 'waiting', /0 of 2 pods are available/],
    [
      'no progress',
      object('Deployment', two, {
        ...full,
        conditions: [condition('Progressing', { reason: 'ProgressDeadlineExceeded' })],
      }),
      'failed',
      /progress/,
    ],
    ['a stateful set', object('StatefulSet', two, full), 'ready', /^$/],
    ['one in a roll-out', object('StatefulSet', two, { ...full, updatedReplicas: 1 }), 'waiting', /updated/],
    [
      'one up to its partition',
      object(
        'StatefulSet',
        { ...two, updateStrategy: { type: 'RollingUpdate', rollingUpdate: { partition: 1 } } },
        { ...full, updatedReplicas: 1 },
      ),
      'ready',
      /^$/,
    ],
    [
      'a daemon set',
      object(
        'DaemonSet',
        {},
        { observedGeneration: 1, desiredNumberScheduled: 3, updatedNumberScheduled: 3, numberAvailable: 2 },
      ),
      'waiting',
      /2 of 3 pods are available/,
    ],
    ['a job that runs', object('Job', {}, { active: 1 }), 'waiting', /not done/],
    ['a job that is done', object('Job', {}, { conditions: [condition('Complete')] }), 'ready', /^$/],
    [
      'a job that failed',
      object('Job', {}, { conditions: [condition('Failed', { message: 'why' })] }),
      'failed',
      /why/,
    ],
    ['a job that was suspended', object('Job', { suspend: true }, {}), 'ready', /^$/],
  ])('%s', (_, given, state, why) => {
    expect(readinessOf(given)).toMatchObject({ state, why: expect.stringMatching(why) as string });
  });

  it('names what keeps the pods of a workload from working, each cause once', () => {
    const pod = (app: string, state: object): KubeObject => ({
      ...object('Pod', {}, { containerStatuses: [{ name: 'main', state }] }),
      metadata: { name: `${app}-pod`, labels: { app } },
    });
    const pull = { waiting: { reason: 'ErrImagePull', message: 'no such image' } };
    const pods = [
      pod('x', pull),
      pod('x', pull),
      pod('x', { terminated: { exitCode: 3 } }),
      pod('x', { terminated: { exitCode: 0 } }),
      pod('x', { waiting: { reason: 'ContainerCreating' } }),
      pod('other', pull),
    ];
    const owner = object('Deployment', { selector: { matchLabels: { app: 'x' } } }, {});
    expect(troublesOf(owner, pods)).toEqual([
      'Deployment/x: container main: ErrImagePull: no such image',
      'Deployment/x: container main ended with exit code 3',
    ]);
    expect(troublesOf(object('Deployment', {}, {}), pods)).toEqual([]);
  });
});

describe('objects', () => {
  it('are the same in every version of their API', () => {
    const beta = { ...object('Ingress', {}, {}), apiVersion: 'networking.k8s.io/v1beta1' };
    const stable = { ...beta, apiVersion: 'networking.k8s.io/v1' };
    expect(placeOf(stable, 'shop')).toEqual({ namespace: 'shop', reference: 'Ingress.v1.networking.k8s.io/x' });
    expect(identityOf(placeOf(beta, 'shop'))).toBe(identityOf(placeOf(stable, 'shop')));
    expect(identityOf(placeOf(beta, 'shop'))).not.toBe(identityOf(placeOf({ ...beta, apiVersion: 'v1' }, 'shop')));
    expect(identityOf(placeOf(beta, 'shop'))).not.toBe(identityOf(placeOf(beta, 'other')));
  });

  it('are read as YAML 1.1 with merges, and a fault names its file', () => {
    const text = 'a: &x { mode: 0644, on: yes }\nb: { <<: *x, day: 2026-11-24, time: 1:30 }\n---\n---\nc: "0644"';
    const a = { mode: 420, true: true };
    expect(parseManifests(text, 'f.yaml')).toEqual([
      { a, b: { ...a, day: '2026-11-24', time: '1:30' } },
      { c: '0644' },
    ]);
    expect(() => parseManifests('a: [', 'f.yaml')).toThrow(/f\.yaml/);
  });
});
