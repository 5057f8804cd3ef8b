import type { Fields } from './objects.js';
import { KubeError } from './status.js';

/**
 * Clients that are compiled with Kubernetes' types send some requests as protobuf, whatever the answers are in: helm its
 * release Secret, `--create-namespace` and the options of a delete; `kubectl create job` and the like their object. Only
 * those messages are known here; a field that is not in the tables is refused, never dropped.
 * Field numbers: k8s.io/api/core/v1/generated.proto, k8s.io/apimachinery/pkg/apis/meta/v1/generated.proto.
 */
type Type = 'string' | 'bool' | 'int' | 'base64' | 'json' | 'time' | Message;
interface Field {
  name: string;
  type: Type;
  many?: 'list' | 'map';
}
type Message = Readonly<Record<number, Field>>;

const one = (name: string, type: Type): Field => ({ name, type });
const list = (name: string, type: Type): Field => ({ name, type, many: 'list' });
const map = (name: string, type: Type): Field => ({ name, type, many: 'map' });

const ownerReference: Message = {
  1: one('kind', 'string'),
  3: one('name', 'string'),
  4: one('uid', 'string'),
  5: one('apiVersion', 'string'),
  6: one('controller', 'bool'),
  7: one('blockOwnerDeletion', 'bool'),
};

const managedFields: Message = {
  1: one('manager', 'string'),
  2: one('operation', 'string'),
  3: one('apiVersion', 'string'),
  4: one('time', 'time'),
  6: one('fieldsType', 'string'),
  7: one('fieldsV1', { 1: one('raw', 'json') }),
  8: one('subresource', 'string'),
};

const metadata: Message = {
  1: one('name', 'string'),
  2: one('generateName', 'string'),
  3: one('namespace', 'string'),
  5: one('uid', 'string'),
  6: one('resourceVersion', 'string'),
  7: one('generation', 'int'),
  8: one('creationTimestamp', 'time'),
  9: one('deletionTimestamp', 'time'),
  11: map('labels', 'string'),
  12: map('annotations', 'string'),
  13: list('ownerReferences', ownerReference),
  14: list('finalizers', 'string'),
  17: list('managedFields', managedFields),
};

const labelSelector: Message = { 1: map('matchLabels', 'string') };

const container: Message = {
  1: one('name', 'string'),
  2: one('image', 'string'),
  3: list('command', 'string'),
  4: list('args', 'string'),
  14: one('imagePullPolicy', 'string'),
};

const podTemplate: Message = {
  1: one('metadata', metadata),
  2: one('spec', {
    2: list('containers', container),
    3: one('restartPolicy', 'string'),
    8: one('serviceAccountName', 'string'),
  }),
};

const MESSAGES: Readonly<Record<string, Message>> = {
  Secret: {
    1: one('metadata', metadata),
    2: map('data', 'base64'),
    3: one('type', 'string'),
    4: map('stringData', 'string'),
    5: one('immutable', 'bool'),
  },
  ConfigMap: {
    1: one('metadata', metadata),
    2: map('data', 'string'),
    3: map('binaryData', 'base64'),
    4: one('immutable', 'bool'),
  },
  ServiceAccount: { 1: one('metadata', metadata) },
  Job: {
    1: one('metadata', metadata),
    2: one('spec', {
      1: one('parallelism', 'int'),
      2: one('completions', 'int'),
      3: one('activeDeadlineSeconds', 'int'),
      6: one('template', podTemplate),
      7: one('backoffLimit', 'int'),
      8: one('ttlSecondsAfterFinished', 'int'),
    }),
  },
  Deployment: {
    1: one('metadata', metadata),
    2: one('spec', { 1: one('replicas', 'int'), 2: one('selector', labelSelector), 3: one('template', podTemplate) }),
  },
  Namespace: { 1: one('metadata', metadata), 2: one('spec', { 1: list('finalizers', 'string') }) },
  DeleteOptions: {
    1: one('gracePeriodSeconds', 'int'),
    2: one('preconditions', { 1: one('uid', 'string'), 2: one('resourceVersion', 'string') }),
    3: one('orphanDependents', 'bool'),
    4: one('propagationPolicy', 'string'),
    5: list('dryRun', 'string'),
  },
};

const MAGIC = Buffer.from([0x6b, 0x38, 0x73, 0x00]);

/** Decodes a request body to the JSON form of the object; 415 for a kind that is not in the table. */
export function decodeProtobuf(body: Buffer): Fields {
  if (!body.subarray(0, 4).equals(MAGIC)) throw new KubeError(400, 'BadRequest', 'not a Kubernetes protobuf message');
  let type: Fields = {};
  let raw: Buffer = Buffer.alloc(0);
  for (const { field, bytes } of fieldsIn(body.subarray(4))) {
    if (field === 1) type = decode(bytes, { 1: one('apiVersion', 'string'), 2: one('kind', 'string') });
    if (field === 2) raw = bytes;
  }
  const message = typeof type.kind === 'string' ? MESSAGES[type.kind] : undefined;
  if (message === undefined) {
    throw unsupported(`kind ${JSON.stringify(type.kind)}`);
  }
  return { ...type, ...decode(raw, message) };
}

const unsupported = (what: string): KubeError =>
  new KubeError(415, 'UnsupportedMediaType', `protobuf is not supported for ${what}; send JSON`);

function decode(bytes: Buffer, message: Message): Fields {
  const out: Fields = {};
  for (const part of fieldsIn(bytes)) {
    const field = message[part.field];
    if (field === undefined) {
      if (isBlank(part)) continue;
      throw unsupported(`field ${part.field} beside ${Object.values(message)[0]?.name ?? ''}`);
    }
    if (field.many === 'list') {
      const items = out[field.name];
      out[field.name] = [...(Array.isArray(items) ? (items as unknown[]) : []), valueOf(part, field.type)];
    } else if (field.many === 'map') {
      const entry = decode(part.bytes, { 1: one('key', 'string'), 2: one('value', field.type) });
      const empty = field.type === 'string' || field.type === 'base64' ? '' : undefined;
      const key = typeof entry.key === 'string' ? entry.key : '';
      out[field.name] = { ...(out[field.name] as Fields | undefined), [key]: entry.value ?? empty };
    } else {
      const value = valueOf(part, field.type);
      // In JSON what was never set is absent.
      if (value !== '' && value !== undefined) out[field.name] = value;
    }
  }
  return out;
}

/** Go writes fields and whole structs that were never set as zeros, or as messages full of them. */
function isBlank({ varint, bytes }: Part): boolean {
  if (varint !== 0) return false;
  try {
    return [...fieldsIn(bytes)].every(isBlank);
  } catch {
    return false;
  }
}

interface Part {
  field: number;
  varint: number;
  bytes: Buffer;
}

function valueOf(part: Part, type: Type): unknown {
  switch (type) {
    case 'string':
      return part.bytes.toString('utf8');
    case 'base64':
      return part.bytes.toString('base64');
    case 'json':
      return JSON.parse(part.bytes.toString('utf8')) as unknown;
    case 'bool':
      return part.varint !== 0;
    case 'int':
      return part.varint;
    case 'time': {
      const { seconds } = decode(part.bytes, { 1: one('seconds', 'int'), 2: one('nanos', 'int') });
      return typeof seconds === 'number' ? new Date(seconds * 1_000).toISOString().replace('.000Z', 'Z') : undefined;
    }
    default: {
      const value = decode(part.bytes, type);
      return 'raw' in value ? value.raw : value;
    }
  }
}

function* fieldsIn(bytes: Buffer): Generator<Part> {
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      if (byte === undefined) throw new KubeError(400, 'BadRequest', 'truncated protobuf message');
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  const take = (length: number): Buffer => {
    at += length;
    if (at > bytes.length) throw new KubeError(400, 'BadRequest', 'truncated protobuf message');
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = varint();
    const wire = tag & 7;
    const field = Math.floor(tag / 8);
    if (wire === 0) yield { field, varint: varint(), bytes: Buffer.alloc(0) };
    else if (wire === 2) yield { field, varint: 0, bytes: take(varint()) };
    else if (wire === 1) yield { field, varint: 0, bytes: take(8) };
    else if (wire === 5) yield { field, varint: 0, bytes: take(4) };
    else throw new KubeError(400, 'BadRequest', `protobuf wire type ${String(wire)} is not used by Kubernetes`);
  }
}
