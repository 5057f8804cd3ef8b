import { Injectable, Module, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { jetstream, jetstreamManager, type ConsumerInfo, type JetStreamManager, type JsMsg } from '@nats-io/jetstream';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CONTRACTS,
  HEADERS,
  ImsError,
  inboxPrefix,
  jobOffer,
  jobResult,
  jobStep,
  newId,
  offersOf,
  shardOf,
  type AgentId,
  type JobId,
  type JobResult,
  type StepReport,
} from '#contracts';
import { PlatformModule } from '#platform';
import { startNats, type NatsServer } from '#stack';
import {
  Bus,
  connectNats,
  Consumes,
  ensureAgentConsumer,
  MessagingModule,
  RawPublisher,
  reject,
  removeAgentConsumer,
  retryAfter,
  type MessageContext,
  type MessagingOptions,
  type Outcome,
} from '../src/index.js';

let dir: string;
let nats: NatsServer;
const apps: INestApplicationContext[] = [];
const ends: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'messaging-streams-'));
  nats = await startNats({ dir });
});
afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
  for (const end of ends.splice(0)) await end();
});
afterAll(async () => {
  await nats.stop();
  await rm(dir, { recursive: true, force: true });
});

type Handler = (body: StepReport | JobResult, context: MessageContext) => Promise<Outcome>;
const ACK_WAIT_MS = 1_000;
const HANDLED = [jobStep, jobResult];

interface Scheduler {
  readonly app: INestApplicationContext;
  readonly bus: Bus;
  readonly seen: { subject: string; name: string; deliveries: number; at: number }[];
}

async function startScheduler(handler: Handler, consumers: MessagingOptions['consumers'] = {}): Promise<Scheduler> {
  const seen: Scheduler['seen'] = [];
  const handle = (subject: string, name: string, body: StepReport | JobResult, context: MessageContext) => {
    seen.push({ subject, name, deliveries: context.deliveries, at: performance.now() });
    return handler(body, context);
  };
  @Injectable()
  class Engine {
    @Consumes(jobStep) step(body: StepReport, context: MessageContext): Promise<Outcome> {
      return handle(body.job_id, body.steps[0]!.name, body, context);
    }
    @Consumes(jobResult) result(body: JobResult, context: MessageContext): Promise<Outcome> {
      return handle(body.job_id, 'result', body, context);
    }
  }
  const messaging = MessagingModule.forService({
    service: 'job-scheduler',
    servers: [nats.url],
    ...(await nats.serviceCreds('job-scheduler')),
    unhandled: CONTRACTS.filter((contract) => !(HANDLED as unknown[]).includes(contract)),
    consumers: { ackWaitMs: ACK_WAIT_MS, ...consumers },
  });
  @Module({ imports: [PlatformModule.forRoot(), messaging], providers: [Engine] })
  class App {}
  const app = await NestFactory.createApplicationContext(App, { logger: false, abortOnError: false });
  apps.push(app);
  return { app, bus: app.get(Bus), seen };
}

async function agentBus(agent: AgentId): Promise<Bus> {
  const connection = await connectNats({
    servers: [nats.url],
    name: agent,
    inboxPrefix: inboxPrefix(agent),
    credentials: await nats.agentCreds('install', agent),
  });
  ends.push(() => connection.close());
  return new Bus(connection);
}

/** An agent that reports on its jobs. */
async function reporter() {
  const agent = newId('agent');
  const bus = await agentBus(agent);
  return {
    agent,
    bus,
    step: (job: JobId, name: string, id = `${job}.${name}`) =>
      bus.publish(jobStep, { agent, job }, report(job, name), id),
    result: (job: JobId) =>
      bus.publish(
        jobResult,
        { agent, job },
        { job_id: job, attempt: 1, session_id: 'session-1', outcome: 'succeeded', result: {} },
        `${job}.result`,
      ),
  };
}
const report = (job: JobId, name: string): StepReport => ({
  job_id: job,
  attempt: 1,
  session_id: 'session-1',
  steps: [{ name, status: 'done', started_at: '2026-01-01T00:00:00.000Z' }],
});

async function until(condition: () => boolean | Promise<boolean>, what: string, ms = 90_000): Promise<void> {
  const endMs = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`not within ${ms} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
const manager = (bus: Bus): Promise<JetStreamManager> => jetstreamManager(bus.connection, { checkAPI: false });
const messagesIn = async (bus: Bus, stream: string): Promise<number> =>
  (await (await manager(bus)).streams.info(stream)).state.messages;
const gate = (): { open: () => void; opened: Promise<void> } => {
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open, opened };
};
/** The newest dead letter of a job. */
async function deadLetter(
  bus: Bus,
  job: JobId,
): Promise<{ subject: string; header: (name: string) => string; text: string } | undefined> {
  const { streams } = await manager(bus);
  const { state } = await streams.info('DEAD');
  for (let seq = state.last_seq; seq >= Math.max(1, state.first_seq); seq--) {
    const message = await streams.getMessage('DEAD', { seq });
    if (message?.header.get(HEADERS.deadSubject).includes(job)) {
      const { header, subject } = message;
      return { subject, header: (name) => header.get(name), text: message.string() };
    }
  }
  return undefined;
}
const done: Handler = () => Promise.resolve();

describe('settlement', () => {
  test('a message that was dealt with is gone', async () => {
    const { bus, seen } = await startScheduler(done);
    const agent = await reporter();
    const job = newId('job');
    await agent.step(job, 'pull');
    await until(() => seen.length === 1, 'it was handled');
    expect(seen[0]).toMatchObject({ subject: job, name: 'pull', deliveries: 1 });
    await until(async () => (await messagesIn(bus, 'EVENTS')) === 0, 'the stream is empty');
  });

  test('a handler that throws, or asks for it, gets the message again', async () => {
    const { seen } = await startScheduler((_body, { deliveries }) => {
      if (deliveries === 1) return Promise.reject(new Error('deadlock detected'));
      return Promise.resolve(deliveries === 2 ? retryAfter(50) : undefined);
    });
    const agent = await reporter();
    await agent.result(newId('job'));
    await until(() => seen.length === 3, 'it was handled three times');
    expect(seen.map(({ deliveries }) => deliveries)).toEqual([1, 2, 3]);
  });

  test('a rejected message is a dead letter that says why', async () => {
    const { bus } = await startScheduler(() => Promise.resolve(reject('stale_attempt', 'attempt 2\nhas taken over')));
    const agent = await reporter();
    const job = newId('job');
    await agent.step(job, 'pull');
    let dead: Awaited<ReturnType<typeof deadLetter>>;
    await until(async () => (dead = await deadLetter(bus, job)) !== undefined, 'the dead letter is there');
    expect(dead?.subject).toBe('ims.v1.dead.job_scheduler.job_step');
    expect(dead?.header(HEADERS.deadCode)).toBe('stale_attempt');
    expect(dead?.header(HEADERS.deadCause)).toBe('attempt 2 has taken over');
    expect(dead?.header(HEADERS.deadSubject)).toBe(`ims.v1.events.${agent.agent}.${job}.step`);
    expect(dead?.header(HEADERS.contract)).toBe('job.step/1');
    expect(JSON.parse(dead?.text ?? '')).toEqual(report(job, 'pull'));
    await until(async () => (await messagesIn(bus, 'EVENTS')) === 0, 'it is given up');
  });

  test.each([
    ['no JSON', () => '{"job_id":', 'malformed_body'],
    ['another shape', () => '{"attempt":"one"}', 'invalid_request'],
    ['another job than its subject', () => JSON.stringify(report(newId('job'), 'pull')), 'invalid_request'],
  ])('a body with %s is a dead letter and never reaches the handler', async (_, body, code) => {
    const { bus, seen } = await startScheduler(done);
    const { agent, bus: sender } = await reporter();
    const job = newId('job');
    await jetstream(sender.connection).publish(`ims.v1.events.${agent}.${job}.step`, body());
    let dead: Awaited<ReturnType<typeof deadLetter>>;
    await until(async () => (dead = await deadLetter(bus, job)) !== undefined, 'the dead letter is there');
    expect(dead?.header(HEADERS.deadCode)).toBe(code);
    expect(seen).toEqual([]);
  });

  test('while the dead letters cannot be stored the message is kept', async () => {
    const { bus, seen } = await startScheduler((_body, { deliveries }) =>
      Promise.resolve(deliveries === 1 ? reject('internal', 'x') : undefined),
    );
    const { streams } = await manager(bus);
    const { config } = await streams.info('DEAD');
    await streams.update('DEAD', { ...config, max_bytes: 1 });
    const agent = await reporter();
    await agent.step(newId('job'), 'pull');
    await until(() => seen.length === 1, 'it was rejected');
    await until(async () => (await ackPending(bus)) === 1, 'it waits for another try');
    expect(await messagesIn(bus, 'EVENTS')).toBe(1);
    await streams.update('DEAD', config);
    await streams.purge('EVENTS');
  });
});
const ackPending = async (bus: Bus): Promise<number> =>
  (await (await manager(bus)).consumers.info('EVENTS', 'job_scheduler_events')).num_ack_pending;

describe('delivery', () => {
  test('the same message id is stored once', async () => {
    const { bus, seen } = await startScheduler(done);
    const agent = await reporter();
    const job = newId('job');
    for (let i = 0; i < 3; i++) await agent.step(job, 'pull', 'the-same');
    await agent.step(job, 'verify');
    await until(async () => seen.length >= 2 && (await messagesIn(bus, 'EVENTS')) === 0, 'all is handled');
    expect(seen.map(({ name }) => name)).toEqual(['pull', 'verify']);
  });

  test('an outbox publishes bytes and headers as they are', async () => {
    const { app, seen } = await startScheduler(done);
    const [agent, job] = [newId('agent'), newId('job')];
    const body = JSON.stringify(report(job, 'pull'));
    const given = { [HEADERS.requestId]: 'req-from-outbox' };
    const publisher = app.get(RawPublisher);
    // What contracts name only. (It may say again what any stream carries: dead letters are sent again by it.)
    await expect(publisher.publish(`ims.v1.events.${agent}.${job}.other`, given, body, 'id-1')).rejects.toMatchObject({
      code: 'forbidden',
    });
    await publisher.publish(`ims.v1.facts.${newId('vendor')}._.recorded`, given, body, 'id-1');
    expect(seen).toEqual([]);
  });

  test('a replica that crashed without acknowledging: another one gets the message', async () => {
    const hang = await startScheduler(() => new Promise(() => undefined));
    const agent = await reporter();
    await agent.step(newId('job'), 'pull');
    await until(() => hang.seen.length === 1, 'the first replica has it');
    await hang.bus.connection.close();
    apps.splice(0);
    const next = await startScheduler(done);
    await until(() => next.seen.length === 1, 'the second replica has it');
    expect(next.seen[0]?.deliveries).toBe(2);
  });

  test('a handler that takes longer than the ack wait keeps its message', async () => {
    const { open, opened } = gate();
    const { bus, seen } = await startScheduler(() => opened);
    const other = await startScheduler(done);
    const agent = await reporter();
    // Whichever replica gets one first: the first one hangs on all of its own.
    const jobs = Array.from({ length: 8 }, () => newId('job'));
    for (const job of jobs) await agent.step(job, 'pull');
    await until(() => seen.length + other.seen.length === jobs.length && seen.length > 0, 'all are out');
    // Real time has to pass here: three ack waits without a redelivery.
    await new Promise((resolve) => setTimeout(resolve, 3 * ACK_WAIT_MS));
    open();
    await until(async () => (await messagesIn(bus, 'EVENTS')) === 0, 'all is acknowledged');
    expect([...seen, ...other.seen].map(({ deliveries }) => deliveries)).toEqual(jobs.map(() => 1));
  });

  test('messages of one job come one after the other, jobs do not wait for each other', async () => {
    const { open, opened } = gate();
    const [slow, quick] = [newId('job'), newId('job')];
    let slowNow = 0;
    let mostSlow = 0;
    const order: string[] = [];
    const { seen } = await startScheduler(async (body) => {
      if (body.job_id !== slow) return;
      slowNow += 1;
      mostSlow = Math.max(mostSlow, slowNow);
      await opened;
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
      order.push('outcome' in body ? 'result' : body.steps[0]!.name);
      slowNow -= 1;
    });
    const agent = await reporter();
    const names = Array.from({ length: 10 }, (_, i) => `step-${i}`);
    for (const name of names) await agent.step(slow, name);
    await agent.result(slow);
    await agent.step(quick, 'pull');
    await until(() => seen.some(({ subject }) => subject === quick), 'the other job is not held up');
    expect(order).toEqual([]);
    open();
    await until(() => order.length === names.length + 1, 'all are handled');
    expect(order).toEqual([...names, 'result']);
    expect(mostSlow).toBe(1);
  });

  test('at most `concurrency` messages are in hand, and all come through', async () => {
    let now = 0;
    let most = 0;
    const { seen } = await startScheduler(
      async () => {
        most = Math.max(most, ++now);
        await new Promise((resolve) => setTimeout(resolve, 5));
        now -= 1;
      },
      { concurrency: 3 },
    );
    const agent = await reporter();
    await Promise.all(Array.from({ length: 60 }, () => agent.step(newId('job'), 'pull')));
    await until(() => seen.length === 60 && now === 0, 'all are handled');
    expect(most).toBe(3);
  });

  test('a replica that drains finishes what it began and gives the rest back at once', async () => {
    const { open, opened } = gate();
    const first = await startScheduler(() => opened, { concurrency: 1, ackWaitMs: 30_000 });
    const agent = await reporter();
    const jobs = Array.from({ length: 5 }, () => newId('job'));
    for (const job of jobs) await agent.step(job, 'pull');
    await until(() => first.seen.length === 1, 'the first is in hand');
    const closing = first.app.close();
    try {
      const second = await startScheduler(done, { ackWaitMs: 30_000 });
      // Far below the ack wait: they were given back, not waited for.
      await until(() => second.seen.length === 4, 'the other replica has the rest', 5_000);
      open();
      await closing;
      await until(async () => (await messagesIn(second.bus, 'EVENTS')) === 0, 'all is acknowledged');
      expect([...first.seen, ...second.seen].map(({ subject }) => subject).sort()).toEqual([...jobs].sort());
    } finally {
      open();
    }
  });
});

describe('faults', () => {
  test('a stream deleted while running is made again, and nothing acknowledged after that is lost', async () => {
    const { bus, seen } = await startScheduler(done);
    const agent = await reporter();
    const { streams } = await manager(bus);
    await streams.delete('EVENTS');
    const stored = await publishThrough(agent, 200);
    await until(
      () => stored.every((job) => seen.some(({ subject }) => subject === job)),
      'all stored ones are handled',
    );
    const { config } = await streams.info('EVENTS');
    expect(config.retention).toBe('interest');
  });

  test('a durable deleted while running is made again', async () => {
    const { bus, seen } = await startScheduler(done);
    const agent = await reporter();
    await (await manager(bus)).consumers.delete('EVENTS', 'job_scheduler_events');
    await until(async () => {
      await agent.step(newId('job'), 'pull');
      return seen.length > 0;
    }, 'it consumes again');
  });

  test('NATS killed and back: everything goes on', async () => {
    const { seen } = await startScheduler(done);
    const agent = await reporter();
    const before = newId('job');
    await agent.step(before, 'pull');
    await until(() => seen.length === 1, 'it runs');
    await nats.kill();
    await nats.restart();
    const startMs = performance.now();
    const stored = await publishThrough(agent, 20);
    await until(
      () => stored.every((job) => seen.some(({ subject }) => subject === job)),
      'all stored ones are handled',
    );
    expect(performance.now() - startMs).toBeLessThan(5_000);
  });

  test('a service ends in seconds though NATS is away', async () => {
    const { app, bus } = await startScheduler(done);
    await nats.kill();
    const startMs = performance.now();
    await app.close();
    expect(performance.now() - startMs).toBeLessThan(4_000);
    expect(bus.connection.isClosed()).toBe(true);
    await nats.restart();
  });

  test('NATS comes back with nothing: streams and durables are made again, nothing acknowledged is lost', async () => {
    const { bus, seen } = await startScheduler(done);
    const agent = await reporter();
    await nats.kill();
    await rm(join(dir, 'jetstream'), { recursive: true });
    await nats.restart();
    const stored = await publishThrough(agent, 200);
    await until(
      () => stored.every((job) => seen.some(({ subject }) => subject === job)),
      'all stored ones are handled',
    );
    const names: string[] = [];
    for await (const { config } of (await manager(bus)).streams.list()) names.push(config.name);
    expect(names).toHaveLength(20);
  });
});

/** Publishes until that many were stored, as an agent does: what is refused is sent again. */
async function publishThrough(agent: Awaited<ReturnType<typeof reporter>>, count: number): Promise<JobId[]> {
  const stored: JobId[] = [];
  while (stored.length < count) {
    const job = newId('job');
    try {
      await agent.step(job, 'pull');
      stored.push(job);
    } catch (error) {
      if (!(error instanceof ImsError) || error.code !== 'unavailable') throw error;
    }
  }
  return stored;
}

describe('offers', () => {
  /** As an agent pulls: bound to its consumer by name, without the right to ask about it. */
  async function nextOffer(bus: Bus, agent: AgentId): Promise<JsMsg | null> {
    const { stream, consumer } = offersOf(agent);
    const info = { stream_name: stream, name: consumer, config: { durable_name: consumer } } as ConsumerInfo;
    return jetstream(bus.connection).consumers.getConsumerFromInfo(info).next({ expires: 2_000 });
  }
  const offer = (bus: Bus, agent: AgentId, job: JobId): Promise<void> =>
    bus.publish(jobOffer, { shard: shardOf(agent), agent, job }, { job_id: job, kind: 'apply' }, `${job}.offer.1`);

  test('wait in the agent’s own consumer, as many at a time as it has slots', async () => {
    const { bus } = await startScheduler(done);
    const [agent, jobs] = [newId('agent'), [newId('job'), newId('job'), newId('job')]];
    await Promise.all([1, 2, 3].map(() => ensureAgentConsumer(bus.connection, agent, 1)));
    await ensureAgentConsumer(bus.connection, agent, 2);
    for (const job of jobs) await offer(bus, agent, job);
    const pulling = await agentBus(agent);
    const [one, two] = [await nextOffer(pulling, agent), await nextOffer(pulling, agent)];
    expect([one?.json(), two?.json()]).toEqual(jobs.slice(0, 2).map((job) => ({ job_id: job, kind: 'apply' })));
    const third = nextOffer(pulling, agent);
    await expect(one?.ackAck()).resolves.toBe(true);
    expect((await third)?.json()).toEqual({ job_id: jobs[2], kind: 'apply' });
    await removeAgentConsumer(bus.connection, agent);
    await removeAgentConsumer(bus.connection, agent);
  });

  test('of another agent cannot be pulled', async () => {
    const { bus } = await startScheduler(done);
    const [agent, other] = [newId('agent'), newId('agent')];
    await ensureAgentConsumer(bus.connection, other, 1);
    await offer(bus, other, newId('job'));
    const pulling = await agentBus(agent);
    await expect(nextOffer(pulling, other)).rejects.toThrow();
    const { stream, consumer } = offersOf(other);
    const { num_pending, num_ack_pending } = await (await manager(bus)).consumers.info(stream, consumer);
    expect({ num_pending, num_ack_pending }).toEqual({ num_pending: 1, num_ack_pending: 0 });
  });

  test('a deleted shard: a refused offer brings it back, and so does an agent’s consumer', async () => {
    const { bus } = await startScheduler(done);
    const { streams } = await manager(bus);
    const [agent, job] = [newId('agent'), newId('job')];
    const { stream } = offersOf(agent);
    await streams.delete(stream);
    await ensureAgentConsumer(bus.connection, agent, 1);
    await streams.delete(stream);
    await expect(offer(bus, agent, job)).rejects.toMatchObject({ code: 'unavailable' });
    await until(
      () =>
        offer(bus, agent, job).then(
          () => true,
          () => false,
        ),
      'the offer is taken',
    );
  });
});
