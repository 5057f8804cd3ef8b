import { createServer, type Server } from 'node:http';
import { type AddressInfo } from 'node:net';

export interface Answer {
  readonly status?: number;
  readonly body: object;
  /** Cut the connection instead of answering. */
  readonly hangUp?: boolean;
}
export interface FakeHttp {
  readonly url: string;
  readonly bodies: Record<string, unknown>[];
  stop(): Promise<void>;
}

/** A JSON server on a real socket that answers POSTs by path. */
export async function startHttp(routes: Record<string, (body: unknown) => Answer>): Promise<FakeHttp> {
  const bodies: Record<string, unknown>[] = [];
  const server: Server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(chunks).toString() || '{}') as Record<string, unknown>;
      bodies.push(body);
      const answer = routes[request.url ?? '']?.(body) ?? {
        status: 404,
        body: { code: 'not_found', detail: 'no route' },
      };
      if (answer.hangUp === true) {
        request.socket.destroy();
        return;
      }
      const type = (answer.status ?? 200) >= 400 ? 'application/problem+json' : 'application/json';
      response.writeHead(answer.status ?? 200, { 'content-type': type }).end(JSON.stringify(answer.body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    bodies,
    stop: () =>
      new Promise((resolve) => {
        server.closeAllConnections();
        server.close(() => resolve());
      }),
  };
}
