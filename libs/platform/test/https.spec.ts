import { Module } from '@nestjs/common';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { get } from 'node:https';
import { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError, startService, tlsFiles } from '#platform';
import { keptCertificates } from '#stack';

@Module({})
class Empty {}

it('a service speaks HTTPS with the certificate that it is given, and wants both files', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'platform-https-'));
  const { caFile, certFile, keyFile } = await keptCertificates(dir);
  expect(tlsFiles({})).toEqual({});
  expect(() => tlsFiles({ TLS_CERT_FILE: certFile })).toThrow(ConfigError);
  expect(() => tlsFiles({ TLS_CERT_FILE: certFile, TLS_KEY_FILE: '/nowhere' })).toThrow(/nowhere/);
  const app = await startService({
    name: 'gateway',
    module: Empty,
    http: { host: '127.0.0.1', port: 0, ...tlsFiles({ TLS_CERT_FILE: certFile, TLS_KEY_FILE: keyFile }) },
    ownsProcess: false,
  });
  const { port } = app.getHttpServer().address() as AddressInfo;
  const status = await new Promise((resolve, reject) => {
    const sent = get({ host: 'localhost', port, path: '/livez', ca: readFileSync(caFile), agent: false }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    });
    sent.on('error', reject);
  });
  expect(status).toBe(200);
  await app.close();
  await rm(dir, { recursive: true });
});
