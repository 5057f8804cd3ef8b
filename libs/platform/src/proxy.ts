import { request as httpRequest } from 'node:http';
import { Agent, request as httpsRequest, type AgentOptions } from 'node:https';
import { BlockList, isIP } from 'node:net';
import { connect as tlsConnect, type ConnectionOptions } from 'node:tls';
import { type Duplex } from 'node:stream';
import { registerSecret } from './redaction.js';

const TUNNEL_MS = 10_000;

/** The way out of a network that lets nothing out directly. */
export interface ProxySettings {
  /** `http://` or `https://` URL of a proxy that knows CONNECT; user and password in it are sent to it (Basic). */
  readonly proxy?: URL;
  /** Hosts, `.domains`, addresses, `network/bits`, each perhaps with `:port`, or `*`: reached without it. */
  readonly direct: readonly string[];
}

/**
 * HTTPS_PROXY and NO_PROXY, as curl reads them: the names in small letters come first. This machine itself is never
 * reached through a proxy. Throws, without quoting it, when the proxy's URL is none.
 */
export function proxySettings(env: Readonly<Record<string, string | undefined>>): ProxySettings {
  const of = (name: string): string => env[name.toLowerCase()] ?? env[name] ?? '';
  const direct = of('NO_PROXY')
    .split(/[\s,]+/)
    .filter((rule) => rule !== '');
  const text = of('HTTPS_PROXY').trim();
  if (text === '') return { direct };
  const url = /^[a-z][a-z0-9+]*:\/\//i.test(text) ? text : `http://${text}`;
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new Error('HTTPS_PROXY is not the URL of an HTTP proxy (http://host:port)');
  }
  const proxy = new URL(url);
  if (proxy.password !== '') {
    registerSecret(proxy.password);
    registerSecret(decodeURIComponent(proxy.password));
  }
  return { proxy, direct };
}

/** The proxy through which a host is reached; undefined: directly. */
export function proxyOf({ proxy, direct }: ProxySettings, host: string, port: number): URL | undefined {
  if (proxy === undefined) return undefined;
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  if (bare === 'localhost' || bare === '::1' || (isIP(bare) === 4 && bare.startsWith('127.'))) return undefined;
  return direct.some((rule) => covers(rule.toLowerCase(), bare, port)) ? undefined : proxy;
}

function covers(rule: string, host: string, port: number): boolean {
  if (rule === '*') return true;
  const [, network, bits] = /^([0-9a-f.:]+)\/(\d+)$/.exec(rule) ?? [];
  if (network !== undefined) {
    const family = isIP(host) === 6 ? 'ipv6' : 'ipv4';
    if (isIP(host) === 0 || isIP(network) !== isIP(host)) return false;
    const list = new BlockList();
    list.addSubnet(network, Number(bits), family);
    return list.check(host, family);
  }
  const [, name = '', only] = isIP(rule) === 6 ? [rule, rule] : (/^(.*?)(?::(\d+))?$/.exec(rule) ?? []);
  if (only !== undefined && Number(only) !== port) return false;
  const domain = name.replace(/^\*?\./, '');
  return domain !== '' && (host === domain || host.endsWith(`.${domain}`));
}

/** Where a proxy is, without the credentials in its URL. */
export const proxyName = (proxy: URL): string => `the proxy ${proxy.host}`;

/**
 * A connection to `host:port` through the proxy, bytes as they are. Rejects with what the proxy said: `407` for missing
 * or wrong credentials, `403` for a host that it does not let through.
 */
export function openTunnel(proxy: URL, host: string, port: number, ca?: string): Promise<Duplex> {
  const target = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
  const user = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  return new Promise((done, fail) => {
    const send = proxy.protocol === 'https:' ? httpsRequest : httpRequest;
    const sent = send({
      host: proxy.hostname.replace(/^\[|\]$/g, ''),
      port: proxy.port === '' ? (proxy.protocol === 'https:' ? 443 : 80) : Number(proxy.port),
      method: 'CONNECT',
      path: target,
      agent: false,
      headers: {
        host: target,
        ...(user === ':' ? {} : { 'proxy-authorization': `Basic ${Buffer.from(user).toString('base64')}` }),
      },
      signal: AbortSignal.timeout(TUNNEL_MS),
      ...(ca === undefined ? {} : { ca }),
    });
    sent.on('connect', (response, socket, head) => {
      if (response.statusCode === 200) {
        if (head.length > 0) socket.unshift(head);
        done(socket);
        return;
      }
      socket.destroy();
      const why = response.statusCode === 407 ? ' (it wants other credentials)' : '';
      fail(new Error(`${proxyName(proxy)} answered ${response.statusCode} for ${target}${why}`));
    });
    // Some answer a refusal as if it had been any other request.
    sent.on('response', (response) => {
      response.destroy();
      fail(new Error(`${proxyName(proxy)} answered ${response.statusCode} for ${target}`));
    });
    sent.on('error', (error) => {
      fail(new Error(`${proxyName(proxy)} cannot be reached: ${error.message}`, { cause: error }));
    });
    sent.end();
  });
}

/** Connections for https:// URLs, through the proxy where there is one. */
class TunnelAgent extends Agent {
  constructor(
    private readonly settings: ProxySettings,
    options: AgentOptions,
  ) {
    super(options);
  }

  override createConnection(
    options: ConnectionOptions,
    callback?: (error: Error | null, socket: Duplex) => void,
  ): Duplex | null | undefined {
    const [host, port] = [options.host ?? 'localhost', options.port ?? 443];
    const proxy = proxyOf(this.settings, host, port);
    if (proxy === undefined || callback === undefined) return super.createConnection(options, callback);
    const servername = options.servername ?? (isIP(host) === 0 ? host : '');
    openTunnel(proxy, host, port).then(
      (socket) => callback(null, tlsConnect({ ...options, servername, socket: socket })),
      (error: unknown) => callback(error as Error, undefined as never),
    );
    return undefined;
  }
}

/** What https:// requests are made with; `options` as of Node's own agent (keepAlive, ca, maxSockets). */
export const httpsAgent = (settings: ProxySettings, options: AgentOptions = {}): Agent =>
  settings.proxy === undefined ? new Agent(options) : new TunnelAgent(settings, options);
