import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { type Artifact, type JobKind, type JsonObject } from '#contracts';
import { leftBy } from '../src/executors/terraform-state.js';
import { Attempt } from './attempt.js';
import { APP, IMAGE_DIGEST, orderOf, publish, startWorld, type World } from './world.js';

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.stop());

const MARKER = 'sensitive-marker-8f3a';
/** Two resources, one after the other, that write down what they do; the second waits while there is no gate file. */
const MODULE = `
terraform {
  backend "http" { address = "http://127.0.0.1:1" }
}
variable "color" { type = string }
variable "dir" { type = string }
resource "terraform_data" "first" {
  input = var.color
  provisioner "local-exec" { command = "echo first >> \${var.dir}/effects" }
}
resource "terraform_data" "second" {
  depends_on       = [terraform_data.first]
  triggers_replace = [var.color]
  provisioner "local-exec" { command = "echo begin >> \${var.dir}/effects; test -e \${var.dir}/gate || sleep 100; echo second >> \${var.dir}/effects" }
}
output "color" { value = terraform_data.first.output }
output "host" { value = "db.internal" }
output "password" {
  value     = "${MARKER}"
  sensitive = true
}
output "url" { value = "postgres://shop:${MARKER}@db.internal" }
`;

interface Case {
  readonly name: string;
  readonly dir: string;
  readonly artifact: Artifact;
  job(kind: JobKind, color?: string, values?: JsonObject): Attempt;
  effects(): Promise<string[]>;
}

async function newCase(name: string, source: string = MODULE, gate = true): Promise<Case> {
  const component = { name, kind: 'terraform-module' as const, source: { 'main.tf': source } };
  const artifact = await publish(world, component);
  const dir = join(world.dir, name);
  await mkdir(dir);
  if (gate) await writeFile(join(dir, 'gate'), '');
  return {
    name,
    dir,
    artifact,
    job: (kind, color = 'red', values = { color: '{{ install.inputs.color }}', dir }) =>
      new Attempt(
        world.dir,
        kind === 'apply' ? world.apply : world.destroy,
        orderOf(world, { kind, name, component: 'terraform-module', artifact, values, inputs: { color } }),
      ),
    effects: async () => (await readFile(join(dir, 'effects'), 'utf8')).trim().split('\n'),
  };
}
const ONCE = ['first', 'begin', 'second'];

/** As much of S3 as terraform's backend uses: objects, `If-None-Match`, and a list of nothing. */
async function startBucket(): Promise<{ url: string; objects: Map<string, Buffer>; stop(): Promise<void> }> {
  const objects = new Map<string, Buffer>();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const key = decodeURIComponent((request.url ?? '').split('?')[0] ?? '');
      const there = objects.get(key);
      const answer = (status: number, body: Buffer | string = ''): void => {
        response.writeHead(status, { etag: '"x"', 'content-type': 'application/xml' }).end(body);
      };
      const fault = (status: number, code: string): void => answer(status, `<Error><Code>${code}</Code></Error>`);
      if (request.method === 'PUT') {
        if (request.headers['if-none-match'] === '*' && there) {
          fault(412, 'PreconditionFailed');
          return;
        }
        objects.set(key, Buffer.concat(chunks));
        answer(200);
        return;
      }
      if (request.method === 'DELETE') {
        objects.delete(key);
        answer(204);
        return;
      }
      if (/^\/states\/?$/.test(key)) {
        answer(200, '<ListBucketResult><Name>states</Name></ListBucketResult>');
        return;
      }
      if (!there) {
        fault(404, 'NoSuchKey');
        return;
      }
      // The SDK loads in parts, and goes on for ever where nobody tells it how many there are.
      const range = `bytes 0-${there.length - 1}/${there.length}`;
      response.writeHead(206, { etag: '"x"', 'content-length': there.length, 'content-range': range }).end(there);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    objects,
    stop: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

describe('a terraform module', () => {
  it('is applied, the same again changes nothing, a change is one, a teardown leaves nothing', async () => {
    const db = await newCase('database');
    const first = db.job('apply');
    expect(await first.run()).toEqual({
      changed: true,
      created: 2,
      updated: 0,
      deleted: 0,
      outputs: { color: 'red', host: 'db.internal' },
      // The URL was not declared sensitive; it has the password in it.
      sensitive_outputs: ['password', 'url'],
    });
    expect(await db.effects()).toEqual(ONCE);

    const again = db.job('apply');
    expect(await again.run()).toMatchObject({ changed: false, created: 0, updated: 0, deleted: 0 });
    expect(again.calls).toEqual(['terraform plan', 'terraform output']);

    const change = db.job('apply', 'blue');
    expect(await change.run()).toMatchObject({
      changed: true,
      created: 1,
      updated: 1,
      deleted: 1,
      outputs: { color: 'blue' },
    });

    for (const attempt of [first, again, change]) {
      expect(JSON.stringify([attempt.log, attempt.outputs])).not.toContain(MARKER);
      expect(JSON.stringify(attempt.commands)).not.toContain('blue');
    }
    expect((await world.store.read('database'))?.outputs['password']).toBe(MARKER);
    expect((await stat(join(world.store.placeOf('database'), 'state.json'))).mode & 0o777).toBe(0o600);
    expect((await stat(world.store.placeOf('database'))).mode & 0o777).toBe(0o700);

    const gone = db.job('destroy');
    expect(await gone.run()).toMatchObject({ changed: true, deleted: 2 });
    expect(existsSync(world.store.placeOf('database'))).toBe(false);
    expect(await db.job('destroy').run()).toMatchObject({ changed: false, deleted: 0 });
  });

  it('goes on between plan and apply, with the plan that was made', async () => {
    const db = await newCase('between');
    const attempt = await db.job('apply').runBefore('apply');
    expect(await attempt.run()).toMatchObject({ changed: true, created: 2 });
    expect(attempt.calls.filter((call) => call === 'terraform plan')).toHaveLength(1);
    expect(await db.effects()).toEqual(ONCE);
  });

  it('goes on after a crash in apply, without doing again what was done', async () => {
    const db = await newCase('cut', MODULE, false);
    const attempt = db.job('apply');
    await attempt.crashIn('apply', async () => (await db.effects().catch((): string[] => [])).includes('begin'));
    expect(await db.effects()).toEqual(['first', 'begin']);
    await writeFile(join(db.dir, 'gate'), '');
    expect(await attempt.run()).toMatchObject({ changed: true, outputs: { color: 'red' } });
    expect(await db.effects()).toEqual(['first', 'begin', 'begin', 'second']);
    expect(await db.job('apply').run()).toMatchObject({ changed: false });
    expect(await db.job('destroy').run()).toMatchObject({ deleted: 2 });
  });

  it('applies no plan that is not the one that was made', async () => {
    const db = await newCase('swapped');
    const attempt = await db.job('apply').runBefore('apply');
    const other = await db.job('apply', 'blue').runBefore('apply');
    const plan = (of: Attempt): string => join(of.workspace, 'private', 'ims.tfplan');
    await writeFile(plan(attempt), await readFile(plan(other)));
    expect(await attempt.failure()).toMatchObject({ code: 'stale_plan' });
    expect(existsSync(join(db.dir, 'effects'))).toBe(false);
  });

  it('fails with the error that terraform gives, and names no secret', async () => {
    await world.store.write('vault', { digest: IMAGE_DIGEST, kind: 'x', outputs: { key: MARKER }, sensitive: ['key'] });
    const failing = await newCase(
      'failing',
      `variable "key" {}
       resource "terraform_data" "a" {
         lifecycle {
           precondition {
             condition     = var.key == "other"
             error_message = "the key \${var.key} is not right"
           }
         }
       }`,
    );
    const attempt = failing.job('apply', 'red', { key: '{{ components.vault.outputs.key }}' });
    const failure = await attempt.failure();
    expect(failure).toMatchObject({ code: 'plan_failed' });
    expect(attempt.log.join('\n')).toContain('the key *** is not right');
    expect(JSON.stringify([attempt.log, attempt.outputs, failure])).not.toContain(MARKER);
    await world.store.remove('vault');
  });

  it('says which reference has no value, before anything runs', async () => {
    const db = await newCase('unknown');
    const attempt = db.job('apply', 'red', { color: '{{ components.none.outputs.x }}' });
    expect(await attempt.failure()).toMatchObject({ code: 'unknown_reference' });
    expect(attempt.commands).toEqual([]);
  });

  it('is refused without terraform, before anything is changed', async () => {
    const db = await newCase('toolless');
    const { TERRAFORM_BIN } = world.config;
    world.config.TERRAFORM_BIN = '/nowhere/terraform';
    expect(await db.job('apply').failure()).toMatchObject({ code: 'tool_missing' });
    world.config.TERRAFORM_BIN = TERRAFORM_BIN;
  });
});

describe('state', () => {
  it('is unlocked for the job whose run left the lock, and for no other', () => {
    const lock = (at: string, who = 'root@here'): string =>
      `Lock Info:\n  ID:        1-2\n  Who:       ${who}\n  Created:   2026-01-01 ${at}.9658264 +0000 UTC\n`;
    const mark = (job: string, time: string) => ({ job, from: `2026-01-01T${time}.000Z` });
    const two = [mark('a', '10:00:00'), mark('b', '12:00:00')];
    expect(leftBy(lock('10:00:01'), two, 'a', 'here')).toBe('1-2');
    expect(leftBy(lock('10:00:01'), two, 'b', 'here')).toBeUndefined();
    expect(leftBy(lock('12:00:01'), two, 'b', 'here')).toBe('1-2');
    expect(leftBy(lock('12:00:01'), two, 'a', 'here')).toBeUndefined();
    // Of before, of another host, of nobody that this host knows, and no lock at all.
    expect(leftBy(lock('09:59:58'), two, 'a', 'here')).toBeUndefined();
    expect(leftBy(lock('10:00:01', 'root@there'), two, 'a', 'here')).toBeUndefined();
    expect(leftBy(lock('10:00:01'), [], 'a', 'here')).toBeUndefined();
    expect(leftBy('Error: something else', two, 'a', 'here')).toBeUndefined();
  });

  it('that the customer hands in is taken over once, so that nothing is made anew', async () => {
    const before = await newCase('before');
    await before.job('apply').run();
    const { dir } = before;
    const state = await readFile(join(world.store.placeOf('before'), 'terraform.tfstate'));
    await writeFile(join(await world.store.directoryOf('after'), 'import.tfstate'), state);
    const after = await newCase('after');
    const same = { color: '{{ install.inputs.color }}', dir };
    expect(await after.job('apply', 'red', same).run()).toMatchObject({ changed: false, outputs: { color: 'red' } });
    expect(await before.effects()).toEqual(ONCE);
    expect(await readdir(world.store.placeOf('after'))).toContain('import.tfstate.taken');
    expect(await after.job('destroy', 'red', same).run()).toMatchObject({ deleted: 2 });
  });

  it('in a bucket is where the local one goes, outlives this host, and is unlocked for the job that was cut', async () => {
    const bucket = await startBucket();
    const credentials = join(world.dir, 'credentials');
    await writeFile(credentials, '[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = x\n');
    const db = await newCase('bucket');
    await db.job('apply').run();
    Object.assign(world.config, {
      TERRAFORM_STATE: 's3://states/vendor?region=eu-central-1',
      TERRAFORM_STATE_ENDPOINT: bucket.url,
      TERRAFORM_STATE_CREDENTIALS: credentials,
    });
    try {
      expect(await db.job('apply').run()).toMatchObject({ changed: false });
      const key = `/states/vendor/${world.enrolment.install_id ?? ''}/bucket/terraform.tfstate`;
      expect([...bucket.objects.keys()]).toEqual([key]);

      await rm(join(db.dir, 'gate'));
      const cut = db.job('apply', 'blue');
      await cut.crashIn('apply', async () => (await db.effects()).length > ONCE.length);
      expect([...bucket.objects.keys()]).toContain(`${key}.tflock`);
      await writeFile(join(db.dir, 'gate'), '');
      expect(await cut.run()).toMatchObject({ changed: true, outputs: { color: 'blue' } });
      expect(cut.log.join('\n')).toContain('which an attempt of this job has left: it is unlocked');

      // The host is lost; the state is not.
      await world.store.remove('bucket');
      expect(await db.job('apply', 'blue').run()).toMatchObject({ changed: false });
      await world.store.remove('bucket');
      expect(await db.job('destroy', 'blue').run()).toMatchObject({ deleted: 2 });
      expect(await db.job('destroy', 'blue').run()).toMatchObject({ changed: false, deleted: 0 });
      expect([...bucket.objects.keys()]).toEqual([key]);
    } finally {
      for (const name of ['', '_ENDPOINT', '_CREDENTIALS'])
        Object.assign(world.config, { [`TERRAFORM_STATE${name}`]: undefined });
      await bucket.stop();
    }
  }, 120_000);
});

describe('an image', () => {
  const job = (kind: JobKind, artifact: Artifact): Attempt =>
    new Attempt(
      world.dir,
      kind === 'apply' ? world.apply : world.destroy,
      orderOf(world, { kind, name: 'web', component: 'container-image', artifact }),
    );

  it('is its reference in the install registry, by digest', async () => {
    const image = await publish(world, { name: 'web', kind: 'container-image', source: { layer: '1' } });
    const next = await publish(world, { name: 'web', kind: 'container-image', source: { layer: '2' } });
    const repository = `${world.registry.host}/${APP}/web`;
    const outputs = { image: `${repository}@${image.digest}`, repository, digest: image.digest };
    expect(await job('apply', image).run()).toMatchObject({ changed: true, created: 1, outputs });
    expect(await job('apply', image).run()).toMatchObject({ changed: false, outputs });
    expect(await job('apply', next).run()).toMatchObject({
      changed: true,
      updated: 1,
      outputs: { digest: next.digest },
    });
    expect(await job('destroy', next).run()).toMatchObject({ changed: true, deleted: 1 });
    expect(await readdir(join(world.stateDir, 'components'))).not.toContain('web');
  });
});
