import { readFileSync } from 'node:fs';
import { startFakeEcr, type FakeEcr } from '#stack';
import { type EcrSettings } from '../src/registries/ecr.js';

/** An ECR with the very policies of `iam/`, which the README tells an operator to use, and settings for its adapter. */
export async function startEcr(): Promise<{ ecr: FakeEcr; settings: EcrSettings }> {
  const ecr = await startFakeEcr();
  const sessionRoleArn = `arn:aws:iam::${ecr.account}:role/registry-token-session`;
  const documentOf = (name: string): Parameters<FakeEcr['addUser']>[1] =>
    JSON.parse(
      readFileSync(new URL(`../iam/${name}`, import.meta.url), 'utf8')
        .replaceAll('${region}', ecr.region)
        .replaceAll('${account}', ecr.account)
        .replaceAll('${session_role_arn}', sessionRoleArn),
    ) as Parameters<FakeEcr['addUser']>[1];
  const { arn, ...credentials } = ecr.addUser('registry-token', documentOf('service-role.json'));
  ecr.addRole('registry-token-session', documentOf('session-role.json'), [arn]);
  const { url, account: accountId, region } = ecr;
  return {
    ecr,
    settings: {
      ...{ url, accountId, region, sessionRoleArn, credentials, ecrEndpoint: url, stsEndpoint: url },
      pullMode: 'plan',
    },
  };
}
