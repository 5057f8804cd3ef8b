import { ImsError, type JsonObject, type JsonValue } from '#contracts';

/** Where values of inputs are kept, beside files: by the key that says so in `inputs.json`. */
export interface SecretStore {
  /** The value that a reference stands for. The message of a fault never has a value in it. */
  read(reference: JsonObject): Promise<string>;
}
export type SecretStores = Readonly<Record<string, SecretStore>>;

/** `{"env": "DB_PASSWORD"}`: a variable of the agent's own environment, which no program that it runs gets. */
export class EnvironmentSecrets implements SecretStore {
  constructor(private readonly environment: Readonly<Record<string, string | undefined>>) {}

  read({ env: name }: JsonObject): Promise<string> {
    const value = typeof name === 'string' ? this.environment[name] : undefined;
    if (value !== undefined) return Promise.resolve(value);
    const shown = JSON.stringify(name);
    return Promise.reject(new ImsError('missing_input', `there is no variable ${shown} in the agent's environment`));
  }
}

/** Of `@aws-sdk/client-secrets-manager`: what it finds out from the host by itself when it is not given. */
export interface AwsSettings {
  readonly region?: string;
  readonly endpoint?: string;
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
}

/** Each step of an attempt asks again: within this time it is not a call of its own. A rotated secret is late by as much. */
const KEPT_MS = 60_000;
const IDLE_MS = 4_000;

/**
 * `{"aws_secret": "prod/db", "field": "password"}`: AWS Secrets Manager, by name or ARN, with the role of this machine;
 * `field` picks one out of a secret that is a JSON object. `missing_input` when it is not there or not allowed,
 * `unavailable` when AWS cannot be asked now.
 */
export class AwsSecrets implements SecretStore {
  private readonly kept = new Map<string, { readonly text: Promise<string>; readonly untilMs: number }>();

  constructor(private readonly settings: AwsSettings = {}) {}

  async read({ aws_secret: id, field }: JsonObject): Promise<string> {
    if (typeof id !== 'string' || (field !== undefined && typeof field !== 'string')) {
      throw new ImsError('invalid_request', 'aws_secret and field are texts');
    }
    const text = await this.secret(id);
    return field === undefined ? text : fieldOf(text, field, id);
  }

  private secret(id: string): Promise<string> {
    const now = performance.now();
    for (const [other, { untilMs }] of this.kept) if (untilMs <= now) this.kept.delete(other);
    const kept = this.kept.get(id);
    if (kept) return kept.text;
    const text = this.fetch(id);
    this.kept.set(id, { text, untilMs: now + KEPT_MS });
    text.catch(() => this.kept.delete(id));
    return text;
  }

  private async fetch(id: string): Promise<string> {
    // Loaded by who uses it: that costs an agent without AWS 0.1 s of its start.
    const { GetSecretValueCommand, SecretsManagerClient } = await import('@aws-sdk/client-secrets-manager');
    const client = new SecretsManagerClient({
      ...this.settings,
      maxAttempts: 3,
      requestHandler: { connectionTimeout: IDLE_MS, socketTimeout: IDLE_MS },
    });
    try {
      const { SecretString: text } = await client.send(new GetSecretValueCommand({ SecretId: id }));
      if (text === undefined) throw new ImsError('missing_input', `the secret ${id} is binary, and no text`);
      return text;
    } catch (thrown) {
      if (thrown instanceof ImsError) throw thrown;
      const {
        name = 'Error',
        $fault: fault,
        $retryable: retryable,
      } = thrown as Partial<{
        name: string;
        $fault: string;
        $retryable: unknown;
      }>;
      const code = fault === 'client' && retryable === undefined ? 'missing_input' : 'unavailable';
      // The name alone: it says what is wrong, and whose role asked is nobody's business in a vendor's log.
      throw new ImsError(code, `the secret ${id} cannot be read from AWS: ${name}`, [], { cause: thrown });
    } finally {
      client.destroy();
    }
  }
}

function fieldOf(text: string, field: string, id: string): string {
  let object: JsonValue;
  try {
    object = JSON.parse(text) as JsonValue;
  } catch {
    // The parser's message quotes what it reads.
    throw new ImsError('missing_input', `the secret ${id} is no JSON object, so it has no field ${field}`);
  }
  const value = typeof object === 'object' && object !== null && !Array.isArray(object) ? object[field] : undefined;
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  throw new ImsError('missing_input', `the secret ${id} has no text in its field ${field}`);
}
