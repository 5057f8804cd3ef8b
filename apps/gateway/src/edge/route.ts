import {
  applyDecorators,
  createParamDecorator,
  HttpCode,
  RequestMapping,
  RequestMethod,
  SetMetadata,
  UseGuards,
  UseInterceptors,
  type ExecutionContext,
  type StreamableFile,
} from '@nestjs/common';
import { AccessGuard } from '../access/access.guard.js';
import { askOf, type Ask } from './ask.js';
import { describeRoute } from './describe.js';
import { Pipeline } from './pipeline.js';
import { declareRoute, ROUTE_KEY, type DeclaredRoute, type RouteOptions } from './routes.js';

/** Compiles only on a method of this type. */
type HandlerDecorator<F> = <T extends F>(target: object, key: string, descriptor: TypedPropertyDescriptor<T>) => void;

const Asked = createParamDecorator((_: unknown, context: ExecutionContext) => askOf(context));

/**
 * Declares a route on a controller method: path, who may call, what comes in and what goes out; guard, validation and
 * OpenAPI entry follow. The method gets one `Ask`, its body and query parsed, and returns the reply; a wrong type of
 * either does not compile.
 */
export function Route<B extends object = object, Q extends object = object, R extends object = object>(
  options: RouteOptions<B, Q, R>,
): HandlerDecorator<(ask: Ask<B, Q>) => R | Promise<R> | Promise<StreamableFile>> {
  return (target, key, descriptor) => {
    const route = { ...options, handler: key } as unknown as DeclaredRoute;
    declareRoute(route);
    Asked()(target, key, 0);
    applyDecorators(
      RequestMapping({ method: RequestMethod[options.method], path: options.path.replace(/\{(\w+)\}/g, ':$1') }),
      HttpCode(options.status),
      SetMetadata(ROUTE_KEY, route),
      UseGuards(AccessGuard),
      UseInterceptors(Pipeline),
      describeRoute(route),
    )(target, key, descriptor);
  };
}
