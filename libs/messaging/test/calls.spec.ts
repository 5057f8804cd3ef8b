import { Injectable, Module, type INestApplicationContext } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { headers, type NatsConnection } from '@nats-io/transport-node';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  claimJob,
  CONTRACTS,
  Envelope,
  HEADERS,
  ImsError,
  inboxPrefix,
  jobCancel,
  jobChanged,
  LIMITS,
  listPullTokens,
  newId,
  revokeJobTokens,
  type AnyContract,
  type Claim,
  type Grant,
  type JobChanged,
  type ListTokens,
  type PullTokenPage,
  type RevokeJobTokens,
  type ServiceName,
  type StopOrder,
} from '#contracts';
import { currentContext, newContext, PlatformModule, runInContext, ServiceHealth } from '#platform';
import { startNats, type NatsServer } from '#stack';
import { Bus, connectNats, Hears, MessagingModule, Serves, type MessageContext } from '../src/index.js';

let dir: string;
let nats: NatsServer;
const opened: NatsConnection[] = [];
const apps: INestApplicationContext[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'messaging-calls-'));
  nats = await startNats({ dir, websocket: true });
});
afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
  await Promise.all(opened.splice(0).map((connection) => connection.close()));
});
afterAll(async () => {
  await nats.stop();
  await rm(dir, { recursive: true, force: true });
});

async function startApp(
  service: ServiceName,
  provider: new () => object,
  handled: AnyContract[],
): Promise<INestApplicationContext> {
  const messaging = MessagingModule.forService({
    service,
    servers: [nats.url],
    ...(await nats.serviceCreds(service)),
    unhandled: CONTRACTS.filter((contract) => !handled.includes(contract)),
  });
  @Module({ imports: [PlatformModule.forRoot(), messaging], providers: [provider] })
  class App {}
  const app = await NestFactory.createApplicationContext(App, { logger: false, abortOnError: false });
  apps.push(app);
  return app;
}

async function busOf(owner: ServiceName): Promise<Bus> {
  const inbox = inboxPrefix(owner.replaceAll('-', '_'));
  const credentials = await nats.serviceCreds(owner);
  const connection = await connectNats({ servers: [nats.url], name: owner, inboxPrefix: inbox, credentials });
  opened.push(connection);
  return new Bus(connection);
}
async function agentBus(agent: string, url = nats.url): Promise<Bus> {
  const credentials = await nats.agentCreds('install', agent);
  const connection = await connectNats({
    servers: [url],
    name: agent,
    inboxPrefix: inboxPrefix(agent),
    credentials,
  });
  opened.push(connection);
  return new Bus(connection);
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const endMs = performance.now() + 90_000;
  while (!(await condition())) {
    if (performance.now() > endMs) throw new Error(`not within 30 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
const refusal = async (work: Promise<unknown>): Promise<ImsError> => {
  const thrown: unknown = await work.then(() => undefined).catch((error: unknown) => error);
  if (!(thrown instanceof ImsError)) throw new Error(`expected an ImsError, got ${String(thrown)}`);
  return thrown;
};

const query: ListTokens = { vendor_id: newId('vendor'), install_id: newId('install') };
const revoke: RevokeJobTokens = { vendor_id: newId('vendor'), job_id: newId('job') };

@Injectable()
class Tokens {
  seen: { body: ListTokens; context: MessageContext; running: string | undefined }[] = [];
  list: (body: ListTokens) => Promise<PullTokenPage> = () => Promise.resolve({ data: [] });

  @Serves(listPullTokens) onList(body: ListTokens, context: MessageContext): Promise<PullTokenPage> {
    this.seen.push({ body, context, running: currentContext()?.requestId });
    return this.list(body);
  }
  @Serves(revokeJobTokens) onRevoke(): Promise<PullTokenPage> {
    return Promise.resolve({ data: [] });
  }
}
const startTokens = async (): Promise<Tokens> => {
  const app = await startApp('registry-token', Tokens, [listPullTokens, revokeJobTokens]);
  return app.get(Tokens);
};

describe('a call between services', () => {
  test('is answered, in the context of the request that it belongs to', async () => {
    const tokens = await startTokens();
    const gateway = await busOf('gateway');
    const context = newContext('req-of-the-customer');
    const page = await runInContext(context, () => gateway.call(listPullTokens, query));
    expect(page).toEqual({ data: [] });
    const [seen] = tokens.seen;
    expect(seen?.body).toEqual(query);
    expect(seen?.running).toBe('req-of-the-customer');
    expect(seen?.context).toMatchObject({ requestId: 'req-of-the-customer', parts: {}, deliveries: 1 });
    // The same trace, another span.
    expect(seen?.context.traceparent.slice(0, 35)).toBe(context.traceparent.slice(0, 35));
  });

  test('says who caused it', async () => {
    const tokens = await startTokens();
    const gateway = await busOf('gateway');
    const context = { ...newContext(), actor: 'key:key_01' };
    await runInContext(context, () => gateway.call(listPullTokens, query));
    await gateway.call(listPullTokens, query);
    expect(tokens.seen.map(({ context: { actor } }) => actor)).toEqual(['key:key_01', undefined]);
  });

  test('gives the error of the service by its code', async () => {
    const tokens = await startTokens();
    const gateway = await busOf('gateway');
    tokens.list = () => Promise.reject(new ImsError('not_found', 'there is no such install'));
    expect(await refusal(gateway.call(listPullTokens, query))).toMatchObject({
      code: 'not_found',
      detail: 'there is no such install',
    });
  });

  test('a fault of the service is `internal` and keeps its cause at home', async () => {
    const tokens = await startTokens();
    const gateway = await busOf('gateway');
    tokens.list = () => Promise.reject(new Error('password=hunter2 refused'));
    const error = await refusal(gateway.call(listPullTokens, query));
    expect(error.code).toBe('internal');
    expect(JSON.stringify(error)).not.toContain('hunter2');
  });

  test('a body without its shape does not reach the handler; the field is named', async () => {
    const tokens = await startTokens();
    const gateway = await busOf('gateway');
    const error = await refusal(gateway.call(listPullTokens, { ...query, install_id: 'ins_1' }));
    expect(error.code).toBe('invalid_request');
    expect(error.errors).toEqual([expect.objectContaining({ pointer: '/install_id' })]);
    expect(tokens.seen).toEqual([]);
  });

  test('a reply without its shape is a fault, not a value', async () => {
    const tokens = await startTokens();
    const gateway = await busOf('gateway');
    tokens.list = () => Promise.resolve({ rows: [] } as unknown as PullTokenPage);
    expect(await refusal(gateway.call(listPullTokens, query))).toMatchObject({ code: 'internal' });
  });

  test('nobody serves it: unavailable at once, naming the service', async () => {
    const gateway = await busOf('gateway');
    const startMs = performance.now();
    expect(await refusal(gateway.call(listPullTokens, query))).toMatchObject({
      code: 'unavailable',
      detail: 'registry-token (registry_token.list): nobody answers',
    });
    expect(performance.now() - startMs).toBeLessThan(listPullTokens.timeoutMs / 2);
  });

  test('no answer in time: unavailable', async () => {
    const tokens = await startTokens();
    const gateway = await busOf('gateway');
    let end: (page: PullTokenPage) => void = () => undefined;
    tokens.list = () => new Promise((resolve) => (end = resolve));
    const error = await refusal(gateway.call({ ...listPullTokens, timeoutMs: 100 }, query));
    expect(error).toMatchObject({ code: 'unavailable', detail: 'registry-token (registry_token.list): timeout' });
    end({ data: [] });
  });

  test('what is too large for a message is refused by the sender, and by the replier', async () => {
    const tokens = await startTokens();
    const gateway = await busOf('gateway');
    const much = 'x'.repeat(LIMITS.messageBytes);
    const large = { ...query, cursor: much };
    expect(await refusal(gateway.call(listPullTokens, large))).toMatchObject({ code: 'payload_too_large' });
    tokens.list = () => Promise.resolve({ data: [], next_cursor: much });
    expect(await refusal(gateway.call(listPullTokens, query))).toMatchObject({ code: 'payload_too_large' });
  });

  test('a service may not make the calls of another', async () => {
    await startTokens();
    const telemetry = await busOf('telemetry');
    expect(await refusal(telemetry.call(listPullTokens, query))).toMatchObject({ code: 'forbidden' });
  });

  test('with two replicas each call is handled once', async () => {
    const [one, two] = [await startTokens(), await startTokens()];
    const gateway = await busOf('gateway');
    await Promise.all(Array.from({ length: 40 }, () => gateway.call(listPullTokens, query)));
    expect(one.seen.length + two.seen.length).toBe(40);
    expect(Math.min(one.seen.length, two.seen.length)).toBeGreaterThan(0);
  });

  test('a draining replica still answers what it has begun', async () => {
    const tokens = await startTokens();
    const gateway = await busOf('gateway');
    let end: (page: PullTokenPage) => void = () => undefined;
    tokens.list = () => new Promise((resolve) => (end = resolve));
    const answer = gateway.call(listPullTokens, query);
    await until(() => tokens.seen.length === 1, 'the call arrived');
    const scheduler = await busOf('job-scheduler');
    const closing = apps[0]?.close();
    const untilRefused = async (): Promise<void> => {
      for (;;) await scheduler.call(revokeJobTokens, revoke);
    };
    expect(await refusal(untilRefused())).toMatchObject({ code: 'unavailable' });
    end({ data: [] });
    await expect(answer).resolves.toEqual({ data: [] });
    await closing;
  });
});

describe('a service', () => {
  test('that lacks a handler does not start, and leaves no connection behind', async () => {
    @Injectable()
    class Half {
      @Serves(listPullTokens) list(): Promise<PullTokenPage> {
        return Promise.resolve({ data: [] });
      }
    }
    await expect(startApp('registry-token', Half, [listPullTokens, revokeJobTokens])).rejects.toThrow(
      'registry_token.revoke/1 (body RevokeJobTokens) has no handler: add @Serves to a method',
    );
    // The server lists a connection until it has seen its end.
    await until(async () => {
      const { connections } = (await (await fetch(`${nats.monitorUrl}/connz`)).json()) as { connections: unknown[] };
      return connections.length === 0;
    }, 'no connection is left');
  });

  test('is ready while NATS answers, and not when it is away', async () => {
    const health = (await startApp('registry-token', Tokens, [listPullTokens, revokeJobTokens])).get(ServiceHealth);
    expect(await health.run()).toEqual([expect.objectContaining({ name: 'nats', ok: true })]);
    await nats.kill();
    expect(await health.run()).toEqual([expect.objectContaining({ name: 'nats', ok: false })]);
    await nats.restart();
    const gateway = await busOf('gateway');
    await until(
      () =>
        gateway.call(listPullTokens, query).then(
          () => true,
          () => false,
        ),
      'it serves again',
    );
    expect(await health.run()).toEqual([expect.objectContaining({ name: 'nats', ok: true })]);
  });
});

const grant = (): Grant => ({
  attempt: 1,
  lease_ms: 12_000,
  statement: Object.assign(new Envelope(), { payload_type: 't', payload: 'eA==', key_id: 'k', signature: 's' }),
});
@Injectable()
class Claims {
  readonly agents: (string | undefined)[] = [];
  readonly actors: (string | undefined)[] = [];
  @Serves(claimJob) onClaim(_body: Claim, context: MessageContext): Promise<Grant> {
    this.agents.push(context.parts['agent']);
    this.actors.push(context.actor);
    return Promise.resolve(grant());
  }
}
const startClaims = async (): Promise<{ claims: Claims; scheduler: Bus }> => {
  const app = await startApp('job-scheduler', Claims, [claimJob]);
  return { claims: app.get(Claims), scheduler: app.get(Bus) };
};
const claim: Claim = { job_id: newId('job'), session_id: 'session-1' };

describe('an agent', () => {
  test('is served under its own id, which the handler can trust', async () => {
    const { claims } = await startClaims();
    const agent = newId('agent');
    const bus = await agentBus(agent);
    await expect(bus.call(claimJob, claim, { agent })).resolves.toMatchObject({ attempt: 1 });
    expect(claims.agents).toEqual([agent]);
  });

  test('is served through WebSocket alike, where a firewall lets nothing else out', async () => {
    const { claims } = await startClaims();
    const agent = newId('agent');
    const bus = await agentBus(agent, nats.websocketUrl);
    await expect(bus.call(claimJob, claim, { agent })).resolves.toMatchObject({ attempt: 1 });
    expect(claims.agents).toEqual([agent]);
  });

  test('cannot call as another', async () => {
    const { claims } = await startClaims();
    const bus = await agentBus(newId('agent'));
    expect(await refusal(bus.call(claimJob, claim, { agent: newId('agent') }))).toMatchObject({ code: 'forbidden' });
    expect(claims.agents).toEqual([]);
  });

  test('cannot have a service answer at another agent’s subjects', async () => {
    const { claims } = await startClaims();
    const [mallory, victim] = [newId('agent'), newId('agent')];
    const [malloryBus, victimBus] = [await agentBus(mallory), await agentBus(victim)];
    const received: string[] = [];
    for (const subject of [`_INBOX.${victim}.>`, `ims.v1.control.${victim}.*.cancel`]) {
      victimBus.connection.subscribe(subject, {
        callback: (_error, message) => {
          received.push(message.subject);
        },
      });
    }
    await victimBus.connection.flush();
    const subject = `ims.v1.rpc.${mallory}.claim`;
    const data = JSON.stringify(claim);
    for (const reply of [`_INBOX.${victim}.1`, `ims.v1.control.${victim}.${claim.job_id}.cancel`, `_INBOX.${victim}`]) {
      malloryBus.connection.publish(subject, data, { reply });
    }
    // Messages of one connection keep their order: when this is answered, the others have been looked at.
    await malloryBus.call(claimJob, claim, { agent: mallory });
    await victimBus.connection.flush();
    expect(claims.agents).toEqual([mallory]);
    expect(received).toEqual([]);
  });

  test('without a request context of its own gets one, and a malformed one is replaced', async () => {
    const { claims } = await startClaims();
    const agent = newId('agent');
    const bus = await agentBus(agent);
    const sent = headers();
    sent.set(HEADERS.requestId, 'bad id');
    sent.set(HEADERS.actor, 'key:key_of_the_vendor');
    const options = { timeout: 5_000, headers: sent };
    const reply = await bus.connection.request(`ims.v1.rpc.${agent}.claim`, JSON.stringify(claim), options);
    expect(reply.json()).toMatchObject({ ok: true });
    expect(claims.agents).toEqual([agent]);
    // What an agent says of who caused a call is not believed.
    expect(claims.actors).toEqual([undefined]);
  });

  test('hears what is for it and nothing else', async () => {
    const { scheduler } = await startClaims();
    const [agent, other, job] = [newId('agent'), newId('agent'), newId('job')];
    const bus = await agentBus(agent);
    const heard: StopOrder[] = [];
    const listening = bus.onSignal(jobCancel, { agent }, (body, context) => {
      expect(context.parts).toEqual({ agent, job });
      heard.push(body);
    });
    await bus.connection.flush();
    const order: StopOrder = { job_id: job, attempt: 1, code: 'cancelled', force: false, reason: 'asked' };
    scheduler.signal(jobCancel, { agent: other, job }, order);
    scheduler.signal(jobCancel, { agent, job }, { ...order, job_id: newId('job') });
    scheduler.signal(jobCancel, { agent, job }, order);
    await until(() => heard.length > 0, 'the cancel arrived');
    expect(heard).toEqual([order]);
    listening.stop();
    scheduler.signal(jobCancel, { agent, job }, order);
    await scheduler.connection.flush();
    await bus.connection.flush();
    expect(heard).toHaveLength(1);
  });
});

@Injectable()
class Tails {
  readonly heard: string[] = [];
  @Hears(jobChanged) onChange(body: JobChanged): void {
    this.heard.push(body.status);
    if (body.status === 'boom') throw new Error('a listener that fails');
  }
}

test('a signal reaches every replica, and a handler that fails does not stop the next', async () => {
  const replicas = [await startApp('gateway', Tails, [jobChanged]), await startApp('gateway', Tails, [jobChanged])];
  const tails = replicas.map((app) => app.get(Tails));
  const scheduler = await busOf('job-scheduler');
  const job = newId('job');
  scheduler.signal(jobChanged, { job }, { job_id: job, status: 'boom' });
  scheduler.signal(jobChanged, { job }, { job_id: job, status: 'running' });
  await until(() => tails.every(({ heard }) => heard.length === 2), 'both heard both');
});
