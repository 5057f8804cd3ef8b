import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { getPullToken, ImsError, newId, revokePullToken, type PullToken } from '#contracts';
import { freshDatabase, startNats } from '#stack';
import { startWorld, type World } from './world.js';

let world: World;
beforeAll(async () => {
  world = await startWorld({ startNats, freshDatabase });
});
afterAll(() => world.stop());

const token: PullToken = {
  id: newId('token'),
  install_id: newId('install'),
  job_id: newId('job'),
  status: 'issued',
  repository: 'acme/shop/web',
  digest: `sha256:${'0'.repeat(64)}`,
  issued_at: '2026-01-02T03:04:05.000Z',
  expires_at: '2026-01-02T03:09:05.000Z',
};

it('shows and revokes one pull token, in the name of the key that asks', async () => {
  const seen: object[] = [];
  world.tokens.on(getPullToken, (body) => {
    seen.push(body);
    return token;
  });
  world.tokens.on(revokePullToken, (body) => {
    seen.push(body);
    return { ...token, status: 'revoked' };
  });
  const shown = await world.gateway.send('GET', `/v1/pull-tokens/${token.id}`, { key: world.key });
  expect([shown.status, shown.body]).toEqual([200, token]);
  const ended = await world.gateway.send('POST', `/v1/pull-tokens/${token.id}/revoke`, { key: world.key });
  expect([ended.status, ended.body['status']]).toEqual([200, 'revoked']);
  const ask = { vendor_id: world.vendorId, token_id: token.id };
  expect(seen).toEqual([ask, ask]);
});

it('does not know a token of another vendor', async () => {
  world.tokens.on(revokePullToken, () => {
    throw new ImsError('not_found');
  });
  const path = `/v1/pull-tokens/${newId('token')}/revoke`;
  expect((await world.gateway.send('POST', path, { key: world.key })).status).toBe(404);
});
