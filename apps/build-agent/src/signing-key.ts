import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { assertPrivate, privateDirectory, writePrivate } from '#agent-kit';
import { createSigningKey, localSigner, type ArtifactSigner } from '#oci';

const fileOf = (stateDir: string): string => join(stateDir, 'artifact-signing-key.pem');

/**
 * The vendor's artifact-signing key: made on this host at enrolment, kept with mode 0600, never sent. Only its public
 * half is registered; the IMS cannot sign in the vendor's name.
 */
export async function signingKeyOf(stateDir: string): Promise<ArtifactSigner> {
  const file = fileOf(stateDir);
  if (!existsSync(file)) {
    await privateDirectory(stateDir);
    await writePrivate(file, createSigningKey().privateKeyPem);
  }
  await assertPrivate(file);
  return localSigner(await readFile(file, 'utf8'));
}
