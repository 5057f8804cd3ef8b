import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { newId, type ServiceName, type VendorId } from '#contracts';
import { Gateway, Peer, type Infrastructure } from './harness.js';

/** The two servers as `#stack` gives them; only specs may enter that room. */
interface Stack {
  readonly startNats: (options: { dir: string }) => Promise<{
    readonly url: string;
    readonly serviceCreds: (service: ServiceName) => Promise<{ jwt: string; seed: string }>;
    stop(): Promise<void>;
    restart(): Promise<void>;
  }>;
  readonly freshDatabase: () => Promise<{
    readonly url: string;
    provisionService(service: string): Promise<string>;
    drop(): Promise<void>;
  }>;
}

/** A gateway with its real PostgreSQL and NATS, the scripted services behind it, and one vendor's key. */
export interface World {
  readonly gateway: Gateway;
  readonly scheduler: Peer;
  readonly telemetry: Peer;
  readonly tokens: Peer;
  readonly vendorId: VendorId;
  readonly key: string;
  readonly infrastructure: Infrastructure;
  readonly databaseUrl: string;
  readonly nats: { restart(): Promise<void> };
  stop(): Promise<void>;
}

export async function startWorld(
  { startNats, freshDatabase }: Stack,
  settings: Record<string, string> = {},
): Promise<World> {
  const dir = await mkdtemp(join(tmpdir(), 'gateway-test-'));
  const [nats, database] = await Promise.all([startNats({ dir }), freshDatabase()]);
  const infrastructure = {
    databaseUrl: await database.provisionService('gateway'),
    natsUrl: nats.url,
    creds: nats.serviceCreds,
  };
  const [scheduler, telemetry, tokens, gateway] = await Promise.all([
    Peer.start('job-scheduler', infrastructure),
    Peer.start('telemetry', infrastructure),
    Peer.start('registry-token', infrastructure),
    Gateway.start(infrastructure, settings),
  ]);
  const vendorId = newId('vendor');
  return {
    gateway,
    scheduler,
    telemetry,
    tokens,
    vendorId,
    key: await gateway.keyFor(vendorId),
    infrastructure,
    databaseUrl: database.url,
    nats,
    stop: async () => {
      await gateway.stop();
      await Promise.all([scheduler, telemetry, tokens].map((peer) => peer.stop()));
      await nats.stop();
      await database.drop();
      await rm(dir, { recursive: true });
    },
  };
}
