import { AwsError } from './errors.js';
import { type Identities, type Principal } from './identities.js';
import { type LayerUrls } from './layer-urls.js';
import { type Repositories, type Repository } from './store.js';

type Input = Readonly<Record<string, unknown>>;
interface Tag {
  readonly Key: string;
  readonly Value: string;
}

/** As AWS documents it: separators stand alone. */
const NAME = /^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*\/)*[a-z0-9]+(?:[._-][a-z0-9]+)*$/;

/** The operations of ECR's JSON 1.1 API that registry-token uses, and a few to look at the result. */
export class EcrApi {
  constructor(
    private readonly world: {
      readonly account: string;
      readonly origin: () => string;
      readonly identities: Identities;
      readonly repositories: Repositories;
      readonly urls: LayerUrls;
      readonly now: () => Date;
    },
  ) {}

  /** `operation` is what the header X-Amz-Target names. */
  answer(operation: string, input: Input, caller: Principal): object {
    switch (operation) {
      case 'CreateRepository':
        return this.createRepository(input, caller);
      case 'DescribeRepositories':
        return this.describeRepositories(input, caller);
      case 'DeleteRepository':
        return this.deleteRepository(input, caller);
      case 'GetAuthorizationToken':
        return this.authorizationToken(caller);
      case 'BatchGetImage':
        return this.batchGetImage(input, caller);
      case 'BatchCheckLayerAvailability':
        return this.checkLayers(input, caller);
      case 'GetDownloadUrlForLayer':
        return this.downloadUrl(input, caller);
      case 'ListImageReferrers':
        return this.listReferrers(input, caller);
      case 'PutImage':
        return this.putImage(input, caller);
      default:
        throw new AwsError('UnknownOperationException', 400, operation);
    }
  }

  private createRepository(input: Input, caller: Principal): object {
    const { identities, repositories } = this.world;
    const name = text(input, 'repositoryName');
    if (!NAME.test(name)) throw new AwsError('InvalidParameterException', 400, 'repositoryName');
    const labels = (input['tags'] ?? []) as Tag[];
    identities.require(caller, 'ecr:CreateRepository', repositories.arnOf(name));
    // AWS asks for both when a repository is tagged at its creation.
    if (labels.length > 0) identities.require(caller, 'ecr:TagResource', repositories.arnOf(name));
    const immutable = input['imageTagMutability'] === 'IMMUTABLE';
    const labelled = Object.fromEntries(labels.map(({ Key, Value }) => [Key, Value]));
    return { repository: this.shown(repositories.create(name, immutable, labelled)) };
  }

  private describeRepositories(input: Input, caller: Principal): object {
    const { identities, repositories } = this.world;
    const names = (input['repositoryNames'] ?? []) as string[];
    const found = names.length > 0 ? names.map((name) => repositories.require(name)) : repositories.list();
    for (const { arn } of found) identities.require(caller, 'ecr:DescribeRepositories', arn);
    return { repositories: found.map((repository) => this.shown(repository)) };
  }

  private deleteRepository(input: Input, caller: Principal): object {
    const { identities, repositories } = this.world;
    const name = text(input, 'repositoryName');
    identities.require(caller, 'ecr:DeleteRepository', repositories.arnOf(name));
    return { repository: this.shown(repositories.delete(name, input['force'] === true)) };
  }

  private authorizationToken(caller: Principal): object {
    this.world.identities.require(caller, 'ecr:GetAuthorizationToken', '*');
    const { password, endsAt } = this.world.identities.issueToken(caller);
    const authorizationToken = Buffer.from(`AWS:${password}`).toString('base64');
    return {
      authorizationData: [
        { authorizationToken, expiresAt: endsAt.getTime() / 1000, proxyEndpoint: this.world.origin() },
      ],
    };
  }

  private batchGetImage(input: Input, caller: Principal): object {
    const repository = this.repositoryFor(input, caller, 'ecr:BatchGetImage');
    const ids = input['imageIds'] as { imageDigest?: string; imageTag?: string }[];
    if (ids.length > 100) throw new AwsError('InvalidParameterException', 400, 'more than 100 image ids');
    const accepted = input['acceptedMediaTypes'] as string[] | undefined;
    const images: object[] = [];
    const failures: object[] = [];
    for (const imageId of ids) {
      const found = repository.find(imageId.imageDigest ?? imageId.imageTag ?? '');
      if (!found || (accepted && !accepted.includes(found.mediaType))) {
        failures.push({ imageId, failureCode: 'ImageNotFound', failureReason: 'Requested image not found' });
        continue;
      }
      images.push({
        registryId: this.world.account,
        repositoryName: repository.name,
        imageId: { ...imageId, imageDigest: found.digest },
        imageManifest: found.bytes.toString('utf8'),
        imageManifestMediaType: found.mediaType,
      });
    }
    return { images, failures };
  }

  private checkLayers(input: Input, caller: Principal): object {
    const repository = this.repositoryFor(input, caller, 'ecr:BatchCheckLayerAvailability');
    const layers = (input['layerDigests'] as string[]).map((layerDigest) => {
      const bytes = repository.blobs.get(layerDigest);
      return {
        layerDigest,
        layerAvailability: bytes ? 'AVAILABLE' : 'UNAVAILABLE',
        ...(bytes ? { layerSize: bytes.length } : {}),
      };
    });
    return { layers, failures: [] };
  }

  private downloadUrl(input: Input, caller: Principal): object {
    const repository = this.repositoryFor(input, caller, 'ecr:GetDownloadUrlForLayer');
    const layerDigest = text(input, 'layerDigest');
    if (!repository.isReferenced(layerDigest)) throw new AwsError('LayersNotFoundException', 400, layerDigest);
    return { layerDigest, downloadUrl: this.world.urls.sign(this.world.origin(), repository.name, layerDigest) };
  }

  /** Needs the permission of BatchGetImage: there is none of its own (as the SDK documents it). */
  private listReferrers(input: Input, caller: Principal): object {
    const repository = this.repositoryFor(input, caller, 'ecr:BatchGetImage');
    const { imageDigest } = input['subjectId'] as { imageDigest: string };
    const referrers = repository.referrers(imageDigest).map(({ digest, mediaType, bytes, content }) => ({
      digest,
      mediaType,
      size: bytes.length,
      artifactType: content.artifactType ?? content.config?.mediaType,
      annotations: content.annotations ?? {},
      artifactStatus: 'ACTIVE',
    }));
    const pageSize = (input['maxResults'] as number | undefined) ?? 50;
    const start = Number(input['nextToken'] ?? 0);
    const more = start + pageSize < referrers.length;
    return {
      referrers: referrers.slice(start, start + pageSize),
      ...(more ? { nextToken: String(start + pageSize) } : {}),
    };
  }

  private putImage(input: Input, caller: Principal): object {
    const repository = this.repositoryFor(input, caller, 'ecr:PutImage');
    const bytes = Buffer.from(text(input, 'imageManifest'));
    const tag = input['imageTag'] as string | undefined;
    const named = (JSON.parse(bytes.toString('utf8')) as { mediaType?: string }).mediaType;
    const mediaType = (input['imageManifestMediaType'] as string | undefined) ?? named ?? '';
    const { digest } = repository.put(mediaType, bytes, tag);
    return {
      image: {
        registryId: this.world.account,
        repositoryName: repository.name,
        imageId: { imageDigest: digest, ...(tag === undefined ? {} : { imageTag: tag }) },
        imageManifest: bytes.toString('utf8'),
      },
    };
  }

  /** Permission first: who may not ask does not learn whether the repository is there. */
  private repositoryFor(input: Input, caller: Principal, action: string): Repository {
    const name = text(input, 'repositoryName');
    this.world.identities.require(caller, action, this.world.repositories.arnOf(name));
    return this.world.repositories.require(name);
  }

  private shown({ name, arn, immutable }: Repository): object {
    return {
      repositoryName: name,
      repositoryArn: arn,
      registryId: this.world.account,
      repositoryUri: `${new URL(this.world.origin()).host}/${name}`,
      imageTagMutability: immutable ? 'IMMUTABLE' : 'MUTABLE',
      createdAt: this.world.now().getTime() / 1000,
    };
  }
}

function text(input: Input, name: string): string {
  const value = input[name];
  if (typeof value !== 'string' || value === '') throw new AwsError('InvalidParameterException', 400, name);
  return value;
}
