import { applyDecorators } from '@nestjs/common';
import {
  ApiBody,
  ApiHeader,
  ApiOperation,
  ApiParam,
  ApiQuery,
  ApiResponse,
  ApiSecurity,
  type ApiResponseSchemaHost,
} from '@nestjs/swagger';
import { idPattern, type Class, type IdKind } from '#contracts';
import { schemaOf, type JsonSchema } from './schemas.js';
import { paramsOf, type DeclaredRoute } from './routes.js';

type Content = NonNullable<ApiResponseSchemaHost['content']>;
const JSON_TYPE = 'application/json';
const refTo = (type: Class<object> | 'object'): JsonSchema =>
  type === 'object' ? { type: 'object' } : { $ref: `#/components/schemas/${type.name}` };

/** First path segment after the version: `/v1/apps/…` -> `apps`. */
const tagOf = (path: string): string => path.split('/')[2] ?? 'entrance';

/** The OpenAPI entry of a route, from the same declaration that guards and parses it. */
export function describeRoute(route: DeclaredRoute): MethodDecorator {
  return applyDecorators(
    ApiOperation({ operationId: route.handler, summary: route.summary, tags: [tagOf(route.path)] }),
    ...(route.access === 'public' ? [] : [ApiSecurity(`${route.access}_key`)]),
    ...paramsOf(route.path).map((name) => ApiParam({ name, required: true, schema: idSchema(name) as object })),
    ...queryParameters(route.query),
    ...requestHeaders(route),
    ...(route.body === undefined ? [] : [ApiBody({ required: true, schema: refTo(route.body) as object })]),
    ApiResponse(success(route)),
    ...(route.etag === true && route.method === 'GET'
      ? [ApiResponse({ status: 304, description: 'Not changed since the ETag in If-None-Match.' })]
      : []),
    ApiResponse({
      status: 'default',
      description: 'What went wrong, by `code`, and what to do next (RFC 9457).',
      content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/ProblemDocument' } } },
    }),
  );
}

function idSchema(name: string): JsonSchema {
  return { type: 'string', pattern: idPattern(name.replace(/_id$/, '') as IdKind).source };
}

function queryParameters(type: Class<object> | undefined): MethodDecorator[] {
  if (type === undefined) return [];
  const { properties = {}, required = [] } = schemaOf(type);
  return Object.entries(properties).map(([name, schema]) =>
    ApiQuery({ name, required: required.includes(name), schema: schema as object }),
  );
}

function requestHeaders(route: DeclaredRoute): MethodDecorator[] {
  const optional = (name: string, description: string): MethodDecorator =>
    ApiHeader({ name, description, required: false, schema: { type: 'string' } });
  return [
    ...(route.method === 'POST' && route.repeatable !== true
      ? [
          optional(
            'Idempotency-Key',
            'The same key and body again within 24 hours get the same answer; nothing is made twice.',
          ),
        ]
      : []),
    ...(route.ifMatch === true
      ? [
          ApiHeader({
            name: 'If-Match',
            description: 'The ETag of the version that the change was made on.',
            required: true,
            schema: { type: 'string' },
          }),
        ]
      : []),
    ...(route.etag === true && route.method === 'GET'
      ? [optional('If-None-Match', 'The ETag that is known already: answers 304 when it still holds.')]
      : []),
    ...(route.waits === true
      ? [optional('Prefer', '`wait=N`: answer when the work has ended, or after N seconds (at most 60) as it is then.')]
      : []),
    ...(route.produces?.includes('text/event-stream') === true
      ? [optional('Last-Event-ID', 'Goes on after this line, `<attempt>.<seq>`; stronger than `after`.')]
      : []),
  ];
}

function success(route: DeclaredRoute): ApiResponseSchemaHost {
  const schema = refTo(route.reply);
  const content: Content =
    route.produces === undefined
      ? { [JSON_TYPE]: { schema: schema as object } }
      : Object.fromEntries(
          route.produces.map((type) => [
            type,
            { schema: type === 'application/x-ndjson' ? (schema as object) : { type: 'string' } },
          ]),
        );
  const text = (description: string): object => ({ description, schema: { type: 'string' } });
  return {
    status: route.status,
    description: route.status === 202 ? 'Accepted; the work goes on. Location tells where to follow it.' : 'Done.',
    content,
    headers: {
      ...(route.etag === true ? { ETag: text('Version of the resource, for If-Match and If-None-Match.') } : {}),
      ...(route.location === undefined ? {} : { Location: text('Where to read what was made.') }),
      'X-Request-Id': text('Names this request in logs and errors.'),
    },
  } as unknown as ApiResponseSchemaHost;
}
