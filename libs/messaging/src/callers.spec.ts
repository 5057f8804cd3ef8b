import { agentHello, createEnrolmentToken, LIMITS, type Call } from '#contracts';
import { CallerCheck, signCall } from './callers.js';
import { createNkey, nkeyFromSeed } from './nkeys.js';

const key = () => nkeyFromSeed(createNkey('user').seed);
const [gateway, next, telemetry, thief] = [key(), key(), key(), key()];
const KEYS = `gateway=${gateway.publicKey},gateway=${next.publicKey}, telemetry=${telemetry.publicKey}`;
const contract = createEnrolmentToken as unknown as Call<object, object>;
const { subject } = contract;
const data = Buffer.from('{"agent_id":"a"}');
const actor = 'key:key_01';
const now = 1_800_000_000_000;
const proof = (signer = gateway, service: 'gateway' | 'telemetry' = 'gateway'): string =>
  signCall({ service, key: signer }, { subject, data, actor }, now);
const check =
  (header: string | undefined, message = { subject, data, actor }, at = now) =>
  (): void =>
    new CallerCheck(KEYS).check(contract, message, header, at);

describe('a call between services', () => {
  it('counts when a key of the caller that its contract names has signed it, the next key too', () => {
    expect(check(proof())).not.toThrow();
    expect(check(proof(next))).not.toThrow();
    expect(check(proof(), undefined, now + LIMITS.requestSkewMs)).not.toThrow();
  });

  it.each<[string, () => void, string]>([
    ['without a proof', check(undefined), 'not signed by a service'],
    ['by a key of nobody', check(proof(thief)), 'not signed by gateway'],
    ['by another service as itself', check(proof(telemetry, 'telemetry')), 'not signed by gateway'],
    ['by another service in the gateway’s name', check(proof(telemetry)), 'not signed by gateway'],
    [
      'by a key of nobody under the gateway’s',
      check(proof(thief).replace(thief.publicKey, gateway.publicKey)),
      'changed',
    ],
    ['with another body', check(proof(), { subject, actor, data: Buffer.from('{"agent_id":"b"}') }), 'changed'],
    ['on another subject', check(proof(), { subject: `${subject}x`, data, actor }), 'changed'],
    ['in the name of another key', check(proof(), { subject, data, actor: 'key:key_02' }), 'changed'],
    ['with another time', check(proof().replace(String(now), String(now + 1))), 'changed'],
    ['too late', check(proof(), undefined, now + LIMITS.requestSkewMs + 1), 'old'],
    ['with a time that is none', check(proof().replace(String(now), 'x')), 'changed'],
  ])('is refused %s', (_, act, why) => {
    const fault = { code: 'forbidden', detail: expect.stringContaining(why) as string };
    expect(act).toThrow(expect.objectContaining(fault) as Error);
  });

  it('counts once', () => {
    const checks = new CallerCheck(KEYS);
    const first = proof();
    checks.check(contract, { subject, data, actor }, first, now);
    expect(() => checks.check(contract, { subject, data, actor }, first, now + LIMITS.requestSkewMs)).toThrow(
      'played back',
    );
    checks.check(contract, { subject, data, actor }, proof(), now);
  });

  it('of an agent is proven by its subject, as before', () => {
    const hello = agentHello as unknown as Call<object, object>;
    expect(() => new CallerCheck(KEYS).check(hello, { subject: 'x', data }, undefined)).not.toThrow();
  });

  it('says what is wrong with a list of keys', () => {
    expect(() => new CallerCheck('gateway=UABC')).toThrow('CALLER_KEYS: "gateway=UABC"');
    expect(() => new CallerCheck(`nobody=${gateway.publicKey}`)).toThrow('CALLER_KEYS');
  });
});
