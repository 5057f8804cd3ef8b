import { Test } from '@nestjs/testing';
import { LIMITS, PAYLOAD_TYPES, signEnvelope, type AgentRequest } from '#contracts';
import { createNkey, nkeyFromSeed } from '#messaging';
import { Authorisation } from './authorisation.js';
import { RegistryTokenConfig } from './config.js';

describe('Authorisation', () => {
  const scheduler = nkeyFromSeed(createNkey('user').seed);
  const agent = nkeyFromSeed(createNkey('user').seed);
  const now = new Date('2026-01-01T00:00:00.000Z');
  let authorisation: Authorisation;

  beforeAll(async () => {
    const module = await Test.createTestingModule({
      providers: [Authorisation, { provide: RegistryTokenConfig, useValue: { JOB_KEYS: [scheduler.publicKey] } }],
    }).compile();
    authorisation = module.get(Authorisation);
  });

  const request = (more: Partial<AgentRequest> = {}): object => ({
    action: 'issue_pull_token',
    request_id: 'request-1',
    at: now.toISOString(),
    ...more,
  });

  it('takes a request that the key in it has signed, up to a minute off', () => {
    for (const skewMs of [0, LIMITS.requestSkewMs, -LIMITS.requestSkewMs]) {
      const at = new Date(now.getTime() + skewMs).toISOString();
      const envelope = signEnvelope(PAYLOAD_TYPES.agentRequest, request({ at }), agent);
      expect(authorisation.open(envelope, now).key).toBe(agent.publicKey);
    }
  });

  it.each([
    ['a changed payload', { payload: Buffer.from(JSON.stringify({})).toString('base64') }],
    ['another key', { key_id: scheduler.publicKey }],
    ['another type', { payload_type: PAYLOAD_TYPES.job }],
  ])('refuses %s', (_what, change) => {
    const envelope = signEnvelope(PAYLOAD_TYPES.agentRequest, request(), agent);
    expect(() => authorisation.open({ ...envelope, ...change }, now)).toThrow('statement_refused');
  });

  it('refuses a request that is older than the clocks may differ', () => {
    const at = new Date(now.getTime() - LIMITS.requestSkewMs - 1).toISOString();
    const envelope = signEnvelope(PAYLOAD_TYPES.agentRequest, request({ at }), agent);
    expect(() => authorisation.open(envelope, now)).toThrow('statement_refused');
  });

  it('names the field when the job statement is missing', () => {
    const proven = authorisation.open(signEnvelope(PAYLOAD_TYPES.agentRequest, request(), agent), now);
    expect(() => authorisation.jobOf(proven, 'sync', now)).toThrow('/statement');
  });
});
