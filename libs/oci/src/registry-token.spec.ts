import http from 'node:http';
import { type AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import fc from 'fast-check';
import { startRegistry, type RegistryServer } from '#stack';
import { clientOf, codeOf, inOwnFolder, randomBlob } from '../test/harness.js';
import {
  createRegistryCertificate,
  createRegistryTokenSigner,
  formatScope,
  intersectAccess,
  parseScope,
  parseScopes,
  type Access,
  type RegistryTokenSigner,
} from './index.js';

const SERVICE = 'registry.test';
const ISSUER = 'ims-test';

let signer: RegistryTokenSigner;
let registry: RegistryServer;
let endpoint: http.Server;
/** What each password holds, and how often it was exchanged. */
const tickets = new Map<string, { held: Access[]; exchanges: number; once: boolean }>();

beforeAll(async () => {
  const certificate = await createRegistryCertificate();
  signer = createRegistryTokenSigner({ ...certificate, issuer: ISSUER, service: SERVICE });
  endpoint = http.createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://localhost');
    const [, password = ''] = Buffer.from((request.headers.authorization ?? '').slice(6), 'base64')
      .toString()
      .split(':');
    const ticket = tickets.get(password);
    if (!ticket || (ticket.once && ticket.exchanges > 0)) {
      response.writeHead(401).end();
      return;
    }
    ticket.exchanges += 1;
    const access = intersectAccess(ticket.held, parseScopes(url.searchParams.getAll('scope')));
    void signer.sign({ subject: password, access, lifeSeconds: 60 }).then((token) => {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ token, expires_in: 60 }));
    });
  });
  await new Promise<void>((resolve) => endpoint.listen(0, '127.0.0.1', resolve));
  const realm = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}/token`;
  registry = await inOwnFolder((dir) =>
    startRegistry({ dir, auth: { realm, service: SERVICE, issuer: ISSUER, certPem: certificate.certificatePem } }),
  );
});
afterAll(async () => {
  await registry.stop();
  endpoint.closeAllConnections();
  await new Promise((resolve) => endpoint.close(resolve));
});

function ticket(password: string, held: Access[], once = false): { exchanges: number } {
  const entry = { held, exchanges: 0, once };
  tickets.set(password, entry);
  return entry;
}
const basic = (password: string, realm?: string) =>
  clientOf(registry.url, {
    credential: { kind: 'basic', username: 'agent', password, ...(realm === undefined ? {} : { realm }) },
  });
const right = (name: string, ...actions: string[]): Access => ({ type: 'repository', name, actions });

describe('a registry with token auth', () => {
  it('takes what a session token pushes, and exchanges it once for many blobs at a time', async () => {
    const session = ticket('session', [right('v/a', 'pull', 'push')]);
    const client = basic('session');
    const blobs = [1, 2, 3, 4].map((n) => randomBlob(n * 1_000));
    await Promise.all(
      blobs.map(({ descriptor, bytes }) =>
        client.uploadBlob('v/a', descriptor, () => Readable.from([bytes], { objectMode: false })),
      ),
    );
    expect(await client.headBlob('v/a', blobs[3]!.descriptor.digest)).toBe(4_000);
    expect(session.exchanges).toBe(1);
  });

  it('lets a one-time password pull everything of one repository, and nothing after it', async () => {
    ticket('writer', [right('v/a', 'pull', 'push'), right('v/b', 'pull', 'push')]);
    const blob = randomBlob(1_000);
    const open = () => Readable.from([blob.bytes], { objectMode: false });
    for (const name of ['v/a', 'v/b']) await basic('writer').uploadBlob(name, blob.descriptor, open);

    const once = ticket('once', [right('v/a', 'pull')], true);
    const client = basic('once');
    expect(await client.headBlob('v/a', blob.descriptor.digest)).toBe(1_000);
    expect((await client.getBlobBytes('v/a', blob.descriptor, 1_000)).equals(blob.bytes)).toBe(true);
    expect(once.exchanges).toBe(1);
    expect(await codeOf(basic('once').headBlob('v/a', blob.descriptor.digest))).toBe('registry_denied');
  });

  it('refuses another repository and a push with a right to pull', async () => {
    const reader = ticket('reader', [right('v/a', 'pull')]);
    const blob = randomBlob(10);
    expect(await codeOf(basic('reader').headBlob('v/b', blob.descriptor.digest))).toBe('registry_denied');
    const push = basic('reader').uploadBlob('v/a', blob.descriptor, () => Readable.from([blob.bytes]));
    expect(await codeOf(push)).toBe('registry_denied');
    // Once for each client: being refused is no reason to spend the password again.
    expect(reader.exchanges).toBe(2);
  });

  it('mounts with one token for both repositories', async () => {
    const both = ticket('both', [right('v/a', 'pull', 'push'), right('v/m', 'pull', 'push')]);
    const client = basic('both');
    const blob = randomBlob(1_000);
    await client.uploadBlob('v/a', blob.descriptor, () => Readable.from([blob.bytes], { objectMode: false }));
    const outcome = await client.uploadBlob('v/m', blob.descriptor, () => Readable.from([]), { mountFrom: 'v/a' });
    expect(outcome).toBe('mounted');
    expect(both.exchanges).toBeLessThanOrEqual(3);
  });

  it('takes tokens that the client signs itself for each right', async () => {
    const asked: string[] = [];
    const client = clientOf(registry.url, {
      credential: {
        kind: 'bearer',
        token: (access) => {
          asked.push(...access.map(formatScope));
          return signer.sign({ subject: 'install-agent', access, lifeSeconds: 60 });
        },
      },
    });
    const blob = randomBlob(10);
    await client.uploadBlob('own/a', blob.descriptor, () => Readable.from([blob.bytes], { objectMode: false }));
    expect(new Set(asked)).toEqual(new Set(['repository:own/a:pull,push']));
  });

  it('refuses a token of another issuer, and a nobody', async () => {
    const other = await createRegistryCertificate();
    const forged = createRegistryTokenSigner({ ...other, issuer: ISSUER, service: SERVICE });
    const token = (access: readonly Access[]) => forged.sign({ subject: 'x', access, lifeSeconds: 60 });
    const client = clientOf(registry.url, { credential: { kind: 'bearer', token } });
    expect(await codeOf(client.listTags('v/a'))).toBe('registry_denied');
    expect(await codeOf(clientOf(registry.url).listTags('v/a'))).toBe('registry_denied');
  });

  it('cannot send a password to a token endpoint that is not the pinned one', async () => {
    const pinned = ticket('pinned', [right('v/a', 'pull')]);
    const failure = codeOf(basic('pinned', 'http://127.0.0.1:9/token').listTags('v/a'));
    expect(await failure).toBe('registry_denied');
    expect(pinned.exchanges).toBe(0);
  });
});

describe('scopes', () => {
  it('are read whatever is in the name', () => {
    expect(parseScope('repository:a/b:pull,push,pull')).toEqual(right('a/b', 'pull', 'push'));
    for (const bad of [
      '',
      'repository:a/b',
      'registry:catalog:*',
      'repository:A:pull',
      'repository:a:fly',
      'repository:a/../b:pull',
      'repository:a*:pull',
    ]) {
      expect(parseScope(bad)).toBeUndefined();
    }
  });

  it('come in one parameter or in several', () => {
    const two = [right('a', 'pull'), right('b', 'push')];
    expect(parseScopes('repository:a:pull repository:b:push')).toEqual(two);
    expect(parseScopes(['repository:a:pull', 'repository:b:push'])).toEqual(two);
    expect(parseScopes(undefined)).toEqual([]);
  });

  const access = fc.record({
    type: fc.constant('repository' as const),
    name: fc.constantFrom('a', 'a/b', 'c'),
    actions: fc.uniqueArray(fc.constantFrom('pull', 'push', 'delete'), { minLength: 1 }),
  });

  it('survive being written and read', () => {
    fc.assert(fc.property(access, (one) => expect(parseScope(formatScope(one))).toEqual(one)));
  });

  it('never grant what is not held or not asked', () => {
    const holds = (list: readonly Access[], name: string, action: string) =>
      list.some((one) => one.name === name && one.actions.includes(action));
    fc.assert(
      fc.property(fc.array(access), fc.array(access), (held, asked) => {
        for (const { name, actions } of intersectAccess(held, asked)) {
          for (const action of actions) expect(holds(held, name, action) && holds(asked, name, action)).toBe(true);
        }
      }),
    );
  });
});

it('a signer refuses a key that is not of its certificate, and lives that make no sense', async () => {
  const [one, other] = [await createRegistryCertificate(), await createRegistryCertificate()];
  expect(() =>
    createRegistryTokenSigner({
      privateKeyPem: one.privateKeyPem,
      certificatePem: other.certificatePem,
      issuer: 'i',
      service: 's',
    }),
  ).toThrow('another key');
  expect(await codeOf(signer.sign({ subject: 's', access: [], lifeSeconds: 0 }))).toBe('invalid_request');
});
