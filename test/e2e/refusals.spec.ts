import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import {
  newId,
  type App,
  type Build,
  type Channel,
  type Component,
  type Deployment,
  type Event,
  type Install,
  type Job,
  type PullToken,
  type Release,
  type Rollout,
} from '#contracts';
import { createRegistryCertificate, createRegistryTokenSigner, RegistryClient } from '#oci';
import { type Customer } from '../../deploy/local/agents.js';
import { type RestClient } from '../../deploy/local/rest.js';
import { buildAll, deploy, publishUpstreamImage, vendorOf } from '../../deploy/local/shop.js';
import { fuzz } from '../fuzz/run.js';
import { enrolScripted } from './scripted-agent.js';
import {
  ask,
  buildWell,
  change,
  commit,
  declare,
  QUIET,
  release,
  START_MS,
  startWorld,
  until,
  type World,
} from './world.js';

const TERRAFORM = `variable "note" {
  type    = string
  default = ""
}
resource "terraform_data" "thing" { input = "thing" }
output "name" { value = terraform_data.thing.output }
`;
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const UNKNOWN_DIGEST = `sha256:${'0'.repeat(64)}`;
const TEST_MS = 180_000;

describe('what is wrong is refused at the right place, and nothing is left half done', () => {
  let world: World;
  let rest: RestClient;
  let stranger: RestClient;
  let app: App;
  let install: Install;
  let customer: Customer;
  let deployed: Deployment;

  beforeAll(async () => {
    world = await startWorld();
    ({ rest } = world);
    stranger = (await vendorOf(world.platform, 'umbrella')).rest;
    const url = commit(world, 'tool', { 'main.tf': TERRAFORM });
    app = await declare(rest, { name: 'tool' }, [{ name: 'db', kind: 'terraform-module', source: { url } }]);
    await buildWell(rest, app);
    const { id: release_id } = await release(rest, app, '1.0.0');
    install = await rest.post<Install>('/v1/installs', { app_id: app.id, name: 'initech' });
    customer = await world.customer(install);
    deployed = (await deploy(rest, install, { kind: 'deploy', release_id }, QUIET)).deployment;
    expect(deployed.status).toBe('succeeded');
  }, START_MS);
  afterAll(() => world.stop(), START_MS);

  const componentsOf = async ({ id }: App): Promise<string[]> =>
    (await rest.all<Component>(`/v1/apps/${id}/components`)).map(({ name }) => name).sort();
  const releasesOf = ({ id }: App): Promise<Release[]> => rest.all<Release>(`/v1/apps/${id}/releases`);

  it(
    'sources that cannot be built: the file and line, the Dockerfile step, the image',
    async () => {
      const { platform } = world;
      const broken = (): string =>
        commit(world, 'broken', {
          'database/main.tf': 'variable "x" {}\n\nresource "terraform_data" thing" {\n}\n',
          'web/Dockerfile': 'FROM scratch\nCOPY nothing /nothing\n',
        });
      const missing = `${platform.upstreamRegistry.host}/library/nothing@${UNKNOWN_DIGEST}`;
      const bad = await declare(rest, { name: 'broken' }, [
        { name: 'database', kind: 'terraform-module', source: { url: broken(), directory: 'database' } },
        { name: 'web', kind: 'container-image', source: { url: broken(), directory: 'web' } },
        { name: 'cache', kind: 'external-image', image: missing },
      ]);
      const { builds, histories } = await buildAll(rest, bad, QUIET);
      const ended = new Map(builds.map((build) => [build.component_name, build]));
      const errorOf = (name: string) => ended.get(name)?.error;
      expect(errorOf('database')).toMatchObject({
        code: 'source_invalid',
        detail: expect.stringMatching(/main\.tf:3: \S/),
      });
      expect(errorOf('web')).toMatchObject({
        code: 'image_build_failed',
        detail: expect.stringMatching(/STEP 2.*nothing/),
      });
      expect(errorOf('cache')).toMatchObject({
        code: 'external_image_unavailable',
        detail: expect.stringContaining(`library/nothing@${UNKNOWN_DIGEST}`),
      });
      for (const { status, artifact, finished_at } of builds)
        expect([status, artifact, finished_at]).toEqual(['failed', undefined, expect.any(String)]);
      // The same source would fail the same way: none of them was tried twice.
      expect(histories.map(({ job, attempts }) => [job.status, attempts.length])).toEqual(Array(3).fill(['failed', 1]));
      expect(existsSync(join(platform.dir, 'vendor-registry/data/docker/registry/v2/repositories/acme/broken'))).toBe(
        false,
      );

      const refused = await ask(rest, 'POST', `/v1/apps/${bad.id}/releases`, { version: '1.0.0' });
      expect([refused.status, refused.body['code']]).toEqual([409, 'nothing_built']);
      for (const name of ['cache', 'database', 'web']) expect(refused.body['detail']).toContain(name);
      expect(await releasesOf(bad)).toEqual([]);

      commit(world, 'broken', {
        'database/main.tf': TERRAFORM,
        'web/Dockerfile': 'FROM scratch\nCOPY page /\n',
        'web/page': 'hello',
      });
      const cache = (await rest.all<Component>(`/v1/apps/${bad.id}/components`)).find(({ name }) => name === 'cache');
      await change(rest, cache!.id, { image: await publishUpstreamImage(platform) });
      await buildWell(rest, bad);
      expect((await release(rest, bad, '1.0.0')).components).toHaveLength(3);
      const all = await rest.all<Build>(`/v1/apps/${bad.id}/builds`);
      expect(all.map(({ status }) => status).sort()).toEqual([
        ...Array<string>(3).fill('failed'),
        ...Array<string>(3).fill('succeeded'),
      ]);
    },
    TEST_MS,
  );

  it('a circle of dependencies is named, when it is made and when a change would make it', async () => {
    const round = await declare(rest, { name: 'round' }, [
      { name: 'a', kind: 'external-image', image: 'example.com/a:1', depends_on: ['b'] },
      { name: 'b', kind: 'external-image', image: 'example.com/b:1', depends_on: ['c'] },
    ]);
    const closing = { name: 'c', kind: 'external-image', image: 'example.com/c:1', depends_on: ['a'] };
    const made = await ask(rest, 'POST', `/v1/apps/${round.id}/components`, closing);
    expect([made.status, made.body['code']]).toEqual([422, 'dependency_cycle']);
    expect(made.body['detail']).toMatch(/^(a -> b -> c -> a|b -> c -> a -> b|c -> a -> b -> c)$/);
    expect(await componentsOf(round)).toEqual(['a', 'b']);

    const c = await rest.post<Component>(`/v1/apps/${round.id}/components`, { ...closing, depends_on: [] });
    await expect(change(rest, c.id, { depends_on: ['a'] })).rejects.toMatchObject({
      status: 422,
      code: 'dependency_cycle',
    });
    expect((await rest.get<Component>(`/v1/components/${c.id}`)).depends_on ?? []).toEqual([]);
    expect(await componentsOf(round)).toEqual(['a', 'b', 'c']);
  });

  it('an unknown field is refused by its place in the body', async () => {
    const top = await ask(rest, 'POST', '/v1/apps', { name: 'strict', colour: 'red' });
    expect([top.status, top.body['code']]).toEqual([422, 'invalid_request']);
    expect(top.headers.get('content-type')).toContain('application/problem+json');
    expect(top.body['errors']).toEqual([expect.objectContaining({ pointer: '/colour' })]);
    expect((await rest.all<App>('/v1/apps')).filter(({ name }) => name === 'strict')).toEqual([]);

    const strict = await rest.post<App>('/v1/apps', { name: 'strict' });
    const body = { name: 'db', kind: 'terraform-module', source: { url: '/src', branch: 'main' } };
    const nested = await ask(rest, 'POST', `/v1/apps/${strict.id}/components`, body);
    expect([nested.status, nested.body['errors']]).toEqual([
      422,
      [expect.objectContaining({ pointer: '/source/branch' })],
    ]);
    expect(await componentsOf(strict)).toEqual([]);
  });

  it('no key, a wrong one and an altered one are the same to us, and do nothing', async () => {
    const { apiKey, baseUrl } = rest;
    const altered = `${apiKey.slice(0, -1)}${apiKey.endsWith('0') ? '1' : '0'}`;
    for (const key of [undefined, 'nonsense', altered, `${apiKey}x`, world.account.build_agent.token]) {
      const as = { baseUrl, ...(key === undefined ? {} : { apiKey: key }) };
      for (const [method, path, body] of [
        ['GET', '/v1/apps', undefined],
        ['POST', '/v1/apps', { name: 'burglar' }],
        ['GET', `/v1/installs/${install.id}`, undefined],
      ] as const) {
        const answer = await ask(as, method, path, body);
        expect([answer.status, answer.body['code'], answer.headers.get('www-authenticate')]).toEqual([
          401,
          'unauthenticated',
          'Bearer',
        ]);
      }
    }
    expect((await rest.all<App>('/v1/apps')).filter(({ name }) => name === 'burglar')).toEqual([]);
  });

  it(
    'whatever is sent to any route and any subject of an agent: no 5xx, no end, no word of another vendor',
    async () => {
      const { platform } = world;
      const enrol = (as: RestClient, of: Install) => enrolScripted({ platform, rest: as }, of);
      const { faults, requests } = await fuzz(platform, { seed: 1, requests: 1_000, payloads: 250, enrol });
      expect(faults).toEqual([]);
      expect(requests).toBe(1_000);
    },
    TEST_MS,
  );

  it(
    'an id of another vendor is an id that does not exist, on every route',
    async () => {
      const { paths } = (await ask(rest, 'GET', '/openapi.json')).body as unknown as {
        paths: Record<string, Record<string, unknown>>;
      };
      const [jobs, builds, releases, components, tokens] = await Promise.all([
        rest.all<Job>(`/v1/jobs?deployment_id=${deployed.id}`),
        rest.all<Build>(`/v1/apps/${app.id}/builds`),
        releasesOf(app),
        rest.all<Component>(`/v1/apps/${app.id}/components`),
        rest.all<PullToken>(`/v1/installs/${install.id}/pull-tokens`),
      ]);
      const release_id = releases[0]?.id;
      const channel = await rest.post<Channel>(`/v1/apps/${app.id}/channels`, { name: 'walked' });
      // No install is in the channel, so nothing is rolled out.
      const rollout = await rest.post<Rollout>('/v1/rollouts', { release_id, channel_id: channel.id });
      const key = await rest.post<{ id: string }>('/v1/api-keys', { name: 'walked', role: 'read_only' });
      // The name leads nowhere, so the test stays on its way.
      const webhook = await rest.post<{ id: string }>('/v1/webhooks', { url: 'https://hooks.invalid/' });
      const delivery = await rest.post<{ id: string }>(`/v1/webhooks/${webhook.id}/test`);
      const ids: Record<string, string | undefined> = {
        app_id: app.id,
        component_id: components[0]?.id,
        build_id: builds[0]?.id,
        release_id,
        install_id: install.id,
        deployment_id: deployed.id,
        job_id: jobs.find(({ kind }) => kind === 'apply')?.id,
        agent_id: install.agent_id,
        token_id: tokens[0]?.id,
        channel_id: channel.id,
        rollout_id: rollout.id,
        key_id: key.id,
        webhook_id: webhook.id,
        delivery_id: delivery.id,
        // Nothing has gone wrong here, so there is none: the stranger is answered the same.
        dead_id: newId('dead'),
      };
      /** Bodies that would be good ones of the vendor's own. */
      const bodies: Record<string, object> = {
        '/v1/apps/{app_id}/components': { name: 'x', kind: 'external-image', image: 'example.com/x:1' },
        '/v1/components/{component_id}': { kind: 'terraform-module', source: { url: '/src' } },
        '/v1/apps/{app_id}/releases': { version: '9.9.9' },
        '/v1/installs/{install_id}/deployments': { kind: 'teardown' },
        '/v1/installs/{install_id}/deprovision': { reason: 'walked' },
        '/v1/releases/{release_id}/mark-bad': { reason: 'walked' },
        '/v1/apps/{app_id}/channels': { name: 'stolen' },
        '/v1/channels/{channel_id}/promote': { release_id },
        '/v1/webhooks/{webhook_id}': { url: 'https://hooks.invalid/' },
        '/v1/installs/{install_id}/jobs': { jobs: [{ key: 'walked', kind: 'noop', component: 'web' }] },
        '/v1/deployments/{deployment_id}/jobs': { jobs: [{ key: 'walked', kind: 'noop', component: 'web' }] },
      };
      let walked = 0;
      for (const [template, methods] of Object.entries(paths)) {
        // The operator's own route: a vendor's key is refused there for what it is.
        if (!template.includes('{') || /^\/(v1\/vendors|errors)\//.test(template)) continue;
        for (const method of Object.keys(methods).filter((each) => ['get', 'post', 'put'].includes(each))) {
          const path = template.replace(/\{(\w+)\}/g, (_, name: string) => ids[name] ?? `no-sample-for-${name}`);
          expect(path).not.toContain('no-sample-for');
          const body =
            method === 'get' ? undefined : (bodies[template] ?? (/tokens$|revoke$/.test(template) ? undefined : {}));
          const answer = await ask(stranger, method.toUpperCase(), path, body, { 'if-match': '*' });
          expect([method, template, answer.status, answer.body['code']]).toEqual([method, template, 404, 'not_found']);
          if (method === 'get' && !template.includes('{dead_id}'))
            expect([template, (await ask(rest, 'GET', path)).status]).toEqual([template, 200]);
          walked += 1;
        }
      }
      expect(walked).toBeGreaterThan(25);
      for (const path of ['apps', 'installs', 'jobs'])
        expect([path, await stranger.all(`/v1/${path}`)]).toEqual([path, []]);
      // Its own install of a foreign app, and a foreign release for its own install, do not exist either.
      const foreign = await ask(stranger, 'POST', '/v1/installs', { app_id: app.id, name: 'thief' });
      expect([foreign.status, foreign.body['code']]).toEqual([404, 'not_found']);
      const own = await declare(stranger, { name: 'tool' }, []);
      const theirs = await stranger.post<Install>('/v1/installs', { app_id: own.id, name: 'thief' });
      const wish = { kind: 'deploy', release_id: ids['release_id'] };
      const taken = await ask(stranger, 'POST', `/v1/installs/${theirs.id}/deployments`, wish);
      expect([taken.status, taken.body['code']]).toEqual([404, 'not_found']);
      expect(await stranger.all(`/v1/installs/${theirs.id}/deployments`)).toEqual([]);
      expect((await rest.all<Deployment>(`/v1/installs/${install.id}/deployments`)).map(({ id }) => id)).toEqual([
        deployed.id,
      ]);
    },
    TEST_MS,
  );

  it(
    'a template that names what is not there stops the release, with its place',
    async () => {
      const url = commit(world, 'templates', { 'main.tf': TERRAFORM });
      const templates = await declare(rest, { name: 'templates', inputs: [{ name: 'region', type: 'string' }] }, [
        {
          name: 'db',
          kind: 'terraform-module',
          source: { url },
          values: { note: '{{ components.nope.outputs.host }}' },
        },
      ]);
      const [db] = await rest.all<Component>(`/v1/apps/${templates.id}/components`);
      await buildWell(rest, templates);
      for (const [note, code, named] of [
        ['{{ components.nope.outputs.host }}', /unknown_(reference|component)/, 'nope'],
        ['{{ install.inputs.nowhere }}', /unknown_reference/, 'nowhere'],
      ] as const) {
        await change(rest, db!.id, { values: { note } });
        const refused = await ask(rest, 'POST', `/v1/apps/${templates.id}/releases`, { version: '1.0.0' });
        expect([note, refused.status]).toEqual([note, 422]);
        expect(refused.body['code']).toMatch(code);
        expect(refused.body['detail']).toContain(named);
        expect(JSON.stringify(refused.body)).toContain('/components/db/values/note');
        expect(await releasesOf(templates)).toEqual([]);
      }
      await change(rest, db!.id, { values: { note: '{{ install.inputs.region }}' } });
      const good = await release(rest, templates, '1.0.0');

      const other = await ask(rest, 'POST', `/v1/installs/${install.id}/deployments`, {
        kind: 'deploy',
        release_id: good.id,
      });
      expect([other.status, other.body['errors']]).toEqual([
        422,
        [expect.objectContaining({ pointer: '/release_id' })],
      ]);
      expect(await rest.all<Deployment>(`/v1/installs/${install.id}/deployments`)).toHaveLength(1);
    },
    TEST_MS,
  );

  it(
    'a pull token works once, for the agent that it was made for; its install is told of every other try',
    async () => {
      const second = await rest.post<Install>('/v1/installs', { app_id: app.id, name: 'hooli' });
      const third = await rest.post<Install>('/v1/installs', { app_id: app.id, name: 'pied-piper' });
      const [agent, thief] = await Promise.all([enrolScripted(world, second), enrolScripted(world, third)]);
      try {
        await agent.hello();
        const [made] = await releasesOf(app);
        const what = { kind: 'deploy', release_id: made!.id };
        const deployment = await rest.post<Deployment>(`/v1/installs/${second.id}/deployments`, what);
        const sync = (await rest.all<Job>(`/v1/jobs?deployment_id=${deployment.id}`)).find(
          ({ kind }) => kind === 'sync',
        );
        const { statement } = (await agent.claim(sync!.id)).grant;

        // The job's statement names the only key that may ask; a copy of it is of no use to another agent.
        await expect(thief.tokens.requestPullToken(statement)).rejects.toMatchObject({ code: 'statement_refused' });
        const { token, token_id } = await agent.tokens.requestPullToken(statement);
        const access = await agent.tokens.redeemPullToken(token, 'first-request');
        const { digest } = made!.components[0]!.artifact;
        const bearer = { kind: 'bearer', token: () => Promise.resolve(access.registry_token!) } as const;
        const vendorRegistry = new RegistryClient({ baseUrl: access.registry_url, credential: bearer });
        expect(await vendorRegistry.headManifest(access.repository, digest)).toMatchObject({ digest });

        // Another agent, its own with another request, a stock client with user name and password: used is used.
        await expect(thief.tokens.redeemPullToken(token, 'thief-request')).rejects.toMatchObject({
          code: 'pull_token_refused',
        });
        await expect(agent.tokens.redeemPullToken(token, 'second-request')).rejects.toMatchObject({
          code: 'pull_token_refused',
        });
        const [id = '', secret = ''] = token.split('.');
        const stock = await fetch(
          `${agent.enrolment.registry_token_url}/token?service=vendor-registry&scope=repository:${access.repository}:pull`,
          { headers: { authorization: basic(id, secret) } },
        );
        expect(stock.status).toBe(401);
        // What it was exchanged for gives nothing but this repository, to read.
        await expect(vendorRegistry.headManifest('acme/broken/database', digest)).rejects.toMatchObject({
          code: 'registry_denied',
        });

        const [row] = await rest.all<PullToken>(`/v1/installs/${second.id}/pull-tokens`);
        expect(row).toMatchObject({ id: token_id, status: 'redeemed', job_id: sync!.id, digest });
        // Somebody else had it: the job stops and waits for a person.
        const held = await until('the job is held', async () => (await rest.get<Job>(`/v1/jobs/${sync!.id}`)).hold);
        expect(held).toMatchObject({ code: 'token_tampered' });
        const refusals = await until('the install’s history tells of the refusals', async () => {
          const facts = await rest.all<Event>(`/v1/installs/${second.id}/events`);
          const refused = facts.filter(({ type }) => type === 'token.refused');
          return refused.length >= 3 && refused;
        });
        expect(refusals).toHaveLength(3);
        expect(refusals.map(({ data }) => data['token_id'])).toEqual(Array(3).fill(token_id));
        await rest.post(`/v1/deployments/${deployment.id}/cancel`, { reason: 'the test is over' });
      } finally {
        await Promise.all([agent.close(), thief.close()]);
      }
    },
    TEST_MS,
  );

  it('nobody but the agent can push to the install’s registry; nodes can pull', async () => {
    const { platform } = world;
    const repository = 'tool/db';
    const { digest } = (await releasesOf(app))[0]!.components[0]!.artifact;
    const scope = `repository:${repository}:pull,push`;
    const realm = `http://127.0.0.1:${platform.ports.installAgent}/token?service=install-registry&scope=${scope}`;
    const nodeSecret = readFileSync(join(customer.state, 'node-pull-secret'), 'utf8').trim();
    const granted = await fetch(realm, { headers: { authorization: basic('node', nodeSecret) } });
    expect(granted.status).toBe(200);
    const node = ((await granted.json()) as { token: string }).token;
    for (const authorization of [undefined, basic('node', 'guess'), basic('install-agent', nodeSecret)]) {
      const refused = await fetch(realm, { ...(authorization ? { headers: { authorization } } : {}) });
      expect(refused.status).toBe(401);
    }

    const access = [{ type: 'repository' as const, name: repository, actions: ['pull', 'push', 'delete', '*'] }];
    const vendor = createRegistryTokenSigner({
      privateKeyPem: readFileSync(join(platform.dir, 'keys/registry-key.pem'), 'utf8'),
      certificatePem: readFileSync(join(platform.dir, 'keys/registry-cert.pem'), 'utf8'),
      issuer: 'registry-token',
      service: 'vendor-registry',
    });
    const forger = await createRegistryCertificate('install-agent');
    const forged = createRegistryTokenSigner({ ...forger, issuer: 'install-agent', service: 'install-registry' });
    const grant = { subject: 'install-agent', access, lifeSeconds: 300 };
    const bearers: Record<string, string | undefined> = {
      nobody: undefined,
      'a node': node,
      // Not even the vendor's own registry service, were it taken over, could write here.
      'the vendor’s token service': await vendor.sign(grant),
      'a key of somebody else': await forged.sign(grant),
    };
    const attack = (bearer: string | undefined, method: string, path: string, body?: string): Promise<Response> =>
      fetch(`${customer.registry.url}/v2/${repository}${path}`, {
        method,
        headers: {
          accept: MANIFEST,
          ...(bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }),
          ...(body === undefined ? {} : { 'content-type': MANIFEST }),
        },
        ...(body === undefined ? {} : { body }),
      });
    for (const [who, bearer] of Object.entries(bearers)) {
      for (const [method, path, body] of [
        ['POST', '/blobs/uploads/', undefined],
        ['PUT', '/manifests/latest', '{"schemaVersion":2}'],
        ['DELETE', `/manifests/${digest}`, undefined],
      ] as const) {
        expect([who, method, (await attack(bearer, method, path, body)).status]).toEqual([who, method, 401]);
      }
      const read = await attack(bearer, 'GET', `/manifests/${digest}`);
      expect([who, 'reads', read.status]).toEqual([who, 'reads', who === 'a node' ? 200 : 401]);
    }
    // The registry does take the agent's own signature: the refusals above are about who asked.
    const agent = createRegistryTokenSigner({
      privateKeyPem: readFileSync(join(customer.state, 'registry-key.pem'), 'utf8'),
      certificatePem: readFileSync(join(customer.state, 'registry.crt'), 'utf8'),
      issuer: 'install-agent',
      service: 'install-registry',
    });
    expect((await attack(await agent.sign(grant), 'POST', '/blobs/uploads/')).status).toBe(202);
  });
});

const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
