import { hashEvent, newId, type Event } from '#contracts';
import { type FreshDatabase, type NatsServer } from '#stack';
import { TelemetryConfig } from '../src/config.js';

/** Waits until the condition holds; the test's own time limit ends a wait in vain. */
export async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Telemetry's configuration on those servers. */
export async function configOf(nats: NatsServer, fresh: FreshDatabase): Promise<TelemetryConfig> {
  const creds = await nats.serviceCreds('telemetry');
  return Object.assign(new TelemetryConfig(), {
    DATABASE_URL: await fresh.provisionService('telemetry'),
    NATS_URLS: [nats.url],
    NATS_JWT: creds.jwt,
    NATS_SEED: creds.seed,
    HTTP_HOST: '127.0.0.1',
    HTTP_PORT: 0,
    VITALS_DAYS: 7,
    LOG_DAYS: 30,
  });
}

/** The fact that follows in its chain; the first one of a chain without `before`. */
export function nextFact(
  before: Event | undefined,
  fact: Pick<Event, 'type' | 'vendor_id' | 'data'> & Partial<Pick<Event, 'install_id' | 'job_id' | 'agent_id'>>,
): Event {
  const whole = {
    id: newId('event'),
    chain: `job-scheduler:${fact.install_id ?? fact.vendor_id}`,
    seq: (before?.seq ?? 0) + 1,
    at: new Date().toISOString(),
    actor: 'service:job-scheduler',
    ...fact,
  };
  const prev_hash = before?.hash ?? '';
  return { ...whole, prev_hash, hash: hashEvent(prev_hash, whole) };
}
