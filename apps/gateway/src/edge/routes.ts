import { type ExecutionContext } from '@nestjs/common';
import { type Class } from '#contracts';
import { type Bucket } from '../access/rate-limits.js';
import { type Right } from '../access/roles.js';

/** Who may call: the operator of this IMS, a vendor by its API key (and only on its own things), or anybody. */
type Access = 'operator' | 'vendor' | 'public';

/** Everything the edge knows about one route; nothing about it is said anywhere else. */
export interface RouteOptions<B extends object = object, Q extends object = object, R extends object = object> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** OpenAPI form. A parameter `{app_id}` is an id of kind `app`; one that is not well-formed answers `not_found`. */
  readonly path: `/${string}`;
  readonly summary: string;
  readonly access: Access;
  /** For access `vendor`: the right that the key’s role must give; by default `read` for a GET, else `operate`. */
  readonly needs?: Right;
  /** Parsed strictly: an unknown field is refused by its pointer. Without a class the body must be empty. */
  readonly body?: Class<B>;
  /** Parsed strictly from the query string; numbers and flags are converted by their declared type. */
  readonly query?: Class<Q>;
  /** `object`: some JSON object. */
  readonly reply: Class<R> | 'object';
  readonly status: 200 | 201 | 202;
  /** The answer has an ETag, and `If-None-Match` is honoured. */
  readonly etag?: boolean;
  /** The change needs `If-Match` (428 without); the handler compares it with what it changes. */
  readonly ifMatch?: boolean;
  /** `Prefer: wait=N` is honoured by the handler. */
  readonly waits?: boolean;
  /** The answer holds a secret: `Cache-Control: no-store`. */
  readonly secret?: boolean;
  /** A POST without Idempotency-Key: done twice it does no harm, and its answer cannot be given again from a record. */
  readonly repeatable?: boolean;
  /** The bucket that it is counted in beside `requests`. */
  readonly rate?: Exclude<Bucket, 'requests'>;
  /** Media types of a streamed answer, the default one first; the handler returns a StreamableFile. */
  readonly produces?: readonly string[];
  /** Where what was made, or is being made, can be read. */
  readonly location?: (reply: R, params: Readonly<Record<string, string>>) => string;
}

/** A route as it was declared; `handler` is also its OpenAPI operation id. */
export interface DeclaredRoute extends Omit<RouteOptions, 'location'> {
  readonly handler: string;
  readonly location?: (reply: object, params: Readonly<Record<string, string>>) => string;
}

const declared: DeclaredRoute[] = [];

/** Every route of the gateway, for the document, the entrance, and the tests that walk them all. */
export const ROUTES: readonly DeclaredRoute[] = declared;

export function declareRoute(route: DeclaredRoute): void {
  const twin = declared.find((other) => other.handler === route.handler);
  if (twin !== undefined) throw new Error(`two routes have the handler name ${route.handler}: ${twin.path}`);
  declared.push(route);
}

export const ROUTE_KEY = 'ims:route';

/** The route whose handler is about to run. Guard and pipeline are only ever put on declared routes. */
export function routeOf(context: ExecutionContext): DeclaredRoute {
  return Reflect.getMetadata(ROUTE_KEY, context.getHandler()) as DeclaredRoute;
}

/** The names of the parameters in a path. */
export const paramsOf = (path: string): string[] => [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? '');
