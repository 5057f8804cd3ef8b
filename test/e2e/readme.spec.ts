import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PROJECT_ROOT } from '#stack';
import { walkPage } from './page.js';

/** The blocks of the README that a newcomer types with the demo up, as one script. */
function byHand(): string {
  const text = readFileSync(join(PROJECT_ROOT, 'README.md'), 'utf8');
  return [...text.matchAll(/^```sh by-hand\n([\s\S]*?)^```$/gm)].map(([, block]) => block ?? '').join('\n');
}

interface Finished {
  readonly code: number | null;
  readonly output: string;
}

/** Runs a program to its end; `until` resolves early, when the output matches. */
function run(
  command: string,
  args: string[],
  cwd: string,
): { child: ChildProcess; until(text: RegExp): Promise<void>; end: Promise<Finished> } {
  const child = spawn(command, args, {
    cwd,
    env: { PATH: process.env.PATH ?? '', HOME: cwd, NO_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  const watchers: (() => void)[] = [];
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
      for (const look of watchers) look();
    });
  }
  const end = new Promise<Finished>((resolve) => child.on('close', (code) => resolve({ code, output })));
  const until = (text: RegExp): Promise<void> =>
    Promise.race([
      new Promise<void>((resolve) => {
        const look = (): void => {
          if (text.test(output)) resolve();
        };
        watchers.push(look);
        look();
      }),
      end.then(() => {
        throw new Error(`it ended before ${text.source}:\n${output}`);
      }),
    ]);
  return { child, until, end };
}

describe('README', () => {
  const home = mkdtempSync(join(tmpdir(), 'readme-'));
  afterAll(() => rmSync(home, { recursive: true, force: true }));

  it('has a demo and a way by hand that work word for word', async () => {
    symlinkSync(join(PROJECT_ROOT, 'dist'), join(home, 'dist'));
    const demo = run(process.execPath, ['dist/deploy/local/demo.js', '--dir', join(home, '.demo')], home);
    try {
      await demo.until(/stays up until Ctrl-C/);
      const hand = await run('bash', ['-euo', 'pipefail', '-c', byHand()], home).end;
      expect(hand.output).not.toMatch(/"code":/);
      const lines = hand.output.split('\n');
      expect(hand.output).toContain('postgres://hello.db.us-east-1.internal:5432/hello ');
      expect(hand.output).toMatch(/values.database_name: "hello" → "hello2"/);
      expect(hand.output.match(/^kind +rollback$/gm)).toHaveLength(1);
      // The REST part: the output after the rollback, the jobs of three deployments, and the teardown.
      expect(lines).toContain('postgres://hello.db.us-east-1.internal:5432/hello');
      expect(lines.some((line) => /^(apply succeeded, sync succeeded(, |$)){3}/.test(line))).toBe(true);
      expect(lines).toContain('redeemed');
      expect(lines.at(-2)).toBe('succeeded');
      expect(hand.output).toMatch(/deployment\.succeeded[\s\S]*job\.granted[\s\S]*deployment\.created/);
      expect(hand.code).toBe(0);

      const { gateway } = JSON.parse(readFileSync(join(home, '.demo/ports.json'), 'utf8')) as { gateway: number };
      const key = readFileSync(join(home, '.demo/keys/api-key-acme'), 'utf8').trim();
      const page = await walkPage(`http://127.0.0.1:${gateway}`, key);
      expect(page.faults).toEqual([]);
      if (page.done) expect(page.visited).toHaveLength(17);
    } finally {
      demo.child.kill('SIGINT');
    }
    const { output, code } = await demo.end;
    expect(output).toMatch(/deployment succeeded/);
    expect(code).toBe(0);
  }, 400_000);
});
