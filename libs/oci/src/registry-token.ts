import { createPrivateKey, randomUUID, webcrypto, X509Certificate } from 'node:crypto';
import { ImsError } from '#contracts';
import { SignJWT } from 'jose';

/** A right on one repository, as in the `access` claim of a registry token. */
export interface Access {
  readonly type: 'repository';
  readonly name: string;
  readonly actions: readonly string[];
}

const ACTIONS = ['pull', 'push', 'delete', '*'];
const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;

/** True for a repository name of the distribution specification (lower case, at most 255 characters). */
export function isRepositoryName(name: string): boolean {
  return name.length <= 255 && REPOSITORY.test(name);
}

/** `repository:a/b:pull,push`. */
export function formatScope(access: Access): string {
  return `${access.type}:${access.name}:${access.actions.join(',')}`;
}

/**
 * One scope of a token request, or undefined when it is not a right on a repository (`registry:catalog:*`, a bad name,
 * an unknown action). The parts are split at the first and the last colon, as clients may put a host and port in front.
 */
export function parseScope(scope: string): Access | undefined {
  const first = scope.indexOf(':');
  const last = scope.lastIndexOf(':');
  if (first < 0 || last === first || scope.length > 512) return undefined;
  const name = scope.slice(first + 1, last);
  const actions = [...new Set(scope.slice(last + 1).split(','))].filter((action) => action !== '');
  if (scope.slice(0, first) !== 'repository' || !isRepositoryName(name)) return undefined;
  if (actions.length === 0 || !actions.every((action) => ACTIONS.includes(action))) return undefined;
  return { type: 'repository', name, actions };
}

/** All scopes of a request: the parameter may come several times, and several scopes in one, parted by blanks. */
export function parseScopes(parameter: string | readonly string[] | undefined): readonly Access[] {
  const texts = parameter === undefined ? [] : typeof parameter === 'string' ? [parameter] : parameter;
  return texts.flatMap((text) => text.split(' ')).flatMap((scope) => parseScope(scope) ?? []);
}

/**
 * What is both held and asked for. Clients ask for odd and repeated scopes (`pull,push,pull`, other repositories for
 * mounts), so a grant is made of what the ticket holds and never of what the request says. `*` is not expanded.
 */
export function intersectAccess(held: readonly Access[], asked: readonly Access[]): readonly Access[] {
  return held.flatMap((have) => {
    const wanted = new Set(asked.filter((want) => want.name === have.name).flatMap((want) => want.actions));
    const actions = have.actions.filter((action) => wanted.has(action));
    return actions.length > 0 ? [{ ...have, actions }] : [];
  });
}

export interface RegistryTokenSigner {
  /**
   * A JWT that a distribution registry takes. `lifeSeconds` 1 to 86,400; registries allow 60 s more on both ends
   * (seen on 2.8: a token 57 s past its end still worked), so promise that much less.
   */
  sign(grant: { subject: string; access: readonly Access[]; lifeSeconds: number }): Promise<string>;
}

/**
 * Signs tokens of the distribution protocol: ES256 with the certificate in `x5c`, the one form that both the 2.8 line
 * and v3 accept (their `kid` formats differ). The registry must have the certificate in its `rootcertbundle`.
 */
export function createRegistryTokenSigner(options: {
  readonly privateKeyPem: string;
  readonly certificatePem: string;
  readonly issuer: string;
  /** The registry's `service`, which is the audience. */
  readonly service: string;
}): RegistryTokenSigner {
  const key = createPrivateKey(options.privateKeyPem);
  const certificate = new X509Certificate(options.certificatePem);
  if (!certificate.checkPrivateKey(key)) throw new ImsError('internal', 'the registry certificate is of another key');
  const x5c = [certificate.raw.toString('base64')];
  return {
    async sign({ subject, access, lifeSeconds }) {
      if (!(lifeSeconds >= 1 && lifeSeconds <= 86_400)) {
        throw new ImsError('invalid_request', `a registry token lives 1 to 86400 s, not ${lifeSeconds}`);
      }
      const nowSeconds = Math.floor(Date.now() / 1_000);
      return new SignJWT({ access })
        .setProtectedHeader({ alg: 'ES256', typ: 'JWT', x5c })
        .setIssuer(options.issuer)
        .setSubject(subject)
        .setAudience(options.service)
        .setIssuedAt(nowSeconds)
        .setNotBefore(nowSeconds)
        .setExpirationTime(nowSeconds + Math.ceil(lifeSeconds))
        .setJti(randomUUID())
        .sign(key);
    },
  };
}

const CERTIFICATE_YEARS = 10;

/**
 * A key pair (ECDSA P-256) and its self-signed certificate, both PEM. It is long-lived (10 years) because a registry
 * reads its `rootcertbundle` only at start; rotate by adding a second certificate to the bundle first.
 */
export async function createRegistryCertificate(commonName = 'ims-registry-token'): Promise<{
  privateKeyPem: string;
  certificatePem: string;
}> {
  // Loaded here: only set-up makes certificates, and the library wants a reflection polyfill before it.
  await import('reflect-metadata');
  const x509 = await import('@peculiar/x509');
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const notBefore = new Date(Date.now() - 5 * 60_000);
  const notAfter = new Date(notBefore);
  notAfter.setUTCFullYear(notAfter.getUTCFullYear() + CERTIFICATE_YEARS);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      name: `CN=${commonName}`,
      // A leading 01 keeps the number positive; Go's parser refuses negative ones since 1.23.
      serialNumber: `01${randomUUID().replaceAll('-', '').slice(2)}`,
      notBefore,
      notAfter,
      signingAlgorithm: algorithm,
      keys,
      extensions: [
        new x509.BasicConstraintsExtension(true, 0, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyCertSign, true),
      ],
    },
    webcrypto,
  );
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const privateKeyPem = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' })
    .export({ type: 'pkcs8', format: 'pem' })
    .toString();
  return { privateKeyPem, certificatePem: `${certificate.toString('pem')}\n` };
}
