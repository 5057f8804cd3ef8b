import { Injectable } from '@nestjs/common';
import {
  Agent,
  AgentIntake,
  agentHello,
  AgentPage,
  AgentRenewal,
  getAgent,
  ImsError,
  LIMITS,
  listAgents,
  openEnvelope,
  parse,
  PAYLOAD_TYPES,
  renewAgent,
  revokeAgent,
  setAgentIntake,
  updateAgentSettings,
  Welcome,
  type AgentId,
  type AgentKind,
  type AgentRef,
  type Envelope,
  type Hello,
  type InstallId,
  type JsonObject,
  type ListInVendor,
  type SetAgentIntake,
  type UpdateAgentSettings,
  type VendorId,
} from '#contracts';
import { presenceMachine, type Presence as PresenceState } from '#domain';
import { Serves, verifyNkey, type MessageContext } from '#messaging';
import { Database, storableText } from '#persistence';
import { withTimeout } from '#platform';
import { found, page, position } from '../catalogue/lists.js';
import { callerOf } from '../engine/claims.js';
import { Statements } from '../engine/statements.js';
import { caller, iso, isoOrNull, wire } from '../wire.js';
import { vendorKeysOf } from './enrolment.js';
import { type StoredIntake } from '../engine/bars.js';
import { AgentIdentity } from './identity.js';
import { Intake } from './intake.js';
import { Presence } from './presence.js';
import { Revocations } from './revocations.js';

interface AgentRow {
  readonly id: AgentId;
  readonly vendor_id: VendorId;
  readonly kind: AgentKind;
  readonly install_id: InstallId | null;
  readonly presence: PresenceState;
  readonly last_seen_at: Date | null;
  readonly version: string | null;
  readonly public_key: string | null;
  readonly policy: JsonObject | null;
  readonly slots: number | null;
  readonly labels: JsonObject;
  readonly intake: StoredIntake | null;
  readonly running: number;
  readonly created_at: Date;
}
const SELECT_AGENTS = 'SELECT a.*, (SELECT count(*) FROM leases l WHERE l.agent_id = a.id) AS running FROM agents a';

/** The answer to a revocation waits so long for NATS to have it. */
const PUSH_WAIT_MS = 1_500;

/** Agents as people see them, and their hello. */
@Injectable()
export class Agents {
  constructor(
    private readonly database: Database,
    private readonly identity: AgentIdentity,
    private readonly statements: Statements,
    private readonly presence: Presence,
    private readonly revocations: Revocations,
    private readonly intake: Intake,
  ) {}

  /** Renews the agent's JWT and makes its consumer when it is gone. A revoked agent gets neither. */
  @Serves(agentHello)
  async hello({ version, protocol }: Hello, context: MessageContext): Promise<Welcome> {
    const id = callerOf(context);
    const agent = await this.admitted(id, protocol);
    this.presence.heard(id);
    return this.welcome(agent, version);
  }

  /**
   * The same for an agent that cannot say hello: its JWT ended while it was off. Proven by the key that it was enrolled
   * with; a revoked agent, or one whose key was replaced, gets nothing. What it gets is worth nothing without that key.
   */
  @Serves(renewAgent)
  async renew(envelope: Envelope): Promise<Welcome> {
    const signed = openEnvelope(envelope, PAYLOAD_TYPES.agentRenewal, [envelope.key_id], verifyNkey);
    const { agent_id, at, version, protocol } = parse(AgentRenewal, signed, 'tolerant');
    const now = new Date();
    if (Math.abs(now.getTime() - Date.parse(at)) > LIMITS.requestSkewMs) {
      throw new ImsError(
        'statement_refused',
        `the request is of ${at}, the time of this server is ${now.toISOString()}`,
      );
    }
    const agent = await this.admitted(agent_id, protocol);
    if (agent.public_key !== envelope.key_id) {
      throw new ImsError('agent_revoked', `${agent_id} was enrolled again with another key`);
    }
    return this.welcome(agent, version);
  }

  private async admitted(id: AgentId, protocol = 1): Promise<AgentRow & { readonly public_key: string }> {
    const [agent] = await this.database.query<AgentRow>(`${SELECT_AGENTS} WHERE a.id = $1`, [id]);
    if (!agent) throw new ImsError('not_found', `there is no agent ${id}`);
    const { public_key } = agent;
    if (agent.presence === 'revoked' || public_key === null) throw new ImsError('agent_revoked', `${id} was revoked`);
    if (protocol < LIMITS.agentProtocolMin) {
      throw new ImsError(
        'agent_too_old',
        `${id} speaks protocol ${protocol}, this server needs ${LIMITS.agentProtocolMin} at least`,
      );
    }
    return { ...agent, public_key };
  }

  private async welcome(agent: AgentRow & { readonly public_key: string }, version: string): Promise<Welcome> {
    const { id } = agent;
    if (agent.version !== version) {
      await this.database.query('UPDATE agents SET version = $2 WHERE id = $1', [id, storableText(version)]);
    }
    await this.identity.ensureConsumer(id);
    const { jwt, expiresAt } = this.identity.mint(agent);
    return wire(Welcome, {
      nats_jwt: jwt,
      nats_jwt_expires_at: iso(expiresAt),
      slots: agent.slots ?? LIMITS.agentSlots,
      job_keys: [...this.statements.keys],
      job_key_vouchers: this.statements.vouchers.length > 0 ? [...this.statements.vouchers] : null,
      vendor_keys: await vendorKeysOf((sql, params) => this.database.query(sql, params), agent.vendor_id),
      server_time: iso(new Date()),
    });
  }

  @Serves(listAgents)
  async listAgents(query: ListInVendor): Promise<AgentPage> {
    const { before, take, limit } = position(query);
    const rows = await this.database.query<AgentRow>(
      `${SELECT_AGENTS} WHERE a.vendor_id = $1 AND ($2::text IS NULL OR a.id < $2) ORDER BY a.id DESC LIMIT $3`,
      [query.vendor_id, before ?? null, take],
    );
    return page(AgentPage, rows, limit, (row) => this.view(row));
  }

  @Serves(getAgent)
  async getAgent({ vendor_id, agent_id }: AgentRef): Promise<Agent> {
    const [row] = await this.database.query<AgentRow>(`${SELECT_AGENTS} WHERE a.id = $1 AND a.vendor_id = $2`, [
      agent_id,
      vendor_id,
    ]);
    const agent = found(row, `agent ${agent_id}`);
    return wire(Agent, { ...this.view(agent), customer_policy: agent.policy });
  }

  @Serves(setAgentIntake)
  async setIntake(request: SetAgentIntake): Promise<Agent> {
    await this.intake.set(request);
    return this.getAgent(request);
  }

  @Serves(updateAgentSettings)
  async updateSettings(request: UpdateAgentSettings): Promise<Agent> {
    await this.intake.settings(request);
    return this.getAgent(request);
  }

  /**
   * The agent gets no job and no new JWT from now on; what it runs is lost to it, its unused tokens are void, and its
   * connection is cut: usually before the answer, and in any case as soon as NATS can be told.
   */
  @Serves(revokeAgent)
  async revokeAgent(ref: AgentRef): Promise<Agent> {
    const agent = await this.markRevoked(ref);
    await withTimeout('the revocation', PUSH_WAIT_MS, this.revocations.settle()).catch(() => undefined);
    return agent;
  }

  private markRevoked({ vendor_id, agent_id }: AgentRef): Promise<Agent> {
    return this.database.transaction(async (tx) => {
      const [row] = await tx.query<AgentRow>(`${SELECT_AGENTS} WHERE a.id = $1 AND a.vendor_id = $2 FOR UPDATE`, [
        agent_id,
        vendor_id,
      ]);
      const agent = found(row, `agent ${agent_id}`);
      const presence = presenceMachine.next(agent.presence, 'revoke');
      if (!presence) return this.view(agent);
      await tx.query('UPDATE agents SET presence = $2 WHERE id = $1', [agent_id, presence]);
      if (agent.public_key !== null) await this.revocations.revoke(tx, agent_id, agent.public_key);
      await tx.query('UPDATE enrolment_tokens SET expires_at = now() WHERE agent_id = $1 AND used_at IS NULL', [
        agent_id,
      ]);
      await tx.query('UPDATE leases SET until = now() WHERE agent_id = $1', [agent_id]);
      await tx.record({
        chainOf: agent.install_id ?? vendor_id,
        type: 'agent.revoked',
        vendor_id,
        install_id: agent.install_id ?? undefined,
        agent_id,
        actor: caller(),
        data: {},
      });
      return this.view({ ...agent, presence });
    });
  }

  private view(row: AgentRow): Agent {
    return wire(Agent, {
      id: row.id,
      kind: row.kind,
      install_id: row.install_id,
      presence: row.presence,
      last_seen_at: isoOrNull(this.presence.lastSeen(row.id, row.last_seen_at)),
      version: row.version,
      public_key: row.public_key,
      slots: row.slots ?? LIMITS.agentSlots,
      running: row.running,
      labels: row.labels,
      intake: row.intake && wire(AgentIntake, row.intake),
      created_at: iso(row.created_at),
    });
  }
}
