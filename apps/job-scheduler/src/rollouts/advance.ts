import { Injectable, type OnApplicationBootstrap } from '@nestjs/common';
import {
  ImsError,
  LIMITS,
  newId,
  type InstallId,
  type ReleaseId,
  type RolloutId,
  type RolloutInstallStatus,
  type RolloutReason,
} from '#contracts';
import {
  groupOf,
  rolloutMachine,
  rolloutReason,
  stepRollout,
  type Fault,
  type MemberChange,
  type RolloutState,
} from '#domain';
import { Database, type Tx } from '#persistence';
import { createLogger, Lifecycle, sleep } from '#platform';
import { type Stored } from '../catalogue/entities.js';
import { SchedulerConfig } from '../config.js';
import { SCHEDULER, Transitions } from '../engine/transitions.js';
import { Deployments, type LockedInstall } from '../installs/deployments.js';
import { json } from '../wire.js';
import { readMembers, type Member } from './members.js';
import {
  addInstalls,
  cancelRollout,
  lockRollout,
  makeRollout,
  recordRollout,
  strategyOf,
  type RolloutRow,
} from './rows.js';

/** So many rollouts at most in one turn of one replica. */
const BATCH = 20;

/**
 * Carries rollouts on. Every replica does: the row lock lets one of them take a step, and what a step decides is written
 * before it is done, so that a replica that dies in between leaves a turn that any other takes up.
 */
@Injectable()
export class Advance implements OnApplicationBootstrap {
  private readonly logger = createLogger('rollouts');
  private readonly stopping = new AbortController();
  private waking = new AbortController();

  constructor(
    private readonly database: Database,
    private readonly transitions: Transitions,
    private readonly deployments: Deployments,
    private readonly config: SchedulerConfig,
    private readonly lifecycle: Lifecycle,
  ) {}

  onApplicationBootstrap(): void {
    const loop = this.run();
    this.lifecycle.onDrain('stop-intake', 'rollouts', () => {
      this.stopping.abort();
      this.waking.abort();
      return loop;
    });
  }

  /** Something has changed: this replica looks at once. */
  wake(): void {
    this.waking.abort();
  }

  private async run(): Promise<void> {
    const { signal } = this.stopping;
    let channelsAt = 0;
    while (!signal.aborted) {
      try {
        if (performance.now() >= channelsAt) {
          await this.deployChannels();
          channelsAt = performance.now() + this.config.SWEEP_MS * 10;
        }
        await this.stepDue();
        await this.beginDue();
      } catch (error) {
        this.logger.warn({ err: error }, 'rollouts interrupted, the next turn goes on');
      }
      this.waking = new AbortController();
      await sleep(this.config.SWEEP_MS, this.waking.signal);
    }
  }

  private async stepDue(): Promise<void> {
    const due = await this.database.query<{ id: RolloutId }>(
      `SELECT o.id FROM rollouts o WHERE o.finished_at IS NULL AND o.next_look_at <= clock_timestamp()
       ORDER BY o.next_look_at LIMIT $1`,
      [BATCH],
    );
    for (const { id } of due) await this.step(id);
  }

  private async step(id: RolloutId): Promise<void> {
    await this.database.transaction(async (tx) => {
      const free = await tx.query('SELECT 1 FROM rollouts WHERE id = $1 FOR UPDATE SKIP LOCKED', [id]);
      const rollout = free.length > 0 ? await lockRollout(tx, id) : undefined;
      if (!rollout || rollout.finished_at) return;
      const members = await readMembers(tx, rollout);
      const step = stepRollout(stateOf(rollout, members), rollout.now.getTime());
      const byId = new Map(members.map((member) => [member.id, member]));
      const news = step.changes.flatMap((change) => {
        const member = byId.get(change.id);
        return member && isNews(member, change) ? [{ change, member }] : [];
      });
      await writeMembers(tx, id, news);
      // What moves is looked at in each turn, what waits for others a few times in a lease.
      const busy = news.length > 0 || members.some(({ status }) => status === 'deploying');
      const inMs = busy ? this.config.SWEEP_MS : Math.max(this.config.SWEEP_MS, LIMITS.beatMs / 2);
      await tx.query(
        `UPDATE rollouts SET status = $2, group_index = $3, soak_until = $4, reason = $5,
           next_look_at = least(clock_timestamp() + $6 * interval '1 millisecond', greatest($4, clock_timestamp())),
           finished_at = CASE WHEN $7 THEN now() END WHERE id = $1`,
        [
          id,
          step.status,
          step.group,
          step.soakUntil === undefined ? null : new Date(step.soakUntil),
          json(step.reason && reasonFor(rollout, step.reason.code, rolloutReason(step.reason))),
          inMs,
          rolloutMachine.isFinal(step.status) && !isUnderWay(members, step.changes),
        ],
      );
      await this.recordStep(tx, rollout, step, news);
    });
  }

  private async recordStep(
    tx: Tx,
    rollout: RolloutRow,
    step: ReturnType<typeof stepRollout>,
    news: readonly { change: MemberChange; member: Member }[],
  ): Promise<void> {
    for (const { change, member } of news.toSorted((a, b) => (a.member.id < b.member.id ? -1 : 1))) {
      // That a turn has come is no fact before the deployment is made.
      if (change.status === member.status || change.status === 'pending' || change.begin) continue;
      const { vendor_id } = rollout;
      await tx.record({
        chainOf: member.id,
        type: `rollout.install_${change.status}`,
        vendor_id,
        install_id: member.id,
        deployment_id: member.deployment_id ?? undefined,
        actor: SCHEDULER,
        data: {
          rollout_id: rollout.id,
          ...(change.reason ? { code: change.reason.code, detail: change.reason.detail.slice(0, 1000) } : {}),
        },
      });
    }
    const name = (index: number): string => rollout.strategy.groups?.[index]?.name ?? '';
    if (step.group !== rollout.group_index) {
      await recordRollout(tx, 'rollout.group_begun', rollout, SCHEDULER, { group: name(step.group) });
    }
    if (step.status !== rollout.status) {
      const detail = step.reason === undefined ? {} : { detail: step.reason.detail };
      await recordRollout(tx, `rollout.${step.status}`, rollout, SCHEDULER, detail);
    }
  }

  /** Makes the deployments whose turn has come: decided in a step, maybe by a replica that is no more. */
  private async beginDue(): Promise<void> {
    const due = await this.database.query<{ rollout_id: RolloutId; install_id: InstallId }>(
      `SELECT m.rollout_id, m.install_id FROM rollouts o JOIN rollout_installs m ON m.rollout_id = o.id
       WHERE o.finished_at IS NULL AND m.status = 'deploying' AND m.deployment_id IS NULL LIMIT 200`,
    );
    for (const { rollout_id, install_id } of due) {
      try {
        await this.begin(rollout_id, install_id);
      } catch (error) {
        const { code, detail } = ImsError.of(error);
        if (code === 'internal') this.logger.warn({ err: error, install: install_id }, 'an install could not be begun');
        await this.putBack(rollout_id, install_id, { code, detail });
      }
    }
  }

  private async begin(rollout_id: RolloutId, install_id: InstallId): Promise<void> {
    await this.transitions.run(async (change) => {
      const { tx } = change;
      // Shared with other begins, and against a pause that is being written.
      const [rollout] = await tx.query<{ status: string; release_id: ReleaseId; rollback: boolean }>(
        'SELECT status, release_id, rollback FROM rollouts WHERE id = $1 FOR SHARE',
        [rollout_id],
      );
      const [mine] = await tx.query(
        `SELECT 1 FROM rollout_installs WHERE rollout_id = $1 AND install_id = $2 AND status = 'deploying'
           AND deployment_id IS NULL FOR UPDATE SKIP LOCKED`,
        [rollout_id, install_id],
      );
      if (!rollout || !mine) return;
      if (rollout.status !== 'running') {
        await setStatus(tx, rollout_id, install_id, 'pending');
        return;
      }
      const [install] = await tx.query<LockedInstall>(
        'SELECT id, vendor_id, app_id, agent_id FROM installs WHERE id = $1 FOR UPDATE',
        [install_id],
      );
      if (!install) return;
      const id = newId('deployment');
      const { release_id, rollback } = rollout;
      const wanted = { kind: 'deploy' as const, release_id, rollback, rollout_id };
      await this.deployments.begin(change, id, install, wanted, SCHEDULER);
      await tx.query(
        `UPDATE rollout_installs SET deployment_id = $3, reason = NULL, waiting_since = NULL, updated_at = now()
         WHERE rollout_id = $1 AND install_id = $2`,
        [rollout_id, install_id, id],
      );
    });
  }

  /** An install that another deployment has taken meanwhile waits; any other refusal is its failure. */
  private async putBack(rollout_id: RolloutId, install_id: InstallId, fault: Fault): Promise<void> {
    if (fault.code === 'internal' || fault.code === 'unavailable') return;
    const status = fault.code === 'deployment_in_progress' ? 'waiting' : 'failed';
    await this.database.transaction(async (tx) => {
      await setStatus(tx, rollout_id, install_id, status, fault);
    });
  }

  /**
   * Channels that deploy by themselves: each install that has never been offered the channel's release gets it, by the
   * channel's rollout that is on, or by a new one. A rollout of an earlier release makes room.
   */
  async deployChannels(): Promise<void> {
    const channels = await this.database.query<{ id: string }>(`SELECT id FROM channels c WHERE ${WANTING}`);
    for (const { id } of channels) {
      await this.database
        .transaction((tx) => deployChannel(tx, id))
        .catch((error: unknown) => {
          this.logger.warn({ err: error, channel: id }, 'the channel is not deployed, the next turn goes on');
        });
    }
    if (channels.length > 0) this.wake();
  }
}

/** Installs of the channel that have not been offered its release, and whose last deployment was no teardown. */
const OFFERABLE = `
  i.channel_id = c.id AND i.release_id IS DISTINCT FROM c.release_id AND i.deprovisioned IS NULL
  AND NOT EXISTS (SELECT 1 FROM rollout_installs m JOIN rollouts o ON o.id = m.rollout_id
    WHERE m.install_id = i.id AND (o.release_id = c.release_id OR (o.finished_at IS NULL AND NOT o.auto)))
  AND 'teardown' IS DISTINCT FROM (SELECT kind FROM deployments WHERE install_id = i.id AND kind <> 'work' ORDER BY id DESC LIMIT 1)`;
const WANTING = `
  auto_deploy AND release_id IS NOT NULL AND EXISTS (SELECT 1 FROM installs i WHERE ${OFFERABLE})`;

async function deployChannel(tx: Tx, id: string): Promise<void> {
  const [channel] = await tx.query<Pick<RolloutRow, 'vendor_id' | 'app_id' | 'release_id' | 'strategy'>>(
    `SELECT c.vendor_id, c.app_id, c.release_id, coalesce(c.strategy, '{}') AS strategy
     FROM channels c JOIN apps a ON a.id = c.app_id WHERE c.id = $1 AND ${WANTING} FOR UPDATE OF a SKIP LOCKED`,
    [id],
  );
  if (!channel) return;
  const open = await tx.query<Pick<RolloutRow, 'id' | 'vendor_id' | 'app_id' | 'release_id' | 'strategy'>>(
    `SELECT id, vendor_id, app_id, release_id, strategy FROM rollouts
     WHERE channel_id = $1 AND auto AND finished_at IS NULL AND status <> 'cancelled' ORDER BY id FOR UPDATE`,
    [id],
  );
  for (const old of open.filter(({ release_id }) => release_id !== channel.release_id)) {
    await cancelRollout(tx, old.id);
    await recordRollout(tx, 'rollout.cancelled', old, SCHEDULER, { reason: 'the channel has another release' });
  }
  const installs = await tx.query<{ id: InstallId; labels: Record<string, string> }>(
    `SELECT i.id, i.labels FROM channels c JOIN installs i ON i.channel_id = c.id WHERE c.id = $1 AND ${OFFERABLE}
     ORDER BY i.id`,
    [id],
  );
  const current = open.find(({ release_id }) => release_id === channel.release_id);
  if (current) {
    await addInstalls(tx, current.id, current.strategy, installs);
    await tx.query('UPDATE rollouts SET next_look_at = now() WHERE id = $1', [current.id]);
    return;
  }
  const strategy = strategyOf(channel.strategy);
  if (installs.every(({ labels }) => groupOf(strategy.groups ?? [], labels) === undefined)) return;
  const head = { ...channel, channel_id: id, rollback: false, auto: true };
  await makeRollout(tx, head, strategy, SCHEDULER, installs);
}

function stateOf(rollout: RolloutRow, members: readonly Member[]): RolloutState {
  const { groups = [], max_parallel = 1, max_failures = 0, give_up_seconds } = rollout.strategy;
  return {
    status: rollout.status,
    groups: groups.map(({ name, soak_seconds = 0 }) => ({ name, soakMs: soak_seconds * 1000 })),
    group: rollout.group_index,
    soakUntil: rollout.soak_until?.getTime(),
    maxParallel: max_parallel,
    maxFailures: max_failures,
    forgiven: rollout.forgiven,
    giveUpMs: give_up_seconds === undefined ? undefined : give_up_seconds * 1000,
    members,
  };
}

/** Whether an install is still being changed after this step: a rollout that was cancelled follows it to its end. */
function isUnderWay(members: readonly Member[], changes: readonly MemberChange[]): boolean {
  const after = new Map(changes.map(({ id, status }) => [id, status]));
  return members.some(({ id, status }) => ['deploying', 'parked'].includes(after.get(id) ?? status));
}

const isNews = (member: Member, { status, reason, begin }: MemberChange): boolean =>
  begin ||
  status !== member.status ||
  JSON.stringify(reason && rolloutReason(reason)) !== JSON.stringify(member.reason ?? undefined);

/** A stop that a person or a bad release has explained keeps its explanation. */
function reasonFor(rollout: RolloutRow, code: string, reason: RolloutReason): Stored<RolloutReason> {
  return rollout.reason?.code === code && reason.detail === '' ? rollout.reason : reason;
}

async function writeMembers(
  tx: Tx,
  rollout_id: RolloutId,
  news: readonly { change: MemberChange; member: Member }[],
): Promise<void> {
  if (news.length === 0) return;
  await tx.query(
    `UPDATE rollout_installs m SET status = n.status, reason = n.reason, updated_at = now(),
       waiting_since = CASE n.status WHEN 'waiting' THEN coalesce(waiting_since, clock_timestamp()) END,
       error = CASE n.status WHEN 'failed'
         THEN coalesce((SELECT error FROM deployments WHERE id = m.deployment_id), m.error) END
     FROM jsonb_to_recordset($2) AS n (id text, status text, reason jsonb)
     WHERE m.rollout_id = $1 AND m.install_id = n.id`,
    [
      rollout_id,
      JSON.stringify(
        news.map(({ change: { id, status, reason } }) => ({ id, status, reason: reason && rolloutReason(reason) })),
      ),
    ],
  );
}

async function setStatus(
  tx: Tx,
  rollout_id: RolloutId,
  install_id: InstallId,
  status: RolloutInstallStatus,
  fault?: Fault,
): Promise<void> {
  await tx.query(
    `UPDATE rollout_installs SET status = $3, error = $4, updated_at = now()
     WHERE rollout_id = $1 AND install_id = $2 AND status = 'deploying' AND deployment_id IS NULL`,
    [rollout_id, install_id, status, json(fault)],
  );
}
