import { Inject, Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { type NatsConnection } from '@nats-io/transport-node';
import { agentBeat, LIMITS, type AgentId, type Beat, type InstallId, type VendorId } from '#contracts';
import { isSilent } from '#domain';
import { Hears, NATS_CONNECTION, type MessageContext } from '#messaging';
import { Database, type Tx } from '#persistence';
import { createLogger, Lifecycle, sleep } from '#platform';
import { SchedulerConfig } from '../config.js';

interface Changed {
  readonly id: AgentId;
  readonly vendor_id: VendorId;
  readonly install_id: InstallId | null;
}
/** Beats that arrive together are written together. */
const GATHER_MS = 20;

/**
 * Who is there. Beats stay in memory, in every replica; PostgreSQL is written only when an agent comes or goes, so an
 * idle agent costs no query. Only `agents.presence` is true for all replicas; the fenced UPDATE lets one of them tell.
 */
@Injectable()
export class Presence implements OnApplicationBootstrap {
  private readonly logger = createLogger('presence');
  /** Time of the last sign of life, on this process's monotonic clock. */
  private readonly beats = new Map<AgentId, number>();
  /** Online in PostgreSQL as far as this replica knows. */
  private online = new Set<AgentId>();
  private readonly asked = new Set<AgentId>();
  private arrived = new Set<AgentId>();
  /** Since when beats could be heard without a gap. */
  private listeningSince = performance.now();
  private connected = true;
  private gathering: NodeJS.Timeout | undefined;
  private readonly stopping = new AbortController();

  constructor(
    private readonly database: Database,
    private readonly config: SchedulerConfig,
    private readonly lifecycle: Lifecycle,
    @Inject(NATS_CONNECTION) private readonly connection: NatsConnection,
  ) {}

  onApplicationBootstrap(): void {
    this.listeningSince = performance.now();
    const loop = this.run();
    void this.watchConnection();
    this.lifecycle.onDrain('stop-intake', 'presence', () => {
      this.stopping.abort();
      clearTimeout(this.gathering);
      return loop;
    });
  }

  @Hears(agentBeat)
  beat(_beat: Beat, context: MessageContext): void {
    const agent = context.parts['agent'];
    if (agent !== undefined) this.heard(agent);
  }

  /** A sign of life: a beat, or anything that the agent asks. */
  heard(agent: AgentId): void {
    this.beats.set(agent, performance.now());
    if (this.online.has(agent) || this.asked.has(agent) || this.stopping.signal.aborted) return;
    this.asked.add(agent);
    this.arrived.add(agent);
    this.gathering ??= setTimeout(() => void this.flush(), GATHER_MS);
  }

  /** When the agent was last heard, by this replica or as stored, whichever is later. */
  lastSeen(agent: AgentId, stored: Date | null): Date | null {
    const beat = this.beats.get(agent);
    if (beat === undefined) return stored;
    const heard = new Date(Date.now() - (performance.now() - beat));
    return stored && stored > heard ? stored : heard;
  }

  private async flush(): Promise<void> {
    this.gathering = undefined;
    const agents = [...this.arrived];
    this.arrived = new Set();
    try {
      await this.write('online', agents);
    } catch (error) {
      // Asked again at the next beat.
      for (const agent of agents) this.asked.delete(agent);
      this.logger.warn({ err: error }, 'agents that came could not be written');
    }
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    const everyMs = Math.min(LIMITS.beatMs, this.config.OFFLINE_AFTER_MS / 3);
    let last = performance.now();
    while (!signal.aborted) {
      await sleep(everyMs, signal);
      const now = performance.now();
      // This process was paused: beats may still lie in its socket, so nobody may be called gone.
      if (now - last > everyMs * 2) this.listeningSince = now;
      last = now;
      if (signal.aborted || !this.connected) continue;
      await this.compare(now).catch((error: unknown) => {
        this.logger.warn({ err: error }, 'presence not compared, the next time goes on');
      });
    }
  }

  /** Holds what PostgreSQL says against what was heard: one small query a few seconds apart, however many agents. */
  private async compare(now: number): Promise<void> {
    const { OFFLINE_AFTER_MS } = this.config;
    const rows = await this.database.query<{ id: AgentId }>(`SELECT id FROM agents WHERE presence = 'online'`);
    this.online = new Set(rows.map(({ id }) => id));
    this.asked.clear();
    const silent = (agent: AgentId): boolean =>
      isSilent(this.beats.get(agent), this.listeningSince, now, OFFLINE_AFTER_MS);
    const gone = rows.map(({ id }) => id).filter(silent);
    if (gone.length > 0) await this.write('offline', gone);
    for (const [agent, beat] of this.beats) if (now - beat > OFFLINE_AFTER_MS * 10) this.beats.delete(agent);
  }

  private async write(presence: 'online' | 'offline', agents: readonly AgentId[]): Promise<void> {
    // Null: never heard by this replica, so nothing is known here of when the agent was last seen.
    const seconds = agents.map((agent) => {
      const beat = this.beats.get(agent);
      return beat === undefined ? null : (performance.now() - beat) / 1000;
    });
    await this.database.transaction(async (tx) => {
      const changed = await tx.query<Changed>(
        `UPDATE agents a SET presence = $1, last_seen_at = greatest(a.last_seen_at, now() - g.seconds * interval '1 second')
         FROM unnest($2::text[], $3::float8[]) AS g (id, seconds)
         WHERE a.id = g.id AND a.presence = CASE $1 WHEN 'online' THEN 'offline' ELSE 'online' END
         RETURNING a.id, a.vendor_id, a.install_id`,
        [presence, agents, seconds],
      );
      for (const agent of changed.toSorted((a, b) => (chainOf(a) < chainOf(b) ? -1 : 1)))
        await told(tx, agent, presence);
    });
    if (presence === 'offline') for (const agent of agents) this.online.delete(agent);
    else {
      const rows = await this.database.query<{ id: AgentId }>(
        `SELECT id FROM agents WHERE id = ANY($1) AND presence = 'online'`,
        [agents],
      );
      for (const { id } of rows) this.online.add(id);
    }
    this.logger.info({ presence, agents: agents.length }, 'presence changed');
  }

  private async watchConnection(): Promise<void> {
    for await (const status of this.connection.status()) {
      if (status.type === 'disconnect') this.connected = false;
      if (status.type === 'reconnect') {
        this.connected = true;
        this.listeningSince = performance.now();
      }
    }
  }
}

const chainOf = (agent: Changed): string => agent.install_id ?? agent.vendor_id;

async function told(tx: Tx, agent: Changed, presence: 'online' | 'offline'): Promise<void> {
  await tx.record({
    chainOf: chainOf(agent),
    type: `agent.${presence}`,
    vendor_id: agent.vendor_id,
    install_id: agent.install_id ?? undefined,
    agent_id: agent.id,
    actor: 'service:job-scheduler',
    data: {},
  });
}
