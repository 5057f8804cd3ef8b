import { appendFile, mkdtemp, readFile, readdir, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Envelope, newId, type JobResult } from '#contracts';
import { Journal } from './journal.js';

let directory: string;
const opened: Journal[] = [];
async function openJournal(): Promise<Journal> {
  const journal = await Journal.open(directory);
  opened.push(journal);
  return journal;
}
beforeEach(async () => {
  directory = join(await mkdtemp(join(tmpdir(), 'agent-journal-')), 'journal');
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((journal) => journal.close()));
  await rm(join(directory, '..'), { recursive: true, force: true });
});

const envelope = Object.assign(new Envelope(), { payload_type: 't', payload: 'cGF5', key_id: 'K', signature: 'c2ln' });
const jobId = newId('job');
const mark = { pgid: 4711, started: '12345', boot: 'b', mark: 'm' };

/** Grant, one step done, a second one started with a process group. */
async function fill(): Promise<string> {
  const journal = await openJournal();
  const entry = await journal.begin(jobId, 3, envelope);
  await entry.stepStarted('plan', '2026-01-01T00:00:00.000Z');
  await entry.stepDone('plan', { durationMs: 12, toolMs: 7, output: { serial: 4 } });
  await entry.stepStarted('apply', '2026-01-01T00:00:01.000Z');
  await entry.groupStarted({ ...mark, pgid: 1 });
  await entry.groupEnded(1);
  await entry.groupStarted(mark);
  await journal.close();
  return entry.file;
}

it('reads back what was written, with the mode of a secret', async () => {
  const file = await fill();
  expect((await stat(file)).mode & 0o777).toBe(0o600);
  const [entry] = (await openJournal()).entries();
  expect(entry).toMatchObject({ jobId, attempt: 3, envelope, result: undefined, openGroups: [mark] });
  expect(entry!.step('plan')!.done).toEqual({ durationMs: 12, toolMs: 7, output: { serial: 4 } });
  expect(entry!.step('apply')).toEqual({ name: 'apply', startedAt: '2026-01-01T00:00:01.000Z' });
});

it('stands a cut at any byte: a torn record is as if it had not been written', async () => {
  const file = await fill();
  const whole = await readFile(file);
  const first = whole.indexOf('\n') + 1;
  for (let length = whole.length - 1; length >= 0; length -= 7) {
    await writeFile(file, whole);
    await truncate(file, length);
    const journal = await openJournal();
    const [entry] = journal.entries();
    const lines = whole.subarray(0, length).toString().split('\n').length - 1;
    if (length < first) {
      expect(entry).toBeUndefined();
      continue;
    }
    expect(entry!.envelope).toEqual(envelope);
    expect(entry!.step('plan')?.done !== undefined).toBe(lines >= 3);
    // What comes after is not glued to the torn record.
    await entry!.stepStarted('apply', '2026-01-01T00:00:02.000Z');
    await journal.close();
    const again = await openJournal();
    expect(again.entries()[0]!.step('apply')!.startedAt).toBe('2026-01-01T00:00:02.000Z');
    await again.close();
  }
});

it('ends at a block that never reached the disk', async () => {
  const file = await fill();
  await appendFile(file, `${'\0'.repeat(100)}\n{"t":"gone","pgid":4711}\n`);
  const [entry] = (await openJournal()).entries();
  expect(entry!.openGroups).toEqual([mark]);
});

it('knows a result until it is dropped, and the number of the attempt longer', async () => {
  await fill();
  let journal = await openJournal();
  const result: JobResult = { job_id: jobId, attempt: 3, session_id: 'session-1', outcome: 'succeeded', result: {} };
  await journal.entries()[0]!.resultReady(result);
  await journal.close();
  journal = await openJournal();
  expect(journal.entries()[0]!.result).toEqual(result);
  await journal.drop(journal.entries()[0]!);
  await journal.close();
  journal = await openJournal();
  expect(journal.entries()).toEqual([]);
  expect(journal.lastAttempt(jobId)).toBe(3);
  expect(journal.lastAttempt(newId('job'))).toBe(0);
  expect((await readdir(directory)).filter((name) => name.startsWith('job_'))).toEqual([]);
});

it('does not let a forged number shut out those that follow', async () => {
  const journal = await openJournal();
  await journal.begin(jobId, 999_999, envelope, false);
  expect(journal.lastAttempt(jobId)).toBe(0);
  await journal.close();
});
