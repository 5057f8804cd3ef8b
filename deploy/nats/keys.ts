import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { JobKeyVoucher, LIMITS, PAYLOAD_TYPES, signEnvelope, type Envelope } from '#contracts';
import { AccountClaims, connectNats, createNkey, nkeyFromSeed, type NkeyKind } from '#messaging';
import { keptSecret, natsAuthConfig, natsIdentities, writeSecret } from '#stack';

/** Keys that can be replaced. The operator's and the accounts' own keys are their identity: those are replaced by an installation. */
const ROTATABLE: Readonly<Record<string, { readonly file: string; readonly kind: NkeyKind }>> = {
  'install-agent': { file: 'install-agent-signing', kind: 'account' },
  'build-agent': { file: 'build-agent-signing', kind: 'account' },
  'operator-signing': { file: 'operator-signing', kind: 'operator' },
  'operator-revocation': { file: 'operator-revocation', kind: 'operator' },
  'job-signing': { file: 'job-signing', kind: 'user' },
};
export const KEY_NAMES = Object.keys(ROTATABLE);
/** An agent that missed longer than this says hello, and learns, before it works. */
const OVERLAP_MS = LIMITS.agentJwtMs;
const VOUCHERS_MAX = 10;

/** The keys of one installation, in files of mode 0600 below `dir`; nothing of them is in a database or a log. */
export class Keys {
  private readonly dir: string;

  constructor(dir: string) {
    this.dir = resolve(dir);
  }

  private at(name: string): string {
    return join(this.dir, 'keys', `${name}.nk`);
  }
  private get vouchersFile(): string {
    return join(this.dir, 'job-key-vouchers.json');
  }

  /** Makes what is missing, and writes the server's configuration. The same again changes nothing. */
  async init(): Promise<void> {
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    await keptSecret(this.at('job-signing'), () => createNkey('user').seed);
    if (!existsSync(this.vouchersFile)) await writeSecret(this.vouchersFile, '[]');
    const identities = await natsIdentities(this.dir);
    await identities.systemCreds();
    await writeFile(join(this.dir, 'nats-auth.conf'), natsAuthConfig(identities, this.dir));
  }

  /** Public halves and files; no secret. */
  async show(): Promise<string[]> {
    const lines: string[] = [];
    for (const [name, { file }] of Object.entries(ROTATABLE)) {
      for (const state of ['', '.old', '.next']) {
        const path = this.at(`${file}${state}`);
        if (!existsSync(path)) continue;
        const { publicKey } = nkeyFromSeed(await readFile(path, 'utf8'));
        lines.push(`${`${name}${state.replace('.', ' ')}`.padEnd(28)}${publicKey}  ${path}`);
      }
    }
    const next = await this.next();
    lines.push('', `server configuration: include ${join(this.dir, 'nats-auth.conf')}`);
    lines.push(`job-scheduler: JOB_SIGNING_SEED_FILE=${this.at('job-signing')}`);
    lines.push(`job-scheduler: JOB_KEY_VOUCHERS_FILE=${this.vouchersFile}`);
    if (next !== undefined) lines.push(`job-scheduler: JOB_KEYS_ALSO=${next}`);
    return lines;
  }

  /** Public half of the job key that agents are learning. */
  private async next(): Promise<string | undefined> {
    const file = this.at('job-signing.next');
    return existsSync(file) ? nkeyFromSeed(await readFile(file, 'utf8')).publicKey : undefined;
  }

  /**
   * Makes a new key beside the old one. From now on both are valid: what mints or signs takes the new one at its next
   * start; a job key is first learned by the agents (the old one vouches for it), and signs after `retire`.
   */
  async rotate(name: string): Promise<void> {
    const { file, kind } = this.rotatable(name);
    const made = createNkey(kind);
    if (name === 'job-signing') {
      if (existsSync(this.at(`${file}.next`))) throw new Error(`${name} is being replaced: retire the old one first`);
      const old = nkeyFromSeed(await readFile(this.at(file), 'utf8'));
      const says = Object.assign(new JobKeyVoucher(), {
        public_key: made.publicKey,
        issued_at: new Date().toISOString(),
      });
      const vouchers = JSON.parse(await readFile(this.vouchersFile, 'utf8')) as Envelope[];
      vouchers.push(signEnvelope(PAYLOAD_TYPES.jobKey, says, old));
      await writeSecret(this.at(`${file}.next`), `${made.seed}\n`);
      await writeSecret(this.vouchersFile, JSON.stringify(vouchers.slice(-VOUCHERS_MAX), null, 2));
    } else {
      if (existsSync(this.at(`${file}.old`))) throw new Error(`${name} is being replaced: retire the old one first`);
      await rename(this.at(file), this.at(`${file}.old`));
      await writeSecret(this.at(file), `${made.seed}\n`);
    }
    await this.init();
  }

  /** Ends the overlap. Throws while an agent could still depend on the old key, unless forced. */
  async retire(name: string, force: boolean): Promise<void> {
    const { file } = this.rotatable(name);
    const [mark, replaced] = name === 'job-signing' ? ['.next', true] : ['.old', false];
    const path = this.at(`${file}${mark}`);
    if (!existsSync(path)) throw new Error(`${name} is not being replaced`);
    // The new key's file, in either case: when it was made.
    const ageMs = Date.now() - (await stat(replaced ? path : this.at(file))).mtimeMs;
    if (ageMs < OVERLAP_MS && !force) {
      const hours = Math.ceil((OVERLAP_MS - ageMs) / 3_600_000);
      throw new Error(
        `agents may hold credentials of the old ${name} key for ${hours} h more (--force does it all the same)`,
      );
    }
    if (replaced) await rename(path, this.at(file));
    else await rm(path);
    await this.init();
  }

  /** Gives the running servers the present statement of the account, with the revocations that they hold. */
  async apply(servers: readonly string[], caFile?: string): Promise<number> {
    const identities = await natsIdentities(this.dir);
    const { account, operatorSigningSeed } = identities.keys;
    const { jwt, seed } = await identities.systemCreds();
    const connection = await connectNats({
      servers,
      name: 'keys',
      inboxPrefix: '_INBOX.system',
      credentials: { jwt, seed },
      ...(caFile === undefined ? {} : { caFile }),
    });
    try {
      const claims = new AccountClaims(connection, account, nkeyFromSeed(operatorSigningSeed));
      const { revocations } = await claims.read();
      return await claims.state(identities.accountStatement(revocations));
    } finally {
      await connection.close();
    }
  }

  private rotatable(name: string): { file: string; kind: NkeyKind } {
    const found = ROTATABLE[name];
    if (!found) throw new Error(`${name} cannot be rotated; these can: ${KEY_NAMES.join(', ')}`);
    return found;
  }
}
