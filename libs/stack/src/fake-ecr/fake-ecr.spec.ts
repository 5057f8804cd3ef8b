import {
  BatchCheckLayerAvailabilityCommand,
  BatchGetImageCommand,
  CreateRepositoryCommand,
  DeleteRepositoryCommand,
  DescribeRepositoriesCommand,
  ECRClient,
  GetAuthorizationTokenCommand,
  GetDownloadUrlForLayerCommand,
  ListImageReferrersCommand,
  PutImageCommand,
} from '@aws-sdk/client-ecr';
import { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { digestOf, listReferrers, pushArtifact, RegistryClient } from '#oci';
import { startFakeEcr, type FakeEcr } from './index.js';
import { type Policy } from './policy.js';

interface Keys {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

let ecr: FakeEcr;
let owner: Keys & { readonly arn: string };
let roleArn: string;
beforeAll(async () => {
  ecr = await startFakeEcr();
  owner = ecr.addUser('owner', policy('*', '*'));
  roleArn = ecr.addRole('pusher', policy('ecr:*', '*'), [owner.arn]);
  for (const name of ['acme/web', 'acme/db']) {
    await api(owner).send(new CreateRepositoryCommand({ repositoryName: name, imageTagMutability: 'IMMUTABLE' }));
  }
});
afterAll(() => ecr.stop());

const policy = (Action: string | string[], Resource: string, until?: Date): Policy => ({
  Version: '2012-10-17',
  Statement: [
    {
      Effect: 'Allow',
      Action,
      Resource,
      ...(until ? { Condition: { DateLessThan: { 'aws:CurrentTime': until.toISOString() } } } : {}),
    },
  ],
});
const settings = (credentials: Keys) => ({
  endpoint: ecr.url,
  region: ecr.region,
  credentials,
  maxAttempts: 1,
});
const api = (credentials: Keys): ECRClient => new ECRClient(settings(credentials));
const sts = (credentials: Keys): STSClient => new STSClient(settings(credentials));

async function session(inline?: Policy, seconds = 900, by: Keys = owner): Promise<Keys> {
  const { Credentials } = await sts(by).send(
    new AssumeRoleCommand({
      RoleArn: roleArn,
      RoleSessionName: 'agt_1',
      DurationSeconds: seconds,
      ...(inline ? { Policy: JSON.stringify(inline) } : {}),
    }),
  );
  return {
    accessKeyId: Credentials!.AccessKeyId!,
    secretAccessKey: Credentials!.SecretAccessKey!,
    sessionToken: Credentials!.SessionToken!,
  };
}
async function registryOf(credentials: Keys): Promise<RegistryClient> {
  const { authorizationData } = await api(credentials).send(new GetAuthorizationTokenCommand({}));
  const [username = '', password = ''] = Buffer.from(authorizationData![0]!.authorizationToken!, 'base64')
    .toString()
    .split(':');
  return new RegistryClient({
    baseUrl: ecr.url,
    credential: { kind: 'basic', username, password },
    attempts: 1,
  });
}
const bytes = (text: string) => ({
  artifactType: 'application/vnd.test',
  layers: [{ mediaType: 'text/plain', bytes: Buffer.from(text) }],
});

describe('identities', () => {
  it('knows who signs, and refuses another key, another body and another token', async () => {
    const { Arn } = await sts(owner).send(new GetCallerIdentityCommand({}));
    expect(Arn).toBe(owner.arn);
    const forged = { ...owner, secretAccessKey: `${owner.secretAccessKey.slice(0, -1)}x` };
    await expect(sts(forged).send(new GetCallerIdentityCommand({}))).rejects.toThrow('signature does not match');
    const unknown = { ...owner, accessKeyId: 'AKIAAAAAAAAAAAAAAAAA' };
    await expect(api(unknown).send(new GetAuthorizationTokenCommand({}))).rejects.toMatchObject({
      name: 'UnrecognizedClientException',
    });
    const held = await session();
    await expect(sts({ ...held, sessionToken: 'other' }).send(new GetCallerIdentityCommand({}))).rejects.toThrow();
    const changed = api(owner);
    changed.middlewareStack.add(
      (next) => (args) => {
        (args.request as { body: string }).body = JSON.stringify({ repositoryName: 'acme/evil' });
        return next(args);
      },
      // After the signature.
      { step: 'finalizeRequest', priority: 'low' },
    );
    await expect(changed.send(new CreateRepositoryCommand({ repositoryName: 'acme/good' }))).rejects.toMatchObject({
      name: 'InvalidSignatureException',
    });
  });

  it('lets a session policy narrow a role and never widen it', async () => {
    const narrow = await session(policy(['ecr:BatchGetImage', 's3:*'], ecr.arnOf('acme/web')));
    const ask = (repositoryName: string): Promise<unknown> =>
      api(narrow).send(new BatchGetImageCommand({ repositoryName, imageIds: [{ imageTag: 'none' }] }));
    await expect(ask('acme/web')).resolves.toMatchObject({ failures: [{ failureCode: 'ImageNotFound' }] });
    await expect(ask('acme/db')).rejects.toMatchObject({ name: 'AccessDeniedException' });
    await expect(api(narrow).send(new GetAuthorizationTokenCommand({}))).rejects.toThrow('GetAuthorizationToken');
    const widened = await session({ ...policy('*', '*') });
    await expect(
      sts(widened).send(new AssumeRoleCommand({ RoleArn: roleArn, RoleSessionName: 'xx' })),
    ).rejects.toMatchObject({ name: 'AccessDenied' });
  });

  it('refuses who is not trusted, short sessions, and policies that it would not understand', async () => {
    const other = ecr.addUser('other', policy('*', '*'));
    await expect(session(undefined, 900, other)).rejects.toMatchObject({ name: 'AccessDenied' });
    await expect(session(undefined, 899)).rejects.toMatchObject({ name: 'ValidationError' });
    const long = policy('ecr:*', ecr.arnOf('a'.repeat(2_048)));
    await expect(session(long)).rejects.toMatchObject({ name: 'PackedPolicyTooLargeException' });
    await expect(session({ Version: '2012-10-17', Statement: [] })).rejects.toMatchObject({
      name: 'MalformedPolicyDocumentException',
    });
  });
});

describe('images', () => {
  it('takes a push by Basic, and gives manifests, URLs and referrers by the API', async () => {
    const registry = await registryOf(owner);
    const subject = await pushArtifact({ client: registry, repository: 'acme/web', ...bytes('one'), tag: 'v1' });
    const referrer = await pushArtifact({ client: registry, repository: 'acme/web', ...bytes('two'), subject });
    expect(await listReferrers({ client: registry, repository: 'acme/web' }, subject.digest)).toMatchObject([
      { digest: referrer.digest },
    ]);
    expect(await registry.listTags('acme/web').catch((error: unknown) => error)).toMatchObject({
      code: 'artifact_missing',
    });

    const client = api(owner);
    const { images } = await client.send(
      new BatchGetImageCommand({ repositoryName: 'acme/web', imageIds: [{ imageDigest: subject.digest }] }),
    );
    expect(digestOf(Buffer.from(images![0]!.imageManifest!))).toBe(subject.digest);
    const listed = await client.send(
      new ListImageReferrersCommand({ repositoryName: 'acme/web', subjectId: { imageDigest: subject.digest } }),
    );
    expect(listed.referrers).toMatchObject([{ digest: referrer.digest, artifactType: 'application/vnd.test' }]);
    const layerDigest = digestOf(Buffer.from('one'));
    const checked = await client.send(
      new BatchCheckLayerAvailabilityCommand({ repositoryName: 'acme/web', layerDigests: [layerDigest] }),
    );
    expect(checked.layers).toMatchObject([{ layerAvailability: 'AVAILABLE', layerSize: 3 }]);
    await expect(
      client.send(new GetDownloadUrlForLayerCommand({ repositoryName: 'acme/db', layerDigest })),
    ).rejects.toMatchObject({ name: 'LayersNotFoundException' });

    const { downloadUrl = '' } = await client.send(
      new GetDownloadUrlForLayerCommand({ repositoryName: 'acme/web', layerDigest }),
    );
    expect(await (await fetch(downloadUrl)).text()).toBe('one');
    expect(await (await fetch(downloadUrl, { headers: { range: 'bytes=1-' } })).text()).toBe('ne');
    const moved = downloadUrl.replace(layerDigest, digestOf(Buffer.from('two')));
    expect((await fetch(moved)).status).toBe(403);
    expect((await fetch(downloadUrl.replace('Expires=3600', 'Expires=9999'))).status).toBe(403);
    expect((await fetch(downloadUrl, { method: 'PUT', body: 'evil' })).status).toBe(403);
    const blob = { mediaType: 'text/plain', digest: layerDigest, size: 3 };
    expect((await registry.getBlobBytes('acme/web', blob, 10)).toString()).toBe('one');
  });

  it('keeps a tag where it is, for both ways to write it', async () => {
    const registry = await registryOf(owner);
    const push = (text: string) => pushArtifact({ client: registry, repository: 'acme/db', ...bytes(text), tag: 't' });
    const { digest } = await push('first');
    await expect(push('second')).rejects.toMatchObject({ code: expect.any(String) as string });
    expect((await registry.headManifest('acme/db', 't'))?.digest).toBe(digest);
    const { bytes: manifest } = await registry.getManifest('acme/db', digest);
    const put = new PutImageCommand({
      repositoryName: 'acme/db',
      imageManifest: `${manifest.toString()} `,
      imageTag: 't',
    });
    await expect(api(owner).send(put)).rejects.toMatchObject({ name: 'ImageTagAlreadyExistsException' });
  });

  it('decides each request by who asked for the token, and by the time', async () => {
    const pull = ['ecr:GetAuthorizationToken', 'ecr:BatchGetImage', 'ecr:GetDownloadUrlForLayer'];
    const reader = await registryOf(await session(policy(pull, '*', new Date(Date.now() + 60_000))));
    expect(await reader.headManifest('acme/db', 't')).toBeDefined();
    await expect(pushArtifact({ client: reader, repository: 'acme/db', ...bytes('evil') })).rejects.toMatchObject({
      code: 'registry_denied',
    });
    const longer = await registryOf(await session(policy(pull, '*')));
    ecr.advance(61_000);
    await expect(reader.headManifest('acme/db', 't')).rejects.toMatchObject({ code: 'registry_denied' });
    // A token outlives the session that asked for it, as AWS's documentation leaves possible; 12 h are its end.
    ecr.advance(3_600_000);
    expect(await longer.headManifest('acme/db', 't')).toBeDefined();
    ecr.advance(12 * 3_600_000);
    await expect(longer.headManifest('acme/db', 't')).rejects.toMatchObject({ code: 'registry_denied' });
  });

  it('shows repositories, and deletes only empty ones without force', async () => {
    const client = api(owner);
    const named = { repositoryName: 'acme/db' };
    await expect(client.send(new DeleteRepositoryCommand(named))).rejects.toMatchObject({
      name: 'RepositoryNotEmptyException',
    });
    await client.send(new DeleteRepositoryCommand({ ...named, force: true }));
    const { repositories } = await client.send(new DescribeRepositoriesCommand({}));
    expect(repositories).toMatchObject([{ repositoryName: 'acme/web', imageTagMutability: 'IMMUTABLE' }]);
    await expect(client.send(new CreateRepositoryCommand({ repositoryName: 'acme/web' }))).rejects.toMatchObject({
      name: 'RepositoryAlreadyExistsException',
    });
  });
});
