import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  Enrolment,
  ImsError,
  JobKeyVoucher,
  openEnvelope,
  parse,
  PAYLOAD_TYPES,
  type AgentKind,
  type EnrolRequest,
  type Signer,
  type Welcome,
} from '#contracts';
import { createNkey, nkeyFromSeed, verifyNkey, type NatsCredentials } from '#messaging';
import { registerSecret } from '#platform';
import { assertPrivate, privateDirectory, writePrivate } from './files.js';
import { postJson, secureUrl, type HttpOptions } from './http.js';

const KEY_FILE = 'key.seed';
const IDENTITY_FILE = 'identity.json';
const CA_FILE = 'ca.pem';
/** As many as the wire carries. */
const JOB_KEYS_MAX = 10;

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
  /** The NATS URL that worked last: tried first at the next start. */
  readonly nats_url?: string;
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
   * state directory replaces everything, with what it pins, and the key too: the old one may have been revoked, which
   * it stays. A private CA is kept for all later connections.
   */
  static async enrol(options: EnrolOptions): Promise<Identity> {
    const url = secureUrl(`${options.server.replace(/\/+$/, '')}/v1/agents/enrol`, options);
    registerSecret(options.token);
    await privateDirectory(options.stateDir);
    const enrolled = (await readIfThere(join(options.stateDir, IDENTITY_FILE))) !== undefined;
    const seed = enrolled ? createNkey('user').seed : await keySeed(options.stateDir);
    registerSecret(seed);
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
    if (options.ca !== undefined) await writePrivate(identity.caPath, options.ca);
    else await rm(identity.caPath, { force: true });
    await writePrivate(join(options.stateDir, KEY_FILE), `${seed}\n`);
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

  private get caPath(): string {
    return join(this.stateDir, CA_FILE);
  }
  /** PEM file of the private CA that was given at enrolment. */
  get caFile(): string | undefined {
    return existsSync(this.caPath) ? this.caPath : undefined;
  }
  /** NATS URLs, the one that worked last first. */
  get natsUrls(): readonly string[] {
    const { nats_urls: urls } = this.enrolment;
    const { nats_url: last } = this.stored;
    return last === undefined || !urls.includes(last) ? urls : [last, ...urls.filter((url) => url !== last)];
  }
  async remember(natsUrl: string): Promise<void> {
    const known = this.enrolment.nats_urls.find((url) => url === natsUrl);
    if (known === undefined || known === this.stored.nats_url) return;
    this.stored = { ...this.stored, nats_url: known };
    await this.save();
  }

  sign(bytes: Uint8Array): Uint8Array {
    return this.signer.sign(bytes);
  }

  /** For connectNats, as a function: a reconnect uses the newest JWT. */
  readonly credentials = (): NatsCredentials => ({ jwt: this.enrolment.nats_jwt, seed: this.seed });

  /**
   * Takes a fresh JWT over, the vendor's keys when none were known yet, and job keys for which one that is known here
   * vouches. Keys that are pinned stay: whoever runs the services must not be able to make this agent trust another
   * builder, or another scheduler. A pinned job key that is no longer named is dropped, unless that were the last.
   * True when other vendor keys were offered.
   */
  async renew(welcome: Welcome): Promise<{ otherKeysOffered: boolean }> {
    const pinned = this.enrolment.vendor_keys;
    const enrolment: Enrolment = {
      ...this.enrolment,
      nats_jwt: welcome.nats_jwt,
      nats_jwt_expires_at: welcome.nats_jwt_expires_at,
      job_keys: jobKeysAfter(this.enrolment.job_keys, welcome),
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

function jobKeysAfter(
  pinned: readonly string[],
  { job_keys: named, job_key_vouchers: vouchers = [] }: Welcome,
): string[] {
  const trusted = [...pinned];
  for (const voucher of vouchers) {
    try {
      const said = openEnvelope(voucher, PAYLOAD_TYPES.jobKey, trusted, verifyNkey);
      const { public_key } = parse(JobKeyVoucher, said, 'tolerant');
      if (named.includes(public_key) && !trusted.includes(public_key)) trusted.push(public_key);
    } catch {
      // Of a key that is not trusted here: it vouches for nothing.
    }
  }
  const kept = trusted.filter((key) => named.includes(key));
  return (kept.length > 0 ? kept : trusted).slice(-JOB_KEYS_MAX);
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
