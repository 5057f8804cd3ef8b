import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort, startService, type RunningService } from '#stack';
import { processBirth, waitUntil } from './process.js';

/** Answers `/readyz` with 503 first; ignores SIGTERM when it is told to. */
const SERVER = `
import { createServer } from 'node:http';
let asked = 0;
createServer((_, res) => { res.statusCode = asked++ < 2 ? 503 : 200; res.end(); }).listen(Number(process.env.PORT), '127.0.0.1');
if (process.env.STUBBORN) process.on('SIGTERM', () => console.log('no'));
console.log('names', Object.keys(process.env).sort().join(' '));
`;

/** Lets the sources run as they are: the owner in the test below has to be a process of its own. */
const LOADER = `data:text/javascript,${encodeURIComponent(`
import { registerHooks } from 'node:module';
registerHooks({ resolve: (name, context, next) => {
  try { return next(name, context); } catch (error) { return next(name.replace(/\\.js$/, '.ts'), context); }
} });`)}`;

const alive = async (pid: number): Promise<boolean> => (await processBirth(pid)) !== undefined;

describe('startService', () => {
  let dir: string;
  let main: string;
  const running: RunningService[] = [];

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'stack-service-'));
    main = join(dir, 'main.mjs');
    await writeFile(main, SERVER);
  });
  afterAll(async () => {
    await Promise.all(running.map((service) => service.stop()));
    await rm(dir, { recursive: true });
  });

  const start = async (name: string, env: Record<string, string> = {}, stopMs = 5_000): Promise<RunningService> => {
    const port = await freePort();
    const readyUrl = `http://127.0.0.1:${port}/readyz`;
    const logFile = join(dir, `${name}.log`);
    const service = await startService({ name, main, env: { PORT: String(port), ...env }, logFile, readyUrl, stopMs });
    running.push(service);
    return service;
  };

  it('waits for /readyz, and the process sees its own environment alone', async () => {
    const service = await start('plain');
    expect(service.tail()).toContain('names LC_ALL PATH PORT TZ');
    const { pid } = service;
    await service.restart();
    expect(service.pid).not.toBe(pid);
    await service.stop();
    expect(service.pid).toBeUndefined();
  });

  it('kills a process that ignores SIGTERM, after the time it was given', async () => {
    const service = await start('stubborn', { STUBBORN: '1' }, 300);
    const { pid } = service;
    const end = service.ended();
    await service.stop();
    expect(await end).toEqual({ code: null, signal: 'SIGKILL' });
    expect(await alive(pid!)).toBe(false);
    expect(service.tail()).toContain('no');
  });

  it('reports the end of a process that dies by itself, and starts it again', async () => {
    const service = await start('mortal');
    process.kill(service.pid!, 'SIGKILL');
    expect(await service.ended()).toEqual({ code: null, signal: 'SIGKILL' });
    expect(service.pid).toBeUndefined();
    await service.start();
    expect(await alive(service.pid!)).toBe(true);
  });

  it('a start that fails shows the last words of the process', async () => {
    const bad = join(dir, 'bad.mjs');
    await writeFile(bad, `console.error('DATABASE_URL is missing'); process.exit(78);`);
    const logFile = join(dir, 'bad.log');
    const failing = startService({ name: 'bad', main: bad, env: {}, logFile, readyUrl: 'http://127.0.0.1:1/' });
    await expect(failing).rejects.toThrow(/bad ended at once \(exit code 78\)[\s\S]*DATABASE_URL is missing/);
    const mute = join(dir, 'mute.mjs');
    await writeFile(mute, `console.log('thinking'); setInterval(() => {}, 1000);`);
    const options = { name: 'mute', main: mute, env: {}, logFile: join(dir, 'mute.log'), readyLog: /never/ };
    await expect(startService({ ...options, startMs: 1_500 })).rejects.toThrow(/mute was not ready after 1500 ms/);
    await expect(startService({ ...options, main: join(dir, 'absent.mjs') })).rejects.toThrow(/build first/);
  });

  it('an owner that is killed with SIGKILL leaves nothing behind', async () => {
    const owner = join(dir, 'owner.mjs');
    const sources = JSON.stringify(join(import.meta.dirname, 'service.ts'));
    await writeFile(
      owner,
      `import { writeFileSync } from 'node:fs';
       const { startService } = await import(${sources});
       const options = { main: ${JSON.stringify(main)}, env: { PORT: process.argv[2] } };
       const s = await startService({ ...options, name: 'owned', logFile: ${JSON.stringify(join(dir, 'owned.log'))},
         readyUrl: 'http://127.0.0.1:' + process.argv[2] });
       writeFileSync(process.argv[3], String(s.pid));`,
    );
    const pidFile = join(dir, 'owned.pid');
    const args = ['--import', LOADER, '--experimental-transform-types', owner, String(await freePort()), pidFile];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let complaint = '';
    child.stderr.on('data', (chunk: Buffer) => (complaint += chunk.toString()));
    const pidOf = (): Promise<string> => readFile(pidFile, 'utf8').catch(() => '');
    const told = await waitUntil(async () => (await pidOf()) !== '' || child.exitCode !== null, 30_000);
    expect([told, child.exitCode, complaint.replace(/.*(Warning|--trace).*\n?/g, '')]).toEqual([true, null, '']);
    const pid = Number(await pidOf());
    expect(await alive(pid)).toBe(true);
    child.kill('SIGKILL');
    expect(await waitUntil(async () => !(await alive(pid)), 10_000)).toBe(true);
  });
});
