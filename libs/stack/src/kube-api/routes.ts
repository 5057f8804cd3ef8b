import type { IncomingMessage } from 'node:http';
import { parse as parseYaml } from 'yaml';
import { decodeProtobuf } from './protobuf.js';
import { badRequest, KubeError } from './status.js';

/** What a path of the API names. */
export interface Route {
  group: string;
  version: string;
  namespace: string | undefined;
  plural: string;
  name: string | undefined;
  subresource: string | undefined;
}

/** `/api/v1/namespaces/a/pods/b/log` and the like; undefined for a path that names no resource. */
export function routeOf(path: string): Route | undefined {
  const [root, ...parts] = path.split('/').slice(1).map(decodeURIComponent);
  if (root !== 'api' && root !== 'apis') return undefined;
  const group = root === 'api' ? '' : parts.shift();
  const version = parts.shift();
  if (group === undefined || version === undefined || parts[0] === undefined) return undefined;
  // `namespaces/a/status` is a part of the namespace, `namespaces/a/pods` a resource inside it.
  const inside = parts[0] === 'namespaces' && parts[2] !== undefined && !['status', 'finalize'].includes(parts[2]);
  const namespace = inside ? parts[1] : undefined;
  const [plural = '', name, subresource, ...rest] = inside ? parts.slice(2) : parts;
  return rest.length > 0 ? undefined : { group, version, namespace, plural, name, subresource };
}

/** The limit of a real server's etcd request, generously rounded: larger bodies are refused (413). */
const MAX_BODY_BYTES = 3 * 1024 * 1024;

export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) {
      throw new KubeError(413, 'RequestEntityTooLarge', `Request entity too large: limit is ${MAX_BODY_BYTES}`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

export const contentType = (request: IncomingMessage): string =>
  (request.headers['content-type'] ?? 'application/json').split(';')[0]?.trim() ?? '';

/** An object from JSON, YAML or protobuf; undefined for no body. */
export function decodeBody(type: string, body: Buffer): unknown {
  if (body.length === 0) return undefined;
  if (type === 'application/vnd.kubernetes.protobuf') return decodeProtobuf(body);
  try {
    return type === 'application/yaml' ? parseYaml(body.toString('utf8')) : JSON.parse(body.toString('utf8'));
  } catch (error) {
    throw badRequest(`the body is not readable: ${error instanceof Error ? error.message : 'unknown error'}`);
  }
}
