import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, inflateSync } from 'node:zlib';
import { Client } from 'pg';
import { JobStatement, newId, PAYLOAD_TYPES, signEnvelope, type Job, type JobId } from '#contracts';
import { createNkey, nkeyFromSeed } from '#messaging';
import { enrolmentToken } from '../local/shop.js';
import { BrokerOwner, enrolled, request, stockDoor, tokensOf } from './attacker.js';
import { deployed, OPEN_INPUT, outputsAt, syncJob, type Ground } from './ground.js';
import { absent, found, until, type Play } from './play.js';

/** Every row of every table as text, and the hashes that the attacker will try as credentials. */
async function dumpOf(ground: Ground, tokens: { enrolment: string; pull: string }) {
  const client = new Client({ connectionString: ground.databaseUrl });
  await client.connect();
  try {
    const rows = async <T extends object>(sql: string, ...params: unknown[]): Promise<T[]> =>
      (await client.query<T>(sql, params)).rows;
    const tables = await rows<{ name: string }>(
      `SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables
        WHERE schemaname NOT IN ('pg_catalog', 'information_schema')`,
    );
    const text: string[] = [];
    for (const { name } of tables)
      text.push(...(await rows<{ row: string }>(`SELECT t::text AS row FROM ${name} t`)).map(({ row }) => row));
    // Logs lie there compressed, which hides nothing from a thief.
    for (const { frame } of await rows<{ frame: Buffer }>('SELECT frame FROM telemetry.log_chunks'))
      text.push((frame[0] === 0x78 ? inflateSync(frame) : frame).toString());
    const hashOf = async (table: string, column: string, value: string): Promise<{ id: string; hash: Buffer }> => {
      const [row] = await rows<{ id: string; hash: Buffer }>(
        `SELECT id, secret_hash AS hash FROM ${table} WHERE ${column} = $1 ORDER BY id DESC LIMIT 1`,
        value,
      );
      if (!row) throw new Error(`${table} has no row for ${value}`);
      return row;
    };
    return {
      tables: tables.length,
      text: text.join('\n'),
      apiKey: await hashOf('gateway.api_keys', 'vendor_id', ground.account.vendor.id),
      enrolment: await hashOf('job_scheduler.enrolment_tokens', 'id', tokens.enrolment),
      pull: await hashOf('registry_token.pull_tokens', 'id', tokens.pull),
    };
  } finally {
    await client.end();
  }
}

/** What must be in no table, by name: each text as it is at home. */
function secretsOf(ground: Ground, state: string, tokens: { enrolment: string; pull: string }): [string, string[]][] {
  const { dir, operatorKey } = ground.platform;
  const read = (...path: string[]): string => readFileSync(join(...path), 'utf8').trim();
  const seedsIn = (folder: string): string[] =>
    readdirSync(folder)
      .filter((name) => name.endsWith('.nk'))
      .map((name) => read(folder, name));
  // One line of a PEM says as much as all of it, and has no line ends that a dump writes in another way.
  const lineOf = (file: string): string[] => (existsSync(file) ? [read(file).split('\n')[1] ?? ''] : []);
  return [
    ['the vendor’s API key', [ground.account.api_key.slice(-38, -6)]],
    ['the operator’s key', [operatorKey]],
    ['an enrolment token that is not used yet', [tokens.enrolment.split('_').at(-1) ?? '']],
    ['a pull token that is open', [tokens.pull.split('.')[1] ?? '']],
    [
      'a key of a service, of NATS or of an agent, or the one that signs jobs',
      [
        ...seedsIn(join(dir, 'keys')),
        ...seedsIn(join(dir, 'nats', 'keys')),
        read(state, 'key.seed'),
        read(dir, 'build-agent', 'key.seed'),
      ],
    ],
    ['the key that signs the vendor’s artifacts', lineOf(join(dir, 'build-agent', 'artifact-signing-key.pem'))],
    [
      'a credential of a registry',
      [
        ...lineOf(join(dir, 'keys', 'registry-key.pem')),
        read(dir, 'keys', 'token-hash-key'),
        read(state, 'node-pull-secret'),
      ],
    ],
    ['a secret output of the install', [outputsAt(state, 'vault')['password'] ?? '']],
  ];
}

const holds = (text: string, secret: string): boolean =>
  [secret, Buffer.from(secret).toString('hex'), Buffer.from(secret).toString('base64').replace(/=+$/, '')].some(
    (form) => text.includes(form),
  );

/** The text of an API key around any 32 characters, with the checksum that lets it pass as one. */
function keyShaped(id: string, secret: string): string {
  const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  const head = `ims_ven_${id.replace(/^key_/, '')}_${secret.slice(0, 32)}`;
  let rest = crc32(head);
  let digits = '';
  for (let i = 0; i < 6; i++) {
    digits = alphabet.charAt(rest % 62) + digits;
    rest = Math.floor(rest / 62);
  }
  return head + digits;
}

export async function databaseLeak(ground: Ground, play: Play): Promise<void> {
  const { rest } = ground;
  const { app, release } = await ground.vault();
  const site = await ground.vaultSite();
  await deployed(ground, site, release);

  // Something of each kind of secret is alive while the dump is made.
  const neighbour = await ground.install(app, 'leak');
  const agent = await enrolled(ground, neighbour);
  const owner = await BrokerOwner.connect(ground);
  try {
    await agent.hello();
    const job = await syncJob(ground, neighbour, release, 'page');
    const { grant, statement } = await agent.claim(job.id);
    const pull = await agent.tokens.requestPullToken(grant.statement);
    const unused = await enrolmentToken(rest, neighbour);
    const tokens = { enrolment: unused.token, pull: pull.token };
    const enrolmentId = `tok_${unused.token.split('_')[2] ?? ''}`;
    const dump = await dumpOf(ground, { enrolment: enrolmentId, pull: pull.token_id });

    await play.got('read names, inputs, open outputs and logs', 'what is not secret of every customer', () => {
      const open = [site.install.name, OPEN_INPUT, `vault.${OPEN_INPUT}.internal`, 'is signed by the vendor'];
      return found(open.every((text) => dump.text.includes(text)));
    });
    await play.got('read the history', 'who did what when, and which digests run where', () =>
      found(
        [release.id, ...release.components.map(({ artifact }) => artifact.digest)].every((id) =>
          dump.text.includes(id),
        ),
      ),
    );
    await play.got('read public keys', 'agents’ and the vendor’s: nothing to sign with', () =>
      found(dump.text.includes(agent.signer.publicKey) && dump.text.includes('BEGIN PUBLIC KEY')),
    );
    for (const [what, secrets] of secretsOf(ground, site.customer.state, tokens)) {
      await play.refused(`find ${what}`, 'in no table', () => {
        if (secrets.length === 0 || secrets.some((secret) => secret.length < 20))
          throw new Error(`${what}: not looked for`);
        return absent(
          secrets.some((secret) => holds(dump.text, secret)),
          'in no table',
        );
      });
    }

    const hex = (hash: Buffer): string => hash.toString('hex');
    const me = (key: string) => request(ground, 'GET', '/v1/apps', { key });
    await play.refused('use the hash of the API key as the key', 'unauthenticated', () => me(hex(dump.apiKey.hash)));
    await play.refused('the same in the form of a key, its checksum right', 'unauthenticated', () =>
      me(keyShaped(dump.apiKey.id, hex(dump.apiKey.hash))),
    );
    await play.refused('enrol an agent with the hash of an enrolment token', 'enrolment_refused', () =>
      request(ground, 'POST', '/v1/agents/enrol', {
        body: {
          token: `ims_enr_${enrolmentId.replace('tok_', '')}_${hex(dump.enrolment.hash)}`,
          public_key: createNkey('user').publicKey,
          version: '1.0.0',
        },
      }),
    );
    const guessed = `${dump.pull.id}.${dump.pull.hash.toString('base64url')}`;
    const thief = nkeyFromSeed(createNkey('user').seed);
    const own = tokensOf(agent, thief);
    await play.refused('redeem a pull token by its hash at the agents’ door', 'pull_token_refused', () =>
      own.redeemPullToken(guessed, randomUUID()),
    );
    await play.refused('the same at the door of stock clients', 'HTTP 401', () =>
      stockDoor(ground, guessed, statement.repository),
    );
    await play.got(
      'stop a job whose token is open, by its id and any secret',
      'a delay: the vendor resumes the job',
      () =>
        until(
          'the job is held',
          async () => (await rest.get<Job>(`/v1/jobs/${job.id}`)).hold?.code === 'token_tampered',
          10_000,
        ),
    );
    const forge = (change: Partial<JobStatement>) =>
      signEnvelope(PAYLOAD_TYPES.job, Object.assign(new JobStatement(), statement, change), thief);
    await play.refused('write a job for its own key, and ask for a token', 'statement_refused', () =>
      own.requestPullToken(forge({ agent_key: thief.publicKey })),
    );
    await play.refused('have the broker hand such a job to an agent', 'statement_refused', async () => {
      const { install } = site;
      const { public_key: agent_key = '' } = await rest.get<{ public_key?: string }>(`/v1/agents/${install.agent_id}`);
      const job_id: JobId = newId('job');
      const told = { job_id, attempt: 1, agent_id: install.agent_id, install_id: install.id, agent_key };
      return owner.handOver(install.agent_id, job_id, { attempt: 1, lease_ms: 12_000, statement: forge(told) });
    });
    await rest.post(`/v1/deployments/${job.deployment_id ?? ''}/cancel`);
  } finally {
    await owner.close();
    await agent.close();
  }
}
