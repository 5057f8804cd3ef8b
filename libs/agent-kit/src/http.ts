import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { ImsError, type FieldError, type WireError } from '#contracts';
import { httpsAgent, proxyOfProcess } from '#platform';

/** A download plan is the largest answer: manifests of 8 MiB in base64 and 2,000 URLs. */
const ANSWER_BYTES_MAX = 16 * 1024 * 1024;
const TIMEOUT_MS = 10_000;

export interface HttpOptions {
  /** PEM of a private CA, instead of the system's. */
  readonly ca?: string;
  /** Allow http:// to other hosts than this one. Tokens and grants would be readable on the way. */
  readonly allowPlainHttp?: boolean;
}

/** True for the machine itself: what goes there is on no wire. */
function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '');
  return bare === 'localhost' || bare === '::1' || (isIP(bare) === 4 && bare.startsWith('127.'));
}

/** A URL to which secrets may be sent. Throws `invalid_request` naming the URL. */
export function secureUrl(text: string, options: HttpOptions): URL {
  if (!URL.canParse(text)) throw new ImsError('invalid_request', `${text} is not a URL`);
  const url = new URL(text);
  if (url.protocol === 'https:') return url;
  if (url.protocol === 'http:' && (options.allowPlainHttp === true || isLoopback(url.hostname))) return url;
  throw new ImsError('invalid_request', `${text}: use https (http is allowed for this machine itself only)`);
}

/**
 * POSTs JSON and answers the JSON that comes back. An answer of 400 and more becomes the ImsError of its problem body;
 * no answer (refused, reset, timed out) and an answer that is none of ours become `unavailable`.
 */
export async function postJson(url: URL, body: object, options: HttpOptions = {}): Promise<unknown> {
  const text = JSON.stringify(body);
  const where = `${url.host}${url.pathname}`;
  const answer = await exchange(url, text, options).catch((error: unknown) => {
    const why = error instanceof Error ? error.message : 'failed';
    throw new ImsError('unavailable', `${where} does not answer: ${why}`, [], { cause: error });
  });
  let value: unknown;
  try {
    value = JSON.parse(answer.text);
  } catch {
    throw new ImsError('unavailable', `${where} answered ${answer.status} with something that is not JSON`);
  }
  if (answer.status >= 400) throw errorOf(value, `${where} answered ${answer.status}`);
  return value;
}

function errorOf(value: unknown, otherwise: string): ImsError {
  const problem = value as { code?: unknown; detail?: unknown; errors?: unknown } | null;
  if (typeof problem?.code !== 'string') return new ImsError('unavailable', otherwise);
  return ImsError.fromWire({
    code: problem.code as WireError['code'],
    detail: typeof problem.detail === 'string' ? problem.detail : otherwise,
    ...(Array.isArray(problem.errors) ? { errors: problem.errors as FieldError[] } : {}),
  });
}

function exchange(url: URL, body: string, options: HttpOptions): Promise<{ status: number; text: string }> {
  return new Promise((done, fail) => {
    const secure = url.protocol === 'https:';
    const send = secure ? httpsRequest : httpRequest;
    const sent = send(
      url,
      {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          accept: 'application/json, application/problem+json',
        },
        // Each request on a connection of its own: a kept one may be closed by the server just when it is used again.
        agent: secure ? httpsAgent(proxyOfProcess(), options.ca === undefined ? {} : { ca: options.ca }) : false,
        signal: AbortSignal.timeout(TIMEOUT_MS),
        ...(options.ca === undefined ? {} : { ca: options.ca }),
      },
      (response) => void readAll(response).then((text) => done({ status: response.statusCode ?? 0, text }), fail),
    );
    sent.on('error', fail);
    sent.end(body);
  });
}

async function readAll(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX) throw new Error(`more than ${ANSWER_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
