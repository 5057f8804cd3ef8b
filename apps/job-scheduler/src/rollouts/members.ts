import {
  type AgentId,
  type DeploymentId,
  type DeploymentStatus,
  type Hold,
  type InstallId,
  type JsonObject,
  type RolloutInstallStatus,
  type RolloutReason,
} from '#contracts';
import {
  customerObstacle,
  refuseMove,
  type Fault,
  type Presence,
  type RolloutMember,
  type RolloutObstacle,
} from '#domain';
import { type Tx } from '#persistence';
import { type Stored } from '../catalogue/entities.js';
import { moveFacts } from '../installs/deployments.js';
import { type RolloutRow } from './rows.js';

/** An install in a rollout as it is stored, with what the rules ask about it. */
export interface Member extends RolloutMember {
  readonly id: InstallId;
  readonly reason: Stored<RolloutReason> | null;
  readonly deployment_id: DeploymentId | null;
}

interface MemberRow {
  readonly install_id: InstallId;
  readonly group_index: number;
  readonly status: RolloutInstallStatus;
  readonly reason: Stored<RolloutReason> | null;
  readonly waiting_since: Date | null;
  readonly deployment_id: DeploymentId | null;
  readonly release_id: string | null;
  readonly agent_id: AgentId;
  readonly presence: Presence;
  readonly last_seen_at: Date | null;
  readonly policy: JsonObject | null;
  readonly deployment_status: DeploymentStatus | null;
  readonly error: Fault | null;
  readonly busy: DeploymentId | null;
  readonly last_kind: 'deploy' | 'teardown' | null;
  readonly at_work: number;
  readonly queued: number;
  readonly held: number;
  readonly hold: Stored<Hold> | null;
  readonly broken: string | null;
  readonly deprovisioned: boolean;
}

/** Everything about the installs whose turn has come or is over is read; those of later groups only counted. */
export async function readMembers(tx: Tx, rollout: RolloutRow): Promise<Member[]> {
  const rows = await tx.query<MemberRow>(
    `SELECT m.install_id, m.group_index, m.status, m.reason, m.waiting_since, m.deployment_id, i.release_id,
       i.deprovisioned IS NOT NULL AS deprovisioned,
       i.agent_id, a.presence, a.last_seen_at, a.policy, d.status AS deployment_status, coalesce(d.error, m.error) AS error,
       (SELECT id FROM deployments WHERE install_id = i.id AND status IN ('running', 'cancelling')
          AND kind <> 'work' AND id IS DISTINCT FROM m.deployment_id) AS busy,
       (SELECT kind FROM deployments WHERE install_id = i.id AND kind <> 'work' ORDER BY id DESC LIMIT 1) AS last_kind,
       j.at_work, j.queued, j.held, j.hold,
       (SELECT string_agg(concat_ws(' ', name, coalesce(health, status)), ', ' ORDER BY name) FROM install_components
        WHERE install_id = i.id AND (status = 'failed' OR health IN ('degraded', 'missing'))) AS broken
     FROM rollout_installs m JOIN installs i ON i.id = m.install_id JOIN agents a ON a.id = i.agent_id
       LEFT JOIN deployments d ON d.id = m.deployment_id
       LEFT JOIN LATERAL (
         SELECT count(*) FILTER (WHERE status IN ('running', 'cancelling'))::int AS at_work,
           count(*) FILTER (WHERE status = 'queued')::int AS queued,
           count(*) FILTER (WHERE status = 'queued' AND hold IS NOT NULL)::int AS held,
           (array_agg(hold) FILTER (WHERE hold IS NOT NULL))[1] AS hold
         FROM jobs WHERE deployment_id = m.deployment_id AND finished_at IS NULL) j ON true
     WHERE m.rollout_id = $1 ORDER BY m.group_index, m.install_id`,
    [rollout.id],
  );
  const next = rows.filter(({ status }) => status === 'pending' || status === 'waiting').map((row) => row.install_id);
  const moves = rollout.status === 'running' ? await moveFacts(tx.query, next, rollout.release_id) : new Map();
  return rows.map((row) => {
    const facts = moves.get(row.install_id) as Parameters<typeof refuseMove>[0] | undefined;
    const refusal = facts && refuseMove({ ...facts, rollback: rollout.rollback });
    return {
      id: row.install_id,
      reason: row.reason,
      deployment_id: row.deployment_id,
      group: row.group_index,
      status: row.status,
      waitingSince: row.waiting_since?.getTime(),
      over: overOf(row, rollout, refusal && `${refusal.code}: ${refusal.detail}`),
      obstacle: obstacleOf(row, rollout.now.getTime()),
      deployment: row.deployment_status
        ? { status: row.deployment_status, detail: row.error?.detail ?? '', stalled: stallOf(row) }
        : undefined,
      unhealthy: row.broken ?? undefined,
    };
  });
}

function overOf(row: MemberRow, rollout: RolloutRow, refusal: string | undefined): RolloutObstacle | undefined {
  if (row.deprovisioned) return { code: 'removed', detail: 'the install is deprovisioned' };
  if (row.last_kind === 'teardown') return { code: 'removed', detail: 'the install was torn down' };
  if (row.release_id === rollout.release_id) return { code: 'up_to_date', detail: 'it has this release' };
  return refusal === undefined ? undefined : { code: 'refused', detail: refusal };
}

function obstacleOf(row: MemberRow, now: number): RolloutObstacle | undefined {
  if (row.busy) return { code: 'deployment_in_progress', detail: `${row.busy} is not finished` };
  return away(row) ?? customerObstacle(row.policy ?? {}, now);
}

function away({ presence, agent_id, last_seen_at }: MemberRow): RolloutObstacle | undefined {
  switch (presence) {
    case 'online':
      return undefined;
    case 'never_enrolled':
      return { code: 'agent_never_enrolled', detail: `${agent_id} has never been enrolled` };
    case 'revoked':
      return { code: 'agent_revoked', detail: `${agent_id} was revoked` };
    case 'offline': {
      const seen = last_seen_at ? `was last seen at ${last_seen_at.toISOString()}` : 'has not been seen yet';
      return { code: 'agent_offline', detail: `${agent_id} ${seen}` };
    }
  }
}

/** Nothing of the deployment runs, and what could run waits for the customer, a person, or an agent that is away. */
function stallOf(row: MemberRow): RolloutObstacle | undefined {
  if (row.deployment_status !== 'running' || row.at_work > 0) return undefined;
  if (row.presence !== 'online') return away(row);
  if (row.queued === 0 || row.held < row.queued) return undefined;
  const { code, detail = '' } = row.hold ?? {};
  return { code: code === 'customer_paused' || code === 'customer_window' ? code : 'held', detail: detail ?? '' };
}
