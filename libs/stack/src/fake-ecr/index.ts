import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo } from 'node:net';
import { EcrApi } from './api.js';
import { AwsError } from './errors.js';
import { Identities, type Credentials } from './identities.js';
import { LayerUrls } from './layer-urls.js';
import { type Policy } from './policy.js';
import { OciEndpoint, type HttpAnswer } from './registry.js';
import { Repositories } from './store.js';
import { answerSts, stsError } from './sts.js';

/** One call, and whether it was allowed. */
export interface EcrCall {
  /** `GetAuthorizationToken`, `AssumeRole`, `GET /v2/…`. */
  readonly call: string;
  readonly by: string | undefined;
  readonly status: number;
}

export interface FakeEcr {
  /** Of everything: both APIs, the registry and the object store. */
  readonly url: string;
  readonly account: string;
  readonly region: string;
  readonly calls: readonly EcrCall[];
  /** Of a repository, as policies name it. */
  arnOf(repository: string): string;
  addUser(name: string, policy: Policy): Credentials & { readonly arn: string };
  /** Returns the role's ARN. Only who is named in `trusted`, and may by its own policy, can assume it. */
  addRole(name: string, policy: Policy, trusted: readonly string[]): string;
  /** Name, mutability of tags and labels of what was created. */
  repositories(): readonly { name: string; immutable: boolean; labels: Readonly<Record<string, string>> }[];
  /** Lets sessions, tokens, URLs and conditions on the time grow older. Request signatures keep the real time. */
  advance(ms: number): void;
  stop(): Promise<void>;
}

const ACCOUNT = '123456789012';
const REGION = 'eu-central-1';

/**
 * A small ECR on loopback, in memory, for the real AWS SDK and any OCI client: signatures are verified, role and
 * session policies are enforced, tags are immutable where the repository says so, URLs and tokens end.
 */
export async function startFakeEcr(): Promise<FakeEcr> {
  let aheadMs = 0;
  const now = (): Date => new Date(Date.now() + aheadMs);
  const identities = new Identities(ACCOUNT, now);
  const repositories = new Repositories(`arn:aws:ecr:${REGION}:${ACCOUNT}`);
  const urls = new LayerUrls(now);
  const calls: EcrCall[] = [];
  let origin = '';
  const world = { account: ACCOUNT, origin: () => origin, identities, repositories, urls, now };
  const ecr = new EcrApi(world);
  const oci = new OciEndpoint(world);

  function api(request: IncomingMessage, body: Buffer): HttpAnswer {
    const { method = '', url: target = '/', headers } = request;
    const operation = String(headers['x-amz-target'] ?? '').split('.')[1];
    const form = new URLSearchParams(operation === undefined ? body.toString('utf8') : '');
    const call = operation ?? form.get('Action') ?? '';
    let by: string | undefined;
    const done = (answer: HttpAnswer): HttpAnswer => {
      calls.push({ call, by, status: answer.status });
      return answer;
    };
    try {
      const caller = identities.authenticate(
        { method, target, headers, body },
        operation === undefined ? 'sts' : 'ecr',
      );
      by = caller.arn;
      if (operation === undefined) {
        const answer = answerSts(form, caller, identities, ACCOUNT);
        return done({ status: 200, headers: { 'content-type': 'text/xml' }, body: answer });
      }
      const answer = ecr.answer(operation, JSON.parse(body.toString('utf8')) as Record<string, unknown>, caller);
      const type = { 'content-type': 'application/x-amz-json-1.1' };
      return done({ status: 200, headers: type, body: JSON.stringify(answer) });
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      if (operation === undefined) {
        return done({ status: error.status, headers: { 'content-type': 'text/xml' }, body: stsError(error) });
      }
      const problem = JSON.stringify({ __type: error.code, message: error.message });
      return done({ status: error.status, headers: { 'content-type': 'application/x-amz-json-1.1' }, body: problem });
    }
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', origin);
    const { method = '', headers } = request;
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const isOci = url.pathname.startsWith('/v2/');
    const isLayer = url.pathname.startsWith('/layers/');
    const result = isOci
      ? oci.answer({ method, url, headers, body })
      : isLayer
        ? oci.layer({ method, url, headers })
        : api(request, body);
    if (isOci || isLayer) {
      const by = identities.holderOf(headers.authorization)?.arn;
      calls.push({ call: `${method} ${url.pathname}`, by, status: result.status });
    }
    response.writeHead(result.status, result.headers).end(result.body);
  }

  const server = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => response.destroy(error as Error));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url: origin,
    account: ACCOUNT,
    region: REGION,
    calls,
    arnOf: (repository) => repositories.arnOf(repository),
    addUser: (name, policy) => identities.addUser(name, policy),
    addRole: (name, policy, trusted) => identities.addRole(name, policy, trusted),
    repositories: () => repositories.list().map(({ name, immutable, labels }) => ({ name, immutable, labels })),
    advance: (ms) => {
      aheadMs += ms;
    },
    stop: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
