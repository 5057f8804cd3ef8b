import { type AddressInfo } from 'node:net';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import {
  CONTRACTS,
  ImsError,
  inboxPrefix,
  newId,
  type AnyContract,
  type Call,
  type ServiceName,
  type VendorId,
} from '#contracts';
import { Bus, connectNats } from '#messaging';
import { loadConfig } from '#platform';
import { ApiKeys } from '../src/access/api-keys.js';
import { GatewayConfig } from '../src/config.js';
import { startGateway } from '../src/gateway.module.js';
import { Wakeups } from '../src/live/wakeups.js';

export const OPERATOR_KEY = 'operator-key-of-the-tests-0123456789';
export const REGISTRY_URL = 'https://registry.example.test';

/** What a gateway needs from the outside; the specs start the real servers. */
export interface Infrastructure {
  readonly databaseUrl: string;
  readonly natsUrl: string;
  readonly creds: (service: ServiceName) => Promise<{ jwt: string; seed: string }>;
}

export interface Answer<T = Record<string, unknown>> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
}
export interface Request {
  readonly key?: string;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** A gateway over real HTTP. */
export class Gateway {
  private constructor(
    readonly app: NestFastifyApplication,
    readonly url: string,
  ) {}

  static async start(infrastructure: Infrastructure, settings: Record<string, string> = {}): Promise<Gateway> {
    const { jwt, seed } = await infrastructure.creds('gateway');
    const config = loadConfig(GatewayConfig, {
      DATABASE_URL: infrastructure.databaseUrl,
      NATS_URLS: infrastructure.natsUrl,
      NATS_JWT: jwt,
      NATS_SEED: seed,
      HTTP_PORT: '0',
      OPERATOR_KEY,
      PUBLIC_URL: 'https://ims.example.test',
      VENDOR_REGISTRY_URL: REGISTRY_URL,
      // The walks knock with hundreds of wrong keys from one address.
      RATE_SIGN_INS: '1000000',
      ...settings,
    });
    const app = await startGateway(config, { ownsProcess: false });
    const { port } = app.getHttpServer().address() as AddressInfo;
    return new Gateway(app, `http://127.0.0.1:${port}`);
  }

  /** An API key of a vendor, made without the detour over sign-up. */
  keyFor(vendorId: VendorId): Promise<string> {
    return this.app.get(ApiKeys).create(newId('key'), vendorId);
  }

  /** Requests that wait for signals now. */
  listeners(): number {
    return this.app.get(Wakeups).listeners;
  }

  async send<T = Record<string, unknown>>(method: string, path: string, request: Request = {}): Promise<Answer<T>> {
    const response = await fetch(this.url + path, {
      method,
      headers: {
        ...(request.key === undefined ? {} : { authorization: `Bearer ${request.key}` }),
        ...(request.body === undefined ? {} : { 'content-type': 'application/json' }),
        ...request.headers,
      },
      ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json') === true && text !== '';
    return { status: response.status, headers: response.headers, body: (isJson ? JSON.parse(text) : { text }) as T };
  }

  async stop(): Promise<void> {
    await this.app.close();
  }
}

type Script = (body: never) => unknown;

/** Another service, played over real NATS with that service's own credentials: it answers what the test scripts. */
export class Peer {
  private readonly scripts = new Map<string, Script>();
  /** Names of the calls that came, in order. */
  readonly calls: string[] = [];

  private constructor(readonly bus: Bus) {}

  static async start(service: ServiceName, infrastructure: Infrastructure): Promise<Peer> {
    const connection = await connectNats({
      servers: [infrastructure.natsUrl],
      name: `scripted ${service}`,
      inboxPrefix: inboxPrefix(service.replaceAll('-', '_')),
      credentials: await infrastructure.creds(service),
    });
    const peer = new Peer(new Bus(connection));
    const isServed = (contract: AnyContract): contract is Call<object, object> =>
      contract.type === 'call' && contract.servedBy === service && contract.subject.includes('.svc.');
    for (const contract of CONTRACTS.filter(isServed)) {
      connection.subscribe(contract.subject, {
        callback: (error, message) => {
          if (error !== null) return;
          void peer.reply(contract, message.json<object>()).then((reply) => message.respond(JSON.stringify(reply)));
        },
      });
    }
    await connection.flush();
    return peer;
  }

  /** How this peer answers a contract from now on. Without a script it answers `not_found`. */
  on<B extends object, R extends object>(contract: Call<B, R>, script: (body: B) => unknown): void {
    this.scripts.set(contract.name, script);
  }

  /** Drops the scripts and the record of calls. */
  forget(): void {
    this.scripts.clear();
    this.calls.length = 0;
  }

  private async reply(contract: AnyContract, body: object): Promise<object> {
    this.calls.push(contract.name);
    try {
      const script = this.scripts.get(contract.name);
      if (script === undefined) throw new ImsError('not_found', `${contract.name} has no such thing`);
      return { ok: true, value: await script(body as never) };
    } catch (error) {
      return { ok: false, error: ImsError.of(error).toWire() };
    }
  }

  async stop(): Promise<void> {
    await this.bus.connection.close();
  }
}

/** Resolves when the condition holds; rejects, naming it, after the time. */
export async function until(what: string, condition: () => boolean, withinMs = 90_000): Promise<void> {
  const end = performance.now() + withinMs;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`not within ${withinMs} ms: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
