import { jsonPatch, mergePatch, strategicPatch } from './patch.js';
import { decodeProtobuf } from './protobuf.js';
import { schemas } from './schema.js';
import { fieldSelector, labelSelector } from './selectors.js';
import type { KubeObject } from './objects.js';

describe('strategic merge patch', () => {
  const patch = (target: object, change: object): unknown =>
    strategicPatch({ spec: target }, { spec: change }, schemas.pod);

  it.each([
    [
      'merges items by key',
      { containers: [{ name: 'a', image: '1' }] },
      { containers: [{ name: 'a', tty: true }] },
      {
        containers: [{ name: 'a', image: '1', tty: true }],
      },
    ],
    [
      'deletes an item',
      { containers: [{ name: 'a' }, { name: 'b' }] },
      { containers: [{ name: 'a', $patch: 'delete' }] },
      {
        containers: [{ name: 'b' }],
      },
    ],
    [
      'replaces a list',
      { containers: [{ name: 'a' }] },
      { containers: [{ $patch: 'replace' }, { name: 'b' }] },
      {
        containers: [{ name: 'b' }],
      },
    ],
    [
      'orders a list',
      { containers: [{ name: 'a' }, { name: 'b' }] },
      {
        '$setElementOrder/containers': [{ name: 'c' }, { name: 'b' }, { name: 'a' }],
        containers: [{ name: 'c' }],
      },
      { containers: [{ name: 'c' }, { name: 'b' }, { name: 'a' }] },
    ],
    [
      'keeps only named keys',
      { strategy: { type: 'x', rolling: 1 } },
      { strategy: { $retainKeys: ['type'], type: 'y' } },
      {
        strategy: { type: 'y' },
      },
    ],
    [
      'deletes from a list of scalars',
      { list: ['a', 'b'] },
      { '$deleteFromPrimitiveList/list': ['a'] },
      { list: ['b'] },
    ],
    [
      'replaces other lists',
      { tolerations: [{ key: 'a' }] },
      { tolerations: [{ key: 'b' }] },
      { tolerations: [{ key: 'b' }] },
    ],
    ['removes with null', { a: 1, b: 2 }, { a: null }, { b: 2 }],
  ])('%s', (_what, target, change, expected) => {
    expect(patch(target, change)).toEqual({ spec: expected });
  });
});

describe('other patches', () => {
  it('merge patch: the examples of RFC 7386', () => {
    expect(mergePatch({ a: { b: 'c' } }, { a: { b: 'd', c: null } })).toEqual({ a: { b: 'd' } });
    expect(mergePatch({ a: [{ b: 'c' }] }, { a: [1] })).toEqual({ a: [1] });
    expect(mergePatch({ e: null }, { a: 1 })).toEqual({ e: null, a: 1 });
  });

  it('JSON patch: every operation, and a refusal that changes nothing', () => {
    const target = { list: ['a', 'c'], 'x/y': 1, gone: 1 };
    const operations = [
      { op: 'test', path: '/x~1y', value: 1 },
      { op: 'add', path: '/list/1', value: 'b' },
      { op: 'add', path: '/list/-', value: 'd' },
      { op: 'replace', path: '/x~1y', value: 2 },
      { op: 'move', from: '/gone', path: '/here' },
      { op: 'copy', from: '/here', path: '/there' },
      { op: 'remove', path: '/list/0' },
    ];
    expect(jsonPatch(target, operations)).toEqual({ list: ['b', 'c', 'd'], 'x/y': 2, here: 1, there: 1 });
    expect(() => jsonPatch(target, [{ op: 'test', path: '/gone', value: 2 }])).toThrow('testing value /gone failed');
    expect(() => jsonPatch(target, [{ op: 'remove', path: '/none' }])).toThrow('not there');
    expect(target).toEqual({ list: ['a', 'c'], 'x/y': 1, gone: 1 });
  });
});

describe('selectors', () => {
  const object = {
    metadata: { name: 'n', labels: { a: '1', b: '2' } },
    status: { phase: 'Running' },
  } as unknown as KubeObject;

  it.each([
    ['', true],
    ['a=1,b==2', true],
    ['a!=1', false],
    ['a in (1, 3),b notin (1,3)', true],
    ['a,!c', true],
    ['c notin (1)', true],
  ])('labels: %s', (text, expected) => {
    expect(labelSelector(text)(object)).toBe(expected);
  });

  it('fields, and a refusal of what cannot be read', () => {
    expect(fieldSelector('metadata.name=n,status.phase!=Failed')(object)).toBe(true);
    expect(fieldSelector('metadata.name=m')(object)).toBe(false);
    expect(() => labelSelector('a ~ b')).toThrow('unable to parse');
  });
});

describe('protobuf', () => {
  const bytes = (field: number, value: Buffer | string): Buffer =>
    Buffer.concat([Buffer.from([field * 8 + 2, value.length]), Buffer.from(value)]);
  const message = (kind: string, raw: Buffer): Buffer =>
    Buffer.concat([Buffer.from('k8s\0'), bytes(1, Buffer.concat([bytes(1, 'v1'), bytes(2, kind)])), bytes(2, raw)]);

  it('reads a Secret as helm sends it', () => {
    const labels = bytes(11, Buffer.concat([bytes(1, 'owner'), bytes(2, 'helm')]));
    const metadata = Buffer.concat([bytes(1, 'release'), bytes(2, ''), labels, bytes(8, '')]);
    const data = bytes(2, Buffer.concat([bytes(1, 'release'), bytes(2, 'bytes')]));
    expect(
      decodeProtobuf(message('Secret', Buffer.concat([bytes(1, metadata), data, bytes(3, 'helm.sh/v1')]))),
    ).toEqual({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'release', labels: { owner: 'helm' } },
      data: { release: Buffer.from('bytes').toString('base64') },
      type: 'helm.sh/v1',
    });
  });

  it('refuses a field that it would have to drop, a kind that it does not know, and half a message', () => {
    const job = message('Job', bytes(2, bytes(6, bytes(2, bytes(1, 'volumes')))));
    expect(() => decodeProtobuf(job)).toThrow('protobuf is not supported for field 1');
    expect(() => decodeProtobuf(message('Ingress', Buffer.alloc(0)))).toThrow('kind "Ingress"');
    expect(() => decodeProtobuf(message('Secret', Buffer.from([10, 200])))).toThrow('truncated');
  });
});
