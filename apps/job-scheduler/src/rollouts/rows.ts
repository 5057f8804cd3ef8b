import {
  newId,
  type AppId,
  type ChannelId,
  type InstallId,
  type JsonObject,
  type ReleaseId,
  type RolloutId,
  type RolloutReason,
  type RolloutStatus,
  type RolloutStrategy,
  type VendorId,
} from '#contracts';
import { groupOf } from '#domain';
import { type Tx } from '#persistence';
import { type Stored } from '../catalogue/entities.js';
import { json } from '../wire.js';

export interface RolloutRow {
  readonly id: RolloutId;
  readonly vendor_id: VendorId;
  readonly app_id: AppId;
  readonly release_id: ReleaseId;
  readonly channel_id: ChannelId | null;
  readonly auto: boolean;
  readonly rollback: boolean;
  readonly strategy: Stored<RolloutStrategy>;
  readonly status: RolloutStatus;
  readonly group_index: number;
  readonly soak_until: Date | null;
  readonly forgiven: number;
  readonly reason: Stored<RolloutReason> | null;
  readonly created_at: Date;
  readonly finished_at: Date | null;
  /** The database's clock when the row was read. */
  readonly now: Date;
}
/** An install as far as groups choose it. */
interface Selectable {
  readonly id: InstallId;
  readonly labels: Record<string, string>;
}
type Head = Pick<RolloutRow, 'vendor_id' | 'app_id' | 'release_id' | 'channel_id' | 'rollback' | 'auto'>;

/** A strategy with what is left out filled in. */
export function strategyOf(strategy: Stored<RolloutStrategy>): Stored<RolloutStrategy> {
  const { groups = [], max_parallel = 1, max_failures = 0, give_up_seconds } = strategy;
  return {
    groups: groups.length > 0 ? groups : [{ name: 'all', labels: {} }],
    max_parallel,
    max_failures,
    ...(give_up_seconds === undefined ? {} : { give_up_seconds }),
  };
}

export async function lockRollout(tx: Tx, id: RolloutId): Promise<RolloutRow | undefined> {
  const [row] = await tx.query<RolloutRow>(
    'SELECT o.*, clock_timestamp() AS now FROM rollouts o WHERE id = $1 FOR UPDATE',
    [id],
  );
  return row;
}

/** The rollout and its installs, of those given (or all of the app or channel) the ones that fit a group. */
export async function makeRollout(
  tx: Tx,
  head: Head,
  strategy: Stored<RolloutStrategy>,
  actor: string,
  chosen?: readonly Selectable[],
): Promise<RolloutId> {
  const id = newId('rollout');
  await tx.query(
    `INSERT INTO rollouts (id, vendor_id, app_id, release_id, channel_id, rollback, auto, strategy, status)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'running')`,
    [id, head.vendor_id, head.app_id, head.release_id, head.channel_id, head.rollback, head.auto, json(strategy)],
  );
  const installs =
    chosen ??
    (await tx.query<Selectable>(
      'SELECT id, labels FROM installs WHERE app_id = $1 AND ($2::text IS NULL OR channel_id = $2) ORDER BY id',
      [head.app_id, head.channel_id],
    ));
  const added = await addInstalls(tx, id, strategy, installs);
  await recordRollout(tx, 'rollout.created', { id, ...head }, actor, { installs: added, auto: head.auto });
  return id;
}

/** Puts installs into the groups of a rollout; answers how many belong to one. */
export async function addInstalls(
  tx: Tx,
  id: RolloutId,
  strategy: Stored<RolloutStrategy>,
  installs: readonly Selectable[],
): Promise<number> {
  const members = installs.flatMap(({ id: install, labels }) => {
    const group = groupOf(strategy.groups ?? [], labels);
    return group === undefined ? [] : [{ install, group }];
  });
  await tx.query(
    `INSERT INTO rollout_installs (rollout_id, install_id, group_index)
     SELECT $1, * FROM unnest($2::text[], $3::int[]) ON CONFLICT DO NOTHING`,
    [id, members.map(({ install }) => install), members.map(({ group }) => group)],
  );
  return members.length;
}

/** No further install is begun; the rollout is finished when those under way are. The caller holds its lock. */
export async function cancelRollout(tx: Tx, id: RolloutId): Promise<void> {
  await tx.query(
    `UPDATE rollout_installs SET status = 'skipped', updated_at = now()
     WHERE rollout_id = $1 AND (status IN ('pending', 'waiting') OR (status = 'deploying' AND deployment_id IS NULL))`,
    [id],
  );
  await tx.query(
    `UPDATE rollouts SET status = 'cancelled', reason = NULL, next_look_at = now(), finished_at =
       CASE WHEN NOT EXISTS (SELECT 1 FROM rollout_installs WHERE rollout_id = $1 AND status IN ('deploying', 'parked'))
         THEN now() END
     WHERE id = $1`,
    [id],
  );
}

export async function recordRollout(
  tx: Tx,
  type: string,
  { id, vendor_id, app_id, release_id }: Pick<RolloutRow, 'id' | 'vendor_id' | 'app_id' | 'release_id'>,
  actor: string,
  data: JsonObject,
): Promise<void> {
  await tx.record({
    chainOf: vendor_id,
    type,
    vendor_id,
    actor,
    data: { rollout_id: id, app_id, release_id, ...data },
  });
}
