import { type FastifyInstance } from 'fastify';
import { ImsError } from '#contracts';
import { type ServiceHealth } from './health.js';
import { sendProblem } from './http-errors.js';
import { type Metrics } from './metrics.js';

/**
 * Routes for those who run the service. `/livez` asks nothing but the process itself: a liveness probe that asked the
 * database would restart every replica at once when the database is away.
 */
export function addOperationsRoutes(http: FastifyInstance, health: ServiceHealth, metrics: Metrics): void {
  http.get('/livez', (_request, reply) => reply.type('text/plain').send('ok\n'));
  for (const path of ['/readyz', '/healthz']) {
    http.get<{ Querystring: { verbose?: string } }>(path, async (request, reply) => {
      const results = await health.run();
      const ready = !health.draining && results.every((result) => result.ok);
      const lines = [
        ...results.map(({ name, ok, ms, reason }) =>
          ok ? `[+] ${name} ok (${ms} ms)` : `[-] ${name}: ${reason ?? 'failed'} (${ms} ms)`,
        ),
        ...(health.draining ? ['[-] draining'] : []),
      ];
      const verbose = request.query.verbose !== undefined ? `${lines.join('\n')}\n` : '';
      return reply
        .status(ready ? 200 : 503)
        .header('cache-control', 'no-store')
        .type('text/plain')
        .send(`${verbose}${ready ? 'ready' : 'not ready'}\n`);
    });
  }
  http.get('/metrics', async (_request, reply) =>
    reply.type(metrics.registry.contentType).send(await metrics.registry.metrics()),
  );
}

/** Duration of every answer, by route template: a path with ids in it would make a series for each id. */
export function addHttpMetrics(http: FastifyInstance, metrics: Metrics): void {
  const durations = metrics.histogram({
    name: 'ims_http_request_duration_seconds',
    help: 'Time from the request to the end of its answer.',
    labels: ['method', 'route', 'status'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60],
  });
  http.addHook('onResponse', (request, reply, done) => {
    const route = request.routeOptions.url ?? 'none';
    durations.observe({ method: request.method, route, status: reply.statusCode }, reply.elapsedTime / 1000);
    done();
  });
}

/** Answers 405 with `Allow` where the path exists with another method; other unknown paths go on to Nest's 404. */
export function addMethodCheck(http: FastifyInstance): void {
  const methods = new Map<string, { pattern: RegExp; allowed: Set<string> }>();
  http.addHook('onRoute', ({ url, method }) => {
    // Nest's middleware layer registers catch-all routes; they say nothing about what exists.
    if (url.includes('*')) return;
    const entry = methods.get(url) ?? { pattern: pathPattern(url), allowed: new Set<string>() };
    for (const name of [method].flat()) entry.allowed.add(name);
    methods.set(url, entry);
  });
  http.addHook('onRequest', (request, reply, done) => {
    if (!request.is404) {
      done();
      return;
    }
    const path = request.url.split('?')[0] ?? '/';
    const allowed = [...methods.values()].filter(({ pattern }) => pattern.test(path)).flatMap((it) => [...it.allowed]);
    if (allowed.length === 0) {
      done();
      return;
    }
    reply.header('allow', [...new Set(allowed)].join(', '));
    sendProblem(
      request,
      reply,
      new ImsError('method_not_allowed', `${request.method} is not among ${allowed.join(', ')}`),
    );
  });
}

const pathPattern = (template: string): RegExp =>
  new RegExp(`^${template.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/:\w+/g, '[^/]+')}/?$`);
