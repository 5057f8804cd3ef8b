import { WaitingReason, type Hold, type JobStatus } from '#contracts';
import { type Presence } from './presence.js';

/** What is known about a job that is not finished, when somebody asks why it does not go on. */
export interface WaitingFacts {
  readonly status: JobStatus;
  readonly attempt: number;
  /** Jobs that it depends on and that are not finished, as people read them: `apply of db (job_…)`. */
  readonly blockedBy: readonly string[];
  readonly agent: { readonly id: string; readonly presence: Presence; readonly lastSeenAt?: string };
  /** The vendor lets the agent take no jobs. */
  readonly intake?: { readonly by: string; readonly note: string };
  /** The lock that the job needs, when another has it. */
  readonly lock?: { readonly name: string; readonly holder: string };
  /** Attempts that the agent runs now, and how many it may. */
  readonly running: number;
  readonly slots: number;
  /** Offers made since the job was queued. */
  readonly offers: number;
  /** When the job may be granted; absent when that time has come. */
  readonly notBefore?: string;
  readonly hold?: Hold;
}

/**
 * The one reason why a job does not go on, and what would unblock it; undefined exactly when the job is finished.
 * The order is that of what must be mended first: a token in wrong hands before all, then an agent that is away, which
 * hides everything behind it.
 */
export function waitingReason(facts: WaitingFacts): WaitingReason | undefined {
  const { agent, hold } = facts;
  switch (facts.status) {
    case 'succeeded':
    case 'failed':
    case 'cancelled':
    case 'skipped':
      return undefined;
    case 'running':
      if (hold) return tampered(hold, `; attempt ${facts.attempt} was told to stop`);
      return reason('running', `attempt ${facts.attempt} runs at ${agent.id}`, 'Nothing to do: it ends by itself.');
    case 'cancelling':
      return reason(
        'cancelling',
        `${agent.id} was told to stop attempt ${facts.attempt}`,
        'The agent confirms, or its lease ends.',
      );
    case 'blocked':
      return reason('blocked_by_job', list(facts.blockedBy), 'It starts when these jobs have succeeded.');
    case 'queued':
      return queued(facts);
  }
}

function queued(facts: WaitingFacts): WaitingReason {
  const { agent, hold } = facts;
  if (hold?.code === 'token_tampered') return tampered(hold);
  if (hold?.code === 'awaiting_approval') {
    const how =
      'Read the plan (GET /v1/jobs/{job_id}/plan); then approve or reject it (POST …/plan/approve, …/plan/reject).';
    return reason('awaiting_approval', hold.detail, how);
  }
  switch (agent.presence) {
    case 'never_enrolled':
      return reason(
        'agent_never_enrolled',
        `${agent.id} has never been enrolled`,
        'Make an enrolment token and run the command that comes with it on the agent’s host.',
      );
    case 'revoked':
      return reason('agent_revoked', `${agent.id} was revoked`, 'Enrol the agent again with a new token.');
    case 'offline':
      return reason(
        'agent_offline',
        agent.lastSeenAt ? `${agent.id} was last seen at ${agent.lastSeenAt}` : `${agent.id} has not been seen yet`,
        'Start the agent, or check its connection to the server.',
      );
    case 'online':
      if (hold) return reason(hold.code, hold.detail, byCustomer(hold));
      if (facts.intake) {
        return reason(
          'agent_paused',
          `${agent.id} takes no jobs: ${facts.intake.note} (${facts.intake.by})`,
          `Let it take jobs again: POST /v1/agents/${agent.id}/resume`,
        );
      }
      if (facts.notBefore) return delayed(facts, facts.notBefore);
      if (facts.lock) {
        return reason(
          'lock_held',
          `${facts.lock.name} is held by ${facts.lock.holder}`,
          `It starts when that job has ended. A lock that is stuck: POST /v1/jobs/${facts.lock.holder}/unlock`,
        );
      }
      if (facts.running >= facts.slots) {
        return reason(
          'agent_busy',
          `${agent.id} runs ${facts.running} of ${facts.slots} jobs`,
          'It starts when one of them ends.',
        );
      }
      return reason(
        'awaiting_claim',
        `offered ${facts.offers} ${facts.offers === 1 ? 'time' : 'times'} to ${agent.id}`,
        'The agent takes it in a moment; an offer that got lost is made again.',
      );
  }
}

function delayed({ attempt }: WaitingFacts, at: string): WaitingReason {
  const now = 'Wait, begin at once (POST /v1/jobs/{job_id}/retry), or cancel the job.';
  if (attempt === 0) return reason('scheduled', `it begins at ${at}`, now);
  return reason('retry_delayed', `attempt ${attempt} failed; the next is made at ${at}`, now);
}

function tampered({ code, detail }: Hold, more = ''): WaitingReason {
  const unblock = 'Find out who has the token; then resume the job (POST /v1/jobs/{job_id}/resume) or cancel it.';
  return reason(code, `${detail.slice(0, 400)}${more}`, unblock);
}

function byCustomer({ code, until, plan_digest }: Hold): string {
  if (until !== undefined) return `It is offered again at ${until}, or when the customer changes its policy.`;
  if (code !== 'awaiting_customer_approval') return 'The customer changes its policy on the agent’s host.';
  return `The customer approves the plan on the agent’s host: install-agent approve ${plan_digest ?? 'DIGEST'}`;
}

/** Details are bounded on the wire (500); a job of a large graph may wait for 99 others. */
function list(names: readonly string[]): string {
  const shown = names.slice(0, 5).join(', ');
  return names.length > 5 ? `${shown} and ${names.length - 5} more` : shown;
}
const reason = (code: WaitingReason['code'], detail: string, unblock: string): WaitingReason =>
  Object.assign(new WaitingReason(), { code, detail, unblock });
