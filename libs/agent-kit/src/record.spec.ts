import fc from 'fast-check';
import { appendFile, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type JsonObject } from '#contracts';
import { CustomerRecord, readRecord, verifyRecord, type RecordEntry } from './record.js';

let dir: string;
beforeEach(async () => {
  dir = join(await mkdtemp(join(tmpdir(), 'record-')), 'record');
});
afterEach(() => rm(join(dir, '..'), { recursive: true, force: true }));

async function write(entries: readonly JsonObject[], rotateBytes?: number): Promise<CustomerRecord> {
  const record = await CustomerRecord.open(dir, rotateBytes);
  for (const data of entries) await record.append('job.received', data);
  await record.close();
  return record;
}
async function entries(): Promise<RecordEntry[]> {
  const all: RecordEntry[] = [];
  for await (const { entry } of readRecord(dir)) if (entry) all.push(entry);
  return all;
}
const some = (count: number): JsonObject[] =>
  Array.from({ length: count }, (_, n) => ({ n, deep: { b: 1, a: [null] } }));

it('goes on over restarts and files, in the order of the calls, private', async () => {
  await write(some(5), 600);
  const { head } = await write(some(3), 600);
  expect((await entries()).map(({ seq, data }) => [seq, data['n']])).toEqual([
    ...[0, 1, 2, 3, 4].map((n) => [n + 1, n]),
    ...[0, 1, 2].map((n) => [n + 6, n]),
  ]);
  const files = await readdir(dir);
  expect(files.length).toBeGreaterThan(2);
  expect(files[0]).toBe('000000000001.ndjson');
  expect((await stat(join(dir, files[0]!))).mode & 0o777).toBe(0o600);
  expect(await verifyRecord(dir)).toEqual({ head });
  expect(head.seq).toBe(8);
});

it('writes what comes at once in order, each acknowledged when it is on disk', async () => {
  const record = await CustomerRecord.open(dir);
  const acknowledged: number[] = [];
  await Promise.all(
    some(50).map(async (data, n) => {
      await record.append('job.received', data);
      acknowledged.push(n);
      expect((await entries()).length).toBeGreaterThan(n);
    }),
  );
  await record.close();
  expect(acknowledged).toEqual(some(50).map(({ n }) => n));
  expect((await entries()).map(({ data }) => data['n'])).toEqual(acknowledged);
  expect(await verifyRecord(dir)).toEqual({ head: record.head });
});

it('cuts a torn last line, and says so', async () => {
  await write(some(2));
  const file = join(dir, '000000000001.ndjson');
  await appendFile(file, '{"seq":3,"at":"20');
  // Beside a running agent a line that is being written is no fault.
  expect(await verifyRecord(dir)).toMatchObject({ head: { seq: 2 } });
  await write(some(1));
  expect((await entries()).map(({ type }) => type)).toEqual([
    'job.received',
    'job.received',
    'record.cut',
    'job.received',
  ]);
  expect((await entries())[2]!.data).toMatchObject({ file: '000000000001.ndjson', bytes: 17 });
  expect(await verifyRecord(dir)).toMatchObject({ head: { seq: 4 } });
});

it('goes on after a file of which a cut left nothing', async () => {
  await write(some(3), 200);
  await writeFile(join(dir, '000000000004.ndjson'), '{"se');
  await write(some(1), 200);
  expect(await verifyRecord(dir)).toMatchObject({ head: { seq: 5 } });
});

it('names the first fault: a changed, dropped, swapped or foreign line', async () => {
  await write(some(4));
  const file = join(dir, '000000000001.ndjson');
  const good = await readFile(file, 'utf8');
  const lines = good.split('\n');
  const faultOf = async (text: string): Promise<string> => {
    await writeFile(file, text);
    const { fault } = await verifyRecord(dir);
    return fault === undefined ? 'none' : `${fault.line}: ${fault.reason}`;
  };
  expect(await faultOf(good.replace('"n":1', '"n":9'))).toBe(
    '2: entry 2 was changed: its hash is not that of its content',
  );
  expect(await faultOf(lines.toSpliced(2, 1).join('\n'))).toBe('3: entry 4 follows entry 2');
  expect(await faultOf([lines[1], lines[0], ...lines.slice(2)].join('\n'))).toBe('1: entry 2 follows entry 0');
  expect(await faultOf(lines.toSpliced(1, 0, 'hello').join('\n'))).toBe('2: the line is not an entry');
  expect(await faultOf(good.replace('{"seq":3', '{"note":"x","seq":3'))).toBe('3: the line is not an entry');
  expect(await faultOf(good)).toBe('none');
});

it('tells by a head that was kept whether the end was cut off or written anew', async () => {
  const { head } = await write(some(3));
  await write(some(2));
  expect(await verifyRecord(dir, head)).toMatchObject({ head: { seq: 5 } });
  await rm(dir, { recursive: true });
  await write([{ n: 'other' }, ...some(4)]);
  expect((await verifyRecord(dir, head)).fault).toMatchObject({ reason: 'entry 3 is not the one of the given head' });
  await rm(dir, { recursive: true });
  await write(some(1));
  expect((await verifyRecord(dir, head)).fault).toMatchObject({
    reason: 'the record ends at entry 1, before entry 3 of the given head',
  });
});

it('does not go silent over damage that is not a torn line', async () => {
  await write(some(2));
  const file = join(dir, '000000000001.ndjson');
  await writeFile(file, (await readFile(file, 'utf8')).replace('"n":1', '"n":9'));
  await write([]);
  expect((await entries()).at(-1)!.type).toBe('record.damaged');
  expect((await verifyRecord(dir)).fault).toMatchObject({ line: 2 });
});

it('finds any single changed byte', async () => {
  await write(some(3));
  const file = join(dir, '000000000001.ndjson');
  const good = await readFile(file);
  await fc.assert(
    fc.asyncProperty(fc.nat(good.length - 2), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const bytes = Buffer.from(good);
      bytes[at] = (bytes[at] ?? 0) ^ change;
      await writeFile(file, bytes);
      expect((await verifyRecord(dir)).fault).toBeDefined();
    }),
    { numRuns: 300 },
  );
});
