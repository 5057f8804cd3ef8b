import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { ApiError, ImsClient, isFinal, type LogNews } from '../src/index.js';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;

const json =
  (status: number, body: object, headers: Record<string, string> = {}): Answer =>
  (_, response) => {
    response.writeHead(status, {
      'content-type': status < 400 ? 'application/json' : 'application/problem+json',
      ...headers,
    });
    response.end(JSON.stringify(body));
  };
const problem = (status: number, code: string, headers: Record<string, string> = {}): Answer =>
  json(status, { code, detail: 'because', next: 'do this', request_id: 'r1', status }, headers);
const job = (status: string): object => ({ id: 'job_1', status });

describe('the client', () => {
  let server: Server;
  let script: Answer[];
  let seen: IncomingMessage[];
  let client: ImsClient;

  beforeEach(async () => {
    script = [];
    seen = [];
    server = createServer((request, response) => {
      seen.push(request);
      const answer = script.shift() ?? problem(404, 'not_found');
      answer(request, response);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    client = new ImsClient({ baseUrl: `http://127.0.0.1:${port}/`, apiKey: 'ims_ven_x' });
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });

  it('sends the key and a typed body, and answers the body', async () => {
    script = [json(201, { id: 'app_1', name: 'shop' })];
    expect((await client.post('/v1/apps', { body: { name: 'shop' } })).id).toBe('app_1');
    expect(seen[0]?.headers.authorization).toBe('Bearer ims_ven_x');
    expect(seen[0]?.headers['idempotency-key']).toMatch(/^[0-9a-f-]{36}$/);
  });

  it('makes an error of a problem, with what to do next', async () => {
    script = [problem(409, 'conflict')];
    const error = await client.get('/v1/vendor').catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status: 409, code: 'conflict', detail: 'because', next: 'do this', requestId: 'r1' });
    script = [(_, response) => response.writeHead(500, { 'content-type': 'text/html' }).end('<html>')];
    await expect(client.get('/v1/vendor')).rejects.toMatchObject({ code: 'not_ims', status: 500 });
  });

  it('asks again while no service answers, a POST under the same Idempotency-Key', async () => {
    script = [
      problem(503, 'unavailable'),
      (request) => request.socket.destroy(),
      problem(429, 'rate_limited', { 'retry-after': '0' }),
      json(201, { id: 'app_1' }),
    ];
    await client.post('/v1/apps', { body: { name: 'shop' } });
    expect(seen.length).toBe(4);
    expect(new Set(seen.map(({ headers }) => headers['idempotency-key'])).size).toBe(1);
  });

  it('says who did not answer, and gives up when it may not ask again', async () => {
    server.close();
    const impatient = new ImsClient({ baseUrl: client.transport.baseUrl, retryForMs: 0 });
    await expect(impatient.get('/')).rejects.toMatchObject({ code: 'unreachable', status: 0 });
  });

  it('walks a list by its cursors, keeping the filter', async () => {
    script = [json(200, { data: [job('queued')], next_cursor: 'c1' }), json(200, { data: [job('failed')] })];
    const statuses: string[] = [];
    for await (const { status } of client.list('/v1/jobs', { params: { query: { limit: 1 } } })) statuses.push(status);
    expect(statuses).toEqual(['queued', 'failed']);
    expect(seen.map(({ url }) => url)).toEqual(['/v1/jobs?limit=1', '/v1/jobs?limit=1&cursor=c1']);
  });

  it('reads an ETag with its resource', async () => {
    script = [json(200, { id: 'cmp_1' }, { etag: '"abc"' })];
    const { etag } = await client.read('/v1/components/{component_id}', {
      params: { path: { component_id: 'cmp_1' } },
    });
    expect(etag).toBe('"abc"');
  });

  it('waits for the end, telling of each change', async () => {
    script = ['queued', 'queued', 'running', 'succeeded'].map((status) => json(200, job(status)));
    const told: string[] = [];
    const ended = await client.waitForJob('job_1', { onChange: ({ status }) => told.push(status) });
    expect([ended.status, isFinal(ended), told]).toEqual(['succeeded', true, ['queued', 'running', 'succeeded']]);
    expect(seen[0]?.headers['prefer']).toBe('wait=30');
  });

  it('follows a log over a lost connection and a restart, from the last line on', async () => {
    const sse =
      (text: string, then: (response: ServerResponse) => void): Answer =>
      (_, response) => {
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        response.write(text, () => then(response));
      };
    const line = (seq: number): string =>
      `id: 1.${seq}\ndata: ${JSON.stringify({ at: '', level: 'info', step: 's', text: `line ${seq}`, attempt: 1, seq })}\n\n`;
    script = [
      // Cut in the middle of an event: what is not whole does not count.
      sse(`retry: 1\n\n${line(1)}${line(2)}${line(3).slice(0, 20)}`, (response) => response.destroy()),
      problem(503, 'unavailable', { 'retry-after': '0' }),
      sse(`: heartbeat\n\n${line(3)}event: end\ndata: {"status":"failed"}\n\n`, (response) => response.end()),
    ];
    const news: LogNews[] = [];
    for await (const item of client.followLogs('job_1')) news.push(item);
    expect(news.flatMap((item) => (item.kind === 'line' ? [item.line.text] : []))).toEqual([
      'line 1',
      'line 2',
      'line 3',
    ]);
    expect(news.at(-1)).toEqual({ kind: 'end', status: 'failed' });
    expect(seen.at(-1)?.headers['last-event-id']).toBe('1.2');
    await expect(client.followLogs('job_2').next()).rejects.toMatchObject({ code: 'not_found' });
  });

  it('reads a whole log from NDJSON that is cut anywhere', async () => {
    script = [
      (_, response) => {
        response.writeHead(200, { 'content-type': 'application/x-ndjson' });
        const text = `${JSON.stringify({ seq: 1, text: 'ä' })}\n\n${JSON.stringify({ seq: 2, text: 'b' })}\n`;
        for (const byte of Buffer.from(text)) response.write(Buffer.from([byte]));
        response.end();
      },
    ];
    const lines: string[] = [];
    for await (const { text } of client.readLogs('job_1')) lines.push(text);
    expect(lines).toEqual(['ä', 'b']);
  });
});
