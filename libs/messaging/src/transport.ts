import { createConnection, isIP, type Socket } from 'node:net';
import { type Duplex } from 'node:stream';
import { connect as tlsConnect, TLSSocket } from 'node:tls';
import {
  extractProtocolMessage,
  NatsConnectionImpl,
  setTransportFactory,
  type ConnectionOptions,
  type NatsConnection,
  type Server,
  type ServerInfo,
  type Transport,
} from '@nats-io/nats-core/internal';
import { createWebSocketStream, WebSocket } from 'ws';
import { openTunnel, proxyOf, type ProxySettings } from '#platform';

/** How one connection gets out; the client hands its options to the transport. */
export interface Dialling {
  readonly proxy: ProxySettings;
  /** PEM of the authorities to trust instead of the public ones. */
  readonly ca?: string | undefined;
  /** Each attempt that failed, with the URL and the reason: the client itself keeps them to itself while it waits. */
  readonly onFailure: (url: string, reason: string) => void;
  readonly onSuccess: (url: string) => void;
}
type DialOptions = ConnectionOptions & { readonly dialling: Dialling };
/** Of a connection that was made by the client's own means, in the same process. */
const PLAIN: Dialling = { proxy: { direct: [] }, onFailure: () => undefined, onSuccess: () => undefined };

const PORTS: Readonly<Record<string, number>> = { 'nats:': 4222, 'tls:': 4222, 'ws:': 80, 'wss:': 443 };

/** The URL with its port said: the client tells servers apart by host and port, and takes 4222 where none is said. */
export function withPort(text: string): string {
  const url = new URL(text);
  const port = url.port === '' ? PORTS[url.protocol] : Number(url.port);
  if (port === undefined || PORTS[url.protocol] === undefined) throw new Error(`${text} is not a NATS URL`);
  const path = url.protocol.startsWith('ws') ? `${url.pathname === '/' ? '' : url.pathname}${url.search}` : '';
  return `${url.protocol}//${url.hostname}:${port}${path}`;
}

/**
 * Connects with transports of our own, for the client's are of one kind for the whole process, know no proxy, and no
 * private CA for WebSocket.
 */
export function connectOverStreams(options: DialOptions): Promise<NatsConnection> {
  setTransportFactory({ factory: () => new StreamTransport() });
  return NatsConnectionImpl.connect(options);
}

/** Bytes to and from a NATS server over TCP, TLS or WebSocket, directly or through a proxy: by the server's URL. */
class StreamTransport implements Transport {
  readonly lang = 'nats.js';
  readonly version = '3.4.0';
  closeError?: Error;
  isClosed = false;
  private stream: Duplex | undefined;
  private encrypted = false;
  private connected = false;
  private frames: Uint8Array[] = [];
  private wake: () => void = () => undefined;
  private settle: (error: Error | undefined) => void = () => undefined;
  private readonly ended = new Promise<Error | undefined>((resolve) => (this.settle = resolve));

  async connect(server: Server, options: ConnectionOptions): Promise<void> {
    const { dialling = PLAIN } = options as Partial<DialOptions>;
    const url = new URL(server.src.includes('://') ? server.src : `nats://${server.src}`);
    try {
      const stream = await this.open(url, dialling);
      if (this.isClosed) throw new Error('the attempt took too long');
      this.connected = true;
      stream.on('data', (frame: Buffer) => this.push(frame));
      stream.on('close', () => this.end());
      stream.on('end', () => this.end());
      // It was paused for the time without a reader, and a new reader alone does not end that.
      stream.resume();
      dialling.onSuccess(server.src);
    } catch (thrown) {
      this.stream?.destroy();
      const error = thrown instanceof Error ? thrown : new Error(String(thrown));
      dialling.onFailure(server.src, reasonOf(error));
      throw error;
    }
  }

  /** A stream whose next bytes are what follows the server's INFO, which is put in front again. */
  private async open(url: URL, dialling: Dialling): Promise<Duplex> {
    const host = url.hostname.replace(/^\[|\]$/g, '');
    const port = Number(url.port === '' ? PORTS[url.protocol] : url.port);
    const proxy = proxyOf(dialling.proxy, host, port);
    let stream = this.use(proxy ? await openTunnel(proxy, host, port, dialling.ca) : await dialTcp(host, port));
    const webSocket = url.protocol.startsWith('ws');
    if (url.protocol === 'wss:') stream = this.use(await secure(stream, host, dialling.ca));
    if (webSocket) stream = this.use(await upgrade(url, stream));
    const { bytes, info } = await firstInfo(stream);
    if (!webSocket && (url.protocol === 'tls:' || info.tls_required === true || info.tls_available === true)) {
      // Whoever is in between could leave the offer out, and read everything.
      if (info.tls_required !== true && info.tls_available !== true) throw new Error('the server does not offer TLS');
      stream = this.use(await secure(stream, host, dialling.ca));
    }
    this.encrypted = stream instanceof TLSSocket || url.protocol === 'wss:';
    this.push(bytes);
    return stream;
  }

  /** Remembered at once, so that an attempt that is given up is closed, and its late errors have somebody to go to. */
  private use<T extends Duplex>(stream: T): T {
    this.stream = stream;
    if (this.isClosed) stream.destroy();
    stream.on('error', (error) => (this.closeError ??= error));
    return stream;
  }

  private push(frame: Uint8Array): void {
    this.frames.push(frame);
    this.wake();
  }

  private end(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.stream?.destroy();
    this.wake();
    // One that never was connected is the dialler's failure, not a lost connection.
    if (this.connected) this.settle(this.closeError);
  }

  async *[Symbol.asyncIterator](): AsyncIterableIterator<Uint8Array> {
    while (!this.isClosed) {
      const next = this.frames;
      this.frames = [];
      yield* next;

      if (this.frames.length === 0 && !this.isClosed) await new Promise<void>((resolve) => (this.wake = resolve));
    }
    yield* this.frames;
  }

  isEncrypted(): boolean {
    return this.encrypted;
  }
  send(frame: Uint8Array): void {
    if (!this.isClosed) this.stream?.write(frame);
  }
  close(error?: Error): Promise<void> {
    if (error) this.closeError = error;
    this.disconnect();
    return Promise.resolve();
  }
  /** What was written before still goes out. */
  disconnect(): void {
    if (this.isClosed) return;
    const { stream } = this;
    this.isClosed = true;
    this.wake();
    if (stream) stream.end(() => stream.destroy());
    if (this.connected) this.settle(this.closeError);
  }
  closed(): Promise<Error | undefined> {
    return this.ended;
  }
  discard(): void {
    this.isClosed = true;
    this.stream?.destroy();
  }
}

/** Resolves at the event, rejects at an error or an end before it. */
function untilEvent(stream: Duplex, event: string, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error): void => {
      stream.off('error', settle).off('close', gone).off(event, done);
      if (error) reject(error);
      else resolve();
    };
    const done = (): void => settle();
    const gone = (): void => settle(new Error(`the connection ended ${what}`));
    stream.on('error', settle).on('close', gone).on(event, done);
  });
}

async function dialTcp(host: string, port: number): Promise<Duplex> {
  const socket = createConnection({ host, port, noDelay: true });
  await untilEvent(socket, 'connect', 'before it was made');
  return socket;
}

async function secure(stream: Duplex, host: string, ca: string | undefined): Promise<Duplex> {
  const socket = tlsConnect({
    socket: stream,
    host,
    // A server name must not be an address; the certificate is compared with `host` in any case.
    servername: isIP(host) === 0 ? host : '',
    ...(ca === undefined ? {} : { ca }),
  });
  await untilEvent(socket, 'secureConnect', 'during the TLS handshake');
  return socket;
}

async function upgrade(url: URL, stream: Duplex): Promise<Duplex> {
  const socket = new WebSocket(url, {
    createConnection: () => stream as Socket,
    perMessageDeflate: false,
    handshakeTimeout: 5_000,
    maxPayload: 8 * 1024 * 1024,
  });
  // At once: the server's first message may come in the same packet as its yes.
  const duplex = createWebSocketStream(socket);
  duplex.on('error', () => undefined);
  await new Promise<void>((resolve, reject) => {
    socket.once('open', () => resolve());
    socket.once('error', reject);
  });
  return duplex;
}

/** Reads up to the end of the first INFO. */
function firstInfo(stream: Duplex): Promise<{ bytes: Uint8Array; info: ServerInfo }> {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const settle = (act: () => void): void => {
      stream.pause();
      stream.off('data', onData).off('close', gone);
      act();
    };
    const gone = (): void => settle(() => reject(new Error('the connection ended before the server said who it is')));
    const onData = (chunk: Buffer): void => {
      bytes = Buffer.concat([bytes, chunk]);
      const line = extractProtocolMessage(bytes);
      if (line === '' && bytes.length < 64 * 1024) return;
      settle(() => {
        if (!/^INFO\s/.test(line)) reject(new Error('this is not a NATS server'));
        else resolve({ bytes, info: JSON.parse(line.slice('INFO'.length)) as ServerInfo });
      });
    };
    stream.on('data', onData).on('close', gone);
  });
}

function reasonOf(error: Error & { errors?: readonly Error[] }): string {
  // A host with several addresses: each has failed for a reason of its own.
  const first = error.errors?.[0]?.message;
  return error.message !== '' ? error.message : (first ?? 'failed');
}
