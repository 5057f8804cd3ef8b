import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { CreateRepositoryCommand, ECRClient, GetAuthorizationTokenCommand } from '@aws-sdk/client-ecr';
import { requireTool } from '../tools.js';
import { startFakeEcr, type FakeEcr } from './index.js';

/** Stock clients with a user name and a password. Asked for by TEST_INTEROP=1, as it fetches oras and crane. */
const suite = process.env['TEST_INTEROP'] === '1' ? describe : describe.skip;

suite('stock clients', () => {
  let ecr: FakeEcr;
  let dir: string;
  let login: { username: string; password: string };
  beforeAll(async () => {
    ecr = await startFakeEcr();
    dir = await mkdtemp(join(tmpdir(), 'fake-ecr-'));
    const { accessKeyId, secretAccessKey } = ecr.addUser('owner', {
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Action: 'ecr:*', Resource: '*' }],
    });
    const client = new ECRClient({
      endpoint: ecr.url,
      region: ecr.region,
      credentials: { accessKeyId, secretAccessKey },
    });
    await client.send(new CreateRepositoryCommand({ repositoryName: 'acme/web', imageTagMutability: 'IMMUTABLE' }));
    const { authorizationData } = await client.send(new GetAuthorizationTokenCommand({}));
    const text = Buffer.from(authorizationData?.[0]?.authorizationToken ?? '', 'base64').toString();
    login = { username: text.slice(0, 3), password: text.slice(4) };
  });
  afterAll(async () => {
    await ecr?.stop();
    await rm(dir, { recursive: true, force: true });
  });

  it('push, pull and copy: oras and crane', async () => {
    const [oras, crane] = await Promise.all([requireTool('oras'), requireTool('crane')]);
    const { host } = new URL(ecr.url);
    const auth = Buffer.from(`${login.username}:${login.password}`).toString('base64');
    await writeFile(join(dir, 'config.json'), JSON.stringify({ auths: { [host]: { auth } } }));
    const run = (bin: string, ...args: string[]) =>
      promisify(execFile)(bin, args, { cwd: dir, env: { PATH: process.env['PATH'], DOCKER_CONFIG: dir } });
    await writeFile(join(dir, 'hello.txt'), 'hello');
    const config = ['--registry-config', join(dir, 'config.json')];
    await run(oras.path, 'push', '--plain-http', ...config, `${host}/acme/web:v1`, 'hello.txt:text/plain');
    const { stdout } = await run(crane.path, 'digest', '--insecure', `${host}/acme/web:v1`);
    expect(stdout.trim()).toMatch(/^sha256:[0-9a-f]{64}$/);
    await rm(join(dir, 'hello.txt'));
    await run(oras.path, 'pull', '--plain-http', ...config, `${host}/acme/web@${stdout.trim()}`);
    expect(await readFile(join(dir, 'hello.txt'), 'utf8')).toBe('hello');
    await run(crane.path, 'copy', '--insecure', `${host}/acme/web:v1`, `${host}/acme/web:v2`);
    await writeFile(join(dir, 'hello.txt'), 'another');
    const moved = run(oras.path, 'push', '--plain-http', ...config, `${host}/acme/web:v1`, 'hello.txt:text/plain');
    await expect(moved).rejects.toThrow(/400|TAG_INVALID/);
  });
});
