import { getMetadataStorage } from 'class-validator';
import fc from 'fast-check';
import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import {
  CONTRACTS,
  ERROR_CODES,
  ERRORS,
  hashEvent,
  ID_PREFIX,
  ImsError,
  isId,
  JOB_SHARD_NAMES,
  LogFrame,
  LogPage,
  readLogFrame,
  readLogPage,
  jobStream,
  newId,
  openEnvelope,
  parse,
  PAYLOAD_TYPES,
  SERVICES,
  shardOf,
  signEnvelope,
  STREAMS,
  subjectFilter,
  subjectOf,
  subjectParts,
  type AnyContract,
  type Class,
  type Event,
  type IdKind,
  type JsonObject,
} from './index.js';

const GOLDEN = new URL('golden/', import.meta.url);
interface Golden {
  readonly subject: string;
  readonly body: JsonObject;
  readonly reply?: JsonObject;
}
const fileOf = (contract: AnyContract): string => `${contract.name}.v${contract.version}.json`;
const goldenOf = (contract: AnyContract): Golden =>
  JSON.parse(readFileSync(new URL(fileOf(contract), GOLDEN), 'utf8')) as Golden;

/** JSON pointers of the values in a sample, `-` for every element of a list. */
function pointersOf(value: unknown, at = ''): string[] {
  if (Array.isArray(value)) return value.flatMap((item) => pointersOf(item, `${at}/-`));
  if (typeof value !== 'object' || value === null) return [at];
  return [at, ...Object.entries(value).flatMap(([key, inner]) => pointersOf(inner, `${at}/${key}`))];
}

/** Pointers of the declared fields that a sample does not show, as far down as its values have a class of their own. */
function undeclaredIn(instance: object, at = ''): string[] {
  const type = instance.constructor as Class<object>;
  const fields = getMetadataStorage().getTargetValidationMetadatas(type, '', false, false);
  return [...new Set(fields.map((field) => field.propertyName))].flatMap((name) => {
    const value = (instance as Record<string, unknown>)[name];
    if (value === undefined) return [`${at}/${name}`];
    const inner = (Array.isArray(value) ? value : [value]) as unknown[];
    return inner.flatMap((item) =>
      typeof item === 'object' && item !== null && item.constructor !== Object
        ? undeclaredIn(item, `${at}/${name}`)
        : [],
    );
  });
}

describe('golden samples: what is on the wire today stays readable', () => {
  test('every sample belongs to a contract', () => {
    expect(readdirSync(GOLDEN).sort()).toEqual(CONTRACTS.map(fileOf).sort());
  });

  describe.each(CONTRACTS.map((contract) => [`${contract.name}/${contract.version}`, contract] as const))(
    '%s',
    (_, contract) => {
      const shapes: [string, Class<object>, 'body' | 'reply'][] = [
        ['body', contract.body, 'body'],
        ...(contract.type === 'call' ? [['reply', contract.reply, 'reply'] as [string, Class<object>, 'reply']] : []),
      ];
      test.each(shapes)('%s: read strictly, written again the same', (_name, type, part) => {
        const sample = goldenOf(contract)[part];
        const read = parse(type, sample, 'strict');
        expect(JSON.parse(JSON.stringify(read))).toEqual(sample);
      });
      test.each(shapes)('%s: the sample shows every field (add a value for a new one)', (_name, type, part) => {
        expect(undeclaredIn(parse(type, goldenOf(contract)[part], 'strict'))).toEqual([]);
      });
      test.each(shapes)(
        '%s: an old reader survives fields of a newer writer, a strict one names them',
        (_name, type, part) => {
          const sample = goldenOf(contract)[part];
          const newer = { ...sample, a_field_of_the_future: 1 };
          expect(JSON.parse(JSON.stringify(parse(type, newer, 'tolerant')))).toEqual(sample);
          expect(() => parse(type, newer, 'strict')).toThrow('/a_field_of_the_future unknown field');
        },
      );
      test('the subject fits, and its ids are those of the body', () => {
        const { subject, body } = goldenOf(contract);
        const parts = subjectParts(contract, subject);
        expect(parts).toBeDefined();
        expect(subjectOf(contract, parts ?? {})).toBe(subject);
        for (const [part, id] of Object.entries(parts ?? {})) expect(body[`${part}_id`] ?? id).toBe(id);
        expect(pointersOf(body)).toContain('');
      });
    },
  );
});

/** Whether a subject may fit both patterns (`*` or `{part}`: any one token, `>`: the rest). */
function overlap(a: string, b: string): boolean {
  const [left, right] = [a.split('.'), b.split('.')];
  for (let i = 0; ; i++) {
    const [x, y] = [left[i], right[i]];
    if (x === '>' || y === '>') return x !== undefined && y !== undefined;
    if (x === undefined || y === undefined) return x === y;
    const any = (token: string): boolean => token === '*' || token.startsWith('{');
    if (x !== y && !any(x) && !any(y)) return false;
  }
}

describe('subjects', () => {
  test('no two contracts share one, nor a name', () => {
    const shared = CONTRACTS.flatMap((a, i) =>
      CONTRACTS.slice(i + 1).flatMap((b) => (overlap(a.subject, b.subject) ? [`${a.name} and ${b.name}`] : [])),
    );
    expect(shared).toEqual([]);
    expect(new Set(CONTRACTS.map(fileOf)).size).toBe(CONTRACTS.length);
  });

  test('each stream message is held by its own stream and by no other; calls and signals by none', () => {
    const held: [string, string][] = [
      ...Object.entries(STREAMS).flatMap(([name, { subjects }]) => subjects.map((s): [string, string] => [name, s])),
      ...JOB_SHARD_NAMES.flatMap((shard) => jobStream(shard).subjects.map((s): [string, string] => ['JOBS', s])),
    ];
    for (const contract of CONTRACTS) {
      const names = held.filter(([, subject]) => overlap(subjectFilter(contract), subject)).map(([name]) => name);
      expect([contract.name, [...new Set(names)]]).toEqual([
        contract.name,
        contract.type === 'stream' ? [contract.stream] : [],
      ]);
    }
  });

  test('what an agent sends names the agent, so that one wildcard limits it', () => {
    for (const contract of CONTRACTS) {
      const byAgents = contract.from.includes('build') || contract.from.includes('install');
      if (byAgents) expect([contract.name, contract.subject.split('.')[3]]).toEqual([contract.name, '{agent}']);
    }
  });

  test('nothing but [a-z0-9_] becomes a token', () => {
    const contract = { name: 'x', subject: 'ims.v1.control.{agent}.stop' };
    for (const agent of ['*', '>', 'a.b', 'a b', '', 'A', 'agt-1', 'agt_1\n']) {
      expect(() => subjectOf(contract, { agent })).toThrow('subject part {agent}');
      expect(() => subjectFilter(contract, { agent })).toThrow('subject part {agent}');
    }
    expect(() => subjectOf(contract, {})).toThrow('subject part {agent}');
    expect(subjectParts(contract, 'ims.v1.control.a.b.stop')).toBeUndefined();
    expect(subjectParts(contract, 'ims.v1.control.a.go')).toBeUndefined();
  });

  test('an agent’s shard is one of the declared ones, for ever the same', () => {
    expect(shardOf('agt_01jz8q4m7xe2vaj3k5n9p0r009')).toBe('07');
    for (let i = 0; i < 200; i++) expect(JOB_SHARD_NAMES).toContain(shardOf(newId('agent')));
  });
});

describe('parties', () => {
  test.each(CONTRACTS.map((contract) => [contract.name, contract] as const))(
    '%s has a sender and a receiver',
    (_, contract) => {
      expect(contract.from.length).toBeGreaterThan(0);
      if (contract.type === 'signal') expect(contract.to.length).toBeGreaterThan(0);
      if (contract.type === 'call') expect(SERVICES).toContain(contract.servedBy);
      // Offers are pulled by the agents' own consumers.
      if (contract.type === 'stream' && contract.stream !== 'JOBS')
        expect(contract.consumers.length).toBeGreaterThan(0);
    },
  );
});

describe('errors', () => {
  test.each(ERROR_CODES)('%s has a sentence that says what happened, and one that says what to do', (code) => {
    const { status, title, next } = ERRORS[code];
    expect(code).toMatch(/^[a-z]+(_[a-z]+)*$/);
    expect(status).toBeGreaterThanOrEqual(400);
    expect(status).toBeLessThan(600);
    for (const sentence of [title, next]) expect(sentence).toMatch(/^[A-Z`].{8,140}\.$/);
  });

  test('crosses the wire whole; a code of a newer peer becomes internal and keeps its name', () => {
    const error = new ImsError('invalid_request', 'bad', [{ pointer: '/a', message: 'no' }]);
    const back = ImsError.fromWire(JSON.parse(JSON.stringify(error.toWire())) as ReturnType<ImsError['toWire']>);
    expect(back).toMatchObject({ code: 'invalid_request', detail: 'bad', errors: error.errors });
    const newer = { code: 'of_the_future', detail: 'x' } as unknown as ReturnType<ImsError['toWire']>;
    expect(ImsError.fromWire(newer)).toMatchObject({ code: 'internal', detail: 'of_the_future: x' });
  });

  test('a fault of ours shows its title, not its cause', () => {
    const error = ImsError.of(new Error('password=hunter2'));
    expect(error.code).toBe('internal');
    expect(JSON.stringify(error.toWire())).not.toContain('hunter2');
  });
});

const KINDS = Object.keys(ID_PREFIX) as IdKind[];
describe('ids', () => {
  test('have their kind, and no other', () => {
    fc.assert(
      fc.property(fc.constantFrom(...KINDS), fc.constantFrom(...KINDS), (kind, other) => {
        const id = newId(kind);
        expect(isId(kind, id)).toBe(true);
        expect(isId(other, id)).toBe(kind === other);
        expect(id).toMatch(/^[a-z0-9_]+$/);
      }),
    );
  });

  test('a changed character, a prefix, a suffix or any other text is no id where it leaves [a-z0-9_]', () => {
    fc.assert(
      fc.property(fc.constantFrom(...KINDS), fc.nat(29), fc.constantFrom(...'*>. \n/ABI'), (kind, at, bad) => {
        const id = newId(kind);
        expect(isId(kind, id.slice(0, at) + bad + id.slice(at + 1))).toBe(false);
        expect(isId(kind, id + bad) || isId(kind, bad + id)).toBe(false);
      }),
    );
    fc.assert(fc.property(fc.anything(), (text) => !isId('job', text)));
  });

  test('sort by the time they were made', async () => {
    const ids: string[] = [];
    for (let i = 0; i < 5; i++) {
      ids.push(newId('job'));
      const nowMs = Date.now();
      while (Date.now() === nowMs) await Promise.resolve();
    }
    expect([...ids].sort()).toEqual(ids);
  });
});

const fact = (data: JsonObject): Omit<Event, 'hash' | 'prev_hash'> => ({
  id: newId('event'),
  chain: 'job-scheduler:x',
  seq: 1,
  type: 'job.queued',
  at: '2026-01-02T03:04:05.678Z',
  vendor_id: newId('vendor'),
  actor: 'service:job-scheduler',
  data,
});
/** The same value with the keys of every object in another order. */
function reordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(reordered);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .reverse()
      .map(([key, inner]) => [key, reordered(inner)]),
  );
}
const json = fc.dictionary(fc.string(), fc.jsonValue()) as fc.Arbitrary<JsonObject>;

describe('the hash of a fact', () => {
  test('does not depend on the order of keys, nor on absent fields that are written as undefined', () => {
    fc.assert(
      fc.property(json, (data) => {
        const event = fact(data);
        const other = reordered({ ...event, install_id: undefined }) as typeof event;
        expect(hashEvent('0', other)).toBe(hashEvent('0', event));
      }),
    );
  });

  test('changes with any part of the fact, and with the hash before it', () => {
    const event = { ...fact({ a: 1, list: [1, 2] }), job_id: newId('job') };
    const hash = hashEvent('0', event);
    const changed: Partial<typeof event>[] = [
      { id: newId('event') },
      { seq: 2 },
      { type: 'job.granted' },
      { at: '2026-01-02T03:04:05.679Z' },
      { chain: 'job-scheduler:y' },
      { vendor_id: newId('vendor') },
      { job_id: newId('job') },
      { install_id: newId('install') },
      { actor: 'key:x' },
      { data: { a: 2, list: [1, 2] } },
      { data: { a: 1, list: [2, 1] } },
    ];
    for (const change of changed) expect(hashEvent('0', { ...event, ...change })).not.toBe(hash);
    expect(hashEvent('1', event)).not.toBe(hash);
    // The same id in another field is another fact.
    const { job_id: moved, ...rest } = event;
    expect(hashEvent('0', { ...rest, agent_id: moved as string })).not.toBe(hash);
  });
});

describe('a signed statement', () => {
  const keyPair = generateKeyPairSync('ed25519');
  const signer = { publicKey: 'UKEY', sign: (bytes: Uint8Array) => sign(null, bytes, keyPair.privateKey) };
  const check = (_key: string, bytes: Uint8Array, signature: Uint8Array): boolean =>
    verify(null, bytes, keyPair.publicKey, signature);
  const statement = { job_id: newId('job'), text: 'größer' };
  const envelope = signEnvelope(PAYLOAD_TYPES.job, statement, signer);
  const base64 = (text: string): string => Buffer.from(text).toString('base64');

  test('opens with a trusted key', () => {
    const read = JSON.parse(JSON.stringify(envelope)) as typeof envelope;
    expect(openEnvelope(read, PAYLOAD_TYPES.job, ['UOTHER', 'UKEY'], check)).toEqual(statement);
  });

  test.each([
    ['another payload', { payload: base64(JSON.stringify({ ...statement, text: 'x' })) }],
    ['a payload with a blank more', { payload: base64(`${JSON.stringify(statement)} `) }],
    ['another signature', { signature: base64('x'.repeat(64)) }],
    ['a signature of no length', { signature: '' }],
    ['another key named', { key_id: 'UOTHER' }],
    ['another type', { payload_type: PAYLOAD_TYPES.agentRequest }],
  ])('with %s is refused', (_, change) => {
    expect(() => openEnvelope({ ...envelope, ...change }, PAYLOAD_TYPES.job, ['UKEY'], check)).toThrow(
      expect.objectContaining({ code: 'statement_refused' }) as Error,
    );
  });

  test('does not pass for a statement of another type', () => {
    const forged = { ...envelope, payload_type: PAYLOAD_TYPES.agentRequest };
    expect(() => openEnvelope(forged, PAYLOAD_TYPES.agentRequest, ['UKEY'], check)).toThrow('not signed by a key');
  });

  test('is refused where no key is trusted', () => {
    expect(() => openEnvelope(envelope, PAYLOAD_TYPES.job, [], check)).toThrow('not signed by a key that is trusted');
  });
});

describe('the quick reading of log frames and pages', () => {
  const text = fc.record({
    at: fc.constantFrom('2026-01-01T00:00:00.000Z', '2026-02-30T00:00:00.000Z', '2026-01-01', 'now', 7),
    level: fc.constantFrom('info', 'error', 'fatal'),
    step: fc.constantFrom('', 'apply', 's'.repeat(41)),
    text: fc.oneof(fc.string(), fc.constant(null)),
  });
  const extra = fc.constantFrom({}, { more_of_the_future: 1 }, { prev: 'x'.repeat(43) }, { last: 'no' });
  const jobId = newId('job');
  const frame = fc
    .tuple(fc.array(text, { maxLength: 3 }), fc.integer({ min: -1, max: 3 }), extra)
    .map(([lines, first_seq, more]) => ({ job_id: jobId, attempt: 1, first_seq, lines, last: false, ...more }));
  const page = fc
    .tuple(fc.array(text, { maxLength: 3 }), fc.integer({ min: -1, max: 3 }), extra)
    .map(([lines, seq, more]) => ({ data: lines.map((line) => ({ ...line, attempt: 1, seq })), more: false, ...more }));
  const outcome = (read: () => object): unknown => {
    try {
      return JSON.parse(JSON.stringify(read()));
    } catch (error) {
      return ImsError.of(error).detail;
    }
  };
  test.each([
    ['frame', frame, readLogFrame, LogFrame],
    ['page', page, readLogPage, LogPage],
  ] as const)('a %s: the same results and errors as the general check', (_name, values, read, type) => {
    fc.assert(
      fc.property(values as fc.Arbitrary<object>, (value) => {
        expect(outcome(() => read(value))).toEqual(outcome(() => parse<object>(type, value, 'tolerant')));
      }),
    );
  });
});
