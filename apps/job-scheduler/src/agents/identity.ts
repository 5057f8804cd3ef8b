import { Inject, Injectable } from '@nestjs/common';
import { type NatsConnection } from '@nats-io/transport-node';
import { LIMITS, offersOf, shardOf, type AgentId, type AgentKind } from '#contracts';
import { ensureAgentConsumer, NATS_CONNECTION, nkeyFromSeed, userJwt, type NkeySigner } from '#messaging';
import { SchedulerConfig } from '../config.js';

/** An agent's place in NATS: the JWT that limits it to its own subjects, and the consumer where its offers wait. */
@Injectable()
export class AgentIdentity {
  private readonly signers: Readonly<Record<AgentKind, NkeySigner>>;

  constructor(
    private readonly config: SchedulerConfig,
    @Inject(NATS_CONNECTION) private readonly connection: NatsConnection,
  ) {
    this.signers = {
      build: nkeyFromSeed(config.BUILD_AGENT_SIGNING_SEED),
      install: nkeyFromSeed(config.INSTALL_AGENT_SIGNING_SEED),
    };
  }

  /** A user JWT for the key that the agent made itself; worth nothing without the seed, which never leaves its host. */
  mint(agent: { id: AgentId; kind: AgentKind; public_key: string }): { jwt: string; expiresAt: Date } {
    const expiresAt = new Date(Date.now() + LIMITS.agentJwtMs);
    const jwt = userJwt({
      name: agent.id,
      user: agent.public_key,
      signer: this.signers[agent.kind],
      account: this.config.NATS_ACCOUNT_PUBLIC_KEY,
      tags: { agent: agent.id, jobs_stream: offersOf(agent.id).stream, shard: shardOf(agent.id) },
      expiresAt,
    });
    return { jwt, expiresAt };
  }

  /** Makes the consumer when it is not there; agents may not do that themselves. */
  async ensureConsumer(agent: AgentId): Promise<void> {
    await ensureAgentConsumer(this.connection, agent, LIMITS.agentSlotsMax);
  }
}
