import { Controller, Injectable } from '@nestjs/common';
import { Json, Text, type JsonObject } from '#contracts';
import { Route } from './edge/route.js';
import { ROUTES } from './edge/routes.js';

/** What a visitor without a key finds. */
export class Entrance {
  @Text(1, 100) name: string;
  @Text(1, 200) openapi: string;
  @Json() links: JsonObject;
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
