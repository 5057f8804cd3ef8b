import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { createRegistryCertificate, createRegistryTokenSigner } from '#oci';
import { startRegistry, type RegistryServer } from '#stack';

const blob = Buffer.from('a layer');
const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`;
const repository = 'ven/app';

async function push(url: string, headers: Record<string, string> = {}): Promise<number> {
  const opened = await fetch(`${url}/v2/${repository}/blobs/uploads/`, { method: 'POST', headers });
  const location = opened.headers.get('location');
  if (location === null) return opened.status;
  const target = new URL(location, url);
  target.searchParams.set('digest', digest);
  return (await fetch(target, { method: 'PUT', headers, body: blob })).status;
}
const pull = (url: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${url}/v2/${repository}/blobs/${digest}`, { headers });

describe('startRegistry', () => {
  let dir: string;
  let server: RegistryServer;

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'stack-registry-'));
    server = await startRegistry({ dir });
  });
  afterAll(async () => {
    await server.stop();
    await rm(dir, { recursive: true });
  });

  it('takes and gives blobs, allows deletion, logs each request', async () => {
    expect(await push(server.url)).toBe(201);
    expect(await (await pull(server.url)).text()).toBe('a layer');
    expect(await readFile(server.accessLogFile, 'utf8')).toContain(`GET /v2/${repository}/blobs/${digest}`);
    expect((await fetch(`${server.url}/v2/${repository}/blobs/${digest}`, { method: 'DELETE' })).status).toBe(202);
    expect((await pull(server.url)).status).toBe(404);
  });

  it('keeps blobs through kill -9 and a restart on the same port', async () => {
    expect(await push(server.url)).toBe(201);
    await server.kill();
    await expect(pull(server.url)).rejects.toThrow();
    await server.restart();
    expect((await pull(server.url)).status).toBe(200);
  });

  it('restarted with token auth it sends clients to the realm and takes only what its issuers signed', async () => {
    const [mine, foreign] = [await createRegistryCertificate(), await createRegistryCertificate()];
    const auth = { realm: 'http://127.0.0.1:1/token', service: 'vendor-registry', issuer: 'ims' };
    await server.restart({ ...auth, certPem: mine.certificatePem });
    const refused = await pull(server.url);
    expect(refused.status).toBe(401);
    expect(refused.headers.get('www-authenticate')).toContain(`realm="${auth.realm}",service="${auth.service}"`);
    const bearer = async ({ privateKeyPem, certificatePem }: typeof mine): Promise<Record<string, string>> => {
      const signer = createRegistryTokenSigner({
        privateKeyPem,
        certificatePem,
        issuer: auth.issuer,
        service: auth.service,
      });
      const access = [{ type: 'repository' as const, name: repository, actions: ['pull' as const] }];
      return { authorization: `Bearer ${await signer.sign({ subject: 'x', access, lifeSeconds: 60 })}` };
    };
    expect((await pull(server.url, await bearer(mine))).status).toBe(200);
    expect(await push(server.url, await bearer(mine))).toBe(401);
    expect((await pull(server.url, await bearer(foreign))).status).toBe(401);
    // A rotation: both certificates for a while.
    await server.restart({ ...auth, certPem: mine.certificatePem + foreign.certificatePem });
    expect((await pull(server.url, await bearer(foreign))).status).toBe(200);
  });
});
