import { type IncomingHttpHeaders } from 'node:http';
import { AwsError } from './errors.js';
import { type Identities, type Principal } from './identities.js';
import { type LayerUrls } from './layer-urls.js';
import { type Repositories, type Repository } from './store.js';

export interface HttpAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
}
interface Request {
  readonly method: string;
  readonly url: URL;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

const INDEX = 'application/vnd.oci.image.index.v1+json';
const ROUTE = /^\/v2\/(.+)\/(blobs|manifests|referrers|tags)\/(.+)$/;

/**
 * The OCI side of ECR: Basic `AWS:<token>`, each request decided by the policies of whoever asked for the token, blobs
 * by redirect to a pre-signed URL, no mounts across repositories, referrers by the API.
 */
export class OciEndpoint {
  constructor(
    private readonly world: {
      readonly origin: () => string;
      readonly identities: Identities;
      readonly repositories: Repositories;
      readonly urls: LayerUrls;
    },
  ) {}

  answer(request: Request): HttpAnswer {
    const holder = this.world.identities.holderOf(request.headers.authorization);
    if (!holder) {
      const challenge = `Basic realm="${this.world.origin()}/",service="ecr.amazonaws.com"`;
      return { ...failure(401, 'UNAUTHORIZED'), headers: { ...JSON_TYPE, 'www-authenticate': challenge } };
    }
    if (request.url.pathname === '/v2/') return { status: 200, headers: JSON_TYPE, body: '{}' };
    const [, name = '', kind = '', reference = ''] = ROUTE.exec(request.url.pathname) ?? [];
    try {
      if (kind === 'blobs') return this.blobs(request, holder, name, reference);
      if (kind === 'manifests') return this.manifests(request, holder, name, reference);
      if (kind === 'referrers') return this.referrers(holder, name, reference);
      return failure(404, 'UNSUPPORTED');
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      return ociFailure(error);
    }
  }

  /** A blob by whoever holds its URL; by Range too. */
  layer({ method, url, headers }: Omit<Request, 'body'>): HttpAnswer {
    // The method is part of what was signed: a URL to read is of no use to write.
    const named = method === 'GET' ? this.world.urls.open(url) : undefined;
    const bytes = named && this.world.repositories.get(named.repository)?.blobs.get(named.digest);
    if (!bytes) return { status: 403, headers: { 'content-type': 'application/xml' }, body: '<Error/>' };
    const start = Number(/^bytes=(\d+)-$/.exec(headers.range ?? '')?.[1] ?? 0);
    const common = { 'content-type': 'application/octet-stream', 'content-length': String(bytes.length - start) };
    if (headers.range === undefined) return { status: 200, headers: common, body: bytes };
    const range = `bytes ${start}-${bytes.length - 1}/${bytes.length}`;
    return { status: 206, headers: { ...common, 'content-range': range }, body: bytes.subarray(start) };
  }

  private blobs({ method, url, body }: Request, holder: Principal, name: string, rest: string): HttpAnswer {
    const upload = /^uploads\/([0-9a-f-]*)$/.exec(rest)?.[1];
    if (upload === undefined) {
      const action = method === 'HEAD' ? 'ecr:BatchCheckLayerAvailability' : 'ecr:GetDownloadUrlForLayer';
      const bytes = this.repository(holder, name, action).blobs.get(rest);
      if (!bytes) return failure(404, 'BLOB_UNKNOWN');
      if (method === 'HEAD') return { status: 200, headers: { 'content-length': String(bytes.length) } };
      return { status: 307, headers: { location: this.world.urls.sign(this.world.origin(), name, rest) } };
    }
    const location = (id: string): string => `${this.world.origin()}/v2/${name}/blobs/uploads/${id}`;
    if (method === 'POST') {
      const id = this.repository(holder, name, 'ecr:InitiateLayerUpload').startUpload();
      return { status: 202, headers: { location: location(id), 'docker-upload-uuid': id, range: '0-0' } };
    }
    const repository = this.repository(holder, name, 'ecr:UploadLayerPart');
    const size = repository.append(upload, body);
    if (size === undefined) return failure(404, 'BLOB_UPLOAD_UNKNOWN');
    if (method === 'PATCH') {
      return { status: 202, headers: { location: location(upload), range: `0-${Math.max(0, size - 1)}` } };
    }
    this.world.identities.require(holder, 'ecr:CompleteLayerUpload', repository.arn);
    const digest = url.searchParams.get('digest') ?? '';
    repository.finishUpload(upload, digest);
    return { status: 201, headers: { 'docker-content-digest': digest, location: `/v2/${name}/blobs/${digest}` } };
  }

  private manifests(
    { method, headers, body }: Request,
    holder: Principal,
    name: string,
    reference: string,
  ): HttpAnswer {
    if (method === 'PUT') {
      const repository = this.repository(holder, name, 'ecr:PutImage');
      const tag = reference.startsWith('sha256:') ? undefined : reference;
      const { digest, content } = repository.put(headers['content-type'] ?? '', body, tag);
      return {
        status: 201,
        headers: {
          'docker-content-digest': digest,
          ...(content.subject ? { 'oci-subject': content.subject.digest } : {}),
        },
      };
    }
    if (method === 'DELETE') {
      this.repository(holder, name, 'ecr:BatchDeleteImage').manifests.delete(reference);
      return { status: 202 };
    }
    const found = this.repository(holder, name, 'ecr:BatchGetImage').find(reference);
    if (!found) return failure(404, 'MANIFEST_UNKNOWN');
    return {
      status: 200,
      headers: {
        'content-type': found.mediaType,
        'content-length': String(found.bytes.length),
        'docker-content-digest': found.digest,
      },
      ...(method === 'HEAD' ? {} : { body: found.bytes }),
    };
  }

  private referrers(holder: Principal, name: string, digest: string): HttpAnswer {
    const listed = this.repository(holder, name, 'ecr:BatchGetImage').referrers(digest);
    const manifests = listed.map(({ digest: own, mediaType, bytes, content }) => ({
      mediaType,
      digest: own,
      size: bytes.length,
      artifactType: content.artifactType ?? content.config?.mediaType,
    }));
    const body = JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests });
    return { status: 200, headers: { 'content-type': INDEX }, body };
  }

  private repository(holder: Principal, name: string, action: string): Repository {
    this.world.identities.require(holder, action, this.world.repositories.arnOf(name));
    return this.world.repositories.require(name);
  }
}

const JSON_TYPE = { 'content-type': 'application/json' };
const failure = (status: number, code: string): HttpAnswer => ({
  status,
  headers: JSON_TYPE,
  body: JSON.stringify({ errors: [{ code, message: code }] }),
});

function ociFailure({ code }: AwsError): HttpAnswer {
  switch (code) {
    case 'AccessDeniedException':
      return failure(403, 'DENIED');
    case 'RepositoryNotFoundException':
      return failure(404, 'NAME_UNKNOWN');
    case 'LayersNotFoundException':
      return failure(400, 'MANIFEST_BLOB_UNKNOWN');
    case 'ReferencedImagesNotFoundException':
      return failure(404, 'MANIFEST_UNKNOWN');
    case 'InvalidLayerException':
      return failure(400, 'DIGEST_INVALID');
    case 'ImageTagAlreadyExistsException':
      return failure(400, 'TAG_INVALID');
    default:
      return failure(400, 'UNKNOWN');
  }
}
