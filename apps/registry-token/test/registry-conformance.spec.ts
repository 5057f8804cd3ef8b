import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DeleteRepositoryCommand, ECRClient } from '@aws-sdk/client-ecr';
import { createRegistryCertificate } from '#oci';
import { startRegistry } from '#stack';
import { DistributionRegistry } from '../src/registries/distribution.js';
import { EcrRegistry } from '../src/registries/ecr.js';
import { startEcr } from './ecr.js';
import { describeVendorRegistry, type Candidate } from './registry-conformance.js';

describeVendorRegistry('distribution', { pulls: 'bearer' }, async () => {
  const dir = await mkdtemp(join(tmpdir(), 'conformance-'));
  const auth = { service: 'vendor-registry', issuer: 'registry-token' };
  const certificate = await createRegistryCertificate();
  const server = await startRegistry({
    dir,
    auth: { ...auth, realm: 'http://127.0.0.1:9/token', certPem: certificate.certificatePem },
  });
  return {
    registry: new DistributionRegistry({ url: server.url, ...certificate, ...auth }),
    prefix: 'acme/shop',
    stop: async () => {
      await server.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
});

async function onFake(pullMode: 'plan' | 'session'): Promise<Candidate> {
  const { ecr, settings } = await startEcr();
  return {
    registry: new EcrRegistry({ ...settings, pullMode }),
    prefix: 'acme/shop',
    passwords: () => ecr.calls.filter(({ call }) => call === 'GetAuthorizationToken').length,
    stop: () => ecr.stop(),
  };
}
describeVendorRegistry('ECR (the fake) with download plans', { pulls: 'download_plan', shortLifeMs: 1_500 }, () =>
  onFake('plan'),
);
describeVendorRegistry('ECR (the fake) with sessions', { pulls: 'basic', shortLifeMs: 1_500 }, () => onFake('session'));

const { TEST_ECR_ROLE_ARN: sessionRoleArn, TEST_ECR_ACCOUNT_ID: accountId, AWS_REGION: region } = process.env;
if (sessionRoleArn !== undefined && accountId !== undefined && region !== undefined) {
  const onAccount = (pullMode: 'plan' | 'session'): Candidate => {
    const prefix = `vendor-cloud-conformance/${randomBytes(6).toString('hex')}`;
    const url = `https://${accountId}.dkr.ecr.${region}.amazonaws.com`;
    return {
      registry: new EcrRegistry({ url, accountId, region, sessionRoleArn, pullMode }),
      prefix,
      // Needs ecr:DeleteRepository on the prefix, which the service itself must not have.
      stop: async () => {
        const client = new ECRClient({ region });
        for (const name of ['web', 'db']) {
          await client.send(new DeleteRepositoryCommand({ repositoryName: `${prefix}/${name}`, force: true }));
        }
      },
    };
  };
  describeVendorRegistry(
    'ECR (a real account) with download plans',
    { pulls: 'download_plan', shortLifeMs: 10_000 },
    () => Promise.resolve(onAccount('plan')),
  );
  describeVendorRegistry('ECR (a real account) with sessions', { pulls: 'basic', shortLifeMs: 10_000 }, () =>
    Promise.resolve(onAccount('session')),
  );
} else {
  it.skip('ECR (a real account): set TEST_ECR_ROLE_ARN, TEST_ECR_ACCOUNT_ID and AWS_REGION to run the same suite', () => {});
}
