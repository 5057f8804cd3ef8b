import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { jetstreamManager } from '@nats-io/jetstream';
import { headers, type NatsConnection } from '@nats-io/transport-node';
import {
  agentHello,
  CONTRACTS,
  HEADERS,
  inboxPrefix,
  jobCancel,
  jobReceipt,
  jobResult,
  jobStep,
  logFrame,
  newId,
  offersOf,
  renewLeases,
  resumeJob,
  STREAMS,
  subjectOf,
  type AnyContract,
  type Deployment,
  type Install,
  type Job,
} from '#contracts';
import { connectNats } from '#messaging';
import { type Customer } from '../../deploy/local/agents.js';
import { deploy } from '../../deploy/local/shop.js';
import { stolenAgent, type ScriptedAgent } from './scripted-agent.js';
import {
  almighty,
  ask,
  buildWell,
  commit,
  declare,
  QUIET,
  release,
  START_MS,
  startWorld,
  until,
  type World,
} from './world.js';

const TEST_MS = 180_000;
const SESSION = 'session-of-the-thief';

/**
 * What somebody can do who has the state directory of one install's agent: everything that this agent can, and nothing
 * about any other install. The server itself refuses it, so nothing here depends on what our processes check.
 */
describe('the credentials of one install’s agent are of no use against another install', () => {
  let world: World;
  let victim: Install;
  let victimCustomer: Customer;
  let thief: ScriptedAgent;
  let connection: NatsConnection;
  let releaseId: string;
  let spy: NatsConnection;
  /** Subjects on which something arrived that only the victim should hear. */
  const delivered: string[] = [];
  const refusals: string[] = [];

  beforeAll(async () => {
    world = await startWorld();
    const { rest, platform } = world;
    const url = commit(world, 'tool', { 'main.tf': 'resource "terraform_data" "thing" { input = "thing" }\n' });
    const app = await declare(rest, { name: 'tool' }, [{ name: 'db', kind: 'terraform-module', source: { url } }]);
    await buildWell(rest, app);
    releaseId = (await release(rest, app, '1.0.0')).id;
    victim = await rest.post<Install>('/v1/installs', { app_id: app.id, name: 'victim' });
    victimCustomer = await world.customer(victim);
    const other = await rest.post<Install>('/v1/installs', { app_id: app.id, name: 'thief' });
    const robbed = await world.customer(other);
    await robbed.agent.stop();
    thief = await stolenAgent(robbed.state);
    ({ connection } = thief.bus);
    void (async () => {
      for await (const status of connection.status()) if (status.type === 'error') refusals.push(status.error.message);
    })();
    spy = await connectNats({
      servers: [platform.nats.url],
      name: 'spy',
      inboxPrefix: '_INBOX.spy',
      credentials: almighty(platform),
      caFile: platform.caFile,
    });
    const note = (_: Error | null, { subject }: { subject: string }): void => void delivered.push(subject);
    for (const subject of [`${inboxPrefix(victim.agent_id)}.redirected.>`, `ims.v1.control.${victim.agent_id}.>`])
      spy.subscribe(subject, { callback: note });
    await spy.flush();
  }, START_MS);
  afterAll(async () => {
    await thief?.close();
    await spy?.close();
    await world?.stop();
  }, START_MS);

  /** Whether the server let it pass: its refusal comes before its answer to the ping that follows. */
  const passes = async (act: () => void): Promise<boolean> => {
    const before = refusals.length;
    act();
    await connection.flush();
    await connection.flush();
    return refusals.length === before;
  };
  const publishes = (subject: string): Promise<boolean> => passes(() => connection.publish(subject, '{}'));
  const hears = async (subject: string, queue?: string): Promise<boolean> => {
    let heard: { unsubscribe(): void } | undefined;
    const passed = await passes(() => {
      heard = connection.subscribe(subject, { callback: () => undefined, ...(queue ? { queue } : {}) });
    });
    heard?.unsubscribe();
    return passed;
  };
  /** The subject with the agent's id, and any good id at the other places. */
  const filled = (contract: AnyContract, agent: string): string => {
    const samples = {
      agent,
      job: newId('job'),
      vendor: newId('vendor'),
      scope: '_',
      shard: offersOf(agent).stream.slice(-2),
    };
    return subjectOf(contract, samples);
  };
  const wide = (contract: AnyContract): string => contract.subject.replace(/\{\w+\}/g, '*');

  it('it is a working credential: all that its own agent sends and hears passes', async () => {
    await thief.hello();
    const { agent_id: me } = thief.enrolment;
    for (const contract of CONTRACTS.filter(({ from }) => from.includes('install')))
      expect([contract.name, await publishes(filled(contract, me))]).toEqual([contract.name, true]);
    for (const contract of CONTRACTS.filter((each) => each.type === 'signal' && each.to.includes('install')))
      expect([contract.name, await hears(filled(contract, me))]).toEqual([contract.name, true]);
    expect(CONTRACTS.length).toBeGreaterThan(40);
  });

  it.each(CONTRACTS.map((contract) => [`${contract.name}/${contract.version}`, contract] as const))(
    '%s of another install: neither to send nor to hear',
    async (_, contract) => {
      const theirs = filled(contract, victim.agent_id);
      const own = filled(contract, thief.enrolment.agent_id);
      const perAgent = contract.subject.includes('{agent}');
      for (const subject of [theirs, wide(contract), `${theirs.split('.').slice(0, -1).join('.')}.>`]) {
        expect([subject, 'hear', await hears(subject)]).toEqual([subject, 'hear', false]);
        expect([subject, 'hear in a group', await hears(subject, 'job-scheduler')]).toEqual([
          subject,
          'hear in a group',
          false,
        ]);
      }
      expect([theirs, 'send', await publishes(theirs)]).toEqual([theirs, 'send', false]);
      // What is nobody's in particular, and what its own agent has no part in, is denied too.
      const mine = contract.from.includes('install');
      expect([own, 'send', await publishes(own)]).toEqual([own, 'send', perAgent && mine]);
      const mayHear = contract.type === 'signal' && contract.to.includes('install');
      expect([own, 'hear', await hears(own)]).toEqual([own, 'hear', perAgent && mayHear]);
    },
    TEST_MS,
  );

  it(
    'wildcards, inboxes, streams, consumers and the system are closed to it',
    async () => {
      const { agent_id: me } = thief.enrolment;
      const them = victim.agent_id;
      const mine = offersOf(me);
      const theirs = offersOf(them);
      const subscriptions = [
        ...[
          '>',
          '*',
          '*.>',
          '*.*.*.>',
          'ims.>',
          'ims.v1.>',
          'ims.*.control.>',
          `ims.v1.*.${them}.>`,
          `ims.v1.*.${me}.>`,
        ],
        ...['_INBOX.>', '_INBOX.*.>', `${inboxPrefix(them)}.>`, `${inboxPrefix(them)}.a`, '_INBOX.gateway.>'],
        ...['$SYS.>', '$JS.>', '$JS.API.>', '$JS.EVENT.>', `$JS.ACK.>`, '$SRV.>', '$KV.>', 'ims.v1.dead.>'],
      ];
      const streams = [...new Set([...Object.keys(STREAMS), mine.stream, theirs.stream])];
      const api = [
        ...['INFO', 'STREAM.NAMES', 'STREAM.LIST', 'ACCOUNT.PURGE.x', 'META.LEADER.STEPDOWN', 'SERVER.REMOVE'],
        ...streams.flatMap((stream) => [
          ...['CREATE', 'UPDATE', 'DELETE', 'PURGE', 'INFO', 'MSG.GET', 'MSG.DELETE', 'SNAPSHOT', 'RESTORE'].map(
            (verb) => `STREAM.${verb}.${stream}`,
          ),
          ...[`CONSUMER.NAMES.${stream}`, `CONSUMER.LIST.${stream}`, `DIRECT.GET.${stream}`],
          ...[
            `CONSUMER.CREATE.${stream}`,
            `CONSUMER.CREATE.${stream}.${me}.${mine.filter}`,
            `CONSUMER.CREATE.${stream}.x.>`,
          ],
          ...[me, them].flatMap((consumer) =>
            ['CREATE', 'DURABLE.CREATE', 'DELETE', 'INFO', 'PAUSE', 'RESET', 'UNPIN'].map(
              (verb) => `CONSUMER.${verb}.${stream}.${consumer}`,
            ),
          ),
          `CONSUMER.MSG.NEXT.${stream}.${them}`,
          ...(stream === mine.stream ? [] : [`CONSUMER.MSG.NEXT.${stream}.${me}`]),
        ]),
      ].map((subject) => `$JS.API.${subject}`);
      const acks = streams.flatMap((stream) => [
        `$JS.ACK.${stream}.${them}.1.1.1.1.1`,
        `$JS.ACK._.account.${stream}.${them}.1.1.1.1.1.a`,
      ]);
      const system = [
        ...['$SYS.REQ.CLAIMS.UPDATE', '$SYS.REQ.SERVER.PING', '$SYS.REQ.SERVER.PING.CONNZ', '$SYS.REQ.USER.INFO'],
        `$SYS.REQ.ACCOUNT.${world.platform.nats.keys.account}.CONNZ`,
      ];
      const inboxes = [`${inboxPrefix(them)}.a`, '_INBOX.gateway.a', '_INBOX.job_scheduler.a'];
      for (const subject of subscriptions)
        expect(['hear', subject, await hears(subject)]).toEqual(['hear', subject, false]);
      for (const subject of [...api, ...acks, ...system, ...inboxes, 'ims.v1.dead.x', '$SRV.PING', 'anything'])
        expect(['send', subject, await publishes(subject)]).toEqual(['send', subject, false]);
      // Its own consumer is all that it has of JetStream.
      expect(await publishes(`$JS.API.CONSUMER.MSG.NEXT.${mine.stream}.${me}`)).toBe(true);
    },
    TEST_MS,
  );

  it('an answer cannot be redirected: a service answers only where the asker itself listens', async () => {
    const { agent_id: me } = thief.enrolment;
    const label = headers();
    label.set(HEADERS.contract, `${agentHello.name}/${agentHello.version}`);
    const body = JSON.stringify({ session_id: SESSION, version: '1.0.0' });
    const ownInbox = `${inboxPrefix(me)}.redirected`;
    let answers = 0;
    connection.subscribe(ownInbox, {
      callback: () => {
        answers += 1;
      },
    });
    const job = newId('job');
    const targets = [
      `${inboxPrefix(victim.agent_id)}.redirected.a`,
      subjectOf(jobCancel, { agent: victim.agent_id, job }),
      subjectOf(jobReceipt, { agent: victim.agent_id, job }),
    ];
    const say = (reply: string): boolean => {
      connection.publish(subjectOf(agentHello, { agent: me }), body, { reply, headers: label });
      return true;
    };
    say(ownInbox);
    await until('the first answer is here', () => answers === 1);
    delivered.length = 0;
    for (const target of targets) say(target);
    // Asked after them and answered: what was to come for them would have come.
    for (let n = 2; n <= 4; n++) {
      say(ownInbox);
      await until('the next answer is here', () => answers === n);
    }
    await spy.flush();
    expect(delivered).toEqual([]);
  });

  it(
    'jobs of the other install cannot be claimed, resumed, renewed, ended or written about',
    async () => {
      const { rest } = world;
      const { agent_id: me } = thief.enrolment;
      const parts = { agent: me };
      await victimCustomer.agent.stop();
      const what = { kind: 'deploy', release_id: releaseId };
      const deployment = await rest.post<Deployment>(`/v1/installs/${victim.id}/deployments`, what);
      const jobs = await rest.all<Job>(`/v1/jobs?deployment_id=${deployment.id}`);
      const sync = jobs.find(({ kind }) => kind === 'sync')!;
      const held = { job_id: sync.id, attempt: 1 };

      await expect(thief.claim(sync.id)).rejects.toMatchObject({
        code: expect.stringMatching(/not_found|job_not_claimable/),
      });
      await expect(thief.bus.call(resumeJob, { ...held, session_id: SESSION }, parts)).rejects.toMatchObject({
        code: expect.stringMatching(/not_found|stale_attempt/),
      });
      const renewed = await thief.bus.call(renewLeases, { session_id: SESSION, leases: [held] }, parts);
      expect(renewed.stop).toMatchObject([{ ...held, code: 'stale_attempt' }]);

      // Under its own name it may send anything: a result, a step and a log line of the victim's job.
      const at = new Date().toISOString();
      const place = { agent: me, job: sync.id };
      const digest = `sha256:${'0'.repeat(64)}`;
      const outcome = { digest, bytes_copied: 0, blobs_copied: 0, blobs_skipped: 0 };
      await thief.bus.publish(
        jobResult,
        place,
        { ...held, session_id: SESSION, outcome: 'succeeded', result: outcome },
        'r',
      );
      await thief.bus.publish(
        jobStep,
        place,
        { ...held, session_id: SESSION, steps: [{ name: 'x', status: 'done', started_at: at }] },
        's',
      );
      const lines = [{ at, level: 'info', step: 'x', text: 'the thief was here' } as const];
      await thief.bus.publish(logFrame, place, { ...held, first_seq: 1, lines, last: true }, 'l');
      // And it can make the server itself acknowledge to a subject of the victim's: no service is asked there.
      const acknowledged = subjectOf(jobReceipt, { agent: victim.agent_id, job: sync.id });
      connection.publish(subjectOf(jobStep, place), '{}', { reply: acknowledged });
      await connection.flush();
      await everythingHandled();

      const after = await rest.all<Job>(`/v1/jobs?deployment_id=${deployment.id}`);
      expect(after.map(({ id, status, attempt }) => [id, status, attempt])).toEqual(
        jobs.map(({ id, status }) => [id, status, 0]),
      );

      // The victim's agent, back again, does the work as if nothing had been.
      await victimCustomer.agent.start();
      connection.publish(`$JS.API.CONSUMER.MSG.NEXT.${offersOf(me).stream}.${me}`, '{"batch":1,"no_wait":true}', {
        reply: subjectOf(jobCancel, { agent: victim.agent_id, job: sync.id }),
      });
      const ended = await until(
        'the deployment has ended',
        async () => {
          const now = await rest.get<Deployment>(`/v1/deployments/${deployment.id}`);
          return now.finished_at !== undefined && now;
        },
        TEST_MS,
      );
      expect(ended.status).toBe('succeeded');
      for (const { id } of jobs) {
        const { attempt } = await rest.get<Job>(`/v1/jobs/${id}`);
        expect(attempt).toBe(1);
        expect((await ask(rest, 'GET', `/v1/jobs/${id}/logs`)).text).not.toContain('the thief was here');
      }
      expect((await deploy(rest, victim, { kind: 'teardown' }, QUIET)).deployment.status).toBe('succeeded');
    },
    TEST_MS,
  );

  /** Every consumer of the agents' streams has dealt with all that is in them. */
  async function everythingHandled(): Promise<void> {
    const manager = await jetstreamManager(spy);
    await until('the streams are worked off', async () => {
      const infos = await Promise.all(['EVENTS', 'LOGS'].map((stream) => manager.consumers.list(stream).next()));
      return infos.flat().every(({ num_pending, num_ack_pending }) => num_pending + num_ack_pending === 0);
    });
  }
});
