import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import http, { type IncomingMessage } from 'node:http';
import { type AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { ImsError } from '#contracts';
import { describeBytes, RegistryClient, type Descriptor, type RegistryClientOptions } from '../src/index.js';

/** A server of this file's own, in a folder that goes when it stops. */
export async function inOwnFolder<S extends { stop(): Promise<void> }>(start: (dir: string) => Promise<S>): Promise<S> {
  const dir = await temporaryDirectory();
  const server = await start(dir);
  const stop = server.stop.bind(server);
  server.stop = async () => {
    await stop();
    await rm(dir, { recursive: true, force: true });
  };
  return server;
}

export function temporaryDirectory(): Promise<string> {
  return mkdtemp(path.join(os.tmpdir(), 'ims-oci-'));
}

/** A client that does not make tests wait for its back-off. */
export function clientOf(baseUrl: string, options: Partial<RegistryClientOptions> = {}): RegistryClient {
  return new RegistryClient({ baseUrl, backoffMs: 1, idleTimeoutMs: 10_000, ...options });
}

/** What a proxy does to one exchange. Undefined: it passes. */
export type Trouble =
  | { readonly cutResponseAfterBytes: number; readonly dropRange?: boolean }
  | { readonly cutRequestAfterBytes: number }
  | { readonly flipBit: true }
  | { readonly answer: number; readonly body?: string; readonly headers?: Record<string, string> };

export interface Proxy {
  readonly url: string;
  /** `METHOD path` of every request, query left out. */
  readonly requests: string[];
  /** Bytes of request bodies that came in. */
  bytesIn: number;
  /** Bytes of response bodies that went out. */
  bytesOut: number;
  trouble: (request: IncomingMessage) => Trouble | undefined;
  close(): Promise<void>;
}

/** A proxy before a registry that can damage, cut and refuse. */
export async function troublesomeProxy(target: string): Promise<Proxy> {
  const upstream = new URL(target);
  const agent = new http.Agent({ keepAlive: true });
  const server = http.createServer((request, response) => {
    proxy.requests.push(`${request.method} ${(request.url ?? '').split('?')[0]}`);
    const trouble = proxy.trouble(request);
    if (trouble && 'answer' in trouble) {
      request.resume();
      response.writeHead(trouble.answer, trouble.headers).end(trouble.body);
      return;
    }
    if (trouble && 'dropRange' in trouble) delete request.headers.range;
    const outgoing = http.request(
      {
        host: upstream.hostname,
        port: upstream.port,
        method: request.method,
        path: request.url,
        headers: request.headers,
        agent,
      },
      (incoming) => {
        response.writeHead(incoming.statusCode ?? 502, incoming.headers);
        let flowed = 0;
        incoming.on('data', (chunk: Buffer) => {
          if (trouble && 'flipBit' in trouble) chunk[0] = (chunk[0] ?? 0) ^ 1;
          flowed += chunk.length;
          proxy.bytesOut += chunk.length;
          if (trouble && 'cutResponseAfterBytes' in trouble && flowed >= trouble.cutResponseAfterBytes) {
            const keep = chunk.length - (flowed - trouble.cutResponseAfterBytes);
            incoming.destroy();
            response.write(chunk.subarray(0, keep), () => response.destroy());
            return;
          }
          if (!response.write(chunk)) {
            incoming.pause();
            response.once('drain', () => incoming.resume());
          }
        });
        incoming.on('end', () => response.end());
        incoming.on('error', () => response.destroy());
      },
    );
    outgoing.on('error', () => response.destroy());
    response.on('close', () => outgoing.destroy());
    let received = 0;
    request.on('data', (chunk: Buffer) => {
      proxy.bytesIn += chunk.length;
      received += chunk.length;
      if (trouble && 'cutRequestAfterBytes' in trouble && received >= trouble.cutRequestAfterBytes) {
        request.socket.destroy();
        outgoing.destroy();
        return;
      }
      if (!outgoing.write(chunk)) {
        request.pause();
        outgoing.once('drain', () => request.resume());
      }
    });
    request.on('end', () => outgoing.end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxy: Proxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests: [],
    bytesIn: 0,
    bytesOut: 0,
    trouble: () => undefined,
    close: async () => {
      agent.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}

/** The code that a promise fails with, or 'resolved'. */
export async function codeOf(promise: Promise<unknown>): Promise<string> {
  return (await failureOf(promise))?.code ?? 'resolved';
}

export async function failureOf(promise: Promise<unknown>): Promise<ImsError | undefined> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    return ImsError.of(error);
  }
}

export function randomBlob(bytes: number): { descriptor: Descriptor; bytes: Buffer } {
  const content = randomBytes(bytes);
  return { descriptor: describeBytes('application/octet-stream', content), bytes: content };
}
