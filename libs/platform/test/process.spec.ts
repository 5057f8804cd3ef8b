import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** The built sample; `npm test` builds before it runs. */
const SAMPLE = 'dist/libs/platform/test/sample-process.js';
const SECRET = 'planted-secret-0123456789';

interface Sample {
  child: ChildProcess;
  lines: string[];
  /** The first line with this message, now or later. */
  line(msg: string): Promise<Record<string, unknown>>;
  exit: Promise<number | null>;
}

const started: ChildProcess[] = [];
function startSample(env: Record<string, string>): Sample {
  const child = spawn(process.execPath, [SAMPLE], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  started.push(child);
  const lines: string[] = [];
  const waiting: (() => void)[] = [];
  const take = (text: string): void => {
    lines.push(text);
    waiting.splice(0).forEach((look) => {
      look();
    });
  };
  createInterface(child.stdout).on('line', take);
  createInterface(child.stderr).on('line', take);
  const line = (msg: string): Promise<Record<string, unknown>> =>
    new Promise((resolve) => {
      const look = (): void => {
        const found = lines
          .filter((text) => text.startsWith('{'))
          .map((text) => JSON.parse(text) as Record<string, unknown>);
        const hit = found.find((entry) => entry['msg'] === msg);
        if (hit) resolve(hit);
        else waiting.push(look);
      };
      look();
    });
  return { child, lines, line, exit: once(child, 'close').then(([code]) => code as number | null) };
}
const good = { SAMPLE_SECRET: SECRET, HTTP_PORT: '0' };

describe('a service process', () => {
  afterAll(() => {
    for (const child of started) child.kill('SIGKILL');
  });

  it('says when it is ready, and on SIGTERM finishes the answer that is under way and ends with 0', async () => {
    const sample = startSample(good);
    const { port } = await sample.line('ready');
    const answer = fetch(`http://127.0.0.1:${String(port)}/slow`);
    await sample.line('slow has begun');
    sample.child.kill('SIGTERM');
    await sample.line('draining');
    expect(await (await answer).text()).toBe('done');
    expect(await sample.exit).toBe(0);
    expect(sample.lines.at(-1)).toContain('"drained"');
  });

  it('ends at once on the second signal', async () => {
    const sample = startSample(good);
    const { port } = await sample.line('ready');
    const answer = fetch(`http://127.0.0.1:${String(port)}/hang`).catch(() => 'cut');
    await sample.line('hang has begun');
    sample.child.kill('SIGTERM');
    await sample.line('draining');
    sample.child.kill('SIGTERM');
    expect(await sample.exit).toBe(1);
    expect(await answer).toBe('cut');
  });

  it('does not start with a wrong configuration, and names every fault', async () => {
    const sample = startSample({ HTTP_PORT: 'eighty' });
    expect(await sample.exit).toBe(1);
    const text = sample.lines.join('\n');
    expect(text).toContain('SAMPLE_SECRET is not set');
    expect(text).toContain('HTTP_PORT must be an integer number (it is "eighty")');
  });

  it('writes JSON lines with the request id and without planted secrets', async () => {
    const sample = startSample(good);
    const { port } = await sample.line('ready');
    const answer = await fetch(`http://127.0.0.1:${String(port)}/leak`, {
      method: 'POST',
      headers: { 'x-request-id': 'the-request-1', authorization: 'Bearer aaaabbbbccccdddd' },
    });
    expect(answer.status).toBe(500);
    const failed = await sample.line('a request failed');
    expect(failed['request_id']).toBe('the-request-1');
    expect(JSON.stringify(failed['err'])).toContain('query failed for [redacted]');
    const text = sample.lines.join('\n');
    for (const secret of [SECRET, 'zyxwvutsrq', 'row-value-1', 'aaaabbbbccccdddd']) expect(text).not.toContain(secret);
    sample.child.kill('SIGTERM');
    await sample.exit;
    for (const line of sample.lines) expect(() => JSON.parse(line) as unknown).not.toThrow();
  });

  it('ends with 1 and a line about it when something is thrown that nobody catches', async () => {
    const sample = startSample(good);
    const { port } = await sample.line('ready');
    await fetch(`http://127.0.0.1:${String(port)}/crash`).catch(() => undefined);
    expect(await sample.exit).toBe(1);
    expect(sample.lines.join('\n')).toContain('nobody catches this');
  });
});
