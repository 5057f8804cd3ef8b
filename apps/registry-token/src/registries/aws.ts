import { ImsError, type ErrorCode } from '#contracts';
import { createLogger } from '#platform';

const logger = createLogger('aws');

/** The SDK itself tries twice on throttling and broken connections; after that the job is tried again. */
const CODES: Readonly<Record<string, ErrorCode>> = {
  RepositoryAlreadyExistsException: 'already_exists',
  RepositoryNotFoundException: 'artifact_missing',
  ImageNotFoundException: 'artifact_missing',
  LayersNotFoundException: 'artifact_missing',
  LayerInaccessibleException: 'artifact_missing',
  InvalidParameterException: 'invalid_request',
  AccessDenied: 'registry_denied',
  AccessDeniedException: 'registry_denied',
  UnrecognizedClientException: 'registry_denied',
  InvalidSignatureException: 'registry_denied',
  SignatureDoesNotMatch: 'registry_denied',
  InvalidClientTokenId: 'registry_denied',
  ExpiredToken: 'registry_denied',
  ExpiredTokenException: 'registry_denied',
  CredentialsProviderError: 'registry_denied',
  ThrottlingException: 'registry_unavailable',
  LimitExceededException: 'registry_unavailable',
  ServerException: 'registry_unavailable',
  TimeoutError: 'registry_unavailable',
};

/**
 * A call to AWS whose failure is one of ours. The detail names AWS's error and no more: its message holds ARNs and
 * account numbers, which are nobody's business on the agent's side. They are in our own log.
 */
export async function askAws<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    const name = error instanceof Error ? error.name : 'unknown';
    const status = (error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode;
    // Without a status nothing has answered.
    const lost = status === undefined || status >= 500 || status === 429;
    const code = CODES[name] ?? (lost ? 'registry_unavailable' : 'internal');
    // What an operator has to mend. That something is not there, or is there already, is an answer.
    if (code !== 'artifact_missing' && code !== 'already_exists') logger.warn({ err: error }, 'a call to AWS failed');
    throw new ImsError(code, `AWS answered ${name}`, [], { cause: error });
  }
}
