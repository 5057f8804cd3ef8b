import { lookup } from 'node:dns';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { BlockList, isIP, type LookupFunction } from 'node:net';
import { ImsError } from '#contracts';

/**
 * Everything that is not the public internet (IANA's special-purpose registries): this host, private and shared
 * networks, link-local (a cloud's metadata service), benchmarks, documentation, multicast, translations to IPv4.
 */
const PRIVATE = new BlockList();
for (const network of [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.0.2.0/24', '192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24'],
  ...['224.0.0.0/4', '240.0.0.0/4'],
]) {
  const [address = '', bits] = network.split('/');
  PRIVATE.addSubnet(address, Number(bits), 'ipv4');
}
for (const network of ['64:ff9b::/96', '64:ff9b:1::/48', '100::/64', '2001::/23', '2001:db8::/32', '2002::/16']) {
  const [address = '', bits] = network.split('/');
  PRIVATE.addSubnet(address, Number(bits), 'ipv6');
}
/** Of IPv6 only this is routed to anybody. */
const GLOBAL = new BlockList();
GLOBAL.addSubnet('2000::', 3, 'ipv6');

/** Whether an address is on the public internet. Text that is no address is not. */
export function isPublicAddress(address: string): boolean {
  const family = isIP(address);
  if (family === 4) return !PRIVATE.check(address, 'ipv4');
  return family === 6 && GLOBAL.check(address, 'ipv6') && !PRIVATE.check(address, 'ipv6');
}

const isPrivate = 'the address is not on the public internet';

/** The URL of an endpoint, checked as far as it can be without a name server. Throws `invalid_request`. */
export function checkEndpoint(text: string, allowPrivate: boolean): void {
  const refuse = (message: string): never => {
    throw new ImsError('invalid_request', `/url ${message}`, [{ pointer: '/url', message }]);
  };
  if (!URL.canParse(text)) refuse('must be a URL');
  const { protocol, username, password, hostname } = new URL(text);
  if (protocol !== 'https:' && !(allowPrivate && protocol === 'http:')) refuse('must begin with https://');
  if (username !== '' || password !== '') refuse('must not hold a user or a password');
  const host = hostname.replace(/^\[|\]$/g, '');
  if (!allowPrivate && isIP(host) !== 0 && !isPublicAddress(host)) refuse(isPrivate);
}

/** Resolves a name and gives the public addresses alone, so that the connection goes where the check looked. */
const publicLookup: LookupFunction = (hostname, options, done) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) {
      done(error, '', 0);
      return;
    }
    // One private address is enough: a name that leads to both is no accident.
    const [first] = addresses;
    if (first === undefined || !addresses.every(({ address }) => isPublicAddress(address)))
      done(new Error(isPrivate), '', 0);
    else if (options.all === true) done(null, addresses);
    else done(null, first.address, first.family);
  });
};

/** The status that an endpoint answers, within `timeoutMs` from the first byte to the last header. Follows no redirect. */
export function post(
  url: string,
  body: string,
  headers: Readonly<Record<string, string>>,
  options: { readonly allowPrivate: boolean; readonly timeoutMs: number },
): Promise<number> {
  return new Promise((resolve, reject) => {
    // A host that is an address is never looked up, so it is judged here.
    checkEndpoint(url, options.allowPrivate);
    const request = url.startsWith('http:') ? httpRequest : httpsRequest;
    const sent = request(
      url,
      {
        method: 'POST',
        headers: { ...headers, 'content-length': String(Buffer.byteLength(body)) },
        // Not kept: the next delivery looks the name up again.
        agent: false,
        signal: AbortSignal.timeout(options.timeoutMs),
        ...(options.allowPrivate ? {} : { lookup: publicLookup }),
      },
      (response) => {
        resolve(response.statusCode ?? 0);
        // What it says is of no use, and may be without end.
        response.destroy();
      },
    );
    sent.on('error', reject);
    sent.end(body);
  });
}
