import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import { type NatsConnection } from '@nats-io/transport-node';
import { LIMITS, type AgentId, type InstallId, type VendorId } from '#contracts';
import { AccountClaims, connectNats, nkeyFromSeed } from '#messaging';
import { Database, type Tx } from '#persistence';
import { createLogger, Lifecycle, Metrics, sleep, withTimeout } from '#platform';
import { SchedulerConfig } from '../config.js';

interface RevokedRow {
  readonly public_key: string;
  readonly agent_id: AgentId;
  readonly pushed: boolean;
  readonly kind: string;
  readonly vendor_id: VendorId;
  readonly install_id: InstallId | null;
}

/** One replica at a time restates the account: two at once could undo each other's revocation. */
const ADVISORY_LOCK = 7_263_941_001;
/**
 * A revoked key is dead, not only what was issued for it so far: the entry lies ahead by more than the clocks of
 * replicas differ, for a JWT that another one is just signing.
 */
const AHEAD_MS = 60_000;
/** No JWT of a revoked key outlives this; until then the servers must know it. */
const REMEMBER_MS = LIMITS.agentJwtMs + 2 * AHEAD_MS;
/** How often the servers' statement is compared with ours: one may have been restored from a backup. */
const COMPARE_MS = 30_000;
const INBOX = '_INBOX.system';

/**
 * Cuts agents off: NATS itself refuses a key that is in the revocations of its account, and cuts its connection when it
 * gets there. PostgreSQL says which keys are; every push states all of them anew, so that nothing that happens to a
 * server, and no two replicas, can lose one. What could not be pushed is pushed by a later round of any replica.
 */
@Injectable()
export class Revocations implements OnApplicationBootstrap {
  private readonly logger = createLogger('revocations');
  private readonly stopping = new AbortController();
  private readonly connecting: Promise<NatsConnection>;
  private readonly claims: Promise<AccountClaims>;
  private readonly open;
  private round: Promise<void> = Promise.resolve();

  constructor(
    private readonly database: Database,
    private readonly config: SchedulerConfig,
    private readonly lifecycle: Lifecycle,
    metrics: Metrics,
  ) {
    this.open = metrics.gauge({ name: 'ims_revocations_open', help: 'Revoked keys that NATS does not know yet.' });
    const signer = nkeyFromSeed(config.OPERATOR_REVOCATION_SEED);
    this.connecting = connectNats({
      servers: config.NATS_URLS,
      name: 'job-scheduler: revocations',
      inboxPrefix: INBOX,
      credentials: { jwt: config.NATS_SYSTEM_JWT, seed: config.NATS_SYSTEM_SEED },
      ...(config.NATS_CA_FILE === undefined ? {} : { caFile: config.NATS_CA_FILE }),
      onStatus: (status) => this.logger.info({ status }, 'NATS system connection'),
    });
    this.claims = this.connecting.then((nc) => new AccountClaims(nc, config.NATS_ACCOUNT_PUBLIC_KEY, signer));
  }

  onApplicationBootstrap(): void {
    const loop = this.run();
    this.lifecycle.onDrain('stop-intake', 'revocations', () => {
      this.stopping.abort();
      return loop;
    });
    this.lifecycle.onDrain('close', 'revocations', async () => {
      await this.round;
      // Where it never came up, it is closed should it come up after all.
      const closing = this.connecting.then((connection) => connection.close());
      await withTimeout('close', 500, closing).catch(() => undefined);
    });
  }

  /** True for a key that was revoked once. It never comes back: whoever enrols has to bring another. */
  async isRevoked(public_key: string): Promise<boolean> {
    const rows = await this.database.query('SELECT 1 FROM revoked_keys WHERE public_key = $1', [public_key]);
    return rows.length > 0;
  }

  /** Marks the key in the caller's transaction and has it pushed after the commit. */
  async revoke(tx: Tx, agent_id: AgentId, public_key: string): Promise<void> {
    await tx.query('INSERT INTO revoked_keys (public_key, agent_id) VALUES ($1, $2) ON CONFLICT DO NOTHING', [
      public_key,
      agent_id,
    ]);
    tx.afterCommit(() => void this.settle().catch(() => undefined));
  }

  /** Resolves when everything that was revoked before has been pushed. Rejects when it could not be, now. */
  settle(compare = false): Promise<void> {
    // One after another in this replica, so that waiting ones hold no database connection.
    this.round = this.round.catch(() => undefined).then(() => this.push(compare));
    return this.round;
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    let compared = performance.now();
    while (!signal.aborted) {
      await sleep(this.config.SWEEP_MS, signal);
      try {
        const [row] = await this.database.query<{ open: number }>(
          'SELECT count(*)::int AS open FROM revoked_keys WHERE pushed_at IS NULL',
        );
        const open = row?.open ?? 0;
        this.open.set(open);
        const compare = performance.now() - compared > COMPARE_MS;
        if (compare) compared = performance.now();
        if (open > 0 || compare) await this.settle(compare);
      } catch (error) {
        if (!signal.aborted) this.logger.warn({ err: error }, 'revocations are not pushed, the next round goes on');
      }
    }
  }

  private async push(compare: boolean): Promise<void> {
    const claims = await withTimeout('the system connection to NATS', 5_000, this.claims);
    await this.database.transaction(async (tx) => {
      await tx.query('SELECT pg_advisory_xact_lock($1)', [ADVISORY_LOCK]);
      const rows = await tx.query<RevokedRow>(
        `SELECT r.public_key, r.agent_id, r.pushed_at IS NOT NULL AS pushed, a.kind, a.vendor_id, a.install_id
         FROM revoked_keys r JOIN agents a ON a.id = r.agent_id
         WHERE r.pushed_at IS NULL OR r.revoked_at > now() - $1 * interval '1 millisecond' ORDER BY r.public_key`,
        [REMEMBER_MS],
      );
      const open = rows.filter(({ pushed }) => !pushed);
      if (open.length === 0) {
        if (!compare || rows.length === 0) return;
        const { revocations } = await claims.read();
        if (rows.every(({ public_key }) => public_key in revocations)) return;
        this.logger.warn('a NATS server had lost revocations: they are stated again');
      }
      // An effect outside the database, which may be repeated: the same statement again changes nothing.
      const servers = await claims.revoke(
        rows.map(({ public_key }) => public_key),
        { at: new Date(Date.now() + AHEAD_MS), forgetBefore: new Date(Date.now() - REMEMBER_MS) },
      );
      if (open.length === 0) return;
      await tx.query('UPDATE revoked_keys SET pushed_at = now() WHERE public_key = ANY($1)', [
        open.map(({ public_key }) => public_key),
      ]);
      const chainOf = (row: RevokedRow): string => row.install_id ?? row.vendor_id;
      for (const row of open.toSorted((a, b) => (chainOf(a) < chainOf(b) ? -1 : 1))) {
        await tx.record({
          chainOf: chainOf(row),
          type: 'agent.key_revoked',
          vendor_id: row.vendor_id,
          install_id: row.install_id ?? undefined,
          agent_id: row.agent_id,
          actor: 'service:job-scheduler',
          data: { public_key: row.public_key, servers },
        });
      }
    });
  }
}
