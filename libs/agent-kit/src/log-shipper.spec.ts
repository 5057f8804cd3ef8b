import { appendFile, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { hashLogFrame, ImsError, LIMITS, LogFrame, newId, parse, type JobId } from '#contracts';
import { waitFor } from '../test/wait.js';
import { LogShipper } from './log-shipper.js';

let directory: string;
let shippers: LogShipper[] = [];
let jobId: JobId;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'agent-logs-'));
  jobId = newId('job');
});
afterEach(async () => {
  await Promise.all(shippers.map((shipper) => shipper.stop(0)));
  shippers = [];
  await rm(directory, { recursive: true, force: true });
});

/** JetStream as far as it matters: stores a message id once, and may be away. */
class Stream {
  readonly frames = new Map<string, LogFrame>();
  private readonly bytes = new Map<LogFrame, string>();
  sent = 0;
  away = false;
  /** Stored, but the acknowledgement is lost. */
  loseAcks = 0;
  publish = (_: unknown, __: unknown, body: object, id: string): Promise<void> => {
    this.sent += 1;
    if (this.away) return Promise.reject(new ImsError('unavailable'));
    const frame = parse(LogFrame, JSON.parse(JSON.stringify(body)), 'strict');
    const had = this.frames.get(id);
    if (had !== undefined) expect(frame).toEqual(had);
    this.frames.set(id, frame);
    this.bytes.set(frame, JSON.stringify(body));
    return this.loseAcks-- > 0 ? Promise.reject(new ImsError('unavailable')) : Promise.resolve();
  };
  lines(): string[] {
    const frames = [...this.frames.values()].sort((a, b) => a.first_seq - b.first_seq);
    let next = 1;
    let before: string | undefined;
    for (const frame of frames) {
      expect(frame.first_seq).toBe(next);
      expect(frame.prev).toBe(before);
      before = hashLogFrame(this.bytes.get(frame) ?? '');
      next += frame.lines.length;
    }
    return frames.flatMap((frame) => frame.lines.map(({ text }) => text));
  }
  get ended(): boolean {
    return [...this.frames.values()].some(({ last }) => last);
  }
}

async function open(stream?: Stream, spoolBytes?: number): Promise<LogShipper> {
  const limits = { flushMs: 10, retryMaxMs: 20, ...(spoolBytes === undefined ? {} : { spoolBytes }) };
  const shipper = await LogShipper.open({ directory, agentId: newId('agent'), ...limits });
  shippers.push(shipper);
  if (stream !== undefined) shipper.start(stream);
  return shipper;
}

it('sends lines soon, in order, and removes the spool after the last acknowledgement', async () => {
  const stream = new Stream();
  const log = (await open(stream)).of(jobId, 1);
  log.write('info', 'plan', 'one');
  await waitFor(() => stream.lines().length === 1);
  for (let i = 0; i < 1_000; i++) log.write('info', 'plan', `line ${i}`);
  log.write('warn', 'plan', 'a\nb\r\nc\0');
  log.end();
  log.write('info', 'plan', 'after the end');
  await log.finished;
  expect(stream.lines()).toEqual(['one', ...Array.from({ length: 1_000 }, (_, i) => `line ${i}`), 'a', 'b', 'c\ufffd']);
  expect([...stream.frames.keys()][0]).toBe(`${jobId}.1.1`);
  expect(await readdir(directory)).toEqual([]);
});

it('keeps frames within the limits of a message, whatever the lines are', async () => {
  const stream = new Stream();
  const log = (await open(stream)).of(jobId, 1);
  const sample = fc.sample(fc.string({ unit: 'binary', maxLength: 30_000, size: 'max' }), 40);
  for (const text of sample) log.write('info', 'x', text);
  log.write('info', 'x', 'é'.repeat(200_000));
  log.end();
  await log.finished;
  for (const frame of stream.frames.values()) {
    expect(frame.lines.length).toBeLessThanOrEqual(LIMITS.logFrameLines);
    expect(Buffer.byteLength(JSON.stringify(frame))).toBeLessThan(LIMITS.logFrameBytes + 200);
    for (const { text } of frame.lines) expect(Buffer.byteLength(text)).toBeLessThanOrEqual(LIMITS.logLineBytes);
  }
  expect(stream.lines().at(-1)).toMatch(/é \[line cut: \d+ bytes were left out\]$/);
});

it('goes on when nothing can be sent, and sends everything once it can', async () => {
  const stream = new Stream();
  stream.away = true;
  const log = (await open(stream)).of(jobId, 1);
  for (let i = 0; i < 500; i++) log.write('info', 's', `${i}`);
  log.flush();
  await waitFor(() => stream.sent > 2);
  stream.away = false;
  stream.loseAcks = 2;
  log.end();
  await log.finished;
  expect(stream.lines()).toEqual(Array.from({ length: 500 }, (_, i) => `${i}`));
});

it('after a crash sends the same frames again and goes on with the next number', async () => {
  const stream = new Stream();
  const first = await open(stream);
  const log = first.of(jobId, 1);
  log.write('info', 's', 'one');
  await waitFor(() => stream.frames.size === 1);
  await waitFor(() => log.spool.head === undefined);
  stream.away = true;
  log.write('info', 's', 'two');
  log.flush();
  await first.stop(0);
  // The crash was in the middle of a write.
  const [segment] = await readdir(join(directory, `${jobId}.1`));
  await appendFile(join(directory, `${jobId}.1`, segment!), '{"job_id":"torn');
  stream.away = false;
  const second = await open(stream);
  const again = second.of(jobId, 1);
  again.write('info', 's', 'three');
  again.end();
  await again.finished;
  expect(stream.lines()).toEqual(['one', 'two', 'three']);
  expect(await readdir(directory)).toEqual([]);
});

it('ends the log of an attempt that was over when the agent died', async () => {
  const first = await open();
  first.of(jobId, 1).write('info', 's', 'one');
  const running = newId('job');
  first.of(running, 2).write('info', 's', 'other');
  await first.stop(0);
  const stream = new Stream();
  const second = await open();
  second.endAllBut([{ jobId: running, attempt: 2 }]);
  second.start(stream);
  await waitFor(() => stream.ended && stream.frames.size === 3);
  const last = [...stream.frames.values()].filter((frame) => frame.last);
  expect(last.map(({ job_id }) => job_id)).toEqual([jobId]);
});

it('says where lines are missing when the spool was full, and never waits', async () => {
  const stream = new Stream();
  stream.away = true;
  const log = (await open(stream, 20_000)).of(jobId, 1);
  for (let i = 0; i < 2_000; i++) log.write('info', 's', `line ${i} ${'x'.repeat(20)}`);
  log.flush();
  stream.away = false;
  await waitFor(() => log.spool.head === undefined);
  log.write('info', 's', 'room again');
  log.end();
  await log.finished;
  const lines = stream.lines();
  const note = lines.findIndex((line) => line.includes('were left out here'));
  expect(lines.slice(note + 1)).toEqual(['room again']);
  expect(note + Number(/\d+/.exec(lines[note]!)![0])).toBe(2_000);
});

it('has no registered secret in anything that is sent or on disk', async () => {
  const stream = new Stream();
  const log = (await open(stream)).of(jobId, 1);
  log.redactor.add('swordfish-42');
  log.write('info', 's', `x swordfish-42 ${Buffer.from('user:swordfish-42').toString('base64')}`);
  log.write('info', 's', 'Authorization: Bearer abcdefghijklmnop');
  log.write('info', 's', 'the end is swordf', true);
  log.end();
  await log.finished;
  expect(stream.lines().join('\n')).not.toMatch(/swordf|Bearer abc/);
});

it('says where an earlier life was cut off, and nothing when it had ended in order', async () => {
  const stream = new Stream();
  const first = await open(stream);
  first.of(jobId, 1).write('info', 's', 'one');
  await first.stop(1_000);
  const second = await open(stream);
  const log = second.of(jobId, 1);
  log.write('info', 's', 'two');
  await waitFor(() => stream.lines().length === 2);
  // As a killed process leaves it: without a word.
  const third = await open(stream);
  third.of(jobId, 1).end();
  await third.of(jobId, 1).finished;
  expect(stream.lines()).toEqual(['one', 'two', expect.stringMatching(/^\[the agent ended here without warning/)]);
});
