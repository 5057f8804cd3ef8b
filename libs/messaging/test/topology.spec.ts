import { jetstreamManager, RetentionPolicy, type JetStreamManager } from '@nats-io/jetstream';
import { connect, type NatsConnection } from '@nats-io/transport-node';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inboxPrefix, SERVICES, type ServiceName } from '#contracts';
import { freePort, requireTool, startNats, type NatsServer } from '#stack';
import { connectNats, Topology } from '../src/index.js';
import { declaredConsumers, declaredStreams } from '../src/topology.js';

let dir: string;
let nats: NatsServer;
const connections: NatsConnection[] = [];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'messaging-topology-'));
  nats = await startNats({ dir });
});
afterEach(async () => {
  await Promise.all(connections.splice(0).map((connection) => connection.close()));
  await nats.stop();
  await rm(dir, { recursive: true, force: true });
});

async function connected(service: ServiceName): Promise<NatsConnection> {
  const connection = await connectNats({
    servers: [nats.url],
    name: service,
    inboxPrefix: inboxPrefix(service.replaceAll('-', '_')),
    credentials: await nats.serviceCreds(service),
  });
  connections.push(connection);
  return connection;
}
const manager = (connection: NatsConnection): Promise<JetStreamManager> =>
  jetstreamManager(connection, { checkAPI: false });

test('all services at once make the same streams and every durable of all of them', async () => {
  const all: NatsConnection[] = [];
  for (const service of SERVICES) all.push(await connected(service));
  await Promise.all([...all, ...all].map((connection) => new Topology(connection, { replicas: 1 }).ensure()));
  const { streams, consumers } = await manager(all[0]!);
  for (const [name, declared] of declaredStreams()) {
    const { config } = await streams.info(name);
    expect(config).toMatchObject({
      subjects: declared.subjects,
      retention: declared.retention,
      max_bytes: declared.maxBytes,
      discard: 'new',
      storage: 'file',
    });
  }
  expect(declaredConsumers().map(({ name }) => name)).toEqual([
    'job_scheduler_events',
    'telemetry_events',
    'telemetry_logs',
    'gateway_facts',
    'telemetry_facts',
  ]);
  for (const { stream, name, filters } of declaredConsumers()) {
    const { config } = await consumers.info(stream, name);
    expect(config.filter_subjects?.toSorted()).toEqual(filters.toSorted());
  }
});

test('settings that changed are updated: sizes, subjects, filters, ack wait', async () => {
  const connection = await connected('telemetry');
  await new Topology(connection, {}).ensure();
  const { streams, consumers } = await manager(connection);
  const events = await streams.info('EVENTS');
  await streams.update('EVENTS', { ...events.config, max_bytes: 1_000_000, subjects: ['ims.v1.events.*.*.*'] });
  const durable = await consumers.info('EVENTS', 'job_scheduler_events');
  const filter = { filter_subjects: [], filter_subject: 'ims.v1.events.*.*.step' };
  await consumers.update('EVENTS', 'job_scheduler_events', { ...durable.config, ...filter });
  await new Topology(connection, { ackWaitMs: 3_000 }).ensure();
  expect((await streams.info('EVENTS')).config).toMatchObject({ max_bytes: 1024 ** 3, subjects: ['ims.v1.events.>'] });
  const { config } = await consumers.info('EVENTS', 'job_scheduler_events');
  expect(config.filter_subjects?.toSorted()).toEqual(['ims.v1.events.*.*.result', 'ims.v1.events.*.*.step']);
  expect(config.ack_wait).toBe(3_000_000_000);
  // Nothing differs any more, so nothing is touched: replicas that start later do not fight.
  const before = await streams.info('EVENTS');
  await new Topology(connection, { ackWaitMs: 3_000 }).ensure();
  expect((await streams.info('EVENTS')).config).toEqual(before.config);
});

test('on a server with too little disk the streams are smaller, and stay so', async () => {
  const small = await mkdtemp(join(tmpdir(), 'messaging-small-'));
  const port = await freePort();
  const config = join(small, 'nats.conf');
  const text = `listen: "127.0.0.1:${port}"\njetstream { store_dir: "${small}", max_file_store: 2GB }\n`;
  await writeFile(config, text);
  const { path } = await requireTool('nats-server');
  const server = spawn(path, ['-c', config], { stdio: 'ignore' });
  const exited = once(server, 'exit');
  const connection = await connect({ servers: `127.0.0.1:${port}`, waitOnFirstConnect: true, reconnectTimeWait: 50 });
  try {
    for (let start = 1; start <= 2; start++) await new Topology(connection, {}).ensure();
    const { streams } = await manager(connection);
    let total = 0;
    for (const [name] of declaredStreams()) total += (await streams.info(name)).config.max_bytes;
    expect(total).toBeLessThanOrEqual(2 * 1024 ** 3);
    expect(total).toBeGreaterThan(1024 ** 3);
  } finally {
    await connection.close();
    server.kill('SIGKILL');
    await exited;
    await rm(small, { recursive: true, force: true });
  }
});

test('a stream whose kind differs is left alone and named', async () => {
  const connection = await connected('telemetry');
  const { streams } = await manager(connection);
  await streams.add({ name: 'EVENTS', subjects: ['ims.v1.events.>'], retention: RetentionPolicy.Workqueue });
  await expect(new Topology(connection, {}).ensure()).rejects.toThrow(
    /stream EVENTS has discard old, not new; .*retention workqueue, not interest: drain and delete it/,
  );
});
