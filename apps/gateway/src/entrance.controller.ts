import { Controller, Injectable } from '@nestjs/common';
import { ERRORS, ImsError, Int, Json, OneOf, Text, type ErrorCode, type JsonObject } from '#contracts';
import { type Ask } from './edge/ask.js';
import { Route } from './edge/route.js';
import { ROUTES } from './edge/routes.js';

/** What a visitor without a key finds. */
export class Entrance {
  @Text(1, 100) name: string;
  @Text(1, 200) openapi: string;
  @Json() links: JsonObject;
}

/** What the `type` of a problem leads to. */
export class ErrorEntry {
  @Text(1, 60) code: string;
  @Int(400, 599) status: number;
  @Text(1, 200) title: string;
  @OneOf(['retry', 'wait', 'fix', 'human']) retry: 'retry' | 'wait' | 'fix' | 'human';
  @Text(1, 400) next: string;
}

/** The OpenAPI document, made once at start from the declared routes. */
@Injectable()
export class ApiDocument {
  private document: object | undefined;

  set(document: object): void {
    this.document = document;
  }

  get(): object {
    if (this.document === undefined) throw new Error('the OpenAPI document was not made at start');
    return this.document;
  }
}

@Controller()
export class EntranceController {
  constructor(private readonly api: ApiDocument) {}

  @Route({
    method: 'GET',
    path: '/',
    summary: 'Where things are.',
    access: 'public',
    reply: Entrance,
    status: 200,
  })
  getEntrance(): Entrance {
    // The lists without a parameter in their path: where to begin with an API key.
    const lists = ROUTES.filter(({ method, path }) => method === 'GET' && /^\/v1\/\w+$/.test(path));
    return {
      name: 'Vendor Cloud',
      openapi: '/openapi.json',
      links: Object.fromEntries(lists.map(({ path }) => [path.replace('/v1/', ''), path])),
    };
  }

  @Route({
    method: 'GET',
    path: '/errors/{code}',
    summary: 'What an error code means, and what to do next.',
    access: 'public',
    reply: ErrorEntry,
    status: 200,
  })
  getError(ask: Ask): ErrorEntry {
    const code = ask.params['code'] ?? '';
    if (!Object.hasOwn(ERRORS, code)) throw new ImsError('not_found', `there is no error code ${code}`);
    const { status, title, retry, next } = ERRORS[code as ErrorCode];
    return { code, status, title, retry, next };
  }

  @Route({
    method: 'GET',
    path: '/openapi.json',
    summary: 'This API as an OpenAPI 3.1 document.',
    access: 'public',
    reply: 'object',
    status: 200,
    etag: true,
  })
  getOpenApi(): object {
    return this.api.get();
  }
}
