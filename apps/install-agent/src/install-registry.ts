import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { assertPrivate, privateDirectory, writePrivate } from '#agent-kit';
import {
  createRegistryCertificate,
  createRegistryTokenSigner,
  describeBytes,
  intersectAccess,
  parseScopes,
  RegistryClient,
  type Access,
  type RegistryTokenSigner,
} from '#oci';

const ISSUER = 'install-agent';
const SERVICE = 'install-registry';
const NODE_USER = 'node';
const OWN_LIFE_SECONDS = 300;
const NODE_LIFE_SECONDS = 300;
const files = (stateDir: string) => ({
  key: join(stateDir, 'registry-key.pem'),
  certificate: join(stateDir, 'registry.crt'),
  nodeSecret: join(stateDir, 'node-pull-secret'),
});

/**
 * Makes, once, what the install's registry trusts: a key on this host and its certificate, which the registry is
 * started with (`registry.crt`), and the secret with which nodes may pull (`node-pull-secret`).
 */
export async function makeRegistryKeys(stateDir: string): Promise<void> {
  const { key, certificate, nodeSecret } = files(stateDir);
  await privateDirectory(stateDir);
  if (!existsSync(nodeSecret)) await writePrivate(nodeSecret, randomBytes(32).toString('base64url'));
  if (existsSync(certificate)) return;
  const made = await createRegistryCertificate(ISSUER);
  await writePrivate(key, made.privateKeyPem);
  // Last: a certificate that is there has its key.
  await writeFile(certificate, made.certificatePem);
}

/** The same token for the same rights during half of its life: a signature for each request cost more than the request. */
function keeping(sign: (access: readonly Access[]) => Promise<string>): (access: readonly Access[]) => Promise<string> {
  const kept = new Map<string, { readonly token: Promise<string>; readonly untilMs: number }>();
  return (access) => {
    const now = performance.now();
    for (const [rights, { untilMs }] of kept) if (untilMs <= now) kept.delete(rights);
    const rights = JSON.stringify(access);
    const token = kept.get(rights)?.token ?? sign(access);
    if (!kept.has(rights)) kept.set(rights, { token, untilMs: now + OWN_LIFE_SECONDS * 500 });
    return token;
  };
}

/**
 * The install's own registry as its only writer sees it. Push tokens are minted in this process with a key that never
 * leaves the host, so nobody else can write, the IMS and the vendor included; nodes get pull tokens for a secret.
 */
export class InstallRegistry {
  readonly client: RegistryClient;
  /** As it stands in image references. */
  readonly host: string;

  private constructor(
    url: string,
    private readonly signer: RegistryTokenSigner,
    private readonly nodeSecret: string,
    ca: string | undefined,
  ) {
    this.host = new URL(url).host;
    this.client = new RegistryClient({
      baseUrl: url,
      ...(ca === undefined ? {} : { ca }),
      credential: {
        kind: 'bearer',
        token: keeping((access) => signer.sign({ subject: ISSUER, access, lifeSeconds: OWN_LIFE_SECONDS })),
      },
    });
  }

  static async open(url: string, stateDir: string, caFile?: string): Promise<InstallRegistry> {
    const { key, certificate, nodeSecret } = files(stateDir);
    await Promise.all([assertPrivate(key), assertPrivate(nodeSecret)]);
    const signer = createRegistryTokenSigner({
      privateKeyPem: await readFile(key, 'utf8'),
      certificatePem: await readFile(certificate, 'utf8'),
      issuer: ISSUER,
      service: SERVICE,
    });
    const ca = caFile === undefined ? undefined : await readFile(caFile, 'utf8');
    return new InstallRegistry(url, signer, (await readFile(nodeSecret, 'utf8')).trim(), ca);
  }

  /** Writes two bytes that nothing refers to, always the same ones. Throws what the registry says when it does not take them. */
  async checkPush(): Promise<void> {
    const bytes = Buffer.from('{}');
    await this.client.uploadBlob('doctor', describeBytes('application/json', bytes), () =>
      Promise.resolve(Readable.from(bytes)),
    );
  }

  /** Serves the token realm for nodes: `GET /token` with Basic `node:<secret>` gives pull rights and no others. */
  async serve(host: string, port: number): Promise<{ port: number; close(): Promise<void> }> {
    const server = createServer((request, response) => {
      this.answer(request, response).catch(() => response.destroy());
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, host, resolve);
    });
    const address = server.address();
    return {
      port: typeof address === 'object' && address ? address.port : port,
      close: async () => {
        const closed = new Promise<void>((resolve) => server.close(() => resolve()));
        server.closeAllConnections();
        await closed;
      },
    };
  }

  private async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://registry');
    const json = (status: number, body: object): void => {
      response.writeHead(status, {
        'content-type': 'application/json',
        'cache-control': 'no-store',
        ...(status === 401 ? { 'www-authenticate': 'Basic realm="install-registry"' } : {}),
      });
      response.end(JSON.stringify(body));
    };
    if (request.method !== 'GET' || url.pathname !== '/token') {
      json(404, { errors: [{ code: 'NOT_FOUND' }] });
      return;
    }
    if (!this.isNode(request.headers.authorization)) {
      json(401, { errors: [{ code: 'UNAUTHORIZED' }] });
      return;
    }
    const asked = parseScopes(url.searchParams.getAll('scope'));
    const held = asked.map(({ name }) => ({ type: 'repository' as const, name, actions: ['pull'] }));
    const token = await this.signer.sign({
      subject: NODE_USER,
      access: intersectAccess(held, asked),
      lifeSeconds: NODE_LIFE_SECONDS,
    });
    json(200, { token, access_token: token, expires_in: NODE_LIFE_SECONDS, issued_at: new Date().toISOString() });
  }

  private isNode(authorization: string | undefined): boolean {
    const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
    const expected = `Basic ${Buffer.from(`${NODE_USER}:${this.nodeSecret}`).toString('base64')}`;
    return timingSafeEqual(digest(authorization ?? ''), digest(expected));
  }
}
