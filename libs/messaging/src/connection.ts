import { connect, wsconnect, type NatsConnection, type Status } from '@nats-io/transport-node';
import { linkOf } from './link.js';
import { natsAuthenticator, type NatsCredentials } from './nats-auth.js';

export interface NatsOptions {
  /**
   * `nats://` and `tls://` URLs, or `ws://` and `wss://` URLs, not both: the client's transport is one for the whole
   * process, so all connections of a process are of one kind.
   */
  readonly servers: readonly string[];
  /** Shown by the server's monitoring. */
  readonly name: string;
  /** `_INBOX.<owner>`: the only inbox that the owner may subscribe to, and the only one that it is answered at. */
  readonly inboxPrefix: string;
  /** As a function: asked at each connect, so that a renewed JWT is used. */
  readonly credentials: NatsCredentials | (() => NatsCredentials);
  /** PEM of the private CA that signed the server's certificate. Not for WebSocket: NODE_EXTRA_CA_CERTS does it there. */
  readonly caFile?: string;
  /** One line for each change: `disconnect`, `reconnect`, `error: …`. */
  readonly onStatus?: (status: string) => void;
}

const textOf = (status: Status): string => {
  if (status.type === 'error') return `error: ${status.error.message}`;
  return 'server' in status ? `${status.type} ${status.server}` : status.type;
};

/**
 * Connects and stays connected: waits for a server that is not up yet, and reconnects for ever, also after refused
 * credentials (they may be renewed in between). Ends only by `close()` or `drain()`.
 */
export async function connectNats(options: NatsOptions): Promise<NatsConnection> {
  const kinds = new Set(options.servers.map((url) => /^wss?:/.test(url)));
  if (kinds.size > 1) throw new Error('the NATS URLs are either all WebSocket or none');
  const webSocket = kinds.has(true);
  if (webSocket && options.caFile !== undefined) {
    throw new Error('a private CA for NATS over WebSocket is given to Node itself: NODE_EXTRA_CA_CERTS=<file>');
  }
  const connection = await (webSocket ? wsconnect : connect)({
    servers: [...options.servers],
    name: options.name,
    inboxPrefix: options.inboxPrefix,
    authenticator: natsAuthenticator(options.credentials),
    ...(options.caFile === undefined ? {} : { tls: { caFile: options.caFile } }),
    waitOnFirstConnect: true,
    maxReconnectAttempts: -1,
    ignoreAuthErrorAbort: true,
    // A restarted broker is back in well under a second; the jitter keeps a thousand agents from knocking at once.
    reconnectTimeWait: 250,
    reconnectJitter: 500,
    reconnectJitterTLS: 500,
    timeout: 5_000,
    // A peer that vanished without a FIN is noticed in 15 s instead of the default 4 minutes.
    pingInterval: 5_000,
    maxPingOut: 2,
    noAsyncTraces: true,
  });
  // Now, while it is known to be up.
  linkOf(connection);
  if (options.onStatus) void report(connection, options.onStatus);
  return connection;
}

async function report(connection: NatsConnection, onStatus: (status: string) => void): Promise<void> {
  for await (const status of connection.status()) {
    if (status.type !== 'ping') onStatus(textOf(status));
  }
}
