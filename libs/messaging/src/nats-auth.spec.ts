import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeUser, fromPublic, fromSeed, decode } from '@nats-io/jwt';
import { jetstream, jetstreamManager, AckPolicy } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import fc from 'fast-check';
import { inboxPrefix, newId, offersOf, subjectOf, agentBeat, jobStep, jobCancel } from '#contracts';
import { startNats, type NatsCreds, type NatsServer } from '#stack';
import { AccountClaims } from './account-claims.js';
import {
  accountJwt,
  formatCreds,
  natsAuthenticator,
  parseCreds,
  readNatsJwt,
  userJwt,
  withRevocations,
} from './nats-auth.js';
import { createNkey, nkeyFromSeed, nkeyKind, verifyNkey } from './nkeys.js';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('nkeys', () => {
  it.each(['operator', 'account', 'user'] as const)(
    '%s: the same key as the reference library makes of the seed',
    (kind) => {
      const { seed, publicKey } = createNkey(kind);
      const reference = fromSeed(bytes(seed));
      expect(reference.getPublicKey()).toBe(publicKey);
      expect(nkeyFromSeed(seed)).toMatchObject({ kind, publicKey });
      expect(nkeyKind(publicKey)).toBe(kind);
      const signature = nkeyFromSeed(seed).sign(bytes('nonce'));
      expect(Buffer.from(signature)).toEqual(Buffer.from(reference.sign(bytes('nonce'))));
      expect(fromPublic(publicKey).verify(bytes('nonce'), signature)).toBe(true);
    },
  );

  it('verify accepts what the holder signed, and nothing else', () => {
    const { seed, publicKey } = createNkey('user');
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.uint8Array({ maxLength: 64 }), (message, other) => {
        const signature = nkeyFromSeed(seed).sign(message);
        expect(verifyNkey(publicKey, message, signature)).toBe(true);
        expect(verifyNkey(publicKey, other, signature)).toBe(Buffer.compare(message, other) === 0);
        expect(verifyNkey(createNkey('user').publicKey, message, signature)).toBe(false);
      }),
      { numRuns: 20 },
    );
  });

  it('a changed letter is noticed, and an error does not quote the seed', () => {
    const { seed, publicKey } = createNkey('user');
    fc.assert(
      fc.property(
        fc.nat(publicKey.length - 1),
        fc.constantFrom(...'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'),
        (at, letter) => {
          const changed = publicKey.slice(0, at) + letter + publicKey.slice(at + 1);
          expect(nkeyKind(changed)).toBe(changed === publicKey ? 'user' : undefined);
        },
      ),
    );
    for (const bad of [`${seed.slice(0, -1)}!`, seed.slice(0, 20), publicKey, '', `${seed}A`]) {
      expect(() => nkeyFromSeed(bad)).toThrow(/^the seed is not an nkey/);
    }
  });
});

describe('claims', () => {
  const account = createNkey('account');
  const signer = nkeyFromSeed(account.seed);
  const user = createNkey('user');
  const base = { name: 'x', user: user.publicKey, signer, account: account.publicKey };

  it('says what the reference library says for the same user', async () => {
    const permissions = { publish: ['a.>'], subscribe: ['b.*'] };
    const expiresAt = new Date(Math.floor(Date.now() / 1000) * 1000 + 60_000);
    const ours = decode<Record<string, unknown>>(userJwt({ ...base, permissions, expiresAt }));
    const limits = {
      pub: { allow: ['a.>'], deny: [] },
      sub: { allow: ['b.*'], deny: [] },
      subs: -1,
      data: -1,
      payload: -1,
    };
    const exp = expiresAt.getTime() / 1000;
    const theirs = decode<Record<string, unknown>>(
      await encodeUser('x', user.publicKey, fromSeed(bytes(account.seed)), limits, { exp }),
    );
    expect({ ...ours, jti: '', nats: ours.nats }).toMatchObject({
      iss: theirs.iss,
      sub: theirs.sub,
      name: theirs.name,
      exp: theirs.exp,
      nats: {
        type: 'user',
        version: 2,
        subs: -1,
        data: -1,
        payload: -1,
        pub: { allow: ['a.>'] },
        sub: { allow: ['b.*'] },
      },
    });
    expect(theirs.nats).toMatchObject({ type: 'user', version: 2, subs: -1, data: -1, payload: -1 });
  });

  it.each(['*', '>', 'a.b', '', 'a b', 'ins-1', '{{tag(x)}}', 'a\n'])('refuses the tag %j', (value) => {
    expect(() => userJwt({ ...base, tags: { agent: value } })).toThrow(/must match/);
  });

  it('nothing allowed is written as everything denied: an empty allow list would allow all', () => {
    const { nats } = decode<Record<string, unknown>>(userJwt({ ...base, permissions: { publish: [], subscribe: [] } }));
    expect(nats).toMatchObject({ pub: { deny: ['>'] }, sub: { deny: ['>'] } });
  });

  it('reads only what its issuer signed', () => {
    const jwt = userJwt({ ...base, tags: { agent: 'agt_1' } });
    expect(readNatsJwt(jwt)).toMatchObject({ kind: 'user', issuer: account.publicKey, tags: ['agent:agt_1'] });
    const [header, body, signature] = jwt.split('.');
    const forged = Buffer.from(Buffer.from(body!, 'base64url').toString().replace('agt_1', 'agt_2')).toString(
      'base64url',
    );
    expect(() => readNatsJwt(`${header}.${forged}.${signature}`)).toThrow(/signature/);
    expect(() => readNatsJwt('nonsense')).toThrow('not a NATS JWT');
  });

  it('creds files go there and back', () => {
    const jwt = userJwt({ ...base, tags: {} });
    expect(parseCreds(formatCreds({ jwt, seed: user.seed }))).toEqual({ jwt, seed: user.seed });
    expect(() => parseCreds('nothing')).toThrow('not a NATS credentials file');
  });

  it('is minted in well under a millisecond', () => {
    const started = performance.now();
    for (let i = 0; i < 200; i++) userJwt({ ...base, tags: { agent: `agt_${i}` } });
    // 0.1 ms each on an idle machine, 56 ms with pure JavaScript signatures.
    expect((performance.now() - started) / 200).toBeLessThan(10);
  });
});

describe('on a real server', () => {
  let dir: string;
  let server: NatsServer;
  const open: NatsConnection[] = [];

  const dial = async (
    creds: Pick<NatsCreds, 'jwt' | 'seed'>,
    owner: string,
    reconnect = false,
  ): Promise<NatsConnection> => {
    const authenticator = natsAuthenticator(creds);
    const options = {
      servers: server.url,
      authenticator,
      inboxPrefix: inboxPrefix(owner),
      reconnect,
      maxReconnectAttempts: 1,
    };
    const nc = await connect(options);
    open.push(nc);
    return nc;
  };
  /** Publishes or subscribes, and tells whether the server allowed it: the refusal comes before the answer to a ping. */
  const allowed = async (nc: NatsConnection, act: () => void): Promise<boolean> => {
    const refusals: string[] = [];
    const watch = nc.status();
    const reading = (async () => {
      for await (const status of watch) if (status.type === 'error') refusals.push(status.error.message);
    })();
    act();
    await nc.flush();
    await nc.flush();
    (watch as unknown as { stop?: () => void }).stop?.();
    void reading;
    return refusals.length === 0;
  };

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'nats-auth-'));
    server = await startNats({ dir });
  });
  afterAll(async () => {
    await Promise.all(open.map((nc) => nc.close().catch(() => undefined)));
    await server.stop();
    await rm(dir, { recursive: true });
  });

  it('an agent may do its own part, and is denied every other', async () => {
    const [me, other] = [newId('agent'), newId('agent')];
    const nc = await dial(await server.agentCreds('install', me), me);
    const job = newId('job');
    const mine = offersOf(me);
    const theirs = offersOf(other);
    const may = [
      subjectOf(agentBeat, { agent: me }),
      subjectOf(jobStep, { agent: me, job }),
      `$JS.API.CONSUMER.MSG.NEXT.${mine.stream}.${mine.consumer}`,
      `$JS.ACK.${mine.stream}.${me}.1.1.1.1.1`,
    ];
    const mayNot = [
      subjectOf(agentBeat, { agent: other }),
      subjectOf(jobStep, { agent: other, job }),
      'anything',
      `ims.v1.jobs.00.${me}.x`,
      `$JS.API.CONSUMER.MSG.NEXT.${theirs.stream}.${theirs.consumer}`,
      `$JS.API.CONSUMER.INFO.${mine.stream}.${mine.consumer}`,
      `$JS.API.STREAM.NAMES`,
      `$JS.ACK.${theirs.stream}.${other}.1.1.1.1.1`,
      '$SYS.REQ.CLAIMS.UPDATE',
      `${inboxPrefix(other)}.x`,
    ];
    for (const subject of may) expect([subject, await allowed(nc, () => nc.publish(subject))]).toEqual([subject, true]);
    for (const subject of mayNot)
      expect([subject, await allowed(nc, () => nc.publish(subject))]).toEqual([subject, false]);
    const hear = [subjectOf(jobCancel, { agent: me, job }).replace(job, '*'), `${inboxPrefix(me)}.>`];
    const hearNot = [
      subjectOf(jobCancel, { agent: other, job }),
      `${inboxPrefix(other)}.>`,
      '_INBOX.>',
      '_INBOX.*.>',
      '>',
      'ims.>',
      '*.*.*.>',
    ];
    for (const subject of hear)
      expect([subject, await allowed(nc, () => void nc.subscribe(subject))]).toEqual([subject, true]);
    for (const subject of hearNot)
      expect([subject, await allowed(nc, () => void nc.subscribe(subject))]).toEqual([subject, false]);
  });

  it('its own consumer is enough to pull and acknowledge an offer', async () => {
    const agent = newId('agent');
    const { stream, consumer, filter } = offersOf(agent);
    const scheduler = await dial(await server.serviceCreds('job-scheduler'), 'job_scheduler');
    const jsm = await jetstreamManager(scheduler);
    await jsm.streams.add({ name: stream, subjects: [`ims.v1.jobs.${stream.slice(-2)}.>`] });
    const config = { durable_name: consumer, filter_subject: filter, ack_policy: AckPolicy.Explicit };
    const info = await jsm.consumers.add(stream, config);
    await jetstream(scheduler).publish(filter.replace('>', 'job_1.offer'), 'work');

    const nc = await dial(await server.agentCreds('install', agent), agent);
    const message = await jetstream(nc).consumers.getConsumerFromInfo(info).next({ expires: 5_000 });
    expect(message?.string()).toBe('work');
    expect(await message?.ackAck()).toBe(true);
  });

  it('refuses a user of a scoped key that brings its own permissions, or no tags, or a foreign signature', async () => {
    const seed = createNkey('user').seed;
    const user = nkeyFromSeed(seed).publicKey;
    const signer = nkeyFromSeed(server.keys.installAgentSigningSeed);
    const { account } = server.keys;
    const own = userJwt({ name: 'x', user, signer, account, permissions: { publish: ['>'], subscribe: ['>'] } });
    await expect(dial({ jwt: own, seed }, 'x')).rejects.toThrow(/authorization/i);
    const stranger = userJwt({ name: 'x', user, signer: nkeyFromSeed(createNkey('account').seed), account, tags: {} });
    await expect(dial({ jwt: stranger, seed }, 'x')).rejects.toThrow(/authorization/i);
    const thief = createNkey('user').seed;
    const good = userJwt({ name: 'x', user, signer, account, tags: { agent: 'agt_1' } });
    await expect(dial({ jwt: good, seed: thief }, 'x')).rejects.toThrow(/authorization/i);
    const untagged = await dial({ jwt: userJwt({ name: 'x', user, signer, account, tags: {} }), seed }, 'x');
    expect(await allowed(untagged, () => untagged.publish('anything'))).toBe(false);
    expect(await allowed(untagged, () => void untagged.subscribe('anything'))).toBe(false);
  });

  it('a build agent cannot do what an install agent can, where the contracts differ', async () => {
    const agent = newId('agent');
    const signer = nkeyFromSeed(server.keys.buildAgentSigningSeed);
    expect(signer.publicKey).not.toBe(nkeyFromSeed(server.keys.installAgentSigningSeed).publicKey);
    const nc = await dial(await server.agentCreds('build', agent), agent);
    expect(await allowed(nc, () => nc.publish(subjectOf(agentBeat, { agent })))).toBe(true);
    expect(await allowed(nc, () => nc.publish(subjectOf(agentBeat, { agent: 'agt_other' })))).toBe(false);
  });

  it('is cut when its JWT expires, to the second', async () => {
    const agent = newId('agent');
    const nc = await dial(await server.agentCreds('install', agent, 2_000), agent);
    const started = performance.now();
    const end = await nc.closed();
    expect(end?.message).toMatch(/expired/i);
    expect(performance.now() - started).toBeLessThan(10_000);
  });

  it('a pushed revocation cuts one agent, survives a restart, and a newer JWT works again', async () => {
    const [bad, good] = [newId('agent'), newId('agent')];
    const badCreds = await server.agentCreds('install', bad);
    const [cut, untouched] = [await dial(badCreds, bad), await dial(await server.agentCreds('install', good), good)];
    const system = await dial(await server.systemCreds(), 'system');
    const signer = nkeyFromSeed(server.keys.operatorRevocationSeed);
    const badUser = nkeyFromSeed(badCreds.seed).publicKey;
    const claims = new AccountClaims(system, server.keys.account, signer);
    const now = new Date();
    expect(await claims.revoke([badUser], { at: now, forgetBefore: new Date(0) })).toBe(1);
    expect((await claims.read()).revocations).toEqual({ [badUser]: Math.floor(now.getTime() / 1000) });
    expect((await cut.closed())?.message).toMatch(/revoked|authentication|authorization/i);
    await untouched.flush();
    await expect(dial(badCreds, bad)).rejects.toThrow(/authorization/i);

    await server.restart();
    await expect(dial(badCreds, bad)).rejects.toThrow(/authorization/i);
    // Revocation is by issue time, in whole seconds.
    const later = new Date(Date.now() + 2_000);
    const tags = { agent: bad, shard: '00', jobs_stream: 'JOBS_00' };
    const jwt = userJwt({
      name: bad,
      user: badUser,
      signer: nkeyFromSeed(server.keys.installAgentSigningSeed),
      account: server.keys.account,
      tags,
      issuedAt: later,
    });
    await (await dial({ jwt, seed: badCreds.seed }, bad)).flush();
  });

  it('who may restate the account may restate no other, and with the key alone nobody may do anything', async () => {
    const system = await dial(await server.systemCreds(), 'system');
    const signer = nkeyFromSeed(server.keys.operatorRevocationSeed);
    const { account, systemAccount } = server.keys;
    const foreign = accountJwt({ name: 'SYS', account: systemAccount, signer, jetstream: false });
    expect(await allowed(system, () => system.publish('$SYS.REQ.CLAIMS.UPDATE', foreign))).toBe(false);
    const theirs = `$SYS.REQ.ACCOUNT.${systemAccount}.CLAIMS.UPDATE`;
    expect(await allowed(system, () => system.publish(theirs, foreign))).toBe(false);
    const smuggled = await system.request(`$SYS.REQ.ACCOUNT.${account}.CLAIMS.UPDATE`, foreign);
    expect(smuggled.json()).toMatchObject({ error: { description: expect.stringContaining('subject') as string } });
    // An account of its own, stated with the key: no server knows it, so nobody gets in with it.
    const own = nkeyFromSeed(createNkey('account').seed);
    const seed = createNkey('user').seed;
    const permissions = { publish: ['>'], subscribe: ['>'] };
    const jwt = userJwt({
      name: 'x',
      user: nkeyFromSeed(seed).publicKey,
      signer: own,
      account: own.publicKey,
      permissions,
    });
    await expect(dial({ jwt, seed }, 'x')).rejects.toThrow(/authorization/i);
  });

  it('forgets revocations that no JWT outlives', () => {
    const account = createNkey('account').publicKey;
    const operator = nkeyFromSeed(createNkey('operator').seed);
    const [old, recent] = [createNkey('user').publicKey, createNkey('user').publicKey];
    let jwt = accountJwt({ name: 'a', account, signer: operator, jetstream: false });
    jwt = withRevocations(jwt, { users: [old], signer: operator, at: new Date(1_000_000) });
    jwt = withRevocations(jwt, { users: [recent], signer: operator, at: new Date(9_000_000) });
    expect(Object.keys(readNatsJwt(jwt).revocations)).toEqual([old, recent]);
    jwt = withRevocations(jwt, { users: [], signer: operator, forgetBefore: new Date(5_000_000) });
    expect(readNatsJwt(jwt).revocations).toEqual({ [recent]: 9_000 });
  });
});
