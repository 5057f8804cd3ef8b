import { Injectable } from '@nestjs/common';
import { createPublicKey } from 'node:crypto';
import {
  createEnrolmentToken,
  enrolAgent,
  Enrolment,
  EnrolmentTicket,
  ImsError,
  LIMITS,
  VendorRegistry,
  verifierOf,
  type AgentId,
  type AgentKind,
  type CreateEnrolmentToken,
  type EnrolAgent,
  type EnrolmentVerifier,
  type InstallId,
  type VendorId,
} from '#contracts';
import { presenceMachine, type Presence } from '#domain';
import { nkeyKind, Serves } from '#messaging';
import { Database, storableText, type Tx } from '#persistence';
import { SchedulerConfig } from '../config.js';
import { found } from '../catalogue/lists.js';
import { Statements } from '../engine/statements.js';
import { caller, iso, wire } from '../wire.js';
import { AgentIdentity } from './identity.js';
import { Revocations } from './revocations.js';

interface TokenOwner {
  readonly token_id: string;
  readonly agent_id: AgentId;
  readonly kind: AgentKind;
  readonly vendor_id: VendorId;
  readonly vendor_name: string;
  readonly install_id: InstallId | null;
  readonly presence: Presence;
  readonly used: boolean;
  readonly expired: boolean;
}
/** An agent trusts at most so many vendor keys, the newest; the wire carries 20. */
const VENDOR_KEYS_MAX = 20;
const stored = (verifier: string): Buffer => Buffer.from(verifier.slice('sha256:'.length), 'hex');

/** PEM keys that the vendor's artifacts may be signed with. */
export async function vendorKeysOf(query: Tx['query'], vendor: VendorId): Promise<string[]> {
  const rows = await query<{ public_key: string }>(
    'SELECT public_key FROM vendor_keys WHERE vendor_id = $1 ORDER BY created_at DESC LIMIT $2',
    [vendor, VENDOR_KEYS_MAX],
  );
  return rows.map(({ public_key }) => public_key);
}

/** How an agent gets its identity: a token that works once, for the public half of a key made on its own host. */
@Injectable()
export class Enrolments {
  constructor(
    private readonly database: Database,
    private readonly identity: AgentIdentity,
    private readonly statements: Statements,
    private readonly config: SchedulerConfig,
    private readonly revocations: Revocations,
  ) {}

  @Serves(createEnrolmentToken)
  async createToken({ vendor_id, agent_id, enrolment }: CreateEnrolmentToken): Promise<EnrolmentTicket> {
    return this.database.transaction(async (tx) => {
      const [agent] = await tx.query<{ kind: AgentKind; install_id: InstallId | null }>(
        'SELECT kind, install_id FROM agents WHERE id = $1 AND vendor_id = $2',
        [agent_id, vendor_id],
      );
      const { kind, install_id } = found(agent, `agent ${agent_id}`);
      const ticket = await this.issue(tx, agent_id, kind, enrolment);
      await tx.record({
        chainOf: install_id ?? vendor_id,
        type: 'agent.enrolment_token_created',
        vendor_id,
        install_id: install_id ?? undefined,
        agent_id,
        actor: caller(),
        data: { expires_at: ticket.expires_at },
      });
      return ticket;
    });
  }

  /** Stores a new token of an agent, in the caller's transaction. The token itself has not come this far. */
  async issue(
    tx: Tx,
    agent_id: AgentId,
    kind: AgentKind,
    { token_id, verifier }: EnrolmentVerifier,
  ): Promise<EnrolmentTicket> {
    const [row] = await tx.query<{ expires_at: Date }>(
      `INSERT INTO enrolment_tokens (id, agent_id, secret_hash, expires_at)
       VALUES ($1, $2, $3, now() + $4 * interval '1 millisecond') RETURNING expires_at`,
      [token_id, agent_id, stored(verifier), LIMITS.enrolmentTokenMs],
    );
    return wire(EnrolmentTicket, { agent_id, kind, expires_at: iso(found(row, 'new token').expires_at) });
  }

  /**
   * Exchanges token and public key for the agent's identity. One fenced UPDATE decides between any number of racers;
   * everybody else gets one indistinguishable refusal, and using a real token twice or late is recorded.
   */
  @Serves(enrolAgent)
  async enrol(request: EnrolAgent): Promise<Enrolment> {
    const { token_id: tokenId } = request;
    const hash = stored(verifierOf(request.proof));
    const owner = await this.ownerOf(tokenId, hash);
    if (!owner) throw refused();
    if (owner.used || owner.expired) return this.refuse(owner);
    const vendorKey = checkKeys(owner.kind, request);
    await this.checkFree(owner.agent_id, request.public_key);
    // Before the token is burned: an agent that could get no offers would have lost its token for nothing.
    await this.identity.ensureConsumer(owner.agent_id);
    const vendorKeys = await this.database.transaction(async (tx) => {
      const burned = await tx.query(
        `UPDATE enrolment_tokens SET used_at = now()
         WHERE id = $1 AND secret_hash = $2 AND used_at IS NULL AND expires_at > now() RETURNING id`,
        [tokenId, hash],
      );
      if (burned.length === 0) return undefined;
      await this.adopt(tx, owner, request, vendorKey);
      return vendorKeysOf(tx.query, owner.vendor_id);
    });
    if (!vendorKeys) return this.refuse({ ...owner, used: true });
    return this.answer(owner, request.public_key, vendorKeys);
  }

  /**
   * A key that was revoked stays so, and no two agents have the same: whoever enrolled with the key of another (it is
   * no secret) and was revoked then would take that one down.
   */
  private async checkFree(agent_id: AgentId, public_key: string): Promise<void> {
    if (await this.revocations.isRevoked(public_key)) {
      throw keyFault('/public_key', 'was revoked: enrol with a new key');
    }
    const others = await this.database.query('SELECT 1 FROM agents WHERE public_key = $1 AND id <> $2', [
      public_key,
      agent_id,
    ]);
    if (others.length > 0) throw keyFault('/public_key', 'is the key of another agent: enrol with a new key');
  }

  /**
   * The new key replaces the old one, which loses its connection; agent and install stay. Attempts of the old identity
   * end, it may be a thief's.
   */
  private async adopt(
    tx: Tx,
    owner: TokenOwner,
    { public_key, version }: EnrolAgent,
    vendorKey?: string,
  ): Promise<void> {
    const { agent_id, vendor_id, install_id, kind } = owner;
    const presence = presenceMachine.next(owner.presence, 'enrol') ?? 'offline';
    const [old] = await tx.query<{ public_key: string | null }>(
      'SELECT public_key FROM agents WHERE id = $1 FOR UPDATE',
      [agent_id],
    );
    if (old?.public_key && old.public_key !== public_key) await this.revocations.revoke(tx, agent_id, old.public_key);
    await tx.query('UPDATE agents SET public_key = $2, version = $3, presence = $4 WHERE id = $1', [
      agent_id,
      public_key,
      storableText(version),
      presence,
    ]);
    await tx.query('UPDATE leases SET until = now() WHERE agent_id = $1', [agent_id]);
    if (vendorKey !== undefined) {
      await tx.query(
        'INSERT INTO vendor_keys (vendor_id, public_key, agent_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING',
        [vendor_id, vendorKey, agent_id],
      );
    }
    await tx.record({
      chainOf: install_id ?? vendor_id,
      type: 'agent.enrolled',
      vendor_id,
      install_id: install_id ?? undefined,
      agent_id,
      actor: `agent:${agent_id}`,
      data: { kind, version: storableText(version), public_key, again: owner.presence !== 'never_enrolled' },
    });
  }

  private answer(owner: TokenOwner, public_key: string, vendor_keys: string[]): Enrolment {
    const { jwt, expiresAt } = this.identity.mint({ id: owner.agent_id, kind: owner.kind, public_key });
    return wire(Enrolment, {
      agent_id: owner.agent_id,
      kind: owner.kind,
      vendor_id: owner.vendor_id,
      install_id: owner.install_id,
      nats_urls: [...(this.config.PUBLIC_NATS_URLS ?? this.config.NATS_URLS)],
      nats_jwt: jwt,
      nats_jwt_expires_at: iso(expiresAt),
      job_keys: [...this.statements.keys],
      registry_token_url: this.config.REGISTRY_TOKEN_URL,
      vendor_registry: wire(VendorRegistry, { url: this.config.VENDOR_REGISTRY_URL, namespace: owner.vendor_name }),
      vendor_keys,
    });
  }

  private async ownerOf(tokenId: string, hash: Buffer): Promise<TokenOwner | undefined> {
    const [owner] = await this.database.query<TokenOwner>(
      `SELECT t.id AS token_id, t.agent_id, a.kind, a.vendor_id, v.name AS vendor_name, a.install_id, a.presence,
         t.used_at IS NOT NULL AS used, t.expires_at <= now() AS expired
       FROM enrolment_tokens t JOIN agents a ON a.id = t.agent_id JOIN vendors v ON v.id = a.vendor_id
       WHERE t.id = $1 AND t.secret_hash = $2`,
      [tokenId, hash],
    );
    return owner;
  }

  private async refuse(owner: TokenOwner): Promise<never> {
    await this.database.transaction(async ({ record }) => {
      await record({
        chainOf: owner.install_id ?? owner.vendor_id,
        type: 'agent.enrolment_refused',
        vendor_id: owner.vendor_id,
        install_id: owner.install_id ?? undefined,
        agent_id: owner.agent_id,
        actor: caller(),
        data: { token_id: owner.token_id, kind: owner.kind, reason: owner.used ? 'used' : 'expired' },
      });
    });
    throw refused();
  }
}

const refused = (): ImsError => new ImsError('enrolment_refused');
const keyFault = (pointer: string, message: string): ImsError =>
  new ImsError('invalid_request', `${pointer} ${message}`, [{ pointer, message }]);

/** The key that the vendor's artifacts will be signed with, in one form; undefined for an install agent. */
function checkKeys(kind: AgentKind, { public_key, signing_public_key }: EnrolAgent): string | undefined {
  if (nkeyKind(public_key) !== 'user') throw keyFault('/public_key', 'must be a public user nkey');
  if (kind !== 'build') return undefined;
  if (signing_public_key === undefined) throw keyFault('/signing_public_key', 'is needed for a build agent');
  // createPublicKey would also take a private key and derive the public one.
  if (!signing_public_key.includes('PUBLIC KEY') || signing_public_key.includes('PRIVATE')) {
    throw keyFault('/signing_public_key', 'must be a public key in PEM');
  }
  try {
    return createPublicKey(signing_public_key).export({ type: 'spki', format: 'pem' }).toString();
  } catch {
    throw keyFault('/signing_public_key', 'must be a public key in PEM');
  }
}
