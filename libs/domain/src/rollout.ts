import {
  RolloutReason,
  type DeploymentStatus,
  type RolloutInstallStatus,
  type RolloutReasonCode,
  type RolloutStatus,
  type RolloutStrategy,
} from '#contracts';
import { defineMachine } from './machine.js';

export const rolloutMachine = defineMachine<RolloutStatus, 'pause' | 'resume' | 'cancel' | 'stopped' | 'done'>({
  name: 'rollout',
  initial: ['running'],
  finals: ['succeeded', 'cancelled'],
  from: {
    running: { pause: 'paused', stopped: 'stopped', done: 'succeeded', cancel: 'cancelled' },
    paused: { resume: 'running', cancel: 'cancelled', pause: 'paused' },
    stopped: { resume: 'running', cancel: 'cancelled' },
    succeeded: {},
    cancelled: {},
  },
});

/** What keeps an install back, or what ended its part. `until`: milliseconds, when that is known. */
export interface RolloutObstacle {
  readonly code: RolloutReasonCode;
  readonly detail: string;
  readonly until?: number;
}
/** An install in a rollout, with what is known of it now. Times are milliseconds of the database's clock. */
export interface RolloutMember {
  readonly id: string;
  /** Index of its group. */
  readonly group: number;
  readonly status: RolloutInstallStatus;
  /** Since when it has been kept back without a break; undefined when it is not. */
  readonly waitingSince?: number | undefined;
  /** Nothing is left to do for it, for good: it has the release already, was removed, or must not get it. */
  readonly over?: RolloutObstacle | undefined;
  /** It cannot be begun now. */
  readonly obstacle?: RolloutObstacle | undefined;
  /** The deployment that the rollout made. `stalled`: nothing of it runs, and what waits waits for somebody else. */
  readonly deployment?:
    | { readonly status: DeploymentStatus; readonly detail?: string; readonly stalled?: RolloutObstacle | undefined }
    | undefined;
  /** What is wrong with it since it has the release. */
  readonly unhealthy?: string | undefined;
}
export interface RolloutState {
  readonly status: RolloutStatus;
  readonly groups: readonly { readonly name: string; readonly soakMs: number }[];
  /** Index of the group that is on. */
  readonly group: number;
  /** Until when that group is watched, once it has the release. */
  readonly soakUntil?: number | undefined;
  readonly maxParallel: number;
  readonly maxFailures: number;
  /** Failures that a person has seen and resumed after. */
  readonly forgiven: number;
  readonly giveUpMs?: number | undefined;
  readonly members: readonly RolloutMember[];
}
export interface MemberChange {
  readonly id: string;
  readonly status: RolloutInstallStatus;
  readonly reason?: RolloutObstacle | undefined;
  /** A deployment is to be made for it. */
  readonly begin: boolean;
}
export interface RolloutStep {
  readonly changes: readonly MemberChange[];
  readonly status: RolloutStatus;
  readonly group: number;
  readonly soakUntil?: number | undefined;
  /** Why it does not go on; undefined exactly when it has ended. */
  readonly reason?: RolloutObstacle | undefined;
}

const OPEN: ReadonlySet<RolloutInstallStatus> = new Set(['pending', 'waiting', 'deploying', 'parked']);

/**
 * What is to be done for a rollout now. Called again and again with what is known then, by whichever replica holds its
 * row: all that it remembers is in the state. Never begins an install while the rollout is not running, never more than
 * `maxParallel` at work, never one of a later group while an earlier one is not through.
 */
export function stepRollout(state: RolloutState, now: number): RolloutStep {
  const after = new Map(state.members.map((member) => [member.id, followed(member, state)]));
  const statusOf = (member: RolloutMember): RolloutInstallStatus => after.get(member.id)?.status ?? member.status;
  const count = (status: RolloutInstallStatus): number =>
    state.members.filter((member) => statusOf(member) === status).length;
  const finish = (status: RolloutStatus, group: number, reason?: RolloutObstacle, soakUntil?: number): RolloutStep => ({
    changes: state.members.flatMap((member) => {
      const change = after.get(member.id);
      return change && differs(member, change) ? [change] : [];
    }),
    status,
    group,
    soakUntil,
    reason,
  });
  if (state.status !== 'running') {
    const code = state.status === 'paused' ? 'paused' : 'stopped';
    const over = rolloutMachine.isFinal(state.status);
    return finish(state.status, state.group, over ? undefined : { code, detail: '' }, state.soakUntil);
  }
  const failures = count('failed') - state.forgiven;
  if (failures > state.maxFailures) {
    const [first] = state.members.filter((member) => statusOf(member) === 'failed');
    const why = first && (after.get(first.id)?.reason?.detail ?? first.deployment?.detail);
    const detail = `${failures} failed, ${state.maxFailures} may${why ? `; the first: ${why}` : ''}`;
    return finish('stopped', state.group, { code: 'stopped', detail: detail.slice(0, 500) }, state.soakUntil);
  }

  let { group, soakUntil } = state;
  let active = count('deploying');
  for (; group < state.groups.length; group += 1, soakUntil = undefined) {
    const upTo = group;
    // Those that were kept back stand behind those whose turn comes for the first time.
    const turn = state.members.filter((member) => member.group <= upTo && isNext(statusOf(member)));
    const inOrder = turn.toSorted((a, b) => Number(statusOf(a) === 'waiting') - Number(statusOf(b) === 'waiting'));
    for (const member of inOrder) {
      const change = begun(member, state, now, active < state.maxParallel);
      after.set(member.id, change);
      if (!change.begin) continue;
      active += 1;
      if (member.group === group) soakUntil = undefined;
    }
    const own = state.members.filter((member) => member.group === upTo);
    const statuses = own.map(statusOf);
    if (active > 0 || statuses.includes('pending')) {
      const detail = `${active} of at most ${state.maxParallel} installs are being changed`;
      return finish('running', group, { code: 'deploying', detail }, soakUntil);
    }
    // Somebody must have shown that it works before the next group is begun.
    const shown = own.some((member) => statusOf(member) === 'succeeded' || isUpToDate(member, after.get(member.id)));
    if (statuses.some((status) => OPEN.has(status)) && !shown) {
      const detail = `no install of group ${state.groups[group]?.name ?? ''} can be changed now`;
      return finish('running', group, { code: 'installs_waiting', detail }, soakUntil);
    }
    const soakMs = statuses.includes('succeeded') ? (state.groups[group]?.soakMs ?? 0) : 0;
    soakUntil ??= now + soakMs;
    if (soakUntil > now) {
      const detail = `group ${state.groups[group]?.name ?? ''} is watched`;
      return finish('running', group, { code: 'soaking', detail, until: soakUntil }, soakUntil);
    }
  }
  const last = state.groups.length - 1;
  const open = state.members.filter((member) => OPEN.has(statusOf(member))).length;
  if (open === 0) return finish('succeeded', last);
  const detail = `${open} installs are left, and each is kept back`;
  return finish('running', last, { code: 'installs_waiting', detail }, soakUntil ?? now);
}

const isNext = (status: RolloutInstallStatus): boolean => status === 'pending' || status === 'waiting';
const isUpToDate = (member: RolloutMember, change: MemberChange | undefined): boolean =>
  member.over?.code === 'up_to_date' || change?.reason?.code === 'up_to_date';

const differs = (member: RolloutMember, change: MemberChange): boolean =>
  change.begin || change.status !== member.status || change.reason !== undefined;

/** What has become of what was begun, and whether what got the release is well while its group is watched. */
function followed(member: RolloutMember, state: RolloutState): MemberChange {
  const { id, status, deployment } = member;
  const stay: MemberChange = { id, status, begin: false };
  if (status === 'succeeded') {
    const watched = state.status === 'running' && member.group === state.group && member.unhealthy !== undefined;
    if (!watched) return stay;
    return { id, status: 'failed', begin: false, reason: { code: 'unhealthy', detail: member.unhealthy ?? '' } };
  }
  if ((status !== 'deploying' && status !== 'parked') || !deployment) return stay;
  switch (deployment.status) {
    case 'succeeded':
      return { ...stay, status: 'succeeded' };
    case 'failed':
    case 'cancelled':
      return { ...stay, status: 'failed' };
    case 'running':
    case 'cancelling':
      return deployment.stalled
        ? { ...stay, status: 'parked', reason: deployment.stalled }
        : { ...stay, status: 'deploying' };
  }
}

/** The turn of one install: over, kept back, begun, or to wait for a free place. */
function begun(member: RolloutMember, state: RolloutState, now: number, free: boolean): MemberChange {
  const { id, over, obstacle, waitingSince = now } = member;
  if (over) return { id, status: 'skipped', reason: over, begin: false };
  if (!obstacle) return free ? { id, status: 'deploying', begin: true } : { id, status: 'pending', begin: false };
  if (state.giveUpMs !== undefined && now - waitingSince >= state.giveUpMs) {
    return { id, status: 'skipped', reason: { code: 'given_up', detail: obstacle.detail }, begin: false };
  }
  return { id, status: 'waiting', reason: obstacle, begin: false };
}

/** The group that an install belongs to: the first whose labels it has; undefined when it fits none. */
export function groupOf(
  groups: NonNullable<RolloutStrategy['groups']>,
  labels: Readonly<Record<string, string>>,
): number | undefined {
  const index = groups.findIndex((group) =>
    Object.entries(group.labels).every(([name, text]) => Object.hasOwn(labels, name) && labels[name] === text),
  );
  return index < 0 ? undefined : index;
}

const UNBLOCK: Readonly<Record<RolloutReasonCode, string>> = {
  agent_never_enrolled: 'Enrol the agent of the install; it is tried again then.',
  agent_offline: 'Start the agent, or check its connection; the install is tried again then.',
  agent_revoked: 'Enrol the agent again with a new token.',
  customer_paused: 'The customer ends the pause on the agent’s host.',
  customer_window: 'It is tried again when the customer’s window opens.',
  deployment_in_progress: 'It is tried again when the other deployment has ended.',
  held: 'Look at the jobs of the deployment: each says who has to act.',
  up_to_date: 'Nothing to do.',
  removed: 'Nothing to do.',
  refused: 'Deploy what it needs first; then make a rollout for it.',
  given_up: 'Make another rollout when the install can be reached.',
  unhealthy: 'Look at the components of the install.',
  deploying: 'Nothing to do: it goes on by itself.',
  soaking: 'Nothing to do: the next group begins by itself.',
  installs_waiting: 'Look at the installs that wait (GET /v1/rollouts/{rollout_id}/installs?status=waiting).',
  paused: 'Resume it (POST /v1/rollouts/{rollout_id}/resume) or cancel it.',
  stopped: 'Look at the installs that failed; then resume the rollout or cancel it.',
};

/** An obstacle as people read it. */
export function rolloutReason({ code, detail, until }: RolloutObstacle): RolloutReason {
  return Object.assign(new RolloutReason(), {
    code,
    detail: detail.slice(0, 500),
    unblock: UNBLOCK[code],
    ...(until === undefined ? {} : { until: new Date(until).toISOString() }),
  });
}
