import { readFileSync } from 'node:fs';
import { type NatsConnection, type Status } from '@nats-io/transport-node';
import { proxyOfProcess, type ProxySettings } from '#platform';
import { linkOf } from './link.js';
import { natsAuthenticator, type NatsCredentials } from './nats-auth.js';
import { connectOverStreams, withPort } from './transport.js';

export interface NatsOptions {
  /**
   * `tls://` (or `nats://`, where the server need not offer TLS), `wss://` and `ws://` URLs in the order in which they
   * are tried. The one that worked last is tried first at a reconnect.
   */
  readonly servers: readonly string[];
  /** Shown by the server's monitoring. */
  readonly name: string;
  /** `_INBOX.<owner>`: the only inbox that the owner may subscribe to, and the only one that it is answered at. */
  readonly inboxPrefix: string;
  /** As a function: asked at each connect, so that a renewed JWT is used. */
  readonly credentials: NatsCredentials | (() => NatsCredentials);
  /** PEM of the private CA that signed the server's certificate. */
  readonly caFile?: string;
  /** Default: HTTPS_PROXY and NO_PROXY of the process. */
  readonly proxy?: ProxySettings;
  /** One line for each change: `disconnect`, `reconnect`, `error: …`, `cannot connect to …`. */
  readonly onStatus?: (status: string) => void;
  /** Gives up waiting for the first connection: rejects after the attempt that is under way. */
  readonly signal?: AbortSignal;
  /** The URL of each connection that was made. */
  readonly onConnected?: (url: string) => void;
}

/** A URL that does not answer (a firewall that swallows packets) costs so much before the next is tried. */
const DIAL_MS = 5_000;

const textOf = (status: Status): string => {
  if (status.type === 'error') return `error: ${status.error.message}`;
  return 'server' in status ? `${status.type} ${status.server}` : status.type;
};

/** Which URL is dialled next: the one that worked last, then the others in their order, round and round. */
class Route {
  private tries = 0;
  private order: readonly string[];

  constructor(private readonly urls: readonly string[]) {
    this.order = urls;
  }
  next(): string {
    return this.order[this.tries++ % this.order.length] ?? '';
  }
  worked(url: string): void {
    this.tries = 0;
    this.order = [url, ...this.urls.filter((other) => other !== url)];
  }
}

/**
 * Connects and stays connected: waits for a server that is not up yet, and reconnects for ever, also after refused
 * credentials (they may be renewed in between). Ends only by `close()` or `drain()`.
 */
export async function connectNats(options: NatsOptions): Promise<NatsConnection> {
  const urls = [...new Set(options.servers.map(withPort))];
  const route = new Route(urls);
  const { onStatus } = options;
  let waiting = true;
  const connection = await connectOverStreams({
    servers: urls,
    name: options.name,
    inboxPrefix: options.inboxPrefix,
    authenticator: natsAuthenticator(options.credentials),
    dialling: {
      proxy: options.proxy ?? proxyOfProcess(),
      ...(options.caFile === undefined ? {} : { ca: readFileSync(options.caFile, 'utf8') }),
      onFailure: (url, reason) => onStatus?.(`cannot connect to ${url}: ${reason}`),
      onSuccess: (url) => {
        route.worked(url);
        options.onConnected?.(url);
      },
    },
    reconnectToServer: (pool) => {
      // An error here ends the client's endless first connect; nothing else does.
      if (waiting) options.signal?.throwIfAborted();
      const url = route.next();
      return pool.find(({ src }) => src === url) ?? null;
    },
    // The servers' own names for one another mean nothing outside their network, and have no scheme.
    ignoreClusterUpdates: true,
    resolve: false,
    noRandomize: true,
    waitOnFirstConnect: true,
    maxReconnectAttempts: -1,
    ignoreAuthErrorAbort: true,
    // A restarted broker is back in well under a second; the jitter keeps a thousand agents from knocking at once.
    reconnectTimeWait: 250,
    reconnectJitter: 500,
    reconnectJitterTLS: 500,
    timeout: DIAL_MS,
    // A peer that vanished without a FIN is noticed in 15 s instead of the default 4 minutes.
    pingInterval: 5_000,
    maxPingOut: 2,
    noAsyncTraces: true,
  });
  waiting = false;
  // Now, while it is known to be up.
  linkOf(connection);
  if (onStatus) void report(connection, onStatus);
  return connection;
}

async function report(connection: NatsConnection, onStatus: (status: string) => void): Promise<void> {
  for await (const status of connection.status()) {
    if (status.type !== 'ping') onStatus(textOf(status));
  }
}
