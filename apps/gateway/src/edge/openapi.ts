import { type INestApplication } from '@nestjs/common';
import { DocumentBuilder, SwaggerModule, type OpenAPIObject } from '@nestjs/swagger';
import { ERROR_CODES, ERRORS } from '#contracts';
import { schemasUsedBy, type JsonSchema } from './schemas.js';

const VERSION = '1.0.0';

const ABOUT = `Errors are \`application/problem+json\`; decide by \`code\`. Unknown fields and query parameters are
refused. Lists are pages: \`next_cursor\` (and \`Link: rel="next"\`) is absent on the last one. Every POST takes an
\`Idempotency-Key\`. Long work answers 202 with \`Location\`.
How much more may be asked is in \`RateLimit\` and \`RateLimit-Policy\`; 429 has \`Retry-After\`.`.replaceAll(
  '\n',
  ' ',
);

/** RFC 9457 with our members. Built by the platform's error filter, so it has no class. */
const PROBLEM_DOCUMENT: JsonSchema = {
  type: 'object',
  required: ['type', 'title', 'status', 'detail', 'instance', 'code', 'request_id', 'next'],
  properties: {
    type: { type: 'string', description: 'A page that explains the code.' },
    title: { type: 'string' },
    status: { type: 'integer' },
    detail: { type: 'string' },
    instance: { type: 'string' },
    code: { type: 'string', enum: [...ERROR_CODES] },
    retry: { type: 'string', enum: [...new Set(ERROR_CODES.map((code) => ERRORS[code].retry))] },
    next: { type: 'string', description: 'What to do next.' },
    request_id: { type: 'string' },
    errors: {
      type: 'array',
      items: {
        type: 'object',
        required: ['pointer', 'message'],
        properties: {
          pointer: { type: 'string', description: 'JSON Pointer (RFC 6901) to the field.' },
          message: { type: 'string' },
        },
      },
    },
  },
};

const bearer = (description: string): { type: 'http'; scheme: string; description: string } => ({
  type: 'http',
  scheme: 'bearer',
  description,
});

/** The OpenAPI 3.1 document of all declared routes. Throws when a shape that a route names has no schema. */
export function openApiDocument(app: INestApplication, publicUrl: string): OpenAPIObject {
  const config = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('Vendor Cloud')
    .setDescription(ABOUT)
    .setVersion(VERSION)
    .addServer(publicUrl)
    .addSecurity('vendor_key', bearer('A vendor’s API key (`ims_ven_…`): sees and changes this vendor’s things only.'))
    .addSecurity('operator_key', bearer('The key of the operator of this IMS: signs up vendors.'))
    .build();
  const document = SwaggerModule.createDocument(app, config, { autoTagControllers: false });
  const schemas = schemasUsedBy(document.paths, { ProblemDocument: PROBLEM_DOCUMENT });
  document.components = {
    ...document.components,
    schemas: schemas as NonNullable<OpenAPIObject['components']>['schemas'] & object,
  };
  return document;
}
