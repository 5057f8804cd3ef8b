import { newId, type AgentKind, type Enrolment } from '#contracts';
import { createNkey } from '#messaging';

/** What an enrolment answers, as far as the test does not say otherwise. */
export function enrolmentOf(kind: AgentKind, more: Partial<Enrolment> = {}): Enrolment {
  return {
    agent_id: newId('agent'),
    kind,
    vendor_id: newId('vendor'),
    ...(kind === 'install' ? { install_id: newId('install') } : {}),
    nats_urls: ['nats://127.0.0.1:1'],
    nats_jwt: 'jwt-1',
    nats_jwt_expires_at: new Date(Date.now() + 3_600_000).toISOString(),
    job_keys: [createNkey('account').publicKey],
    registry_token_url: 'http://127.0.0.1:1',
    vendor_registry: { url: 'http://127.0.0.1:2', namespace: 'acme' },
    vendor_keys: [],
    ...more,
  };
}
export const TOKEN = 'ims_enr_0123456789_abcdefghijkl';
