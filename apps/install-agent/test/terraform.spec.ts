import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Artifact, type JobKind, type JsonObject } from '#contracts';
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
