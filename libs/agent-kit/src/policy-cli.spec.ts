import { createServer, type Server } from 'node:http';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { newId, type JobId } from '#contracts';
import { Approvals } from './approvals.js';
import { agentMain } from './cli.js';
import { customerCommands } from './policy-cli.js';
import { CustomerRecord } from './record.js';

const DIGEST = `sha256:${'d'.repeat(64)}`;
let state: string;
let approvals: Approvals;
beforeEach(async () => {
  state = await mkdtemp(join(tmpdir(), 'policy-cli-'));
  approvals = new Approvals(state);
  await approvals.prepare(new Date());
});
afterEach(() => rm(state, { recursive: true, force: true }));

/** As on the host: exit code, standard output, standard error. */
async function cli(...argv: string[]): Promise<{ code: number; out: string; err: string }> {
  const [stdout, stderr] = [new PassThrough({ highWaterMark: 2 ** 20 }), new PassThrough()];
  const code = await agentMain({
    ...{ program: 'install-agent', kind: 'install', version: '1', argv, stdin: Readable.from([]), stdout, stderr },
    run: () => Promise.resolve(),
    commands: customerCommands,
  });
  return { code, out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') };
}
const here = (...argv: string[]): ReturnType<typeof cli> => cli(...argv, '--state', state);
const policy = (text: string): Promise<void> => writeFile(join(state, 'policy.yaml'), text, { mode: 0o600 });
const answer = (job: JobId, approvers?: string[]): ReturnType<Approvals['answer']> =>
  approvals.answer(DIGEST, job, { now: new Date(), ...(approvers === undefined ? {} : { approvers }) });
async function ask(): Promise<JobId> {
  const job = newId('job');
  const counts = { changed: true, created: 2, updated: 1, deleted: 0 };
  const at = '2026-06-01T12:00:00.000Z';
  await approvals.ask({ digest: DIGEST, ...counts, job_id: job, attempt: 1, what: 'apply of db (job)', asked_at: at });
  await approvals.keepPlan(DIGEST, 'create Job/one\n');
  return job;
}

it.each([
  [['policy', 'dance'], 'there is no command policy dance'],
  [['pause', '--state', '.'], 'pause needs --note TEXT'],
  [['pending'], '--state DIR is missing'],
  [['plan', '--state', '.'], 'plan of what?'],
  [['approve', '--state', '.'], 'approve takes a DIGEST, or --signed FILE'],
  [['pause', '--note', 'x', '--until', '2026-06-01T20:00', '--state', '.'], 'neither a time'],
  [['pending', '--head', 'x', '--state', '.'], "Unknown option '--head'"],
  [['audit', 'verify', '--head', '3', '--state', '.'], '--head is SEQ:HASH'],
  [['sign-approval', '--key', 'x', 'dddd'], 'the whole digest'],
])('%j is wrong usage', async (argv, message) => {
  const { code, err } = await cli(...argv);
  expect([code, err]).toEqual([2, expect.stringContaining(message)]);
  expect(err).toContain('audit export');
});

describe('policy', () => {
  it('check names every fault with its line, and the rights of the file', async () => {
    await policy(
      'mode: normal\nallow:\n  jobs: [dance]\nwindows:\n  - { from: "25:00", to: "01:00", time_zone: UTC }\n',
    );
    await chmod(join(state, 'policy.yaml'), 0o600);
    const { code, err } = await here('policy', 'check');
    expect(code).toBe(1);
    expect(err.split('\n').map((line) => line.slice(join(state, 'policy.yaml').length))).toEqual([
      ':3: /allow/jobs must be a list of build, sync, apply, destroy, observe, noop',
      ':5: /windows/0/from must be a time of day in quotes, "00:00" to "23:59"',
      '',
    ]);
    await policy('mode: [');
    expect((await here('policy', 'check')).err).toMatch(/:1: /);
    await policy('mode: read_only');
    expect(await here('policy', 'check')).toMatchObject({ code: 0, out: `${join(state, 'policy.yaml')} is valid\n` });
    await chmod(join(state, 'policy.yaml'), 0o620);
    expect((await cli('policy', 'check', join(state, 'policy.yaml'))).err).toContain('others can change it (mode 620)');
    await chmod(join(state, 'policy.yaml'), 0o600);
    await chmod(state, 0o777);
    expect((await here('policy', 'check')).err).toContain('others can replace it');
  });

  it('show says what is in force, and that there is none', async () => {
    expect((await here('policy', 'show')).out).toContain('policy.yaml: defaults; no agent runs');
    await policy('approve: on_delete\nlimits: { slots: 2 }');
    expect((await here('policy', 'show')).out).toContain('approve: on_delete\nlimits:\n  slots: 2\n');
    expect((await here('policy', 'show', '--policy', join(state, 'none.yaml'))).code).toBe(1);
  });
});

it('pauses with a note and an end, and takes it back', async () => {
  expect((await here('pause', '--note', 'stocktaking', '--until', '2h')).out).toContain('no agent runs');
  const { note, until } = (await approvals.paused())!;
  expect(note).toBe('stocktaking');
  expect(Math.abs(Date.parse(until!) - Date.now() - 7_200_000)).toBeLessThan(60_000);
  expect((await stat(approvals.pauseFile)).mode & 0o777).toBe(0o600);
  await policy('pause: { note: audit }');
  expect((await here('unpause')).out).toContain('the policy file has a pause of its own: audit');
  expect(await approvals.paused()).toBeUndefined();
});

it('shows what waits, what it would do, and takes a yes or a no to it', async () => {
  expect((await here('pending')).out).toBe('no plan waits for a yes\n');
  const job = await ask();
  expect((await here('pending')).out).toBe(
    'dddddddddddd  apply of db (job): 2 to create, 1 to change, 0 to delete\n' +
      `              ${job}, asked at 2026-06-01T12:00:00.000Z\n`,
  );
  expect((await here('plan', DIGEST.slice(0, 20))).out).toBe('create Job/one\n');
  expect(await here('approve', 'eeeeee')).toMatchObject({
    code: 1,
    err: expect.stringContaining('no such plan') as string,
  });
  expect((await here('approve', 'dddddd')).out).toContain(`approved: apply of db (job), plan ${DIGEST}`);
  expect(await answer(job)).toMatchObject({ decision: 'approved' });
  expect(await answer(newId('job'))).toBeUndefined();
  expect((await here('reject', 'dddddd', '--note', 'not today')).code).toBe(0);
  expect(await answer(job)).toMatchObject({ decision: 'rejected', note: 'not today' });
});

it('takes a signed yes, made on another machine, of an approver only', async () => {
  const key = join(state, 'approver.key');
  const { out: made } = await cli('approver-key', key);
  expect((await stat(key)).mode & 0o777).toBe(0o600);
  expect((await cli('approver-key', key)).err).toContain('is there already');
  const approver = made.trim();
  await policy(`approve: always\napprovers: [${approver}]`);
  const job = await ask();
  const refused = await here('approve', 'dddddd');
  expect([refused.code, refused.err]).toEqual([3, expect.stringContaining('has to be signed')]);
  const file = join(state, 'yes.json');
  await writeFile(file, (await cli('sign-approval', '--key', key, DIGEST)).out);
  expect((await here('approve', '--signed', file)).out).toContain('approved: apply of db (job)');
  expect(await answer(job, [approver])).toMatchObject({ decision: 'approved', by: approver });
  const stranger = join(state, 'stranger.key');
  await cli('approver-key', stranger);
  await writeFile(file, (await cli('sign-approval', '--key', stranger, DIGEST)).out);
  expect((await here('approve', '--signed', file)).code).toBe(3);
  await chmod(key, 0o644);
  expect((await cli('sign-approval', '--key', key, DIGEST)).err).toContain('can be read by others');
});

describe('audit', () => {
  beforeEach(async () => {
    const record = await CustomerRecord.open(join(state, 'record'));
    await record.append('job.received', { job_id: 'job_1', attempt: 1 });
    await record.append('job.refused', { job_id: 'job_1', code: 'policy_refused', deep: { a: [1] } });
    await record.close();
  });

  it('verify answers the head, takes one back, and names the first fault', async () => {
    const { code, out } = await here('audit', 'verify');
    expect([code, out]).toEqual([0, expect.stringMatching(/^2 entries, unbroken; head 2:[0-9a-f]{64}\n$/)]);
    const head = out.trim().split(' ').at(-1)!;
    expect((await here('audit', 'verify', '--head', head)).code).toBe(0);
    const file = join(state, 'record', '000000000001.ndjson');
    const text = await readFile(file, 'utf8');
    await writeFile(file, `${text.split('\n')[0] ?? ''}\n`);
    expect((await here('audit', 'verify')).code).toBe(0);
    expect(await here('audit', 'verify', '--head', head)).toMatchObject({
      code: 1,
      err: '000000000001.ndjson:1: the record ends at entry 1, before entry 2 of the given head\n',
    });
    await writeFile(file, text.replace('"attempt":1', '"attempt":2'));
    expect((await here('audit', 'verify')).err).toContain('000000000001.ndjson:1: entry 1 was changed');
  });

  it('export writes lines, or OTLP, from a time on', async () => {
    const lines = (await here('audit', 'export')).out.trim().split('\n');
    expect(lines.map((line) => (JSON.parse(line) as { type: string }).type)).toEqual(['job.received', 'job.refused']);
    expect((await here('audit', 'export', '--since', '1h')).out.trim().split('\n')).toHaveLength(2);
    expect((await here('audit', 'export', '--since', '2100-01-01T00:00:00Z')).out).toBe('');
    const otlp = JSON.parse((await here('audit', 'export', '--format', 'otlp')).out) as Otlp;
    expect(recordsOf(otlp).map(({ severityText }) => severityText)).toEqual(['INFO', 'WARN']);
  });

  it('export sends OTLP/JSON to an endpoint, and says when that takes nothing', async () => {
    const got: { path: string; type: string; body: Otlp }[] = [];
    let status = 200;
    const server: Server = createServer((request, response) => {
      let text = '';
      request.on('data', (chunk: Buffer) => (text += chunk.toString()));
      request.on('end', () => {
        const type = request.headers['content-type'] ?? '';
        got.push({ path: request.url ?? '', type, body: JSON.parse(text) as Otlp });
        response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const sent = await here('audit', 'export', '--endpoint', url);
    expect(sent).toMatchObject({ code: 0, out: '', err: '2 entries exported\n' });
    expect(got).toMatchObject([{ path: '/v1/logs', type: 'application/json' }]);
    const [, refused] = recordsOf(got[0]!.body);
    expect(refused).toMatchObject({ severityNumber: 13, timeUnixNano: expect.stringMatching(/^\d{19}$/) as string });
    expect(refused!.attributes).toContainEqual({ key: 'code', value: { stringValue: 'policy_refused' } });
    expect(refused!.attributes).toContainEqual({ key: 'record.seq', value: { intValue: '2' } });
    status = 503;
    expect(await here('audit', 'export', '--endpoint', `${url}/own/path`)).toMatchObject({ code: 6 });
    expect(got.at(-1)!.path).toBe('/own/path');
    await new Promise((resolve) => server.close(resolve));
    expect((await here('audit', 'export', '--endpoint', url)).err).toContain('does not answer');
  });
});

interface LogRecord {
  readonly severityText: string;
  readonly severityNumber: number;
  readonly timeUnixNano: string;
  readonly attributes: readonly object[];
}
interface Otlp {
  readonly resourceLogs: readonly { readonly scopeLogs: readonly { readonly logRecords: readonly LogRecord[] }[] }[];
}
const recordsOf = ({ resourceLogs }: Otlp): LogRecord[] =>
  resourceLogs.flatMap(({ scopeLogs }) => scopeLogs.flatMap(({ logRecords }) => logRecords));
