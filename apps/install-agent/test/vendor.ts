import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage } from 'node:http';
import { type AddressInfo } from 'node:net';
import { ImsError, newId, openEnvelope, PAYLOAD_TYPES, type AgentRequest, type Envelope } from '#contracts';
import { verifyNkey } from '#messaging';
import { createRegistryCertificate, createRegistryTokenSigner, RegistryClient, type RegistryTokenSigner } from '#oci';
import { startRegistry, type RegistryServer } from '#stack';

const ISSUER = 'registry-token';
const SERVICE = 'vendor-registry';

/** The vendor's side: a registry that asks for tokens, and who gives them, each once, to the agent's key alone. */
export interface Vendor {
  readonly registry: RegistryServer;
  readonly tokenUrl: string;
  readonly client: RegistryClient;
  readonly signer: RegistryTokenSigner;
  /** The only key that may ask. */
  agentKey: string;
  /** Tokens that were issued, and those that were redeemed. */
  readonly issued: string[];
  readonly redeemed: string[];
  stop(): Promise<void>;
}

export async function startVendor(dir: string): Promise<Vendor> {
  const { privateKeyPem, certificatePem } = await createRegistryCertificate(ISSUER);
  const signer = createRegistryTokenSigner({ privateKeyPem, certificatePem, issuer: ISSUER, service: SERVICE });
  const issued = new Map<string, string>();
  const vendor = { agentKey: '', issued: [] as string[], redeemed: [] as string[], signer };

  async function answer(request: AgentRequest): Promise<object> {
    const expires_at = new Date(Date.now() + 60_000).toISOString();
    if (request.action === 'issue_pull_token' && request.statement) {
      const { repository } = JSON.parse(Buffer.from(request.statement.payload, 'base64').toString()) as {
        repository: string;
      };
      const id = newId('token');
      const token = `${id}.${randomBytes(24).toString('base64url')}`;
      issued.set(token, repository);
      vendor.issued.push(token);
      return { token_id: id, token, expires_at };
    }
    const repository = issued.get(request.token ?? '');
    if (repository === undefined) throw new ImsError('pull_token_refused');
    issued.delete(request.token ?? '');
    vendor.redeemed.push(request.token ?? '');
    const access = [{ type: 'repository' as const, name: repository, actions: ['pull'] }];
    const registry_token = await signer.sign({ subject: 'agent', access, lifeSeconds: 60 });
    return { registry_url: registry.url, repository, registry_token, expires_at };
  }

  const server = createServer((request, response) => {
    bodyOf(request)
      .then((body) =>
        openEnvelope(JSON.parse(body) as Envelope, PAYLOAD_TYPES.agentRequest, [vendor.agentKey], verifyNkey),
      )
      .then((asked) => answer(asked as AgentRequest))
      .then((body) => response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body)))
      .catch((thrown: unknown) => {
        const error = ImsError.of(thrown);
        const type = { 'content-type': 'application/problem+json' };
        response.writeHead(error.entry.status, type).end(JSON.stringify({ code: error.code, detail: error.detail }));
      });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const tokenUrl = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const registry = await startRegistry({
    dir,
    auth: { realm: `${tokenUrl}/token`, service: SERVICE, issuer: ISSUER, certPem: certificatePem },
  });
  const client = new RegistryClient({
    baseUrl: registry.url,
    credential: {
      kind: 'bearer',
      token: (access) => signer.sign({ subject: 'build-agent', access, lifeSeconds: 300 }),
    },
  });
  return Object.assign(vendor, {
    registry,
    tokenUrl,
    client,
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await registry.stop();
    },
  });
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request as AsyncIterable<Buffer>) text += chunk.toString();
  return text;
}
