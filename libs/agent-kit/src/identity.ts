import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Enrolment, ImsError, parse, type AgentKind, type EnrolRequest, type Signer, type Welcome } from '#contracts';
import { createNkey, nkeyFromSeed, type NatsCredentials } from '#messaging';
import { registerSecret } from '#platform';
import { assertPrivate, privateDirectory, writePrivate } from './files.js';
import { postJson, secureUrl, type HttpOptions } from './http.js';

const KEY_FILE = 'key.seed';
const IDENTITY_FILE = 'identity.json';

export interface EnrolOptions extends HttpOptions {
  /** Base URL of the gateway. */
  readonly server: string;
  readonly stateDir: string;
  /** The one-use token. In memory only: it is not kept. */
  readonly token: string;
  readonly version: string;
  /** Refuses an identity of the other kind: the token was made for something else. */
  readonly kind: AgentKind;
  /** Build agents: public key (PEM) that their artifacts are signed with. */
  readonly signingPublicKey?: string;
}

/** What is on disk: the enrolment, and what this agent decided about it. */
interface Stored {
  readonly server: string;
  readonly allow_plain_http: boolean;
  readonly enrolment: Enrolment;
}

/**
 * Who this agent is. The key pair is made on this host and its seed never leaves it; the rest came with the enrolment
 * and is renewed over NATS. Both files have mode 0600; a file that others may read is refused.
 */
export class Identity implements Signer {
  private constructor(
    private readonly stateDir: string,
    private readonly seed: string,
    private readonly signer: Signer,
    private stored: Stored,
  ) {}

  /**
   * Exchanges the token and the public half of this host's key for an enrolment, and keeps it. Throws
   * `enrolment_refused` (used, expired, unknown), `unavailable`, `invalid_request`. A second enrolment in the same
   * state directory keeps the key and replaces the rest, with what it pins.
   */
  static async enrol(options: EnrolOptions): Promise<Identity> {
    const url = secureUrl(`${options.server.replace(/\/+$/, '')}/v1/agents/enrol`, options);
    registerSecret(options.token);
    await privateDirectory(options.stateDir);
    const seed = await keySeed(options.stateDir);
    const signer = nkeyFromSeed(seed);
    const request: EnrolRequest = {
      token: options.token,
      public_key: signer.publicKey,
      version: options.version,
      ...(options.signingPublicKey === undefined ? {} : { signing_public_key: options.signingPublicKey }),
    };
    const enrolment = parse(Enrolment, await postJson(url, request, options), 'tolerant');
    if (enrolment.kind !== options.kind) {
      throw new ImsError(
        'enrolment_refused',
        `this token is for an agent of kind ${enrolment.kind}, not ${options.kind}`,
      );
    }
    const stored = { server: options.server, allow_plain_http: options.allowPlainHttp === true, enrolment };
    const identity = new Identity(options.stateDir, seed, signer, stored);
    await identity.save();
    return identity;
  }

  /** The identity of an earlier enrolment; undefined when this state directory has none. */
  static async load(stateDir: string): Promise<Identity | undefined> {
    const file = join(stateDir, IDENTITY_FILE);
    const text = await readIfThere(file);
    const seed = await readIfThere(join(stateDir, KEY_FILE));
    if (text === undefined || seed === undefined) return undefined;
    let stored: Stored;
    try {
      const read = JSON.parse(text) as Stored;
      stored = { ...read, enrolment: parse(Enrolment, read.enrolment, 'tolerant') };
    } catch (error) {
      throw new Error(`${file} is damaged: enrol this agent again`, { cause: error });
    }
    registerSecret(seed);
    return new Identity(stateDir, seed, nkeyFromSeed(seed), stored);
  }

  get enrolment(): Readonly<Enrolment> {
    return this.stored.enrolment;
  }
  get agentId(): string {
    return this.enrolment.agent_id;
  }
  get publicKey(): string {
    return this.signer.publicKey;
  }
  get server(): string {
    return this.stored.server;
  }
  get allowPlainHttp(): boolean {
    return this.stored.allow_plain_http;
  }

  sign(bytes: Uint8Array): Uint8Array {
    return this.signer.sign(bytes);
  }

  /** For connectNats, as a function: a reconnect uses the newest JWT. */
  readonly credentials = (): NatsCredentials => ({ jwt: this.enrolment.nats_jwt, seed: this.seed });

  /**
   * Takes a fresh JWT over, and the vendor's keys when none were known yet. Keys that are pinned stay: whoever runs
   * the services must not be able to make this agent trust another builder. True when other keys were offered.
   */
  async renew(welcome: Welcome): Promise<{ otherKeysOffered: boolean }> {
    const pinned = this.enrolment.vendor_keys;
    const enrolment: Enrolment = {
      ...this.enrolment,
      nats_jwt: welcome.nats_jwt,
      nats_jwt_expires_at: welcome.nats_jwt_expires_at,
      vendor_keys: pinned.length > 0 ? pinned : welcome.vendor_keys,
    };
    this.stored = { ...this.stored, enrolment };
    await this.save();
    return { otherKeysOffered: welcome.vendor_keys.some((key) => !enrolment.vendor_keys.includes(key)) };
  }

  private async save(): Promise<void> {
    await writePrivate(join(this.stateDir, IDENTITY_FILE), `${JSON.stringify(this.stored, null, 2)}\n`);
  }
}

/** Makes the key the first time. It is kept when the enrolment fails: only its public half was sent. */
async function keySeed(stateDir: string): Promise<string> {
  const file = join(stateDir, KEY_FILE);
  const known = await readIfThere(file);
  if (known !== undefined) return known;
  const { seed } = createNkey('user');
  await writePrivate(file, `${seed}\n`);
  registerSecret(seed);
  return seed;
}

async function readIfThere(file: string): Promise<string | undefined> {
  try {
    await assertPrivate(file);
    return (await readFile(file, 'utf8')).trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
