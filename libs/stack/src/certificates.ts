import { createPrivateKey, randomUUID, webcrypto } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { withLock, writeSecret } from './files.js';

/** A private certificate authority and one server certificate of it, for everything that listens on this machine. */
export interface Certificates {
  /** PEM of the authority: what clients trust. */
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
}

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const YEARS = 10;

/** Made at the first call, and kept in `dir`. Valid for 127.0.0.1, ::1 and localhost. */
export async function keptCertificates(dir: string, names: readonly string[] = []): Promise<Certificates> {
  const files = {
    caFile: join(dir, 'ca.pem'),
    certFile: join(dir, 'server.pem'),
    keyFile: join(dir, 'server-key.pem'),
  };
  if (!existsSync(files.caFile)) {
    await withLock(`${dir}.lock`, async () => {
      if (existsSync(files.caFile)) return;
      const made = await makeCertificates(names);
      await writeSecret(files.keyFile, made.key);
      await writeSecret(files.certFile, made.cert);
      // Last: it says that the others are there.
      await writeSecret(files.caFile, made.ca);
    });
  }
  await readFile(files.caFile);
  return files;
}

async function makeCertificates(names: readonly string[]): Promise<{ ca: string; cert: string; key: string }> {
  // The library wants a reflection polyfill before it.
  await import('reflect-metadata');
  const x509 = await import('@peculiar/x509');
  const notBefore = new Date(Date.now() - 5 * 60_000);
  const notAfter = new Date(notBefore);
  notAfter.setUTCFullYear(notAfter.getUTCFullYear() + YEARS);
  const validity = { notBefore, notAfter, signingAlgorithm: ALGORITHM };
  // A leading 01 keeps the number positive; Go's parser refuses negative ones since 1.23.
  const serialNumber = (): string => `01${randomUUID().replaceAll('-', '').slice(2)}`;
  const [caKeys, keys] = await Promise.all(
    [0, 1].map(() => webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])),
  );
  if (!caKeys || !keys) throw new Error('no keys were made');
  const caName = 'CN=Vendor Cloud local authority';
  const ca = await x509.X509CertificateGenerator.createSelfSigned(
    {
      ...validity,
      name: caName,
      serialNumber: serialNumber(),
      keys: caKeys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
        await x509.SubjectKeyIdentifierExtension.create(caKeys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  const cert = await x509.X509CertificateGenerator.create(
    {
      ...validity,
      subject: 'CN=localhost',
      issuer: caName,
      serialNumber: serialNumber(),
      publicKey: keys.publicKey,
      signingKey: caKeys.privateKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
        new x509.SubjectAlternativeNameExtension([
          { type: 'ip', value: '127.0.0.1' },
          { type: 'ip', value: '::1' },
          ...['localhost', ...names].map((value) => ({ type: 'dns' as const, value })),
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(caKeys.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' }).export({ type: 'pkcs8', format: 'pem' });
  return { ca: `${ca.toString('pem')}\n`, cert: `${cert.toString('pem')}\n`, key: key.toString() };
}
