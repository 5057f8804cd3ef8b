import { CreateRepositoryCommand, ECRClient, GetAuthorizationTokenCommand } from '@aws-sdk/client-ecr';
import { AssumeRoleCommand, STSClient } from '@aws-sdk/client-sts';
import { ImsError, type RegistryAccess, type VendorId } from '#contracts';
import { askAws } from './aws.js';
import { planDownload } from './download-plan.js';
import { checkRepository, VendorRegistry, type AccessRequest, type PullRequest } from './port.js';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface EcrSettings {
  /** `https://<account>.dkr.ecr.<region>.amazonaws.com` */
  readonly url: string;
  readonly accountId: string;
  readonly region: string;
  /** The role whose sessions, narrowed to one repository, leave this service. */
  readonly sessionRoleArn: string;
  readonly pullMode: 'plan' | 'session';
  /** Default: what the SDK finds (role of the pod or the machine). */
  readonly credentials?: AwsCredentials | undefined;
  /** Instead of AWS's own endpoints: a VPC endpoint, a test. */
  readonly ecrEndpoint?: string | undefined;
  readonly stsEndpoint?: string | undefined;
  /** A connection on which nothing moves for so long is given up; default 4 s: two tries fit into an agent's 10 s. */
  readonly idleTimeoutMs?: number;
}

const PULL = ['ecr:BatchCheckLayerAvailability', 'ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'];
const PUSH = [...PULL, 'ecr:InitiateLayerUpload', 'ecr:UploadLayerPart', 'ecr:CompleteLayerUpload', 'ecr:PutImage'];
/** Narrower than the distribution specification: `a--b` and `a__b` are no names here. */
const ECR_NAME = /^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*\/)*[a-z0-9]+(?:[._-][a-z0-9]+)*$/;
/** STS takes nothing shorter. What ends the right sooner is the condition in the session policy. */
const SESSION_SECONDS = 900;
/** A repository that somebody deleted is made again by a build after this time. */
const KNOWN_MS = 10 * 60_000;

/**
 * ECR. Its own token lives for 12 h, cannot be revoked and has all the rights of whoever asked for it. So a pull gets a
 * download plan and no credential. A build, and a customer who must use a stock client, get the token of a role session
 * whose policy allows one repository, and that only until the time promised, however long the token lives.
 */
export class EcrRegistry extends VendorRegistry {
  /** ECR takes Basic and has no token endpoint. */
  readonly stockTokens = undefined;
  private readonly ecr: ECRClient;
  private readonly sts: STSClient;
  private readonly known = new Map<string, number>();

  constructor(private readonly settings: EcrSettings) {
    super();
    const { region, credentials, stsEndpoint } = settings;
    this.ecr = this.client(credentials);
    this.sts = new STSClient({
      region,
      ...this.patience(),
      ...(credentials ? { credentials } : {}),
      ...(stsEndpoint === undefined ? {} : { endpoint: stsEndpoint }),
    });
  }

  async ensureRepository(repository: string, vendorId: VendorId): Promise<void> {
    checkRepository(repository);
    if (!ECR_NAME.test(repository)) {
      throw new ImsError(
        'invalid_request',
        `ECR takes no repository name like ${repository}: no two of . _ - in a row`,
      );
    }
    if ((this.known.get(repository) ?? -Infinity) > performance.now()) return;
    try {
      await askAws(() =>
        this.ecr.send(
          new CreateRepositoryCommand({
            registryId: this.settings.accountId,
            repositoryName: repository,
            imageTagMutability: 'IMMUTABLE',
            imageScanningConfiguration: { scanOnPush: true },
            encryptionConfiguration: { encryptionType: 'AES256' },
            tags: [{ Key: 'vendor-cloud:vendor', Value: vendorId }],
          }),
        ),
      );
    } catch (error) {
      if (!(error instanceof ImsError) || error.code !== 'already_exists') throw error;
    }
    this.known.set(repository, performance.now() + KNOWN_MS);
  }

  pushAccess(request: AccessRequest): Promise<RegistryAccess> {
    return this.session(request, PUSH);
  }

  async pullAccess(request: PullRequest): Promise<RegistryAccess> {
    const { repository, digest } = request;
    checkRepository(repository);
    if (this.settings.pullMode === 'session') return this.session(request, PULL);
    const { plan, expiresAt } = await planDownload(this.ecr, {
      registryId: this.settings.accountId,
      repositoryName: repository,
      digest,
    });
    return {
      registry_url: this.settings.url,
      repository,
      kind: 'download_plan',
      plan,
      expires_at: expiresAt.toISOString(),
    };
  }

  /** User name and password for one repository, of a session that is named in CloudTrail as its subject. */
  private async session(
    { subject, repository, lifeMs }: AccessRequest,
    actions: readonly string[],
  ): Promise<RegistryAccess> {
    checkRepository(repository);
    const endsAt = new Date(Date.now() + lifeMs);
    const { Credentials } = await askAws(() =>
      this.sts.send(
        new AssumeRoleCommand({
          RoleArn: this.settings.sessionRoleArn,
          RoleSessionName: subject.replace(/[^\w+=,.@-]/g, '-').slice(0, 64),
          DurationSeconds: SESSION_SECONDS,
          Policy: this.policy(repository, actions, endsAt),
        }),
      ),
    );
    const {
      AccessKeyId: accessKeyId,
      SecretAccessKey: secretAccessKey,
      SessionToken: sessionToken,
    } = Credentials ?? {};
    if (accessKeyId === undefined || secretAccessKey === undefined || sessionToken === undefined) {
      throw new ImsError('internal', 'STS gave a session without credentials');
    }
    const narrowed = this.client({ accessKeyId, secretAccessKey, sessionToken });
    try {
      const { authorizationData } = await askAws(() => narrowed.send(new GetAuthorizationTokenCommand({})));
      const encoded = authorizationData?.[0]?.authorizationToken ?? '';
      const [username = '', ...password] = Buffer.from(encoded, 'base64').toString('utf8').split(':');
      if (username === '') throw new ImsError('internal', 'ECR gave no token');
      return {
        registry_url: this.settings.url,
        repository,
        kind: 'basic',
        username,
        password: password.join(':'),
        expires_at: endsAt.toISOString(),
      };
    } finally {
      narrowed.destroy();
    }
  }

  private policy(repository: string, actions: readonly string[], endsAt: Date): string {
    const { region, accountId } = this.settings;
    const Condition = { DateLessThan: { 'aws:CurrentTime': endsAt.toISOString() } };
    const Resource = `arn:aws:ecr:${region}:${accountId}:repository/${repository}`;
    return JSON.stringify({
      Version: '2012-10-17',
      Statement: [
        // AWS cannot narrow this one; its token has the rights of this session alone.
        { Effect: 'Allow', Action: 'ecr:GetAuthorizationToken', Resource: '*', Condition },
        { Effect: 'Allow', Action: actions, Resource, Condition },
      ],
    });
  }

  private client(credentials: AwsCredentials | undefined): ECRClient {
    const { region, ecrEndpoint } = this.settings;
    return new ECRClient({
      region,
      ...this.patience(),
      ...(credentials ? { credentials } : {}),
      ...(ecrEndpoint === undefined ? {} : { endpoint: ecrEndpoint }),
    });
  }

  /** The SDK by itself waits for ever. */
  private patience() {
    const idleMs = this.settings.idleTimeoutMs ?? 4_000;
    return { maxAttempts: 2, requestHandler: { connectionTimeout: idleMs, socketTimeout: idleMs } };
  }
}
