import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  inboxPrefix,
  JobKeyVoucher,
  newId,
  openEnvelope,
  parse,
  PAYLOAD_TYPES,
  type Envelope,
  type Signer,
} from '#contracts';
import {
  accountJwt,
  AccountClaims,
  connectNats,
  createNkey,
  nkeyFromSeed,
  readNatsJwt,
  userJwt,
  verifyNkey,
} from '#messaging';
import { agentTags, natsIdentities, startNats, type NatsServer } from '#stack';
import { Keys } from '../../deploy/nats/keys.js';
import { Lab } from '../../libs/agent-kit/test/lab.js';
import { waitFor } from '../../libs/agent-kit/test/wait.js';

let dir: string;
let keys: Keys;
let nats: NatsServer;
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'deploy-keys-'));
  keys = new Keys(dir);
  await keys.init();
  nats = await startNats({ dir });
});
afterAll(async () => {
  await nats.stop();
  await rm(dir, { recursive: true });
});

const agent = newId('agent');
const connects = async (credentials: { jwt: string; seed: string }): Promise<boolean> => {
  const giveUp = AbortSignal.timeout(1_500);
  return connectNats({
    servers: [nats.url],
    name: 'x',
    inboxPrefix: inboxPrefix(agent),
    credentials,
    signal: giveUp,
  }).then(
    (connection) => connection.close().then(() => true),
    () => false,
  );
};

it('a signing key is replaced under a running agent, and the old one ends', async () => {
  const old = await nats.agentCreds('install', agent);
  const connection = await connectNats({
    servers: [nats.url],
    name: agent,
    inboxPrefix: inboxPrefix(agent),
    credentials: old,
  });
  let ends = 0;
  void (async () => {
    for await (const { type } of connection.status()) if (type === 'disconnect') ends++;
  })();
  await keys.rotate('install-agent');
  expect(await keys.apply([nats.url])).toBe(1);
  await connection.flush();
  expect(ends).toBe(0);
  const fresh = await (await natsIdentities(dir)).agentCreds('install', agent);
  expect(readNatsJwt(fresh.jwt).issuer).not.toBe(readNatsJwt(old.jwt).issuer);
  expect(await connects(fresh)).toBe(true);
  expect(await connects(old)).toBe(true);
  await connection.close();

  await expect(keys.retire('install-agent', false)).rejects.toThrow('4 h more');
  await keys.retire('install-agent', true);
  await keys.apply([nats.url]);
  expect(await connects(old)).toBe(false);
  expect(await connects(fresh)).toBe(true);
});

it('the operator’s signing key is replaced: agents stay, and the new one states the account', async () => {
  const { agentCreds, keys: before } = await natsIdentities(dir);
  const credentials = await agentCreds('install', agent);
  await keys.rotate('operator-signing');
  await nats.restart();
  expect(await connects(credentials)).toBe(true);
  expect(await keys.apply([nats.url])).toBe(1);
  await keys.retire('operator-signing', true);
  await nats.restart();
  expect(await connects(credentials)).toBe(true);
  expect(await keys.apply([nats.url])).toBe(1);

  // Whoever kept the old key and the credentials of the system account, both: the server files what they state, says
  // so, and does not follow it, now or after a restart. What they add to the revocations is not taken over either.
  const stolen = nkeyFromSeed(before.operatorSigningSeed);
  const own = createNkey('account');
  const { seed, publicKey: user } = createNkey('user');
  const forged = accountJwt({
    name: 'IMS',
    account: nats.keys.account,
    signer: stolen,
    signingKeys: [{ publicKey: own.publicKey, role: 'all', template: { publish: ['>'], subscribe: ['>'] } }],
    jetstream: true,
    revocations: { [nkeyFromSeed(credentials.seed).publicKey]: Math.ceil(Date.now() / 1000) + 60 },
    issuedAt: new Date(Date.now() + 60_000),
  });
  const intruder = {
    jwt: userJwt({
      name: 'x',
      user,
      signer: nkeyFromSeed(own.seed),
      account: nats.keys.account,
      tags: agentTags(agent),
    }),
    seed,
  };
  const thief = await connectNats({
    servers: [nats.url],
    name: 'thief',
    inboxPrefix: '_INBOX.system',
    credentials: await nats.systemCreds(),
  });
  expect(await new AccountClaims(thief, nats.keys.account, stolen).state(forged)).toBe(1);
  await thief.close();
  for (const turn of ['now', 'after a restart']) {
    expect([turn, await connects(intruder), await connects(credentials)]).toEqual([turn, false, true]);
    await nats.restart();
  }
});

it('an agent learns the next job key while it runs, obeys it once it signs, and the old one no more', async () => {
  const home = await mkdtemp(join(tmpdir(), 'deploy-job-key-'));
  const own = new Keys(home);
  await own.init();
  const seedFile = join(home, 'keys', 'job-signing.nk');
  const signer = async (): Promise<Signer> => nkeyFromSeed((await readFile(seedFile, 'utf8')).trim());
  const lab = await Lab.open(startNats);
  const { scheduler } = lab;
  const old = await signer();
  scheduler.jobKey = old;
  await lab.begin();
  const outcome = async (): Promise<unknown> => {
    const job = await scheduler.offer({ name: 'first', script: 'true' });
    await waitFor(() => scheduler.resultOf(job) !== undefined);
    return scheduler.resultOf(job)?.error?.code ?? scheduler.resultOf(job)?.outcome;
  };
  /** What the scheduler tells at the next hello, from the files that the command has written. */
  const tell = async (named: readonly string[]): Promise<void> => {
    const vouchers = JSON.parse(await readFile(join(home, 'job-key-vouchers.json'), 'utf8')) as Envelope[];
    scheduler.welcome = () => ({
      nats_jwt: lab.identity.enrolment.nats_jwt,
      // Hellos come each second.
      nats_jwt_expires_at: new Date(Date.now() + 1_000).toISOString(),
      job_keys: [...named],
      job_key_vouchers: vouchers,
    });
    await waitFor(() => lab.identity.enrolment.job_keys.join() === named.join());
  };
  scheduler.welcome = () => ({
    nats_jwt: lab.identity.enrolment.nats_jwt,
    nats_jwt_expires_at: new Date(Date.now() + 1_000).toISOString(),
  });
  await lab.startAgent();
  expect(await outcome()).toBe('succeeded');
  await own.rotate('job-signing');
  const next = /JOB_KEYS_ALSO=(\S+)/.exec((await own.show()).join('\n'))?.[1] ?? '';
  await tell([old.publicKey, next]);
  expect(await outcome()).toBe('succeeded');
  await own.retire('job-signing', true);
  scheduler.jobKey = await signer();
  expect(scheduler.jobKey.publicKey).toBe(next);
  expect(await outcome()).toBe('succeeded');
  await tell([next]);
  scheduler.jobKey = old;
  expect(await outcome()).toBe('statement_refused');
  await lab.end();
  await lab.close();
  await rm(home, { recursive: true });
});

it('the old job key vouches for the new one, which signs after the old one has been retired', async () => {
  const file = join(dir, 'keys', 'job-signing.nk');
  const old = nkeyFromSeed(await readFile(file, 'utf8')).publicKey;
  await keys.rotate('job-signing');
  expect(nkeyFromSeed(await readFile(file, 'utf8')).publicKey).toBe(old);
  const [voucher] = JSON.parse(await readFile(join(dir, 'job-key-vouchers.json'), 'utf8')) as Envelope[];
  const said = openEnvelope(voucher!, PAYLOAD_TYPES.jobKey, [old], verifyNkey);
  const { public_key: next } = parse(JobKeyVoucher, said, 'strict');
  expect((await keys.show()).join('\n')).toContain(`JOB_KEYS_ALSO=${next}`);
  await keys.retire('job-signing', true);
  expect(nkeyFromSeed(await readFile(file, 'utf8')).publicKey).toBe(next);
});

it('shows no seed, keeps them for their owner alone, and refuses what is no such key', async () => {
  expect((await keys.show()).join('\n')).not.toMatch(/\bS[AUO][A-Z2-7]{50}/);
  for (const name of ['install-agent-signing', 'job-signing', 'operator-signing'])
    expect((await stat(join(dir, 'keys', `${name}.nk`))).mode & 0o777).toBe(0o600);
  await expect(keys.rotate('account')).rejects.toThrow('these can: install-agent');
});
