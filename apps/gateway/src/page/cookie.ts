import { type FastifyInstance, type FastifyRequest } from 'fastify';
import { ImsError } from '#contracts';
import { sendProblem } from '#platform';
import { type Sessions } from './sessions.js';

const NAME = 'ims_session';
/** What the page puts on its requests. Another site cannot, without asking first (CORS), which is never allowed. */
const PAGE_HEADER = 'x-ims-page';

/** The token in a Cookie header. */
export function tokenIn(header: string | undefined): string | undefined {
  const [, token] = new RegExp(`(?:^|;\\s*)${NAME}=([\\w-]{43})(?:;|$)`).exec(header ?? '') ?? [];
  return token;
}

/**
 * The Set-Cookie of a session, or of its end (no token). Scripts cannot read it, other sites cannot make a browser send
 * it, and it goes to the API only.
 */
export function cookieOf(publicUrl: string, token: string | undefined, expiresAt = new Date(0)): string {
  const secure = publicUrl.startsWith('https:') ? '; Secure' : '';
  return `${NAME}=${token ?? ''}; Path=/v1; HttpOnly; SameSite=Strict${secure}; Expires=${expiresAt.toUTCString()}`;
}

/**
 * Lets a session stand for the API key that it was opened with: from here on the request has that key in its
 * Authorization header, and everything behind (access, limits, idempotency) knows one kind of credential. Runs before
 * the routes.
 */
export function acceptSessions(http: FastifyInstance, sessions: Sessions): void {
  http.addHook('onRequest', async (request, reply) => {
    const token = tokenIn(request.headers.cookie);
    if (token === undefined || request.headers.authorization !== undefined) return;
    if (isForged(request)) {
      const why = `a session’s request needs the header ${PAGE_HEADER} and the page’s own origin`;
      sendProblem(request, reply, new ImsError('forbidden', why));
      return reply;
    }
    const session = await sessions.find(token);
    if (session !== undefined) request.headers.authorization = `Bearer ${session.apiKey}`;
    return undefined;
  });
}

/** Whether another site may have made the browser send this. SameSite=Strict is the first wall; this is the second. */
function isForged({ method, headers }: FastifyRequest): boolean {
  const site = headers['sec-fetch-site'];
  if (site !== undefined && site !== 'same-origin' && site !== 'none') return true;
  return method !== 'GET' && method !== 'HEAD' && headers[PAGE_HEADER] === undefined;
}
