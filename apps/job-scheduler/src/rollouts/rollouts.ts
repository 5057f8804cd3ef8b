import { Injectable } from '@nestjs/common';
import {
  changeRollout,
  createRollout,
  getRollout,
  ImsError,
  listRolloutInstalls,
  listRollouts,
  Rollout,
  RolloutCounts,
  RolloutInstall,
  RolloutInstallPage,
  RolloutPage,
  RolloutReason,
  RolloutStrategy,
  type AppId,
  type ChangeRollout,
  type CreateRollout,
  type DeploymentId,
  type InstallId,
  type ListRolloutInstalls,
  type ListRollouts,
  type RolloutId,
  type RolloutInstallStatus,
  type RolloutRef,
} from '#contracts';
import { rolloutMachine, rolloutReason, type Fault } from '#domain';
import { Serves } from '#messaging';
import { Database, storableText } from '#persistence';
import { type Stored } from '../catalogue/entities.js';
import { found, page, position } from '../catalogue/lists.js';
import { caller, checkStorable, iso, isoOrNull, json, problem, wire } from '../wire.js';
import { Advance } from './advance.js';
import { cancelRollout, lockRollout, makeRollout, recordRollout, strategyOf, type RolloutRow } from './rows.js';

interface RolloutView extends RolloutRow, Record<RolloutInstallStatus, number> {
  readonly version: string;
  readonly total: number;
}
const SELECT_ROLLOUTS = `
  SELECT o.*, r.version, c.* FROM rollouts o JOIN releases r ON r.id = o.release_id, LATERAL (
    SELECT count(*)::int AS total,
      ${['pending', 'waiting', 'deploying', 'parked', 'succeeded', 'failed', 'skipped']
        .map((status) => `count(*) FILTER (WHERE status = '${status}')::int AS ${status}`)
        .join(', ')}
    FROM rollout_installs WHERE rollout_id = o.id) c`;

interface MemberView {
  readonly id: InstallId;
  readonly name: string;
  readonly group_index: number;
  readonly strategy: Stored<RolloutStrategy>;
  readonly status: RolloutInstallStatus;
  readonly reason: Stored<RolloutReason> | null;
  readonly deployment_id: DeploymentId | null;
  readonly error: Fault | null;
  readonly updated_at: Date;
}

/** Rollouts: a release to many installs, as people make, read and stop them. `advance.ts` carries them on. */
@Injectable()
export class Rollouts {
  constructor(
    private readonly database: Database,
    private readonly advance: Advance,
  ) {}

  /**
   * Makes the rollout with every install that belongs to it now. Throws `conflict` when one of them is in another that
   * has not ended, `release_bad`, `not_found`.
   */
  @Serves(createRollout)
  async createRollout({ vendor_id, rollout }: CreateRollout): Promise<Rollout> {
    checkStorable(rollout);
    const names = (rollout.groups ?? []).map(({ name }) => name);
    const twice = names.findIndex((name, i) => names.indexOf(name) < i);
    if (twice >= 0) {
      const message = 'is the name of two groups';
      throw new ImsError('invalid_request', `/groups/${twice}/name ${message}`, [
        { pointer: `/groups/${twice}/name`, message },
      ]);
    }
    const { release_id, channel_id, rollback = false, ...strategy } = rollout;
    const rollout_id = await this.database.transaction(async (tx) => {
      const [release] = await tx.query<{ app_id: AppId; version: string; bad: { reason: string } | null }>(
        `SELECT r.app_id, r.version, r.bad FROM releases r JOIN apps a ON a.id = r.app_id
         WHERE r.id = $1 AND r.vendor_id = $2 FOR UPDATE OF a`,
        [release_id, vendor_id],
      );
      const { app_id, version, bad } = found(release, `release ${release_id}`);
      if (bad) throw new ImsError('release_bad', `${version} (${release_id}): ${bad.reason}`);
      if (channel_id !== undefined) {
        const [channel] = await tx.query('SELECT 1 FROM channels WHERE id = $1 AND app_id = $2', [channel_id, app_id]);
        found(channel, `channel ${channel_id}`);
      }
      const [busy] = await tx.query<{ id: RolloutId; name: string }>(
        `SELECT o.id, i.name FROM rollouts o JOIN rollout_installs m ON m.rollout_id = o.id
           JOIN installs i ON i.id = m.install_id
         WHERE o.app_id = $1 AND o.finished_at IS NULL AND ($2::text IS NULL OR i.channel_id = $2) LIMIT 1`,
        [app_id, channel_id ?? null],
      );
      if (busy) throw new ImsError('conflict', `${busy.name} is in ${busy.id}, which has not ended`);
      const head = { vendor_id, app_id, release_id, channel_id: channel_id ?? null, rollback, auto: false };
      return makeRollout(tx, head, strategyOf(strategy), caller());
    });
    this.advance.wake();
    return this.getRollout({ vendor_id, rollout_id });
  }

  @Serves(listRollouts)
  async listRollouts(query: ListRollouts): Promise<RolloutPage> {
    const { before, take, limit } = position(query);
    const rows = await this.database.query<RolloutView>(
      `${SELECT_ROLLOUTS} WHERE o.vendor_id = $1 AND ($2::text IS NULL OR o.id < $2)
         AND ($4::text IS NULL OR o.app_id = $4) AND ($5::text IS NULL OR o.status = $5)
       ORDER BY o.id DESC LIMIT $3`,
      [query.vendor_id, before ?? null, take, query.app_id ?? null, query.status ?? null],
    );
    return page(RolloutPage, rows, limit, viewRollout);
  }

  @Serves(getRollout)
  async getRollout({ vendor_id, rollout_id }: RolloutRef): Promise<Rollout> {
    const [row] = await this.database.query<RolloutView>(`${SELECT_ROLLOUTS} WHERE o.id = $1 AND o.vendor_id = $2`, [
      rollout_id,
      vendor_id,
    ]);
    return viewRollout(found(row, `rollout ${rollout_id}`));
  }

  @Serves(listRolloutInstalls)
  async listRolloutInstalls(query: ListRolloutInstalls): Promise<RolloutInstallPage> {
    const { vendor_id, rollout_id, status } = query;
    const { before, take, limit } = position(query);
    await this.getRollout({ vendor_id, rollout_id });
    const rows = await this.database.query<MemberView>(
      `SELECT i.id, i.name, m.group_index, o.strategy, m.status, m.reason, m.deployment_id, m.error, m.updated_at
       FROM rollout_installs m JOIN installs i ON i.id = m.install_id JOIN rollouts o ON o.id = m.rollout_id
       WHERE m.rollout_id = $1 AND ($2::text IS NULL OR i.id < $2) AND ($4::text IS NULL OR m.status = $4)
       ORDER BY i.id DESC LIMIT $3`,
      [rollout_id, before ?? null, take, status ?? null],
    );
    return page(RolloutInstallPage, rows, limit, viewMember);
  }

  /** Pause, resume, cancel. What is under way at an install goes on in all cases. Throws `conflict`. */
  @Serves(changeRollout)
  async changeRollout({ vendor_id, rollout_id, verb, change }: ChangeRollout): Promise<Rollout> {
    await this.database.transaction(async (tx) => {
      const row = await lockRollout(tx, rollout_id);
      const rollout = found(row?.vendor_id === vendor_id ? row : undefined, `rollout ${rollout_id}`);
      const next = rolloutMachine.next(rollout.status, verb);
      if (!next) throw new ImsError('conflict', `${rollout_id} is ${rollout.status}`);
      if (verb === 'resume') {
        if (change.retry_failed === true) {
          await tx.query(
            `UPDATE rollout_installs SET status = 'pending', reason = NULL, error = NULL, deployment_id = NULL,
               waiting_since = NULL, updated_at = now() WHERE rollout_id = $1 AND status = 'failed'`,
            [rollout_id],
          );
        }
        await tx.query(
          `UPDATE rollouts SET forgiven =
             (SELECT count(*) FROM rollout_installs WHERE rollout_id = $1 AND status = 'failed') WHERE id = $1`,
          [rollout_id],
        );
      }
      if (verb === 'cancel') await cancelRollout(tx, rollout_id);
      else {
        const reason = verb === 'pause' ? rolloutReason({ code: 'paused', detail: '' }) : undefined;
        await tx.query('UPDATE rollouts SET status = $2, reason = $3, next_look_at = now() WHERE id = $1', [
          rollout_id,
          next,
          json(reason),
        ]);
      }
      const type = { pause: 'rollout.paused', resume: 'rollout.resumed', cancel: 'rollout.cancelled' }[verb];
      await recordRollout(tx, type, rollout, caller(), {
        ...(change.reason === undefined ? {} : { reason: storableText(change.reason) }),
        ...(change.retry_failed === undefined ? {} : { retry_failed: change.retry_failed }),
      });
    });
    this.advance.wake();
    return this.getRollout({ vendor_id, rollout_id });
  }
}

const viewRollout = (row: RolloutView): Rollout => {
  const { total, pending, waiting, deploying, parked, succeeded, failed, skipped } = row;
  const counts = { total, pending, waiting, deploying, parked, succeeded, failed, skipped };
  const over = rolloutMachine.isFinal(row.status);
  return wire(Rollout, {
    ...wire(RolloutStrategy, row.strategy),
    id: row.id,
    app_id: row.app_id,
    release_id: row.release_id,
    version: row.version,
    channel_id: row.channel_id,
    ...(row.rollback ? { rollback: true } : {}),
    status: row.status,
    group: over ? null : row.strategy.groups?.[row.group_index]?.name,
    installs: wire(RolloutCounts, counts),
    waiting_reason: over || !row.reason ? null : wire(RolloutReason, row.reason),
    created_at: iso(row.created_at),
    finished_at: isoOrNull(row.finished_at),
  });
};

const viewMember = (row: MemberView): RolloutInstall =>
  wire(RolloutInstall, {
    install_id: row.id,
    name: row.name,
    group: row.strategy.groups?.[row.group_index]?.name ?? '',
    status: row.status,
    reason: row.reason && wire(RolloutReason, row.reason),
    deployment_id: row.deployment_id,
    error: problem(row.error),
    updated_at: iso(row.updated_at),
  });
