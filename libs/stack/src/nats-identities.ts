import { join } from 'node:path';
import { readFile } from 'node:fs/promises';
import {
  agentPermissions,
  servicePermissions,
  shardOf,
  jobStreamName,
  type AgentKind,
  type ServiceName,
} from '#contracts';
import {
  accountJwt,
  createNkey,
  formatCreds,
  nkeyFromSeed,
  operatorJwt,
  readNatsJwt,
  userJwt,
  type NkeyKind,
  type NkeySigner,
  type Revocations,
} from '#messaging';
import { keptSecret, writeSecret } from './files.js';

/** The secrets of an installation's NATS: made at the first start, kept in files of mode 0600, reused ever after. */
export interface NatsKeys {
  /** Identity of the operator; needed for nothing but the operator's own statement. */
  readonly operatorSeed: string;
  /** Signs account statements. */
  readonly operatorSigningSeed: string;
  /** Signs account statements too: the one that the job-scheduler revokes with, replaced without touching the other. */
  readonly operatorRevocationSeed: string;
  readonly accountSeed: string;
  /** Can mint build agents, and nothing else. */
  readonly buildAgentSigningSeed: string;
  readonly installAgentSigningSeed: string;
  /** Public key of the account that everything of the product lives in. */
  readonly account: string;
  readonly systemAccount: string;
  /** The file of each seed above. */
  readonly paths: Readonly<
    Record<
      'operator' | 'operatorSigning' | 'operatorRevocation' | 'account' | 'buildAgentSigning' | 'installAgentSigning',
      string
    >
  >;
}

export interface NatsCreds {
  readonly jwt: string;
  readonly seed: string;
  /** The same two as a `.creds` file. */
  readonly file: string;
}

export interface NatsIdentities {
  readonly keys: NatsKeys;
  /** Statements for the server's configuration. */
  readonly operatorJwt: string;
  readonly preload: Readonly<Record<string, string>>;
  /** What the account is, with these revocations, newer than any before. */
  accountStatement(revocations: Revocations): string;
  serviceCreds(service: ServiceName): Promise<NatsCreds>;
  /** A user of the system account that may read and restate the product's account, and do nothing else. */
  systemCreds(): Promise<NatsCreds>;
  /** What an enrolment would give to an agent: for tests of everything behind it. */
  agentCreds(kind: AgentKind, agentId: string, lifeMs?: number): Promise<NatsCreds>;
}

/** Where the server keeps account statements; a pushed revocation is found there at the next start. */
export const resolverDir = (dir: string): string => join(dir, 'accounts');

/** Not `$SYS.REQ.CLAIMS.UPDATE`, with which any account could be stated, the system account too. */
const systemPermissions = (account: string): { publish: string[]; subscribe: string[] } => ({
  publish: [`$SYS.REQ.ACCOUNT.${account}.CLAIMS.UPDATE`, `$SYS.REQ.ACCOUNT.${account}.CLAIMS.LOOKUP`],
  subscribe: ['_INBOX.system.>'],
});

/**
 * The revocations that were pushed to the server in an earlier life. A server files a statement before it looks who has
 * signed it, so one of a key that is trusted no more counts for its age only: what is stated next has to be newer.
 */
async function pushedRevocations(
  dir: string,
  account: string,
  trusted: readonly string[],
): Promise<{ revocations: Revocations; issuedAt: number }> {
  try {
    const held = readNatsJwt(await readFile(join(resolverDir(dir), `${account}.jwt`), 'utf8'));
    const revocations = trusted.includes(held.issuer) ? held.revocations : {};
    return { revocations, issuedAt: held.issuedAt.getTime() };
  } catch {
    return { revocations: {}, issuedAt: 0 };
  }
}

/**
 * The identities kept in `dir`. The account's statement is made anew each time, so that templates follow the contracts
 * of this build; it carries on the revocations that the server holds, and is newer than the one that it holds.
 */
export async function natsIdentities(dir: string): Promise<NatsIdentities> {
  const fileOf = (name: string): string => join(dir, 'keys', `${name}.nk`);
  const seedOf = (kind: NkeyKind, name: string): Promise<string> =>
    keptSecret(fileOf(name), () => createNkey(kind).seed);
  const operatorSeed = await seedOf('operator', 'operator');
  const operatorSigningSeed = await seedOf('operator', 'operator-signing');
  const operatorRevocationSeed = await seedOf('operator', 'operator-revocation');
  const accountSeed = await seedOf('account', 'account');
  const systemSeed = await seedOf('account', 'system-account');
  const buildAgentSigningSeed = await seedOf('account', 'build-agent-signing');
  const installAgentSigningSeed = await seedOf('account', 'install-agent-signing');

  const operator = nkeyFromSeed(operatorSeed);
  const operatorSigning = nkeyFromSeed(operatorSigningSeed);
  const account = nkeyFromSeed(accountSeed);
  const system = nkeyFromSeed(systemSeed);
  const agentSigner: Readonly<Record<AgentKind, NkeySigner>> = {
    build: nkeyFromSeed(buildAgentSigningSeed),
    install: nkeyFromSeed(installAgentSigningSeed),
  };

  // While a key is replaced both are valid: agents hold JWTs of the old one for some hours more.
  const withOld = async (name: string, current: string): Promise<string[]> => {
    const old = await readFile(fileOf(`${name}.old`), 'utf8').catch(() => undefined);
    return old === undefined ? [current] : [current, nkeyFromSeed(old).publicKey];
  };
  const scoped = async (kind: AgentKind) => {
    const keys = await withOld(`${kind}-agent-signing`, agentSigner[kind].publicKey);
    return keys.map((publicKey) => ({ publicKey, role: `${kind}-agent`, template: agentPermissions(kind) }));
  };
  const operatorKeys = [
    ...(await withOld('operator-signing', operatorSigning.publicKey)),
    ...(await withOld('operator-revocation', nkeyFromSeed(operatorRevocationSeed).publicKey)),
  ];
  const held = await pushedRevocations(dir, account.publicKey, [operator.publicKey, ...operatorKeys]);
  const signingKeys = [...(await scoped('build')), ...(await scoped('install'))];
  const accountStatement = (revocations: Revocations): string =>
    accountJwt({
      name: 'IMS',
      account: account.publicKey,
      signer: operatorSigning,
      signingKeys,
      jetstream: true,
      revocations,
      issuedAt: new Date(Math.max(Date.now(), held.issuedAt + 1000)),
    });
  const accounts = {
    [system.publicKey]: accountJwt({
      name: 'SYS',
      account: system.publicKey,
      signer: operatorSigning,
      jetstream: false,
    }),
    [account.publicKey]: accountStatement(held.revocations),
  };

  async function creds(name: string, mint: (user: string) => string): Promise<NatsCreds> {
    const seed = await seedOf('user', `user-${name}`);
    const jwt = mint(nkeyFromSeed(seed).publicKey);
    const file = join(dir, 'creds', `${name}.creds`);
    await writeSecret(file, formatCreds({ jwt, seed }));
    return { jwt, seed, file };
  }

  return {
    keys: {
      operatorSeed,
      operatorSigningSeed,
      operatorRevocationSeed,
      accountSeed,
      buildAgentSigningSeed,
      installAgentSigningSeed,
      account: account.publicKey,
      systemAccount: system.publicKey,
      paths: {
        operator: fileOf('operator'),
        operatorSigning: fileOf('operator-signing'),
        operatorRevocation: fileOf('operator-revocation'),
        account: fileOf('account'),
        buildAgentSigning: fileOf('build-agent-signing'),
        installAgentSigning: fileOf('install-agent-signing'),
      },
    },
    operatorJwt: operatorJwt({
      name: 'vendor-cloud',
      signer: operator,
      signingKeys: operatorKeys,
      systemAccount: system.publicKey,
    }),
    preload: accounts,
    accountStatement,
    serviceCreds: (service) =>
      creds(service, (user) =>
        userJwt({
          name: service,
          user,
          signer: account,
          account: account.publicKey,
          permissions: servicePermissions(service),
        }),
      ),
    systemCreds: () =>
      creds('system', (user) =>
        userJwt({
          name: 'system',
          user,
          signer: system,
          account: system.publicKey,
          permissions: systemPermissions(account.publicKey),
        }),
      ),
    agentCreds: (kind, agentId, lifeMs = 3_600_000) =>
      creds(agentId, (user) =>
        userJwt({
          name: agentId,
          user,
          signer: agentSigner[kind],
          account: account.publicKey,
          expiresAt: new Date(Date.now() + lifeMs),
          tags: agentTags(agentId),
        }),
      ),
  };
}

/** The tags that fill an agent's templates. */
export function agentTags(agentId: string): Record<string, string> {
  const shard = shardOf(agentId);
  return { agent: agentId, shard, jobs_stream: jobStreamName(shard) };
}
