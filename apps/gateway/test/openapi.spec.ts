import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { ERROR_CODES } from '#contracts';
import { freshDatabase, startNats } from '#stack';
import { paramsOf, ROUTES } from '../src/edge/routes.js';
import { startWorld, type World } from './world.js';

interface Parameter {
  name: string;
  in: string;
  required?: boolean;
  schema?: object;
}
interface Operation {
  operationId: string;
  summary: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { schema: { $ref?: string } }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: object }> }>;
  security?: Record<string, string[]>[];
}
interface Document {
  openapi: string;
  info: { title: string; version: string };
  servers: { url: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: {
    schemas: Record<string, { properties?: Record<string, Record<string, unknown>>; required?: string[] }>;
    securitySchemes: Record<string, { type: string; scheme: string }>;
  };
}

/** Every object in a value, with the path to it. */
function* walk(value: unknown, at = '#'): Generator<[string, Record<string, unknown>]> {
  if (typeof value !== 'object' || value === null) return;
  if (!Array.isArray(value)) yield [at, value as Record<string, unknown>];
  for (const [key, inner] of Object.entries(value)) yield* walk(inner, `${at}/${key}`);
}

describe('the OpenAPI document', () => {
  let world: World;
  let document: Document;

  beforeAll(async () => {
    world = await startWorld({ startNats, freshDatabase });
    document = (await world.gateway.send<Document>('GET', '/openapi.json')).body;
  });
  afterAll(() => world.stop());

  it('is OpenAPI 3.1, public, and names where it is served', async () => {
    const { status, headers } = await world.gateway.send('GET', '/openapi.json');
    expect([status, headers.get('content-type')]).toEqual([200, 'application/json; charset=utf-8']);
    expect(document.openapi).toBe('3.1.0');
    expect(document.servers).toEqual([{ url: 'https://ims.example.test' }]);
    expect(Object.keys(document.components.securitySchemes).sort()).toEqual(['operator_key', 'vendor_key']);
  });

  it('has exactly the routes that are declared', () => {
    const described = Object.entries(document.paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(described.sort()).toEqual(ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
  });

  for (const route of ROUTES) {
    it(`describes ${route.method} ${route.path} as it is`, () => {
      const operation = document.paths[route.path]?.[route.method.toLowerCase()];
      if (operation === undefined) throw new Error('not described');
      const named = (where: string) =>
        (operation.parameters ?? []).filter((parameter) => parameter.in === where).map(({ name }) => name);
      expect(operation.operationId).toBe(route.handler);
      expect(operation.summary.length).toBeGreaterThan(5);
      expect(named('path')).toEqual(paramsOf(route.path));
      expect(named('header').includes('Idempotency-Key')).toBe(route.method === 'POST' && route.repeatable !== true);
      expect(named('header').includes('If-Match')).toBe(route.ifMatch === true);
      expect(operation.security ?? []).toEqual(route.access === 'public' ? [] : [{ [`${route.access}_key`]: [] }]);
      expect(operation.requestBody?.content['application/json']?.schema.$ref).toBe(
        route.body && `#/components/schemas/${route.body.name}`,
      );
      const success = operation.responses[String(route.status)]?.content ?? {};
      expect(Object.keys(success)).toEqual(route.produces ?? ['application/json']);
      expect(Object.keys(operation.responses['default']?.content ?? {})).toEqual(['application/problem+json']);
      expect(
        Object.keys(operation.responses).every((status) => status === 'default' || /^[1-5]\d\d$/.test(status)),
      ).toBe(true);
    });
  }

  it('is sound as a whole: ids unique, references resolve, schemas are JSON Schema 2020-12', () => {
    const ids = Object.values(document.paths).flatMap((item) =>
      Object.values(item).map(({ operationId }) => operationId),
    );
    expect(new Set(ids).size).toBe(ids.length);
    const types = new Set(['string', 'number', 'integer', 'boolean', 'object', 'array', 'null']);
    for (const [at, object] of walk(document)) {
      const { $ref: ref, type, nullable, pattern } = object;
      if (typeof ref === 'string') {
        expect([at, Object.hasOwn(document.components.schemas, ref.replace('#/components/schemas/', ''))]).toEqual([
          at,
          true,
        ]);
      }
      const inSchema = at.includes('/schema');
      if (inSchema && typeof type === 'string') expect([at, types.has(type)]).toEqual([at, true]);
      // `nullable` is a word of OpenAPI 3.0; 3.1 readers ignore it.
      expect([at, nullable]).toEqual([at, undefined]);
      if (inSchema && typeof pattern === 'string') expect(() => new RegExp(pattern)).not.toThrow();
    }
    for (const [name, { properties = {}, required = [] }] of Object.entries(document.components.schemas)) {
      expect([name, required.filter((field) => !Object.hasOwn(properties, field))]).toEqual([name, []]);
    }
  });

  it('says what the rules of the shapes say', () => {
    const { App, Component, Job, VendorAccount, ProblemDocument } = document.components.schemas;
    expect(App?.properties?.['name']).toEqual({ type: 'string', pattern: expect.stringContaining('a-z0-9') });
    expect(App?.properties?.['created_at']).toEqual({ type: 'string', format: 'date-time' });
    expect(App?.required).toEqual(['id', 'created_at', 'name']);
    expect(Component?.properties?.['values']).toEqual({ type: 'object', additionalProperties: true });
    expect(Component?.required).not.toContain('values');
    expect(Job?.properties?.['attempt']).toEqual({ type: 'integer', minimum: 0, maximum: 1_000_000 });
    expect(VendorAccount?.properties?.['build_agent']).toMatchObject({ $ref: '#/components/schemas/EnrolmentToken' });
    expect(ProblemDocument?.properties?.['code']?.['enum']).toEqual([...ERROR_CODES]);
    const limit = document.paths['/v1/jobs']?.['get']?.parameters?.find(({ name }) => name === 'limit');
    expect(limit).toEqual({
      name: 'limit',
      in: 'query',
      required: false,
      schema: { type: 'integer', minimum: 1, maximum: 200 },
    });
  });

  it('has a page behind the `type` of every problem', async () => {
    const problem = await world.gateway.send('GET', '/v1/apps');
    const page = await world.gateway.send('GET', String(problem.body['type']));
    expect(page).toMatchObject({ status: 200, body: { code: 'unauthenticated', status: 401, retry: 'fix' } });
    expect((await world.gateway.send('GET', '/errors/toString')).status).toBe(404);
  });

  it('is reached from the entrance', async () => {
    const { body } = await world.gateway.send('GET', '/');
    expect(body).toMatchObject({ openapi: '/openapi.json', links: { apps: '/v1/apps', installs: '/v1/installs' } });
  });
});
