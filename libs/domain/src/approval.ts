import { Hold, type ApprovalPolicy } from '#contracts';
import { type PlanFacts } from './policy.js';

/** A vendor's word on a plan. */
export interface PlanVote {
  /** `key:<id>`: who said it. */
  readonly by: string;
  readonly decision: 'approved' | 'rejected';
  readonly note?: string | null;
  /** Milliseconds. */
  readonly expiresAt: number;
}
export type PlanJudgement =
  /** `askCustomer`: the customer's yes is needed as well, whatever its own policy asks for. */
  | { readonly decision: 'go'; readonly askCustomer: boolean }
  | { readonly decision: 'hold'; readonly hold: Hold }
  | { readonly decision: 'refuse'; readonly detail: string };

/** Whether the policy of an app or install asks for a yes to this plan. */
export function asksFor({ when }: ApprovalPolicy, plan: Pick<PlanFacts, 'changed' | 'deleted'>): boolean {
  switch (when) {
    case 'never':
      return false;
    case 'on_change':
      return plan.changed;
    case 'on_delete':
      return plan.deleted > 0;
    case 'always':
      return true;
  }
}

/** Whether this caller's word counts. */
export const mayVote = ({ approvers }: ApprovalPolicy, by: string): boolean =>
  approvers === undefined || approvers.some((key) => by === `key:${key}`);

/**
 * Whether a plan may be carried out as far as the vendor is concerned. `votes` are those on this very plan, by its
 * digest, so a yes to another plan is none. A no counts whatever the policy asks; a yes counts until it expires, and
 * once for each who gives it.
 */
export function judgePlan(
  policy: ApprovalPolicy | undefined,
  plan: PlanFacts,
  votes: readonly PlanVote[],
  now: number,
): PlanJudgement {
  const no = votes.find(({ decision }) => decision === 'rejected');
  if (no)
    return { decision: 'refuse', detail: `${no.by} has rejected plan ${plan.digest}${no.note ? `: ${no.note}` : ''}` };
  if (!policy || !asksFor(policy, plan)) return { decision: 'go', askCustomer: false };
  const { by = 'vendor', needed = 1 } = policy;
  const askCustomer = by !== 'vendor';
  if (by === 'customer') return { decision: 'go', askCustomer };
  const yes = new Set(votes.filter((vote) => mayVote(policy, vote.by) && vote.expiresAt > now).map((vote) => vote.by));
  if (yes.size >= needed) return { decision: 'go', askCustomer };
  const would = `${plan.created} to create, ${plan.updated} to change, ${plan.deleted} to delete`;
  return {
    decision: 'hold',
    hold: Object.assign(new Hold(), {
      code: 'awaiting_approval' as const,
      detail: `plan ${plan.digest} (${would}) has ${yes.size} of ${needed} approvals`,
      plan_digest: plan.digest,
    }),
  };
}
