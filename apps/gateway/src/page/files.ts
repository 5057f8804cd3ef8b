import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type NestFastifyApplication } from '@nestjs/platform-fastify';
import { type FastifyRequest } from 'fastify';
import { createLogger } from '#platform';

/** What the build writes where the nonce of an answer goes (`html.cspNonce` in the page's vite.config.ts). */
const NONCE_MARK = '__PAGE_NONCE__';
const YEAR_S = 31_536_000;

/** Own scripts only, no inline one, no frame, no other host; style elements need the nonce of this very answer. */
const policyOf = (nonce: string): string =>
  [
    "default-src 'none'",
    "script-src 'self'",
    `style-src 'self' 'nonce-${nonce}'`,
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "manifest-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');

/**
 * Serves the built web page: `/assets/*` (their names carry a hash, so they are kept for a year), and its one HTML file
 * for whatever path a browser visits that is no route of the API. Without a built page there is none.
 */
export async function servePage(app: NestFastifyApplication, dir: string): Promise<void> {
  const file = join(dir, 'index.html');
  // The source of the page has an index.html too; only a built one refers to assets.
  if (!(await readFile(file, 'utf8').catch(() => '')).includes('/assets/')) {
    createLogger('page').warn({ dir }, 'the web page is not built: only the API is served');
    return;
  }
  // Loaded where it is used: a CommonJS package that requires an ES module, which jest's module loader refuses.
  const { default: fastifyStatic } = await import('@fastify/static');
  await app.register(fastifyStatic, {
    root: join(dir, 'assets'),
    prefix: '/assets/',
    decorateReply: false,
    immutable: true,
    maxAge: YEAR_S * 1000,
    preCompressed: true,
    index: false,
  });
  app
    .getHttpAdapter()
    .getInstance()
    .addHook('onRequest', async (request, reply) => {
      if (!isVisit(request)) return;
      // Read at each visit: a page that was built anew names other assets.
      const html = await readFile(file, 'utf8');
      const nonce = randomBytes(16).toString('base64');
      return reply
        .headers({
          'content-security-policy': policyOf(nonce),
          'cache-control': 'no-store',
          'referrer-policy': 'no-referrer',
          'cross-origin-opener-policy': 'same-origin',
          'permissions-policy': 'camera=(), geolocation=(), microphone=()',
          vary: 'accept',
        })
        .type('text/html; charset=utf-8')
        .send(html.replaceAll(NONCE_MARK, nonce));
    });
}

/** A browser that wants to show something, at the entrance or at a path that names nothing of the API. */
function isVisit(request: FastifyRequest): boolean {
  const path = request.url.split('?')[0] ?? '/';
  return (
    request.method === 'GET' &&
    (path === '/' || (request.is404 && !/^\/(v1|assets)(\/|$)/.test(path))) &&
    request.headers.accept?.includes('text/html') === true
  );
}
