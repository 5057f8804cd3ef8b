import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { connect, wsconnect, type NatsConnection } from '@nats-io/transport-node';
import { inboxPrefix, jobStream, jobStreamName, JOB_SHARD_NAMES, STREAMS } from '#contracts';
import { natsAuthenticator } from '#messaging';
import { startNats, type NatsServer } from '#stack';

describe('startNats', () => {
  let dir: string;
  let server: NatsServer;

  const dial = async (url = server.url): Promise<NatsConnection> =>
    (url.startsWith('ws') ? wsconnect : connect)({
      servers: url,
      authenticator: natsAuthenticator(await server.serviceCreds('job-scheduler')),
      inboxPrefix: inboxPrefix('job_scheduler'),
    });

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'stack-nats-'));
    server = await startNats({ dir, websocket: true });
  });
  afterAll(async () => {
    await server.stop();
    await rm(dir, { recursive: true });
  });

  it('lets nobody in without credentials', async () => {
    await expect(connect({ servers: server.url, reconnect: false })).rejects.toThrow(/authorization/i);
  });

  it('keeps its secrets in files that only their owner reads', async () => {
    await server.serviceCreds('gateway');
    for (const folder of ['keys', 'creds']) {
      const files = await readdir(join(dir, folder));
      expect(files.length).toBeGreaterThan(0);
      for (const file of files) expect((await stat(join(dir, folder, file))).mode & 0o777).toBe(0o600);
    }
  });

  it('answers over WebSocket too', async () => {
    const nc = await dial(server.websocketUrl);
    await nc.flush();
    await nc.close();
  });

  it('has room for every stream of the product at its full size, and syncs each message', async () => {
    const nc = await dial();
    const jsm = await jetstreamManager(nc);
    const all = [...Object.entries(STREAMS), ...JOB_SHARD_NAMES.map((s) => [jobStreamName(s), jobStream(s)] as const)];
    for (const [name, { subjects, maxBytes }] of all) {
      await jsm.streams.add({ name, subjects: [...subjects], max_bytes: maxBytes });
    }
    expect((await jsm.getAccountInfo()).streams).toBe(all.length);
    const varz = (await (await fetch(`${server.monitorUrl}/varz`)).json()) as {
      max_payload: number;
      jetstream: { config: { sync_always?: boolean } };
    };
    expect(varz.max_payload).toBe(1024 * 1024);
    expect(varz.jetstream.config.sync_always).toBe(true);
    await nc.close();
  });

  it('keeps acknowledged messages and identities through kill -9 and a restart on the same port', async () => {
    const before = await dial();
    await jetstream(before).publish('ims.v1.dead.kept', 'kept');
    await before.close();
    const { keys, url, pid } = server;
    await server.kill();
    expect(server.pid).toBeUndefined();
    await expect(connect({ servers: url, reconnect: false, timeout: 1_000 })).rejects.toThrow(/refused/i);
    await server.restart();
    expect(server.pid).not.toBe(pid);
    const after = await dial(url);
    const message = await (
      await jetstreamManager(after)
    ).streams.getMessage('DEAD', { last_by_subj: 'ims.v1.dead.kept' });
    expect(message?.string()).toBe('kept');
    await after.close();
    await server.stop();
    server = await startNats({ dir });
    expect(server.keys).toEqual(keys);
    await (await dial()).close();
  });
});
