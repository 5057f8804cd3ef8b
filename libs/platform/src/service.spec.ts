import {
  Body,
  Controller,
  ForbiddenException,
  Get,
  Inject,
  Injectable,
  Module,
  Param,
  Post,
  type OnModuleDestroy,
} from '@nestjs/common';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import { request as httpRequest, Agent, type IncomingHttpHeaders } from 'node:http';
import { type AddressInfo } from 'node:net';
import { ImsError, LIMITS } from '#contracts';
import { currentContext } from './context.js';
import { ServiceHealth } from './health.js';
import { Lifecycle } from './lifecycle.js';
import { startService } from './service.js';

/** What a test holds open until it says so. */
class Gate {
  private readonly waiting: (() => void)[] = [];
  entered = 0;
  async pass(): Promise<void> {
    this.entered += 1;
    await new Promise<void>((resolve) => this.waiting.push(resolve));
  }
  open(): void {
    this.waiting.splice(0).forEach((resolve) => {
      resolve();
    });
  }
}

@Controller()
class SampleController {
  constructor(@Inject(Gate) private readonly gate: Gate) {}
  @Get('things/:id') thing(@Param('id') id: string): object {
    if (id === 'missing') throw new ImsError('not_found', 'there is no thing called missing');
    if (id === 'closed') throw new ForbiddenException('not for you');
    if (id === 'broken') throw new Error('connect postgres://u:p@inner-host/db failed');
    if (id === 'away') throw new ImsError('unavailable', 'job-scheduler does not answer');
    if (id === 'fields') throw new ImsError('invalid_request', 'bad', [{ pointer: '/name', message: 'must be text' }]);
    // An error of an HTTP client that the handler used: its status is not ours.
    if (id === 'upstream') throw Object.assign(new Error('upstream said 404'), { statusCode: 404 });
    return { id, request_id: currentContext()?.requestId };
  }
  @Post('things') async make(@Body() body: object): Promise<object> {
    await Promise.resolve();
    return { got: body, request_id: currentContext()?.requestId };
  }
  @Get('slow') async slow(): Promise<object> {
    await this.gate.pass();
    return { slow: true };
  }
}
@Injectable()
class Journal implements OnModuleDestroy {
  readonly lines: string[] = [];
  constructor(@Inject(Lifecycle) lifecycle: Lifecycle) {
    for (const phase of ['close', 'flush', 'finish-work', 'stop-intake'] as const) {
      lifecycle.onDrain(phase, 'journal', async () => {
        await Promise.resolve();
        this.lines.push(phase);
        if (phase === 'stop-intake') throw new Error('this step fails, the others run all the same');
      });
    }
  }
  onModuleDestroy(): void {
    this.lines.push('destroyed');
  }
}
@Module({ controllers: [SampleController], providers: [Gate, Journal] })
class SampleModule {}

interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  json: Record<string, unknown>;
}
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

async function ask(
  app: NestFastifyApplication,
  method: string,
  path: string,
  options: { headers?: Record<string, string>; body?: string; agent?: Agent } = {},
): Promise<Answer> {
  const { port } = app.getHttpServer().address() as AddressInfo;
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      { host: '127.0.0.1', port, method, path, headers: options.headers, agent: options.agent ?? agent },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => (text += part));
        response.on('end', () => {
          const isJson = /json/.test(response.headers['content-type'] ?? '');
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text,
            json: isJson ? (JSON.parse(text) as Record<string, unknown>) : {},
          });
        });
        response.on('error', reject);
      },
    );
    request.on('error', reject);
    request.end(options.body);
  });
}

const start = (): Promise<NestFastifyApplication> =>
  startService({
    name: 'gateway',
    module: SampleModule,
    http: { host: '127.0.0.1', port: 0 },
    ownsProcess: false,
  });
const json = { 'content-type': 'application/json' };

describe('a service', () => {
  let app: NestFastifyApplication;
  beforeAll(async () => {
    app = await start();
  });
  afterAll(async () => {
    await app.close();
    agent.destroy();
  });

  it('answers an error of the catalogue as a problem', async () => {
    const answer = await ask(app, 'GET', '/things/missing?x=1', { headers: { 'x-request-id': 'from-the-caller-1' } });
    expect(answer.status).toBe(404);
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
    expect(answer.headers['x-request-id']).toBe('from-the-caller-1');
    expect(answer.json).toEqual({
      type: '/errors/not_found',
      title: 'There is no such thing.',
      status: 404,
      detail: 'there is no thing called missing',
      instance: '/things/missing',
      code: 'not_found',
      retry: 'fix',
      next: expect.any(String) as string,
      request_id: 'from-the-caller-1',
    });
  });

  it.each([
    ['a field', '/things/fields', 422, 'invalid_request'],
    ['a guard of Nest', '/things/closed', 403, 'forbidden'],
    ['a dependency that is away', '/things/away', 503, 'unavailable'],
    ['an unknown path', '/nothing/here', 404, 'not_found'],
    ['a path that is no URL', '/things/%zz', 404, 'not_found'],
    ['an endless parameter', `/things/${'x'.repeat(300)}`, 404, 'not_found'],
    ['an unknown fault', '/things/broken', 500, 'internal'],
    ['an error of another server', '/things/upstream', 500, 'internal'],
  ])('answers %s', async (_, path, status, code) => {
    const answer = await ask(app, 'GET', path);
    expect([answer.status, answer.json['code']]).toEqual([status, code]);
    expect(answer.headers['content-type']).toMatch(/^application\/problem\+json/);
    expect(answer.text).not.toMatch(/inner-host|upstream said/);
    expect(answer.headers['retry-after']).toBe(status === 503 ? '1' : undefined);
  });

  it.each([
    ['no JSON', json, '{"name": sup3rsecret', 400, 'malformed_body'],
    ['nothing', json, '', 400, 'malformed_body'],
    ['another content type', { 'content-type': 'application/xml' }, '<a/>', 415, 'unsupported_media_type'],
    ['too much', json, JSON.stringify({ a: 'x'.repeat(LIMITS.bodyBytes) }), 413, 'payload_too_large'],
    ['a poisoned prototype', json, '{"__proto__":{"admin":true}}', 400, 'malformed_body'],
  ])('refuses a body that is %s', async (_, headers, body, status, code) => {
    const answer = await ask(app, 'POST', '/things', { headers, body, agent: new Agent() });
    expect([answer.status, answer.json['code']]).toEqual([status, code]);
    expect(answer.text).not.toContain('sup3rsecret');
  });

  it('names the allowed methods of a path that exists', async () => {
    const answer = await ask(app, 'DELETE', '/things/abc');
    expect([answer.status, answer.json['code'], answer.headers['allow']]).toEqual([
      405,
      'method_not_allowed',
      'GET, HEAD',
    ]);
  });

  it('gives each request of one connection its own context, also after reading a body', async () => {
    const ids = ['request-one', 'request-two', 'request-three'];
    for (const id of ids) {
      const answer = await ask(app, 'POST', '/things', {
        headers: { ...json, 'x-request-id': id },
        body: JSON.stringify({ padding: 'x'.repeat(200_000) }),
      });
      expect([answer.status, answer.json['request_id']]).toEqual([201, id]);
    }
    const strange = await ask(app, 'GET', '/things/a', { headers: { 'x-request-id': 'a b' } });
    expect(strange.headers['x-request-id']).toMatch(/^req_[0-9a-f]{24}$/);
  });

  it('is alive whatever its dependencies do, and ready only with all of them', async () => {
    const health = app.get(ServiceHealth);
    let broken = false;
    health.addCheck('broker', () =>
      broken ? Promise.reject(new Error('cannot reach nats://ims:pa55word@broker')) : Promise.resolve(),
    );
    expect((await ask(app, 'GET', '/readyz')).text).toBe('ready\n');
    broken = true;
    const answer = await ask(app, 'GET', '/readyz?verbose');
    expect(answer.status).toBe(503);
    expect(answer.text).toMatch(
      /^\[-\] broker: cannot reach nats:\/\/ims:\[redacted\]@broker \(\d+ ms\)\nnot ready\n$/,
    );
    expect((await ask(app, 'GET', '/livez')).status).toBe(200);
    broken = false;
  });

  it('counts answers by route template', async () => {
    await ask(app, 'GET', '/things/some-id');
    const { text } = await ask(app, 'GET', '/metrics');
    expect(text).toMatch(
      /ims_http_request_duration_seconds_count\{method="GET",route="\/things\/:id",status="200"\} \d/,
    );
    expect(text).not.toContain('some-id');
    expect(text).toContain('process_cpu_seconds_total');
  });
});

describe('the end of a service', () => {
  it('finishes the answer that is under way, takes no new connection, and runs every phase in order', async () => {
    const app = await start();
    const gate = app.get(Gate);
    const journal = app.get(Journal);
    const slow = ask(app, 'GET', '/slow', { agent: new Agent({ keepAlive: true }) });
    const idle = new Agent({ keepAlive: true });
    await ask(app, 'GET', '/livez', { agent: idle });
    while (gate.entered === 0) await new Promise(setImmediate);

    const port = (app.getHttpServer().address() as AddressInfo).port;
    const closing = app.close();
    while (app.getHttpServer().listening) await new Promise(setImmediate);
    expect(app.get(ServiceHealth).draining).toBe(true);
    await expect(fetch(`http://127.0.0.1:${port}/livez`)).rejects.toThrow();
    expect(journal.lines).toEqual(['stop-intake', 'finish-work']);
    gate.open();

    const answer = await slow;
    expect([answer.status, answer.json, answer.headers['connection']]).toEqual([200, { slow: true }, 'close']);
    await closing;
    expect(journal.lines.filter((line) => line !== 'destroyed')).toEqual([
      'stop-intake',
      'finish-work',
      'flush',
      'close',
    ]);
    idle.destroy();
  });

  it('rejects when a module cannot start', async () => {
    @Module({ providers: [{ provide: 'broken', useFactory: () => Promise.reject(new Error('no database')) }] })
    class BrokenModule {}
    await expect(
      startService({ name: 'gateway', module: BrokenModule, http: { host: '127.0.0.1', port: 0 }, ownsProcess: false }),
    ).rejects.toThrow('no database');
  });
});
