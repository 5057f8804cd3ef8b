import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import {
  createApp,
  createBuilds,
  createComponent,
  createDeployment,
  createEnrolmentToken,
  enrolAgent,
  etagOf,
  getComponent,
  getDeployment,
  getInstall,
  getJob,
  ImsError,
  jobChanged,
  listApps,
  listHistory,
  listJobs,
  listPullTokens,
  listVitals,
  newId,
  resumeHeldJob,
  updateComponent,
  verifierOf,
  type Deployment,
  type ListJobs,
} from '#contracts';
import { freshDatabase, startNats } from '#stack';
import { Peer, until } from './harness.js';
import * as sample from './samples.js';
import { startWorld, type World } from './world.js';

describe('the REST edge', () => {
  let world: World;
  beforeAll(async () => {
    world = await startWorld({ startNats, freshDatabase });
  });
  afterAll(() => world.stop());
  afterEach(() => {
    world.scheduler.forget();
    world.telemetry.forget();
    world.tokens.forget();
  });
  const get = <T = Record<string, unknown>>(path: string, headers: Record<string, string> = {}) =>
    world.gateway.send<T>('GET', path, { key: world.key, headers });
  const post = (path: string, body?: unknown, headers: Record<string, string> = {}) =>
    world.gateway.send('POST', path, { key: world.key, headers, ...(body === undefined ? {} : { body }) });

  describe('what comes in', () => {
    it('passes a body on with the vendor of the key, and says where the thing is', async () => {
      const app = sample.app();
      world.scheduler.on(createApp, (body) => {
        expect(body).toEqual({ vendor_id: world.vendorId, app: { name: 'shop' } });
        return app;
      });
      const { status, headers, body } = await post('/v1/apps', { name: 'shop' });
      expect([status, headers.get('location'), body]).toEqual([201, `/v1/apps/${app.id}`, app]);
    });

    it('lets a held job go on, and passes on who may not', async () => {
      const job = sample.job({ status: 'queued' });
      world.scheduler.on(resumeHeldJob, (body) => {
        const resume = { reason: 'the laptop was found' };
        expect(body).toEqual({ vendor_id: world.vendorId, job_id: job.id, resume });
        return job;
      });
      const answer = await post(`/v1/jobs/${job.id}/resume`, { reason: 'the laptop was found' });
      expect([answer.status, answer.headers.get('location'), answer.body]).toEqual([202, `/v1/jobs/${job.id}`, job]);
      world.scheduler.on(resumeHeldJob, () => {
        throw new ImsError('held_by_customer', 'audit week');
      });
      const { status, body } = await post(`/v1/jobs/${job.id}/resume`, {});
      expect([status, body['code'], body['detail']]).toEqual([409, 'held_by_customer', 'audit week']);
    });

    it('refuses an unknown field by its pointer, however deep, and asks nobody', async () => {
      const { status, body } = await post('/v1/apps', {
        name: 'shop',
        inputs: [{ name: 'a', type: 'string', kind: 1 }],
        b: 2,
      });
      expect([status, body['code']]).toEqual([422, 'invalid_request']);
      expect(body['errors']).toEqual([
        { pointer: '/b', message: 'unknown field' },
        { pointer: '/inputs/0/kind', message: 'unknown field' },
      ]);
      expect(world.scheduler.calls).toEqual([]);
    });

    it('names every wrong field at once', async () => {
      const { body } = await post(`/v1/apps/${newId('app')}/components`, { name: 'No', kind: 'zip', source: {} });
      const pointers = (body['errors'] as { pointer: string }[]).map(({ pointer }) => pointer);
      expect(pointers.sort()).toEqual(['/kind', '/name', '/source/url']);
    });

    it('treats a missing body as an empty object', async () => {
      world.scheduler.on(createBuilds, () => ({ data: [] }));
      expect((await post(`/v1/apps/${newId('app')}/builds`)).status).toBe(202);
      const { status, body } = await post('/v1/apps');
      expect([status, (body['errors'] as object[]).length]).toEqual([422, 1]);
    });

    it('refuses a body where none belongs, JSON that is none, and other media types', async () => {
      const revoke = `/v1/agents/${newId('agent')}/revoke`;
      expect((await post(revoke, { now: true })).body['errors']).toEqual([
        { pointer: '/now', message: 'unknown field' },
      ]);
      const raw = (type: string, body: string) =>
        fetch(`${world.gateway.url}/v1/apps`, {
          method: 'POST',
          headers: { authorization: `Bearer ${world.key}`, 'content-type': type },
          body,
        });
      for (const [type, body, status, code] of [
        ['application/json', '{"name":', 400, 'malformed_body'],
        ['application/json', '[]', 422, 'invalid_request'],
        ['application/x-www-form-urlencoded', 'name=shop', 415, 'unsupported_media_type'],
        ['text/plain', 'shop', 415, 'unsupported_media_type'],
        ['application/json', JSON.stringify({ name: 'x'.repeat(1_100_000) }), 413, 'payload_too_large'],
      ] as const) {
        const response = await raw(type, body);
        expect([type, response.status, ((await response.json()) as { code: string }).code]).toEqual([
          type,
          status,
          code,
        ]);
      }
    });

    it('refuses unknown, repeated and ill-typed query parameters by their names', async () => {
      const pointers = async (query: string) =>
        ((await get(`/v1/jobs?${query}`)).body['errors'] as { pointer: string }[]).map(({ pointer }) => pointer);
      expect(await pointers('colour=red')).toEqual(['/colour']);
      expect(await pointers('limit=10&limit=20')).toEqual(['/limit']);
      expect(await pointers('limit=ten')).toEqual(['/limit']);
      expect(await pointers('limit=201')).toEqual(['/limit']);
      expect(await pointers('status=done&install_id=*')).toEqual(['/install_id', '/status']);
      const some = (await get('/v1/vendor?x=1')).body['errors'];
      expect(some).toEqual([{ pointer: '/x', message: 'unknown field' }]);
    });

    it('converts query parameters by their declared types', async () => {
      const heard: ListJobs[] = [];
      world.scheduler.on(listJobs, (body) => {
        heard.push(body);
        return { data: [] };
      });
      const install_id = newId('install');
      await get(`/v1/jobs?limit=7&status=running&install_id=${install_id}`);
      expect(heard).toEqual([{ vendor_id: world.vendorId, limit: 7, status: 'running', install_id }]);
    });

    it('answers 405 with Allow, and 404 where there is no path', async () => {
      const wrong = await world.gateway.send('DELETE', '/v1/apps', { key: world.key });
      expect([wrong.status, wrong.body['code']]).toEqual([405, 'method_not_allowed']);
      expect(wrong.headers.get('allow')).toContain('POST');
      expect((await get('/v1/nothing')).body['code']).toBe('not_found');
    });
  });

  describe('what goes out', () => {
    it('passes errors of a service on by code, with their fields', async () => {
      world.scheduler.on(createComponent, () => {
        throw new ImsError('dependency_cycle', 'a -> b -> a', [{ pointer: '/depends_on', message: 'a -> b -> a' }]);
      });
      const { status, headers, body } = await post(`/v1/apps/${newId('app')}/components`, { name: 'a', kind: 'job' });
      expect(status).toBe(422);
      expect(body).toMatchObject({
        code: 'dependency_cycle',
        detail: 'a -> b -> a',
        request_id: headers.get('x-request-id'),
      });
      expect(body['errors']).toEqual([{ pointer: '/depends_on', message: 'a -> b -> a' }]);
    });

    it('links the next page with the filters of this one', async () => {
      world.scheduler.on(listJobs, () => ({ data: [sample.job()], next_cursor: 'abc+/=' }));
      const { body, headers } = await get('/v1/jobs?status=running&limit=1');
      expect(body['next_cursor']).toBe('abc+/=');
      expect(headers.get('link')).toBe('</v1/jobs?status=running&limit=1&cursor=abc%2B%2F%3D>; rel="next"');
      world.scheduler.on(listApps, () => ({ data: [] }));
      const last = await get('/v1/apps');
      expect([last.headers.get('link'), last.body]).toEqual([null, { data: [] }]);
    });

    it('points at the one build, or at the list of several', async () => {
      const app_id = newId('app');
      const build = (id = newId('build')) => ({
        id,
        app_id,
        component_id: newId('component'),
        component_name: 'db',
        job_id: newId('job'),
        status: 'queued',
        created_at: '2026-01-02T03:04:05Z',
      });
      const one = build();
      world.scheduler.on(createBuilds, () => ({ data: [one] }));
      expect((await post(`/v1/apps/${app_id}/builds`, {})).headers.get('location')).toBe(`/v1/builds/${one.id}`);
      world.scheduler.on(createBuilds, () => ({ data: [one, build()] }));
      expect((await post(`/v1/apps/${app_id}/builds`, {})).headers.get('location')).toBe(`/v1/apps/${app_id}/builds`);
    });

    it('keeps answers with secrets out of caches', async () => {
      const install = sample.install();
      world.scheduler.on(getInstall, () => install);
      world.scheduler.on(createEnrolmentToken, ({ agent_id }) => sample.enrolmentTicket(agent_id));
      const token = await post(`/v1/installs/${install.id}/enrolment-tokens`);
      expect([token.status, token.body['agent_id']]).toEqual([201, install.agent_id]);
      expect(token.headers.get('cache-control')).toBe('no-store');
    });

    it('keeps enrolment tokens to itself: only a verifier goes on, and at its use a proof that fits', async () => {
      const install = sample.install();
      let said = '';
      let verifier = '';
      world.scheduler.on(getInstall, () => install);
      world.scheduler.on(createEnrolmentToken, (body) => {
        said += JSON.stringify(body);
        ({ verifier } = body.enrolment);
        return sample.enrolmentTicket(body.agent_id);
      });
      const { body: made } = await post(`/v1/installs/${install.id}/enrolment-tokens`);
      const token = String(made['token']);
      expect(made['command']).toBe(
        `printf '%s' '${token}' | node dist/apps/install-agent/src/main.js enrol --server https://ims.example.test --state ./install-agent`,
      );
      world.scheduler.on(enrolAgent, (body) => {
        said += JSON.stringify(body);
        expect(verifierOf(body.proof)).toBe(verifier);
        throw new ImsError('enrolment_refused');
      });
      const body = { token, public_key: `U${'A'.repeat(55)}`, version: '1.0.0' };
      expect((await world.gateway.send('POST', '/v1/agents/enrol', { body })).status).toBe(401);
      expect(said).toContain('proof');
      expect(said).not.toContain(token.split('_').at(-1));
    });

    it('lets an agent enrol without a key, and passes a refusal on', async () => {
      world.scheduler.on(enrolAgent, () => {
        throw new ImsError('enrolment_refused');
      });
      const body = { token: 't'.repeat(30), public_key: `U${'A'.repeat(55)}`, version: '1.0.0' };
      const { status, body: problem } = await world.gateway.send('POST', '/v1/agents/enrol', { body });
      expect([status, problem['code']]).toEqual([401, 'enrolment_refused']);
    });

    it('asks telemetry and registry-token about an install only after the scheduler knew it', async () => {
      const install = sample.install();
      world.scheduler.on(getInstall, () => install);
      world.telemetry.on(listHistory, (body) => {
        expect(body).toEqual({ vendor_id: world.vendorId, install_id: install.id, limit: 3 });
        return { data: [] };
      });
      world.telemetry.on(listVitals, (body) => {
        expect(body).toEqual({ agent_id: install.agent_id });
        return { data: [] };
      });
      world.tokens.on(listPullTokens, (body) => {
        expect(body).toEqual({ vendor_id: world.vendorId, install_id: install.id });
        return { data: [] };
      });
      for (const path of ['events?limit=3', 'vitals', 'pull-tokens']) {
        expect((await get(`/v1/installs/${install.id}/${path}`)).status).toBe(200);
      }
    });
  });

  describe('entity tags', () => {
    const spec = { kind: 'terraform-module', values: { size: 'large' } } as const;

    it('gives one on a read, the same whatever the order of keys, and answers 304 to it', async () => {
      const component = sample.component();
      world.scheduler.on(getComponent, () => component);
      const first = await get(`/v1/components/${component.id}`);
      const etag = first.headers.get('etag') ?? '';
      expect(etag).toBe(`"${etagOf(component)}"`);
      world.scheduler.on(getComponent, () => ({ ...component, values: { tags: { a: 2, b: 1 }, size: 'small' } }));
      const again = await get(`/v1/components/${component.id}`, { 'if-none-match': `"other", W/${etag}` });
      expect([again.status, again.headers.get('etag')]).toEqual([304, etag]);
      world.scheduler.on(getComponent, () => ({ ...component, namespace: 'new' }));
      expect((await get(`/v1/components/${component.id}`, { 'if-none-match': etag })).status).toBe(200);
    });

    it('changes only the version that the caller has seen', async () => {
      const component = sample.component();
      world.scheduler.on(getComponent, () => component);
      world.scheduler.on(updateComponent, (body) => {
        expect(body).toMatchObject({ spec, if_match: etagOf(component), component_id: component.id });
        return { ...component, ...body.spec };
      });
      const put = (headers: Record<string, string>) =>
        world.gateway.send('PUT', `/v1/components/${component.id}`, { key: world.key, body: spec, headers });
      const absent = await put({});
      expect([absent.status, absent.body['code']]).toEqual([428, 'precondition_required']);
      const stale = await put({ 'if-match': '"stale"' });
      expect([stale.status, stale.body['code']]).toEqual([412, 'precondition_failed']);
      expect(world.scheduler.calls).not.toContain('scheduler.update_component');
      const changed = await put({ 'if-match': `"${etagOf(component)}"` });
      expect(changed.status).toBe(200);
      expect(changed.headers.get('etag')).toBe(`"${etagOf({ ...component, ...spec })}"`);
    });
  });

  describe('waiting', () => {
    it('answers when the deployment has ended, by a signal and not by a clock', async () => {
      let deployment: Deployment = sample.deployment();
      world.scheduler.on(getDeployment, () => deployment);
      const waiting = get<Deployment>(`/v1/deployments/${deployment.id}`, { prefer: 'respond-async, wait=30' });
      await until('the first read', () => world.scheduler.calls.length === 1);
      const job = newId('job');
      const tell = () => {
        world.scheduler.bus.signal(
          jobChanged,
          { job },
          { job_id: job, deployment_id: deployment.id, status: 'succeeded' },
        );
      };
      tell();
      await until('a read after a signal', () => world.scheduler.calls.length === 2);
      deployment = { ...deployment, status: 'succeeded' };
      tell();
      expect((await waiting).body.status).toBe('succeeded');
      expect(world.scheduler.calls.length).toBe(3);
    });

    it('answers as things are when the time is over, and at once without the preference', async () => {
      const job = sample.job();
      world.scheduler.on(getJob, () => job);
      const start = performance.now();
      expect((await get(`/v1/jobs/${job.id}`)).body['status']).toBe('running');
      expect(world.scheduler.calls.length).toBe(1);
      expect((await get(`/v1/jobs/${job.id}`, { prefer: 'wait=1' })).body['status']).toBe('running');
      expect(performance.now() - start).toBeGreaterThan(900);
      expect(world.scheduler.calls.length).toBe(3);
    });
  });

  it('answers 202 with Location for a deployment', async () => {
    const install_id = newId('install');
    const deployment = sample.deployment({ install_id });
    world.scheduler.on(createDeployment, () => deployment);
    const { status, headers } = await post(`/v1/installs/${install_id}/deployments`, { kind: 'teardown' });
    expect([status, headers.get('location')]).toEqual([202, `/v1/deployments/${deployment.id}`]);
  });

  it('answers 503 naming the service that is away, at once, and goes on when it is back', async () => {
    await world.scheduler.stop();
    const start = performance.now();
    const { status, headers, body } = await get('/v1/apps');
    expect([status, body['code'], headers.get('retry-after')]).toEqual([503, 'unavailable', '1']);
    expect(body['detail']).toContain('job-scheduler');
    expect(performance.now() - start).toBeLessThan(2_000);
    const back = await Peer.start('job-scheduler', world.infrastructure);
    back.on(listApps, () => ({ data: [] }));
    expect((await get('/v1/apps')).status).toBe(200);
    await back.stop();
  });

  it('is ready with its dependencies and says so', async () => {
    const { body } = await world.gateway.send('GET', '/readyz?verbose');
    expect(body['text']).toContain('postgres ok');
    expect(body['text']).toContain('nats ok');
  });
});
