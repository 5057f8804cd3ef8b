import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type NatsConnection } from '@nats-io/transport-node';
import { inboxPrefix } from '#contracts';
import { connectNats, type NatsOptions } from '#messaging';
import { proxySettings } from '#platform';
import { keptCertificates, startNats, type NatsServer } from '#stack';
import { startProxy, type TestProxy } from './proxy.js';

/** A name that no resolver knows: only the proxy knows where it is. */
const HIDDEN = 'broker.hidden.test';

let dir: string;
let server: NatsServer;
const open: NatsConnection[] = [];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'messaging-connection-'));
  const tls = await keptCertificates(join(dir, 'tls'), [HIDDEN]);
  server = await startNats({ dir: join(dir, 'nats'), tls, websocket: true });
});
afterEach(() => Promise.all(open.splice(0).map((connection) => connection.close())));
afterAll(async () => {
  await server.stop();
  await rm(dir, { recursive: true });
});

async function dial(servers: string[], more: Partial<NatsOptions> = {}): Promise<NatsConnection> {
  const { jwt, seed } = await server.serviceCreds('gateway');
  const connection = await connectNats({
    servers,
    name: 'test',
    inboxPrefix: inboxPrefix('gateway'),
    credentials: { jwt, seed },
    ...(server.caFile === undefined ? {} : { caFile: server.caFile }),
    ...more,
  });
  open.push(connection);
  return connection;
}

/** Bytes of several chunk sizes there and back: to oneself over the server. */
async function works(connection: NatsConnection): Promise<void> {
  const inbox = `${inboxPrefix('gateway')}.echo`;
  const heard: number[] = [];
  const sizes = [0, 1, 70_000, 900_000];
  const all = new Promise<void>((resolve) => {
    connection.subscribe(inbox, {
      callback: (_, message) => {
        heard.push(message.data.length);
        if (heard.length === sizes.length) resolve();
      },
    });
  });
  for (const size of sizes) connection.publish(inbox, Buffer.alloc(size, 7));
  await all;
  expect(heard).toEqual(sizes);
}

/** The first status that matches; the attempt is given up then. */
async function refusal(servers: string[], more: Partial<NatsOptions>, pattern: RegExp): Promise<string> {
  const giveUp = new AbortController();
  let found = '';
  const onStatus = (status: string): void => {
    if (found !== '' || !pattern.test(status)) return;
    found = status;
    giveUp.abort();
  };
  await expect(dial(servers, { ...more, onStatus, signal: giveUp.signal })).rejects.toThrow(/abort/);
  return found;
}

describe('a connection', () => {
  it('over TLS with a private CA', async () => {
    const connection = await dial([server.url]);
    expect(server.url).toMatch(/^tls:/);
    await works(connection);
  });

  it('over WebSocket with a private CA', async () => {
    expect(server.websocketUrl).toMatch(/^wss:/);
    await works(await dial([server.websocketUrl ?? '']));
  });

  it('is not made with a server whose certificate nobody here trusts, and says so', async () => {
    const other = await keptCertificates(join(dir, 'other-tls'));
    for (const url of [server.url, server.websocketUrl ?? '']) {
      const reason = await refusal([url], { caFile: other.caFile }, /cannot connect/);
      expect(reason).toMatch(/certificate|self.signed/i);
    }
  });

  it('by tls:// is not made without TLS: whoever is in between could leave the offer out', async () => {
    const downgrade = createServer((socket) => socket.write('INFO {"server_id":"x","max_payload":1}\r\n'));
    const port = await listen(downgrade);
    expect(await refusal([`tls://127.0.0.1:${port}`], {}, /cannot/)).toContain('does not offer TLS');
    downgrade.close();
  });

  it('falls back to WebSocket where the first port is swallowed, and stays with what worked', async () => {
    const sockets: Socket[] = [];
    const silent = createServer((socket) => void sockets.push(socket));
    const swallowed = `tls://127.0.0.1:${await listen(silent)}`;
    const made: string[] = [];
    const connection = await dial([swallowed, server.websocketUrl ?? ''], { onConnected: (url) => made.push(url) });
    await works(connection);
    const tries = sockets.length;
    const back = new Promise<void>((resolve) => {
      void (async () => {
        for await (const { type } of connection.status()) if (type === 'reconnect') resolve();
      })();
    });
    await server.restart();
    await back;
    await connection.flush();
    expect(made.map((url) => new URL(url).protocol)).toEqual(expect.arrayContaining(['wss:']));
    expect(new Set(made).size).toBe(1);
    expect(sockets.length - tries).toBeLessThanOrEqual(1);
    for (const socket of sockets) socket.destroy();
    silent.close();
  }, 180_000);
});

describe('through a proxy', () => {
  const port = (url: string | undefined): string => new URL(url ?? '').port;
  const away = (): string[] => [`tls://${HIDDEN}:4222`, `wss://${HIDDEN}`];
  const places = (): Record<string, string> => ({
    [`${HIDDEN}:4222`]: `127.0.0.1:${port(server.url)}`,
    [`${HIDDEN}:443`]: `127.0.0.1:${port(server.websocketUrl)}`,
  });
  let proxy: TestProxy;
  afterEach(() => proxy.stop());

  it.each([undefined, 'user:p%40ss'])('both kinds reach a server that is behind it (credentials: %s)', async (who) => {
    proxy = await startProxy(places(), who?.replace('%40', '@'));
    const url = proxy.url.replace('p@ss', 'p%40ss');
    for (const server of away()) await works(await dial([server], { proxy: proxySettings({ HTTPS_PROXY: url }) }));
    expect(proxy.asked).toEqual([`${HIDDEN}:4222`, `${HIDDEN}:443`]);
  });

  it('that lets only 443 through: WebSocket is found', async () => {
    const { [`${HIDDEN}:443`]: only = '' } = places();
    proxy = await startProxy({ [`${HIDDEN}:443`]: only });
    const said: string[] = [];
    const settings = proxySettings({ https_proxy: proxy.url });
    await works(await dial(away(), { proxy: settings, onStatus: (status) => said.push(status) }));
    expect(said[0]).toContain('answered 403');
  });

  it('says what is wrong with its credentials, and never shows them', async () => {
    proxy = await startProxy(places(), 'user:right');
    const url = proxy.url.replace('right', 'wrong-password');
    const reason = await refusal(away(), { proxy: proxySettings({ HTTPS_PROXY: url }) }, /407/);
    expect(reason).toContain('wants other credentials');
    expect(reason).not.toContain('wrong-password');
  });

  it('not where NO_PROXY says otherwise, and never to this machine', async () => {
    proxy = await startProxy({});
    await works(await dial([server.url], { proxy: proxySettings({ HTTPS_PROXY: proxy.url }) }));
    expect(proxy.asked).toEqual([]);
  });
});

async function listen(server: Server): Promise<number> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  return address.port;
}
