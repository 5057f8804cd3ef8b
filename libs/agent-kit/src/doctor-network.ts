import { lookup } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { createConnection, isIP } from 'node:net';
import { type Duplex } from 'node:stream';
import { connect as tlsConnect, type PeerCertificate, type TLSSocket } from 'node:tls';
import { inboxPrefix, jobCancel, LIMITS, newId, subjectFilter } from '#contracts';
import { connectNats } from '#messaging';
import { httpsAgent, openTunnel, proxyName, proxyOf, withTimeout, type ProxySettings } from '#platform';
import { type Identity } from './identity.js';

const STEP_MS = 5_000;
const NATS_MS = 12_000;
/** Somebody has to renew a certificate; two weeks are time enough to ask. */
const CERTIFICATE_WARN_MS = 14 * 86_400_000;
const PORTS: Readonly<Record<string, number>> = {
  'http:': 80,
  'https:': 443,
  'ws:': 80,
  'wss:': 443,
  'nats:': 4222,
  'tls:': 4222,
};

/** One thing that was looked at. */
export interface Finding {
  readonly check: string;
  readonly status: 'ok' | 'warn' | 'fail';
  /** What was seen. */
  readonly said: string;
  /** What to do about it. */
  readonly remedy?: string;
}

export interface NetworkOptions {
  readonly proxy: ProxySettings;
  readonly caFile: string | undefined;
}

const ok = (check: string, said: string): Finding => ({ check, status: 'ok', said });
const fail = (check: string, said: string, remedy: string): Finding => ({ check, status: 'fail', said, remedy });
const textOf = (error: unknown): string => {
  const { message, errors } = error as Error & { errors?: readonly Error[] };
  return message !== '' ? message : (errors?.[0]?.message ?? 'failed');
};

/**
 * The way to a server, step by step: name, connection (directly or through the proxy), certificate. Ends at the first
 * step that fails, since nothing after it can be known.
 */
export async function wayTo(what: string, text: string, options: NetworkOptions): Promise<Finding[]> {
  const url = new URL(text);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = url.port === '' ? (PORTS[url.protocol] ?? 443) : Number(url.port);
  const at = `${host}:${port}`;
  const proxy = proxyOf(options.proxy, host, port);
  const found: Finding[] = [];
  let stream: Duplex;
  if (proxy) {
    try {
      stream = await openTunnel(proxy, host, port);
    } catch (error) {
      const remedy = /407|credentials/.test(textOf(error))
        ? 'Put user and password of the proxy into HTTPS_PROXY: http://user:password@host:port.'
        : `Let ${proxyName(proxy)} open tunnels (CONNECT) to ${at}, or name ${host} in NO_PROXY where it is reached directly.`;
      return [fail(`${what}: proxy`, textOf(error), remedy)];
    }
    found.push(ok(`${what}: proxy`, `${at} by ${proxyName(proxy)}`));
  } else {
    try {
      const addresses = await withTimeout('the name', STEP_MS, lookup(host, { all: true }));
      if (isIP(host) === 0)
        found.push(ok(`${what}: DNS`, `${host} is ${addresses.map(({ address }) => address).join(', ')}`));
    } catch (error) {
      const remedy = `Make ${host} resolvable on this host, or set HTTPS_PROXY where only a proxy knows it.`;
      return [fail(`${what}: DNS`, `${host} is not known: ${textOf(error)}`, remedy)];
    }
    try {
      stream = await dial(host, port);
    } catch (error) {
      const remedy = `Allow this host to connect out to ${at} (TCP), or set HTTPS_PROXY. Nothing has to come in.`;
      return [...found, fail(`${what}: TCP`, `${at} does not answer: ${textOf(error)}`, remedy)];
    }
    found.push(ok(`${what}: TCP`, at));
  }
  stream.on('error', () => undefined);
  try {
    if (/^(https|wss|tls):$/.test(url.protocol)) {
      if (url.protocol === 'tls:') await greeting(stream);
      found.push(await certificateOf(what, stream, host, options.caFile));
    }
  } catch (error) {
    const remedy = `Something between here and ${at} speaks no TLS: ask who runs the network for a way that leaves it alone.`;
    found.push(fail(`${what}: TLS`, textOf(error), remedy));
  } finally {
    stream.destroy();
  }
  return found;
}

function dial(host: string, port: number): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host, port, timeout: STEP_MS });
    socket.once('connect', () => {
      socket.setTimeout(0);
      resolve(socket);
    });
    socket.once('timeout', () => socket.destroy(new Error(`no answer within ${STEP_MS / 1000} s`)));
    socket.once('error', reject);
  });
}

/** A NATS server speaks first, and TLS begins after that. */
const greeting = (stream: Duplex): Promise<unknown> =>
  withTimeout('the first word of the server', STEP_MS, new Promise((resolve) => stream.once('data', resolve)));

async function certificateOf(what: string, stream: Duplex, host: string, caFile: string | undefined): Promise<Finding> {
  const socket: TLSSocket = tlsConnect({
    socket: stream,
    host,
    servername: isIP(host) === 0 ? host : '',
    // Looked at in any case; nothing is sent over it.
    rejectUnauthorized: false,
    ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }),
  });
  const shaken = new Promise<void>((resolve, reject) => {
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('the connection ended during the TLS handshake')));
  });
  await withTimeout('the TLS handshake', STEP_MS, shaken);
  const certificate = socket.getPeerCertificate();
  const name = (part: PeerCertificate['subject']): string => [part.CN, part.O].flat().filter(Boolean).join(', ');
  const said = `${name(certificate.subject)}, issued by ${name(certificate.issuer)}, until ${certificate.valid_to}`;
  const error = socket.authorized ? '' : String(socket.authorizationError);
  socket.destroy();
  if (error !== '') {
    const remedy = /EXPIRED/.test(error)
      ? 'The certificate has to be renewed by who runs the server; look at the clock of this host first.'
      : /ALTNAME/.test(error)
        ? `The certificate is for another name than ${host}: use the name that is in it.`
        : 'Give the PEM of the authority: CA_FILE for run, --ca-file for enrol. It may be a proxy that opens TLS.';
    return fail(`${what}: TLS`, `${error}: ${said}`, remedy);
  }
  if (Date.parse(certificate.valid_to) - Date.now() < CERTIFICATE_WARN_MS) {
    return {
      check: `${what}: TLS`,
      status: 'warn',
      said,
      remedy: 'It ends soon: who runs the server has to renew it.',
    };
  }
  return ok(`${what}: TLS`, said);
}

/** One GET; resolves with status and time of the server. */
async function get(
  text: string,
  { proxy, caFile }: NetworkOptions,
): Promise<{ status: number; date: string | undefined }> {
  const url = new URL(text);
  const secure = url.protocol === 'https:';
  const ca = caFile === undefined ? {} : { ca: readFileSync(caFile) };
  return new Promise((resolve, reject) => {
    const agent = secure ? httpsAgent(proxy, ca) : false;
    const sent = (secure ? httpsRequest : httpRequest)(
      url,
      { agent, signal: AbortSignal.timeout(STEP_MS) },
      (answer) => {
        answer.resume();
        resolve({ status: answer.statusCode ?? 0, date: answer.headers.date });
      },
    );
    sent.on('error', reject);
    sent.end();
  });
}

/** That it is ours which answers there: `accepted` are the statuses that it would answer. */
export async function answers(
  what: string,
  url: string,
  accepted: readonly number[],
  options: NetworkOptions,
): Promise<Finding[]> {
  const check = `${what}: HTTP`;
  try {
    const { status } = await get(url, options);
    if (accepted.includes(status)) return [ok(check, `${url} answers ${status}`)];
    return [
      fail(check, `${url} answers ${status}`, `Something else than the ${what} answers there: check the address.`),
    ];
  } catch (error) {
    return [
      fail(check, `${url}: ${textOf(error)}`, `Check that the ${what} is up; the lines above say how far one gets.`),
    ];
  }
}

/** Requests and job statements are refused when the clocks are a minute apart. */
export async function clock(server: string, options: NetworkOptions): Promise<Finding[]> {
  try {
    const before = Date.now();
    const { date } = await get(`${server}/livez`, options);
    if (date === undefined) return [];
    const skewMs = Math.abs(Date.parse(date) - (before + Date.now()) / 2);
    const said = `${Math.round(skewMs / 1000)} s away from the server`;
    if (skewMs > LIMITS.requestSkewMs / 2) {
      return [fail('clock', said, 'Set the clock of this host, and keep it set (chrony, systemd-timesyncd).')];
    }
    return [ok('clock', said)];
  } catch {
    // That it does not answer is said elsewhere.
    return [];
  }
}

/** The credential on the real server: it gets in, hears its own, and hears nobody else's. */
export async function natsAccess(identity: Identity, options: NetworkOptions): Promise<Finding[]> {
  const { agentId } = identity;
  const reasons = new Set<string>();
  const giveUp = new AbortController();
  const refusals: string[] = [];
  try {
    const connecting = connectNats({
      servers: identity.natsUrls,
      name: `${agentId} doctor`,
      inboxPrefix: inboxPrefix(agentId),
      credentials: identity.credentials,
      proxy: options.proxy,
      ...(options.caFile === undefined ? {} : { caFile: options.caFile }),
      signal: giveUp.signal,
      onStatus: (status) => {
        if (status.startsWith('cannot connect')) reasons.add(status);
        if (status.startsWith('error: ')) refusals.push(status);
      },
    });
    connecting.catch(() => undefined);
    const connection = await withTimeout('NATS', NATS_MS, connecting);
    const heard = async (agent: string): Promise<boolean> => {
      const before = refusals.length;
      connection.subscribe(subjectFilter(jobCancel, { agent }), { callback: () => undefined });
      await connection.flush();
      await connection.flush();
      return refusals.length === before;
    };
    const own = await heard(agentId);
    const foreign = await heard(newId('agent'));
    const server = connection.getServer();
    await connection.close();
    const found = [ok('NATS: login', `as ${agentId} at ${server}`)];
    if (!own) found.push(fail('NATS: rights', 'its own subjects are closed to it', 'Enrol this agent again.'));
    if (foreign) {
      const remedy =
        'Stop the agent and tell who runs the IMS: the account of the NATS server is not set up as it must be.';
      found.push(fail('NATS: rights', 'the subjects of another agent are open to it', remedy));
    }
    if (own && !foreign) found.push(ok('NATS: rights', 'its own subjects, and no other agent’s'));
    return found;
  } catch {
    giveUp.abort();
    const said = [...reasons].join('; ');
    const remedy =
      said === ''
        ? 'The server refuses the credential: the agent was revoked, enrolled again elsewhere, or was off for long (then `run` renews it by itself). Else enrol again.'
        : 'The lines above say how far one gets to each address. One of them is enough.';
    return [fail('NATS: login', said === '' ? 'the credential is refused' : said, remedy)];
  }
}
